// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accesses that guests make most, done without an [`Outcome`](super::Outcome): reading GICD_TYPER and enables,
//! enabling, setting an SPI's priority. What is seldom left to do is named, so that an exit handler can do it last and
//! needs no registers for it otherwise.

use core::sync::atomic::Ordering::SeqCst;

use super::bank::Bank;
use super::cpu::CpuInterface;
use super::lr::Lr;
use super::machine::Machine;
use super::outcome::bits;
use super::redistributor::own_register;
use super::sgi::sgi_intid;
use super::{Model, SGIS, Vgic, Width};
use crate::id::VcpuId;

/// Offsets of registers that both frames have, in units of 128 bytes.
const ISENABLER: u64 = 2;
const ICENABLER: u64 = 3;
const IPRIORITYR: core::ops::RangeInclusive<u64> = 8..=15;
const TYPER: u64 = 4;

/// How far a quick write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// All is done.
    Done,
    /// Nothing is done: it is none of the quick ones.
    Not,
    /// The register is written; [`Vgic::finish`] tells whom it concerns.
    Unfinished(Unfinished),
}

/// What is left of a quick write, for interrupts of one word: the mask in bits 31:0, the word in 39:32, and bit 40 if it is
/// about their priorities. One register is all that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished(u64);

impl Unfinished {
    const RANKED: u64 = 1 << 40;

    /// They were enabled and are pending.
    #[inline(always)]
    fn enabled(word: usize, mask: u32) -> Self {
        Self((word as u64 & 0xff) << 32 | u64::from(mask))
    }

    /// Their priorities have changed, and they may be in list registers.
    #[inline(always)]
    fn ranked(word: usize, mask: u32) -> Self {
        Self(Self::enabled(word, mask).0 | Self::RANKED)
    }
}

