// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the guest, its devices and other vCPUs did since the list registers were last looked at: ends of spilled
//! interrupts, edits, and everything that must not be in a list register any more.

use core::sync::atomic::{AtomicU8, Ordering::SeqCst};

use super::CpuInterface;
use super::file::File;
use crate::id::Intid;
use crate::vgic::bank::Bank;
use crate::vgic::lr::Lr;
use crate::vgic::machine::Machine;
use crate::vgic::outcome::{Edit, HwBits, Operation, bits};
use crate::vgic::recall::{Mailbox, Posted};
use crate::vgic::{Model, Vgic};

impl CpuInterface {
    /// Ends as many spilled interrupts as EOIs found no list register, in the order of their priority.
    pub(super) fn settle_ends<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &File) {
        if self.spilled.iter().all(|&word| word == 0) {
            return;
        }
        let count = machine.eoi_count();
        if count == 0 || machine.control().splits_eoi() {
            return;
        }
        for _ in 0..count.min(31) {
            let best = self.spilled_ranks(vgic).min();
            let Some(intid) = best.map(|rank| Intid::new(rank & 0xffff)) else { break };
            self.end_spilled(vgic, machine, intid, file);
        }
    }

    pub(super) fn spilled_ranks<'a>(&'a self, vgic: &'a Vgic) -> impl Iterator<Item = u32> + 'a {
        self.spilled.iter().enumerate().filter(|&(_, &word)| word != 0).flat_map(move |(word, &mask)| {
            let bank = vgic.bank(self.me, word);
            bits(mask).filter_map(move |bit| Some(bank?.irq(bit).template().rank()))
        })
    }

    pub(super) fn end_spilled<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, intid: Intid, file: &File) {
        let (word, mask) = (intid.index() >> 5, 1 << (intid.get() & 31));
        if let Some(spilled) = self.spilled.get_mut(word) {
            *spilled &= !mask;
        }
        let Some(bank) = vgic.bank(self.me, word) else { return };
        if bank.active.fetch_and(!mask, SeqCst) & mask != 0 {
            let deactivate = mask & bank.linked & !bank.latch.load(SeqCst);
            machine.change(&HwBits { word, deactivate, ..HwBits::default() }.into());
        }
        self.let_go(vgic, bank, file, mask);
    }

    /// Carries out another vCPU's edit.
    pub(super) fn carry_out_posted<M: Machine>(
        &mut self,
        vgic: &Vgic,
        machine: &mut M,
        file: &mut File,
        asker: &Mailbox,
        posted: &Posted,
    ) {
        let Edit { word, mask, operation } = posted.edit;
        if word == 0 {
            // It is about the private interrupts of this vCPU: done here as if this vCPU had written.
            let charge = asker.take_charge(posted, mask);
            if charge != 0 || operation == Operation::Review {
                let edit = Edit { operation, word, mask: charge };
                let outcome = vgic.operate(self.me, edit);
                machine.change(&outcome.hw);
                self.carry_out(vgic, machine, file, edit, None);
            }
        } else {
            self.carry_out(vgic, machine, file, posted.edit, Some((asker, posted)));
        }
        let (mut pending, active) = file.state(word);
        if word == 0 {
            pending |= machine.pending(0) & vgic.linked_ppis();
        }
        asker.reply(posted, pending & mask, active & mask);
    }

    /// Changes what is in the list registers as the edit says; the distributor's own state has been changed before.
    pub(super) fn carry_out<M: Machine>(
        &mut self,
        vgic: &Vgic,
        machine: &mut M,
        file: &mut File,
        edit: Edit,
        asker: Option<(&Mailbox, &Posted)>,
    ) {
        let Edit { word, mask, operation } = edit;
        let Some(bank) = vgic.bank(self.me, word).filter(|_| mask != 0) else { return };
        match operation {
            Operation::SetPending => {
                // What is pending already stays as it is; the rest is made pending physically, by whoever asks.
                let (pending, _) = file.state(word);
                let merged = mask & bank.linked & (pending | bank.latch.load(SeqCst));
                match asker {
                    Some((mailbox, posted)) => {
                        mailbox.take_charge(posted, merged);
                    }
                    None => {
                        let set_pending = mask & bank.linked & !merged;
                        machine.change(&HwBits { word, set_pending, ..HwBits::default() }.into());
                        // Again here: who has it active may have taken the note for that of an earlier one, which was
                        // taken, as long as it was not pending physically.
                        bank.soft.fetch_or(set_pending & !bank.edge.load(SeqCst), SeqCst);
                    }
                }
            }
            Operation::ClearPending => {
                // Again here: since the asker cleared it, it may have been put back from a list register. (A GICv2 SGI may be
                // latched for another source.)
                let shared = if bank.home.is_none() { mask } else { 0 };
                let latched = bank.latch.fetch_and(!shared, SeqCst) & shared & bank.linked & !bank.active.load(SeqCst);
                let deactivate = latched | file.change(word, mask, Lr::is_pending, Lr::not_pending);
                machine.change(&HwBits { word, deactivate, ..HwBits::default() }.into());
            }
            Operation::ClearActive => {
                let spilled = self.spilled.get_mut(word).map_or(0, |spilled| {
                    let ended = *spilled & mask;
                    *spilled &= !mask;
                    ended
                });
                let ended = bank.active.fetch_and(!spilled, SeqCst) & spilled & bank.linked & !bank.latch.load(SeqCst);
                let deactivate = ended | file.change(word, mask, Lr::is_active, Lr::not_active);
                machine.change(&HwBits { word, deactivate, ..HwBits::default() }.into());
            }
            Operation::Review | Operation::SetEnable | Operation::ClearEnable | Operation::SetActive => {}
        }
        self.let_go(vgic, bank, file, mask);
    }

    /// Brings one valid list register up to date with the distributor. Returns what is left of it.
    pub(super) fn review<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, lr: Lr) -> Lr {
        let bit = lr.intid().get() & 31;
        let mask = 1 << bit;
        let Some(bank) = vgic.bank(self.me, lr.intid().index() >> 5) else {
            return Lr::EMPTY;
        };
        let irq = bank.irq(bit);
        let mut lr = lr;
        if bank.home.is_none() {
            irq.holder.store(self.me.get(), SeqCst);
        }
        if bank.active.load(SeqCst) & mask != 0 {
            if lr.is_active() {
                bank.active.fetch_and(!mask, SeqCst);
            } else {
                // Made active by ISACTIVER: what is pending waits in the distributor.
                self.put_back(vgic, machine, bank, lr);
                return Lr::EMPTY;
            }
        }
        let deliverable = bank.enable.load(SeqCst) & mask != 0
            && vgic.groups.load(SeqCst) >> irq.template().group() & 1 == 1
            && vgic.target(bank, bit) == Some(self.me);
        let remembered = (bank.edge.load(SeqCst) | bank.soft.load(SeqCst) | bank.line.load(SeqCst)) & mask != 0;
        if lr.is_pending() {
            if !deliverable {
                self.put_back(vgic, machine, bank, lr);
                lr = lr.not_pending();
            } else if !lr.is_hardware() && !remembered {
                lr = lr.not_pending();
            } else if !lr.is_active() {
                lr = lr.with_rank_of(irq.template());
            }
        }
        let word = bank.first as usize >> 5;
        let consumed = lr.is_active() && bank.soft.load(SeqCst) & !bank.latch.load(SeqCst) & mask != 0;
        if consumed && !(lr.is_hardware() && machine.pending(word) & mask != 0) {
            // What ISPENDR set has been taken, and not been set again.
            bank.soft.fetch_and(!mask, SeqCst);
        }
        if !lr.is_hardware() {
            // A GICv2 SGI from another source must not inherit the source of this one.
            let source = self.source(vgic, bank, bit);
            if let Some(source) = source.filter(|_| lr.is_pending()) {
                merge_source(bank, mask, source, lr.source());
            }
            // Twice pending is once pending. Pending while active waits for the end: it must not come before something
            // more urgent that has no list register by then.
            if lr.is_pending() && source.is_none() {
                bank.latch.fetch_and(!mask, SeqCst);
            }
            if lr.is_valid() {
                lr = if bank.pending() & mask != 0 { lr.with_eoi_maintenance() } else { lr.without_eoi_maintenance() };
            }
        }
        if lr.is_valid() {
            return lr;
        }
        irq.release(self.me);
        self.tell_target(vgic, bank, bit);
        Lr::EMPTY
    }

    /// Gives up SPIs that this vCPU once claimed and no longer has, and tells whom they concern.
    pub(super) fn let_go(&mut self, vgic: &Vgic, bank: &Bank, file: &File, mask: u32) {
        if bank.home.is_some() {
            return;
        }
        let word = bank.first as usize >> 5;
        let (pending, active) = file.state(word);
        let kept = pending | active | self.spilled.get(word).copied().unwrap_or(0);
        for bit in bits(mask & !kept) {
            let irq = bank.irq(bit);
            if irq.holder() == Some(self.me) {
                irq.release(self.me);
                self.tell_target(vgic, bank, bit);
            }
        }
    }

    /// Tells the vCPU that an interrupt goes to, if it can be delivered there.
    pub(super) fn tell_target(&mut self, vgic: &Vgic, bank: &Bank, bit: u32) {
        if bank.ready() >> bit & 1 == 1
            && let Some(target) = vgic.target(bank, bit)
            && target != self.me
        {
            self.kicks = self.kicks.union(vgic.summon(target));
        }
    }

    /// Puts a pending interrupt back into the distributor and lets go of it.
    pub(super) fn put_back<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, bank: &Bank, lr: Lr) {
        let bit = lr.intid().get() & 31;
        let mask = 1 << bit;
        if lr.is_hardware() {
            if bank.enable.load(SeqCst) & mask != 0 {
                bank.latch.fetch_or(mask, SeqCst);
            } else {
                machine.change(&bank.given_back(bank.first as usize >> 5, mask).into());
            }
        } else if let Some(source) = self.source(vgic, bank, bit) {
            source.fetch_or(1 << lr.source(), SeqCst);
            bank.latch.fetch_or(mask, SeqCst);
        } else if (bank.edge.load(SeqCst) | bank.soft.load(SeqCst)) & mask != 0 {
            bank.latch.fetch_or(mask, SeqCst);
        }
        if !lr.is_active() {
            bank.irq(bit).release(self.me);
            self.tell_target(vgic, bank, bit);
        }
    }

    /// Returns the pending sources of a GICv2 SGI; `None` for everything else.
    pub(super) fn source<'a>(&self, vgic: &'a Vgic, bank: &Bank, bit: u32) -> Option<&'a AtomicU8> {
        if vgic.model == Model::V3 || bank.home.is_none() {
            return None;
        }
        vgic.vcpu(self.me)?.sources.get(bit as usize)
    }
}

/// Notes that a GICv2 SGI from the CPU interface `from` is in a list register, and keeps it latched for the others.
pub(super) fn merge_source(bank: &Bank, mask: u32, sources: &AtomicU8, from: u32) {
    let mine = 1u8 << (from & 7);
    if sources.fetch_and(!mine, SeqCst) & !mine == 0 {
        bank.latch.fetch_and(!mask, SeqCst);
    }
    // A sender notes itself first and latches then.
    if sources.load(SeqCst) != 0 {
        bank.latch.fetch_or(mask, SeqCst);
    }
}
