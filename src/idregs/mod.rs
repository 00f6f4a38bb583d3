// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ID registers as guests see them. HCR_EL2.TID3 traps every read; what a guest finds is the CPU's own value, field
//! by field through an allow-list ([`fields`]): a field that is not in the list reads as 0, a value above the highest one
//! that is understood reads as that one. So a feature that nobody has thought of never reaches a guest.
//!
//! Also the verdict on every other system register that traps ([`trapped_register`]).

mod fields;
mod trapped;

pub use trapped::{SgiGroup, Verdict, trapped_register};

use crate::mmio::SystemRegister;
use fields::Rule;

/// The GIC that a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicInterface {
    /// GICv2: a memory-mapped CPU interface.
    Memory,
    /// GICv3: system registers.
    SystemRegisters,
}

/// Whether a feature that costs the hypervisor something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It reads as absent.
    No,
    /// It reads as the CPU has it.
    Yes,
}

/// What of a partition the ID registers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Bits of the partition's guest-physical addresses: stage 2's input size, 64 - VTCR_EL2.T0SZ.
    pub ipa_bits: u8,
    /// The GIC.
    pub gic: GicInterface,
    /// Pointer authentication: HCR_EL2.{API, APK} are 1, and the keys are the vCPU's.
    pub pauth: Shown,
}

/// Tells whether HCR_EL2.TID3 traps reads of the register: S3_0_C0_C1_0 to S3_0_C0_C7_7, allocated or not.
pub const fn is_id_register(name: SystemRegister) -> bool {
    name.op0() == 3 && name.op1() == 0 && name.crn() == 0 && 1 <= name.crm() && name.crm() <= 7
}

/// Returns what a guest reads from an ID register whose value on this CPU is `real`. Unallocated encodings, and names
/// that are no ID register, read as 0.
pub fn read(name: SystemRegister, real: u64, profile: &Profile) -> u64 {
    if !is_id_register(name) {
        return 0;
    }
    let list = match (name.crm(), name.op2()) {
        (1, 0) => fields::ID_PFR0,
        (1, 1) => fields::ID_PFR1,
        (1, 2) => fields::ID_DFR0,
        (1, 4..=7) | (2, 0..=4) | (3, 0..=2) => return real & FROZEN,
        (2, 5) => fields::ID_ISAR5,
        (2, 6) => fields::ID_MMFR4,
        (2, 7) => fields::ID_ISAR6,
        (3, 4) => fields::ID_PFR2,
        (3, 6) => fields::ID_MMFR5,
        (4, 0) => fields::ID_AA64PFR0,
        (4, 1) => fields::ID_AA64PFR1,
        (5, 0) => fields::ID_AA64DFR0,
        (6, 0) => fields::ID_AA64ISAR0,
        (6, 1) => fields::ID_AA64ISAR1,
        (6, 2) => fields::ID_AA64ISAR2,
        (6, 3) => fields::ID_AA64ISAR3,
        (7, 0) => fields::ID_AA64MMFR0,
        (7, 1) => fields::ID_AA64MMFR1,
        (7, 2) => fields::ID_AA64MMFR2,
        // ID_AFR0, ID_DFR1, ID_AA64PFR2, ZFR0, SMFR0, FPFR0, DFR1, DFR2, AFR0, AFR1, MMFR3, MMFR4, and unallocated ones.
        _ => &[],
    };
    list.iter().fold(0, |value, field| value | (show(field.rule, real >> field.shift, profile) << field.shift))
}

/// ID_MMFR0-3, ID_ISAR0-4 and MVFR0-2 are 32 bits wide and describe AArch32 features that have been final since
/// Armv8.0, none of which needs anything of EL2.
const FROZEN: u64 = 0xffff_ffff;

/// Returns the 4-bit field that a guest sees; the low 4 bits of `real` are the CPU's.
fn show(rule: Rule, real: u64, profile: &Profile) -> u64 {
    let real = real & 0xf;
    match rule {
        Rule::UpTo(highest) => real.min(highest),
        Rule::SignedUpTo(highest) => match real {
            // 0b1000 to 0b1111 are negative: absent.
            8.. => real,
            _ => real.min(highest),
        },
        Rule::PointerAuthentication(highest) => match profile.pauth {
            Shown::Yes => real.min(highest),
            Shown::No => 0,
        },
        Rule::Gic => match profile.gic {
            GicInterface::Memory => 0,
            GicInterface::SystemRegisters => 1,
        },
        Rule::PhysicalRange => real.min(MAX_PARANGE).min(parange(profile.ipa_bits)),
    }
}

