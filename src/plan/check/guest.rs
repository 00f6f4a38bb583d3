// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a partition sees: each guest address once, images in RAM, devices whole.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Interval, Violation, collisions, pages_of};
use crate::id::Intid;
use crate::plan::board::{Board, GicVersion};
use crate::plan::types::{Dma, GuestGic, PartitionPlan, Reach};

/// Checks that the guest's interrupt controller is where the board's is, and that GICV's pages are the board's.
pub(super) fn gic(partition: &PartitionPlan, board: &Board, found: &mut Vec<Violation>) {
    let region = |index: usize| board.gic.regions.get(index).map(|range| (range.start().get(), range.size()));
    let is_like = match partition.gic {
        GuestGic::V2 { distributor, cpu_interface, virtual_interface } => {
            // A region of 128 KiB shows each page 16 times; the first meets the second at 0xf000.
            let expected =
                region(3).map(|(start, size)| if size < 0x2_0000 { start } else { start.saturating_add(0xf000) });
            matches!(board.gic.version, GicVersion::V2 { .. })
                && Some(distributor.start().get()) == region(0).map(|region| region.0)
                && Some(distributor.size()) == region(0).map(|region| region.1)
                && Some(cpu_interface.start().get()) == region(1).map(|region| region.0)
                && cpu_interface.size() == 0x2000
                && Some(virtual_interface.start().get()) == expected
                && virtual_interface.size() == 0x2000
        }
        GuestGic::V3 { distributor, redistributors } => {
            let vcpu_count = u64::try_from(partition.vcpus.len()).unwrap_or(u64::MAX);
            matches!(board.gic.version, GicVersion::V3 { .. })
                && Some(distributor.start().get()) == region(0).map(|region| region.0)
                && Some(distributor.size()) == region(0).map(|region| region.1)
                && Some(redistributors.start().get()) == region(1).map(|region| region.0)
                && redistributors.size() == vcpu_count.saturating_mul(0x2_0000)
        }
    };
    if !is_like {
        found.push(Violation::Gic { partition: partition.name.clone() });
    }
}

/// Checks that no guest address means two things.
pub(super) fn windows(partition: &PartitionPlan, found: &mut Vec<Violation>) {
    let name = &partition.name;
    let mut windows: Vec<Interval<&str>> = Vec::new();
    for piece in &partition.memory {
        let (ipa, pa) = (piece.ipa.get(), piece.pa.get());
        windows.push((ipa, ipa.saturating_add(piece.size), "memory"));
        if ipa % 4096 != 0 || ipa.checked_add(piece.size).is_none_or(|end| end > 1 << 48) {
            found.push(Violation::Range { partition: name.clone(), start: ipa, size: piece.size });
        }
        if ipa % 0x20_0000 != pa % 0x20_0000 {
            found.push(Violation::Incongruent { partition: name.clone(), ipa, pa });
        }
    }
    for mapping in &partition.mappings {
        windows.push((mapping.ipa.get(), mapping.ipa.get().saturating_add(mapping.size), "devices"));
    }
    let (distributor, second) = match partition.gic {
        GuestGic::V2 { distributor, cpu_interface, .. } => (distributor, cpu_interface),
        GuestGic::V3 { distributor, redistributors } => (distributor, redistributors),
    };
    for range in [distributor, second] {
        let (start, end) = pages_of(range.start().get(), range.end().get());
        windows.push((start, end, "interrupt controller"));
    }
    if let Some(console) = partition.console {
        windows.push((console.range.start().get(), console.range.end().get(), "console"));
        let is_shared = partition.interrupts.iter().any(|line| line.intid == console.intid);
        let is_page = console.range.start().get() % 4096 == 0 && console.range.size() == 4096;
        if is_shared || !is_page || !(32..1020).contains(&console.intid.get()) {
            found.push(Violation::Console { partition: name.clone() });
        }
    }
    for (first, second) in collisions(windows) {
        let (partition, start) = (name.clone(), second.0);
        let (first, second) = (first.2.to_string(), second.2.to_string());
        found.push(Violation::WindowsTwice { partition, start, first, second });
    }
}

