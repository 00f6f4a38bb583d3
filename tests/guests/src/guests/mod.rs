// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests themselves: one module each, with the options it takes.

pub mod bench;
pub mod canary;
pub mod fault;
pub mod heartbeat;
pub mod hostile;
pub mod psci;
pub mod ticker;
pub mod vgic;
