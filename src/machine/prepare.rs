// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fills a partition's memory in the steps of `preparation`. The partition's first CPU does it and looks at its interrupts
//! in between.

use crate::addr::PaRange;
use crate::arch::mmu::{Use, Window};
use crate::arch::{cache, timer};
use crate::plan::PartitionPlan;
use crate::preparation::{Step, Steps};

/// A preparation in progress.
#[derive(Clone, Copy, Debug)]
pub struct Preparation {
    steps: Steps,
    /// The generation of the partition that it prepares.
    pub generation: u32,
    /// From when on the way to its guest is counted, in ticks of the system counter.
    pub since: u64,
    /// Ticks of it that went into zeroing memory.
    pub scrubbing: u64,
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
    pub fn new(generation: u32, since: u64) -> Self {
        Self { steps: Steps::new(), generation, since, scrubbing: 0 }
    }

    /// Carries out one step.
    pub fn step(&mut self, plan: &PartitionPlan, bundle: &[u8], window: &mut Window) -> Progress {
        let Ok(step) = self.steps.next(plan) else { return Progress::Failed };
        let done = match step {
            Some(Step::Zero(range)) => {
                let begun = timer::now();
                zero(range, window);
                self.scrubbing = self.scrubbing.saturating_add(timer::now().saturating_sub(begun));
                Some(())
            }
            Some(Step::Copy { to, from }) => copy(bundle, from, to, window),
            Some(Step::Clean(range)) => {
                // What the loader wrote may be in caches still, and the guest begins with its own off. Nothing is written.
                window.with(range.start(), range.size(), Use::ReadOnly, |va| cache::clean_invalidate(va, range.size()));
                Some(())
            }
            Some(Step::Tree { to, from }) => {
                plan.device_tree.as_ref().and_then(|tree| copy(&tree.blob, from, to, window))
            }
            None => {
                cache::invalidate_instructions();
                return Progress::Ready;
            }
        };
        if done.is_some() { Progress::More } else { Progress::Failed }
    }
}

fn zero(range: PaRange, window: &mut Window) {
    window.with(range.start(), range.size(), Use::Data, |va| {
        // SAFETY: the window maps this partition's RAM, and none of its vCPUs runs.
        unsafe { cache::zero_and_clean(va, range.size()) };
    });
}

/// Fills `to` with the bytes of `source` from `from` on.
fn copy(source: &[u8], from: u64, to: PaRange, window: &mut Window) -> Option<()> {
    let rest = source.get(usize::try_from(from).ok()?..)?;
    let chunk = rest.get(..usize::try_from(to.size()).ok()?)?;
    window.with(to.start(), to.size(), Use::Data, |va| {
        // SAFETY: the window maps this partition's RAM, none of its vCPUs runs, and the source is the bundle or the heap,
        // which is no partition's RAM.
        unsafe { cache::copy_and_clean(chunk, va) };
    });
    Some(())
}
