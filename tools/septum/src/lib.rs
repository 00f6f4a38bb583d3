// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PC tool.

pub mod author;
