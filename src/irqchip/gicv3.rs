// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv3 (Arm IHI 0069), CPU interface and virtual CPU interface by system registers.
//!
//! All interrupts are in Group 1. With one security state (GICD_CTLR.DS = 1) that is set here; with two, the
//! non-secure view has no other group and ignores what is written.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite};
use tock_registers::{register_bitfields, register_structs};

use super::frame::{Frame, poll};
use super::sysreg::{publish_stores, read_gic, synchronise, write_gic};
use super::{Acknowledged, Interface, IrqchipError, KICK};
use crate::addr::{Pa, PaRange};
use crate::id::{CpuId, Intid, MAX_CPUS, Mpidr};
use crate::vgic::{Control, HwBits, Lr, Maintenance};

/// GICD_CTLR.ARE and EnableGrp1, in places that mean the same with one security state and to the non-secure view of two.
const CTLR_ENABLE: u32 = 1 << 4 | 1 << 1;
/// GICD_CTLR.RWP.
const RWP: u32 = 31;
/// The frames of a redistributor without and with virtual LPIs, in bytes.
const STRIDE: u64 = 0x2_0000;
const STRIDE_VLPI: u64 = 0x4_0000;
const SGI_FRAME: u64 = 0x1_0000;

/// ICH_HCR_EL2.En.
const HCR_EN: u64 = 1;
/// ICH_HCR_EL2.TDIR: writes to ICC_DIR_EL1 trap.
const HCR_TDIR: u64 = 1 << 14;
/// ICH_VTR_EL2.TDS: TDIR exists.
const VTR_TDS: u64 = 1 << 19;

register_bitfields! {
    u32,
    GICR_CTLR [
        /// Register write pending.
        RWP OFFSET(3) NUMBITS(1) []
    ],
    GICR_WAKER [
        /// The CPU interface is quiescent.
        ChildrenAsleep OFFSET(2) NUMBITS(1) [],
        /// Interrupts wake the CPU by the power controller.
        ProcessorSleep OFFSET(1) NUMBITS(1) []
    ]
}

register_structs! {
    /// The RD frame of a redistributor (12.10).
    Redistributor {
        (0x0000 => ctlr: ReadOnly<u32, GICR_CTLR::Register>),
        (0x0004 => _iidr: ReadOnly<u32>),
        (0x0008 => typer: ReadOnly<u64>),
        (0x0010 => _reserved0),
        (0x0014 => waker: ReadWrite<u32, GICR_WAKER::Register>),
        (0x0018 => _reserved1),
        (0x1000 => @END),
    }
}

register_structs! {
    /// The routing registers of the distributor, from its offset 0x6000 on.
    Routers {
        (0x0000 => irouter: [ReadWrite<u64>; 1024]),
        (0x2000 => @END),
    }
}

/// What is known of a physical CPU. 0 until the CPU has come up.
#[derive(Default)]
struct Cpu {
    /// The address of its redistributor.
    redistributor: AtomicU64,
    /// Its affinity.
    affinity: AtomicU64,
}

/// A GICv3.
pub(super) struct GicV3 {
    distributor: Pa,
    regions: Vec<PaRange>,
    stride: Option<u64>,
    cpus: [Cpu; MAX_CPUS],
}

impl GicV3 {
    /// Describes a GICv3; touches nothing.
    pub(super) fn new(distributor: Pa, regions: &[PaRange], stride: Option<u64>) -> Self {
        let cpus = [const { Cpu { redistributor: AtomicU64::new(0), affinity: AtomicU64::new(0) } }; MAX_CPUS];
        Self { distributor, regions: regions.to_vec(), stride, cpus }
    }

    #[inline(always)]
    pub(super) fn frame(&self) -> &Frame {
        // SAFETY: the address is GICD's by the device tree, and boot maps it as Device memory before the first use.
        unsafe { Frame::at(self.distributor) }
    }

    /// Takes the distributor over: every SPI disabled and clean, affinity routing and Group 1 on.
    pub(super) fn init_distributor(&self) {
        let frame = self.frame();
        frame.ctlr.set(0);
        frame.settle(RWP);
        frame.ctlr.set(1 << 4);
        frame.settle(RWP);
        for word in 1..=frame.spi_words() {
            frame.initialise(word, !0, || frame.settle(RWP));
        }
        frame.ctlr.set(CTLR_ENABLE);
        frame.settle(RWP);
    }

