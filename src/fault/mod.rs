// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest gets when it does wrong: the exception the architecture would give it ([`inject`]), the end of its
//! partition when it cannot go on ([`policy`]), and a record that names it ([`record`]). [`answer`] is the one place
//! that decides what an abort ends in. Trusts nothing that a guest controls.

pub mod inject;
pub mod policy;
pub mod record;

pub use inject::{Entry, GuestState, PstateBits};
pub use policy::{FaultVerdict, FaultWindow};
pub use record::{Admission, RateLimiter, Record, RecordKind, RecordRing};

use crate::exit::{AbortOn, Action, Injection, StopReason};
use crate::mmio::{self, AbortKind, ExceptionClass};

/// Bytes of an exception vector table (Arm DDI 0487, D1.3.4).
const VECTORS_SIZE: u64 = 0x800;

/// Decides what an abort that no device answered ends in. The syndrome says whether it was a fetch or a data access.
///
/// - Cache maintenance where nothing is mapped has nothing to maintain: it is skipped, as a bus without a device does.
/// - A fetch of the guest's own exception vectors that aborts can only abort again: the guest cannot go on.
/// - Everything else is a synchronous external abort at EL1, on the access or on the table walk.
pub fn answer(kind: AbortKind, esr: u64, far: u64, state: &GuestState) -> Action {
    let on = match kind {
        AbortKind::CacheMaintenance { .. } => return Action::Advance,
        AbortKind::TableWalk { .. } => AbortOn::TableWalk,
        AbortKind::NoSyndrome { .. }
        | AbortKind::Fetch { .. }
        | AbortKind::Permission
        | AbortKind::External
        | AbortKind::Alignment
        | AbortKind::Atomic
        | AbortKind::Other { .. } => AbortOn::Access,
    };
    let far = mmio::abort_far(esr, far);
    match ExceptionClass::of(esr) {
        ExceptionClass::InstructionAbort => match far {
            Some(far) if is_vector_fetch(far, state) => Action::Stop(StopReason::LostVectors),
            _ => Action::Inject(Injection::InstructionAbort { on, far }),
        },
        _ => Action::Inject(Injection::DataAbort { direction: mmio::abort_direction(esr), on, far }),
    }
}

/// Decides what a plain access to an address without device ends in: a synchronous external abort.
pub fn refuse(access: &mmio::Access, esr: u64, far: u64) -> Action {
    let far = mmio::abort_far(esr, far);
    Action::Inject(Injection::DataAbort { direction: access.direction(), on: AbortOn::Access, far })
}

/// Tells whether EL1 fetched from its own vector table.
fn is_vector_fetch(far: u64, state: &GuestState) -> bool {
    let base = state.vbar & !(VECTORS_SIZE - 1);
    state.is_at_el1() && far.wrapping_sub(base) < VECTORS_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Ipa;
    use crate::exit::Direction;
    use proptest::prelude::*;

    const DATA: u64 = (0x24 << 26) | (1 << 6);
    const FETCH: u64 = 0x20 << 26;
    const EL1H: u64 = 5;

    fn state(spsr: u64) -> GuestState {
        GuestState { pc: 0x4000_1000, spsr, vbar: 0x4008_0000, sctlr: 0, implemented: PstateBits::default() }
    }

    #[test]
    fn cache_maintenance_of_nothing_is_skipped() {
        let kind = AbortKind::CacheMaintenance { ipa: Ipa::new(0) };
        assert_eq!(answer(kind, DATA | 7, 0, &state(EL1H)), Action::Advance);
    }

    #[test]
    fn an_access_without_syndrome_aborts_at_its_address() {
        let kind = AbortKind::NoSyndrome { ipa: Ipa::new(0x1000) };
        let expected =
            Injection::DataAbort { direction: Direction::Write, on: AbortOn::Access, far: Some(0xffff_1000) };
        assert_eq!(answer(kind, DATA | 7, 0xffff_1000, &state(EL1H)), Action::Inject(expected));
    }

    #[test]
    fn a_walk_aborts_as_a_walk() {
        let kind = AbortKind::TableWalk { ipa: Ipa::new(0x1000) };
        let Action::Inject(Injection::InstructionAbort { on, .. }) = answer(kind, FETCH | 7, 0, &state(0)) else {
            panic!("not a fetch abort")
        };
        assert_eq!(on, AbortOn::TableWalk);
    }

    #[test]
    fn a_guest_whose_vectors_abort_cannot_go_on() {
        let kind = AbortKind::Fetch { ipa: Ipa::new(0) };
        let lost = Action::Stop(StopReason::LostVectors);
        for far in [0x4008_0000, 0x4008_0200, 0x4008_07fc] {
            assert_eq!(answer(kind, FETCH | 7, far, &state(EL1H)), lost);
            // EL0 may jump there; that is an abort like any other.
            assert_ne!(answer(kind, FETCH | 7, far, &state(0)), lost);
        }
        for far in [0x4007_fffc, 0x4008_0800] {
            assert_ne!(answer(kind, FETCH | 7, far, &state(EL1H)), lost);
        }
    }

    proptest! {
        #[test]
        fn every_syndrome_has_an_answer(esr: u64, far: u64, hpfar: u64, spsr: u64, vbar: u64) {
            let state = GuestState { vbar, ..state(spsr) };
            match mmio::decode(esr, far, hpfar) {
                Ok(access) => { refuse(&access, esr, far); }
                Err(kind) => { answer(kind, esr, far, &state); }
            }
            answer(mmio::decode_fetch(esr, far, hpfar), esr, far, &state);
        }
    }
}
