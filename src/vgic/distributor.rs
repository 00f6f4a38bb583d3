// SPDX-License-Identifier: MIT OR Apache-2.0
//! The distributor's registers, of GICv2 (Arm IHI 0048, 4.3) and GICv3 with affinity routing (Arm IHI 0069, 12.9).
//! Total: each offset and width has an answer, and what is not listed reads as zero and ignores writes.

use core::sync::atomic::Ordering::SeqCst;

use super::bank::Bank;
use super::lr::Lr;
use super::outcome::{Edit, Operation, Outcome, VcpuMask, bits};
use super::registers::{IIDR, Kind, Live, Reading, Register, identification, lanes};
use super::{Model, SGIS, Vgic, Width};
use crate::id::VcpuId;

/// GICD_CTLR of GICv3: affinity routing on, one security state.
const CTLR_V3: u32 = 1 << 4 | 1 << 6;

impl Vgic {
    /// Writes a distributor register and hands what must be done to `sink`, at most four times.
    pub(super) fn distributor_write(
        &self,
        me: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
        mut sink: impl FnMut(Outcome),
    ) {
        if self.model == Model::V3 && (0x6100..0x8000).contains(&offset) {
            return sink(self.write_router(me, offset, width, value));
        }
        if offset >= 0x1000 {
            return;
        }
        let value32 = value as u32;
        match Register::decode(offset, width) {
            Register::Targets(first) => self.write_targets(me, first, width, value32, sink),
            Register::Other if width == Width::Word && offset == 0 => sink(self.set_groups(me, value32)),
            Register::Other if self.model == Model::V2 => sink(self.write_sgi_register(me, offset, width, value32)),
            Register::Other => {}
            register => {
                if self.model == Model::V2 || register.word() != Some(0) {
                    sink(self.write_shared(me, me, register, width, value32));
                }
            }
        }
    }

    /// Reads a distributor register.
    pub(super) fn distributor_read(&self, me: VcpuId, offset: u64, width: Width) -> Reading {
        if self.model == Model::V3 && (0x6100..0x8000).contains(&offset) {
            return Reading::Value(self.read_router(offset, width));
        }
        let register = if offset < 0x1000 { Register::decode(offset, width) } else { Register::Other };
        match register {
            Register::Targets(first) => Reading::Value(self.read_targets(me, first, width).into()),
            Register::Other if self.model == Model::V2 && (0xf10..0xf30).contains(&offset) => {
                self.read_sgi_sources(me, offset, width)
            }
            Register::Other if width == Width::Word => Reading::Value(self.read_constant(offset).into()),
            Register::Other => Reading::Value(0),
            register if self.model == Model::V3 && register.word() == Some(0) => Reading::Value(0),
            register => self.read_shared(me, me, register, width),
        }
    }

    /// Writes a register that both frames have. `who` is whose private interrupts word 0 means.
    pub(super) fn write_shared(
        &self,
        me: VcpuId,
        who: VcpuId,
        register: Register,
        width: Width,
        value: u32,
    ) -> Outcome {
        let Some((word, bank)) = register.word().and_then(|word| Some((word, self.bank(who, word)?))) else {
            return Outcome::NONE;
        };
        match register {
            Register::Group(_) => {
                let mask = bank.exists;
                bits(mask).for_each(|bit| bank.irq(bit).set_group(value >> bit));
                self.rank_changed(bank, me, word, mask)
            }
            Register::Bits(operation, _) => {
                let mask = value & self.writable(bank, operation);
                self.operate_for(me, who, Edit { operation, word, mask })
            }
            Register::Priority(first) => {
                let shift = first & 31;
                let mask = (lanes(width) << shift) & bank.exists;
                let priority = |bit: u32| (value >> (8 * (bit.wrapping_sub(shift) & 3))) as u8 & self.priority_mask;
                bits(mask).for_each(|bit| bank.irq(bit).priority.store(priority(bit), SeqCst));
                self.rank_changed(bank, me, word, mask)
            }
            Register::Config(first) => {
                let shift = first & 31;
                let edge = (0..16).fold(0, |edge, n| edge | (value >> (2 * n + 1) & 1) << n);
                let mask = (0xffff << shift) & bank.exists & !bank.fixed_config();
                self.set_edge(bank, me, word, mask, edge << shift)
            }
            Register::Targets(_) | Register::Other => Outcome::NONE,
        }
    }

    /// Reads a register that both frames have.
    pub(super) fn read_shared(&self, me: VcpuId, who: VcpuId, register: Register, width: Width) -> Reading {
        let Some((word, bank)) = register.word().and_then(|word| Some((word, self.bank(who, word)?))) else {
            return Reading::Value(0);
        };
        let gather = |first: u32, field: &dyn Fn(Lr) -> u32| {
            bits(lanes(width)).fold(0, |value, n| value | field(bank.irq(first + n).template()) << (8 * n))
        };
        let value = match register {
            Register::Group(_) => {
                bits(bank.exists).fold(0, |value, bit| value | bank.irq(bit).template().group() << bit)
            }
            Register::Bits(operation @ (Operation::SetEnable | Operation::ClearEnable), _) => {
                Self::read_bits(bank, operation)
            }
            Register::Bits(operation, _) => return self.read_live(me, who, bank, operation, word),
            Register::Priority(first) => gather(first & 31, &|template| template.priority().into()),
            Register::Config(first) => {
                let edge = bank.edge.load(SeqCst) >> (first & 31) & 0xffff;
                bits(edge).fold(0, |value, n| value | 2 << (2 * n))
            }
            Register::Targets(_) | Register::Other => 0,
        };
        Reading::Value(value.into())
    }

