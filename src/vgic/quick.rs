// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accesses that guests make most, done without an [`Outcome`](super::Outcome): reading GICD_TYPER and enables,
//! enabling, setting an SPI's priority. What is seldom left to do is named, so that an exit handler can do it last and
//! needs no registers for it otherwise.

use core::sync::atomic::Ordering::SeqCst;

use super::bank::Bank;
use super::cpu::CpuInterface;
use super::machine::Machine;
use super::outcome::bits;
use super::redistributor::own_register;
use super::{Model, Vgic, Width};
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

/// What is left of a quick write, for interrupts of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    left: Left,
    word: u32,
    mask: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// They were enabled and are pending.
    Enabled,
    /// Their priorities have changed, and they may be in list registers.
    Ranked,
}

impl Vgic {
    /// Finishes a quick write.
    #[inline(never)]
    pub fn finish<M: Machine>(&self, cpu: &mut CpuInterface, machine: &mut M, unfinished: Unfinished) {
        let Unfinished { left, word, mask } = unfinished;
        let (me, word) = (cpu.vcpu(), word as usize);
        let Some(bank) = self.bank(me, word) else { return };
        let outcome = match left {
            Left::Enabled => self.wakened(bank, me, word, mask),
            Left::Ranked => self.rank_changed(bank, me, word, mask),
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
        match (offset >> 7, width) {
            (ISENABLER, Width::Word) if offset & 3 == 0 => {
                let word = (offset >> 2 & 31) as usize;
                match self.spi_bank(word) {
                    Some(bank) => self.enable_quickly(bank, word, machine, value),
                    None if self.model == Model::V2 && word == 0 => self.enable_own_quickly(me, machine, value),
                    None => Quick::Not,
                }
            }
            (block, Width::Word | Width::Byte) if IPRIORITYR.contains(&block) => {
                let first = (offset & 0x3ff) as u32;
                match self.spi_bank(first as usize >> 5) {
                    Some(bank) if width == Width::Byte => self.rank_quickly(bank, machine, first, 1, value),
                    Some(bank) if offset & 3 == 0 => self.rank_quickly(bank, machine, first, 0xf, value),
                    _ => Quick::Not,
                }
            }
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
            mask => Quick::Unfinished(Unfinished { left: Left::Enabled, word: word as u32, mask }),
        }
    }

    /// Sets priorities of SPIs from `first` on.
    #[inline(always)]
    fn rank_quickly<M: Machine>(&self, bank: &Bank, machine: &mut M, first: u32, lanes: u32, value: u32) -> Quick {
        let mask = (lanes << (first & 31)) & bank.exists();
        let mut value = value;
        let mut held = 0;
        for bit in bits(mask) {
            let priority = value as u8 & self.priority_mask;
            value >>= 8;
            let irq = bank.irq(bit);
            irq.update(|template| template.with_priority(priority));
            held |= u32::from(irq.holder().is_some());
        }
        let word = first >> 5;
        // A linked one may be in a list register by the short way, which claims nothing; then it is physically active,
        // and has been since before its priority was read for that.
        let linked = mask & bank.linked;
        let active = if linked == 0 { 0 } else { machine.active(word as usize) & linked };
        match held | mask & bank.ready() | active {
            0 => Quick::Done,
            _ => Quick::Unfinished(Unfinished { left: Left::Ranked, word, mask }),
        }
    }
}
