// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a plan can get wrong. None of it is the author's fault: a plan that has one is a fault of the planner.

use alloc::string::String;
use core::fmt;

use crate::id::{CpuId, Intid, PartitionId, Vmid};

/// A way in which a plan breaks isolation or cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named for what the messages say of them")]
pub enum Violation {
    /// Two partitions have one id, or an id is out of range.
    Id { id: PartitionId },
    /// A VMID is 0, or two partitions have it, or it is not that of the partition's id.
    Vmid { partition: String, vmid: Vmid },
    /// A partition has no vCPU, more than its GIC can serve, or they are not numbered in order.
    Vcpus { partition: String },
    /// Two vCPUs have one CPU.
    CpuTwice { cpu: CpuId, first: String, second: String },
    /// A CPU is not on the board, is disabled there, or has another affinity.
    CpuWrong { partition: String, cpu: CpuId },
    /// The housekeeping CPU is not on the board.
    Housekeeping { cpu: CpuId },
    /// A range is empty, has no end, or is no whole page.
    Range { partition: String, start: u64, size: u64 },
    /// Physical pages have two owners.
    PagesTwice { start: u64, end: u64, first: String, second: String },
    /// A file is used in place that its partition does not have for itself, or whose pages are elsewhere.
    InPlace { partition: String, what: String },
    /// A partition's RAM is not RAM of the board.
    NotRam { partition: String, start: u64, end: u64 },
    /// The list of the hypervisor's ranges lacks one.
    NotKept { what: String, start: u64, end: u64 },
    /// Two partitions own one interrupt, or one owns it twice.
    InterruptTwice { intid: Intid, first: String, second: String },
    /// An interrupt is no SPI, or is the hypervisor's.
    InterruptWrong { partition: String, intid: Intid },
    /// Interrupts are to arrive at a guest directly on a board that cannot do that.
    Direct { partition: String },
    /// The interrupt of an emulated console with direct delivery is a device's, or the GIC does not have it.
    Spare { partition: String, intid: Intid },
    /// The interrupts of a partition are not those of its devices.
    InterruptsDiffer { partition: String },
    /// The device pages of a partition are not those of its devices, or are not mapped IPA = PA.
    MappingsDiffer { partition: String },
    /// A partition with a bus master has memory whose IPA is not its PA.
    NotIdentity { partition: String, ipa: u64, pa: u64 },
    /// IPA and PA of RAM differ within a 2 MiB block.
    Incongruent { partition: String, ipa: u64, pa: u64 },
    /// Two things of a partition share guest addresses.
    WindowsTwice { partition: String, start: u64, first: String, second: String },
    /// The interrupt controller is not like the board's.
    Gic { partition: String },
    /// The emulated console is no page, or its interrupt is no SPI, or is also a device's.
    Console { partition: String },
    /// Something that is loaded is not in the partition's RAM.
    LoadOutsideRam { partition: String, what: String },
    /// Two things are loaded to one place.
    LoadsTwice { partition: String, first: String, second: String },
    /// The file is larger than its place.
    LoadTooSmall { partition: String, what: String },
    /// The entry is in nothing that is RAM, or is misaligned.
    Entry { partition: String },
    /// The device tree is misaligned or too large.
    Tree { partition: String },
}

impl fmt::Display for Violation {
    #[rustfmt::skip]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id { id } => write!(f, "{id} is there twice or out of range"),
            Self::Vmid { partition, vmid } => write!(f, "`{partition}` has {vmid}, which is nobody's, another's, or not its own"),
            Self::Vcpus { partition } => write!(f, "`{partition}` has no vCPU, too many, or they are out of order"),
            Self::CpuTwice { cpu, first, second } => write!(f, "{cpu} belongs to `{first}` and to `{second}`"),
            Self::CpuWrong { partition, cpu } => write!(f, "`{partition}` has {cpu}, which the board lacks or which has another affinity"),
            Self::Housekeeping { cpu } => write!(f, "the housekeeping CPU {cpu} is not on the board"),
            Self::Range { partition, start, size } => write!(f, "`{partition}`: {size:#x} bytes at {start:#x} are no whole pages"),
            Self::PagesTwice { start, end, first, second } => write!(f, "physical pages {start:#x}..{end:#x} belong to {first} and to {second}"),
            Self::InPlace { partition, what } => write!(f, "{what} of `{partition}` cannot be used in place"),
            Self::NotRam { partition, start, end } => write!(f, "memory {start:#x}..{end:#x} of `{partition}` is not RAM"),
            Self::NotKept { what, start, end } => write!(f, "{start:#x}..{end:#x} ({what}) is not listed as the hypervisor's"),
            Self::InterruptTwice { intid, first, second } => write!(f, "{intid} belongs to `{first}` and to `{second}`"),
            Self::InterruptWrong { partition, intid } => write!(f, "`{partition}` owns {intid}, which is no SPI or the hypervisor's"),
            Self::Direct { partition } => write!(f, "the interrupts of `{partition}` are to be delivered directly, which the board cannot do"),
            Self::Spare { partition, intid } => write!(f, "`{partition}` has {intid} for its console, which is a device's or not there"),
            Self::InterruptsDiffer { partition } => write!(f, "the interrupts of `{partition}` are not those of its devices"),
            Self::MappingsDiffer { partition } => write!(f, "the device pages of `{partition}` are not those of its devices"),
            Self::NotIdentity { partition, ipa, pa } => write!(f, "`{partition}` has a bus master, but its memory at ipa {ipa:#x} is at pa {pa:#x}"),
            Self::Incongruent { partition, ipa, pa } => write!(f, "`{partition}`: ipa {ipa:#x} and pa {pa:#x} differ within a 2 MiB block"),
            Self::WindowsTwice { partition, start, first, second } => write!(f, "`{partition}`: {first} and {second} are both at guest address {start:#x}"),
            Self::Gic { partition } => write!(f, "the interrupt controller of `{partition}` is not like the board's"),
            Self::Console { partition } => write!(f, "the console of `{partition}` is no page, or its interrupt is not its own"),
            Self::LoadOutsideRam { partition, what } => write!(f, "`{partition}`: its {what} is not in its memory"),
            Self::LoadsTwice { partition, first, second } => write!(f, "`{partition}`: its {first} and its {second} overlap"),
            Self::LoadTooSmall { partition, what } => write!(f, "`{partition}`: the file of its {what} is larger than its place"),
            Self::Entry { partition } => write!(f, "`{partition}`: its entry is not in its memory"),
            Self::Tree { partition } => write!(f, "`{partition}`: its device tree is misaligned or too large"),
        }
    }
}