/// Checks that everything that is loaded has RAM of its own.
pub(super) fn images(partition: &PartitionPlan, found: &mut Vec<Violation>) {
    let name = &partition.name;
    // Pieces may follow one another without a gap. Each turn passes one, so that they end.
    let in_ram = |start: u64, end: u64| {
        let mut at = start;
        for _ in &partition.memory {
            let mut pieces =
                partition.memory.iter().map(|piece| (piece.ipa.get(), piece.ipa.get().saturating_add(piece.size)));
            let Some((_, next)) = pieces.find(|(from, to)| *from <= at && at < *to) else { break };
            at = next;
            if end <= at {
                break;
            }
        }
        start < end && end <= at
    };
    let mut places: Vec<Interval<String>> = Vec::new();
    for load in &partition.load {
        places.push((load.range.start().get(), load.range.end().get(), load.what.clone()));
        if load.file.is_some_and(|file| file.size > load.range.size()) {
            found.push(Violation::LoadTooSmall { partition: name.clone(), what: load.what.clone() });
        }
    }
    if let Some(tree) = &partition.device_tree {
        let size = u64::try_from(tree.blob.len()).unwrap_or(u64::MAX);
        places.push((tree.ipa.get(), tree.ipa.get().saturating_add(size), "device tree".to_string()));
        if tree.ipa.get() % 8 != 0 || size > 0x20_0000 {
            found.push(Violation::Tree { partition: name.clone() });
        }
    }
    for (start, end, what) in &places {
        if !in_ram(*start, *end) {
            found.push(Violation::LoadOutsideRam { partition: name.clone(), what: what.clone() });
        }
    }
    for (first, second) in collisions(places) {
        found.push(Violation::LoadsTwice { partition: name.clone(), first: first.2, second: second.2 });
    }
    let entry = partition.entry.get();
    if !entry.is_multiple_of(4) || !in_ram(entry, entry.saturating_add(4)) {
        found.push(Violation::Entry { partition: name.clone() });
    }
}

/// Checks that pages, interrupts and addresses are those that the partition's devices need.
pub(super) fn devices(partition: &PartitionPlan, found: &mut Vec<Violation>) {
    let name = &partition.name;
    let given = || partition.devices.iter().filter(|device| device.reach == Reach::Given);
    let of_devices = given().flat_map(|device| device.interrupts.iter().copied()).collect();
    let owned = partition.interrupts.iter().map(|line| line.intid).collect();
    if distinct(of_devices) != distinct(owned) {
        found.push(Violation::InterruptsDiffer { partition: name.clone() });
    }
    let registers = given().flat_map(|device| &device.registers);
    let needed = registers.map(|range| pages_of(range.start().get(), range.end().get()));
    let mapped =
        partition.mappings.iter().map(|mapping| (mapping.pa.get(), mapping.pa.get().saturating_add(mapping.size)));
    let is_identity = partition.mappings.iter().all(|mapping| mapping.ipa.get() == mapping.pa.get());
    if union(needed.collect()) != union(mapped.collect()) || !is_identity {
        found.push(Violation::MappingsDiffer { partition: name.clone() });
    }
    let has_master = partition.devices.iter().any(|device| device.dma != Dma::None);
    for piece in partition.memory.iter().filter(|piece| has_master && piece.ipa.get() != piece.pa.get()) {
        let (ipa, pa) = (piece.ipa.get(), piece.pa.get());
        found.push(Violation::NotIdentity { partition: name.clone(), ipa, pa });
    }
}

/// Returns what is in a list, each once, in order.
fn distinct(mut all: Vec<Intid>) -> Vec<Intid> {
    crate::order::sort(&mut all);
    all.dedup();
    all
}

/// Joins intervals that touch.
fn union(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    crate::order::sort(&mut intervals);
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in intervals {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}
