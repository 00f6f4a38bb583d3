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

mod file;
mod fill;
mod queue;
mod review;
mod sgi;

use core::sync::atomic::Ordering::SeqCst;

use super::Vgic;
use super::bank::Bank;
use super::lr::Lr;
use super::machine::{Machine, Maintenance};
use super::outcome::{Edit, VcpuMask, bits};
use crate::id::{Intid, VcpuId};
use file::File;

/// The most list registers a GIC has.
pub(super) const MAX_LRS: usize = 16;
/// Above every priority.
const ALL_PRIORITIES: u32 = 0x100;

/// The part of a vCPU's interrupt state that its CPU alone touches.
#[derive(Debug)]
pub struct CpuInterface {
    me: VcpuId,
    /// It alone.
    mask: VcpuMask,
    lr_count: u32,
    /// One bit for each list register.
    all_lrs: u32,
    /// Whether the vCPU takes interrupts.
    is_running: bool,
    /// Only priorities below this may take the short way into a list register: that of the best one that waits for a
    /// list register, 0x100 when none waits, 0 while the vCPU is off.
    short_way_below: u32,
    /// Only these groups may take it, one bit each: both, or those that the guest takes while more is pending than there are
    /// list registers. One that it does not take would keep others out of the last one.
    short_way_groups: u32,
    /// The list registers, one bit each, of which the first may take an SGI when all are free; 0 while the vCPU is off or
    /// maintenance is wanted.
    lrs_for_sgi: u32,
    /// The maintenance interrupts chosen last.
    maintenance: Maintenance,
    /// Active ones of this vCPU that are in no list register, by word.
    spilled: [u32; 32],
    /// vCPUs to be kicked at the end of a refresh.
    kicks: VcpuMask,
}

impl CpuInterface {
    /// Where the vectors find which priorities may take the short way, as 32 bits.
    pub const SHORT_WAY_BELOW: usize = core::mem::offset_of!(Self, short_way_below);
    /// ... and which groups, as 32 bits.
    pub const SHORT_WAY_GROUPS: usize = core::mem::offset_of!(Self, short_way_groups);
    /// ... and which list registers must be free for an SGI to take it, as 32 bits.
    pub const LRS_FOR_SGI: usize = core::mem::offset_of!(Self, lrs_for_sgi);

    /// Makes the interface of a vCPU that is off, on a CPU with `lr_count` list registers (1 to 16).
    pub fn new(vcpu: VcpuId, lr_count: u32) -> Self {
        let lr_count = lr_count.clamp(1, MAX_LRS as u32);
        Self {
            me: vcpu,
            mask: VcpuMask::of(vcpu),
            lr_count,
            all_lrs: (1 << lr_count) - 1,
            is_running: false,
            short_way_below: 0,
            short_way_groups: 0b11,
            lrs_for_sgi: 0,
            maintenance: Maintenance::NONE,
            spilled: [0; 32],
            kicks: VcpuMask::NONE,
        }
    }

