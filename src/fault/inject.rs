// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes an exception to EL1 for a guest, by the rules of AArch64.TakeException (Arm DDI 0487, D1.3): what ELR_EL1,
//! SPSR_EL1, ESR_EL1, FAR_EL1, the PC and PSTATE become. Works on values; the shell writes them.

use crate::exit::{AbortOn, Direction, Injection};

const PSTATE_NZCV: u64 = 0xf << 28;
const PSTATE_TCO: u64 = 1 << 25;
const PSTATE_DIT: u64 = 1 << 24;
const PSTATE_PAN: u64 = 1 << 22;
const PSTATE_SSBS: u64 = 1 << 12;
const PSTATE_DAIF: u64 = 0xf << 6;
const PSTATE_AARCH32: u64 = 1 << 4;
const PSTATE_EL1H: u64 = 0b0101;

const SCTLR_DSSBS: u64 = 1 << 44;
const SCTLR_SPAN: u64 = 1 << 23;

const ESR_EC_SHIFT: u32 = 26;
/// The instruction is 32 bits long: the value for all exceptions injected here, whatever the instruction was.
const ESR_IL: u64 = 1 << 25;
const ESR_FNV: u64 = 1 << 10;
const ESR_WNR: u64 = 1 << 6;
/// Synchronous external abort, not on a walk.
const FSC_EXTERNAL: u64 = 0x10;
/// Synchronous external abort on a walk at level 1. EL2 is not told the level of a stage-1 walk.
const FSC_EXTERNAL_WALK: u64 = 0x15;

const EC_UNKNOWN: u64 = 0x00;
const EC_INSTRUCTION_ABORT_LOWER: u64 = 0x20;
const EC_INSTRUCTION_ABORT_SAME: u64 = 0x21;
const EC_DATA_ABORT_LOWER: u64 = 0x24;
const EC_DATA_ABORT_SAME: u64 = 0x25;

/// The optional PSTATE bits that a CPU has; the others are RES0 in an SPSR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PstateBits(u64);

impl PstateBits {
    /// Reads them off ID_AA64PFR0_EL1, ID_AA64PFR1_EL1 and ID_AA64MMFR1_EL1 as the CPU itself gives them.
    pub const fn of(pfr0: u64, pfr1: u64, mmfr1: u64) -> Self {
        let mut bits = 0;
        if (pfr0 >> 48) & 0xf != 0 {
            bits |= PSTATE_DIT;
        }
        if (pfr1 >> 4) & 0xf != 0 {
            bits |= PSTATE_SSBS;
        }
        if (pfr1 >> 8) & 0xf != 0 {
            bits |= PSTATE_TCO;
        }
        if (mmfr1 >> 20) & 0xf != 0 {
            bits |= PSTATE_PAN;
        }
        Self(bits)
    }
}

/// What the exception is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestState {
    /// The instruction that takes the exception. Behind an HVC, ELR_EL2 minus 4.
    pub pc: u64,
    /// SPSR_EL2: the guest's PSTATE.
    pub spsr: u64,
    /// VBAR_EL1.
    pub vbar: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// What PSTATE has on this CPU.
    pub implemented: PstateBits,
}

impl GuestState {
    /// Tells whether the guest was at EL1.
    pub const fn is_at_el1(&self) -> bool {
        self.spsr & PSTATE_AARCH32 == 0 && self.spsr & 0b1100 != 0
    }

    /// Returns the offset of the vector: by where the exception comes from (Arm DDI 0487, D1.3.4, synchronous).
    const fn vector(&self) -> u64 {
        match (self.spsr & PSTATE_AARCH32 != 0, self.spsr & 0b1111) {
            (true, _) => 0x600,
            (false, 0b0000 | 0b0001) => 0x400,
            (false, 0b0100) => 0x000,
            (false, _) => 0x200,
        }
    }
}

/// What the guest's registers become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// ELR_EL2: the vector.
    pub pc: u64,
    /// SPSR_EL2: PSTATE at the vector.
    pub pstate: u64,
    /// ELR_EL1.
    pub elr_el1: u64,
    /// SPSR_EL1.
    pub spsr_el1: u64,
    /// ESR_EL1.
    pub esr_el1: u64,
    /// FAR_EL1; `None` leaves it as it is.
    pub far_el1: Option<u64>,
}

