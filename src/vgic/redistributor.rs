// SPDX-License-Identifier: MIT OR Apache-2.0
//! The redistributors of GICv3 (Arm IHI 0069, 12.10 and 12.11): for each vCPU an RD frame and an SGI frame of 64 KiB. Any
//! vCPU may access any of them. There are no LPIs.

use core::sync::atomic::Ordering::SeqCst;

use super::outcome::Outcome;
use super::registers::{IIDR, Reading, Register, identification};
use super::{Model, Vgic, Width};
use crate::id::{Mpidr, VcpuId};

/// The size of one vCPU's two frames.
pub(super) const STRIDE: u64 = 0x2_0000;
/// The size of a frame.
pub(super) const FRAME: u64 = 0x1_0000;

impl Vgic {
    /// Writes a redistributor register; `offset` counts from the first vCPU's RD frame.
    pub(super) fn redistributor_write(&self, me: VcpuId, offset: u64, width: Width, value: u64) -> Outcome {
        let Some((who, offset)) = self.redistributor(offset) else {
            return Outcome::NONE;
        };
        match offset.checked_sub(FRAME) {
            None => {
                // GICR_WAKER.ProcessorSleep; ChildrenAsleep follows it at once.
                if offset == 0x14
                    && width == Width::Word
                    && let Some(shared) = self.vcpu(who)
                {
                    shared.asleep.store(value as u32 >> 1 & 1, SeqCst);
                }
                Outcome::NONE
            }
            Some(offset) => match sgi_frame_register(offset, width) {
                Some(register) => self.write_shared(me, who, register, width, value as u32),
                None => Outcome::NONE,
            },
        }
    }

    /// Reads a redistributor register.
    pub(super) fn redistributor_read(&self, me: VcpuId, offset: u64, width: Width) -> Reading {
        let Some((who, offset)) = self.redistributor(offset) else {
            return Reading::Value(0);
        };
        match offset.checked_sub(FRAME) {
            None => {
                let asleep = self.vcpu(who).map_or(0, |shared| shared.asleep.load(SeqCst));
                Reading::Value(rd_frame(who, self.vcpus.len(), asleep, offset, width))
            }
            Some(offset) => match sgi_frame_register(offset, width) {
                Some(register) => self.read_shared(me, who, register, width),
                None => Reading::Value(0),
            },
        }
    }

    fn redistributor(&self, offset: u64) -> Option<(VcpuId, u64)> {
        let index = u8::try_from(offset / STRIDE).ok()?;
        let exists = self.model == Model::V3 && usize::from(index) < self.vcpus.len();
        exists.then_some((VcpuId::new(index), offset % STRIDE))
    }
}

/// Reads the RD frame of one of `count` vCPUs; `asleep` is its GICR_WAKER.ProcessorSleep.
pub(super) fn rd_frame(who: VcpuId, count: usize, asleep: u32, offset: u64, width: Width) -> u64 {
    let affinity = Mpidr::of_vcpu(who).get();
    // Affinity as Aff3.Aff2.Aff1.Aff0 above, processor number, Last.
    let high = (affinity >> 32 & 0xff) << 24 | affinity & 0xff_ffff;
    let last = u64::from(who.index() + 1 == count);
    let typer = high << 32 | u64::from(who.get()) << 8 | last << 4;
    match (offset, width) {
        (0x04, Width::Word) => IIDR.into(),
        (0x08, Width::Double) => typer,
        (0x08, Width::Word) => typer & 0xffff_ffff,
        (0x0c, Width::Word) => typer >> 32,
        (0x14, Width::Word) => u64::from(asleep << 1 | asleep << 2),
        (0xffd0..=0xffff, Width::Word) => identification(offset, [0x93, 0xb4, 0x3b, 0x00], 0x44).into(),
        _ => 0,
    }
}

/// Returns where a register of a vCPU's own SGI frame stands among all redistributors.
#[inline(always)]
pub(super) fn own_register(vcpu: VcpuId, offset: u64) -> u64 {
    u64::from(vcpu.get()) * STRIDE + FRAME + offset
}

/// Returns the register of the SGI frame: those of word 0, but ITARGETSR.
pub(super) fn sgi_frame_register(offset: u64, width: Width) -> Option<Register> {
    if offset >= 0x1000 {
        return None;
    }
    let register = Register::decode(offset, width);
    match register {
        Register::Targets(_) | Register::Other => None,
        register => (register.word() == Some(0)).then_some(register),
    }
}
