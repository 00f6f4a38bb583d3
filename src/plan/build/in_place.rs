// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images that are used where they lie in the bundle, for partitions that run once: the pages of the file take the place of
//! the RAM that was chosen for them. What cannot be, because guest-physical and
//! physical addresses differ within a 2 MiB block or a file is not this partition's alone, is
//! copied as for everybody else.

use alloc::vec::Vec;

use super::Context;
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, Pa};
use crate::config::{FileRange, Kernel, Manifest, Restart};
use crate::plan::types::{Dma, LoadPlan, MemoryPlan, PartitionPlan};

/// Lists the files of all partitions, as often as they are used.
pub(super) fn files(manifest: &Manifest) -> Vec<FileRange> {
    let mut files = Vec::new();
    for partition in &manifest.partitions {
        match &partition.kernel {
            Kernel::Image { file, .. } => files.push(*file),
            Kernel::Segments { segments, .. } => files.extend(segments.iter().filter_map(|segment| segment.file)),
        }
        files.extend(partition.initrd);
    }
    files
}

/// Puts each image of a partition that runs once onto the bundle's pages, where that can be.
pub(super) fn apply(partition: &mut PartitionPlan, context: &Context<'_>) {
    // A bus master needs IPA = PA in all of its memory.
    if partition.restart != Restart::Never || partition.devices.iter().any(|device| device.dma != Dma::None) {
        return;
    }
    for load in &mut partition.load {
        let Some(pages) = pages(load, context) else { continue };
        let Some(index) = partition.memory.iter().position(|piece| holds(piece, &pages)) else { continue };
        let piece = partition.memory.remove(index);
        for part in split(&piece, &pages).into_iter().rev().filter(|part| part.size != 0) {
            partition.memory.insert(index, part);
        }
        load.in_place = true;
    }
}

/// Returns the whole pages of a file as memory, if they are its own.
fn pages(load: &LoadPlan, context: &Context<'_>) -> Option<MemoryPlan> {
    let file = load.file?;
    let ipa = load.range.start();
    let size = file.size.checked_next_multiple_of(PAGE_SIZE)?;
    let pa = context.placement.bundle.start().checked_add(file.offset)?;
    let end = pa.checked_add(size)?;
    let sharing = context.files.iter().filter(|other| overlap(other, file.offset, size)).count();
    let own = sharing == 1 && end <= context.placement.files_end && file.size <= load.range.size();
    let agree = ipa.is_aligned(PAGE_SIZE) && ipa.get() % BLOCK_SIZE == pa.get() % BLOCK_SIZE;
    (own && agree).then_some(MemoryPlan { ipa, pa, size })
}

fn overlap(file: &FileRange, offset: u64, size: u64) -> bool {
    file.offset < offset.saturating_add(size) && offset < file.offset.saturating_add(file.size)
}

fn holds(piece: &MemoryPlan, pages: &MemoryPlan) -> bool {
    let before = pages.ipa.offset_from(piece.ipa);
    before.and_then(|before| before.checked_add(pages.size)).is_some_and(|end| end <= piece.size)
}

/// Returns what lies before the pages, the pages, and what lies behind them.
fn split(piece: &MemoryPlan, pages: &MemoryPlan) -> [MemoryPlan; 3] {
    let before = pages.ipa.offset_from(piece.ipa).unwrap_or(0);
    let behind = before.saturating_add(pages.size);
    let at = |offset: u64| {
        let pa = piece.pa.checked_add(offset).unwrap_or(Pa::new(u64::MAX));
        (piece.ipa.checked_add(offset).unwrap_or_default(), pa)
    };
    let (ipa, pa) = at(behind);
    let rest = MemoryPlan { ipa, pa, size: piece.size.saturating_sub(behind) };
    [MemoryPlan { size: before, ..*piece }, *pages, rest]
}
