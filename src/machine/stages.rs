// SPDX-License-Identifier: MIT OR Apache-2.0
//! When boot came to which stage, by the system counter: always noted, since it costs a load and a store.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::timer;

/// A stage of boot; its time ends where it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first instruction.
    Entry,
    /// Image relocated, MMU on.
    Mapped,
    /// The device tree is read.
    Tree,
    /// Bundle and board are read.
    Board,
    /// Planned.
    Planned,
    /// The plan is checked and reported.
    Checked,
    /// Partitions and CPUs are made.
    Carved,
    /// All CPUs have come up.
    Up,
}

const COUNT: usize = 8;
static REACHED: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

/// Notes that a stage is reached now.
pub fn reach(stage: Stage) {
    note(stage, timer::now());
}

/// Notes that a stage was reached at a time of the system counter.
pub fn note(stage: Stage, ticks: u64) {
    if let Some(reached) = REACHED.get(stage as usize) {
        reached.store(ticks, Ordering::Relaxed);
    }
}

/// Returns when the hypervisor's first instruction ran, in ticks.
pub fn first() -> u64 {
    REACHED.first().map_or(0, |entry| entry.load(Ordering::Relaxed))
}

/// All stages with the ticks that each took, on one line.
pub struct Line;

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; COUNT - 1] = ["map", "tree", "board", "plan", "check", "carve", "CPUs"];
        f.write_str("boot, in ticks:")?;
        let mut before = first();
        for (name, reached) in NAMES.iter().zip(REACHED.iter().skip(1)) {
            let at = reached.load(Ordering::Relaxed);
            write!(f, " {name} {}", at.saturating_sub(before))?;
            before = at;
        }
        Ok(())
    }
}