    /// Takes this CPU's redistributor and CPU interface over.
    pub(super) fn init_cpu(&self, cpu: CpuId, mpidr: Mpidr, own: &[Intid]) -> Result<(), IrqchipError> {
        let base = self.find(mpidr).ok_or(IrqchipError::NoRedistributor { mpidr })?;
        let redistributor = redistributor(base);
        redistributor.waker.modify(GICR_WAKER::ProcessorSleep::CLEAR);
        poll(|| !redistributor.waker.is_set(GICR_WAKER::ChildrenAsleep))?;
        write_gic!("icc_sre_el2", 0xf);
        synchronise();
        let frame = sgi_frame(base);
        frame.initialise(0, !0, || settle(base));
        own.iter().for_each(|&intid| frame.enable_own(intid));
        write_gic!("icc_sre_el1", 7);
        write_gic!("icc_pmr_el1", 0xff);
        write_gic!("icc_bpr1_el1", 0);
        // EOImode: EL2 drops the priority only; the guest's EOI deactivates.
        write_gic!("icc_ctlr_el1", 1 << 1);
        write_gic!("icc_igrpen1_el1", 1);
        synchronise();
        if let Some(known) = self.cpus.get(cpu.index()) {
            known.affinity.store(mpidr.get(), Relaxed);
            known.redistributor.store(base.get(), Relaxed);
        }
        Ok(())
    }

    /// Finds the redistributor of a CPU by GICR_TYPER.Affinity_Value. Bounded by the size of the regions.
    fn find(&self, mpidr: Mpidr) -> Option<Pa> {
        let affinity = mpidr.get() >> 32 << 24 | mpidr.get() & 0xff_ffff;
        for region in &self.regions {
            let mut base = region.start();
            while region.end().get().saturating_sub(base.get()) >= STRIDE {
                let typer = redistributor(base).typer.get();
                if typer >> 32 == affinity {
                    return Some(base);
                }
                // Last: nothing follows in this region.
                if typer >> 4 & 1 == 1 {
                    break;
                }
                let vlpi = typer >> 1 & 1 == 1;
                base = base.checked_add(self.stride.unwrap_or(if vlpi { STRIDE_VLPI } else { STRIDE }).max(STRIDE))?;
            }
        }
        None
    }

    fn redistributor_of(&self, cpu: CpuId) -> Option<Pa> {
        let raw = self.cpus.get(cpu.index())?.redistributor.load(Relaxed);
        (raw != 0).then_some(Pa::new(raw))
    }

    fn affinity(&self, cpu: CpuId) -> Option<u64> {
        self.cpus.get(cpu.index()).map(|cpu| cpu.affinity.load(Relaxed))
    }
}

impl Interface for GicV3 {
    #[inline(always)]
    fn acknowledge(&self) -> Acknowledged {
        Acknowledged(read_gic!("icc_iar1_el1") as u32)
    }

    #[inline(always)]
    fn drop_priority(&self, acknowledged: Acknowledged) {
        write_gic!("icc_eoir1_el1", u64::from(acknowledged.0));
    }

    fn deactivate(&self, acknowledged: Acknowledged) {
        write_gic!("icc_dir_el1", u64::from(acknowledged.0));
    }

    fn kick(&self, cpu: CpuId) {
        let Some(affinity) = self.affinity(cpu) else { return };
        let (aff0, upper) = (affinity & 0xff, affinity & 0xff_00ff_ff00);
        let aff3 = (upper >> 32) << 48;
        let aff2 = (upper >> 16 & 0xff) << 32;
        let aff1 = (upper >> 8 & 0xff) << 16;
        let value = aff3 | (aff0 >> 4) << 44 | aff2 | u64::from(KICK.get()) << 24 | aff1 | 1 << (aff0 & 0xf);
        publish_stores();
        write_gic!("icc_sgi1r_el1", value);
        synchronise();
    }

    #[inline(always)]
    fn enable(&self, cpu: CpuId, word: usize, mask: u32) {
        if word != 0 {
            self.frame().enable(word, mask);
        } else if let Some(base) = self.redistributor_of(cpu) {
            sgi_frame(base).enable(0, mask);
        }
    }

    fn change(&self, cpu: CpuId, bits: &HwBits) {
        if bits.word != 0 {
            let frame = self.frame();
            frame.apply(bits.word, bits, || frame.settle(RWP));
        } else if let Some(base) = self.redistributor_of(cpu) {
            sgi_frame(base).apply(0, bits, || settle(base));
        }
    }

    fn route(&self, intid: Intid, cpu: CpuId) {
        // SAFETY: GICD of a GICv3 has its routing registers there, in the pages that boot maps.
        let routers = unsafe { &*((self.distributor.get() + 0x6000) as *const Routers) };
        if let (Some(register), Some(affinity)) = (routers.irouter.get(intid.index()), self.affinity(cpu)) {
            register.set(affinity);
        }
    }

    fn configure(&self, word: usize, mask: u32, edge: u32) {
        self.frame().configure(word, mask, edge);
    }

    fn pending(&self, cpu: CpuId, word: usize) -> u32 {
        if word != 0 {
            return self.frame().pending(word);
        }
        self.redistributor_of(cpu).map_or(0, |base| sgi_frame(base).pending(0))
    }

