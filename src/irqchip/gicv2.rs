// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv2 with virtualization extensions (Arm IHI 0048).
//!
//! All interrupts are in Group 0 of a GIC without security extensions, where bit 0 of the control registers enables that
//! group; to the non-secure view of one with them, the same bits enable its only group, and IGROUPR ignores writes.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

use super::frame::Frame;
use super::sysreg::publish_stores;
use super::{Acknowledged, Interface, KICK};
use crate::addr::Pa;
use crate::id::{CpuId, Intid, MAX_CPUS};
use crate::vgic::{Control, HwBits, Lr, Maintenance};

/// GICC_CTLR: the group's enable, and EOImode: EOIR drops the priority, DIR deactivates.
const GICC_ENABLE: u32 = 1 | 1 << 9;
/// GICH_HCR.En.
const GICH_EN: u32 = 1;

register_structs! {
    /// The CPU interface (4.4).
    CpuRegisters {
        (0x0000 => ctlr: ReadWrite<u32>),
        (0x0004 => pmr: ReadWrite<u32>),
        (0x0008 => bpr: ReadWrite<u32>),
        (0x000c => iar: ReadOnly<u32>),
        (0x0010 => eoir: WriteOnly<u32>),
        (0x0014 => _reserved0),
        (0x1000 => dir: WriteOnly<u32>),
        (0x1004 => _reserved1),
        (0x2000 => @END),
    }
}

register_structs! {
    /// The virtual interface control registers (5.3).
    HypRegisters {
        (0x000 => hcr: ReadWrite<u32>),
        (0x004 => vtr: ReadOnly<u32>),
        (0x008 => vmcr: ReadWrite<u32>),
        (0x00c => _reserved0),
        (0x030 => elrsr: [ReadOnly<u32>; 2]),
        (0x038 => _reserved1),
        (0x0f0 => apr: ReadWrite<u32>),
        (0x0f4 => _reserved2),
        (0x100 => lr: [ReadWrite<u32>; 64]),
        (0x200 => @END),
    }
}

/// A GICv2.
pub(super) struct GicV2 {
    distributor: Pa,
    cpu_interface: Pa,
    hyp_interface: Pa,
    /// Each physical CPU's bit in target masks. 0 until the CPU has come up.
    targets: [AtomicU8; MAX_CPUS],
}

impl GicV2 {
    /// Describes a GICv2; touches nothing.
    pub(super) fn new(distributor: Pa, cpu_interface: Pa, hyp_interface: Pa) -> Self {
        Self { distributor, cpu_interface, hyp_interface, targets: [const { AtomicU8::new(0) }; MAX_CPUS] }
    }

    #[inline(always)]
    pub(super) fn frame(&self) -> &Frame {
        // SAFETY: the address is GICD's by the device tree, and boot maps it as Device memory before the first use.
        unsafe { Frame::at(self.distributor) }
    }

    #[inline(always)]
    fn cpu(&self) -> &CpuRegisters {
        // SAFETY: as for `frame`, of GICC's two pages. Registers are interior-mutable.
        unsafe { &*(self.cpu_interface.get() as *const CpuRegisters) }
    }

    #[inline(always)]
    fn hyp(&self) -> &HypRegisters {
        // SAFETY: as for `frame`, of GICH.
        unsafe { &*(self.hyp_interface.get() as *const HypRegisters) }
    }

    /// Takes the distributor over: every SPI disabled and clean, the group on.
    pub(super) fn init_distributor(&self) {
        let frame = self.frame();
        frame.ctlr.set(0);
        for word in 1..=frame.spi_words() {
            frame.initialise(word, 0, || {});
        }
        frame.ctlr.set(1);
    }

    /// Takes this CPU's private interrupts and CPU interface over.
    pub(super) fn init_cpu(&self, cpu: CpuId, own: &[Intid]) {
        let frame = self.frame();
        frame.initialise(0, 0, || {});
        own.iter().for_each(|&intid| frame.enable_own(intid));
        if let Some(target) = self.targets.get(cpu.index()) {
            target.store(frame.own_target(), Relaxed);
        }
        let interface = self.cpu();
        interface.pmr.set(0xff);
        interface.bpr.set(0);
        interface.ctlr.set(GICC_ENABLE);
    }

    fn target(&self, cpu: CpuId) -> Option<u8> {
        self.targets.get(cpu.index()).map(|target| target.load(Relaxed)).filter(|&target| target != 0)
    }
}

impl Interface for GicV2 {
    #[inline(always)]
    fn acknowledge(&self) -> Acknowledged {
        Acknowledged(self.cpu().iar.get())
    }

    #[inline(always)]
    fn drop_priority(&self, acknowledged: Acknowledged) {
        self.cpu().eoir.set(acknowledged.0);
    }

    fn deactivate(&self, acknowledged: Acknowledged) {
        self.cpu().dir.set(acknowledged.0);
    }

    fn kick(&self, cpu: CpuId) {
        if let Some(target) = self.target(cpu) {
            publish_stores();
            self.frame().sgir.set(u32::from(target) << 16 | KICK.get());
        }
    }

    #[inline(always)]
    fn enable(&self, _cpu: CpuId, word: usize, mask: u32) {
        self.frame().enable(word, mask);
    }

    fn change(&self, _cpu: CpuId, bits: &HwBits) {
        // GICv2 says nothing of when a write has taken effect; reading back orders it.
        let frame = self.frame();
        frame.apply(bits.word, bits, || {
            let _ = frame.ctlr.get();
        });
    }

    fn route(&self, intid: Intid, cpu: CpuId) {
        if let Some(target) = self.target(cpu) {
            self.frame().set_targets(intid, target);
        }
    }

    fn configure(&self, word: usize, mask: u32, edge: u32) {
        self.frame().configure(word, mask, edge);
    }

    fn pending(&self, _cpu: CpuId, word: usize) -> u32 {
        self.frame().pending(word)
    }

    #[inline(always)]
    fn free_lrs(&self) -> u32 {
        // No more than 16 list registers are used.
        self.hyp().elrsr[0].get() & 0xffff
    }

    #[inline(always)]
    fn read_lr(&self, index: u32) -> Lr {
        self.hyp().lr.get(index as usize).map_or(Lr::EMPTY, |register| Lr::from_v2(register.get()))
    }

    #[inline(always)]
    fn write_lr(&self, index: u32, lr: Lr) {
        if let Some(register) = self.hyp().lr.get(index as usize) {
            register.set(lr.to_v2());
        }
    }

    fn lr_count(&self) -> u32 {
        ((self.hyp().vtr.get() & 0x3f) + 1).min(16)
    }

    fn priority_bits(&self) -> u32 {
        5
    }

    fn control(&self) -> Control {
        Control::new(self.hyp().vmcr.get())
    }

    fn eoi_count(&self) -> u32 {
        self.hyp().hcr.get() >> 27
    }

    fn set_maintenance(&self, wanted: Maintenance) {
        self.hyp().hcr.set(GICH_EN | wanted.bits());
    }

    fn reset_interface(&self) {
        let hyp = self.hyp();
        hyp.hcr.set(0);
        for index in 0..self.lr_count() {
            self.write_lr(index, Lr::EMPTY);
        }
        hyp.vmcr.set(0);
        hyp.apr.set(0);
    }
}
