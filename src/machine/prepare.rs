// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fills a partition's memory: zeroes it, loads the images from the bundle, writes the device tree. The partition's
//! first CPU does it in steps of at most 2 MiB and looks at its interrupts in between.

use crate::addr::{Ipa, Pa, PaRange};
use crate::arch::cache;
use crate::arch::mmu::{Use, Window};
use crate::plan::PartitionPlan;

/// How far a preparation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Zeroing piece `piece` of the memory from `offset`.
    Zero { piece: usize, offset: u64 },
    /// Copying file `index` of the load list from `offset`.
    Load { index: usize, offset: u64 },
    /// Writing the device tree from `offset`.
    Tree { offset: u64 },
    /// All is in place.
    Done,
}

/// A preparation in progress.
#[derive(Clone, Copy, Debug)]
pub struct Preparation {
    stage: Stage,
    /// The generation of the partition that it prepares.
    pub generation: u32,
}

/// What a step ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do.
    More,
    /// The partition can begin.
    Ready,
    /// The plan does not fit itself; a checked plan never gets here.
    Failed,
}

impl Preparation {
    /// Begins a preparation.
    pub fn new(generation: u32) -> Self {
        Self { stage: Stage::Zero { piece: 0, offset: 0 }, generation }
    }

    /// Carries out one step.
    pub fn step(&mut self, plan: &PartitionPlan, bundle: &[u8], window: &mut Window) -> Progress {
        let next = match self.stage {
            Stage::Zero { piece, offset } => zero(plan, piece, offset, window),
            Stage::Load { index, offset } => load(plan, index, offset, bundle, window),
            Stage::Tree { offset } => tree(plan, offset, window),
            Stage::Done => Some(Stage::Done),
        };
        match next {
            None => Progress::Failed,
            Some(Stage::Done) => {
                cache::invalidate_instructions();
                Progress::Ready
            }
            Some(stage) => {
                self.stage = stage;
                Progress::More
            }
        }
    }
}

fn zero(plan: &PartitionPlan, piece: usize, offset: u64, window: &mut Window) -> Option<Stage> {
    let Some(memory) = plan.memory.get(piece) else { return Some(Stage::Load { index: 0, offset: 0 }) };
    if offset >= memory.size {
        return Some(Stage::Zero { piece: piece + 1, offset: 0 });
    }
    let start = memory.pa.checked_add(offset)?;
    let size = (memory.size - offset).min(Window::reach(start));
    window.with(start, size, Use::Data, |va| {
        // SAFETY: the window maps this partition's RAM, and none of its vCPUs runs.
        unsafe { cache::zero_and_clean(va, size) };
    });
    Some(Stage::Zero { piece, offset: offset + size })
}

fn load(plan: &PartitionPlan, index: usize, offset: u64, bundle: &[u8], window: &mut Window) -> Option<Stage> {
    let Some(item) = plan.load.get(index) else { return Some(Stage::Tree { offset: 0 }) };
    let Some(file) = item.file.filter(|file| offset < file.size.min(item.range.size())) else {
        return Some(Stage::Load { index: index + 1, offset: 0 });
    };
    let start = usize::try_from(file.offset).ok()?;
    let bytes = bundle.get(start..)?.get(..usize::try_from(file.size).ok()?)?;
    let done = write(plan, item.range.start(), bytes, offset, window)?;
    Some(Stage::Load { index, offset: offset + done })
}

fn tree(plan: &PartitionPlan, offset: u64, window: &mut Window) -> Option<Stage> {
    let Some(tree) = &plan.device_tree else { return Some(Stage::Done) };
    if offset >= tree.blob.len() as u64 {
        return Some(Stage::Done);
    }
    let done = write(plan, tree.ipa, &tree.blob, offset, window)?;
    Some(Stage::Tree { offset: offset + done })
}

/// Writes at most 2 MiB of `bytes` from `offset` to where they belong behind `ipa`; returns how many.
fn write(plan: &PartitionPlan, ipa: Ipa, bytes: &[u8], offset: u64, window: &mut Window) -> Option<u64> {
    let target = ram(plan, ipa.checked_add(offset)?)?;
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    let size = target.size().min(rest.len() as u64).min(Window::reach(target.start()));
    let chunk = rest.get(..usize::try_from(size).ok()?)?;
    window.with(target.start(), size, Use::Data, |va| {
        // SAFETY: the window maps `size` bytes of this partition's RAM, none of its vCPUs runs, and the source is the
        // bundle or the heap, which is no partition's RAM.
        unsafe { core::ptr::copy_nonoverlapping(chunk.as_ptr(), va.get() as *mut u8, chunk.len()) };
        cache::clean_invalidate(va, size);
    });
    Some(size)
}

/// Returns the partition's RAM from a guest-physical address to the end of its piece.
fn ram(plan: &PartitionPlan, ipa: Ipa) -> Option<PaRange> {
    plan.memory.iter().find_map(|memory| {
        let offset = ipa.offset_from(memory.ipa)?;
        let left = memory.size.checked_sub(offset)?;
        PaRange::new(Pa::new(memory.pa.get().checked_add(offset)?), left)
    })
}
