// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list registers read back into memory, and written where they changed.

use super::MAX_LRS;
use crate::vgic::lr::Lr;
use crate::vgic::machine::Machine;

/// The list registers, read back.
pub(super) struct File {
    /// What was in them; empty where nothing was.
    pub(super) old: [Lr; MAX_LRS],
    /// What will be; only valid ones and empty ones.
    pub(super) new: [Lr; MAX_LRS],
    pub(super) count: usize,
}

impl File {
    pub(super) fn read<M: Machine>(machine: &mut M, lr_count: u32) -> Self {
        let free = machine.free_lrs();
        let mut file = Self { old: [Lr::EMPTY; MAX_LRS], new: [Lr::EMPTY; MAX_LRS], count: lr_count as usize };
        for (index, (old, new)) in (0..lr_count).zip(file.old.iter_mut().zip(&mut file.new)) {
            if free >> index & 1 == 0 {
                *old = machine.read_lr(index);
                if old.is_valid() {
                    *new = *old;
                }
            }
        }
        file
    }

    pub(super) fn write<M: Machine>(&self, machine: &mut M) {
        for (index, (old, new)) in (0..self.count as u32).zip(self.old.iter().zip(&self.new)) {
            if old != new {
                machine.write_lr(index, *new);
            }
        }
    }

    /// Returns which interrupts of a word are pending and active.
    pub(super) fn state(&self, word: usize) -> (u32, u32) {
        let here = self.new.iter().filter(|lr| lr.is_valid() && lr.intid().index() >> 5 == word);
        here.fold((0, 0), |(pending, active), lr| {
            let mask = 1 << (lr.intid().get() & 31);
            (pending | if lr.is_pending() { mask } else { 0 }, active | if lr.is_active() { mask } else { 0 })
        })
    }

    /// Applies `change` where `applies` holds; returns the hardware ones of which nothing is left.
    pub(super) fn change(&mut self, word: usize, mask: u32, applies: fn(Lr) -> bool, change: fn(Lr) -> Lr) -> u32 {
        let mut gone = 0;
        for lr in self.new.iter_mut().filter(|lr| lr.is_valid() && lr.intid().index() >> 5 == word) {
            let bit = 1 << (lr.intid().get() & 31);
            if mask & bit == 0 || !applies(*lr) {
                continue;
            }
            let changed = change(*lr);
            if changed.is_valid() {
                *lr = changed;
                continue;
            }
            if lr.is_hardware() {
                gone |= bit;
            }
            *lr = Lr::EMPTY;
        }
        gone
    }
}
