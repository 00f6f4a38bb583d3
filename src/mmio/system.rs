// SPDX-License-Identifier: MIT OR Apache-2.0
//! The syndromes of trapped system registers, system instructions and waits.

use super::{Register, byte};
use crate::exit::Direction;

/// A system register or system instruction, by its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SystemRegister(u32);

impl SystemRegister {
    /// The bits of the ISS of EC 0x18 that name the register: all but Rt and the direction.
    const NAMING: u64 = 0x003f_fc1e;

    /// Returns the register `S<op0>_<op1>_C<crn>_C<crm>_<op2>`; of each number the bits that the encoding has count.
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self(((op0 & 3) << 20) | ((op2 & 7) << 17) | ((op1 & 7) << 14) | ((crn & 15) << 10) | ((crm & 15) << 1))
    }

    /// Returns op0.
    pub const fn op0(self) -> u32 {
        (self.0 >> 20) & 3
    }

    /// Returns op1.
    pub const fn op1(self) -> u32 {
        (self.0 >> 14) & 7
    }

    /// Returns CRn.
    pub const fn crn(self) -> u32 {
        (self.0 >> 10) & 15
    }

    /// Returns CRm.
    pub const fn crm(self) -> u32 {
        (self.0 >> 1) & 15
    }

    /// Returns op2.
    pub const fn op2(self) -> u32 {
        (self.0 >> 17) & 7
    }
}

impl core::fmt::Debug for SystemRegister {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "S{}_{}_C{}_C{}_{}", self.op0(), self.op1(), self.crn(), self.crm(), self.op2())
    }
}

/// A trapped MSR, MRS or system instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// What is accessed.
    pub name: SystemRegister,
    /// The general-purpose register.
    pub register: Register,
    /// MRS reads, MSR and system instructions write.
    pub direction: Direction,
}

/// Decodes the syndrome of a trapped system register access (EC 0x18).
#[inline(always)]
pub fn decode_system_access(esr: u64) -> SystemAccess {
    SystemAccess {
        name: SystemRegister(word(esr & SystemRegister::NAMING)),
        register: Register::new(byte(esr >> 5)),
        direction: if esr & 1 != 0 { Direction::Read } else { Direction::Write },
    }
}

/// What a trapped wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// WFI.
    Interrupt,
    /// WFE.
    Event,
    /// WFIT: until CNTVCT reaches the register, where the syndrome names one.
    InterruptUntil(Option<Register>),
    /// WFET: likewise.
    EventUntil(Option<Register>),
}

/// Decodes the syndrome of a trapped wait (EC 0x01).
pub fn decode_wait(esr: u64) -> Wait {
    let register = if esr & 4 != 0 { Some(Register::new(byte(esr >> 5))) } else { None };
    match esr & 3 {
        0 => Wait::Interrupt,
        1 => Wait::Event,
        2 => Wait::InterruptUntil(register),
        _ => Wait::EventUntil(register),
    }
}

#[inline(always)]
fn word(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
