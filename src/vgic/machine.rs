// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hardware as the policy sees it: the list registers of the CPU it runs on, the interrupts its partition owns, and
//! a way to reach its other vCPUs. Each call is one effect; the PC tests have a fake behind it.

use super::lr::Lr;
use super::outcome::{HwChange, VcpuMask};

/// The level of an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Asserted.
    High,
    /// Not asserted.
    Low,
}

/// Whether a wait may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// There is time left.
    Left,
    /// It has lasted too long.
    Over,
}

/// What the guest has set in its CPU interface: ICH_VMCR_EL2 or GICH_VMCR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(u32);

impl Control {
    /// Wraps the register; both have the bits used here in the same place.
    pub const fn new(vmcr: u32) -> Self {
        Self(vmcr)
    }

    /// Tells whether the guest takes interrupts of the group (0 or 1): VENG<n>.
    pub const fn enables_group(self, group: u32) -> bool {
        self.0 >> (group & 1) & 1 == 1
    }

    /// Tells whether EOI only drops the priority: VEOIM.
    pub const fn splits_eoi(self) -> bool {
        self.0 >> 9 & 1 == 1
    }
}

/// Which maintenance interrupts are wanted: bits of ICH_HCR_EL2 and GICH_HCR, which agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance(u32);

impl Maintenance {
    /// None.
    pub const NONE: Self = Self(0);
    /// At an EOI of an interrupt that is in no list register: LRENPIE.
    pub const LIST_REGISTER_ENTRY_NOT_PRESENT: Self = Self(1 << 2);
    /// When no list register is pending: NPIE.
    pub const NO_PENDING: Self = Self(1 << 3);

    /// When the guest enables a group in its CPU interface: VGrp<n>EIE.
    pub const fn group_enabled(group: u32) -> Self {
        Self(1 << (4 + 2 * (group & 1)))
    }

    /// When the guest disables a group in its CPU interface: VGrp<n>DIE.
    pub const fn group_disabled(group: u32) -> Self {
        Self(1 << (5 + 2 * (group & 1)))
    }

    /// Returns both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the register bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// The hardware, from the CPU that runs the vCPU in question.
pub trait Machine {
    /// Reads a list register.
    fn read_lr(&mut self, index: u32) -> Lr;
    /// Writes a list register.
    fn write_lr(&mut self, index: u32, lr: Lr);
    /// Returns which list registers can be written without losing anything, one bit each: ELRSR.
    fn free_lrs(&mut self) -> u32;
    /// Returns what the guest has set in its CPU interface.
    fn control(&mut self) -> Control;
    /// Returns how many EOIs found no list register since the last call of `set_maintenance`: EOIcount.
    fn eoi_count(&mut self) -> u32;
    /// Chooses the maintenance interrupts, and clears EOIcount.
    fn set_maintenance(&mut self, wanted: Maintenance);
    /// Enables SPIs of a word, or private interrupts of this CPU with word 0.
    fn enable(&mut self, word: usize, mask: u32) {
        self.change(&HwChange::Enable { word, mask });
    }
    /// Changes the physical distributor.
    fn change(&mut self, change: &HwChange);
    /// Returns which SPIs of a word are physically active.
    fn active(&mut self, word: usize) -> u32;
    /// Returns which interrupts of a word are physically pending; word 0 is this CPU's.
    fn pending(&mut self, word: usize) -> u32;
    /// Makes the CPUs of these vCPUs leave their guest and refresh.
    fn kick(&mut self, vcpus: VcpuMask);
    /// Makes the CPUs of these vCPUs leave their guest and take the SGIs that are pending for it.
    fn signal(&mut self, vcpus: VcpuMask);
    /// Lets a moment pass in a wait for other vCPUs.
    fn pause(&mut self) -> Patience;
}