/// 48 bits: above it the 4 KiB granule needs FEAT_LPA2, which is hidden.
const MAX_PARANGE: u64 = 5;

/// Returns the largest PARange whose addresses all lie within so many bits (ID_AA64MMFR0_EL1.PARange).
const fn parange(bits: u8) -> u64 {
    match bits {
        0..=35 => 0,
        36..=39 => 1,
        40..=41 => 2,
        42..=43 => 3,
        44..=47 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V3: Profile = Profile { ipa_bits: 40, gic: GicInterface::SystemRegisters, pauth: Shown::Yes };
    const V2: Profile = Profile { ipa_bits: 48, gic: GicInterface::Memory, pauth: Shown::No };

    fn id(crm: u32, op2: u32) -> SystemRegister {
        SystemRegister::new(3, 0, 0, crm, op2)
    }

    fn field(value: u64, shift: u32) -> u64 {
        (value >> shift) & 0xf
    }

    #[test]
    fn a_cortex_a53_looks_like_itself_without_its_higher_levels() {
        assert_eq!(read(id(4, 0), 0x2222, &V3), 0x0100_0012);
        assert_eq!(read(id(4, 0), 0x0100_2222, &V2), 0x12);
        // Six breakpoints, four watchpoints, two context comparators; its PMU is not shown.
        assert_eq!(read(id(5, 0), 0x1030_5106, &V3), 0x1030_5006);
        assert_eq!(read(id(6, 0), 0x1_1120, &V3), 0x1_1120);
        // 40 bits of physical address, 16-bit ASIDs, 4 and 64 KiB granules, no 16 KiB.
        assert_eq!(read(id(7, 0), 0x1122, &V3), 0x1122);
        assert_eq!(read(id(7, 1), 0, &V3), 0);
    }

    #[test]
    fn aarch32_is_shown_at_el0_only() {
        assert_eq!(read(id(4, 0), 0x1111, &V2) & 0xffff, 0x0011);
        assert_eq!(read(id(4, 0), 0x2222, &V2) & 0xffff, 0x0012);
    }

    #[test]
    fn what_needs_el2s_help_is_hidden_even_when_the_cpu_has_all_of_it() {
        let hidden: [(u32, u32, &[u32]); 12] = [
            // RAS, SVE, SEL2, MPAM, AMU, RME
            (4, 0, &[28, 32, 36, 40, 44, 52]),
            // MTE, RAS_frac, MPAM_frac, SME, NMI, MTE_frac, GCS, THE
            (4, 1, &[8, 12, 16, 24, 36, 40, 44, 48]),
            // TraceVer, PMUVer, PMSVer, TraceFilt, TraceBuffer, MTPMU, BRBE, HPMN0
            (5, 0, &[4, 8, 32, 40, 44, 48, 52, 60]),
            // TME
            (6, 0, &[24]),
            // XS, LS64
            (6, 1, &[56, 60]),
            // WFxT, MOPS, SYSREG_128, SYSINSTR_128
            (6, 2, &[0, 16, 32, 36]),
            // FGT
            (7, 0, &[56]),
            // VMIDBits, VH, LO, XNX, TWED, HCX, CMOW
            (7, 1, &[4, 8, 16, 28, 32, 40, 56]),
            // IESB, NV, FWB, BBM, EVT
            (7, 2, &[12, 24, 40, 52, 56]),
            // AMU, RAS
            (1, 0, &[20, 28]),
            // Security, Virtualization
            (1, 1, &[4, 12]),
            // PerfMon, TraceFilt, CopTrc
            (1, 2, &[24, 28, 12]),
        ];
        for (crm, op2, shifts) in hidden {
            for real in [u64::MAX, 0x1111_1111_1111_1111, 0x3333_3333_3333_3333] {
                let shown = read(id(crm, op2), real, &V3);
                for &shift in shifts {
                    assert_eq!(field(shown, shift), 0, "C{crm} op2 {op2} bit {shift}");
                }
            }
        }
        for (crm, op2) in [(4, 2), (4, 4), (4, 5), (4, 7), (5, 1), (5, 4), (5, 5), (7, 3), (7, 4), (1, 3), (3, 5)] {
            assert_eq!(read(id(crm, op2), u64::MAX, &V3), 0);
        }
    }

    #[test]
    fn what_needs_nothing_is_shown() {
        let shown: [(u32, u32, u32, u64); 18] = [
            (4, 0, 16, 1), // FP with FP16
            (4, 0, 20, 1), // AdvSIMD with FP16
            (4, 0, 48, 1), // DIT
            (4, 0, 60, 1), // CSV3
            (4, 1, 0, 1),  // BTI
            (4, 1, 4, 2),  // SSBS
            (6, 0, 4, 2),  // AES, PMULL
            (6, 0, 20, 2), // LSE
            (6, 0, 56, 2), // TLBI OS and range
            (6, 0, 60, 1), // RNDR
            (6, 1, 0, 2),  // DPB
            (6, 1, 36, 1), // SB
            (7, 0, 60, 1), // ECV
            (7, 1, 0, 2),  // HAFDBS
            (7, 1, 20, 3), // PAN
            (7, 2, 4, 1),  // UAO
            (7, 2, 32, 1), // LSE2
            (7, 2, 48, 1), // TTL
        ];
        for (crm, op2, shift, value) in shown {
            assert_eq!(field(read(id(crm, op2), value << shift, &V3), shift), value, "C{crm} op2 {op2} bit {shift}");
        }
    }

    #[test]
    fn absent_floating_point_stays_absent() {
        assert_eq!(read(id(4, 0), 0xff_0000, &V2), 0xff_0000);
    }

    #[test]
    fn pointer_authentication_follows_the_profile() {
        let real = (5 << 4) | (5 << 8) | (1 << 24) | (1 << 28);
        assert_eq!(read(id(6, 1), real, &V3), real);
        assert_eq!(read(id(6, 1), real, &V2), 0);
        // FEAT_PAuth_LR (6) needs SCTLR2_EL1, which is hidden.
        assert_eq!(read(id(6, 2), 6 << 12, &V3), 5 << 12);
        assert_eq!(read(id(6, 2), 6 << 12, &V2), 0);
    }

    #[test]
    fn the_physical_range_fits_stage_two_and_48_bits() {
        let range = |real, ipa_bits| read(id(7, 0), real, &Profile { ipa_bits, ..V3 }) & 0xf;
        assert_eq!(range(6, 52), 5);
        assert_eq!(range(6, 48), 5);
        assert_eq!(range(6, 47), 4);
        assert_eq!(range(5, 40), 2);
        assert_eq!(range(5, 39), 1);
        assert_eq!(range(1, 48), 1);
        assert_eq!(range(5, 0), 0);
    }

    #[test]
    fn granules_lose_their_52_bit_form() {
        let real = (2 << 20) | (1 << 28) | (3 << 32) | (3 << 40);
        assert_eq!(read(id(7, 0), real, &V3), 1 << 20);
        let absent = (0xf << 24) | (0xf << 28);
        assert_eq!(read(id(7, 0), absent, &V3), absent);
    }

    #[test]
    fn every_list_is_in_order_without_a_field_twice() {
        for list in fields::ALL {
            for pair in list.windows(2) {
                assert!(pair[0].shift < pair[1].shift, "{} before {}", pair[0].name, pair[1].name);
            }
            assert!(list.iter().all(|field| field.shift % 4 == 0 && field.shift < 64));
        }
    }

    #[test]
    fn other_registers_are_not_id_registers() {
        for name in [id(0, 0), id(8, 0), SystemRegister::new(3, 1, 0, 1, 0), SystemRegister::new(2, 0, 0, 4, 0)] {
            assert!(!is_id_register(name));
            assert_eq!(read(name, u64::MAX, &V3), 0);
        }
        assert!(is_id_register(id(1, 0)) && is_id_register(id(7, 7)));
    }

    proptest! {
        #[test]
        fn showing_twice_changes_nothing(crm in 1u32..8, op2 in 0u32..8, real: u64, ipa_bits: u8) {
            let profile = Profile { ipa_bits, ..V3 };
            let once = read(id(crm, op2), real, &profile);
            prop_assert_eq!(read(id(crm, op2), once, &profile), once);
        }

        #[test]
        fn no_guest_sees_more_than_the_cpu_has(crm in 1u32..8, op2 in 0u32..8, real: u64) {
            let shown = read(id(crm, op2), real, &V2);
            for shift in (0..64).step_by(4) {
                prop_assert!(field(shown, shift) <= field(real, shift));
            }
        }
    }
}
