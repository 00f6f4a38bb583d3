// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a configuration on a board. Each error knows where its author wrote it, names both parties,
//! gives the figures, and says a way out.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::units::{Count, Size};
use crate::addr::{Ipa, IpaRange, Pa, PaRange};
use crate::id::{CpuId, Intid, MAX_PARTITIONS, PartitionId};

/// A place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The partition, or `None` for what concerns the hypervisor.
    pub partition: Option<PartitionId>,
    /// The key in its table.
    pub key: Key,
}

/// A key of the configuration; the number is the place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `[hypervisor] cpu`.
    HousekeepingCpu,
    /// The table itself.
    Table,
    /// `cpus`.
    Cpu(usize),
    /// `memory`.
    Memory(usize),
    /// `kernel`.
    Kernel,
    /// `initrd`.
    Initrd,
    /// `device-tree`.
    DeviceTree,
    /// `console`.
    Console,
    /// `interrupts`.
    Interrupts,
    /// `devices`.
    Device(usize),
}

/// An error of the configuration on this board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Where it was written.
    pub at: Place,
    /// Where the other party was written, if there is one.
    pub other: Option<Place>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

/// Why interrupts cannot arrive at a guest directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDirect {
    /// The board has a GICv2.
    GicV2,
    /// The GIC has two security states.
    TwoSecurityStates,
    /// Nobody has said how many security states the GIC has.
    UnknownSecurity,
}

impl fmt::Display for NotDirect {
    #[rustfmt::skip]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GicV2 => "the board has a GICv2, and a guest that has its CPU interface can turn the hypervisor's own interrupts off",
            Self::TwoSecurityStates => "the board's GIC has two security states (GICD_CTLR.DS = 0): Group 0 is the secure firmware's, so that the hypervisor has no interrupt of its own that would not arrive at the guest too",
            Self::UnknownSecurity => "it is not known whether the board's GIC has a single security state (GICD_CTLR.DS = 1; `gic-security` in its board.toml)",
        })
    }
}

