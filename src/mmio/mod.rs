// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes what EL2's syndrome registers say of a trapped access: ESR_EL2, FAR_EL2 and HPFAR_EL2 (Arm DDI 0487,
//! D24.2). Pure bit work, total over every value. What follows from it is decided in [`crate::fault`] and by the
//! devices.

mod class;
mod system;

pub use class::ExceptionClass;
pub use system::{SystemAccess, SystemRegister, Wait, decode_system_access, decode_wait};

use crate::addr::Ipa;
use crate::exit::Direction;

/// ISV: the syndrome of a data abort is valid.
const ISV: u64 = 1 << 24;
const SSE: u64 = 1 << 21;
const SF: u64 = 1 << 15;
const FNV: u64 = 1 << 10;
const CM: u64 = 1 << 8;
const S1PTW: u64 = 1 << 7;
const WNR: u64 = 1 << 6;
/// DFSC without its level.
const FAULT_KIND: u64 = 0x3c;
const TRANSLATION: u64 = 0x04;
/// IL: the trapped instruction is 32 bits long.
const IL: u64 = 1 << 25;

/// How many bytes an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl Width {
    /// All widths.
    pub const ALL: [Self; 4] = [Self::Byte, Self::Half, Self::Word, Self::Double];

    /// Returns the width in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// Returns the mask of the bits that an access moves.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Double => u64::MAX,
        }
    }
}

/// A general-purpose register by its number; 31 is the zero register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register(u8);

impl Register {
    /// Wraps a register number, of which the low 5 bits count.
    pub const fn new(raw: u8) -> Self {
        Self(raw & 0x1f)
    }

    /// Returns the number, 0 to 31.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the place among x0 to x30, or `None` for the zero register: reads as 0, writes are dropped.
    pub fn index(self) -> Option<usize> {
        match self.0 {
            31 => None,
            number => Some(usize::from(number)),
        }
    }
}

/// What a load does with the bits above those it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Clears them.
    Zero,
    /// Copies the sign up to bit 31, clears bits 63 to 32.
    SignTo32,
    /// Copies the sign up to bit 63.
    SignTo64,
}

/// What an access does with its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// A load.
    Read {
        /// Where the value goes.
        register: Register,
        /// What becomes of the bits above it.
        extension: Extension,
    },
    /// A store.
    Write {
        /// Where the value comes from.
        register: Register,
    },
}

/// A load or store to where stage 2 maps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its first byte. An unaligned access may reach into the next page.
    pub ipa: Ipa,
    /// How much it moves.
    pub width: Width,
    /// Where to or from.
    pub transfer: Transfer,
}

impl Access {
    /// Returns whether it reads or writes.
    pub const fn direction(&self) -> Direction {
        match self.transfer {
            Transfer::Read { .. } => Direction::Read,
            Transfer::Write { .. } => Direction::Write,
        }
    }

    /// Returns what a load puts into its register for the `raw` value of the device.
    #[inline]
    pub const fn loaded(&self, raw: u64) -> u64 {
        let value = raw & self.width.mask();
        let sign = (self.width.mask() >> 1) + 1;
        match self.transfer {
            Transfer::Read { extension: Extension::SignTo32, .. } => (value ^ sign).wrapping_sub(sign) & 0xffff_ffff,
            Transfer::Read { extension: Extension::SignTo64, .. } => (value ^ sign).wrapping_sub(sign),
            Transfer::Read { extension: Extension::Zero, .. } | Transfer::Write { .. } => value,
        }
    }

    /// Returns what a store moves of its register's content.
    #[inline]
    pub const fn stored(&self, register: u64) -> u64 {
        register & self.width.mask()
    }
}

