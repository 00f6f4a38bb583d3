// SPDX-License-Identifier: MIT OR Apache-2.0
//! The allow-list (Arm DDI 0487, D24.2, ID_*_EL1). Each line is a field that guests see, with what enables it and what
//! it adds to a vCPU's context; without a remark it is a property of instructions or of stage 1 that needs nothing of EL2
//! and adds no register. A vCPU has its CPU to itself, so the context that is named is live in the CPU's registers.
//!
//! Not in the lists, and why:
//!
//! | feature | hidden because |
//! |---|---|
//! | SVE, SME | CPTR_EL2 traps them; kilobytes of context, vector lengths per partition |
//! | MTE | HCR_EL2.ATA = 0; tags are a second memory that is neither zeroed nor restored on restart |
//! | RAS, IESB | error records are the machine's: HCR_EL2.TERR; errors are the hypervisor's to attribute |
//! | AMU, PMU, SPE, BRBE, trace | counters and buffers of the machine: CPTR_EL2.{TAM, TTA}, MDCR_EL2.{TPM, TPMS, TTRF, E2PB, E2TB} |
//! | MPAM | partition ids are the hypervisor's: MPAM2_EL2 traps |
//! | NMI | PSTATE.ALLINT and GICv3 superpriority, HCRX_EL2.{VINMI, VFNMI, TALLINT}; the virtual GIC has no NMIs |
//! | VHE, NV, FGT, HCX, EVT, TWED, XNX, FWB, VMIDBits | properties of EL2 and stage 2; a guest has neither |
//! | ECV above 1 | CNTPOFF_EL2 is EL2's; the self-synchronised counter views are shown |
//! | WFxT | a trapped WFIT would need a timer of its own |
//! | MOPS, LS64, GCS, TCR2, SCTLR2, S1PIE, S1POE, THE, D128, LS64, 128-bit registers | HCRX_EL2 = 0 keeps them off; registers that are not part of the context |
//! | LORegions | HCR_EL2.TLOR; they describe physical addresses |
//! | XS | HCRX_EL2.FnXS changes what maintenance waits for |
//! | BBM | level 2 lets a stage-1 change raise a TLB conflict at EL2 |
//! | TME, RME, SEL2, EL2, EL3 | there is none of it below EL2 |
//! | CSV2 above 1 | SCXTNUM_ELx trap while HCR_EL2.EnSCXT = 0 |
//! | 52-bit addresses with 4 and 16 KiB granules | stage 2 is planned with 48 bits |

/// One field, 4 bits wide.
pub(super) struct Field {
    /// Its name in the manual, for test failures.
    #[cfg_attr(not(test), expect(dead_code, reason = "names the field for a reader"))]
    pub name: &'static str,
    /// Its lowest bit.
    pub shift: u32,
    /// What of it is shown.
    pub rule: Rule,
}

/// What of a field is shown.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The real value, at most this one.
    UpTo(u64),
    /// The real value; a positive one at most this, a negative one (absent) as it is.
    SignedUpTo(u64),
    /// The real value, at most this one, when the partition has pointer authentication.
    PointerAuthentication(u64),
    /// What the partition's GIC is.
    Gic,
    /// The physical address size, within stage 2's.
    PhysicalRange,
}

use Rule::{Gic, PhysicalRange, PointerAuthentication, SignedUpTo, UpTo};

const fn field(shift: u32, name: &'static str, rule: Rule) -> Field {
    Field { name, shift, rule }
}

pub(super) const ID_AA64PFR0: &[Field] = &[
    // AArch64, and AArch32 where the CPU has it at EL0: HCR_EL2.RW = 1 leaves EL0 free to choose.
    field(0, "EL0", UpTo(2)),
    field(4, "EL1", UpTo(1)),
    // CPTR_EL2.TFP = 0; V0-V31, FPCR and FPSR.
    field(16, "FP", SignedUpTo(1)),
    field(20, "AdvSIMD", SignedUpTo(1)),
    // ICC_SRE_EL2.Enable = 1; the virtual CPU interface.
    field(24, "GIC", Gic),
    // PSTATE.DIT.
    field(48, "DIT", UpTo(1)),
    field(56, "CSV2", UpTo(1)),
    field(60, "CSV3", UpTo(1)),
];