/// What is wrong. Partitions and devices are named as their author named them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named for what the messages say of them")]
pub enum Problem {
    /// More partitions than the hypervisor can hold.
    TooManyPartitions { count: usize },
    /// Two partitions have one name.
    DuplicateName { name: String },
    /// The housekeeping CPU is not in the tree, or is disabled there.
    NoHousekeepingCpu { cpu: CpuId, cpu_count: usize },
    /// A partition has no CPU.
    NoCpus { partition: String },
    /// A CPU was given twice.
    CpuTwice { cpu: CpuId, first: String, second: String },
    /// A CPU is not in the tree.
    CpuAbsent { partition: String, cpu: CpuId, cpu_count: usize },
    /// A CPU is disabled in the tree.
    CpuDisabled { partition: String, cpu: CpuId, path: String },
    /// More vCPUs than the interrupt controller or the hypervisor can serve.
    TooManyVcpus { partition: String, count: usize, limit: usize, limited_by: &'static str },
    /// Interrupts cannot arrive at a guest directly on this board.
    DirectImpossible { partition: String, why: NotDirect },
    /// Every interrupt of the board is some device's, so that none is left for an emulated console.
    NoSpareInterrupt { partition: String },
    /// A partition has no memory, or a piece of size 0.
    NoMemory { partition: String },
    /// A size or an address is no multiple of what it must be.
    Misaligned { partition: String, what: &'static str, value: u64, align: u64 },
    /// IPA and PA of a piece differ within a 2 MiB block.
    Incongruent { partition: String, ipa: Ipa, pa: Pa },
    /// A guest address is beyond what stage 2 can map.
    AddressTooHigh { partition: String, what: String, address: u64, limit: u64 },
    /// No free block of RAM is large enough.
    OutOfMemory { partition: String, needs: u64, board: u64, kept: u64, free: u64, largest: u64 },
    /// A stated physical range is not RAM.
    OutsideRam { partition: String, range: PaRange, ram: Vec<PaRange> },
    /// A stated physical range is somebody else's.
    MemoryTaken { partition: String, range: PaRange, owner: String, taken: PaRange },
    /// A partition with a bus master must have IPA = PA.
    DmaNotIdentity { partition: String, device: String, ipa: Ipa, pa: Pa },
    /// Two things of one partition have a guest address in common.
    WindowsOverlap { partition: String, first: String, first_range: IpaRange, second: String, second_range: IpaRange },
    /// The device is not in the tree.
    DeviceAbsent { partition: String, device: String, nearest: Vec<String> },
    /// A device was given twice.
    DeviceTwice { device: String, first: String, second: String },
    /// The device is the hypervisor's.
    DeviceOfHypervisor { partition: String, device: String, role: &'static str },
    /// The device is disabled in the tree.
    DeviceDisabled { partition: String, device: String, node: String },
    /// The device has no registers that could be mapped.
    DeviceWithoutRegisters { partition: String, device: String },
    /// The device's registers lie in RAM or in reserved memory.
    DeviceInMemory { partition: String, device: String, range: PaRange, owner: String },
    /// The device's description cannot be read.
    DeviceUnreadable { partition: String, device: String, property: String },
    /// A page holds devices of two partitions.
    PageShared {
        range: PaRange,
        device: String,
        first: String,
        other_device: String,
        second: String,
        tenants: Vec<String>,
    },
    /// A page holds a device of the partition and one of the hypervisor.
    PageOfHypervisor { partition: String, device: String, range: PaRange, tenant: String },
    /// A page holds a bus master that was not accepted.
    PageWithMaster { partition: String, device: String, range: PaRange, tenant: String },
    /// A bus master without an IOMMU was not accepted.
    UnsafeDma { partition: String, device: String, why: String },
    /// Two partitions were given one interrupt.
    InterruptShared { intid: Intid, device: String, first: String, other_device: String, second: String },
    /// An interrupt is the hypervisor's.
    InterruptOfHypervisor { partition: String, device: String, intid: Intid },
    /// An interrupt does not go to the GIC.
    InterruptNotRouted { partition: String, device: String, controller: String },
    /// An interrupt is private to each CPU.
    InterruptPrivate { partition: String, device: String, intid: Intid },
    /// A device needs something that the partition does not have.
    SupplierMissing { partition: String, device: String, property: String, supplier: String },
    /// A device sits on a bus whose addresses for DMA are not those of the CPUs.
    DmaRanges { partition: String, device: String, bus: String },
    /// The board's tree names no console UART, so that the emulated one has no address.
    ConsoleWithoutAddress { partition: String },
    /// A file of the bundle lies outside of it.
    FileOutsideBundle { partition: String, what: String, offset: u64, size: u64, bundle: u64 },
    /// A kernel or initrd has no byte.
    FileEmpty { partition: String, what: String },
    /// The stated place of the device tree is the kernel's.
    TreeOverlapsKernel { partition: String, range: IpaRange },
    /// Kernel, initrd and tree do not fit in the partition's memory.
    ImageTooLarge { partition: String, what: String, needs: u64, has: u64, kernel: u64, initrd: u64, tree: u64 },
    /// A segment is not in the partition's memory.
    SegmentOutsideRam { partition: String, what: String, range: Option<IpaRange>, at: Ipa, ram: Vec<IpaRange> },
    /// Two pieces of a kernel overlap.
    SegmentsOverlap { partition: String, first: String, first_range: IpaRange, second: String, second_range: IpaRange },
    /// The entry is not in the partition's memory.
    EntryOutsideRam { partition: String, entry: Ipa, ram: Vec<IpaRange> },
    /// The guest's device tree is larger than the boot protocol allows.
    TreeTooLarge { partition: String, size: u64, limit: u64 },
    /// The guest's device tree could not be written.
    TreeUnwritable { partition: String, why: String },
}

impl Problem {
    /// Returns the path of the device whose needs are not met.
    pub(super) fn device(&self) -> Option<&str> {
        match self {
            Self::SupplierMissing { device, .. }
            | Self::DeviceUnreadable { device, .. }
            | Self::DmaRanges { device, .. } => Some(device),
            _ => None,
        }
    }
}

/// Shows a list as `a, b and c`.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.len().saturating_sub(1);
        for (index, item) in self.0.iter().enumerate() {
            match index {
                0 => {}
                _ if index == last => f.write_str(" and ")?,
                _ => f.write_str(", ")?,
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    #[rustfmt::skip]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyPartitions { count } =>
                write!(f, "{count} partitions are too many: at most {MAX_PARTITIONS} can run; remove some"),
            Self::DuplicateName { name } =>
                write!(f, "two partitions are named `{name}`; give each a name of its own"),
            Self::NoHousekeepingCpu { cpu, cpu_count } =>
                write!(f, "the housekeeping CPU {} is not there: {}; choose another, or leave the key out", cpu.get(), CpusOf(*cpu_count)),
            Self::NoCpus { partition } =>
                write!(f, "partition `{partition}` has no CPU; give it at least one, such as cpus = [0]"),
            Self::CpuTwice { cpu, first, second } if first == second =>
                write!(f, "CPU {} is given to partition `{first}` twice; name it once", cpu.get()),
            Self::CpuTwice { cpu, first, second } =>
                write!(f, "CPU {} is given to partition `{first}` and to partition `{second}`; CPUs are dedicated: leave it to one of them", cpu.get()),
            Self::CpuAbsent { partition, cpu, cpu_count } =>
                write!(f, "partition `{partition}` wants CPU {}, which the board does not have: {}", cpu.get(), CpusOf(*cpu_count)),
            Self::CpuDisabled { partition, cpu, path } =>
                write!(f, "partition `{partition}` wants CPU {}, but {path} is disabled in the board's device tree; choose another", cpu.get()),
            Self::TooManyVcpus { partition, count, limit, limited_by } =>
                write!(f, "partition `{partition}` has {}, but {limited_by} serves at most {limit}; give it fewer", Count(*count, "CPU")),
            Self::NoMemory { partition } =>
                write!(f, "partition `{partition}` has no memory; give it some, such as memory = \"64M\""),
            Self::Misaligned { partition, what, value, align } =>
                write!(f, "partition `{partition}`: {what} {value:#x} is not a multiple of {}; use {:#x} or {:#x}",
                    Size(*align), value - value % align, (value - value % align).saturating_add(*align)),
            Self::Incongruent { partition, ipa, pa } =>
                write!(f, "partition `{partition}`: ipa {ipa} and pa {pa} differ within a 2 MiB block, so that only 4 KiB pages could map it; \
                    make their lowest 21 bits equal, or leave pa out"),
            Self::AddressTooHigh { partition, what, address, limit } =>
                write!(f, "partition `{partition}`: {what} ends at {address:#x}, but guest addresses end at {limit:#x}; choose a lower ipa"),
            Self::OutOfMemory { partition, needs, board, kept, free, largest } =>
                write!(f, "partition `{partition}` needs {} of RAM in one piece, but none is left: the board has {}, the hypervisor and reserved memory \
                    keep {} of it, {} are free, the largest free block has {}; ask for less, or split it into pieces",
                    Size(*needs), Size(*board), Size(*kept), Size(*free), Size(*largest)),
            Self::OutsideRam { partition, range, ram } =>
                write!(f, "partition `{partition}`: physical memory {range} is not all RAM; the board's RAM is {}; choose a pa there, or leave pa out", List(ram)),
            Self::MemoryTaken { partition, range, owner, taken } =>
                write!(f, "partition `{partition}`: physical memory {range} overlaps {taken}, which belongs to {owner}; choose another pa, or leave pa out"),
            Self::DmaNotIdentity { partition, device, ipa, pa } =>
                write!(f, "partition `{partition}` has the bus master {device}, which sees physical addresses, so that its memory must have ipa = pa, \
                    but ipa is {ipa} and pa is {pa}; make them equal, or leave both out"),
            Self::WindowsOverlap { partition, first, first_range, second, second_range } =>
                write!(f, "partition `{partition}`: {first} at {first_range} and {second} at {second_range} overlap in guest addresses; move one with `ipa`"),
            Self::DeviceAbsent { partition, device, nearest } => {
                write!(f, "partition `{partition}`: `{device}` is not in the board's device tree")?;
                if nearest.is_empty() { Ok(()) } else { write!(f, "; nearest: {}", List(nearest)) }
            }
            Self::DeviceTwice { device, first, second } if first == second =>
                write!(f, "{device} is given to partition `{first}` twice; name it once"),
            Self::DeviceTwice { device, first, second } =>
                write!(f, "{device} is given to partition `{first}` and to partition `{second}`; leave it to one of them"),
            Self::DeviceOfHypervisor { partition, device, role } =>
                write!(f, "partition `{partition}` cannot have {device}: it is {role}; remove it from `devices`"),
            Self::DeviceDisabled { partition, device, node } =>
                write!(f, "partition `{partition}` cannot have {device}: {node} is disabled in the board's device tree; enable it there, or remove it from `devices`"),
            Self::DeviceWithoutRegisters { partition, device } =>
                write!(f, "partition `{partition}` cannot have {device}: it has no registers that could be mapped; name the device that drives it"),
            Self::DeviceInMemory { partition, device, range, owner } =>
                write!(f, "partition `{partition}` cannot have {device}: its registers at {range} lie in {owner}; the board's device tree is at fault, or this is no device"),
            Self::DeviceUnreadable { partition, device, property } =>
                write!(f, "partition `{partition}` cannot have {device}: its `{property}` in the board's device tree cannot be understood; mend the tree, or remove the device"),
            Self::PageShared { range, device, first, other_device, second, tenants } =>
                write!(f, "{device} of partition `{first}` and {other_device} of partition `{second}` share the 4 KiB page(s) {range}; \
                    give both to one partition. In it: {}", List(tenants)),
            Self::PageOfHypervisor { partition, device, range, tenant } =>
                write!(f, "partition `{partition}` cannot have {device}: it shares the 4 KiB page(s) {range} with {tenant}, which is the hypervisor's; remove it from `devices`"),
            Self::PageWithMaster { partition, device, range, tenant } =>
                write!(f, "partition `{partition}`: {device} shares the 4 KiB page(s) {range} with the bus master {tenant}, which could then reach all memory; \
                    accept that with {{ node = \"{tenant}\", unsafe-dma = true }}, or remove {device}"),
            Self::UnsafeDma { partition, device, why } =>
                write!(f, "partition `{partition}`: {device} is a bus master ({why}) and no IOMMU confines it: it could reach all memory, the hypervisor's too; \
                    accept that with {{ node = \"{device}\", unsafe-dma = true }}, or remove it"),
            Self::InterruptShared { intid, device, first, other_device, second } =>
                write!(f, "{intid} is the interrupt of {device} of partition `{first}` and of {other_device} of partition `{second}`; give both to one partition"),
            Self::InterruptOfHypervisor { partition, device, intid } =>
                write!(f, "partition `{partition}` cannot have {device}: its {intid} is also that of the hypervisor's console; remove it from `devices`"),
            Self::InterruptNotRouted { partition, device, controller } =>
                write!(f, "partition `{partition}` cannot have {device}: its interrupt goes to {controller}, not to the GIC; give it {controller} too, or remove it from `devices`"),
            Self::InterruptPrivate { partition, device, intid } =>
                write!(f, "partition `{partition}` cannot have {device}: its {intid} is private to each CPU (a PPI), and only shared ones (SPIs) can be passed through; remove it from `devices`"),
            Self::SupplierMissing { partition, device, property, supplier } =>
                write!(f, "partition `{partition}`: {device} needs {supplier} (`{property}`), which the partition does not have and which cannot be replaced by a fixed one; \
                    give it {supplier} too, or remove {device}"),
            Self::DmaRanges { partition, device, bus } =>
                write!(f, "partition `{partition}` cannot have {device}: its bus {bus} translates DMA addresses (`dma-ranges`) in more than one step; remove it from `devices`"),
            Self::DirectImpossible { partition, why } =>
                write!(f, "partition `{partition}` cannot have `interrupts = \"direct\"`: {why}; write \"virtual\": every interrupt then takes one exit"),
            Self::NoSpareInterrupt { partition } =>
                write!(f, "partition `{partition}`: its emulated console needs an interrupt that no device of the board has, and there is none; \
                    write console = \"none\", or interrupts = \"virtual\""),
            Self::ConsoleWithoutAddress { partition } =>
                write!(f, "partition `{partition}`: the board's device tree names no console UART, so the emulated one has no address; \
                    write console = {{ ipa = ... }} or console = \"none\""),
            Self::FileOutsideBundle { partition, what, offset, size, bundle } =>
                write!(f, "partition `{partition}`: {what} ({} at offset {offset:#x}) is not in the bundle of {}; the bundle is damaged: build it again", Size(*size), Size(*bundle)),
            Self::FileEmpty { partition, what } =>
                write!(f, "partition `{partition}`: its {what} is empty; name the file that was meant"),
            Self::TreeOverlapsKernel { partition, range } =>
                write!(f, "partition `{partition}`: its device tree at {range} would overwrite the kernel; choose another address, or \"auto\""),
            Self::ImageTooLarge { partition, what, needs, has, kernel, initrd, tree } =>
                write!(f, "partition `{partition}`: no room for its {what}, which needs {} in one piece; memory {}, kernel {}, initrd {}, device tree {}; give it more memory",
                    Size(*needs), Size(*has), Size(*kernel), Size(*initrd), Size(*tree)),
            Self::SegmentOutsideRam { partition, what, range, at, ram } => {
                write!(f, "partition `{partition}`: {what} at ")?;
                match range {
                    Some(range) => write!(f, "{range}")?,
                    None => write!(f, "{at}")?,
                }
                write!(f, " is not in its memory {}; set `ipa` so that it is", List(ram))
            }
            Self::SegmentsOverlap { partition, first, first_range, second, second_range } =>
                write!(f, "partition `{partition}`: {first} at {first_range} and {second} at {second_range} overlap; link or load one of them elsewhere"),
            Self::EntryOutsideRam { partition, entry, ram } =>
                write!(f, "partition `{partition}`: its entry {entry} is not in its memory {}; set `ipa` or `entry` so that it is", List(ram)),
            Self::TreeTooLarge { partition, size, limit } =>
                write!(f, "partition `{partition}`: its device tree would have {}, and the boot protocol allows {}; give it fewer devices", Size(*size), Size(*limit)),
            Self::TreeUnwritable { partition, why } =>
                write!(f, "partition `{partition}`: its device tree cannot be written: {why}"),
        }
    }
}

/// Says which CPUs a board has.
struct CpusOf(usize);

impl fmt::Display for CpusOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("the board's device tree has no CPU"),
            1 => f.write_str("it has CPU 0 only"),
            count => write!(f, "it has CPUs 0 to {}", count.saturating_sub(1)),
        }
    }
}