/// An abort that no device can answer, and why. What each ends in is decided in [`crate::fault::answer`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortKind {
    /// Nothing is mapped, and the syndrome does not say what the instruction moves: pairs, SIMD, exclusives, atomics,
    /// writeback.
    NoSyndrome {
        /// Where.
        ipa: Ipa,
    },
    /// The walk of the guest's own tables met an address where nothing is mapped, or may not write there.
    TableWalk {
        /// The page of the descriptor.
        ipa: Ipa,
    },
    /// Cache maintenance by address where nothing is mapped.
    CacheMaintenance {
        /// Where.
        ipa: Ipa,
    },
    /// An instruction fetch from where nothing is mapped.
    Fetch {
        /// Where.
        ipa: Ipa,
    },
    /// The page is mapped without this permission. HPFAR_EL2 is not valid; the guest knows the virtual address.
    Permission,
    /// An external abort or parity error that the machine reported.
    External,
    /// The memory type demands alignment.
    Alignment,
    /// The memory type allows no exclusive or atomic access.
    Atomic,
    /// Any other fault status: access flag, address size, TLB conflict.
    Other {
        /// DFSC or IFSC, 6 bits.
        status: u8,
    },
}

/// Decodes a data abort from a lower exception level (EC 0x24).
///
/// # Errors
///
/// Anything but a load or store with a valid syndrome to where stage 2 maps nothing.
#[inline(always)]
pub fn decode(esr: u64, far: u64, hpfar: u64) -> Result<Access, AbortKind> {
    // One comparison for what device models want: a valid syndrome, a translation fault, no walk, no maintenance.
    if esr & (ISV | CM | S1PTW | FAULT_KIND) != ISV | TRANSLATION {
        return Err(classify(esr, far, hpfar, AbortKind::NoSyndrome { ipa: fault_ipa(far, hpfar) }));
    }
    let width = match (esr >> 22) & 3 {
        0 => Width::Byte,
        1 => Width::Half,
        2 => Width::Word,
        _ => Width::Double,
    };
    let register = Register::new(byte(esr >> 16));
    let transfer = if esr & WNR != 0 {
        Transfer::Write { register }
    } else {
        let extension = match (esr & SSE != 0, esr & SF != 0) {
            (false, _) => Extension::Zero,
            (true, false) => Extension::SignTo32,
            (true, true) => Extension::SignTo64,
        };
        Transfer::Read { register, extension }
    };
    Ok(Access { ipa: fault_ipa(far, hpfar), width, transfer })
}

/// A load or store of 1 or 4 bytes, without sign extension, to where stage 2 maps nothing: what guests do to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Load or store.
    pub direction: Direction,
    /// How much: a byte or a word.
    pub width: Width,
    /// The register: 0 to 31.
    pub register: u8,
}

/// Decodes a data abort if it is plain; what [`decode`] says of it is the same.
#[inline(always)]
pub fn decode_plain(esr: u64) -> Option<Plain> {
    const HALF: u64 = 1 << 22;
    if esr & (ISV | HALF | SSE | CM | S1PTW | FAULT_KIND) != ISV | TRANSLATION {
        return None;
    }
    Some(Plain {
        direction: abort_direction(esr),
        width: if is_word(esr) { Width::Word } else { Width::Byte },
        register: byte(esr >> 16) & 0x1f,
    })
}

/// Tells whether a plain access is of 4 bytes.
#[inline(always)]
pub const fn is_word(esr: u64) -> bool {
    esr & 1 << 23 != 0
}

/// Decodes an instruction abort from a lower exception level (EC 0x20).
pub fn decode_fetch(esr: u64, far: u64, hpfar: u64) -> AbortKind {
    // Bits 8 and 6 of an instruction abort's ISS are RES0: it is neither maintenance nor a write.
    classify(esr & !CM, far, hpfar, AbortKind::Fetch { ipa: fault_ipa(far, hpfar) })
}