pub(super) const ID_AA64PFR1: &[Field] = &[
    // PSTATE.BTYPE.
    field(0, "BT", UpTo(1)),
    // PSTATE.SSBS.
    field(4, "SSBS", UpTo(2)),
    field(32, "CSV2_frac", UpTo(1)),
];

pub(super) const ID_AA64DFR0: &[Field] = &[
    // MDCR_EL2.{TDA, TDE} = 0: MDSCR, OSLAR, and DBGBVR, DBGBCR, DBGWVR and DBGWCR up to the counts below. The extended
    // banks of Debugv8p9 (11) are hidden.
    field(0, "DebugVer", UpTo(10)),
    field(12, "BRPs", UpTo(15)),
    field(20, "WRPs", UpTo(15)),
    field(28, "CTX_CMPs", UpTo(15)),
    field(36, "DoubleLock", SignedUpTo(0)),
];

pub(super) const ID_AA64ISAR0: &[Field] = &[
    field(4, "AES", UpTo(2)),
    field(8, "SHA1", UpTo(1)),
    field(12, "SHA2", UpTo(2)),
    field(16, "CRC32", UpTo(1)),
    field(20, "Atomic", UpTo(3)),
    field(28, "RDM", UpTo(1)),
    field(32, "SHA3", UpTo(1)),
    field(36, "SM3", UpTo(1)),
    field(40, "SM4", UpTo(1)),
    field(44, "DP", UpTo(1)),
    field(48, "FHM", UpTo(1)),
    field(52, "TS", UpTo(2)),
    // Maintenance by range and in the outer shareable domain, bounded to the VMID: HCR_EL2.{TTLB, TTLBOS} = 0.
    field(56, "TLB", UpTo(2)),
    field(60, "RNDR", UpTo(1)),
];

pub(super) const ID_AA64ISAR1: &[Field] = &[
    field(0, "DPB", UpTo(2)),
    // HCR_EL2.{API, APK} = 1; the keys APIA, APIB, APDA, APDB, APGA.
    field(4, "APA", PointerAuthentication(5)),
    field(8, "API", PointerAuthentication(5)),
    field(12, "JSCVT", UpTo(1)),
    field(16, "FCMA", UpTo(1)),
    field(20, "LRCPC", UpTo(3)),
    field(24, "GPA", PointerAuthentication(1)),
    field(28, "GPI", PointerAuthentication(1)),
    field(32, "FRINTTS", UpTo(1)),
    field(36, "SB", UpTo(1)),
    // HFGITR_EL2 = 0: the prediction restriction instructions act on the guest's own context.
    field(40, "SPECRES", UpTo(2)),
    field(44, "BF16", UpTo(2)),
    field(48, "DGH", UpTo(1)),
    field(52, "I8MM", UpTo(1)),
];

pub(super) const ID_AA64ISAR2: &[Field] = &[
    field(4, "RPRES", UpTo(1)),
    field(8, "GPA3", PointerAuthentication(1)),
    field(12, "APA3", PointerAuthentication(5)),
    field(20, "BC", UpTo(1)),
    field(24, "PAC_frac", PointerAuthentication(1)),
    field(28, "CLRBHB", UpTo(1)),
    field(40, "PRFMSLC", UpTo(1)),
    field(48, "RPRFM", UpTo(1)),
    field(52, "CSSC", UpTo(1)),
    field(56, "LUT", UpTo(1)),
];

pub(super) const ID_AA64ISAR3: &[Field] =
    &[field(4, "FAMINMAX", UpTo(1)), field(16, "LSFE", UpTo(1)), field(28, "FPRCVT", UpTo(1))];

pub(super) const ID_AA64MMFR0: &[Field] = &[
    field(0, "PARange", PhysicalRange),
    field(4, "ASIDBits", UpTo(2)),
    field(8, "BigEnd", UpTo(1)),
    field(12, "SNSMem", UpTo(1)),
    field(16, "BigEndEL0", UpTo(1)),
    // 2 is FEAT_LPA2.
    field(20, "TGran16", UpTo(1)),
    field(24, "TGran64", SignedUpTo(0)),
    // 1 is FEAT_LPA2.
    field(28, "TGran4", SignedUpTo(0)),
    field(44, "ExS", UpTo(1)),
    // CNTPCTSS_EL0 and CNTVCTSS_EL0: CNTHCTL_EL2.EL1PCTEN = 1.
    field(60, "ECV", UpTo(1)),
];

