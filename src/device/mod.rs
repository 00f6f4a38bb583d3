// SPDX-License-Identifier: MIT OR Apache-2.0
//! Emulated devices. Each is total over every offset, width and value; what a guest reads and writes never reaches
//! further than its own device.

pub mod pl011;

/// The level of a device's interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The device asks for nothing.
    Low,
    /// The device asks for service.
    High,
}
