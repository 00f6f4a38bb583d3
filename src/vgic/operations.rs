// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a write to each kind of distributor register does to the state, and what it asks of hardware, of the own list
//! registers and of other vCPUs. Reads are at the end.

use core::sync::atomic::Ordering::SeqCst;

use super::Vgic;
use super::bank::Bank;
use super::outcome::{Edit, Enabled, HwBits, HwChange, Operation, Outcome, Own, Recall, VcpuMask, bits};
use crate::id::VcpuId;

impl Vgic {
    /// Carries out an edit of `me`: of SPIs, or (word 0) of its own private interrupts.
    pub(super) fn operate(&self, me: VcpuId, edit: Edit) -> Outcome {
        let Some(bank) = self.bank(me, edit.word) else {
            return Outcome::NONE;
        };
        match edit.operation {
            Operation::Review => Outcome { own: Own::Held(edit), ..Outcome::NONE },
            Operation::SetEnable => self.set_enable(bank, me, edit),
            Operation::ClearEnable => self.clear_enable(bank, me, edit),
            Operation::SetPending => self.set_pending(bank, me, edit),
            Operation::ClearPending => self.clear_pending(bank, me, edit),
            Operation::SetActive => self.set_active(bank, me, edit),
            Operation::ClearActive => self.clear_active(bank, me, edit),
        }
    }

    fn set_enable(&self, bank: &Bank, me: VcpuId, edit: Edit) -> Outcome {
        let newly = edit.mask & !bank.enable.fetch_or(edit.mask, SeqCst);
        let mut outcome = Outcome::NONE;
        let linked = newly & bank.linked & !bank.unrouted.load(SeqCst);
        if linked != 0 {
            outcome.hw = HwChange::Enable { word: edit.word, mask: linked };
        }
        self.wake(bank, me, edit.word, newly & bank.pending(), &mut outcome);
        outcome
    }

    fn clear_enable(&self, bank: &Bank, me: VcpuId, edit: Edit) -> Outcome {
        let gone = edit.mask & bank.enable.fetch_and(!edit.mask, SeqCst);
        if gone == 0 {
            return Outcome::NONE;
        }
        let linked = gone & bank.linked;
        let taken = bank.latch.fetch_and(!linked, SeqCst) & linked;
        let hw = HwBits { disable: linked, ..bank.given_back(edit.word, taken) };
        let review = Edit::review(edit.word, gone);
        Outcome {
            hw: hw.into(),
            own: Own::Held(review),
            recall: Recall { targets: self.involved(bank, me, gone), edit: review },
            kick: VcpuMask::NONE,
        }
    }

    /// A linked interrupt is made pending physically, unless it waits here or in a list register already: whether it
    /// does is found out by the edit's way through the list registers.
    fn set_pending(&self, bank: &Bank, me: VcpuId, edit: Edit) -> Outcome {
        bank.soft.fetch_or(edit.mask & !bank.edge.load(SeqCst), SeqCst);
        bank.latch.fetch_or(edit.mask & !bank.linked, SeqCst);
        let targets = self.involved(bank, me, edit.mask);
        let mut outcome = Outcome { recall: Recall { targets, edit }, ..Outcome::NONE };
        self.wake(bank, me, edit.word, edit.mask & !bank.linked & bank.enable.load(SeqCst), &mut outcome);
        if edit.mask & bank.linked != 0 {
            outcome.own = Own::Refresh(edit);
        }
        outcome
    }

    fn clear_pending(&self, bank: &Bank, me: VcpuId, edit: Edit) -> Outcome {
        bank.soft.fetch_and(!edit.mask, SeqCst);
        let taken = bank.latch.fetch_and(!edit.mask, SeqCst) & edit.mask & bank.linked;
        let hw = HwBits {
            word: edit.word,
            clear_pending: edit.mask & bank.linked,
            deactivate: taken & !bank.active.load(SeqCst),
            ..HwBits::default()
        };
        Outcome {
            hw: hw.into(),
            own: Own::Held(edit),
            recall: Recall { targets: self.involved(bank, me, edit.mask), edit },
            kick: VcpuMask::NONE,
        }
    }

