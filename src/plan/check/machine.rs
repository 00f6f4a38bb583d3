// SPDX-License-Identifier: MIT OR Apache-2.0
//! What partitions could take from one another: ids, CPUs, physical pages, interrupts.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Interval, Violation, collisions, pages_of};
use crate::config::{Delivery, FaultPolicy, FileRange, Restart};
use crate::id::{CpuId, Intid, MAX_PARTITIONS};
use crate::plan::board::{Board, CpuEnable, GicVersion, Security};
use crate::plan::types::{Dma, MemoryPlan, PartitionPlan, Placement, Plan};

/// Enters a key with its owner, and returns who had it before.
fn enter<K: PartialEq, O: Copy>(owners: &mut Vec<(K, O)>, key: K, owner: O) -> Option<O> {
    match owners.iter_mut().find(|entry| entry.0 == key) {
        Some(entry) => Some(core::mem::replace(&mut entry.1, owner)),
        None => {
            owners.push((key, owner));
            None
        }
    }
}

pub(super) fn ids(plan: &Plan, found: &mut Vec<Violation>) {
    let mut ids = Vec::new();
    let mut vmids = Vec::new();
    for partition in &plan.partitions {
        let id = partition.id;
        if id.index() >= MAX_PARTITIONS || enter(&mut ids, id, ()).is_some() {
            found.push(Violation::Id { id });
        }
        let is_own = u16::from(partition.vmid.get()) == u16::from(id.get()) + 1;
        if !is_own || partition.vmid.get() == 0 || enter(&mut vmids, partition.vmid, ()).is_some() {
            found.push(Violation::Vmid { partition: partition.name.clone(), vmid: partition.vmid });
        }
    }
}

pub(super) fn cpus(plan: &Plan, board: &Board, found: &mut Vec<Violation>) {
    let limit = match board.gic.version {
        GicVersion::V2 { .. } => 8,
        GicVersion::V3 { .. } => crate::id::MAX_VCPUS,
    };
    let mut owners: Vec<(CpuId, &str)> = Vec::new();
    for partition in &plan.partitions {
        let name = &partition.name;
        let in_order = partition.vcpus.iter().enumerate().all(|(place, vcpu)| vcpu.id.index() == place);
        if partition.vcpus.is_empty() || partition.vcpus.len() > limit || !in_order {
            found.push(Violation::Vcpus { partition: name.clone() });
        }
        for vcpu in &partition.vcpus {
            if let Some(first) = enter(&mut owners, vcpu.cpu, name.as_str()) {
                let (first, second) = (first.to_string(), name.clone());
                found.push(Violation::CpuTwice { cpu: vcpu.cpu, first, second });
            }
            let node = board.cpus.iter().find(|node| node.id == vcpu.cpu);
            if node.is_none_or(|node| !node.enabled || node.mpidr != vcpu.mpidr) {
                found.push(Violation::CpuWrong { partition: name.clone(), cpu: vcpu.cpu });
            }
        }
    }
    let housekeeping = plan.housekeeping;
    if !board.cpus.iter().any(|node| node.id == housekeeping && node.enabled) {
        found.push(Violation::Housekeeping { cpu: housekeeping });
    }
}

/// Lists what belongs to the hypervisor whatever a plan says, by the board alone.
fn hypervisor_pages(board: &Board, placement: &Placement) -> Vec<Interval<String>> {
    let mut all = Vec::new();
    let mut add = |start: u64, end: u64, what: &str| {
        let (start, end) = pages_of(start, end);
        all.push((start, end, format!("the hypervisor ({what})")));
    };
    for (range, what) in [(placement.hypervisor, "image"), (placement.bundle, "bundle")] {
        add(range.start().get(), range.end().get(), what);
    }
    for reserved in &board.reserved {
        add(reserved.range.start().get(), reserved.range.end().get(), &reserved.name);
    }
    let children = board.gic.children.iter().flat_map(|child| &child.registers);
    for range in board.gic.regions.iter().chain(children) {
        add(range.start().get(), range.end().get(), "interrupt controller");
    }
    if let Some(uart) = &board.console {
        add(uart.registers.start().get(), uart.registers.end().get(), "console");
    }
    for cpu in &board.cpus {
        if let CpuEnable::SpinTable { release } = cpu.enable {
            add(release.get(), release.get().saturating_add(8), "spin table");
        }
    }
    all
}

