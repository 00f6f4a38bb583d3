// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this CPU is and has: exception level, affinity, and the architecture features that decide how EL2 is set up.

use crate::fault::PstateBits;
use crate::id::Mpidr;
use crate::read_sysreg;

/// Returns the current exception level, 1 to 3.
pub fn exception_level() -> u8 {
    ((read_sysreg!("CurrentEL") >> 2) & 3) as u8
}

/// Returns this CPU's affinity.
pub fn affinity() -> Mpidr {
    Mpidr::new(read_sysreg!("mpidr_el1"))
}

/// Tells whether HCR_EL2.E2H can be 0 here: a CPU with E2H RES1 lays its registers out in a way that Septum does not
/// drive. Such a CPU says so by ID_AA64MMFR4_EL1.E2H0 below 0; on others E2H reads back as it was written.
pub fn can_clear_e2h() -> bool {
    read_sysreg!("hcr_el2") >> 34 & 1 == 0
}

/// Features that decide how EL2 is set up, from the ID registers (Arm ARM, D23.2).
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Physical address bits, ID_AA64MMFR0_EL1.PARange, at most 48.
    pub pa_bits: u8,
    /// ID_AA64MMFR0_EL1.PARange, at most 5.
    pub pa_range: u64,
    /// FEAT_PAuth: HCR_EL2.{API, APK} and ten key registers.
    pub pauth: bool,
    /// FEAT_S2FWB: HCR_EL2.FWB.
    pub forced_write_back: bool,
    /// FEAT_RAS: HCR_EL2.TERR.
    pub ras: bool,
    /// FEAT_LOR: HCR_EL2.TLOR.
    pub lor: bool,
    /// FEAT_FGT: the fine-grained trap registers.
    pub fgt: bool,
    /// FEAT_FGT2: five more of them.
    pub fgt2: bool,
    /// FEAT_HCX: HCRX_EL2.
    pub hcx: bool,
    /// Number of breakpoints and watchpoints.
    pub breakpoints: u8,
    /// Number of watchpoints.
    pub watchpoints: u8,
    /// FEAT_PMUv3: MDCR_EL2.HPMN.
    pub pmu: bool,
    /// FEAT_MPAM: MPAM2_EL2.
    pub mpam: bool,
    /// FEAT_ECV with CNTPOFF_EL2.
    pub counter_offset: bool,
    /// The optional bits of PSTATE.
    pub pstate: PstateBits,
}

impl Features {
    /// Reads the features of this CPU.
    pub fn read() -> Self {
        let mmfr0 = read_sysreg!("id_aa64mmfr0_el1");
        let mmfr1 = read_sysreg!("id_aa64mmfr1_el1");
        let mmfr2 = read_sysreg!("id_aa64mmfr2_el1");
        let pfr0 = read_sysreg!("id_aa64pfr0_el1");
        let pfr1 = read_sysreg!("id_aa64pfr1_el1");
        let isar1 = read_sysreg!("id_aa64isar1_el1");
        let isar2 = read_sysreg!("id_aa64isar2_el1");
        let dfr0 = read_sysreg!("id_aa64dfr0_el1");
        let pa_range = field(mmfr0, 0).min(5);
        let fgt = field(mmfr0, 56);
        let pmu = field(dfr0, 8);
        Self {
            pa_bits: match pa_range {
                0 => 32,
                1 => 36,
                2 => 40,
                3 => 42,
                4 => 44,
                _ => 48,
            },
            pa_range,
            // APA, API, GPA and GPI, and APA3 and GPA3.
            pauth: isar1 & 0xff00_0ff0 != 0 || isar2 & 0xff00 != 0,
            forced_write_back: field(mmfr2, 40) >= 1,
            ras: field(pfr0, 28) >= 1,
            lor: field(mmfr1, 16) >= 1,
            fgt: fgt >= 1,
            fgt2: fgt >= 2,
            hcx: field(mmfr1, 40) >= 1,
            breakpoints: (field(dfr0, 12) + 1) as u8,
            watchpoints: (field(dfr0, 20) + 1) as u8,
            pmu: pmu != 0 && pmu != 0xf,
            // MPAM and MPAM_frac: version 0.1 has a fraction only.
            mpam: field(pfr0, 40) != 0 || field(pfr1, 16) != 0,
            counter_offset: field(mmfr0, 60) >= 2,
            pstate: PstateBits::of(pfr0, pfr1, mmfr1),
        }
    }
}

const fn field(register: u64, lowest_bit: u32) -> u64 {
    (register >> lowest_bit) & 0xf
}
