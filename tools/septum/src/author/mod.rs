// SPDX-License-Identifier: MIT OR Apache-2.0
//! The author's side: reads the TOML file that describes a system, with errors that show its lines, and compiles it and
//! the files it names into a manifest and a bundle.
//!
//! [`read`] judges the text alone; [`compile`] opens the files; [`judge`] plans on a board. Each stage reports all
//! of its errors at once.

mod compile;
mod diagnostic;
mod fields;
mod judge;
mod kernel;
mod partition;
pub mod qemu;
mod read;
pub mod schema;
mod system;
pub mod units;

pub use compile::{Compiled, Find, beside, compile};
pub use diagnostic::{At, Colour, Diagnostic, Report, Span};
pub use judge::judge;
pub use read::read;
pub use system::{KernelSource, Partition, System};

#[cfg(test)]
mod tests;