/// Returns the kind of an abort; `plain` is a translation fault of the access itself.
#[cold]
fn classify(esr: u64, far: u64, hpfar: u64, plain: AbortKind) -> AbortKind {
    let status = byte(esr & 0x3f);
    let is_external = matches!(status, 0x10 | 0x13..=0x18 | 0x1b..=0x1f);
    if is_external {
        return AbortKind::External;
    }
    if esr & S1PTW != 0 {
        // FAR holds the address being translated, so only HPFAR's page is the descriptor's.
        return AbortKind::TableWalk { ipa: fault_ipa(0, hpfar) };
    }
    if esr & CM != 0 {
        return AbortKind::CacheMaintenance { ipa: fault_ipa(far, hpfar) };
    }
    match status {
        0x04..=0x07 | 0x2a | 0x2b => plain,
        0x0c..=0x0f => AbortKind::Permission,
        0x21 => AbortKind::Alignment,
        0x35 => AbortKind::Atomic,
        status => AbortKind::Other { status },
    }
}

/// Returns the faulting guest-physical address: the page from HPFAR_EL2.FIPA (bits 43 to 4 hold IPA bits 51 to 12),
/// the offset from FAR_EL2.
#[inline(always)]
pub fn fault_ipa(far: u64, hpfar: u64) -> Ipa {
    Ipa::new((((hpfar >> 4) & 0xff_ffff_ffff) << 12) | (far & 0xfff))
}

/// Returns whether an aborted data access would have written, as the guest's syndrome shall say.
pub const fn abort_direction(esr: u64) -> Direction {
    if esr & WNR != 0 { Direction::Write } else { Direction::Read }
}

/// Returns FAR_EL2 when the syndrome of an abort says that it holds the faulting virtual address (FnV clear).
pub const fn abort_far(esr: u64, far: u64) -> Option<u64> {
    if esr & FNV == 0 { Some(far) } else { None }
}

/// Returns the length in bytes of the trapped instruction: 4, or 2 for a T32 one.
pub const fn instruction_bytes(esr: u64) -> u64 {
    if esr & IL != 0 { 4 } else { 2 }
}

/// Returns PC and PSTATE behind a trapped instruction that EL2 has carried out: as the CPU would have left them, with the
/// step of a debugger done (SS), no branch target checked (BTYPE), and in AArch32 ITSTATE advanced (Arm DDI 0487, F1.6).
#[inline(always)]
pub const fn advance(pc: u64, pstate: u64, esr: u64) -> (u64, u64) {
    const AARCH32: u64 = 1 << 4;
    const SS: u64 = 1 << 21;
    const BTYPE: u64 = 3 << 10;
    if pstate & AARCH32 == 0 {
        return (pc.wrapping_add(4), pstate & !SS & !BTYPE);
    }
    let next = pc.wrapping_add(instruction_bytes(esr));
    // ITSTATE[7:2] in bits 15 to 10, [1:0] in 26 and 25.
    const IT: u64 = (0x3f << 10) | (3 << 25);
    let it = (pstate >> 8 & 0xfc) | (pstate >> 25 & 3);
    let it = if it & 7 == 0 { 0 } else { (it & 0xe0) | (it << 1 & 0x1f) };
    (next & 0xffff_ffff, pstate & !(SS | IT) | (it & 0xfc) << 8 | (it & 3) << 25)
}