    fn read_live(&self, me: VcpuId, who: VcpuId, bank: &Bank, operation: Operation, word: usize) -> Reading {
        let kind = match operation {
            Operation::SetActive | Operation::ClearActive => Kind::Active,
            Operation::Review
            | Operation::SetEnable
            | Operation::ClearEnable
            | Operation::SetPending
            | Operation::ClearPending => Kind::Pending,
        };
        let others = if who == me {
            self.involved(bank, me, bank.exists)
        } else {
            VcpuMask::new(VcpuMask::of(who).bits() & self.online().bits())
        };
        Reading::Live {
            known: Self::read_bits(bank, operation),
            of: Edit::review(word, bank.exists),
            live: Live { kind, own: who == me, linked: bank.linked, others },
        }
    }

    /// Returns which interrupts of a bank a bit register can change.
    fn writable(&self, bank: &Bank, operation: Operation) -> u32 {
        let fixed = match (self.model, operation) {
            // Always enabled; pending only by SPENDSGIR and CPENDSGIR.
            (
                Model::V2,
                Operation::SetEnable | Operation::ClearEnable | Operation::SetPending | Operation::ClearPending,
            ) if bank.home.is_some() => SGIS,
            _ => 0,
        };
        bank.exists & !fixed
    }

    fn write_router(&self, me: VcpuId, offset: u64, width: Width, value: u64) -> Outcome {
        let (word, bit) = router_irq(offset);
        let Some(bank) = self.spi_bank(word).filter(|bank| bank.exists >> bit & 1 == 1) else {
            return Outcome::NONE;
        };
        let old = bank.irq(bit).route.load(SeqCst);
        // Aff3 in bits 39:32; bit 31 is RES0, as GICD_TYPER.No1N says.
        let (low, high) = (value as u32 & 0xff_ffff, ((value >> 32) as u32 & 0xff) << 24);
        let route = match (width, offset & 7) {
            (Width::Double, 0) => low | high,
            (Width::Word, 0) => low | old & 0xff00_0000,
            (Width::Word, 4) => old & 0xff_ffff | (value as u32 & 0xff) << 24,
            _ => return Outcome::NONE,
        };
        self.set_route(me, word, bit, route)
    }

    fn read_router(&self, offset: u64, width: Width) -> u64 {
        let (word, bit) = router_irq(offset);
        let Some(bank) = self.spi_bank(word).filter(|bank| bank.exists >> bit & 1 == 1) else {
            return 0;
        };
        let route = bank.irq(bit).route.load(SeqCst);
        match (width, offset & 7) {
            (Width::Double, 0) => u64::from(route & 0xff_ffff) | u64::from(route >> 24) << 32,
            (Width::Word, 0) => u64::from(route & 0xff_ffff),
            (Width::Word, 4) => u64::from(route >> 24),
            _ => 0,
        }
    }

    /// Returns GICD_TYPER.
    #[inline(always)]
    pub(super) fn typer(&self) -> u32 {
        let lines = self.spis.len() as u32;
        match self.model {
            Model::V2 => lines | (self.vcpus.len() as u32).wrapping_sub(1) << 5,
            // 10 id bits, any Aff3, no 1-of-N routing.
            Model::V3 => lines | 9 << 19 | 1 << 24 | 1 << 25,
        }
    }

    /// Reads the registers that are neither banked nor an array.
    fn read_constant(&self, offset: u64) -> u32 {
        let groups = self.groups.load(SeqCst);
        match (self.model, offset) {
            (Model::V2, 0) => groups,
            (Model::V3, 0) => groups | CTLR_V3,
            (_, 4) => self.typer(),
            (_, 8) => IIDR,
            (Model::V2, 0xfd0..=0xfff) => identification(offset, [0x90, 0xb4, 0x2b, 0x00], 0x04),
            (Model::V3, 0xffd0..=0xffff) => identification(offset, [0x92, 0xb4, 0x3b, 0x00], 0x44),
            _ => 0,
        }
    }
}

impl Bank {
    /// Returns which have a fixed trigger: SGIs and the linked PPIs.
    fn fixed_config(&self) -> u32 {
        if self.home.is_some() { SGIS | self.linked } else { 0 }
    }
}

fn router_irq(offset: u64) -> (usize, u32) {
    let intid = (offset - 0x6000) >> 3;
    ((intid >> 5) as usize, intid as u32 & 31)
}