/// Checks the files that are used in place, and returns the pages of those that may be: of a partition that runs once and
/// has no bus master, before the manifest, and touched by no other file of the plan.
fn in_place(plan: &Plan, placement: &Placement, found: &mut Vec<Violation>) -> Vec<(u64, u64)> {
    let mut proven = Vec::new();
    let place = |file: &FileRange| {
        let start = placement.bundle.start().get().saturating_add(file.offset);
        pages_of(start, start.saturating_add(file.size))
    };
    let all = || plan.partitions.iter().flat_map(|partition| &partition.load).filter_map(|load| load.file);
    for partition in &plan.partitions {
        for load in partition.load.iter().filter(|load| load.in_place) {
            let once = partition.restart == Restart::Never && partition.on_fault == FaultPolicy::Stop;
            let no_master = partition.devices.iter().all(|device| device.dma == Dma::None);
            let pages = load.file.filter(|_| once && no_master).map(|file| place(&file));
            let sound = pages.filter(|(start, end)| {
                let meets = |file: &FileRange| place(file).0 < *end && *start < place(file).1;
                let is_there = |piece: &MemoryPlan| {
                    (piece.ipa, piece.pa.get(), piece.pa.get().saturating_add(piece.size))
                        == (load.range.start(), *start, *end)
                };
                all().filter(meets).count() == 1
                    && start % 4096 == 0
                    && *end <= placement.files_end.get()
                    && load.file.is_some_and(|file| file.offset % 4096 == 0 && file.size <= load.range.size())
                    && partition.memory.iter().any(is_there)
            });
            match sound {
                Some(pages) => proven.push(pages),
                None => {
                    found.push(Violation::InPlace { partition: partition.name.clone(), what: load.what.clone() });
                }
            }
        }
    }
    proven
}

pub(super) fn pages(plan: &Plan, board: &Board, placement: &Placement, found: &mut Vec<Violation>) {
    let in_place = in_place(plan, placement, found);
    let bundle = pages_of(placement.bundle.start().get(), placement.bundle.end().get());
    let mut owned = Vec::new();
    for partition in &plan.partitions {
        let ram = partition.memory.iter().map(|piece| (piece.pa.get(), piece.size, "memory"));
        let devices = partition.mappings.iter().map(|mapping| (mapping.pa.get(), mapping.size, "devices"));
        for (start, size, what) in ram.chain(devices) {
            match start.checked_add(size) {
                Some(end) if size != 0 && start % 4096 == 0 && size % 4096 == 0 => {
                    owned.push((start, end, format!("`{}` ({what})", partition.name)));
                }
                _ => found.push(Violation::Range { partition: partition.name.clone(), start, size }),
            }
        }
        is_ram(partition, board, found);
    }
    // No two partitions, and no partition twice.
    for (first, second) in collisions(owned.clone()) {
        let (start, end) = (second.0, first.1.min(second.1));
        found.push(Violation::PagesTwice { start, end, first: first.2, second: second.2 });
    }
    let of_board = hypervisor_pages(board, placement);
    let listed = plan
        .hypervisor
        .iter()
        .map(|kept| (kept.range.start().get(), kept.range.end().get(), format!("the hypervisor ({})", kept.what)));
    let listed: Vec<Interval<String>> = listed.collect();
    // The hypervisor's ranges may overlap each other, so each is held against the partitions alone.
    for kept in of_board.iter().chain(&listed) {
        let may_be = |owner: &Interval<String>| (kept.0, kept.1) == bundle && in_place.contains(&(owner.0, owner.1));
        for owner in owned.iter().filter(|owner| owner.0 < kept.1 && kept.0 < owner.1 && !may_be(owner)) {
            let (start, end) = (owner.0.max(kept.0), owner.1.min(kept.1));
            found.push(Violation::PagesTwice { start, end, first: kept.2.clone(), second: owner.2.clone() });
        }
    }
    complete(board, &of_board, &listed, found);
    let device_in_ram =
        |start: u64, end: u64| board.memory.iter().any(|ram| start < ram.end().get() && ram.start().get() < end);
    for partition in &plan.partitions {
        for mapping in &partition.mappings {
            let (start, end) = (mapping.pa.get(), mapping.pa.get().saturating_add(mapping.size));
            if device_in_ram(start, end) {
                let (first, second) = ("RAM".to_string(), format!("`{}` (devices)", partition.name));
                found.push(Violation::PagesTwice { start, end, first, second });
            }
        }
    }
}