#[inline(always)]
fn byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A word store of x5 with a valid syndrome and a translation fault at level 3.
    const STORE: u64 = (0x24 << 26) | IL | ISV | (2 << 22) | (5 << 16) | WNR | 7;

    fn decode_one(esr: u64) -> Result<Access, AbortKind> {
        decode(esr, 0xffff_0000_0000_0234, 0x09_0000)
    }

    #[test]
    fn advancing_ends_a_step_and_a_branch_target() {
        let pstate = 0x6000_0005 | 1 << 21 | 2 << 10;
        assert_eq!(advance(0x1000, pstate, STORE), (0x1004, 0x6000_0005));
        assert_eq!(advance(u64::MAX - 3, 5, IL), (0, 5));
    }

    #[test]
    fn advancing_in_t32_takes_2_bytes_and_moves_the_it_block_on() {
        const T32: u64 = 0x30;
        let with = |it: u64| T32 | (it & 0xfc) << 8 | (it & 3) << 25;
        assert_eq!(advance(0x1000, T32, STORE & !IL), (0x1002, T32));
        assert_eq!(advance(0xffff_fffe, T32, STORE & !IL), (0, T32));
        // ITTEE EQ and what is left of it behind each of its instructions.
        for (before, after) in [(0x07, 0x0e), (0x0e, 0x1c), (0x1c, 0x18)] {
            assert_eq!(advance(0, with(before), IL), (4, with(after)));
        }
        assert_eq!(advance(0, with(0x18), IL), (4, with(0)));
    }

    #[test]
    fn a_store_tells_address_width_and_register() {
        let access = decode_one(STORE).unwrap();
        assert_eq!(access.ipa, Ipa::new(0x0900_0234));
        assert_eq!(access.width, Width::Word);
        assert_eq!(access.transfer, Transfer::Write { register: Register::new(5) });
        assert_eq!(access.direction(), Direction::Write);
        assert_eq!(access.stored(0x1_2345_6789), 0x2345_6789);
    }

    #[test]
    fn hpfar_holds_forty_bits_of_page_number_and_ns_is_not_one_of_them() {
        let access = decode(STORE, 0xabc, (1 << 63) | (0xff_ffff_ffff << 4) | 0xf).unwrap();
        assert_eq!(access.ipa, Ipa::new(0xf_ffff_ffff_fabc));
    }

    #[test]
    fn loads_extend_as_the_instruction_says() {
        let load = STORE & !WNR & !(3 << 22);
        let table = [
            // LDRB, LDRSB w, LDRSB x, LDRSH x, LDRSW x, LDR w, LDR x
            (load, 0xffff_ff80, 0x80),
            (load | SSE, 0xff80, 0xffff_ff80),
            (load | SSE | SF, 0x80, 0xffff_ffff_ffff_ff80),
            (load | SSE | SF, 0x7f, 0x7f),
            (load | SSE | SF | (1 << 22), 0x8000, 0xffff_ffff_ffff_8000),
            (load | SSE | SF | (2 << 22), 0x8000_0000, 0xffff_ffff_8000_0000),
            (load | (2 << 22), u64::MAX, 0xffff_ffff),
            (load | SF | (3 << 22), u64::MAX, u64::MAX),
            (load | SSE | SF | (3 << 22), 1 << 63, 1 << 63),
        ];
        for (esr, raw, expected) in table {
            assert_eq!(decode_one(esr).unwrap().loaded(raw), expected, "{esr:#x}");
        }
    }

    #[test]
    fn the_zero_register_has_no_index() {
        assert_eq!(Register::new(31).index(), None);
        assert_eq!(Register::new(30).index(), Some(30));
    }

    #[test]
    fn each_abort_that_no_device_answers_is_told_apart() {
        let ipa = Ipa::new(0x0900_0234);
        let page = Ipa::new(0x0900_0000);
        let table = [
            (STORE & !ISV, AbortKind::NoSyndrome { ipa }),
            (STORE | S1PTW, AbortKind::TableWalk { ipa: page }),
            (STORE | CM, AbortKind::CacheMaintenance { ipa }),
            (STORE | CM | S1PTW, AbortKind::TableWalk { ipa: page }),
            ((STORE & !0x3f) | 0x0f, AbortKind::Permission),
            ((STORE & !0x3f) | 0x0f | S1PTW, AbortKind::TableWalk { ipa: page }),
            ((STORE & !0x3f) | 0x10, AbortKind::External),
            ((STORE & !0x3f) | 0x17, AbortKind::External),
            ((STORE & !0x3f) | 0x18, AbortKind::External),
            ((STORE & !0x3f) | 0x21, AbortKind::Alignment),
            ((STORE & !0x3f) | 0x35, AbortKind::Atomic),
            ((STORE & !0x3f) | 0x08, AbortKind::Other { status: 8 }),
            ((STORE & !0x3f) | 0x30, AbortKind::Other { status: 0x30 }),
        ];
        for (esr, kind) in table {
            assert_eq!(decode_one(esr), Err(kind), "{esr:#x}");
        }
    }

    #[test]
    fn a_fetch_abort_ignores_the_bits_it_does_not_have() {
        let fetch = (0x20 << 26) | IL | 7;
        let ipa = Ipa::new(0x0900_0234);
        for noise in [0, CM, WNR, CM | WNR] {
            assert_eq!(decode_fetch(fetch | noise, 0x234, 0x09_0000), AbortKind::Fetch { ipa });
        }
        assert_eq!(decode_fetch(fetch | S1PTW, 0x234, 0x09_0000), AbortKind::TableWalk { ipa: Ipa::new(0x0900_0000) });
        assert_eq!(decode_fetch((fetch & !0x3f) | 0x0d, 0, 0), AbortKind::Permission);
    }

    #[test]
    fn far_is_valid_unless_fnv_says_otherwise() {
        assert_eq!(abort_far(0x10, 0x1234), Some(0x1234));
        assert_eq!(abort_far(0x10 | FNV, 0x1234), None);
    }

    #[test]
    fn a_system_access_round_trips() {
        // MSR ICC_SGI1R_EL1, x3: S3_0_C12_C11_5.
        let esr = (0x18 << 26) | IL | (3 << 20) | (5 << 17) | (12 << 10) | (3 << 5) | (11 << 1);
        let access = decode_system_access(esr);
        assert_eq!(access.name, SystemRegister::new(3, 0, 12, 11, 5));
        assert_eq!(access.register, Register::new(3));
        assert_eq!(access.direction, Direction::Write);
        assert_eq!(decode_system_access(esr | 1).direction, Direction::Read);
        assert_eq!(std::format!("{:?}", access.name), "S3_0_C12_C11_5");
    }

    #[test]
    fn waits_are_told_apart() {
        let register = Register::new(7);
        assert_eq!(decode_wait(0), Wait::Interrupt);
        assert_eq!(decode_wait(1), Wait::Event);
        assert_eq!(decode_wait(2 | 4 | (7 << 5)), Wait::InterruptUntil(Some(register)));
        assert_eq!(decode_wait(3), Wait::EventUntil(None));
    }

    #[test]
    fn classes_have_the_architectures_numbers() {
        let table = [
            (0x00, ExceptionClass::Unknown),
            (0x01, ExceptionClass::Wfx),
            (0x07, ExceptionClass::FloatingPoint),
            (0x16, ExceptionClass::Hvc64),
            (0x17, ExceptionClass::Smc64),
            (0x18, ExceptionClass::SystemRegister),
            (0x20, ExceptionClass::InstructionAbort),
            (0x24, ExceptionClass::DataAbort),
            (0x2f, ExceptionClass::SError),
            (0x3f, ExceptionClass::Other(0x3f)),
        ];
        for (class, expected) in table {
            assert_eq!(ExceptionClass::of((class << 26) | 0x3ff_ffff), expected);
        }
    }

    proptest! {
        #[test]
        fn every_encoding_round_trips(op0 in 0u32..4, op1 in 0u32..8, crn in 0u32..16, crm in 0u32..16, op2 in 0u32..8) {
            let name = SystemRegister::new(op0, op1, crn, crm, op2);
            prop_assert_eq!((name.op0(), name.op1(), name.crn(), name.crm(), name.op2()), (op0, op1, crn, crm, op2));
        }

        #[test]
        fn only_a_plain_access_is_handed_to_a_device(esr: u64, far: u64, hpfar: u64) {
            if decode(esr, far, hpfar).is_ok() {
                prop_assert!(esr & ISV != 0 && esr & (CM | S1PTW) == 0 && (4..8).contains(&(esr & 0x3f)));
            }
            let _ = (decode_fetch(esr, far, hpfar), decode_system_access(esr), decode_wait(esr), ExceptionClass::of(esr));
        }
    }
}
