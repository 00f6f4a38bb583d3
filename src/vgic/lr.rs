// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list register as a value. The policy knows one layout, that of ICH_LR<n>_EL2; the GICv2 driver translates at the
//! register.

use crate::id::Intid;

/// A list register in the layout of ICH_LR<n>_EL2 (Arm IHI 0069, 12.4).
///
/// With `HW` clear the bits of pINTID are free: bit 41 asks for a maintenance interrupt at EOI, and for a GICv2 SGI bits
/// 34:32 hold the source CPU, which is where GICH_LR<n> wants it after translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lr(u64);

impl Lr {
    /// A list register that holds nothing.
    pub const EMPTY: Self = Self(0);

    const ACTIVE: u64 = 1 << 63;
    const PENDING: u64 = 1 << 62;
    const HW: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    const EOI: u64 = 1 << 41;
    const PRIORITY_SHIFT: u32 = 48;
    const PRIORITY: u64 = 0xff << Self::PRIORITY_SHIFT;
    const PINTID_SHIFT: u32 = 32;
    const VINTID: u64 = 0xffff_ffff;

    /// Returns the template of an interrupt that no hardware stands behind: no state, priority 0, Group 0.
    pub const fn software(intid: Intid) -> Self {
        Self(intid.get() as u64)
    }

    /// Returns the template of an interrupt whose deactivation by the guest deactivates the physical one of the same id.
    pub const fn hardware(intid: Intid) -> Self {
        Self(intid.get() as u64 | (intid.get() as u64) << Self::PINTID_SHIFT | Self::HW)
    }

