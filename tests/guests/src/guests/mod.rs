// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests themselves: one module each, with the options it takes.

pub mod heartbeat;
