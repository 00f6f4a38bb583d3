// SPDX-License-Identifier: MIT OR Apache-2.0
//! Software-generated interrupts: who is meant, and making them pending there. A guest's SGI never is a physical one.

use core::sync::atomic::Ordering::SeqCst;

use super::bank::Irq;
use super::outcome::{VcpuMask, bits};
use super::{Model, Vgic};
use crate::id::VcpuId;

/// The registers that send SGIs (Arm IHI 0069, 12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// ICC_SGI1R_EL1: Group 1.
    Sgi1,
    /// ICC_ASGI1R_EL1: the other security state's Group 1; with one security state, Group 0.
    Asgi1,
    /// ICC_SGI0R_EL1: Group 0.
    Sgi0,
}

impl SgiRegister {
    /// Returns the group of the SGIs that it sends.
    #[inline(always)]
    pub(super) fn group(self) -> u32 {
        match self {
            Self::Sgi1 => 1,
            Self::Asgi1 | Self::Sgi0 => 0,
        }
    }
}

/// Returns the SGI that a write to a GICv3 SGI register names.
#[inline(always)]
pub(super) fn sgi_intid(value: u64) -> u32 {
    (value >> 24 & 0xf) as u32
}

impl Vgic {
    /// Makes the SGI of a write to a GICv3 SGI register pending, and returns the running vCPUs that must look.
    pub(super) fn sgi(&self, me: VcpuId, register: SgiRegister, value: u64) -> VcpuMask {
        self.pend_sgis(self.sgi_targets(VcpuMask::of(me), value), sgi_intid(value), |irq| {
            irq.template().group() == register.group()
        })
    }

    /// Returns the vCPUs that a write to a GICv3 SGI register names.
    #[inline(always)]
    pub(super) fn sgi_targets(&self, me: VcpuMask, value: u64) -> u32 {
        const IRM: u64 = 1 << 40;
        // Below Aff3.Aff2.Aff1 and a range of Aff0; vCPU n has affinity 0.0.n/16.n%16.
        let (cluster, list) = (value & 0x00ff_f0ff_00ff_0000, (value & 0xffff) as u32);
        let named = match cluster {
            _ if value & IRM != 0 => !me.bits(),
            0 => list,
            0x1_0000 => list << 16,
            _ => 0,
        };
        named & self.all
    }

    /// Makes the SGI of a write to GICD_SGIR pending (Arm IHI 0048, 4.3.15), and returns the running vCPUs that must look.
    pub(super) fn sgir(&self, me: VcpuId, value: u32) -> VcpuMask {
        let targets = self.sgir_targets(VcpuMask::of(me), value);
        for vcpu in VcpuMask::new(targets).iter() {
            // A sender notes itself first and latches then.
            if let Some(source) = self.vcpu(vcpu).and_then(|shared| shared.sources.get(value as usize & 0xf)) {
                source.fetch_or(VcpuMask::of(me).bits() as u8, SeqCst);
            }
        }
        self.pend_sgis(targets, value & 0xf, |_| true)
    }

    /// Returns the vCPUs that a write to GICD_SGIR names.
    #[inline(always)]
    pub(super) fn sgir_targets(&self, me: VcpuMask, value: u32) -> u32 {
        match value >> 24 & 3 {
            0 => value >> 16 & 0xff & self.all,
            1 => self.all & !me.bits(),
            2 => me.bits(),
            _ => 0,
        }
    }

    /// Makes an SGI pending at the vCPUs where it is `meant`, and returns those that run and must look. With GICv3 who has
    /// it pending already need not: it was told, or looks before it takes anything. With GICv2 there may be a new source.
    fn pend_sgis(&self, targets: u32, intid: u32, meant: impl Fn(&Irq) -> bool) -> VcpuMask {
        let bit = 1 << (intid & 15);
        let mut told = 0;
        for target in bits(targets) {
            let Some(shared) = self.vcpus.get(target as usize).filter(|shared| meant(shared.bank.irq(intid))) else {
                continue;
            };
            if shared.bank.latch.fetch_or(bit, SeqCst) & bit == 0 || self.model == Model::V2 {
                told |= 1_u32.checked_shl(target).unwrap_or(0);
            }
        }
        VcpuMask::new(told & self.online().bits())
    }
}