impl Vgic {
    /// Finishes a quick write.
    #[inline(never)]
    pub fn finish<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, unfinished: Unfinished) {
        let (me, word, mask) = (cpu.vcpu(), (unfinished.0 >> 32 & 0xff) as usize, unfinished.0 as u32);
        let Some(bank) = self.bank(me, word) else { return };
        let outcome = if unfinished.0 & Unfinished::RANKED == 0 {
            self.wakened(bank, me, word, mask)
        } else {
            self.rank_changed(bank, me, word, mask)
        };
        self.apply(cpu, machine, &outcome);
    }

    /// Reads a register of the distributor that needs nothing else to be looked at.
    #[inline(always)]
    pub fn read_quickly(&self, offset: u64, width: Width) -> Option<u64> {
        if width != Width::Word {
            return None;
        }
        match (offset, offset >> 7) {
            (TYPER, _) => Some(self.typer().into()),
            (_, ISENABLER | ICENABLER) if offset & 3 == 0 => {
                let bank = self.spi_bank((offset >> 2 & 31) as usize)?;
                Some(bank.enable.load(SeqCst).into())
            }
            _ => None,
        }
    }

    /// Writes a register of the distributor, if it is one of the quick ones.
    #[inline(always)]
    pub fn write_quickly<M: Machine>(
        &self,
        me: VcpuId,
        machine: &mut M,
        offset: u64,
        width: Width,
        value: u32,
    ) -> Quick {
        match self.write_enable_quickly(me, machine, offset, width, value) {
            Quick::Not => self.write_priority_quickly(machine, offset, width, value),
            other => other,
        }
    }

    /// Writes GICD_ISENABLER<n>, if it is that.
    #[inline(always)]
    pub fn write_enable_quickly<M: Machine>(
        &self,
        me: VcpuId,
        machine: &mut M,
        offset: u64,
        width: Width,
        value: u32,
    ) -> Quick {
        if offset >> 7 != ISENABLER || width != Width::Word || offset & 3 != 0 {
            return Quick::Not;
        }
        let word = (offset >> 2 & 31) as usize;
        match self.spi_bank(word) {
            Some(bank) => self.enable_quickly(bank, word, machine, value),
            None if self.model == Model::V2 && word == 0 => self.enable_own_quickly(me, machine, value),
            None => Quick::Not,
        }
    }

    /// Writes one or four SPIs' priorities in GICD_IPRIORITYR<n>, if it is that.
    #[inline(always)]
    pub fn write_priority_quickly<M: Machine>(&self, machine: &mut M, offset: u64, width: Width, value: u32) -> Quick {
        let first = (offset & 0x3ff) as u32;
        let bank = self.spi_bank(first as usize >> 5).filter(|_| IPRIORITYR.contains(&(offset >> 7)));
        match (bank, width) {
            (Some(bank), Width::Byte) => self.rank_quickly(bank, machine, first, 1, value),
            (Some(bank), Width::Word) if offset & 3 == 0 => self.rank_quickly(bank, machine, first, 0xf, value),
            _ => Quick::Not,
        }
    }

    /// Writes a register of the redistributors, if it is one of the quick ones; `offset` counts from the first vCPU's.
    #[inline(always)]
    pub fn write_redistributor_quickly<M: Machine>(
        &self,
        me: VcpuId,
        machine: &mut M,
        offset: u64,
        width: Width,
        value: u32,
    ) -> Quick {
        if offset == own_register(me, ISENABLER << 7) && width == Width::Word && self.model == Model::V3 {
            return self.enable_own_quickly(me, machine, value);
        }
        Quick::Not
    }

    #[inline(always)]
    fn enable_own_quickly<M: Machine>(&self, me: VcpuId, machine: &mut M, value: u32) -> Quick {
        match self.bank(me, 0) {
            Some(bank) => self.enable_quickly(bank, 0, machine, value),
            None => Quick::Not,
        }
    }

    /// Sets enables.
    #[inline(always)]
    fn enable_quickly<M: Machine>(&self, bank: &Bank, word: usize, machine: &mut M, value: u32) -> Quick {
        let mask = value & bank.can_enable;
        let newly = mask & !bank.enable.fetch_or(mask, SeqCst);
        let linked = newly & bank.linked & !bank.unrouted.load(SeqCst);
        if linked != 0 {
            machine.enable(word, linked);
        }
        match newly & bank.pending() {
            0 => Quick::Done,
            mask => Quick::Unfinished(Unfinished::enabled(word, mask)),
        }
    }

    /// Sets priorities of SPIs from `first` on.
    #[inline(always)]
    fn rank_quickly<M: Machine>(&self, bank: &Bank, machine: &mut M, first: u32, lanes: u32, value: u32) -> Quick {
        let mask = (lanes << (first & 31)) & bank.exists;
        let mut value = value;
        let mut held = 0;
        for bit in bits(mask) {
            let priority = value as u8 & self.priority_mask;
            value >>= 8;
            let irq = bank.irq(bit);
            irq.priority.store(priority, SeqCst);
            held |= u32::from(irq.holder().is_some());
        }
        let word = first as usize >> 5;
        // A linked one may be in a list register by the short way, which claims nothing; then it is physically active,
        // and has been since before its priority was read for that.
        let linked = mask & bank.linked;
        let active = if linked == 0 { 0 } else { machine.active(word) & linked };
        match held | mask & bank.ready() | active {
            0 => Quick::Done,
            _ => Quick::Unfinished(Unfinished::ranked(word, mask)),
        }
    }

    /// Sends the SGIs of a write to ICC_SGI1R_EL1: `signal` tells another vCPU to look, `all_free` tells whether all list
    /// registers of a mask are.
    #[inline(always)]
    pub fn send_sgi_quickly(
        &self,
        cpu: &CpuInterface,
        value: u64,
        signal: impl Fn(VcpuId),
        all_free: impl FnOnce(u32) -> bool,
    ) -> Sgi {
        let (me, intid) = (cpu.mask(), sgi_intid(value));
        let targets = self.sgi_targets(me, value);
        let latched = 1 << intid;
        if targets == me.bits() {
            let Some(bank) = self.bank(cpu.vcpu(), 0) else { return Sgi::Sent };
            let lr = bank.irq(intid).template();
            let free = cpu.lrs_for_sgi();
            // Whatever is not as simple as can be goes by way of the latch.
            let ready = lr.group() == 1
                && bank.latch.load(SeqCst) & SGIS == 0
                && (bank.enable.load(SeqCst) & !bank.active.load(SeqCst)) & latched != 0
                && self.groups.load(SeqCst) & 2 != 0
                && free != 0
                && all_free(free);
            if ready {
                return Sgi::Own(lr.pending());
            }
        }
        let mut own = Sgi::Sent;
        for target in bits(targets) {
            let Some(shared) = self.vcpus.get(target as usize) else { continue };
            if shared.bank.irq(intid).group() != 1 || shared.bank.latch.fetch_or(latched, SeqCst) & latched != 0 {
                continue;
            }
            if me.bits() >> target & 1 == 1 {
                own = Sgi::Latched;
            } else {
                signal(VcpuId::new(target as u8));
            }
        }
        own
    }

    /// Sends the SGI of a write to GICD_SGIR, as [`Self::send_sgi_quickly`] does those of GICv3.
    #[inline(always)]
    pub fn send_sgir_quickly(
        &self,
        cpu: &CpuInterface,
        value: u32,
        signal: impl Fn(VcpuId),
        all_free: impl FnOnce(u32) -> bool,
    ) -> Sgi {
        let (me, intid) = (cpu.mask(), value & 0xf);
        let targets = self.sgir_targets(me, value);
        let latched = 1 << intid;
        if targets == me.bits()
            && let Some(shared) = self.vcpu(cpu.vcpu())
            && let Some(source) = shared.sources.get(intid as usize)
        {
            let bank = &shared.bank;
            let lr = bank.irq(intid).template();
            let free = cpu.lrs_for_sgi();
            let ready = bank.latch.load(SeqCst) & SGIS == 0
                && source.load(SeqCst) == 0
                && bank.active.load(SeqCst) & latched == 0
                && self.groups.load(SeqCst) >> lr.group() & 1 == 1
                && free != 0
                && all_free(free);
            if ready {
                return Sgi::Own(lr.with_source(cpu.vcpu().get().into()).pending());
            }
        }
        let mut own = Sgi::Sent;
        for target in bits(targets) {
            let Some(shared) = self.vcpus.get(target as usize) else { continue };
            let Some(source) = shared.sources.get(intid as usize) else { continue };
            // A sender notes itself first and latches then; who takes it may have taken another's by then.
            source.fetch_or(me.bits() as u8, SeqCst);
            shared.bank.latch.fetch_or(latched, SeqCst);
            if me.bits() >> target & 1 == 1 {
                own = Sgi::Latched;
            } else {
                signal(VcpuId::new(target as u8));
            }
        }
        own
    }
}

/// How far the quick way of sending SGIs came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sgi {
    /// All is done.
    Sent,
    /// It goes into the first list register of the calling vCPU.
    Own(Lr),
    /// The calling vCPU must take what is pending there.
    Latched,
}
