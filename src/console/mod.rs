// SPDX-License-Identifier: MIT OR Apache-2.0
//! All consoles on one UART: rings of bytes, the multiplexer that turns them into named lines, the keyboard that moves
//! between partitions, and the hypervisor's shell. The housekeeping CPU alone runs it.

mod channel;
mod filter;
mod keyboard;
mod line;
mod mux;
mod report;
mod ring;
mod shell;

pub use keyboard::{ESCAPE, Key, Keyboard, write_keys};
pub use line::{Edited, LineEditor};
pub use mux::{HYPERVISOR_NAME, Mux, Pumped, View};
pub use report::{PartitionStatus, RunState, VcpuStats, write_list, write_stats};
pub use ring::{ByteSource, OUTPUT_SIZE, Pushed, Ring, RingWriter};
pub use shell::{Command, CommandError, PROMPT, parse, write_help};

use crate::id::PartitionId;

/// Whose console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A partition's.
    Partition(PartitionId),
    /// The hypervisor's: its log and its shell.
    Hypervisor,
}
