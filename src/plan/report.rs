// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows who owns what: the table that `septum check` prints and that the boot log repeats.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::board::Board;
use super::types::{Dma, DmaQuiesce, GuestGic, PartitionPlan, Plan, Reach};
use super::units::{Count, Size};
use crate::config::Delivery;
use crate::id::Intid;

/// A plan that shows itself as a table.
pub struct Report<'a> {
    plan: &'a Plan,
    board: &'a Board,
}

/// Returns what shows who owns what.
pub fn report<'a>(plan: &'a Plan, board: &'a Board) -> Report<'a> {
    Report { plan, board }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let board = self.board;
        let ram = board.memory.iter().fold(0u64, |sum, range| sum.saturating_add(range.size()));
        let free = board.cpus.iter().filter(|cpu| cpu.enabled).count();
        writeln!(f, "{}: {}, {} of RAM", board.model, Count(free, "CPU"), Size(ram))?;
        for partition in &self.plan.partitions {
            writeln!(f)?;
            self.partition(f, partition)?;
        }
        writeln!(f)?;
        self.hypervisor(f)
    }
}

/// Writes a line with its name in a column.
fn line(f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<10} {value}")
}

/// Returns "0x40000000..0x50000000", the digits aligned.
fn span(start: u64, size: u64) -> String {
    format!("{start:#011x}..{:#011x}", start.saturating_add(size))
}

/// Returns a list as "1, 2, 5".
fn joined<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

impl Report<'_> {
    fn partition(&self, f: &mut fmt::Formatter<'_>, partition: &PartitionPlan) -> fmt::Result {
        writeln!(f, "{} ({}, {})", partition.name, partition.id, partition.vmid)?;
        let cpus = joined(partition.vcpus.iter().map(|vcpu| vcpu.cpu.get()));
        line(f, "cpus", format_args!("{cpus}"))?;
        for piece in &partition.memory {
            let (ipa, size) = (span(piece.ipa.get(), piece.size), Size(piece.size));
            if piece.ipa.get() == piece.pa.get() {
                line(f, "memory", format_args!("{ipa} at the same physical address, {size}"))?;
            } else {
                line(f, "memory", format_args!("{ipa} at physical {}, {size}", span(piece.pa.get(), piece.size)))?;
            }
        }
        for load in &partition.load {
            let size = Size(load.file.map_or(0, |file| file.size));
            let place = span(load.range.start().get(), load.range.size());
            line(f, "load", format_args!("{place} {}, {size} of file", load.what))?;
        }
        if let Some(tree) = &partition.device_tree {
            let size = u64::try_from(tree.blob.len()).unwrap_or(u64::MAX);
            line(f, "load", format_args!("{} device tree, {}", span(tree.ipa.get(), size), Size(size)))?;
        }
        line(f, "entry", format_args!("{}", partition.entry))?;
        gic(f, partition)?;
        if partition.delivery == Delivery::Direct {
            line(f, "interrupts", format_args!("direct: they arrive at the guest with no exit"))?;
        }
        match partition.console {
            Some(console) => {
                let place = span(console.range.start().get(), console.range.size());
                let spare = if partition.spare_interrupt().is_some() { ", a spare one of the board" } else { "" };
                line(f, "console", format_args!("{place} PL011, emulated, {}{spare}", console.intid))?;
            }
            None => line(f, "console", format_args!("none"))?,
        }
        devices(f, partition)
    }

    fn hypervisor(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "hypervisor (housekeeping on CPU {})", self.plan.housekeeping.get())?;
        let keeper = self.plan.partitions.iter().find(|partition| {
            partition.delivery == Delivery::Direct
                && partition.vcpus.iter().any(|vcpu| vcpu.cpu == self.plan.housekeeping)
        });
        if let Some(keeper) = keeper {
            line(
                f,
                "notice",
                format_args!(
                    "`{}` has exits for housekeeping on this CPU, although its interrupts are direct",
                    keeper.name
                ),
            )?;
        }
        let mut kept: Vec<_> = self.plan.hypervisor.iter().collect();
        crate::order::sort_by_key(&mut kept, |kept| kept.range);
        for kept in kept {
            let place = span(kept.range.start().get(), kept.range.size());
            line(f, "keeps", format_args!("{place} {}, {}", kept.what, Size(kept.range.size())))?;
        }
        let used =
            |cpu| self.plan.partitions.iter().any(|partition| partition.vcpus.iter().any(|vcpu| vcpu.cpu == cpu));
        let idle: Vec<u8> =
            self.board.cpus.iter().filter(|cpu| cpu.enabled && !used(cpu.id)).map(|cpu| cpu.id.get()).collect();
        if !idle.is_empty() {
            line(f, "idle cpus", format_args!("{}", joined(idle.iter())))?;
        }
        Ok(())
    }
}

fn gic(f: &mut fmt::Formatter<'_>, partition: &PartitionPlan) -> fmt::Result {
    match partition.gic {
        GuestGic::V2 { distributor, cpu_interface, virtual_interface } => {
            line(
                f,
                "gic",
                format_args!("{} GICv2 distributor, emulated", span(distributor.start().get(), distributor.size())),
            )?;
            let (start, size) = (cpu_interface.start().get(), cpu_interface.size());
            line(
                f,
                "gic",
                format_args!("{} GICv2 CPU interface, GICV at {}", span(start, size), virtual_interface.start()),
            )
        }
        GuestGic::V3 { distributor, redistributors } => {
            line(
                f,
                "gic",
                format_args!("{} GICv3 distributor, emulated", span(distributor.start().get(), distributor.size())),
            )?;
            let (start, size) = (redistributors.start().get(), redistributors.size());
            line(f, "gic", format_args!("{} GICv3 redistributors, emulated", span(start, size)))
        }
    }
}

fn devices(f: &mut fmt::Formatter<'_>, partition: &PartitionPlan) -> fmt::Result {
    for device in partition.devices.iter().filter(|device| device.reach == Reach::Given) {
        let first = device.registers.first();
        let place = first.map_or_else(String::new, |range| span(range.start().get(), range.size()));
        let more = device.registers.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" and {}", Count(more, "other range")) };
        let interrupts = match device.interrupts.as_slice() {
            [] => String::from("no interrupt"),
            lines => format!("INTID {}", joined(lines.iter().copied().map(Intid::get))),
        };
        let dma = match device.dma {
            Dma::None => "",
            Dma::Unprotected(DmaQuiesce::VirtioMmio) => "; unsafe DMA: it reaches all memory",
            Dma::Unprotected(DmaQuiesce::Unknown) => {
                "; unsafe DMA: it reaches all memory, and it cannot be stopped for a restart"
            }
        };
        line(f, "device", format_args!("{place}{more} {}, {interrupts}{dma}", device.path))?;
    }
    let beside: Vec<&str> = partition
        .devices
        .iter()
        .filter(|device| device.reach == Reach::SharesPage)
        .map(|device| device.path.as_str())
        .collect();
    if !beside.is_empty() {
        line(
            f,
            "and with",
            format_args!("{} in the same pages: {}", Count(beside.len(), "other device"), joined(beside.iter())),
        )?;
    }
    Ok(())
}
