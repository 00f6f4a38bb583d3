// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv2 with virtualization extensions, such as GIC-400 (Arm IHI 0048), without security extensions or as their
//! Non-secure side. All interrupts are in the one group that this side controls.

use super::bank::Bank;
use super::{Frames, GUEST_SGI, InitError, KICK, Kick, Port, read32, write32};
use crate::addr::{Pa, PaRange};
use crate::arch::sysreg::dsb_ishst;
use crate::id::{Intid, Mpidr};
use crate::vgic::Lr;

const GICD_CTLR: u64 = 0x000;
const GICD_TYPER: u64 = 0x004;
const GICD_ITARGETSR: u64 = 0x800;
const GICD_SGIR: u64 = 0xf00;

const GICC_CTLR: u64 = 0x000;
const GICC_PMR: u64 = 0x004;
const GICC_BPR: u64 = 0x008;
const GICC_IAR: u64 = 0x00c;
const GICC_EOIR: u64 = 0x010;
const GICC_APR: u64 = 0x0d0;

const GICH_HCR: u64 = 0x000;
const GICH_VTR: u64 = 0x004;
const GICH_VMCR: u64 = 0x008;
const GICH_ELRSR: u64 = 0x030;
const GICH_APR: u64 = 0x0f0;
const GICH_LR: u64 = 0x100;

/// The driver.
pub struct GicV2 {
    distributor: Pa,
    interface: Pa,
    /// GICC_DIR: in the second page, or in the last 4 KiB of the first of two 64 KiB ones.
    deactivate: Pa,
    hypervisor: Pa,
    maintenance: Intid,
    spi_words: usize,
}

impl GicV2 {
    pub(super) fn new(distributor: Pa, interface: PaRange, hypervisor: Pa, maintenance: Intid) -> Self {
        let second_page = interface.start().get() + interface.size() / 2;
        let spi_words = (read32(distributor, GICD_TYPER) & 0x1f) as usize;
        let deactivate = Pa::new(second_page);
        Self { distributor, interface: interface.start(), deactivate, hypervisor, maintenance, spi_words }
    }

    pub(super) fn frames(&self) -> Frames {
        Frames { gicd: self.distributor, gicc: self.interface, gicc_dir: self.deactivate, gich: self.hypervisor }
    }

    pub(super) fn distributor(&self) -> Bank {
        Bank::new(self.distributor)
    }

    pub(super) fn maintenance(&self) -> Intid {
        self.maintenance
    }

    #[inline(always)]
    pub(super) fn spi_words(&self) -> usize {
        self.spi_words
    }

    pub(super) fn init_distributor(&self) {
        write32(self.distributor, GICD_CTLR, 0);
        for word in 1..=self.spi_words() {
            self.distributor().reset(word, 0);
        }
        write32(self.distributor, GICD_CTLR, 1);
    }

    pub(super) fn init_cpu(&self, mpidr: Mpidr, timer: Intid) -> Result<Port, InitError> {
        const ENABLE: u32 = 1;
        const EOI_MODE: u32 = 1 << 9;
        let private = Bank::new(self.distributor);
        private.reset(0, 0);
        private.enable(0, 1 << KICK.get() | 1 << GUEST_SGI.get() | 1 << self.maintenance.get() | 1 << timer.get());
        write32(self.interface, GICC_PMR, 0xff);
        write32(self.interface, GICC_BPR, 0);
        // What the loader has acknowledged and never ended: its running priority would mask every interrupt.
        for register in 0..4 {
            write32(self.interface, GICC_APR + 4 * register, 0);
        }
        write32(self.interface, GICC_CTLR, ENABLE | EOI_MODE);
        super::reset_virtual_interface();
        // A CPU reads its own interface's bit in the targets of its private interrupts. A single CPU may read 0.
        let own = (0..8).map(|word| read32(self.distributor, GICD_ITARGETSR + 4 * word)).find(|targets| *targets != 0);
        let mask = own.map_or(1, |targets| targets.to_le_bytes().into_iter().fold(0, |all, byte| all | byte));
        let _ = mpidr;
        let mask = u64::from(mask);
        Ok(Port {
            private,
            spis: self.distributor(),
            spi_words: self.spi_words,
            sgi: mask << 16,
            kick: Kick::Sgi,
            route: mask,
        })
    }

    /// GICv2 has no register-write-pending bit: a read back orders the write before what follows.
    pub(super) fn wait_for_writes(&self, _port: &Port, _word: usize) {
        let _ = read32(self.distributor, GICD_CTLR);
    }

    #[inline(always)]
    pub(super) fn acknowledge(&self) -> u32 {
        read32(self.interface, GICC_IAR)
    }

    #[inline(always)]
    pub(super) fn drop_priority(&self, interrupt: u32) {
        write32(self.interface, GICC_EOIR, interrupt);
    }

    #[inline(always)]
    pub(super) fn deactivate(&self, interrupt: u32) {
        write32(self.deactivate, 0, interrupt);
    }

    pub(super) fn kick(&self, value: u64) {
        self.signal(value);
    }

    #[inline(always)]
    pub(super) fn signal(&self, value: u64) {
        signal(self.distributor, value);
    }

    pub(super) fn route(&self, intid: Intid, target: u64) {
        let register = (self.distributor.get() + GICD_ITARGETSR + u64::from(intid.get())) as *mut u8;
        // SAFETY: GICD_ITARGETSR is byte-accessible (IHI 0048, 4.3.12), so that neighbours' targets are not touched.
        unsafe { register.write_volatile(target as u8) };
    }

    pub(super) fn list_register_count(&self) -> u32 {
        (read32(self.hypervisor, GICH_VTR) & 0x3f).min(15) + 1
    }

    pub(super) fn priority_bits(&self) -> u32 {
        5
    }

    #[inline(always)]
    pub(super) fn read_lr(&self, index: u32) -> Lr {
        Lr::from_v2(read32(self.hypervisor, GICH_LR + 4 * u64::from(index & 0xf)))
    }

    #[inline(always)]
    pub(super) fn write_lr(&self, index: u32, lr: Lr) {
        write32(self.hypervisor, GICH_LR + 4 * u64::from(index & 0xf), lr.to_v2());
    }

    #[inline(always)]
    pub(super) fn free_lrs(&self) -> u32 {
        free_lrs(self.hypervisor)
    }

    pub(super) fn vmcr(&self) -> u32 {
        read32(self.hypervisor, GICH_VMCR)
    }

    pub(super) fn hcr(&self) -> u32 {
        read32(self.hypervisor, GICH_HCR)
    }

    pub(super) fn set_hcr(&self, value: u32) {
        write32(self.hypervisor, GICH_HCR, value);
    }

    pub(super) fn reset_virtual_interface(&self) {
        write32(self.hypervisor, GICH_VMCR, 0);
        write32(self.hypervisor, GICH_APR, 0);
    }
}

#[inline(always)]
pub(super) fn signal(gicd: Pa, value: u64) {
    dsb_ishst(); // the mail is visible before the interrupt
    write32(gicd, GICD_SGIR, value as u32);
}

#[inline(always)]
pub(super) fn free_lrs(gich: Pa) -> u32 {
    read32(gich, GICH_ELRSR)
}

#[inline(always)]
pub(super) fn write_first_lr(gich: Pa, lr: Lr) {
    write32(gich, GICH_LR, lr.to_v2());
}
