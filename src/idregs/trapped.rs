// SPDX-License-Identifier: MIT OR Apache-2.0
//! System registers and instructions, other than ID registers, that trap to EL2: what the guest gets. What is not listed
//! is UNDEFINED to the guest: PMU (MDCR_EL2.TPM), trace, AMU, error records, SVE, SME and MTE registers, IMPLEMENTATION
//! DEFINED ones (HCR_EL2.TIDCP), whatever the CPU has that we do not know. Registers of the GIC's CPU interface other
//! than SGI generation are the virtual GIC's and asked for there first.

use crate::exit::Direction;
use crate::mmio::SystemRegister;

/// What a guest gets for a trapped system register or instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The read returns this.
    Value(u64),
    /// The write has no effect.
    Ignore,
    /// The instruction is UNDEFINED.
    Undefined,
    /// Data cache maintenance by set and way: a set and way of one CPU's cache means nothing to a guest; the shell
    /// cleans and invalidates the partition's memory by address.
    Maintain,
    /// The guest generates an SGI with the value that it writes.
    Sgi(SgiGroup),
}

/// Which register an SGI was generated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiGroup {
    /// ICC_SGI0R_EL1: Group 0.
    Group0,
    /// ICC_SGI1R_EL1: Group 1 of the current security state.
    Group1,
    /// ICC_ASGI1R_EL1: Group 1 of the other security state.
    OtherGroup1,
}

