// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exception class of a syndrome (Arm DDI 0487, D24.2, ESR_EL2.EC).

use super::byte;

/// An exception class, ESR_EL2.EC: those that a guest at EL1 or EL0 can cause at EL2, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionClass {
    /// 0x00: unknown reason.
    Unknown,
    /// 0x01: WFI, WFE, WFIT or WFET.
    Wfx,
    /// 0x03-0x06, 0x08 and 0x0c: coprocessor accesses of AArch32.
    Coprocessor,
    /// 0x07: FP, SIMD, SVE or SME access.
    FloatingPoint,
    /// 0x09: pointer authentication.
    PointerAuthentication,
    /// 0x0a: LD64B and its kind; 0x14: 128-bit registers; other rarely met traps of instructions.
    OtherInstruction,
    /// 0x0e: illegal execution state.
    IllegalState,
    /// 0x12: HVC from AArch32.
    Hvc32,
    /// 0x13: SMC from AArch32.
    Smc32,
    /// 0x16: HVC.
    Hvc64,
    /// 0x17: SMC.
    Smc64,
    /// 0x18: MSR, MRS or a system instruction.
    SystemRegister,
    /// 0x19: SVE access.
    Sve,
    /// 0x1a: ERET of nested virtualization.
    Eret,
    /// 0x1d: SME access.
    Sme,
    /// 0x20: instruction abort.
    InstructionAbort,
    /// 0x22: PC alignment; 0x26: SP alignment.
    Alignment,
    /// 0x24: data abort.
    DataAbort,
    /// 0x2f: SError.
    SError,
    /// 0x30-0x35, 0x38, 0x3a and 0x3c: debug exceptions.
    Debug,
    /// Any other: classes of EL2's own exceptions, and unallocated ones.
    Other(u8),
}

impl ExceptionClass {
    /// Returns the class of a syndrome.
    #[inline(always)]
    pub fn of(esr: u64) -> Self {
        match byte((esr >> 26) & 0x3f) {
            0x00 => Self::Unknown,
            0x01 => Self::Wfx,
            0x03..=0x06 | 0x08 | 0x0c => Self::Coprocessor,
            0x07 => Self::FloatingPoint,
            0x09 => Self::PointerAuthentication,
            0x0a | 0x14 | 0x27 | 0x2d => Self::OtherInstruction,
            0x0e => Self::IllegalState,
            0x12 => Self::Hvc32,
            0x13 => Self::Smc32,
            0x16 => Self::Hvc64,
            0x17 => Self::Smc64,
            0x18 => Self::SystemRegister,
            0x19 => Self::Sve,
            0x1a => Self::Eret,
            0x1d => Self::Sme,
            0x20 => Self::InstructionAbort,
            0x22 | 0x26 => Self::Alignment,
            0x24 => Self::DataAbort,
            0x2f => Self::SError,
            0x30..=0x35 | 0x38 | 0x3a | 0x3c => Self::Debug,
            class => Self::Other(class),
        }
    }
}
