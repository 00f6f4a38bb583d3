// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the command `septum` is made of; the system tests use it too. It runs on the PC and may fail with a sentence
//! wherever the firmware may not.

pub mod assets;
pub mod author;
pub mod bench;
pub mod check;
pub mod console_log;
pub mod firmware;
pub mod flatten;
pub mod initramfs;
pub mod pack;
pub mod paths;
pub mod platform;
pub mod qemu;
pub mod run;
pub mod units;