fn is_ram(partition: &PartitionPlan, board: &Board, found: &mut Vec<Violation>) {
    for piece in &partition.memory {
        let (start, end) = (piece.pa.get(), piece.pa.get().saturating_add(piece.size));
        if !board.memory.iter().any(|ram| ram.start().get() <= start && end <= ram.end().get()) {
            found.push(Violation::NotRam { partition: partition.name.clone(), start, end });
        }
    }
}

/// Makes sure that the plan's list of the hypervisor's ranges lacks nothing but what guests map of GICV.
fn complete(board: &Board, of_board: &[Interval<String>], listed: &[Interval<String>], found: &mut Vec<Violation>) {
    let virtual_interface = match board.gic.version {
        GicVersion::V2 { virtual_interface, .. } => {
            Some((virtual_interface.start().get(), virtual_interface.end().get(), String::new()))
        }
        GicVersion::V3 { .. } => None,
    };
    for (start, end, what) in of_board {
        let mut at = *start;
        // Each round passes one listed range, so the loop ends.
        for _ in 0..=listed.len().saturating_add(1) {
            let covering = listed.iter().chain(&virtual_interface).filter(|range| range.0 <= at && at < range.1);
            match covering.map(|range| range.1).max() {
                Some(next) if at < *end => at = next,
                _ => break,
            }
        }
        if at < *end {
            found.push(Violation::NotKept { what: what.clone(), start: at, end: *end });
        }
    }
}

pub(super) fn interrupts(plan: &Plan, board: &Board, found: &mut Vec<Violation>) {
    let of_console = board.console.as_ref().and_then(|uart| uart.interrupt).map(|(intid, _)| intid);
    let mut owners: Vec<(Intid, &str)> = Vec::new();
    for partition in &plan.partitions {
        let name = &partition.name;
        for line in partition.owned_interrupts() {
            if let Some(first) = enter(&mut owners, line.intid, name.as_str()) {
                let (first, second) = (first.to_string(), name.clone());
                found.push(Violation::InterruptTwice { intid: line.intid, first, second });
            }
            if !(32..1020).contains(&line.intid.get()) || of_console == Some(line.intid) {
                found.push(Violation::InterruptWrong { partition: name.clone(), intid: line.intid });
            }
        }
        direct(partition, board, found);
    }
}

/// Checks that the board can deliver interrupts directly where that is planned, and that a spare interrupt is no device's.
fn direct(partition: &PartitionPlan, board: &Board, found: &mut Vec<Violation>) {
    let is_possible = matches!(board.gic.version, GicVersion::V3 { .. }) && board.gic.facts.security == Security::One;
    if partition.delivery == Delivery::Direct && !is_possible {
        found.push(Violation::Direct { partition: partition.name.clone() });
    }
    if let Some(spare) = partition.spare_interrupt()
        && (board.gic.named.contains(&spare.intid) || spare.intid.get() >= board.gic.facts.intid_limit)
    {
        found.push(Violation::Spare { partition: partition.name.clone(), intid: spare.intid });
    }
}
