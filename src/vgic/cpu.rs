// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in the list registers of one vCPU. Only the CPU that runs the vCPU touches this.
//!
//! The list registers themselves say what is in them; nothing is shadowed, so that the way of a hardware interrupt into
//! a free list register ([`CpuInterface::hardware_lr`]) writes no memory. Everything else goes through
//! [`CpuInterface::refresh`]: read the list registers back, settle what the guest and other vCPUs did, choose what is in
//! them from now on.
//!
//! What is chosen: the pending interrupts of the best rank (priority, then id), behind those that are active. When not
//! all pending ones fit, one list register is kept free for hardware interrupts, and maintenance is asked for when no
//! pending one is left. When all list registers are active and something is pending, the worst active one is *spilled*:
//! its EOI finds no list register and is counted (EOIcount), and since a guest ends interrupts in the reverse of the
//! order in which it took them, the count names them by priority. With the guest's EOImode set, an EOI drops the
//! priority only, and deactivation arrives by a trapped write to DIR.

use core::sync::atomic::{AtomicU8, Ordering::SeqCst};

use super::bank::Bank;
use super::lr::Lr;
use super::machine::{Machine, Maintenance};
use super::outcome::{Edit, HwBits, Operation, VcpuMask, bits};
use super::recall::{Mailbox, Posted};
use super::{ATTEND_SGI, Model, SGIS, Vgic};
use crate::id::{Intid, VcpuId};

/// The most list registers a GIC has.
pub(super) const MAX_LRS: usize = 16;
/// Above every priority.
const ALL_PRIORITIES: u32 = 0x100;

/// The part of a vCPU's interrupt state that its CPU alone touches.
#[derive(Debug)]
pub struct CpuInterface {
    me: VcpuId,
    lr_count: u32,
    /// Only priorities below this may take the short way into a list register: that of the best one that waits for a
    /// list register, 0x100 when none waits, 0 while the vCPU is off.
    short_way_below: u32,
    /// The maintenance interrupts chosen last.
    maintenance: Maintenance,
    /// Active ones of this vCPU that are in no list register, by word.
    spilled: [u32; 32],
    /// vCPUs to be kicked at the end of a refresh.
    kicks: VcpuMask,
}

/// The list registers, read back.
struct File {
    /// What was in them; empty where nothing was.
    old: [Lr; MAX_LRS],
    /// What will be; only valid ones and empty ones.
    new: [Lr; MAX_LRS],
    count: usize,
}

/// A pending interrupt that may get a list register.
#[derive(Clone, Copy, Default)]
struct Pick {
    rank: u32,
    /// As it was in a list register; empty when it comes from the distributor.
    lr: Lr,
}

/// The best picks, sorted.
struct Queue {
    picks: [Pick; MAX_LRS],
    len: usize,
    limit: usize,
    /// The best rank of what did not fit.
    left_out: Option<u32>,
}

impl CpuInterface {
    /// Makes the interface of a vCPU that is off, on a CPU with `lr_count` list registers (1 to 16).
    pub fn new(vcpu: VcpuId, lr_count: u32) -> Self {
        Self {
            me: vcpu,
            lr_count: lr_count.clamp(1, MAX_LRS as u32),
            short_way_below: 0,
            maintenance: Maintenance::NONE,
            spilled: [0; 32],
            kicks: VcpuMask::NONE,
        }
    }

    /// Returns the vCPU.
    pub fn vcpu(&self) -> VcpuId {
        self.me
    }

    /// Returns the list register value for a linked interrupt that the hardware has just delivered, or `None`: it is
    /// not this partition's, its group is disabled in the distributor, or the vCPU is off. The caller puts it into a free list register.
    #[inline(always)]
    pub fn hardware_lr(&self, vgic: &Vgic, intid: Intid) -> Option<Lr> {
        let bank = vgic.bank(self.me, intid.index() >> 5)?;
        let template = bank.irq(intid.get() & 31).template();
        let deliverable = template.is_hardware()
            && u32::from(template.priority()) < self.short_way_below
            && vgic.groups.load(SeqCst) >> template.group() & 1 == 1;
        deliverable.then(|| template.pending())
    }