    fn set_active(&self, bank: &Bank, me: VcpuId, edit: Edit) -> Outcome {
        bank.active.fetch_or(edit.mask, SeqCst);
        let review = Edit::review(edit.word, edit.mask);
        let hw = HwBits { word: edit.word, activate: edit.mask & bank.linked, ..HwBits::default() };
        Outcome {
            hw: hw.into(),
            own: Own::Held(review),
            recall: Recall { targets: self.involved(bank, me, edit.mask), edit: review },
            kick: VcpuMask::NONE,
        }
    }

    fn clear_active(&self, bank: &Bank, me: VcpuId, edit: Edit) -> Outcome {
        let taken = bank.active.fetch_and(!edit.mask, SeqCst) & edit.mask;
        let hw =
            HwBits { word: edit.word, deactivate: taken & bank.linked & !bank.latch.load(SeqCst), ..HwBits::default() };
        let mut outcome = Outcome {
            hw: hw.into(),
            own: Own::Held(edit),
            recall: Recall { targets: self.involved(bank, me, edit.mask), edit },
            kick: VcpuMask::NONE,
        };
        self.wake(bank, me, edit.word, taken & bank.ready(), &mut outcome);
        if outcome.own != Own::Held(edit) {
            outcome.own = Own::Refresh(edit);
        }
        outcome
    }

    /// Sets an SPI's route: IROUTER's affinity or ITARGETSR's mask.
    pub(super) fn set_route(&self, me: VcpuId, word: usize, bit: u32, route: u32) -> Outcome {
        let Some(bank) = self.spi_bank(word) else {
            return Outcome::NONE;
        };
        let mask = 1 << (bit & 31);
        let irq = bank.irq(bit);
        let old = self.route_target(irq.route.swap(route, SeqCst));
        let new = self.route_target(route);
        if old == new {
            return Outcome::NONE;
        }
        match new {
            Some(_) => bank.unrouted.fetch_and(!mask, SeqCst),
            None => bank.unrouted.fetch_or(mask, SeqCst),
        };
        let mut outcome = Outcome::NONE;
        let review = Edit::review(word, mask);
        let mut targets = irq.holder().map_or(VcpuMask::NONE, VcpuMask::of);
        if bank.linked & mask != 0 {
            let state = if bank.enable.load(SeqCst) & mask != 0 { Enabled::Yes } else { Enabled::No };
            outcome.hw = HwChange::Route { intid: irq.template().intid(), vcpu: new, state };
            targets = targets.union(old.map_or(VcpuMask::NONE, VcpuMask::of));
        }
        outcome.own = Own::Held(review);
        outcome.recall = Recall { targets: self.others(me, targets), edit: review };
        self.wake(bank, me, word, mask & bank.ready(), &mut outcome);
        outcome
    }

    /// Returns what is to be done after groups or priorities of `mask` were changed; other vCPUs see to it when they are
    /// kicked.
    pub(super) fn rank_changed(&self, bank: &Bank, me: VcpuId, word: usize, mask: u32) -> Outcome {
        let mut outcome = Outcome { own: Own::Held(Edit::review(word, mask)), ..Outcome::NONE };
        let holders = match bank.home {
            Some(home) => self.others(me, VcpuMask::of(home)),
            None => self.involved(bank, me, mask),
        };
        outcome.kick = holders.iter().fold(VcpuMask::NONE, |all, vcpu| all.union(self.summon(vcpu)));
        self.wake(bank, me, word, mask & bank.ready(), &mut outcome);
        outcome
    }