/// Returns what taking the exception makes of the guest's registers, or `None` for an SError: that one is made pending
/// with HCR_EL2.VSE and the CPU takes it when the guest unmasks it.
pub fn enter(injection: Injection, state: &GuestState) -> Option<Entry> {
    let (class, syndrome, far) = match injection {
        Injection::Undefined => (EC_UNKNOWN, 0, None),
        Injection::DataAbort { direction, on, far } => {
            let class = if state.is_at_el1() { EC_DATA_ABORT_SAME } else { EC_DATA_ABORT_LOWER };
            let write = match direction {
                Direction::Read => 0,
                Direction::Write => ESR_WNR,
            };
            (class, abort_syndrome(on, far) | write, far)
        }
        Injection::InstructionAbort { on, far } => {
            let class = if state.is_at_el1() { EC_INSTRUCTION_ABORT_SAME } else { EC_INSTRUCTION_ABORT_LOWER };
            (class, abort_syndrome(on, far), far)
        }
        Injection::SError => return None,
    };
    Some(Entry {
        pc: (state.vbar & !0x7ff).wrapping_add(state.vector()),
        pstate: pstate_at_entry(state),
        elr_el1: state.pc,
        spsr_el1: state.spsr,
        esr_el1: (class << ESR_EC_SHIFT) | ESR_IL | syndrome,
        far_el1: far,
    })
}

const fn abort_syndrome(on: AbortOn, far: Option<u64>) -> u64 {
    match (on, far) {
        // FnV exists for the access alone: with a walk FAR is always valid (ESR_EL1, ISS of a data abort).
        (AbortOn::Access, Some(_)) => FSC_EXTERNAL,
        (AbortOn::Access, None) => FSC_EXTERNAL | ESR_FNV,
        (AbortOn::TableWalk, _) => FSC_EXTERNAL_WALK,
    }
}

