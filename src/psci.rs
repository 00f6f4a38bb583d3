// SPDX-License-Identifier: MIT OR Apache-2.0
//! PSCI 1.1 (Arm DEN 0022) and the general SMCCC calls (Arm DEN 0028) as guests see them. Turns a call's registers into
//! a [`Call`]: what needs no state of the partition is answered on the spot, everything else is plain data for the
//! partition's life cycle. Trusts nothing in the registers.

use crate::addr::Ipa;
use crate::id::Mpidr;

/// PSCI_VERSION.
pub const PSCI_VERSION: u32 = 0x8400_0000;
/// CPU_SUSPEND, 32-bit.
pub const CPU_SUSPEND_32: u32 = 0x8400_0001;
/// CPU_SUSPEND, 64-bit.
pub const CPU_SUSPEND_64: u32 = 0xc400_0001;
/// CPU_OFF.
pub const CPU_OFF: u32 = 0x8400_0002;
/// CPU_ON, 32-bit.
pub const CPU_ON_32: u32 = 0x8400_0003;
/// CPU_ON, 64-bit.
pub const CPU_ON_64: u32 = 0xc400_0003;
/// AFFINITY_INFO, 32-bit.
pub const AFFINITY_INFO_32: u32 = 0x8400_0004;
/// AFFINITY_INFO, 64-bit.
pub const AFFINITY_INFO_64: u32 = 0xc400_0004;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const PSCI_FEATURES: u32 = 0x8400_000a;
/// SMCCC_VERSION.
pub const SMCCC_VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES.
pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

/// What PSCI_VERSION answers: 1.1.
const PSCI_1_1: u64 = 0x1_0001;
/// What SMCCC_VERSION answers: 1.1.
const SMCCC_1_1: u64 = 0x1_0001;
/// What MIGRATE_INFO_TYPE answers: no Trusted OS that would have to move (DEN 0022, 5.9).
const NO_MIGRATION: u64 = 2;
/// Bits of CPU_SUSPEND's power_state that must be 0 in the original format (DEN 0022, 5.4.2).
const POWER_STATE_RESERVED: u32 = 0xfcfe_0000;

/// What a PSCI call returns (DEN 0022, 5.2.2), and SMCCC's NOT_SUPPORTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnCode {
    /// It was done.
    Success,
    /// There is no such function.
    NotSupported,
    /// An argument is out of range.
    InvalidParameters,
    /// It is not allowed.
    Denied,
    /// The vCPU runs.
    AlreadyOn,
    /// Another CPU_ON for the vCPU has not ended.
    OnPending,
    /// It could not be done.
    InternalFailure,
    /// There is no such CPU.
    NotPresent,
    /// The CPU is disabled.
    Disabled,
    /// The entry point is not in the partition's memory.
    InvalidAddress,
}

impl ReturnCode {
    /// Returns the value for x0: sign-extended, so that a 32-bit caller finds the code in w0 and a 64-bit caller in x0.
    #[inline(always)]
    pub const fn to_register(self) -> u64 {
        let magnitude: u64 = match self {
            Self::Success => 0,
            Self::NotSupported => 1,
            Self::InvalidParameters => 2,
            Self::Denied => 3,
            Self::AlreadyOn => 4,
            Self::OnPending => 5,
            Self::InternalFailure => 6,
            Self::NotPresent => 7,
            Self::Disabled => 8,
            Self::InvalidAddress => 9,
        };
        magnitude.wrapping_neg()
    }
}

/// What AFFINITY_INFO tells of a vCPU (DEN 0022, 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityState {
    /// It runs.
    On,
    /// It is off, and EL2 has left it.
    Off,
    /// A CPU_ON for it has not ended.
    OnPending,
}

impl AffinityState {
    /// Returns the value for x0.
    pub const fn to_register(self) -> u64 {
        match self {
            Self::On => 0,
            Self::Off => 1,
            Self::OnPending => 2,
        }
    }
}

/// A decoded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Answered already: this goes into x0.
    Answer(u64),
    /// Start a vCPU.
    CpuOn {
        /// Which.
        target: Mpidr,
        /// Its first instruction, a multiple of 4. Whether it lies in the partition's memory is not decided here.
        entry: Ipa,
        /// What it finds in x0.
        context: u64,
    },
    /// Stop the calling vCPU.
    CpuOff,
    /// Wait for an interrupt, then return SUCCESS: every state is a standby state (DEN 0022, 5.4 allows the downgrade).
    Suspend,
    /// Tell whether a vCPU runs.
    AffinityInfo {
        /// Which; affinity fields below `level` are to be ignored.
        target: Mpidr,
        /// The lowest affinity level that counts, 0 to 3; see [`affinity_mask`].
        level: u8,
    },
    /// Stop the partition.
    SystemOff,
    /// Restart the partition.
    SystemReset,
    /// Nobody's call: NOT_SUPPORTED, and counted.
    Unknown,
}

