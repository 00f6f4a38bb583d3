// SPDX-License-Identifier: MIT OR Apache-2.0
//! Defects on demand, for the tests that must find them: each is a Cargo feature that no shipped build has.

use crate::addr::Pa;
use crate::plan::InterruptPlan;
use crate::stage2::{MapError, Stage2, Tables};

/// Where the leaked page appears: 12 GiB, past the RAM that tests give to guests.
#[cfg(feature = "seeded-bug-leaked-page")]
const LEAK: crate::addr::Ipa = crate::addr::Ipa::new(12 << 30);

/// Maps a page of the hypervisor into a partition.
#[cfg(feature = "seeded-bug-leaked-page")]
pub fn leak_page(map: &mut Stage2, tables: &mut impl Tables, page: Pa) -> Result<(), MapError> {
    map.map(tables, LEAK, page, crate::addr::PAGE_SIZE, crate::stage2::Kind::Ram)
}

/// Does nothing: this build has no seeded bug.
#[cfg(not(feature = "seeded-bug-leaked-page"))]
pub fn leak_page(_: &mut Stage2, _: &mut impl Tables, _: Pa) -> Result<(), MapError> {
    Ok(())
}

/// Returns the interrupts that a partition's controller takes for its own: every SPI of the board.
#[cfg(feature = "seeded-bug-unfiltered-spi")]
pub fn owned_interrupts(_: &[InterruptPlan]) -> alloc::vec::Vec<InterruptPlan> {
    use crate::id::{Intid, Trigger};
    let spis = 32..32 * (crate::irqchip::spi_words() as u32 + 1);
    spis.map(|id| InterruptPlan { intid: Intid::new(id), trigger: Trigger::Level }).collect()
}

/// Returns the interrupts that a partition's controller takes for its own: those of its plan.
#[cfg(not(feature = "seeded-bug-unfiltered-spi"))]
pub fn owned_interrupts(planned: &[InterruptPlan]) -> alloc::vec::Vec<InterruptPlan> {
    planned.to_vec()
}