    /// Wraps the raw value of an ICH_LR<n>_EL2.
    pub const fn from_v3(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the raw value for ICH_LR<n>_EL2.
    pub const fn to_v3(self) -> u64 {
        self.0
    }

    /// Translates from GICH_LR<n> (Arm IHI 0048, 5.3.10).
    pub const fn from_v2(raw: u32) -> Self {
        let raw = raw as u64;
        let hw = raw >> 31 & 1;
        let group = raw >> 30 & 1;
        let state = raw >> 28 & 3;
        let priority = raw >> 23 & 0x1f;
        let physical = raw >> 10 & 0x3ff;
        Self(state << 62 | hw << 61 | group << 60 | priority << 51 | physical << Self::PINTID_SHIFT | raw & 0x3ff)
    }

    /// Translates to GICH_LR<n> (Arm IHI 0048, 5.3.10).
    pub const fn to_v2(self) -> u32 {
        let raw = self.0;
        let hw = (raw >> 61 & 1) << 31;
        let group = (raw >> 60 & 1) << 30;
        let state = (raw >> 62) << 28;
        let priority = (raw >> 51 & 0x1f) << 23;
        let physical = (raw >> Self::PINTID_SHIFT & 0x3ff) << 10;
        (hw | group | state | priority | physical | raw & 0x3ff) as u32
    }

    /// Returns the interrupt as the guest sees it.
    pub const fn intid(self) -> Intid {
        Intid::new((self.0 & Self::VINTID) as u32)
    }

    /// Tells whether the interrupt is pending, active or both.
    pub const fn is_valid(self) -> bool {
        self.0 & (Self::ACTIVE | Self::PENDING) != 0
    }

    /// Tells whether the interrupt is pending.
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Tells whether the interrupt is active.
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// Tells whether a physical interrupt stands behind it.
    pub const fn is_hardware(self) -> bool {
        self.0 & Self::HW != 0
    }

    /// Tells whether it is in Group 1.
    pub const fn is_group1(self) -> bool {
        self.0 & Self::GROUP1 != 0
    }

    /// Returns the group: 0 or 1.
    pub const fn group(self) -> u32 {
        (self.0 >> 60 & 1) as u32
    }

    /// Returns the priority; 0 is the highest.
    pub const fn priority(self) -> u8 {
        (self.0 >> Self::PRIORITY_SHIFT) as u8
    }

    /// Returns it as pending, active state unchanged.
    pub const fn pending(self) -> Self {
        Self(self.0 | Self::PENDING)
    }

    /// Returns it as not pending, active state unchanged.
    pub const fn not_pending(self) -> Self {
        Self(self.0 & !Self::PENDING)
    }

    /// Returns it as active, pending state unchanged.
    pub const fn active(self) -> Self {
        Self(self.0 | Self::ACTIVE)
    }

    /// Returns it as not active, pending state unchanged.
    pub const fn not_active(self) -> Self {
        Self(self.0 & !Self::ACTIVE)
    }

    /// Returns it with another priority.
    pub const fn with_priority(self, priority: u8) -> Self {
        Self(self.0 & !Self::PRIORITY | (priority as u64) << Self::PRIORITY_SHIFT)
    }

    /// Returns it in Group 1 (`group` odd) or Group 0.
    pub const fn with_group(self, group: u32) -> Self {
        Self(self.0 & !Self::GROUP1 | ((group & 1) as u64) << 60)
    }

    /// Returns it with priority and group of `template`.
    pub const fn with_rank_of(self, template: Self) -> Self {
        let rank = Self::PRIORITY | Self::GROUP1;
        Self(self.0 & !rank | template.0 & rank)
    }

    /// Returns it asking for a maintenance interrupt when the guest ends it. Without meaning for a hardware one.
    pub const fn with_eoi_maintenance(self) -> Self {
        Self(self.0 | Self::EOI)
    }

    /// Returns it not asking for a maintenance interrupt. Must not be applied to a hardware one.
    pub const fn without_eoi_maintenance(self) -> Self {
        Self(self.0 & !Self::EOI)
    }

    /// Returns a GICv2 SGI with the CPU interface that sent it, 0 to 7.
    pub const fn with_source(self, source: u32) -> Self {
        Self(self.0 & !(7 << Self::PINTID_SHIFT) | ((source & 7) as u64) << Self::PINTID_SHIFT)
    }

    /// Returns the CPU interface that sent a GICv2 SGI.
    pub const fn source(self) -> u32 {
        (self.0 >> Self::PINTID_SHIFT & 7) as u32
    }

    /// Returns the order of delivery: the smaller is delivered first (priority, then interrupt id).
    pub const fn rank(self) -> u32 {
        (self.priority() as u32) << 16 | self.intid().get() & 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn software_template_holds_nothing() {
        let lr = Lr::software(Intid::new(77));
        assert!(!lr.is_valid() && !lr.is_hardware() && !lr.is_group1());
        assert_eq!((lr.intid().get(), lr.priority()), (77, 0));
    }

    #[test]
    fn hardware_template_names_the_same_physical_interrupt() {
        let raw = Lr::hardware(Intid::new(1019)).pending().to_v3();
        assert_eq!(raw, 1 << 62 | 1 << 61 | 1019 << 32 | 1019);
    }

    #[test]
    fn v2_layout_is_that_of_the_manual() {
        let lr = Lr::hardware(Intid::new(0x21)).with_priority(0xa8).with_group(1).pending();
        assert_eq!(lr.to_v2(), 1 << 31 | 1 << 30 | 1 << 28 | 0x15 << 23 | 0x21 << 10 | 0x21);
        let sgi = Lr::software(Intid::new(5)).with_source(6).with_eoi_maintenance().active();
        assert_eq!(sgi.to_v2(), 2 << 28 | 1 << 19 | 6 << 10 | 5);
        assert_eq!(Lr::from_v2(sgi.to_v2()).source(), 6);
    }

    proptest! {
        #[test]
        fn v2_round_trips(raw: u32) {
            // Bits 22:20 are reserved.
            let raw = raw & !0x0070_0000;
            prop_assert_eq!(Lr::from_v2(raw).to_v2(), raw);
        }

        #[test]
        fn rank_orders_by_priority_then_id(a: u8, b: u8, x in 0u32..1020, y in 0u32..1020) {
            let first = Lr::software(Intid::new(x)).with_priority(a);
            let second = Lr::software(Intid::new(y)).with_priority(b);
            prop_assert_eq!(first.rank() < second.rank(), (a, x) < (b, y));
        }
    }
}
