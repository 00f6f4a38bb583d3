// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv3 and GICv4 (Arm IHI 0069), with one security state or as the Non-secure side of two. CPU interface and virtual
//! interface are system registers. Guests' interrupts are in Group 1; the hypervisor's are in Group 0 where that is its own.

use alloc::vec::Vec;

use super::bank::Bank;
use super::{GUEST_SGI, Group, InitError, KICK, Kick, OWN_PRIORITY, PATIENCE, Port, read32, write32};
use crate::addr::{Pa, PaRange};
use crate::arch::sysreg::{dsb_ishst, isb};
use crate::config::Delivery;
use crate::id::{Intid, Mpidr};
use crate::vgic::{HwBits, Lr};
use crate::{read_sysreg, write_sysreg};

const GICD_CTLR: u64 = 0x0000;
const GICD_TYPER: u64 = 0x0004;
const GICD_IROUTER: u64 = 0x6000;
const GICR_CTLR: u64 = 0x0000;
const GICR_TYPER: u64 = 0x0008;
const GICR_WAKER: u64 = 0x0014;
/// The redistributor's second frame: SGIs and PPIs.
const SGI_FRAME: u64 = 0x1_0000;

/// GICD_CTLR: ARE or ARE_NS, and Group 1 (EnableGrp1, EnableGrp1A).
const ENABLE: u32 = 1 << 4 | 1 << 1;
/// GICD_CTLR with one security state: EnableGrp0 and DS.
const ENABLE_GROUP_0: u32 = 1 << 0;
const DS: u32 = 1 << 6;
const RWP_DISTRIBUTOR: u32 = 1 << 31;
const RWP_REDISTRIBUTOR: u32 = 1 << 3;

/// The driver.
pub struct GicV3 {
    distributor: Pa,
    redistributors: Vec<PaRange>,
    stride: Option<u64>,
    maintenance: Intid,
    spi_words: usize,
    /// The group of the hypervisor's own interrupts.
    own: Group,
}

/// Tells whether the GIC has a single security state, so that Group 0 is whoever's who runs.
pub(super) fn has_one_security_state(distributor: Pa) -> bool {
    read32(distributor, GICD_CTLR) & DS != 0
}

/// Returns how many words of 32 SPIs there are.
pub(super) fn spi_words(distributor: Pa) -> usize {
    (read32(distributor, GICD_TYPER) & 0x1f) as usize
}

impl GicV3 {
    pub(super) fn new(distributor: Pa, redistributors: Vec<PaRange>, stride: Option<u64>, maintenance: Intid) -> Self {
        let own = if has_one_security_state(distributor) { Group::Own } else { Group::Guests };
        Self { distributor, redistributors, stride, maintenance, spi_words: spi_words(distributor), own }
    }

    #[inline(always)]
    pub(super) fn own_group(&self) -> Group {
        self.own
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
        self.wait(self.distributor, GICD_CTLR, RWP_DISTRIBUTOR);
        for word in 1..=self.spi_words() {
            self.distributor().reset(word, u32::MAX);
        }
        self.wait(self.distributor, GICD_CTLR, RWP_DISTRIBUTOR);
        let groups = match self.own {
            Group::Own => ENABLE | ENABLE_GROUP_0,
            Group::Guests => ENABLE,
        };
        write32(self.distributor, GICD_CTLR, groups);
        self.wait(self.distributor, GICD_CTLR, RWP_DISTRIBUTOR);
    }

