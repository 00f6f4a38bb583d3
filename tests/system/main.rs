// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system tests: each boots Septum in QEMU and judges what comes out of the console. docs/testing.md says how to run
//! one of them.

mod bench;
mod boots;
mod devices;
mod direct;
mod faults;
mod guests;
mod interrupts;
mod isolation;
mod lifecycle;
mod placements;
mod refusals;
mod steps;
