// SPDX-License-Identifier: MIT OR Apache-2.0
//! SGIs: the short way of one into a list register, and GICv2's pending sources.

use core::sync::atomic::Ordering::SeqCst;

use super::CpuInterface;
use super::file::File;
use super::review::merge_source;
use crate::vgic::lr::Lr;
use crate::vgic::machine::{Machine, Maintenance};
use crate::vgic::outcome::{Edit, Operation, bits};
use crate::vgic::{Model, SGIS, Vgic};

impl CpuInterface {
    /// Puts pending SGIs into list registers, by the whole way if that is needed.
    pub(in crate::vgic) fn deliver_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        if self.try_deliver_sgi(vgic, machine).is_none() {
            self.refresh(vgic, machine, Edit::default());
        }
    }

    /// Puts the one pending SGI into a list register, without looking at anything else, if that is certain to be right.
    /// Returns `None` if it is not.
    fn try_deliver_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) -> Option<()> {
        let shared = vgic.vcpu(self.me)?;
        let bank = &shared.bank;
        let ready = bank.latch.load(SeqCst) & bank.enable.load(SeqCst) & !bank.active.load(SeqCst) & SGIS;
        if ready == 0 {
            return Some(());
        }
        if !ready.is_power_of_two() || self.maintenance != Maintenance::NONE {
            return None;
        }
        let intid = ready.trailing_zeros();
        let mut lr = bank.irq(intid).template();
        if vgic.groups.load(SeqCst) >> lr.group() & 1 == 0 {
            return Some(());
        }
        let index = self.room_for(machine, lr)?;
        if vgic.model == Model::V2 {
            let source = shared.sources.get(intid as usize)?;
            let from = source.load(SeqCst);
            if !from.is_power_of_two() {
                return None;
            }
            merge_source(bank, ready, source, from.trailing_zeros());
            lr = lr.with_source(from.trailing_zeros());
        } else if bank.latch.fetch_and(!ready, SeqCst) & ready == 0 {
            return Some(());
        }
        machine.write_lr(index, lr.pending());
        Some(())
    }

    /// Finds a free list register for an SGI that is neither merged with itself nor placed in the order of ids there.
    fn room_for<M: Machine>(&self, machine: &mut M, sgi: Lr) -> Option<u32> {
        let free = machine.free_lrs() & self.all_lrs;
        let clash = |lr: Lr| lr.intid() == sgi.intid() || lr.is_pending() && lr.priority() == sgi.priority();
        let clashes = bits(!free & self.all_lrs).any(|index| clash(machine.read_lr(index)));
        (free != 0 && !clashes).then(|| free.trailing_zeros())
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