    pub(super) fn init_cpu(&self, mpidr: Mpidr, timer: Intid, delivery: Delivery) -> Result<Port, InitError> {
        const SRE: u64 = 1;
        write_sysreg!("icc_sre_el2", 0xf);
        isb();
        if read_sysreg!("icc_sre_el2") & SRE == 0 {
            return Err(InitError::NoSystemRegisters(mpidr));
        }
        let frame = self.redistributor(mpidr).ok_or(InitError::NoRedistributor(mpidr))?;
        self.wake(frame).ok_or(InitError::Asleep(mpidr))?;
        let private = Bank::new(Pa::new(frame.get() + SGI_FRAME));
        private.reset(0, u32::MAX);
        self.wait(frame, GICR_CTLR, RWP_REDISTRIBUTOR);
        // All SGIs are the guest's where they arrive directly; the maintenance interrupt, which has no other use there, is
        // the kick. A write to ISPENDR makes a level-sensitive interrupt pending until it is acknowledged (IHI 0069, 4.1).
        let own = 1 << self.maintenance.get() | 1 << timer.get();
        let (kick, own, others) = match delivery {
            Delivery::Virtual => (Kick::Sgi, own | 1 << KICK.get(), 1 << GUEST_SGI.get()),
            Delivery::Direct => (Kick::Private(1 << self.maintenance.get()), own, 0),
        };
        if self.own == Group::Own {
            private.set_groups(0, !own);
            for intid in (0..32).filter(|bit| own >> bit & 1 == 1).map(Intid::new) {
                private.set_priority(intid, OWN_PRIORITY);
            }
        }
        private.enable(0, own | others);
        write_sysreg!("icc_pmr_el1", 0xff);
        write_sysreg!("icc_bpr1_el1", 0);
        write_sysreg!("icc_ctlr_el1", 1 << 1); // EOImode
        isb();
        clear_active_priorities();
        // Where interrupts arrive directly, none of the guest's is ever to arrive here.
        let takes_guests = u64::from(delivery == Delivery::Virtual);
        write_sysreg!("icc_igrpen1_el1", takes_guests);
        isb();
        super::reset_virtual_interface();
        if self.own == Group::Own {
            self.init_own_group(private).ok_or(InitError::NoGroup0(mpidr))?;
        }
        let affinity = mpidr.get();
        Ok(Port {
            private,
            spis: self.distributor(),
            spi_words: self.spi_words,
            sgi: sgi_to(affinity),
            kick,
            route: affinity & 0xff_00ff_ffff,
        })
    }

    /// Enables Group 0 and makes sure that it is the hypervisor's: an interrupt of it is pending as an FIQ at EL2
    /// (ISR_EL1.F), and is acknowledged there.
    fn init_own_group(&self, private: Bank) -> Option<()> {
        const FIQ: u64 = 1 << 6;
        write_sysreg!("icc_bpr0_el1", 0);
        write_sysreg!("icc_ap0r0_el1", 0);
        write_sysreg!("icc_igrpen0_el1", 1);
        isb();
        private.change(&HwBits { set_pending: 1 << self.maintenance.get(), ..HwBits::default() });
        (0..PATIENCE).find(|_| read_sysreg!("isr_el1") & FIQ != 0)?;
        let taken = self.acknowledge_own();
        if taken == 1023 {
            return None;
        }
        drop_own_priority(taken);
        deactivate_own(taken);
        (taken == self.maintenance.get()).then_some(())
    }

    /// Finds the redistributor with this affinity: GICR_TYPER.Affinity_Value holds Aff3 to Aff0 in bits 63 to 32.
    fn redistributor(&self, mpidr: Mpidr) -> Option<Pa> {
        let raw = mpidr.get();
        let wanted = (raw & 0xff_ffff) | (raw >> 32 & 0xff) << 24;
        for region in &self.redistributors {
            let mut frame = region.start();
            while region.contains(frame) {
                let low = read32(frame, GICR_TYPER);
                if u64::from(read32(frame, GICR_TYPER + 4)) == wanted {
                    return Some(frame);
                }
                let (last, virtual_lpis) = (low >> 4 & 1 == 1, low >> 1 & 1 == 1);
                if last {
                    break;
                }
                let step = self.stride.unwrap_or(if virtual_lpis { 0x4_0000 } else { 0x2_0000 }).max(0x2_0000);
                frame = frame.checked_add(step)?;
            }
        }
        None
    }

