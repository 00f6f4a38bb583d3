// SPDX-License-Identifier: MIT OR Apache-2.0
//! SGIs: the short way of one into a list register, and GICv2's pending sources.

use core::sync::atomic::Ordering::SeqCst;

use super::CpuInterface;
use super::file::File;
use crate::vgic::machine::{Machine, Maintenance};
use crate::vgic::outcome::{Edit, Operation, bits};
use crate::vgic::{Model, SGIS, Vgic};

impl CpuInterface {
    /// Puts pending SGIs into list registers without looking at anything else, if that is certain to be right.
    pub(in crate::vgic) fn deliver_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        if self.try_deliver_sgi(vgic, machine).is_none() {
            self.refresh(vgic, machine, Edit::default());
        }
    }

    pub(super) fn try_deliver_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) -> Option<()> {
        let bank = vgic.bank(self.me, 0)?;
        let ready = bank.ready() & SGIS;
        if ready == 0 {
            return Some(());
        }
        if !ready.is_power_of_two() || vgic.model == Model::V2 || self.maintenance != Maintenance::NONE {
            return None;
        }
        let template = bank.irq(ready.trailing_zeros()).template();
        if vgic.groups.load(SeqCst) >> template.group() & 1 == 0 {
            return Some(());
        }
        let free = machine.free_lrs() & self.all_lrs();
        for index in bits(!free & self.all_lrs()) {
            let lr = machine.read_lr(index);
            // Merged with itself, or placed in the order of ids: not here.
            if lr.intid() == template.intid() || lr.is_pending() && lr.priority() == template.priority() {
                return None;
            }
        }
        if free == 0 {
            return None;
        }
        if bank.latch.fetch_and(!ready, SeqCst) & ready != 0 {
            machine.write_lr(free.trailing_zeros(), template.pending());
        }
        Some(())
    }

    /// Returns the sources of pending GICv2 SGIs in list registers, one byte for each of `count` SGIs from `first` on.
    pub(in crate::vgic) fn held_sources<M: Machine>(&self, machine: &mut M, first: u32, count: u32) -> u32 {
        let file = File::read(machine, self.lr_count);
        file.new.iter().filter(|lr| lr.is_pending()).fold(0, |value, lr| {
            match lr.intid().get().checked_sub(first).filter(|&n| n < count) {
                Some(n) => value | 1 << (8 * n + lr.source()),
                None => value,
            }
        })
    }

    /// Takes pending GICv2 SGIs of these sources out of the list registers.
    pub(in crate::vgic) fn forget_sources<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, first: u32, from: u32) {
        let file = File::read(machine, self.lr_count);
        let mut mask = 0;
        for lr in file.new.iter().filter(|lr| lr.is_pending()) {
            let n = lr.intid().get().checked_sub(first).filter(|&n| n < 4);
            if n.is_some_and(|n| from >> (8 * n + lr.source()) & 1 == 1) {
                mask |= 1 << (lr.intid().get() & 31);
            }
        }
        if mask != 0 {
            self.refresh(vgic, machine, Edit { operation: Operation::ClearPending, word: 0, mask });
        }
    }
}