    #[inline(always)]
    fn free_lrs(&self) -> u32 {
        read_gic!("ich_elrsr_el2") as u32
    }

    #[inline(always)]
    fn read_lr(&self, index: u32) -> Lr {
        Lr::from_v3(match index {
            0 => read_gic!("ich_lr0_el2"),
            1 => read_gic!("ich_lr1_el2"),
            2 => read_gic!("ich_lr2_el2"),
            3 => read_gic!("ich_lr3_el2"),
            4 => read_gic!("ich_lr4_el2"),
            5 => read_gic!("ich_lr5_el2"),
            6 => read_gic!("ich_lr6_el2"),
            7 => read_gic!("ich_lr7_el2"),
            8 => read_gic!("ich_lr8_el2"),
            9 => read_gic!("ich_lr9_el2"),
            10 => read_gic!("ich_lr10_el2"),
            11 => read_gic!("ich_lr11_el2"),
            12 => read_gic!("ich_lr12_el2"),
            13 => read_gic!("ich_lr13_el2"),
            14 => read_gic!("ich_lr14_el2"),
            _ => read_gic!("ich_lr15_el2"),
        })
    }

    #[inline(always)]
    fn write_lr(&self, index: u32, lr: Lr) {
        let raw = lr.to_v3();
        match index {
            0 => write_gic!("ich_lr0_el2", raw),
            1 => write_gic!("ich_lr1_el2", raw),
            2 => write_gic!("ich_lr2_el2", raw),
            3 => write_gic!("ich_lr3_el2", raw),
            4 => write_gic!("ich_lr4_el2", raw),
            5 => write_gic!("ich_lr5_el2", raw),
            6 => write_gic!("ich_lr6_el2", raw),
            7 => write_gic!("ich_lr7_el2", raw),
            8 => write_gic!("ich_lr8_el2", raw),
            9 => write_gic!("ich_lr9_el2", raw),
            10 => write_gic!("ich_lr10_el2", raw),
            11 => write_gic!("ich_lr11_el2", raw),
            12 => write_gic!("ich_lr12_el2", raw),
            13 => write_gic!("ich_lr13_el2", raw),
            14 => write_gic!("ich_lr14_el2", raw),
            _ => write_gic!("ich_lr15_el2", raw),
        }
    }

    fn lr_count(&self) -> u32 {
        (read_gic!("ich_vtr_el2") & 0x1f) as u32 + 1
    }

    fn priority_bits(&self) -> u32 {
        (read_gic!("ich_vtr_el2") >> 29 & 7) as u32 + 1
    }

    fn control(&self) -> Control {
        Control::new(read_gic!("ich_vmcr_el2") as u32)
    }

    fn eoi_count(&self) -> u32 {
        (read_gic!("ich_hcr_el2") >> 27 & 0x1f) as u32
    }

    fn set_maintenance(&self, wanted: Maintenance) {
        let tdir = if read_gic!("ich_vtr_el2") & VTR_TDS != 0 { HCR_TDIR } else { 0 };
        write_gic!("ich_hcr_el2", HCR_EN | tdir | u64::from(wanted.bits()));
    }

    fn reset_interface(&self) {
        write_gic!("ich_hcr_el2", 0);
        for index in 0..self.lr_count() {
            self.write_lr(index, Lr::EMPTY);
        }
        write_gic!("ich_vmcr_el2", 0);
        write_gic!("ich_ap0r0_el2", 0);
        write_gic!("ich_ap1r0_el2", 0);
        // 32 preemption levels to a register.
        let preemption_bits = (read_gic!("ich_vtr_el2") >> 26 & 7) + 1;
        if preemption_bits >= 6 {
            write_gic!("ich_ap0r1_el2", 0);
            write_gic!("ich_ap1r1_el2", 0);
        }
        if preemption_bits >= 7 {
            write_gic!("ich_ap0r2_el2", 0);
            write_gic!("ich_ap0r3_el2", 0);
            write_gic!("ich_ap1r2_el2", 0);
            write_gic!("ich_ap1r3_el2", 0);
        }
        synchronise();
    }
}

fn redistributor<'a>(base: Pa) -> &'a Redistributor {
    // SAFETY: the address lies in a redistributor region of the device tree at a multiple of the stride, and boot maps
    // the regions as Device memory before the first use. Registers are interior-mutable.
    unsafe { &*(base.get() as *const Redistributor) }
}

fn sgi_frame<'a>(base: Pa) -> &'a Frame {
    // SAFETY: the SGI frame follows the RD frame of each redistributor.
    unsafe { Frame::at(Pa::new(base.get() + SGI_FRAME)) }
}

/// Waits until a disabling at a redistributor has taken effect.
fn settle(base: Pa) {
    // As for the distributor: broken hardware is not made safer by stopping here.
    let _ = poll(|| !redistributor(base).ctlr.is_set(GICR_CTLR::RWP));
}
