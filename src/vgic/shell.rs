// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries outcomes out on a [`Machine`]: the one place that knows the order of effects and waits for other vCPUs.

use core::sync::atomic::Ordering::SeqCst;

use super::cpu::CpuInterface;
use super::machine::{Machine, Patience};
use super::outcome::{Edit, HwBits, HwChange, Operation, Outcome, Own, Recall, VcpuMask};
use super::registers::{Kind, Live, Reading};
use super::{Level, Model, Quick, SgiRegister, Vgic, Width};
use crate::id::{Intid, MAX_VCPUS, VcpuId};

/// GICv2's GICD_SGIR.
const SGIR: u64 = 0xf00;
/// How often a clearing looks again. Each further round needs another vCPU to move the same interrupt at that moment.
const CLEAR_ROUNDS: u32 = 8;

/// What a recall brought.
struct Recalled {
    pending: u32,
    active: u32,
    /// Interrupts of the edit that no target took charge of.
    left: u32,
}

impl Vgic {
    /// Writes a register of the distributor. Unlisted offsets and wrong widths are ignored.
    pub fn write_distributor<M: Machine>(
        &self,
        cpu: &mut CpuInterface,
        machine: &mut M,
        offset: u64,
        width: Width,
        value: u64,
    ) {
        match self.write_quickly(cpu.vcpu(), machine, offset, width, value as u32) {
            Quick::Done => return,
            Quick::Unfinished(unfinished) => return self.finish(cpu, machine, unfinished),
            Quick::Not => {}
        }
        if self.model == Model::V2 && offset == SGIR && width == Width::Word {
            return self.send_sgir(cpu, machine, value as u32);
        }
        let me = cpu.vcpu();
        self.distributor_write(me, offset, width, value, |outcome| self.apply(cpu, machine, &outcome));
    }

    /// Reads a register of the distributor. Unlisted offsets and wrong widths read as zero.
    pub fn read_distributor<M: Machine>(
        &self,
        cpu: &mut CpuInterface,
        machine: &mut M,
        offset: u64,
        width: Width,
    ) -> u64 {
        if let Some(value) = self.read_quickly(offset, width) {
            return value;
        }
        let reading = self.distributor_read(cpu.vcpu(), offset, width);
        self.complete(cpu, machine, reading)
    }

    /// Writes a register of the redistributors, 128 KiB for each vCPU. GICv3 only.
    pub fn write_redistributor<M: Machine>(
        &self,
        cpu: &mut CpuInterface,
        machine: &mut M,
        offset: u64,
        width: Width,
        value: u64,
    ) {
        match self.write_redistributor_quickly(cpu.vcpu(), machine, offset, width, value as u32) {
            Quick::Done => return,
            Quick::Unfinished(unfinished) => return self.finish(cpu, machine, unfinished),
            Quick::Not => {}
        }
        let outcome = self.redistributor_write(cpu.vcpu(), offset, width, value);
        self.apply(cpu, machine, &outcome);
    }

    /// Reads a register of the redistributors.
    pub fn read_redistributor<M: Machine>(
        &self,
        cpu: &mut CpuInterface,
        machine: &mut M,
        offset: u64,
        width: Width,
    ) -> u64 {
        let reading = self.redistributor_read(cpu.vcpu(), offset, width);
        self.complete(cpu, machine, reading)
    }