const fn name(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> SystemRegister {
    SystemRegister::new(op0, op1, crn, crm, op2)
}

const ACTLR_EL1: SystemRegister = name(3, 0, 1, 0, 1);
const DC_ISW: SystemRegister = name(1, 0, 7, 6, 2);
const DC_CSW: SystemRegister = name(1, 0, 7, 10, 2);
const DC_CISW: SystemRegister = name(1, 0, 7, 14, 2);
const ICC_SGI1R_EL1: SystemRegister = name(3, 0, 12, 11, 5);
const ICC_ASGI1R_EL1: SystemRegister = name(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: SystemRegister = name(3, 0, 12, 11, 7);
const ICC_SRE_EL1: SystemRegister = name(3, 0, 12, 12, 5);
const LORSA_EL1: SystemRegister = name(3, 0, 10, 4, 0);
const LOREA_EL1: SystemRegister = name(3, 0, 10, 4, 1);
const LORN_EL1: SystemRegister = name(3, 0, 10, 4, 2);
const LORC_EL1: SystemRegister = name(3, 0, 10, 4, 3);
const LORID_EL1: SystemRegister = name(3, 0, 10, 4, 7);
const OSDTRRX_EL1: SystemRegister = name(2, 0, 0, 0, 2);
const MDCCINT_EL1: SystemRegister = name(2, 0, 0, 2, 0);
const MDSCR_EL1: SystemRegister = name(2, 0, 0, 2, 2);
const OSDTRTX_EL1: SystemRegister = name(2, 0, 0, 3, 2);
const OSECCR_EL1: SystemRegister = name(2, 0, 0, 6, 2);
const MDRAR_EL1: SystemRegister = name(2, 0, 1, 0, 0);
const OSLAR_EL1: SystemRegister = name(2, 0, 1, 0, 4);
const OSLSR_EL1: SystemRegister = name(2, 0, 1, 1, 4);
const OSDLR_EL1: SystemRegister = name(2, 0, 1, 3, 4);
const DBGPRCR_EL1: SystemRegister = name(2, 0, 1, 4, 4);
const DBGCLAIMSET_EL1: SystemRegister = name(2, 0, 7, 8, 6);
const DBGCLAIMCLR_EL1: SystemRegister = name(2, 0, 7, 9, 6);
const DBGAUTHSTATUS_EL1: SystemRegister = name(2, 0, 7, 14, 6);
const MDCCSR_EL0: SystemRegister = name(2, 3, 0, 1, 0);
const DBGDTR_EL0: SystemRegister = name(2, 3, 0, 4, 0);
const DBGDTRRX_EL0: SystemRegister = name(2, 3, 0, 5, 0);

/// SRE, DFB and DIB: system registers only, no bypass.
const ICC_SRE_SYSTEM_REGISTERS: u64 = 0b111;
/// OSLM = 0b10: the OS Lock is implemented; OSLK = 0: it is unlocked.
const OSLSR_UNLOCKED: u64 = 1 << 3;
/// All claim tags are implemented.
const CLAIM_TAGS: u64 = 0xff;

/// Decides what a guest gets for a trapped access. Total: what is not known is UNDEFINED.
pub fn trapped_register(name: SystemRegister, direction: Direction) -> Verdict {
    match name {
        ICC_SGI1R_EL1 => sgi(SgiGroup::Group1, direction),
        ICC_SGI0R_EL1 => sgi(SgiGroup::Group0, direction),
        ICC_ASGI1R_EL1 => sgi(SgiGroup::OtherGroup1, direction),
        ICC_SRE_EL1 => fixed(ICC_SRE_SYSTEM_REGISTERS, direction),
        DC_ISW | DC_CSW | DC_CISW => match direction {
            Direction::Write => Verdict::Maintain,
            Direction::Read => Verdict::Undefined,
        },
        // HCR_EL2.TACR: implementation defined controls of the CPU.
        ACTLR_EL1 => fixed(0, direction),
        // HCR_EL2.TLOR: no region exists.
        LORSA_EL1 | LOREA_EL1 | LORN_EL1 | LORC_EL1 => fixed(0, direction),
        LORID_EL1 => read_only(0, direction),
        // MDCR_EL2.{TDA, TDOSA, TDRA, TDCC}, where they are set: self-hosted debug that never triggers, and an external
        // debugger that is not there.
        MDSCR_EL1 | MDCCINT_EL1 | OSDTRRX_EL1 | OSDTRTX_EL1 | OSECCR_EL1 | OSDLR_EL1 | DBGPRCR_EL1 | DBGDTR_EL0
        | DBGDTRRX_EL0 | DBGCLAIMCLR_EL1 => fixed(0, direction),
        DBGCLAIMSET_EL1 => fixed(CLAIM_TAGS, direction),
        MDRAR_EL1 | DBGAUTHSTATUS_EL1 | MDCCSR_EL0 => read_only(0, direction),
        OSLSR_EL1 => read_only(OSLSR_UNLOCKED, direction),
        OSLAR_EL1 => match direction {
            Direction::Write => Verdict::Ignore,
            Direction::Read => Verdict::Undefined,
        },
        _ if is_breakpoint(name) => fixed(0, direction),
        _ => Verdict::Undefined,
    }
}

/// Tells whether it is DBGBVR, DBGBCR, DBGWVR or DBGWCR<n>_EL1.
const fn is_breakpoint(name: SystemRegister) -> bool {
    name.op0() == 2 && name.op1() == 0 && name.crn() == 0 && name.op2() >= 4
}

const fn sgi(group: SgiGroup, direction: Direction) -> Verdict {
    match direction {
        Direction::Write => Verdict::Sgi(group),
        Direction::Read => Verdict::Undefined,
    }
}

const fn fixed(value: u64, direction: Direction) -> Verdict {
    match direction {
        Direction::Read => Verdict::Value(value),
        Direction::Write => Verdict::Ignore,
    }
}

const fn read_only(value: u64, direction: Direction) -> Verdict {
    match direction {
        Direction::Read => Verdict::Value(value),
        Direction::Write => Verdict::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Read, Write};

    #[test]
    fn sgis_are_told_apart_and_are_write_only() {
        assert_eq!(trapped_register(name(3, 0, 12, 11, 5), Write), Verdict::Sgi(SgiGroup::Group1));
        assert_eq!(trapped_register(name(3, 0, 12, 11, 6), Write), Verdict::Sgi(SgiGroup::OtherGroup1));
        assert_eq!(trapped_register(name(3, 0, 12, 11, 7), Write), Verdict::Sgi(SgiGroup::Group0));
        assert_eq!(trapped_register(ICC_SGI1R_EL1, Read), Verdict::Undefined);
    }

    #[test]
    fn set_and_way_is_maintained_in_all_three_forms() {
        for crm in [6, 10, 14] {
            assert_eq!(trapped_register(name(1, 0, 7, crm, 2), Write), Verdict::Maintain);
            // The forms for tags are not there: MTE is hidden.
            assert_eq!(trapped_register(name(1, 0, 7, crm, 4), Write), Verdict::Undefined);
            assert_eq!(trapped_register(name(1, 0, 7, crm, 6), Write), Verdict::Undefined);
        }
    }

    #[test]
    fn the_guest_cannot_leave_the_system_register_interface() {
        assert_eq!(trapped_register(ICC_SRE_EL1, Read), Verdict::Value(7));
        assert_eq!(trapped_register(ICC_SRE_EL1, Write), Verdict::Ignore);
    }

    #[test]
    fn what_linux_touches_unasked_is_harmless() {
        for register in [MDSCR_EL1, OSDLR_EL1, ACTLR_EL1, name(2, 0, 0, 5, 4), name(2, 0, 0, 15, 7)] {
            assert_eq!(trapped_register(register, Write), Verdict::Ignore);
            assert_eq!(trapped_register(register, Read), Verdict::Value(0));
        }
        assert_eq!(trapped_register(OSLAR_EL1, Write), Verdict::Ignore);
        assert_eq!(trapped_register(OSLSR_EL1, Read), Verdict::Value(8));
    }

    #[test]
    fn hidden_features_are_undefined() {
        let hidden = [
            name(3, 3, 9, 12, 0),  // PMCR_EL0
            name(3, 3, 14, 15, 7), // PMCCFILTR_EL0
            name(3, 3, 13, 2, 0),  // AMCR_EL0
            name(3, 0, 5, 3, 0),   // ERRIDR_EL1
            name(3, 0, 1, 2, 0),   // ZCR_EL1
            name(3, 0, 1, 0, 5),   // RGSR_EL1
            name(3, 1, 0, 0, 4),   // GMID_EL1
            name(3, 1, 15, 2, 0),  // implementation defined
            name(3, 1, 11, 0, 0),  // implementation defined
            name(2, 1, 0, 4, 0),   // trace
            name(3, 4, 1, 1, 0),   // HCR_EL2
        ];
        for register in hidden {
            for direction in [Read, Write] {
                assert_eq!(trapped_register(register, direction), Verdict::Undefined, "{register:?}");
            }
        }
    }

    #[test]
    fn every_encoding_has_a_verdict_and_no_read_is_ignored() {
        for bits in 0..1u32 << 16 {
            let register = name(bits >> 14, bits >> 11, bits >> 7, bits >> 3, bits);
            assert_ne!(trapped_register(register, Read), Verdict::Ignore);
            assert!(!matches!(trapped_register(register, Write), Verdict::Value(_)));
        }
    }
}
