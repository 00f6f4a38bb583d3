// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an access to the emulated controller asks for, as plain data.

use crate::id::{Intid, VcpuId};

/// A set of one partition's vCPUs, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuMask(u32);

impl VcpuMask {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Wraps raw bits: bit n is vCPU n.
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the set of one vCPU; empty for an id no partition can have.
    pub const fn of(vcpu: VcpuId) -> Self {
        match 1u32.checked_shl(vcpu.get() as u32) {
            Some(bit) => Self(bit),
            None => Self::NONE,
        }
    }

    /// Returns the raw bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Tells whether nobody is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether the vCPU is in the set.
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        self.0 & Self::of(vcpu).0 != 0
    }

    /// Returns the set with the vCPU in it.
    pub const fn with(self, vcpu: VcpuId) -> Self {
        Self(self.0 | Self::of(vcpu).0)
    }

    /// Returns the set without the vCPU.
    pub const fn without(self, vcpu: VcpuId) -> Self {
        Self(self.0 & !Self::of(vcpu).0)
    }

    /// Returns those in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Walks the set in ascending order.
    pub fn iter(self) -> impl Iterator<Item = VcpuId> {
        bits(self.0).map(|bit| VcpuId::new(bit as u8))
    }
}

/// Walks the set bits of a word in ascending order.
pub(crate) fn bits(mut word: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

/// Changes to 32 interrupts of the physical distributor: word n is INTIDs 32n to 32n+31, word 0 the private ones of the
/// executing CPU. Carried out in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HwBits {
    /// Which 32 interrupts.
    pub word: usize,
    /// Disabled; in effect (register write pending over) before the next step.
    pub disable: u32,
    /// Made pending.
    pub set_pending: u32,
    /// Made not pending.
    pub clear_pending: u32,
    /// Made active.
    pub activate: u32,
    /// Made not active.
    pub deactivate: u32,
    /// Enabled.
    pub enable: u32,
}

impl HwBits {
    /// Tells whether nothing is to be done.
    pub const fn is_empty(&self) -> bool {
        let all = self.disable | self.set_pending | self.clear_pending;
        all | self.activate | self.deactivate | self.enable == 0
    }
}

/// Whether an interrupt is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enabled {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// A change to the physical distributor. Only interrupts that the partition owns are ever named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HwChange {
    /// Nothing.
    #[default]
    None,
    /// Enables the SPIs of a word.
    Enable {
        /// Which 32 interrupts.
        word: usize,
        /// Which of them.
        mask: u32,
    },
    /// Changes state bits.
    Bits(HwBits),
    /// Routes an SPI.
    Route {
        /// The interrupt.
        intid: Intid,
        /// The vCPU to whose CPU it goes from now on; with `None` it is disabled until it is routed again.
        vcpu: Option<VcpuId>,
        /// Whether the guest has it enabled.
        state: Enabled,
    },
    /// Sets how SPIs of a word signal.
    Config {
        /// Which 32 interrupts.
        word: usize,
        /// Which of them change.
        mask: u32,
        /// Set for edge, clear for level.
        edge: u32,
    },
}

/// What is done to interrupts of one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operation {
    /// Nothing but looking at them again.
    #[default]
    Review,
    /// Write to ISENABLER.
    SetEnable,
    /// Write to ICENABLER.
    ClearEnable,
    /// Write to ISPENDR.
    SetPending,
    /// Write to ICPENDR.
    ClearPending,
    /// Write to ISACTIVER.
    SetActive,
    /// Write to ICACTIVER.
    ClearActive,
}

/// An operation on some interrupts of one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// What is done.
    pub operation: Operation,
    /// Which 32 interrupts.
    pub word: usize,
    /// Which of them.
    pub mask: u32,
}

impl Edit {
    /// Looks at some interrupts again.
    pub const fn review(word: usize, mask: u32) -> Self {
        Self { operation: Operation::Review, word, mask }
    }
}

/// What the accessing vCPU's own list registers need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Own {
    /// Nothing.
    #[default]
    Keep,
    /// The edit, in case one of its interrupts is in them.
    Held(Edit),
    /// The edit, and a new choice of what is in them.
    Refresh(Edit),
    /// GICv2: forget SGIs `first` to `first` + 3 from the CPU interfaces in the bytes of `from`.
    ForgetSources {
        /// The first SGI.
        first: u32,
        /// One byte of CPU interfaces for each SGI.
        from: u32,
    },
}

/// What other vCPUs must do to their list registers before the access is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recall {
    /// Who must.
    pub targets: VcpuMask,
    /// What.
    pub edit: Edit,
}

/// What an access asks for. Order: `hw`, `own`, `recall` and waiting for it, `kick`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The physical distributor's part.
    pub hw: HwChange,
    /// The own list registers' part.
    pub own: Own,
    /// What must be waited for.
    pub recall: Recall,
    /// vCPUs whose CPUs must be interrupted so that they look again.
    pub kick: VcpuMask,
}

impl Outcome {
    /// Nothing is to be done.
    pub const NONE: Self = Self {
        hw: HwChange::None,
        own: Own::Keep,
        recall: Recall { targets: VcpuMask::NONE, edit: Edit { operation: Operation::Review, word: 0, mask: 0 } },
        kick: VcpuMask::NONE,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_walked_upwards_to_the_last() {
        assert_eq!(bits(0x8000_0011).collect::<std::vec::Vec<_>>(), [0, 4, 31]);
        assert_eq!(bits(0).count(), 0);
    }

    #[test]
    fn vcpu_past_the_last_is_in_no_set() {
        assert!(VcpuMask::of(VcpuId::new(31)).contains(VcpuId::new(31)));
        assert!(VcpuMask::of(VcpuId::new(32)).is_empty());
    }
}