/// Returns PSTATE at the vector: flags and DIT stay, DAIF are set, IL, SS, UAO and BTYPE are clear, TCO is set, PAN is
/// set unless SCTLR_EL1.SPAN keeps it, SSBS comes from SCTLR_EL1.DSSBS.
const fn pstate_at_entry(state: &GuestState) -> u64 {
    let kept = state.spsr & (PSTATE_NZCV | PSTATE_DIT | PSTATE_PAN);
    let pan = if state.sctlr & SCTLR_SPAN == 0 { PSTATE_PAN } else { 0 };
    let ssbs = if state.sctlr & SCTLR_DSSBS != 0 { PSTATE_SSBS } else { 0 };
    let optional = (kept | pan | ssbs | PSTATE_TCO) & state.implemented.0;
    (kept & PSTATE_NZCV) | optional | PSTATE_DAIF | PSTATE_EL1H
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: PstateBits = PstateBits::of(1 << 48, (1 << 4) | (1 << 8), 1 << 20);
    const NONE: PstateBits = PstateBits::of(0, 0, 0);

    fn state(spsr: u64) -> GuestState {
        GuestState { pc: 0x1234, spsr, vbar: 0xffff_8000_0001_0000, sctlr: SCTLR_SPAN, implemented: ALL }
    }

    fn write_at(far: u64) -> Injection {
        Injection::DataAbort { direction: Direction::Write, on: AbortOn::Access, far: Some(far) }
    }

    #[test]
    fn the_vector_follows_from_where_the_guest_was() {
        let table = [(0b0000, 0x400), (0b0100, 0x000), (0b0101, 0x200), (0x10, 0x600), (0x1f, 0x600)];
        for (mode, offset) in table {
            let entry = enter(Injection::Undefined, &state(mode)).unwrap();
            assert_eq!(entry.pc, 0xffff_8000_0001_0000 + offset, "{mode:#b}");
        }
    }

    #[test]
    fn vbar_is_read_without_its_res0_bits_and_never_overflows() {
        let odd = GuestState { vbar: u64::MAX, ..state(0x10) };
        assert_eq!(enter(Injection::Undefined, &odd).unwrap().pc, !0x7ff + 0x600);
    }

    #[test]
    fn the_class_tells_lower_from_same_level() {
        let fetch = Injection::InstructionAbort { on: AbortOn::Access, far: Some(4) };
        let table = [
            (write_at(4), 0b0000, 0x24),
            (write_at(4), 0x10, 0x24),
            (write_at(4), 0b0101, 0x25),
            (write_at(4), 0b0100, 0x25),
            (fetch, 0b0000, 0x20),
            (fetch, 0b0101, 0x21),
            (Injection::Undefined, 0b0101, 0x00),
        ];
        for (injection, mode, class) in table {
            assert_eq!(enter(injection, &state(mode)).unwrap().esr_el1 >> 26, class);
        }
    }

    #[test]
    fn a_write_abort_has_the_syndrome_of_the_manual() {
        let entry = enter(write_at(0xdead), &state(0b0101)).unwrap();
        assert_eq!(entry.esr_el1, (0x25 << 26) | (1 << 25) | (1 << 6) | 0x10);
        assert_eq!((entry.far_el1, entry.elr_el1, entry.spsr_el1), (Some(0xdead), 0x1234, 0b0101));
    }

    #[test]
    fn an_unknown_address_is_marked_by_fnv_and_leaves_far_alone() {
        let lost = Injection::DataAbort { direction: Direction::Read, on: AbortOn::Access, far: None };
        let entry = enter(lost, &state(0)).unwrap();
        assert_eq!(entry.esr_el1 & 0x7ff, (1 << 10) | 0x10);
        assert_eq!(entry.far_el1, None);
    }

    #[test]
    fn a_walk_has_a_walks_status() {
        let walk = Injection::InstructionAbort { on: AbortOn::TableWalk, far: Some(8) };
        assert_eq!(enter(walk, &state(0)).unwrap().esr_el1 & 0x3f, 0x15);
    }

    #[test]
    fn an_serror_is_not_entered_here() {
        assert_eq!(enter(Injection::SError, &state(0)), None);
    }

    #[test]
    fn pan_follows_span_and_only_where_it_exists() {
        let pan_of = |sctlr, spsr, implemented| {
            let state = GuestState { sctlr, implemented, ..state(spsr) };
            enter(Injection::Undefined, &state).unwrap().pstate & PSTATE_PAN != 0
        };
        assert!(pan_of(0, 0, ALL));
        assert!(!pan_of(SCTLR_SPAN, 0, ALL));
        assert!(pan_of(SCTLR_SPAN, PSTATE_PAN, ALL));
        assert!(!pan_of(0, PSTATE_PAN, NONE));
    }

    #[test]
    fn ssbs_comes_from_dssbs() {
        let with = GuestState { sctlr: SCTLR_DSSBS, ..state(0) };
        assert_ne!(enter(Injection::Undefined, &with).unwrap().pstate & PSTATE_SSBS, 0);
        assert_eq!(enter(Injection::Undefined, &state(PSTATE_SSBS)).unwrap().pstate & PSTATE_SSBS, 0);
    }

    proptest! {
        #[test]
        fn the_guest_always_arrives_at_el1h_masked_and_clean(spsr: u64, sctlr: u64, vbar: u64) {
            let state = GuestState { sctlr, vbar, ..state(spsr) };
            let entry = enter(Injection::Undefined, &state).unwrap();
            prop_assert_eq!(entry.pstate & 0x1f, PSTATE_EL1H);
            prop_assert_eq!(entry.pstate & PSTATE_DAIF, PSTATE_DAIF);
            prop_assert_eq!(entry.pstate & PSTATE_NZCV, spsr & PSTATE_NZCV);
            // UAO, SS, IL, BTYPE, ALLINT and everything unallocated.
            prop_assert_eq!(entry.pstate & ((1 << 23) | (1 << 21) | (1 << 20) | (3 << 10) | (1 << 13)), 0);
            prop_assert_eq!(entry.pstate >> 32, 0);
        }
    }
}
