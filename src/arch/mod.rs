// SPDX-License-Identifier: MIT OR Apache-2.0
//! The AArch64 hardware: entry, vectors, translation, system registers.

pub mod cache;
pub mod cpu;
pub mod entry;
mod mem;
pub mod mmu;
pub mod probe;
pub mod secondary;
pub mod smc;
pub mod sysreg;
pub mod timer;
pub mod vcpu;
pub mod vectors;
