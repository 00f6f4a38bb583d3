// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the vectors must know to put a hardware interrupt into a list register by themselves: where the state of a line
//! is, and how it is laid out. [`CpuInterface::hardware_lr`] says in Rust what they do.
//!
//! [`CpuInterface::hardware_lr`]: super::CpuInterface::hardware_lr

use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU32;

use super::bank::{Bank, Irq};
use super::{Vcpu, Vgic};
use crate::id::VcpuId;

/// Bytes from the bank of a word to that of the next.
pub const BANK_SIZE: usize = size_of::<Bank>();
/// Bytes from a bank to its first line; a line takes 16, of which the first 8 are its list register without state and
/// priority.
pub const LINES: usize = Bank::IRQS;
/// ... to the first line's priority, a byte.
pub const PRIORITY: usize = Bank::IRQS + offset_of!(Irq, priority);

/// Bytes from a bank to what is remembered as pending, enabled and active: 32 lines, one bit each.
pub const LATCH: usize = offset_of!(Bank, latch);
/// ... to which are enabled; the former stand behind it.
pub const ENABLE: usize = offset_of!(Bank, enable);
/// ... to which are active.
pub const ACTIVE: usize = offset_of!(Bank, active);

/// Bytes from a vCPU's own bank to the sources of its pending SGIs, one byte each, with GICv2.
pub const SOURCES: usize = offset_of!(Vcpu, sources) - offset_of!(Vcpu, bank);

const _: () = assert!(size_of::<Irq>() == 16 && offset_of!(Irq, template) == 0);
const _: () = assert!(LATCH == ENABLE + 4);

/// Where the short way of one vCPU finds its lines.
#[derive(Clone, Copy, Debug)]
pub struct ShortWay {
    /// The bank of the vCPU's own SGIs and PPIs.
    pub private: *const u8,
    /// The bank of the first word of SPIs.
    pub spis: *const u8,
    /// How many words of SPIs there are, at most 31.
    pub spi_words: u32,
    /// GICD_CTLR.EnableGrp0 and EnableGrp1.
    pub groups: *const AtomicU32,
}

impl Vgic {
    /// Returns where the short way of a vCPU finds its lines; they stay there as long as the controller lives.
    pub fn short_way(&self, vcpu: VcpuId) -> Option<ShortWay> {
        Some(ShortWay {
            private: (&raw const self.vcpu(vcpu)?.bank).cast(),
            spis: self.spis.as_ptr().cast(),
            spi_words: u32::try_from(self.spis.len()).ok()?,
            groups: &raw const self.groups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Model, VgicConfig};
    use super::*;
    use crate::id::{CpuId, Intid, Trigger};
    use crate::plan::InterruptPlan;

    #[test]
    fn the_vectors_find_each_line_where_the_policy_has_it() {
        let spi = InterruptPlan { intid: Intid::new(71), trigger: Trigger::Level };
        let config = VgicConfig {
            model: Model::V3,
            cpus: &[CpuId::new(0), CpuId::new(1)],
            spi_words: 3,
            priority_bits: 5,
            linked_ppis: 1 << 27,
            interrupts: &[spi],
        };
        let vgic = Vgic::new(&config).unwrap();
        let way = vgic.short_way(VcpuId::new(1)).unwrap();
        // As the vectors count: words from 0, of which the SPIs' begin with 1.
        let line = |intid: usize| {
            let bank = match intid >> 5 {
                0 => way.private as usize,
                word => (way.spis as usize).wrapping_sub(BANK_SIZE).wrapping_add(word * BANK_SIZE),
            };
            bank + LINES + (intid & 31) * 16
        };
        for intid in [0, 27, 31, 32, 71, 127] {
            let bank = vgic.bank(VcpuId::new(1), intid >> 5).unwrap();
            assert_eq!(line(intid), core::ptr::from_ref(bank.irq(intid as u32 & 31)) as usize, "INTID {intid}");
        }
        assert_eq!(way.spi_words, 3);
        assert!(vgic.short_way(VcpuId::new(2)).is_none());
    }
}
