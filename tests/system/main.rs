// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system tests: each boots Septum in QEMU and judges what comes out of the console. docs/testing.md says how to run
//! one of them.

mod guests;
