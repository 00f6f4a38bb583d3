// SPDX-License-Identifier: MIT OR Apache-2.0
//! The choice of what is in the list registers.

use core::sync::atomic::Ordering::SeqCst;

use super::file::File;
use super::queue::{Pick, Queue};
use super::review::merge_source;
use super::{ALL_PRIORITIES, CpuInterface};
use crate::id::Intid;
use crate::vgic::Vgic;
use crate::vgic::bank::Bank;
use crate::vgic::lr::Lr;
use crate::vgic::machine::{Machine, Maintenance};
use crate::vgic::outcome::bits;

impl CpuInterface {
    /// Chooses what is in the list registers, and returns the maintenance that this needs.
    pub(super) fn fill<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &mut File) -> Maintenance {
        let slots = file.count;
        let active = file.new.iter().filter(|lr| lr.is_active()).count();
        let capacity = slots.saturating_sub(active);
        let mut queue = self.gather(vgic, machine, file, 0b11, Queue::new(slots));
        let mut excluded = 0;
        if queue.exceeds(capacity) {
            let control = machine.control();
            let groups = (0..2).filter(|&group| control.enables_group(group)).fold(0, |all, group| all | 1 << group);
            if groups != 0b11 {
                // What the guest does not take now must not keep out what it takes.
                excluded = 0b11 & !groups;
                queue = self.gather(vgic, machine, file, groups, queue);
            }
        }
        let mut wanted = Maintenance::NONE;
        let exceeds = queue.exceeds(capacity);
        if exceeds {
            if capacity == 0 {
                self.spill_worst(vgic, machine, file);
            }
            // The last one stays free for a hardware interrupt.
            for pick in queue.truncate(capacity.saturating_sub(1).max(1)) {
                self.drop_pick(vgic, machine, pick);
            }
            wanted = wanted.and(Maintenance::NO_PENDING);
        }
        // Priorities are in bits 23:16 of a rank.
        self.short_way_below = queue.left_out.map_or(ALL_PRIORITIES, |rank| (rank >> 16).max(1));
        self.short_way_groups = 0b11 & !excluded;
        for group in 0..2 {
            if excluded >> group & 1 == 1 {
                wanted = wanted.and(Maintenance::group_enabled(group));
            } else if exceeds {
                wanted = wanted.and(Maintenance::group_disabled(group));
            }
        }
        if self.spilled.iter().any(|&word| word != 0) {
            wanted = wanted.and(Maintenance::LIST_REGISTER_ENTRY_NOT_PRESENT);
        }
        self.place(vgic, machine, file, &queue);
        wanted
    }

    /// Collects the best pending interrupts of the groups: those in list registers, which leave the file, those in
    /// `before`, and those of the distributor.
    pub(super) fn gather<M: Machine>(
        &mut self,
        vgic: &Vgic,
        machine: &mut M,
        file: &mut File,
        groups: u32,
        before: Queue,
    ) -> Queue {
        let mut queue = Queue::new(before.limit);
        let resident = file.new.iter_mut().filter(|lr| lr.is_pending() && !lr.is_active());
        let resident = resident.map(core::mem::take).chain(before.iter().map(|pick| pick.lr));
        for lr in resident.filter(|lr| lr.is_valid()) {
            let pick = Pick { rank: lr.rank(), lr };
            let out = if groups >> lr.group() & 1 == 1 { queue.insert(pick) } else { Some(pick) };
            if let Some(out) = out {
                self.drop_pick(vgic, machine, out);
            }
        }
        let groups = groups & vgic.groups.load(SeqCst);
        for word in 0..=vgic.spis.len() {
            let Some(bank) = vgic.bank(self.me, word) else { continue };
            let ready = bank.ready();
            if ready == 0 {
                continue;
            }
            let (pending, active) = file.state(word);
            for bit in bits(ready & !pending & !active) {
                let template = bank.irq(bit).template();
                // One that is in the queue was in a list register, and is not given up here.
                if groups >> template.group() & 1 == 0
                    || queue.holds(template.intid())
                    || !self.may_claim(vgic, bank, bit)
                {
                    continue;
                }
                if let Some(out) = queue.insert(Pick { rank: template.rank(), lr: Lr::EMPTY }) {
                    self.drop_pick(vgic, machine, out);
                }
            }
        }
        queue
    }

    /// Tells whether an interrupt is this vCPU's to deliver.
    pub(super) fn may_claim(&mut self, vgic: &Vgic, bank: &Bank, bit: u32) -> bool {
        if bank.home.is_some() {
            return true;
        }
        let holder = bank.irq(bit).holder();
        if vgic.target(bank, bit) == Some(self.me) {
            return holder.is_none_or(|holder| holder == self.me);
        }
        if holder == Some(self.me) {
            // Ended since it was last seen here, and now another's.
            bank.irq(bit).release(self.me);
            self.tell_target(vgic, bank, bit);
        }
        false
    }

    /// Returns a pick that gets no list register to where it came from.
    pub(super) fn drop_pick<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, pick: Pick) {
        if pick.lr.is_valid()
            && let Some(bank) = vgic.bank(self.me, pick.lr.intid().index() >> 5)
        {
            self.put_back(vgic, machine, bank, pick.lr);
        }
    }

    /// Writes the picks into the list registers that hold nothing active, in their order.
    pub(super) fn place<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &mut File, queue: &Queue) {
        let mut picks = queue.iter();
        let count = file.count;
        for slot in file.new.iter_mut().take(count).filter(|slot| !slot.is_active()) {
            *slot = picks
                .by_ref()
                .find_map(|pick| if pick.lr.is_valid() { Some(pick.lr) } else { self.claim(vgic, machine, pick.rank) })
                .unwrap_or(Lr::EMPTY);
        }
    }

    /// Takes an interrupt from the distributor, or returns `None`: it is no longer there to take.
    pub(super) fn claim<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, rank: u32) -> Option<Lr> {
        let intid = Intid::new(rank & 0xffff);
        let bit = intid.get() & 31;
        let mask = 1 << bit;
        let bank = vgic.bank(self.me, intid.index() >> 5)?;
        let irq = bank.irq(bit);
        if bank.home.is_none() && !irq.claim(self.me) {
            return None;
        }
        let mut lr = irq.template().pending();
        let latched = bank.latch.fetch_and(!mask, SeqCst) & mask != 0;
        if let Some(source) = self.source(vgic, bank, bit) {
            let from = source.load(SeqCst).trailing_zeros() & 7;
            merge_source(bank, mask, source, from);
            lr = lr.with_source(from);
        }
        if !latched {
            bank.soft.fetch_and(!mask, SeqCst);
            if bank.pending() & mask == 0 {
                irq.release(self.me);
                self.tell_target(vgic, bank, bit);
                return None;
            }
        }
        // Whoever disables or moves it after this sees who has it, and recalls it.
        if bank.enable.load(SeqCst) & mask == 0 || vgic.target(bank, bit) != Some(self.me) {
            self.put_back(vgic, machine, bank, lr);
            return None;
        }
        if !lr.is_hardware() && bank.pending() & mask != 0 {
            lr = lr.with_eoi_maintenance();
        }
        Some(lr)
    }

    /// Makes room for something pending by taking the least urgent active interrupt out of the list registers.
    pub(super) fn spill_worst<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &mut File) {
        let worst = file.new.iter_mut().filter(|lr| lr.is_active()).max_by_key(|lr| lr.rank());
        let Some(lr) = worst.map(core::mem::take) else { return };
        let (word, mask) = (lr.intid().index() >> 5, 1 << (lr.intid().get() & 31));
        let Some(bank) = vgic.bank(self.me, word) else { return };
        bank.active.fetch_or(mask, SeqCst);
        if let Some(spilled) = self.spilled.get_mut(word) {
            *spilled |= mask;
        }
        if lr.is_pending() {
            self.put_back(vgic, machine, bank, lr);
        }
    }
}
