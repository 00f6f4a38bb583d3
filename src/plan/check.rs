// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proves from a finished plan that nothing has two owners. The proof shares no code with the planner: it knows the board,
//! where the hypervisor is, and the plan, and not how that was made.

mod guest;
mod machine;
mod violation;

use alloc::vec::Vec;

pub use violation::Violation;

use super::board::Board;
use super::types::{Placement, Plan};

/// Checks a plan.
///
/// # Errors
/// Every way in which it could break isolation, or could not be carried out as it stands.
#[inline(never)]
pub fn check(plan: &Plan, board: &Board, placement: &Placement) -> Result<(), Vec<Violation>> {
    let mut found = Vec::new();
    machine::ids(plan, &mut found);
    machine::cpus(plan, board, &mut found);
    machine::pages(plan, board, placement, &mut found);
    machine::interrupts(plan, board, &mut found);
    for partition in &plan.partitions {
        guest::gic(partition, board, &mut found);
        guest::windows(partition, &mut found);
        guest::images(partition, &mut found);
        guest::devices(partition, &mut found);
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Half-open intervals of addresses with what is there.
type Interval<T> = (u64, u64, T);

/// Returns each interval that begins before an earlier one has ended, together with that one.
fn collisions<T: Clone>(mut intervals: Vec<Interval<T>>) -> Vec<(Interval<T>, Interval<T>)> {
    crate::order::sort_by_key(&mut intervals, |(start, end, _)| (*start, *end));
    let mut found = Vec::new();
    let mut reach: Option<Interval<T>> = None;
    for interval in intervals {
        if let Some(before) = &reach
            && interval.0 < before.1
        {
            found.push((before.clone(), interval.clone()));
        }
        if reach.as_ref().is_none_or(|before| before.1 < interval.1) {
            reach = Some(interval);
        }
    }
    found
}

/// Widens an interval to whole pages.
fn pages_of(start: u64, end: u64) -> (u64, u64) {
    (start / 4096 * 4096, end.div_ceil(4096).saturating_mul(4096))
}