/// Decodes an HVC or SMC from its argument registers. The function is in w0; 32-bit functions see 32 bits of every
/// argument (DEN 0028, 3.1).
pub fn decode(x0: u64, x1: u64, x2: u64, x3: u64) -> Call {
    match low_word(x0) {
        PSCI_VERSION => Call::Answer(PSCI_1_1),
        PSCI_FEATURES => Call::Answer(psci_features(low_word(x1)).to_register()),
        SMCCC_VERSION => Call::Answer(SMCCC_1_1),
        SMCCC_ARCH_FEATURES => Call::Answer(arch_features(low_word(x1)).to_register()),
        MIGRATE_INFO_TYPE => Call::Answer(NO_MIGRATION),
        function => decode_stateful(function, x1, x2, x3),
    }
}

/// What can be said of a call at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// It is answered: this goes into x0.
    Answer(u64),
    /// Nobody's call: NOT_SUPPORTED, and counted.
    Unknown,
    /// [`decode`] tells.
    Other,
}

/// Answers the calls that need no state of the partition and come often, as [`decode`] does: PSCI_VERSION, PSCI_FEATURES
/// of an implemented function, and all that nobody answers.
#[inline(always)]
pub fn glance(x0: u64, x1: u64) -> Glance {
    match low_word(x0) {
        PSCI_VERSION => Glance::Answer(PSCI_1_1),
        PSCI_FEATURES if is_psci(low_word(x1)) => Glance::Answer(ReturnCode::Success.to_register()),
        function if function & STANDARD_SERVICE == 0 || is_psci(function) => Glance::Other,
        _ => Glance::Unknown,
    }
}

/// What the numbers of PSCI's functions (owner 4) have and those of the general calls (owner 0) have not.
const STANDARD_SERVICE: u32 = 1 << 26;
/// The bit of a function's number that tells its 64-bit convention from its 32-bit one.
const CONVENTION: u32 = 1 << 30;

/// Tells whether a function is one of PSCI's that are implemented. They are numbered below 32 in both calling conventions.
#[inline(always)]
const fn is_psci(function: u32) -> bool {
    const fn bits(functions: &[u32]) -> u32 {
        match functions {
            [first, rest @ ..] => 1 << (*first & 31) | bits(rest),
            [] => 0,
        }
    }
    const IN_32: u32 = bits(&[
        PSCI_VERSION,
        CPU_SUSPEND_32,
        CPU_OFF,
        CPU_ON_32,
        AFFINITY_INFO_32,
        MIGRATE_INFO_TYPE,
        SYSTEM_OFF,
        SYSTEM_RESET,
        PSCI_FEATURES,
    ]);
    const IN_64: u32 = bits(&[CPU_SUSPEND_64, CPU_ON_64, AFFINITY_INFO_64]);
    let (in_32, in_64) = (function ^ PSCI_VERSION, function ^ (PSCI_VERSION | CONVENTION));
    if in_32 < 32 {
        return IN_32 >> in_32 & 1 == 1;
    }
    in_64 < 32 && IN_64 >> in_64 & 1 == 1
}

/// Returns the affinity bits that count at a level of AFFINITY_INFO.
pub const fn affinity_mask(level: u8) -> u64 {
    match level {
        0 => 0xff_00ff_ffff,
        1 => 0xff_00ff_ff00,
        2 => 0xff_00ff_0000,
        _ => 0xff_0000_0000,
    }
}

fn decode_stateful(function: u32, x1: u64, x2: u64, x3: u64) -> Call {
    match function {
        CPU_ON_64 => cpu_on(x1, x2, x3),
        CPU_ON_32 => cpu_on(x1 & WORD, x2 & WORD, x3 & WORD),
        CPU_OFF => Call::CpuOff,
        CPU_SUSPEND_64 | CPU_SUSPEND_32 => match low_word(x1) & POWER_STATE_RESERVED {
            0 => Call::Suspend,
            _ => refuse(ReturnCode::InvalidParameters),
        },
        AFFINITY_INFO_64 => affinity_info(x1, x2),
        AFFINITY_INFO_32 => affinity_info(x1 & WORD, x2 & WORD),
        SYSTEM_OFF => Call::SystemOff,
        SYSTEM_RESET => Call::SystemReset,
        _ => Call::Unknown,
    }
}

