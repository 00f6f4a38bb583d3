// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache maintenance by set and way, which a guest may want before it has its MMU on. It is trapped (HCR_EL2.TSW),
//! since on the real caches it would reach the neighbours' lines. The guest's own memory is cleaned and invalidated by
//! address instead: 2 MiB at each trap, the instruction being tried again until all is done, so that interrupts are
//! served in between. A guest walks through all sets and ways in a loop: once its memory is clean, further operations
//! within a millisecond are skipped.

use super::partition::Partition;
use super::percpu::Local;
use crate::arch::mmu::{Use, Window};
use crate::arch::{cache, timer};
use crate::exit::Action;

/// How far a clean has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    piece: usize,
    offset: u64,
    /// When the last clean was complete, in ticks.
    finished: Option<u64>,
}

/// Carries out one step for a trapped operation.
pub fn step(partition: &Partition, local: &mut Local) -> Action {
    let Local { set_way, window, .. } = local;
    let recent = set_way.finished.is_some_and(|at| timer::now().wrapping_sub(at) < timer::ticks(1));
    if recent {
        return Action::Advance;
    }
    let Some(memory) = partition.plan.memory.get(set_way.piece) else {
        *set_way = Progress { piece: 0, offset: 0, finished: Some(timer::now()) };
        return Action::Advance;
    };
    if set_way.offset >= memory.size {
        set_way.piece += 1;
        set_way.offset = 0;
        return Action::Resume;
    }
    if let Some(pa) = memory.pa.checked_add(set_way.offset) {
        let size = (memory.size - set_way.offset).min(Window::reach(pa));
        window.with(pa, size, Use::ReadOnly, |va| cache::clean_invalidate(va, size));
        set_way.offset += size;
    }
    Action::Resume
}
