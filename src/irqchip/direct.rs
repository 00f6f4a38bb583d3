// SPDX-License-Identifier: MIT OR Apache-2.0
//! What direct delivery needs of the physical GICv3 (Arm IHI 0069): a guest's CPU interface is the physical one, and what
//! of it traps is carried out here on behalf of the guest. `vgic::direct` has decided before that the guest may.

use super::{CHIP, Chip, Port};
use crate::arch::sysreg::isb;
use crate::id::{Intid, Mpidr};
use crate::{read_sysreg, write_sysreg};

/// ICH_HCR_EL2.TC: trap the registers that both groups share; En is clear, as there is no virtual interface.
const TRAP_COMMON: u64 = 1 << 10;
/// ICC_CTLR_EL1.EOImode.
const EOI_MODE: u64 = 1 << 1;
/// ICC_PMR_EL1 that lets through all of the hypervisor's interrupts and none of a guest's.
const NONE_OF_THE_GUEST: u64 = 0x80;
const ALL: u64 = 0xff;

/// Gives the calling CPU's interface to its guest as it is after a reset: no active priority, everything masked,
/// EOImode 0. IRQs are to be routed to EL1 when it begins.
pub fn give() {
    write_sysreg!("icc_igrpen1_el1", 0);
    super::gicv3::clear_active_priorities();
    write_sysreg!("icc_bpr1_el1", 0);
    write_sysreg!("icc_ctlr_el1", 0);
    write_sysreg!("icc_pmr_el1", NONE_OF_THE_GUEST);
    write_sysreg!("ich_hcr_el2", TRAP_COMMON);
    write_sysreg!("icc_sre_el1", 7);
    isb();
}

/// Takes the calling CPU's interface back from its guest, whatever that has left in it: only the hypervisor's interrupts
/// arrive from now on, at EL2.
pub fn take_back() {
    write_sysreg!("icc_igrpen1_el1", 0);
    super::gicv3::clear_active_priorities();
    write_sysreg!("icc_bpr1_el1", 0);
    write_sysreg!("icc_ctlr_el1", EOI_MODE);
    write_sysreg!("icc_pmr_el1", ALL);
    isb();
}

/// Reads the physical ICC_PMR_EL1.
pub fn mask() -> u64 {
    read_sysreg!("icc_pmr_el1")
}

/// Writes the physical ICC_PMR_EL1; the hypervisor's interrupts are more urgent than any value with bit 7 set.
pub fn set_mask(mask: u64) {
    write_sysreg!("icc_pmr_el1", mask | NONE_OF_THE_GUEST);
}

/// Reads the physical ICC_RPR_EL1.
pub fn running_priority() -> u64 {
    read_sysreg!("icc_rpr_el1")
}

/// Reads the physical ICC_CTLR_EL1.
pub fn control() -> u64 {
    read_sysreg!("icc_ctlr_el1")
}

/// Writes the physical ICC_CTLR_EL1.
pub fn set_control(control: u64) {
    write_sysreg!("icc_ctlr_el1", control);
    isb();
}

/// Deactivates an interrupt of the guest.
pub fn deactivate(intid: Intid) {
    write_sysreg!("icc_dir_el1", u64::from(intid.get()));
}

/// Sends a Group 1 SGI to a CPU.
pub fn send(intid: Intid, target: Mpidr) {
    write_sysreg!("icc_sgi1r_el1", super::gicv3::sgi_to(target.get()) | u64::from(intid.get()) << 24);
}

/// Sets the priority of an interrupt; for a private one at the CPU of `port`.
pub fn set_priority(port: &Port, intid: Intid, priority: u8) {
    if let Some(bank) = super::bank(port, intid.index() / 32) {
        bank.set_priority(intid, priority);
    }
}

/// Reads the priorities of the four interrupts from `first` on; for private ones at the CPU of `port`.
pub fn priorities(port: &Port, first: Intid) -> u32 {
    super::bank(port, first.index() / 32).map_or(0, |bank| bank.priorities(first))
}

/// Reads how the 16 SPIs from `first` on signal: ICFGR.
pub fn config(port: &Port, first: Intid) -> u32 {
    super::bank(port, first.index() / 32).map_or(0, |bank| bank.config(first))
}

/// Whose an SPI is, as the distributor holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiState {
    /// IGROUPR.
    pub group: u32,
    /// IPRIORITYR.
    pub priority: u8,
    /// IROUTER.
    pub route: u64,
}

/// Reads the state of an SPI, on a GICv3.
pub fn spi_state(intid: Intid) -> Option<SpiState> {
    let Some(Chip::V3(chip)) = CHIP.get() else { return None };
    let bank = chip.distributor();
    let priorities = bank.priorities(Intid::new(intid.get() & !3));
    Some(SpiState {
        group: bank.groups(intid.index() / 32) >> (intid.get() % 32) & 1,
        priority: (priorities >> (8 * (intid.get() & 3))) as u8,
        route: chip.route_of(intid),
    })
}

/// Returns which of the private interrupts of a CPU are in Group 0: the hypervisor's, where it has a group of its own.
pub fn own_private(port: &Port) -> u32 {
    !port.private.groups(0)
}