fn cpu_on(target: u64, entry: u64, context: u64) -> Call {
    let Some(target) = affinity(target) else {
        return refuse(ReturnCode::InvalidParameters);
    };
    if entry & 3 != 0 {
        return refuse(ReturnCode::InvalidAddress);
    }
    Call::CpuOn { target, entry: Ipa::new(entry), context }
}

fn affinity_info(target: u64, level: u64) -> Call {
    let (Some(target), Ok(level @ 0..=3)) = (affinity(target), u8::try_from(level)) else {
        return refuse(ReturnCode::InvalidParameters);
    };
    Call::AffinityInfo { target, level }
}

/// Returns the affinity, or `None` when a bit outside the affinity fields is set: a caller that passes MPIDR_EL1 with its
/// RES1 bit is wrong and is told so.
fn affinity(raw: u64) -> Option<Mpidr> {
    let mpidr = Mpidr::new(raw);
    (mpidr.get() == raw).then_some(mpidr)
}

fn psci_features(function: u32) -> ReturnCode {
    if is_psci(function) || function == SMCCC_VERSION { ReturnCode::Success } else { ReturnCode::NotSupported }
}

fn arch_features(function: u32) -> ReturnCode {
    match function {
        SMCCC_VERSION | SMCCC_ARCH_FEATURES => ReturnCode::Success,
        _ => ReturnCode::NotSupported,
    }
}

fn refuse(code: ReturnCode) -> Call {
    Call::Answer(code.to_register())
}

const WORD: u64 = 0xffff_ffff;

