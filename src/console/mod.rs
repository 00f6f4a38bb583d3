// SPDX-License-Identifier: MIT OR Apache-2.0
//! All consoles on one UART: rings of bytes, the multiplexer that turns them into named lines, the keyboard that moves
//! between partitions, and the hypervisor's shell. The housekeeping CPU alone runs it.

mod ring;

pub use ring::{ByteSource, OUTPUT_SIZE, Pushed, Ring, RingWriter};
