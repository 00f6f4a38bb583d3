// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers that only GICv2's distributor has (Arm IHI 0048, 4.3.12 and 4.3.15 to 4.3.17): targets by mask, and SGIs
//! with their sources.

use core::sync::atomic::Ordering::SeqCst;

use super::outcome::{Edit, Outcome, Own, VcpuMask, bits};
use super::registers::{Reading, lane_mask, lanes};
use super::{Model, Vgic};
use crate::id::VcpuId;
use crate::mmio::Width;

impl Vgic {
    /// Writes ITARGETSR: with one vCPU, and for private interrupts, it is fixed.
    pub(super) fn write_targets(
        &self,
        me: VcpuId,
        first: u32,
        width: Width,
        value: u32,
        mut sink: impl FnMut(Outcome),
    ) {
        if self.model == Model::V3 || self.vcpus.len() == 1 || first < 32 {
            return;
        }
        let word = first as usize >> 5;
        let Some(bank) = self.spi_bank(word) else { return };
        let all = (1u32 << self.vcpus.len().min(8)).wrapping_sub(1);
        for n in bits(lanes(width)) {
            let bit = (first & 31) + n;
            if bank.exists >> bit & 1 == 1 {
                sink(self.set_route(me, word, bit, value >> (8 * n) & 0xff & all));
            }
        }
    }

    pub(super) fn read_targets(&self, me: VcpuId, first: u32, width: Width) -> u32 {
        if self.model == Model::V3 || self.vcpus.len() == 1 {
            return 0;
        }
        let word = first as usize >> 5;
        if word == 0 {
            return bits(lanes(width)).fold(0, |value, n| value | (VcpuMask::of(me).bits() & 0xff) << (8 * n));
        }
        let Some(bank) = self.spi_bank(word) else { return 0 };
        bits(lanes(width)).fold(0, |value, n| value | (bank.irq((first & 31) + n).route.load(SeqCst) & 0xff) << (8 * n))
    }

    /// Writes GICv2's CPENDSGIR and SPENDSGIR.
    pub(super) fn write_sgi_register(&self, me: VcpuId, offset: u64, width: Width, value: u32) -> Outcome {
        match (offset, width) {
            (0xf10..=0xf2f, Width::Word | Width::Byte) if width == Width::Byte || offset & 3 == 0 => {
                let Some(shared) = self.vcpu(me) else { return Outcome::NONE };
                let first = offset as usize & 0xf;
                let mut mask = 0;
                for (n, sources) in
                    (0..).zip(shared.sources.iter().skip(first)).take(lanes(width).count_ones() as usize)
                {
                    let from = (value >> (8 * n)) as u8;
                    let bit = 1 << (first as u32 + n);
                    if offset >= 0xf20 && from != 0 {
                        sources.fetch_or(from, SeqCst);
                        shared.bank.latch.fetch_or(bit, SeqCst);
                        mask |= bit;
                    } else if from != 0 {
                        if sources.fetch_and(!from, SeqCst) & !from == 0 {
                            shared.bank.latch.fetch_and(!bit, SeqCst);
                        }
                        mask |= bit;
                    }
                }
                if offset >= 0xf20 {
                    return Outcome { own: Own::Refresh(Edit::review(0, mask)), ..Outcome::NONE };
                }
                let from = value & lane_mask(width);
                Outcome { own: Own::ForgetSources { first: first as u32, from }, ..Outcome::NONE }
            }
            _ => Outcome::NONE,
        }
    }

    /// Reads GICv2's CPENDSGIR and SPENDSGIR.
    pub(super) fn read_sgi_sources(&self, me: VcpuId, offset: u64, width: Width) -> Reading {
        let legal = width == Width::Byte || width == Width::Word && offset & 3 == 0;
        let Some(shared) = self.vcpu(me).filter(|_| legal) else {
            return Reading::Value(0);
        };
        let (first, count) = (offset as u32 & 0xf, lanes(width).count_ones());
        let here = shared.sources.iter().skip(first as usize).take(count as usize);
        let known = (0..).zip(here).fold(0, |value, (n, sources)| value | u32::from(sources.load(SeqCst)) << (8 * n));
        Reading::Sources { known, first, count }
    }
}