/// Returns bits 31 to 0.
#[inline(always)]
fn low_word(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOT_SUPPORTED: u64 = u64::MAX;
    const INVALID_PARAMETERS: u64 = u64::MAX - 1;
    const KNOWN: [u32; 15] = [
        PSCI_VERSION,
        CPU_SUSPEND_32,
        CPU_SUSPEND_64,
        CPU_OFF,
        CPU_ON_32,
        CPU_ON_64,
        AFFINITY_INFO_32,
        AFFINITY_INFO_64,
        MIGRATE_INFO_TYPE,
        SYSTEM_OFF,
        SYSTEM_RESET,
        PSCI_FEATURES,
        SMCCC_VERSION,
        SMCCC_ARCH_FEATURES,
        SMCCC_VERSION,
    ];

    #[test]
    fn the_versions_are_psci_1_1_and_smccc_1_1() {
        assert_eq!(decode(PSCI_VERSION.into(), 0, 0, 0), Call::Answer(0x1_0001));
        assert_eq!(decode(SMCCC_VERSION.into(), 0, 0, 0), Call::Answer(0x1_0001));
        assert_eq!(decode(MIGRATE_INFO_TYPE.into(), 0, 0, 0), Call::Answer(2));
    }

    #[test]
    fn the_function_is_in_w0_alone() {
        assert_eq!(decode(0xdead_beef_8400_0000, 0, 0, 0), Call::Answer(0x1_0001));
        assert_eq!(decode(0xdead_beef_8400_0002, 0, 0, 0), Call::CpuOff);
    }

    #[test]
    fn features_says_yes_to_exactly_what_is_answered() {
        for function in KNOWN {
            let told = decode(PSCI_FEATURES.into(), function.into(), 0, 0);
            // SMCCC_ARCH_FEATURES is discovered through SMCCC_VERSION, not through PSCI.
            let expected = if function == SMCCC_ARCH_FEATURES { NOT_SUPPORTED } else { 0 };
            assert_eq!(told, Call::Answer(expected), "{function:#x}");
        }
        for function in [0x8400_0005, 0x8400_0007, 0x8400_000b, 0x8400_000e, 0xc400_0012, 0, 0xffff_ffff_u64] {
            assert_eq!(decode(PSCI_FEATURES.into(), function, 0, 0), Call::Answer(NOT_SUPPORTED));
        }
        assert_eq!(decode(SMCCC_ARCH_FEATURES.into(), SMCCC_ARCH_FEATURES.into(), 0, 0), Call::Answer(0));
        assert_eq!(decode(SMCCC_ARCH_FEATURES.into(), 0x8000_8000, 0, 0), Call::Answer(NOT_SUPPORTED));
    }

    #[test]
    fn thirty_two_bit_functions_see_thirty_two_bits_of_their_arguments() {
        let call = decode(CPU_ON_32.into(), 0xffff_ffff_0000_0001, 0xffff_ffff_4000_0000, 0xffff_ffff_8000_0005);
        let expected = Call::CpuOn { target: Mpidr::new(1), entry: Ipa::new(0x4000_0000), context: 0x8000_0005 };
        assert_eq!(call, expected);
        let call = decode(CPU_ON_64.into(), 1, 0x1_4000_0000, u64::MAX);
        assert_eq!(call, Call::CpuOn { target: Mpidr::new(1), entry: Ipa::new(0x1_4000_0000), context: u64::MAX });
    }

    #[test]
    fn reserved_bits_of_a_target_are_invalid_parameters() {
        for bit in (24..32).chain(40..64) {
            let target = 1 << bit;
            assert_eq!(decode(CPU_ON_64.into(), target, 0, 0), Call::Answer(INVALID_PARAMETERS));
            assert_eq!(decode(AFFINITY_INFO_64.into(), target, 0, 0), Call::Answer(INVALID_PARAMETERS));
        }
        assert!(matches!(decode(CPU_ON_64.into(), 0xff_00ff_ffff, 0, 0), Call::CpuOn { .. }));
        assert_eq!(decode(CPU_ON_32.into(), 1 << 24, 0, 0), Call::Answer(INVALID_PARAMETERS));
    }

    #[test]
    fn an_odd_entry_is_an_invalid_address() {
        for entry in 1..4 {
            let refused = Call::Answer(ReturnCode::InvalidAddress.to_register());
            assert_eq!(decode(CPU_ON_64.into(), 0, entry, 0), refused);
        }
        assert!(matches!(decode(CPU_ON_64.into(), 0, 4, 0), Call::CpuOn { .. }));
    }

    #[test]
    fn affinity_levels_end_at_three() {
        assert!(matches!(decode(AFFINITY_INFO_64.into(), 0, 3, 0), Call::AffinityInfo { level: 3, .. }));
        for level in [4, 255, 256, 1 << 32] {
            assert_eq!(decode(AFFINITY_INFO_64.into(), 0, level, 0), Call::Answer(INVALID_PARAMETERS));
        }
        assert!(matches!(decode(AFFINITY_INFO_32.into(), 0, 1 << 32, 0), Call::AffinityInfo { level: 0, .. }));
    }

    #[test]
    fn every_well_formed_power_state_is_standby() {
        for state in [0, 0x1_0000, 0x0301_ffff] {
            assert_eq!(decode(CPU_SUSPEND_64.into(), state, 0x123, 0), Call::Suspend);
        }
        for state in [1 << 17, 1 << 23, 1 << 26, 1 << 31] {
            assert_eq!(decode(CPU_SUSPEND_32.into(), state, 0, 0), Call::Answer(INVALID_PARAMETERS));
        }
    }

    #[test]
    fn codes_are_sign_extended() {
        assert_eq!(ReturnCode::NotSupported.to_register(), u64::MAX);
        assert_eq!(ReturnCode::InvalidAddress.to_register().cast_signed(), -9);
        assert_eq!(ReturnCode::Success.to_register(), 0);
    }

    #[test]
    fn masks_drop_the_levels_below() {
        assert_eq!(affinity_mask(0), Mpidr::new(u64::MAX).get());
        assert_eq!(affinity_mask(1) & 0xff, 0);
        assert_eq!(affinity_mask(3), 0xff_0000_0000);
    }

    proptest! {
        #[test]
        fn a_glance_agrees_with_a_closer_look(x0: u64, which in 0..=KNOWN.len(), x1: u64, other in 0..=KNOWN.len()) {
            let function = KNOWN.get(which).map_or(x0, |known| u64::from(*known));
            let asked = KNOWN.get(other).map_or(x1, |known| u64::from(*known));
            match glance(function, asked) {
                Glance::Answer(value) => prop_assert_eq!(decode(function, asked, 0, 0), Call::Answer(value)),
                Glance::Unknown => prop_assert_eq!(decode(function, asked, 0, 0), Call::Unknown),
                Glance::Other => {}
            }
        }

        #[test]
        fn any_other_function_is_unknown(x0: u64, x1: u64, x2: u64, x3: u64) {
            prop_assume!(!KNOWN.contains(&low_word(x0)));
            prop_assert_eq!(decode(x0, x1, x2, x3), Call::Unknown);
        }

        #[test]
        fn no_register_content_of_a_known_function_is_unknown(which in 0..KNOWN.len(), x1: u64, x2: u64, x3: u64) {
            prop_assert_ne!(decode(KNOWN[which].into(), x1, x2, x3), Call::Unknown);
        }
    }
}
