// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planner: [`build`] carves a board into partitions, [`check`] proves the result without knowing how it was made.
//! Both run on the PC, against a reference tree, and on the board, against the live one.

mod board;
mod build;
mod check;
mod error;
mod master;
mod report;
mod tree;
mod types;
mod units;

pub use board::*;
pub use build::build;
pub use check::{Violation, check};
pub use error::*;
pub use report::{Report, report};
pub use tree::guest_tree;
pub use types::*;
pub use units::Size;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