pub(super) const ID_AA64MMFR1: &[Field] = &[
    // Access flag and dirty state of stage 1; above 2 needs TCR2_EL1.
    field(0, "HAFDBS", UpTo(2)),
    field(12, "HPDS", UpTo(2)),
    // PSTATE.PAN.
    field(20, "PAN", UpTo(3)),
    field(24, "SpecSEI", UpTo(1)),
    field(36, "ETS", UpTo(3)),
    field(44, "AFP", UpTo(1)),
    field(48, "nTLBPA", UpTo(1)),
    field(52, "TIDCP1", UpTo(1)),
    field(60, "ECBHB", UpTo(1)),
];

pub(super) const ID_AA64MMFR2: &[Field] = &[
    field(0, "CnP", UpTo(1)),
    // PSTATE.UAO.
    field(4, "UAO", UpTo(1)),
    field(8, "LSM", UpTo(1)),
    // 52-bit virtual addresses with the 64 KiB granule.
    field(16, "VARange", UpTo(1)),
    // The format of CCSIDR_EL1, which does not trap.
    field(20, "CCIDX", UpTo(1)),
    field(28, "ST", UpTo(1)),
    field(32, "AT", UpTo(1)),
    // The syndrome of EL0's reads of ID registers, which the CPU itself writes.
    field(36, "IDS", UpTo(1)),
    field(48, "TTL", UpTo(1)),
    field(60, "E0PD", UpTo(1)),
];

// AArch32, for EL0 alone. The registers not listed here are described in `read`.

pub(super) const ID_PFR0: &[Field] = &[
    field(0, "State0", UpTo(1)),
    field(4, "State1", UpTo(3)),
    field(8, "State2", UpTo(2)),
    field(16, "CSV2", UpTo(1)),
    field(24, "DIT", UpTo(1)),
];

pub(super) const ID_PFR1: &[Field] = &[field(0, "ProgMod", UpTo(1)), field(16, "GenTimer", UpTo(2))];

pub(super) const ID_PFR2: &[Field] = &[field(0, "CSV3", UpTo(1)), field(4, "SSBS", UpTo(1))];

pub(super) const ID_DFR0: &[Field] = &[field(0, "CopDbg", UpTo(10))];

pub(super) const ID_ISAR5: &[Field] = &[
    field(0, "SEVL", UpTo(1)),
    field(4, "AES", UpTo(2)),
    field(8, "SHA1", UpTo(1)),
    field(12, "SHA2", UpTo(1)),
    field(16, "CRC32", UpTo(1)),
    field(24, "RDM", UpTo(1)),
    field(28, "VCMA", UpTo(1)),
];

pub(super) const ID_ISAR6: &[Field] = &[
    field(0, "JSCVT", UpTo(1)),
    field(4, "DP", UpTo(1)),
    field(8, "FHM", UpTo(1)),
    field(12, "SB", UpTo(1)),
    field(16, "SPECRES", UpTo(2)),
    field(20, "BF16", UpTo(1)),
    field(24, "I8MM", UpTo(1)),
    field(28, "CLRBHB", UpTo(1)),
];

pub(super) const ID_MMFR4: &[Field] = &[
    field(0, "SpecSEI", UpTo(1)),
    field(12, "CnP", UpTo(1)),
    field(16, "HPDS", UpTo(2)),
    field(20, "LSM", UpTo(1)),
    field(24, "CCIDX", UpTo(1)),
];

pub(super) const ID_MMFR5: &[Field] = &[field(0, "ETS", UpTo(3)), field(4, "nTLBPA", UpTo(1))];

#[cfg(test)]
pub(super) const ALL: [&[Field]; 18] = [
    ID_AA64PFR0,
    ID_AA64PFR1,
    ID_AA64DFR0,
    ID_AA64ISAR0,
    ID_AA64ISAR1,
    ID_AA64ISAR2,
    ID_AA64ISAR3,
    ID_AA64MMFR0,
    ID_AA64MMFR1,
    ID_AA64MMFR2,
    ID_PFR0,
    ID_PFR1,
    ID_PFR2,
    ID_DFR0,
    ID_ISAR5,
    ID_ISAR6,
    ID_MMFR4,
    ID_MMFR5,
];
