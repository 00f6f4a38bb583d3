// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifest: the compiled configuration, the same for every board it may run on. Nothing here is an address of a
//! board unless its author wrote one.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::addr::{Ipa, Pa};
use crate::id::CpuId;

/// The most characters of a partition's name.
pub const MAX_NAME_LEN: usize = 31;

/// Tells whether a partition may have this name: 1 to 31 of the characters a-z, 0-9, `-` and `_`.
pub fn is_valid_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(legal)
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The platform's folder name; for messages only.
    pub platform: String,
    /// What concerns the hypervisor itself.
    pub hypervisor: Hypervisor,
    /// The partitions; a partition's place here is its `PartitionId`.
    pub partitions: Vec<Partition>,
}

/// `[hypervisor]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hypervisor {
    /// The console UART: path, alias or label; `None` is /chosen's stdout-path.
    pub uart: Option<String>,
    /// The housekeeping CPU: it drives the UART, formats the log and times out stops. `None` lets the planner choose.
    pub cpu: Option<CpuId>,
    /// What is printed.
    pub log: LogLevel,
    /// What a panic of the hypervisor does.
    pub on_panic: OnPanic,
    /// What happens when the last partition is off.
    pub when_all_off: WhenAllOff,
}

/// The least severity that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And one line per boot step.
    Info,
    /// And details.
    Debug,
}

/// What a panic of the hypervisor does after it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnPanic {
    /// Stop the CPU on which it happened; guests on other CPUs go on, without a console.
    Halt,
    /// Reset the machine.
    Reset,
}

/// What happens when the last partition is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenAllOff {
    /// The shell waits for `start` or `reset`.
    Stay,
    /// The machine powers off.
    PowerOff,
}

/// `[partition.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name: 1 to 31 of the characters a-z, 0-9, `-` and `_`.
    pub name: String,
    /// Its dedicated CPUs; a CPU's place here is its `VcpuId`.
    pub cpus: Vec<CpuId>,
    /// Its RAM, in guest-physical order as far as addresses are given.
    pub memory: Vec<Memory>,
    /// What runs first.
    pub kernel: Kernel,
    /// The guest's initrd.
    pub initrd: Option<FileRange>,
    /// Where the guest finds its device tree.
    pub device_tree: DeviceTreeAt,
    /// The guest's command line.
    pub cmdline: String,
    /// The guest's console.
    pub console: Console,
    /// Devices passed through.
    pub devices: Vec<Device>,
    /// How its interrupts arrive.
    pub delivery: Delivery,
    /// What happens when the guest cannot go on.
    pub on_fault: FaultPolicy,
    /// Whether it is started at boot or waits for `start`.
    pub autostart: bool,
    /// When it is started at boot.
    pub boot: BootOrder,
    /// Whether it can be started again.
    pub restart: Restart,
}

/// `boot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootOrder {
    /// When all CPUs have come up.
    Any,
    /// When its own CPUs have come up, before the others are started.
    First,
}

/// `restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Its images are copied at each start, and the bundle keeps them pristine.
    Allowed,
    /// Its images are used where they lie in the bundle: it runs once.
    Never,
}

/// A piece of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Size in bytes, a multiple of 4 KiB.
    pub size: u64,
    /// Guest-physical address; `None` is the start of the board's RAM, or behind the piece before.
    pub ipa: Option<Ipa>,
    /// Physical address; `None` lets the planner choose.
    pub pa: Option<Pa>,
}

/// A file in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    /// Offset from the start of the bundle in bytes, a multiple of 4 KiB.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}

/// A guest's kernel. ELF and raw images are lowered to segments on the PC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernel {
    /// An arm64 Linux `Image` (Documentation/arch/arm64/booting): placed at a 2 MiB-aligned base plus `text_offset`.
    Image {
        /// The file.
        file: FileRange,
        /// Offset of the image from a 2 MiB boundary, from its header.
        text_offset: u64,
        /// Bytes from the image's start that it needs free, from its header; at least the file's size.
        image_size: u64,
    },
    /// Segments at stated guest-physical addresses.
    Segments {
        /// The pieces to load.
        segments: Vec<Segment>,
        /// The first instruction.
        entry: Ipa,
    },
}

/// A piece of a kernel with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Where it is loaded.
    pub ipa: Ipa,
    /// What is copied; `None` for zeroes only.
    pub file: Option<FileRange>,
    /// Bytes it occupies; what the file does not fill is zero.
    pub memory_size: u64,
}

/// Where a guest finds its device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceTreeAt {
    /// Placed by the planner; its address is in x0.
    Auto,
    /// At this address; also in x0.
    At(Ipa),
    /// The guest gets none; x0 is 0.
    None,
}

/// A guest's console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Console {
    /// None.
    None,
    /// An emulated PL011.
    Virtual {
        /// Its address; `None` is where the board's own console is.
        ipa: Option<Ipa>,
    },
}

/// `interrupts`: how a guest's interrupts arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// At EL2, which puts them into list registers: one exit for each.
    Virtual,
    /// At the guest itself, with no exit.
    Direct,
}

/// A device passed through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path, alias or label.
    pub node: String,
    /// The author accepts that this bus master can reach all memory.
    pub unsafe_dma: bool,
}

/// `on-fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultPolicy {
    /// The partition is stopped.
    Stop,
    /// The partition is restarted, at most `attempts` times within `within_ms`; then it is stopped.
    Restart {
        /// Restarts allowed in the window, at least 1.
        attempts: u32,
        /// The window in milliseconds.
        within_ms: u64,
    },
}