    /// Sends the SGIs of a write to ICC_SGI1R_EL1 and its like. GICv3 only.
    pub fn send_sgi<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, register: SgiRegister, value: u64) {
        let targets = self.sgi(cpu.vcpu(), register, value);
        self.signal_sgi(cpu, machine, targets);
    }

    /// Sends the SGI of a write to GICD_SGIR. GICv2 only.
    fn send_sgir<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, value: u32) {
        let targets = self.sgir(cpu.vcpu(), value);
        self.signal_sgi(cpu, machine, targets);
    }

    fn signal_sgi<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, targets: VcpuMask) {
        let others = targets.without(cpu.vcpu());
        if !others.is_empty() {
            machine.signal(others);
        }
        if targets.contains(cpu.vcpu()) {
            cpu.attend_sgi(self, machine);
        }
    }

    /// Carries out a write to ICC_DIR_EL1 or GICC_DIR: deactivates an interrupt wherever it is active. Without effect
    /// unless the guest has set EOImode (Arm IHI 0069, 12.2.10).
    pub fn deactivate<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, intid: Intid) {
        if !machine.control().splits_eoi() || intid.get() >= 1020 {
            return;
        }
        let edit = Edit { operation: Operation::ClearActive, word: intid.index() >> 5, mask: 1 << (intid.get() & 31) };
        let outcome = self.operate(cpu.vcpu(), edit);
        self.apply(cpu, machine, &outcome);
    }

    /// Sets the line of an emulated device from an exit of one of the partition's own vCPUs.
    pub fn set_own_line<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, intid: Intid, level: Level) {
        let kicks = self.set_line(intid, level);
        if kicks.contains(cpu.vcpu()) {
            cpu.refresh(self, machine, Edit::default());
        }
        let others = kicks.without(cpu.vcpu());
        if !others.is_empty() {
            machine.kick(others);
        }
    }

    /// Carries out an outcome.
    #[inline(never)]
    pub(super) fn apply<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, outcome: &Outcome) {
        self.carry_out(cpu, machine, outcome);
        if outcome.recall.edit.operation == Operation::ClearPending {
            self.clear_stragglers(cpu, machine, outcome.recall.edit);
        }
    }

    /// Clears pending SPIs that were on their way between the distributor and a list register when a clearing looked. Each
    /// one is claimed, so that nobody else takes it meanwhile, or stays with a vCPU that has cleared it.
    fn clear_stragglers<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, edit: Edit) {
        let me = cpu.vcpu();
        let Some(bank) = self.spi_bank(edit.word) else { return };
        let mut left = edit.mask;
        let mut again = 0;
        let mut asked = [None; 32];
        for _ in 0..CLEAR_ROUNDS {
            let mut targets = VcpuMask::NONE;
            for (bit, asked) in (0..).zip(&mut asked).filter(|(bit, _)| edit.mask >> bit & 1 == 1) {
                let irq = bank.irq(bit);
                let holder = irq.holder();
                if left >> bit & 1 == 0 || holder.is_some() && holder == *asked || holder == Some(me) {
                    left &= !(1 << bit);
                } else if irq.claim(me) {
                    let taken = bank.latch.fetch_and(!(1 << bit), SeqCst) & (1 << bit) & bank.linked;
                    let deactivate = taken & !bank.active.load(SeqCst);
                    machine.change(&HwBits { word: edit.word, deactivate, ..HwBits::default() }.into());
                    irq.release(me);
                    left &= !(1 << bit);
                    // Whoever made it pending again since then was told that it is here.
                    again |= bank.ready() & (1 << bit);
                } else {
                    *asked = irq.holder();
                    targets = asked.map_or(targets, |holder| targets.with(holder));
                }
            }
            let targets = VcpuMask::new(targets.bits() & self.online().bits());
            if left == 0 {
                break;
            }
            if !targets.is_empty() {
                self.recall(cpu, machine, &Recall { targets, edit: Edit { mask: left, ..edit } });
                // While it waited, this vCPU may have served others and taken one itself.
                cpu.edit_held(self, machine, edit);
            }
        }
        if again != 0 {
            let outcome = self.wakened(bank, me, edit.word, again);
            self.carry_out(cpu, machine, &outcome);
        }
    }

    /// Carries out an outcome: hardware, then other vCPUs' list registers, then one's own, then kicks.
    fn carry_out<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, outcome: &Outcome) {
        if outcome.hw != HwChange::None {
            machine.change(&outcome.hw);
        }
        let recalled = (!outcome.recall.targets.is_empty()).then(|| self.recall(cpu, machine, &outcome.recall));
        match outcome.own {
            Own::Keep => {}
            Own::ForgetSources { first, from } => cpu.forget_sources(self, machine, first, from),
            Own::Held(edit) => cpu.edit_held(self, machine, edit),
            Own::Refresh(mut edit) => {
                if let Some(recalled) = recalled.filter(|_| edit.operation == Operation::SetPending) {
                    edit.mask &= recalled.left;
                }
                cpu.refresh(self, machine, edit);
            }
        }
        let kick = outcome.kick.bits() & !outcome.recall.targets.bits();
        if kick != 0 {
            machine.kick(VcpuMask::new(kick));
        }
    }

    /// Has other vCPUs carry out an edit on their list registers, and waits until they have or patience ends.
    fn recall<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, recall: &Recall) -> Recalled {
        let Some(mine) = self.vcpu(cpu.vcpu()).map(|vcpu| &vcpu.mailbox) else {
            return Recalled { pending: 0, active: 0, left: recall.edit.mask };
        };
        mine.post(recall);
        let mut tickets = [0; MAX_VCPUS];
        for target in recall.targets.iter() {
            if let (Some(shared), Some(ticket)) = (self.vcpu(target), tickets.get_mut(target.index())) {
                *ticket = shared.mailbox.draw();
            }
            self.summon(target);
        }
        machine.kick(recall.targets);
        let late = |target: VcpuId| {
            let done = self.vcpu(target).zip(tickets.get(target.index()));
            self.online().contains(target) && done.is_some_and(|(shared, &ticket)| !shared.mailbox.is_done(ticket))
        };
        'patience: for target in recall.targets.iter() {
            while late(target) {
                // The one waited for may be waiting for this one.
                if mine.is_asked() {
                    cpu.refresh(self, machine, Edit::default());
                }
                if machine.pause() == Patience::Over {
                    break 'patience;
                }
            }
        }
        let (pending, active, left) = mine.take_down();
        Recalled { pending, active, left }
    }

    /// Adds to a reading what only list registers and hardware know.
    fn complete<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, reading: Reading) -> u64 {
        match reading {
            Reading::Value(value) => value,
            Reading::Sources { known, first, count } => u64::from(known | cpu.held_sources(machine, first, count)),
            Reading::Live { known, of, live } => u64::from(known | self.live_state(cpu, machine, of, live)),
        }
    }

    fn live_state<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, edit: Edit, live: Live) -> u32 {
        let me = cpu.vcpu();
        let (mut pending, mut active) = (0, 0);
        if live.own {
            (pending, active) = cpu.held_state(machine, edit.word);
            pending |= machine.pending(edit.word) & live.linked;
        }
        let targets = live.others.without(me);
        if !targets.is_empty() {
            let recalled = self.recall(cpu, machine, &Recall { targets, edit });
            pending |= recalled.pending;
            active |= recalled.active;
        }
        match live.kind {
            Kind::Pending => pending,
            Kind::Active => active,
        }
    }

    /// Carries out a private edit of another vCPU that is off: nobody else touches its state, and its physical PPIs
    /// are set up when it starts.
    pub(super) fn operate_for(&self, me: VcpuId, who: VcpuId, edit: Edit) -> Outcome {
        if who == me {
            return self.operate(me, edit);
        }
        if self.online().contains(who) {
            let targets = VcpuMask::of(who);
            return Outcome { recall: Recall { targets, edit }, ..Outcome::NONE };
        }
        let _ = self.operate(who, edit);
        Outcome::NONE
    }
}

impl HwBits {
    /// Disables and cleans every interrupt of `mask`: not pending, not active.
    pub const fn clean(word: usize, mask: u32) -> Self {
        Self { word, disable: mask, set_pending: 0, clear_pending: mask, activate: 0, deactivate: mask, enable: 0 }
    }
}