    fn wake(&self, frame: Pa) -> Option<()> {
        const PROCESSOR_SLEEP: u32 = 1 << 1;
        const CHILDREN_ASLEEP: u32 = 1 << 2;
        let value = read32(frame, GICR_WAKER);
        write32(frame, GICR_WAKER, value & !PROCESSOR_SLEEP);
        self.wait(frame, GICR_WAKER, CHILDREN_ASLEEP)
    }

    /// Waits, bounded, until a bit is clear.
    fn wait(&self, frame: Pa, offset: u64, bit: u32) -> Option<()> {
        (0..PATIENCE).find(|_| read32(frame, offset) & bit == 0).map(|_| ())
    }

    pub(super) fn wait_for_writes(&self, port: &Port, word: usize) {
        // Giving up after the bounded wait leaves an interrupt that may still arrive once; it is ignored then.
        let _ = if word == 0 {
            self.wait(Pa::new(port.private.base().get() - SGI_FRAME), GICR_CTLR, RWP_REDISTRIBUTOR)
        } else {
            self.wait(self.distributor, GICD_CTLR, RWP_DISTRIBUTOR)
        };
    }

    #[inline(always)]
    pub(super) fn acknowledge(&self) -> u32 {
        read_sysreg!("icc_iar1_el1") as u32
    }

    #[inline(always)]
    pub(super) fn acknowledge_own(&self) -> u32 {
        read_sysreg!("icc_iar0_el1") as u32
    }

    #[inline(always)]
    pub(super) fn drop_priority(&self, interrupt: u32) {
        write_sysreg!("icc_eoir1_el1", u64::from(interrupt));
    }

    #[inline(always)]
    pub(super) fn deactivate(&self, interrupt: u32) {
        write_sysreg!("icc_dir_el1", u64::from(interrupt));
    }

    pub(super) fn signal(&self, value: u64) {
        signal(value);
        isb();
    }

    /// Raises an SGI of the hypervisor's own group.
    pub(super) fn kick(&self, value: u64) {
        match self.own {
            Group::Own => {
                dsb_ishst(); // the mail is visible before the interrupt
                write_sysreg!("icc_sgi0r_el1", value);
            }
            Group::Guests => signal(value),
        }
        isb();
    }

    pub(super) fn route(&self, intid: Intid, target: u64) {
        let offset = GICD_IROUTER + 8 * u64::from(intid.get());
        write32(self.distributor, offset, target as u32);
        write32(self.distributor, offset + 4, (target >> 32) as u32);
    }

    pub(super) fn route_of(&self, intid: Intid) -> u64 {
        let offset = GICD_IROUTER + 8 * u64::from(intid.get());
        u64::from(read32(self.distributor, offset)) | u64::from(read32(self.distributor, offset + 4)) << 32
    }

    pub(super) fn list_register_count(&self) -> u32 {
        (read_sysreg!("ich_vtr_el2") & 0xf) as u32 + 1
    }

    pub(super) fn priority_bits(&self) -> u32 {
        (read_sysreg!("ich_vtr_el2") >> 29 & 7) as u32 + 1
    }