    /// Returns the vCPU.
    #[inline(always)]
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
            && (vgic.groups.load(SeqCst) & self.short_way_groups) >> template.group() & 1 == 1;
        deliverable.then(|| template.pending())
    }

    /// Takes a linked interrupt that the hardware has just delivered, when [`CpuInterface::hardware_lr`] or the free
    /// list registers do not allow the short way. Returns whether it was one.
    pub fn take_hardware<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, intid: Intid) -> bool {
        let (word, mask) = (intid.index() >> 5, 1 << (intid.get() & 31));
        let Some(bank) = vgic.bank(self.me, word).filter(|bank| bank.linked & mask != 0) else {
            return false;
        };
        if bank.home.is_none() {
            // It was not active physically: whoever had it in a list register has ended it, unseen.
            bank.irq(intid.get() & 31).forget_holder();
        }
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

    /// Returns the set of this vCPU alone.
    #[inline(always)]
    pub(super) fn mask(&self) -> VcpuMask {
        self.mask
    }

    /// Does what a kick asks for.
    pub fn attend<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        let Some(shared) = vgic.vcpu(self.me).filter(|_| self.is_running()) else { return };
        if shared.attention.swap(false, SeqCst) {
            self.refresh(vgic, machine, Edit::default());
        }
    }

    /// Takes the SGIs that were made pending here.
    #[inline(never)]
    pub fn attend_sgi<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        if self.is_running() {
            self.deliver_sgi(vgic, machine);
        }
    }

    /// Carries out an edit of one's own if one of its interrupts is in a list register or spilled.
    pub(super) fn edit_held<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, edit: Edit) {
        let spilled = self.spilled.get(edit.word).is_some_and(|&word| word & edit.mask != 0);
        let used = !machine.free_lrs() & self.all_lrs;
        let held = spilled
            || bits(used).any(|index| {
                let intid = machine.read_lr(index).intid();
                intid.index() >> 5 == edit.word && edit.mask >> (intid.get() & 31) & 1 == 1
            });
        if held {
            self.refresh(vgic, machine, edit);
        }
    }

    /// Reads the list registers back, carries out `edit` and what other vCPUs ask for, and chooses anew.
    pub fn refresh<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M, edit: Edit) {
        let Some(shared) = vgic.vcpu(self.me).filter(|_| self.is_running()) else { return };
        // An asker draws first and calls for attention then.
        shared.attention.store(false, SeqCst);
        let ticket = shared.mailbox.drawn();
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
            machine.set_maintenance(wanted);
        }
        self.note_maintenance(wanted);
        shared.mailbox.finish(ticket);
        let kicks = core::mem::take(&mut self.kicks).without(self.me);
        if !kicks.is_empty() {
            machine.kick(kicks);
        }
    }

    /// Begins to run: from now on the vCPU gets interrupts. The list registers are empty, nothing is spilled, and its linked
    /// PPIs are disabled and, unless the guest left them active, not active: so it was made, and so [`Self::stop`] leaves it.
    pub fn start<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        let Some(shared) = vgic.vcpu(self.me) else { return };
        machine.set_maintenance(Maintenance::NONE);
        shared.mailbox.finish(shared.mailbox.drawn());
        vgic.online.fetch_or(VcpuMask::of(self.me).bits(), SeqCst);
        self.is_running = true;
        self.short_way_below = ALL_PRIORITIES;
        self.short_way_groups = 0b11;
        self.note_maintenance(Maintenance::NONE);
        let enable = shared.bank.enable.load(SeqCst) & shared.bank.linked;
        if enable != 0 {
            machine.enable(0, enable);
        }
        // Whoever makes something pending from now on sees that this vCPU runs.
        let waits = |bank: &Bank| bank.latch.load(SeqCst) | bank.line.load(SeqCst) != 0;
        if shared.mailbox.is_asked() || waits(&shared.bank) || vgic.spis.iter().any(waits) {
            self.refresh(vgic, machine, Edit::default());
        }
    }

    /// Ceases to run: what is in the list registers goes back to the distributor, where active ones stay active. The
    /// list registers are empty afterwards.
    pub fn stop<M: Machine>(&mut self, vgic: &Vgic, machine: &mut M) {
        let Some(shared) = vgic.vcpu(self.me) else { return };
        vgic.online.fetch_and(!VcpuMask::of(self.me).bits(), SeqCst);
        self.is_running = false;
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
        self.note_maintenance(Maintenance::NONE);
        machine.set_maintenance(Maintenance::NONE);
        for bank in &vgic.spis {
            let me = self.me;
            for (bit, irq) in (0..).zip(bank.irqs()).filter(|(_, irq)| irq.holder() == Some(me)) {
                irq.release(me);
                self.tell_target(vgic, bank, bit);
            }
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

    fn note_maintenance(&mut self, wanted: Maintenance) {
        self.maintenance = wanted;
        self.lrs_for_sgi = if wanted == Maintenance::NONE && self.is_running() { self.all_lrs } else { 0 };
    }

    /// Returns which list registers must be free for an SGI to go into the first one by a short way, 0 for none at all.
    #[inline(always)]
    pub(super) fn lrs_for_sgi(&self) -> u32 {
        self.lrs_for_sgi
    }

    /// Tells whether the vCPU takes interrupts.
    #[inline(always)]
    fn is_running(&self) -> bool {
        self.is_running
    }

    /// Returns which interrupts of a word are pending and active in list registers.
    pub(super) fn held_state<M: Machine>(&self, machine: &mut M, word: usize) -> (u32, u32) {
        File::read(machine, self.lr_count).state(word)
    }
}