    /// Takes a linked interrupt that the hardware has just delivered, when [`CpuInterface::hardware_lr`] or the free
    /// list registers do not allow the short way. Returns whether it was one.
    pub fn take_hardware<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, intid: Intid) -> bool {
        let (word, mask) = (intid.index() >> 5, 1 << (intid.get() & 31));
        let Some(bank) = vgic.bank(self.me, word).filter(|bank| bank.linked & mask != 0) else {
            return false;
        };
        bank.latch.fetch_or(mask, SeqCst);
        if bank.enable.load(SeqCst) & mask == 0 {
            // Disabled on its way here.
            let taken = bank.latch.fetch_and(!mask, SeqCst) & mask;
            machine.change(&bank.given_back(word, taken).into());
        } else if self.is_running() {
            self.refresh(vgic, machine, Edit::default());
        }
        true
    }

    /// Does what a kick asks for.
    pub fn attend<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        let Some(shared) = vgic.vcpu(self.me).filter(|_| self.is_running()) else { return };
        match shared.attention.swap(0, SeqCst) {
            0 => {}
            ATTEND_SGI => self.deliver_sgi(vgic, machine),
            _ => self.refresh(vgic, machine, Edit::default()),
        }
    }

    /// Carries out an edit of one's own if one of its interrupts is in a list register or spilled.
    pub(super) fn edit_held<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, edit: Edit) {
        let spilled = self.spilled.get(edit.word).is_some_and(|&word| word & edit.mask != 0);
        let used = !machine.free_lrs() & self.all_lrs();
        let held = spilled
            || bits(used).any(|index| {
                let intid = machine.read_lr(index).intid();
                intid.index() >> 5 == edit.word && edit.mask >> (intid.get() & 31) & 1 == 1
            });
        if held {
            self.refresh(vgic, machine, edit);
        }
    }

    /// Puts pending SGIs into list registers without looking at anything else, if that is certain to be right.
    pub(super) fn deliver_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        if self.try_deliver_sgi(vgic, machine).is_none() {
            self.refresh(vgic, machine, Edit::default());
        }
    }

    fn try_deliver_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) -> Option<()> {
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

    /// Reads the list registers back, carries out `edit` and what other vCPUs ask for, and chooses anew.
    pub fn refresh<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, edit: Edit) {
        let Some(shared) = vgic.vcpu(self.me).filter(|_| self.is_running()) else { return };
        let ticket = shared.mailbox.drawn();
        shared.attention.store(0, SeqCst);
        let mut file = File::read(machine, self.lr_count);
        self.settle_ends(vgic, machine, &file);
        self.carry_out(vgic, machine, &mut file, edit, None);
        for asker in &vgic.vcpus {
            if let Some(posted) = asker.mailbox.read(self.me) {
                self.carry_out_posted(vgic, machine, &mut file, &asker.mailbox, &posted);
            }
        }
        for slot in file.new.iter_mut().filter(|slot| slot.is_valid()) {
            *slot = self.review(vgic, machine, *slot);
        }
        let wanted = self.fill(vgic, machine, &mut file);
        file.write(machine);
        if wanted != self.maintenance || wanted != Maintenance::NONE {
            self.maintenance = wanted;
            machine.set_maintenance(wanted);
        }
        shared.mailbox.finish(ticket);
        let kicks = core::mem::take(&mut self.kicks).without(self.me);
        if !kicks.is_empty() {
            machine.kick(kicks);
        }
    }

    /// Begins to run: from now on the vCPU gets interrupts. The list registers are empty.
    pub fn start<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        let Some(shared) = vgic.vcpu(self.me) else { return };
        self.spilled = [0; 32];
        self.maintenance = Maintenance::NONE;
        machine.set_maintenance(Maintenance::NONE);
        shared.mailbox.finish(shared.mailbox.drawn());
        vgic.online.fetch_or(VcpuMask::of(self.me).bits(), SeqCst);
        self.short_way_below = ALL_PRIORITIES;
        let enable = shared.bank.enable.load(SeqCst) & shared.bank.linked;
        let disable = shared.bank.linked & !enable;
        let deactivate = shared.bank.linked & !shared.bank.active.load(SeqCst);
        machine.change(&HwBits { disable, deactivate, enable, ..HwBits::default() }.into());
        self.refresh(vgic, machine, Edit::default());
    }

    /// Ceases to run: what is in the list registers goes back to the distributor, where active ones stay active. The
    /// list registers are empty afterwards.
    pub fn stop<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        let Some(shared) = vgic.vcpu(self.me) else { return };
        vgic.online.fetch_and(!VcpuMask::of(self.me).bits(), SeqCst);
        self.short_way_below = 0;
        let mut file = File::read(machine, self.lr_count);
        self.settle_ends(vgic, machine, &file);
        for slot in file.new.iter_mut().filter(|slot| slot.is_valid()) {
            let (lr, word, mask) = (*slot, slot.intid().index() >> 5, 1 << (slot.intid().get() & 31));
            *slot = Lr::EMPTY;
            let Some(bank) = vgic.bank(self.me, word) else { continue };
            if lr.is_active() {
                bank.active.fetch_or(mask, SeqCst);
            }
            if lr.is_pending() {
                self.put_back(vgic, machine, bank, lr);
            }
        }
        file.write(machine);
        self.spilled = [0; 32];
        self.maintenance = Maintenance::NONE;
        machine.set_maintenance(Maintenance::NONE);
        for bank in &vgic.spis {
            bank.irqs().for_each(|irq| irq.release(self.me));
        }
        // A private line, the timer's, says by itself whether it is still there when the vCPU comes back.
        let linked = shared.bank.linked;
        let waiting = shared.bank.latch.fetch_and(!linked, SeqCst) & linked;
        let mut hw = shared.bank.given_back(0, waiting);
        hw.disable = linked;
        machine.change(&hw.into());
        shared.mailbox.finish(shared.mailbox.drawn());
        machine.kick(core::mem::take(&mut self.kicks));
    }

    fn is_running(&self) -> bool {
        self.short_way_below != 0
    }

    fn all_lrs(&self) -> u32 {
        !(!0u32).checked_shl(self.lr_count).unwrap_or(0)
    }

    /// Ends as many spilled interrupts as EOIs found no list register, in the order of their priority.
    fn settle_ends<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &File) {
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

    fn spilled_ranks<'a>(&'a self, vgic: &'a Vgic) -> impl Iterator<Item = u32> + 'a {
        self.spilled.iter().enumerate().filter(|&(_, &word)| word != 0).flat_map(move |(word, &mask)| {
            let bank = vgic.bank(self.me, word);
            bits(mask).filter_map(move |bit| Some(bank?.irq(bit).template().rank()))
        })
    }

    fn end_spilled<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, intid: Intid, file: &File) {
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
    fn carry_out_posted<M: Machine>(
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
    fn carry_out<M: Machine>(
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
                    }
                }
            }
            Operation::ClearPending => {
                let deactivate = file.change(word, mask, Lr::is_pending, Lr::not_pending);
                machine.change(&HwBits { word, deactivate, ..HwBits::default() }.into());
            }
            Operation::ClearActive => {
                if let Some(spilled) = self.spilled.get_mut(word) {
                    *spilled &= !mask;
                }
                let deactivate = file.change(word, mask, Lr::is_active, Lr::not_active);
                machine.change(&HwBits { word, deactivate, ..HwBits::default() }.into());
            }
            Operation::Review | Operation::SetEnable | Operation::ClearEnable | Operation::SetActive => {}
        }
        self.let_go(vgic, bank, file, mask);
    }

    /// Gives up SPIs that this vCPU once claimed and no longer has, and tells whom they concern.
    fn let_go(&mut self, vgic: &Vgic, bank: &Bank, file: &File, mask: u32) {
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
    fn tell_target(&mut self, vgic: &Vgic, bank: &Bank, bit: u32) {
        if bank.ready() >> bit & 1 == 1
            && let Some(target) = vgic.target(bank, bit)
            && target != self.me
        {
            self.kicks = self.kicks.union(vgic.summon(target));
        }
    }

    /// Puts a pending interrupt back into the distributor and lets go of it.
    fn put_back<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, bank: &Bank, lr: Lr) {
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
    fn source<'a>(&self, vgic: &'a Vgic, bank: &Bank, bit: u32) -> Option<&'a AtomicU8> {
        if vgic.model == Model::V3 || bank.home.is_none() {
            return None;
        }
        vgic.vcpu(self.me)?.sources.get(bit as usize)
    }

    /// Brings one valid list register up to date with the distributor. Returns what is left of it.
    fn review<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, lr: Lr) -> Lr {
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

    /// Chooses what is in the list registers, and returns the maintenance that this needs.
    fn fill<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &mut File) -> Maintenance {
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
    fn gather<M: Machine>(
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
                if groups >> template.group() & 1 == 0 || !self.may_claim(vgic, bank, bit) {
                    continue;
                }
                if queue.holds(template.rank()) {
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
    fn may_claim(&mut self, vgic: &Vgic, bank: &Bank, bit: u32) -> bool {
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
    fn drop_pick<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, pick: Pick) {
        if pick.lr.is_valid()
            && let Some(bank) = vgic.bank(self.me, pick.lr.intid().index() >> 5)
        {
            self.put_back(vgic, machine, bank, pick.lr);
        }
    }

    /// Writes the picks into the list registers that hold nothing active, in their order.
    fn place<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &mut File, queue: &Queue) {
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
    fn claim<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, rank: u32) -> Option<Lr> {
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
    fn spill_worst<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, file: &mut File) {
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

    /// Returns the sources of pending GICv2 SGIs in list registers, one byte for each of `count` SGIs from `first` on.
    pub(super) fn held_sources<M: Machine>(&self, machine: &mut M, first: u32, count: u32) -> u32 {
        let file = File::read(machine, self.lr_count);
        file.new.iter().filter(|lr| lr.is_pending()).fold(0, |value, lr| {
            match lr.intid().get().checked_sub(first).filter(|&n| n < count) {
                Some(n) => value | 1 << (8 * n + lr.source()),
                None => value,
            }
        })
    }

    /// Takes pending GICv2 SGIs of these sources out of the list registers.
    pub(super) fn forget_sources<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, first: u32, from: u32) {
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

    /// Returns which interrupts of a word are pending and active in list registers.
    pub(super) fn held_state<M: Machine>(&self, machine: &mut M, word: usize) -> (u32, u32) {
        File::read(machine, self.lr_count).state(word)
    }
}

/// Notes that a GICv2 SGI from the CPU interface `from` is in a list register, and keeps it latched for the others.
fn merge_source(bank: &Bank, mask: u32, sources: &AtomicU8, from: u32) {
    let mine = 1u8 << (from & 7);
    if sources.fetch_and(!mine, SeqCst) & !mine == 0 {
        bank.latch.fetch_and(!mask, SeqCst);
    }
    // A sender notes itself first and latches then.
    if sources.load(SeqCst) != 0 {
        bank.latch.fetch_or(mask, SeqCst);
    }
}

impl File {
    fn read<M: Machine>(machine: &mut M, lr_count: u32) -> Self {
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

    fn write<M: Machine>(&self, machine: &mut M) {
        for (index, (old, new)) in (0..self.count as u32).zip(self.old.iter().zip(&self.new)) {
            if old != new {
                machine.write_lr(index, *new);
            }
        }
    }

    /// Returns which interrupts of a word are pending and active.
    fn state(&self, word: usize) -> (u32, u32) {
        let here = self.new.iter().filter(|lr| lr.is_valid() && lr.intid().index() >> 5 == word);
        here.fold((0, 0), |(pending, active), lr| {
            let mask = 1 << (lr.intid().get() & 31);
            (pending | if lr.is_pending() { mask } else { 0 }, active | if lr.is_active() { mask } else { 0 })
        })
    }

    /// Applies `change` where `applies` holds; returns the hardware ones of which nothing is left.
    fn change(&mut self, word: usize, mask: u32, applies: fn(Lr) -> bool, change: fn(Lr) -> Lr) -> u32 {
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

impl Queue {
    fn new(limit: usize) -> Self {
        Self { picks: [Pick::default(); MAX_LRS], len: 0, limit: limit.min(MAX_LRS), left_out: None }
    }

    fn iter(&self) -> impl Iterator<Item = Pick> + '_ {
        self.picks.iter().take(self.len).copied()
    }

    fn holds(&self, rank: u32) -> bool {
        self.iter().any(|pick| pick.rank & 0xffff == rank & 0xffff)
    }

    /// Tells whether more is waiting than `capacity` list registers hold.
    fn exceeds(&self, capacity: usize) -> bool {
        self.left_out.is_some() || self.len > capacity
    }

    /// Inserts in order; returns what falls out at the end.
    fn insert(&mut self, pick: Pick) -> Option<Pick> {
        let mut carried = pick;
        for slot in self.picks.iter_mut().take(self.len) {
            if carried.rank < slot.rank {
                core::mem::swap(slot, &mut carried);
            }
        }
        if self.len < self.limit
            && let Some(slot) = self.picks.get_mut(self.len)
        {
            *slot = carried;
            self.len += 1;
            return None;
        }
        self.leave_out(carried.rank);
        Some(carried)
    }

    fn leave_out(&mut self, rank: u32) {
        self.left_out = Some(self.left_out.map_or(rank, |best| best.min(rank)));
    }

    /// Takes the last ones out until `len` are left.
    fn truncate(&mut self, len: usize) -> impl Iterator<Item = Pick> + use<> {
        let (picks, old) = (self.picks, self.len);
        self.len = old.min(len);
        if let Some(first) = picks.get(len).filter(|_| old > len) {
            self.leave_out(first.rank);
        }
        picks.into_iter().take(old).skip(len)
    }
}