    #[inline(always)]
    pub(super) fn read_lr(&self, index: u32) -> Lr {
        macro_rules! read {
            ($($index:literal)*) => {
                match index {
                    $($index => read_sysreg!(concat!("ich_lr", stringify!($index), "_el2")),)*
                    _ => 0,
                }
            };
        }
        Lr::from_v3(read!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
    }

    #[inline(always)]
    pub(super) fn write_lr(&self, index: u32, lr: Lr) {
        macro_rules! write {
            ($($index:literal)*) => {
                match index {
                    $($index => write_sysreg!(concat!("ich_lr", stringify!($index), "_el2"), lr.to_v3()),)*
                    _ => {}
                }
            };
        }
        write!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }

    #[inline(always)]
    pub(super) fn free_lrs(&self) -> u32 {
        free_lrs()
    }

    pub(super) fn vmcr(&self) -> u32 {
        read_sysreg!("ich_vmcr_el2") as u32
    }

    pub(super) fn hcr(&self) -> u32 {
        read_sysreg!("ich_hcr_el2") as u32
    }

    /// Sets ICH_HCR_EL2, and in it TDIR where there is one (ICH_VTR_EL2.TDS): what a guest deactivates may be in another
    /// vCPU's list register or in none.
    pub(super) fn set_hcr(&self, value: u32) {
        const TDS: u64 = 1 << 19;
        const TDIR: u64 = 1 << 14;
        let trap = if read_sysreg!("ich_vtr_el2") & TDS != 0 { TDIR } else { 0 };
        write_sysreg!("ich_hcr_el2", u64::from(value) | trap);
    }

    pub(super) fn reset_virtual_interface(&self) {
        write_sysreg!("ich_vmcr_el2", 0);
        // How many active-priority registers there are follows from the preemption bits: 5, 6 or 7.
        let preemption_bits = (read_sysreg!("ich_vtr_el2") >> 26 & 7) + 1;
        write_sysreg!("ich_ap0r0_el2", 0);
        write_sysreg!("ich_ap1r0_el2", 0);
        if preemption_bits >= 6 {
            write_sysreg!("ich_ap0r1_el2", 0);
            write_sysreg!("ich_ap1r1_el2", 0);
        }
        if preemption_bits >= 7 {
            write_sysreg!("ich_ap0r2_el2", 0);
            write_sysreg!("ich_ap0r3_el2", 0);
            write_sysreg!("ich_ap1r2_el2", 0);
            write_sysreg!("ich_ap1r3_el2", 0);
        }
        // The guest's own enable of system registers: RAO/WI where the memory-mapped interface is not there.
        write_sysreg!("icc_sre_el1", 7);
        isb();
    }
}

/// Raises an SGI; it is on its way at the next context synchronisation, such as the ERET of an exit.
#[inline(always)]
pub(super) fn signal(value: u64) {
    dsb_ishst(); // the mail is visible before the interrupt
    write_sysreg!("icc_sgi1r_el1", value);
}

#[inline(always)]
pub(super) fn free_lrs() -> u32 {
    read_sysreg!("ich_elrsr_el2") as u32
}

#[inline(always)]
pub(super) fn write_first_lr(lr: Lr) {
    write_sysreg!("ich_lr0_el2", lr.to_v3());
}

/// Drops the priority of an interrupt of Group 0; a guest's EOImode 0 deactivates it as well.
pub(super) fn drop_own_priority(interrupt: u32) {
    write_sysreg!("icc_eoir0_el1", u64::from(interrupt));
}

/// Deactivates an interrupt of Group 0, unless dropping its priority did.
pub(super) fn deactivate_own(interrupt: u32) {
    const EOI_MODE: u64 = 1 << 1;
    if read_sysreg!("icc_ctlr_el1") & EOI_MODE != 0 {
        write_sysreg!("icc_dir_el1", u64::from(interrupt));
    }
}

/// Drops what the loader has acknowledged and never ended: its running priority would mask every interrupt.
pub(super) fn clear_active_priorities() {
    // How many registers there are follows from the priority bits, ICC_CTLR_EL1.PRIbits.
    let priority_bits = (read_sysreg!("icc_ctlr_el1") >> 8 & 7) + 1;
    write_sysreg!("icc_ap1r0_el1", 0);
    if priority_bits >= 6 {
        write_sysreg!("icc_ap1r1_el1", 0);
    }
    if priority_bits >= 7 {
        write_sysreg!("icc_ap1r2_el1", 0);
        write_sysreg!("icc_ap1r3_el1", 0);
    }
}

/// Returns what ICC_SGI1R_EL1 takes to raise SGI 0 at one CPU.
pub(super) const fn sgi_to(affinity: u64) -> u64 {
    let aff0 = affinity & 0xff;
    let (aff1, aff2, aff3) = (affinity >> 8 & 0xff, affinity >> 16 & 0xff, affinity >> 32 & 0xff);
    let (range, target) = (aff0 >> 4, 1 << (aff0 & 0xf));
    aff3 << 48 | range << 44 | aff2 << 32 | aff1 << 16 | target
}
