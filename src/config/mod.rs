// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the author configured. The PC tool reads the TOML file and compiles it into a [`Manifest`]; the manifest and the
//! images travel in the [`bundle`]; the firmware reads nothing else.

pub mod bundle;
mod manifest;

pub use manifest::*;
