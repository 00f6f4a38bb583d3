// SPDX-License-Identifier: MIT OR Apache-2.0
//! The firmware's entry. On the PC there is nothing to run: the tool is `cargo septum`.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

// The entry point, the vectors and the panic handler live in the library.
use septum as _;

#[cfg(not(target_os = "none"))]
fn main() {}
