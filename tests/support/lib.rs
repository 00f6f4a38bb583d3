// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the system tests share: images that are built once per run, configurations written in a test's own text, a
//! machine in QEMU whose console is waited on, and the reading of what guests and the hypervisor said there.
//!
//! Everything here panics when it cannot go on: a test that cannot run has failed. Nothing is ever skipped.

pub mod booted;
pub mod claims;
pub mod images;
pub mod machine;
pub mod random;
pub mod trampoline;

pub use booted::Booted;
pub use claims::Claims;
pub use images::SeededBug;
pub use machine::{GICS, Gic, Machine, Timing};
pub use random::Random;
