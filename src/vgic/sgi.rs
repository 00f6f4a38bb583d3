// SPDX-License-Identifier: MIT OR Apache-2.0
//! Software-generated interrupts: who is meant, and making them pending there. A guest's SGI never is a physical one.

use core::sync::atomic::Ordering::SeqCst;

use super::outcome::VcpuMask;
use super::{ATTEND_SGI, Vgic};
use crate::id::{Mpidr, VcpuId};

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

impl Vgic {
    /// Makes the SGI of a write to a GICv3 SGI register pending, and returns the running vCPUs that must look.
    pub(super) fn sgi(&self, me: VcpuId, register: SgiRegister, value: u64) -> VcpuMask {
        let group = match register {
            SgiRegister::Sgi1 => 1,
            SgiRegister::Asgi1 | SgiRegister::Sgi0 => 0,
        };
        let intid = (value >> 24 & 0xf) as u32;
        if value >> 40 & 1 == 1 {
            let all = (0..self.vcpus.len() as u8).map(VcpuId::new).filter(|&vcpu| vcpu != me);
            return all.fold(VcpuMask::NONE, |told, vcpu| told.union(self.pend_sgi(vcpu, intid, Some(group), None)));
        }
        let range = (value >> 44 & 0xf) << 4;
        let cluster = (value >> 48 & 0xff) << 32 | (value >> 32 & 0xff) << 16 | (value >> 16 & 0xff) << 8;
        let targets = super::outcome::bits((value & 0xffff) as u32);
        targets
            .filter_map(|bit| Mpidr::new(cluster | range | u64::from(bit)).to_vcpu())
            .fold(VcpuMask::NONE, |told, vcpu| told.union(self.pend_sgi(vcpu, intid, Some(group), None)))
    }

    /// Makes the SGI of a write to GICD_SGIR pending (Arm IHI 0048, 4.3.15), and returns the running vCPUs that must look.
    pub(super) fn sgir(&self, me: VcpuId, value: u32) -> VcpuMask {
        let all = (1u32 << self.vcpus.len().min(8)).wrapping_sub(1);
        let myself = VcpuMask::of(me).bits();
        let targets = match value >> 24 & 3 {
            0 => value >> 16 & 0xff & all,
            1 => all & !myself,
            2 => myself,
            _ => 0,
        };
        VcpuMask::new(targets)
            .iter()
            .fold(VcpuMask::NONE, |told, vcpu| told.union(self.pend_sgi(vcpu, value & 0xf, None, Some(me))))
    }

    /// Makes an SGI pending at a vCPU, if there it is of the group, and returns the vCPU if it runs.
    pub(super) fn pend_sgi(&self, vcpu: VcpuId, intid: u32, group: Option<u32>, source: Option<VcpuId>) -> VcpuMask {
        let Some(shared) = self.vcpu(vcpu) else {
            return VcpuMask::NONE;
        };
        if group.is_some_and(|group| shared.bank.irq(intid).template().group() != group) {
            return VcpuMask::NONE;
        }
        if let Some((source, sources)) = source.zip(shared.sources.get(intid as usize)) {
            sources.fetch_or(1u8.checked_shl(u32::from(source.get())).unwrap_or(0), SeqCst);
        }
        shared.bank.latch.fetch_or(1 << (intid & 15), SeqCst);
        if !self.online().contains(vcpu) {
            return VcpuMask::NONE;
        }
        shared.attention.fetch_or(ATTEND_SGI, SeqCst);
        VcpuMask::of(vcpu)
    }
}
