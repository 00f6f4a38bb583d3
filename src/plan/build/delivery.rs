// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct delivery of interrupts: where the board can, and the spare SPIs of emulated lines.

use super::Context;
use super::draft::Draft;
use crate::config::{Console, Delivery};
use crate::id::Intid;
use crate::plan::board::{GicVersion, Security};
use crate::plan::error::{Key, NotDirect, Problem};

/// Looks whether the board can do what one partition asks for.
pub(super) fn check(draft: &mut Draft<'_>, context: &Context<'_>) {
    let gic = &context.board.gic;
    let why = match (draft.spec.delivery, &gic.version, gic.facts.security) {
        (Delivery::Virtual, _, _) | (Delivery::Direct, GicVersion::V3 { .. }, Security::One) => return,
        (Delivery::Direct, GicVersion::V2 { .. }, _) => NotDirect::GicV2,
        (Delivery::Direct, GicVersion::V3 { .. }, Security::Two) => NotDirect::TwoSecurityStates,
        (Delivery::Direct, GicVersion::V3 { .. }, Security::Unknown) => NotDirect::UnknownSecurity,
    };
    draft.fail(Key::Interrupts, Problem::DirectImpossible { partition: draft.name(), why });
}

/// Gives each partition with direct delivery and an emulated console an SPI that no node of the tree names: the lowest
/// ones, which every GIC has first.
pub(super) fn give_spares(drafts: &mut [Draft<'_>], context: &Context<'_>) {
    let gic = &context.board.gic;
    let spis = (32..gic.facts.intid_limit.min(1020)).map(Intid::new);
    let mut spares = spis.filter(|intid| gic.named.binary_search(intid).is_err());
    for draft in drafts.iter_mut() {
        let has_console = draft.spec.console != Console::None;
        if draft.spec.delivery != Delivery::Direct || !has_console {
            continue;
        }
        draft.spare = spares.next();
        if draft.spare.is_none() {
            draft.fail(Key::Interrupts, Problem::NoSpareInterrupt { partition: draft.name() });
        }
    }
}