    /// Sets which of the interrupts of `mask` are edge-triggered.
    pub(super) fn set_edge(&self, bank: &Bank, me: VcpuId, word: usize, mask: u32, edge: u32) -> Outcome {
        let old = bank.edge.load(SeqCst);
        bank.edge.fetch_or(mask & edge, SeqCst);
        bank.edge.fetch_and(!(mask & !edge), SeqCst);
        let changed = mask & (old ^ edge);
        let mut outcome = Outcome { own: Own::Held(Edit::review(word, changed)), ..Outcome::NONE };
        if changed & bank.linked != 0 && bank.home.is_none() {
            outcome.hw = HwChange::Config { word, mask: changed & bank.linked, edge };
        }
        self.wake(bank, me, word, changed & bank.ready(), &mut outcome);
        outcome
    }

    /// Sets GICD_CTLR.EnableGrp0 and EnableGrp1.
    pub(super) fn set_groups(&self, me: VcpuId, groups: u32) -> Outcome {
        if self.groups.swap(groups & 3, SeqCst) == groups & 3 {
            return Outcome::NONE;
        }
        let edit = Edit::review(0, 0);
        Outcome {
            own: Own::Refresh(edit),
            recall: Recall { targets: self.others(me, self.online()), edit },
            ..Outcome::NONE
        }
    }

    /// Reads a bit register of the distributor's own state; what is in list registers and in hardware is added later.
    pub(super) fn read_bits(bank: &Bank, kind: Operation) -> u32 {
        match kind {
            Operation::Review => 0,
            Operation::SetEnable | Operation::ClearEnable => bank.enable.load(SeqCst),
            Operation::SetPending | Operation::ClearPending => bank.pending(),
            Operation::SetActive | Operation::ClearActive => bank.active.load(SeqCst),
        }
    }

    /// Returns the running vCPUs but `me` that may have one of these SPIs in their list registers: whoever claimed it
    /// last and, as the way of a hardware interrupt into a list register claims nothing, the target of a linked one.
    pub(super) fn involved(&self, bank: &Bank, me: VcpuId, mask: u32) -> VcpuMask {
        if bank.home.is_some() {
            return VcpuMask::NONE;
        }
        let mut all = VcpuMask::NONE;
        for bit in bits(mask) {
            if let Some(holder) = bank.irq(bit).holder() {
                all = all.with(holder);
            }
            if bank.linked >> bit & 1 == 1
                && let Some(target) = self.target(bank, bit)
            {
                all = all.with(target);
            }
        }
        self.others(me, all)
    }

    fn others(&self, me: VcpuId, all: VcpuMask) -> VcpuMask {
        VcpuMask::new(all.bits() & self.online().bits()).without(me)
    }

    /// Returns what is to be done so that whoever the interrupts of `mask` concern looks again.
    pub(super) fn wakened(&self, bank: &Bank, me: VcpuId, word: usize, mask: u32) -> Outcome {
        let mut outcome = Outcome::NONE;
        self.wake(bank, me, word, mask, &mut outcome);
        outcome
    }

    /// Asks whoever the interrupts of `mask` concern to look again.
    fn wake(&self, bank: &Bank, me: VcpuId, word: usize, mask: u32, outcome: &mut Outcome) {
        if mask == 0 {
            return;
        }
        let all = self.summon_for(bank, mask);
        if all.contains(me) {
            outcome.own = Own::Refresh(Edit::review(word, mask));
        }
        outcome.kick = outcome.kick.union(all.without(me));
    }
}

impl Bank {
    /// Returns how linked interrupts that wait here go back to the physical distributor: pending again if only memory
    /// made them pending, and not active.
    pub(super) fn given_back(&self, word: usize, mask: u32) -> HwBits {
        let remembered = self.edge.load(SeqCst) | self.soft.load(SeqCst);
        HwBits {
            word,
            set_pending: mask & remembered,
            deactivate: mask & !self.active.load(SeqCst),
            ..HwBits::default()
        }
    }
}

impl From<HwBits> for HwChange {
    fn from(bits: HwBits) -> Self {
        if bits.is_empty() { Self::None } else { Self::Bits(bits) }
    }
}
