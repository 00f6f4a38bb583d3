// SPDX-License-Identifier: MIT OR Apache-2.0
//! Septum, a static-partitioning hypervisor for AArch64 boards: the map of the house.
//!
//! Modules stand in the order in which they may import: values, describe, decide, policy, hardware. Everything above
//! the hardware layer is `#[forbid(unsafe_code)]`, holds no lock, touches no register and is tested on the PC. The
//! hardware layer exists only for the bare-metal target and is the only home of `unsafe`.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

// Values.
#[forbid(unsafe_code)]
pub mod addr;
#[forbid(unsafe_code)]
pub mod id;
#[forbid(unsafe_code)]
pub mod order;

// Describe: read the board, write guest trees; what the author configured.
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
pub mod devicetree;

// Decide.
#[forbid(unsafe_code)]
pub mod plan;

// Policy.
#[forbid(unsafe_code)]
pub mod console;
#[forbid(unsafe_code)]
pub mod device;
#[forbid(unsafe_code)]
pub mod exit;
#[forbid(unsafe_code)]
pub mod fault;
#[forbid(unsafe_code)]
pub mod idregs;
#[forbid(unsafe_code)]
pub mod mmio;
#[forbid(unsafe_code)]
pub mod partition;
#[forbid(unsafe_code)]
pub mod preparation;
#[forbid(unsafe_code)]
pub mod psci;
#[forbid(unsafe_code)]
pub mod stage2;
#[forbid(unsafe_code)]
pub mod vgic;

// Hardware: the only home of `unsafe`.
#[cfg(target_os = "none")]
pub mod arch;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod driver;
#[cfg(target_os = "none")]
pub mod irqchip;
#[cfg(target_os = "none")]
pub mod machine;
#[cfg(target_os = "none")]
pub mod memory;
