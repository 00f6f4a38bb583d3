// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan: plain data, complete, with every address and owner decided. The hypervisor carries it out as it stands.

use alloc::string::String;
use alloc::vec::Vec;

use super::error::PlanError;
use crate::addr::{Ipa, IpaRange, Pa, PaRange};
use crate::config::{BootOrder, Delivery, FaultPolicy, FileRange, Restart};
use crate::id::{CpuId, Intid, Mpidr, PartitionId, Trigger, VcpuId, Vmid};

/// What of the machine is the hypervisor's before anything is planned.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The hypervisor's image, heap, tables and stacks.
    pub hypervisor: PaRange,
    /// The bundle: kept, as the guests' pristine images.
    pub bundle: PaRange,
    /// Where its files end and its manifest begins.
    pub files_end: Pa,
}

/// A carved board.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Memory that no partition may map: image, bundle, the GIC, the console UART, reserved memory.
    pub hypervisor: Vec<HypervisorRange>,
    /// The housekeeping CPU.
    pub housekeeping: CpuId,
    /// The partitions that can run, in the order of their ids. An id is the place in the configuration, so that ids
    /// have gaps where a partition was refused: use [`Plan::partition`].
    pub partitions: Vec<PartitionPlan>,
}

impl Plan {
    /// Returns the partition with this id, or `None` if there is none or it was refused.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionPlan> {
        self.partitions.iter().find(|partition| partition.id == id)
    }
}

/// What planning gives: the partitions that can run, and all that is wrong with the others.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The partitions that can run.
    pub plan: Plan,
    /// The partitions that cannot, each with every reason found.
    pub refused: Vec<Refusal>,
    /// What is wrong with the whole: nothing may be started.
    pub errors: Vec<PlanError>,
    /// What was planned otherwise than written, as the board lacks it: an error on the PC, a warning at boot.
    pub replaced: Vec<PlanError>,
}

impl Outcome {
    /// Returns each error once: one between two partitions is listed for the first of them only.
    pub fn all_errors(&self) -> impl Iterator<Item = &PlanError> {
        let of_partitions = self.refused.iter().flat_map(|refusal| &refusal.errors);
        let once = of_partitions.filter(|error| error.other.is_none_or(|other| error.at <= other));
        self.errors.iter().chain(&self.replaced).chain(once)
    }
}

/// A partition that cannot run on this board.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which one.
    pub id: PartitionId,
    /// Its name.
    pub name: String,
    /// Why, at least one.
    pub errors: Vec<PlanError>,
}

/// A range that the hypervisor keeps from every partition.
#[derive(Clone, Debug)]
pub struct HypervisorRange {
    /// Whole pages.
    pub range: PaRange,
    /// What it is, for reports.
    pub what: String,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct PartitionPlan {
    /// Its id: its place in the configuration.
    pub id: PartitionId,
    /// Its name.
    pub name: String,
    /// Its stage-2 VMID.
    pub vmid: Vmid,
    /// Its vCPUs, in the order of their ids.
    pub vcpus: Vec<VcpuPlan>,
    /// Its RAM.
    pub memory: Vec<MemoryPlan>,
    /// Device pages passed through, IPA = PA, ascending. GICV is in `gic` only.
    pub mappings: Vec<DeviceMapping>,
    /// Physical interrupts of its devices: SPIs, ascending. See [`PartitionPlan::owned_interrupts`].
    pub interrupts: Vec<InterruptPlan>,
    /// How its interrupts arrive.
    pub delivery: Delivery,
    /// Devices passed through.
    pub devices: Vec<DevicePlan>,
    /// The emulated (and, for GICV, mapped) interrupt controller.
    pub gic: GuestGic,
    /// The emulated console.
    pub console: Option<ConsolePlan>,
    /// What is loaded, in this order.
    pub load: Vec<LoadPlan>,
    /// The first instruction of vCPU 0.
    pub entry: Ipa,
    /// The guest's device tree: where it goes, and its bytes.
    pub device_tree: Option<TreePlan>,
    /// What happens when the guest cannot go on.
    pub on_fault: FaultPolicy,
    /// Whether it starts at boot.
    pub autostart: bool,
    /// When it starts at boot.
    pub boot: BootOrder,
    /// Whether it can be started again.
    pub restart: Restart,
}

impl PartitionPlan {
    /// Returns the spare SPI by which the console of a partition with direct delivery interrupts: no device of the board
    /// has it, and the hypervisor makes it pending.
    pub fn spare_interrupt(&self) -> Option<InterruptPlan> {
        match self.delivery {
            Delivery::Virtual => None,
            Delivery::Direct => {
                self.console.map(|console| InterruptPlan { intid: console.intid, trigger: Trigger::Edge })
            }
        }
    }

    /// Walks the physical SPIs that it owns: those of its devices, and the spare one.
    pub fn owned_interrupts(&self) -> impl Iterator<Item = InterruptPlan> + '_ {
        self.interrupts.iter().copied().chain(self.spare_interrupt())
    }
}

/// One vCPU and the CPU that is dedicated to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuPlan {
    /// Its id, equal to its place in [`PartitionPlan::vcpus`].
    pub id: VcpuId,
    /// The physical CPU.
    pub cpu: CpuId,
    /// The physical CPU's affinity.
    pub mpidr: Mpidr,
}

/// A piece of RAM with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Guest-physical start.
    pub ipa: Ipa,
    /// Physical start.
    pub pa: Pa,
    /// Size in bytes.
    pub size: u64,
}

impl MemoryPlan {
    /// Returns the guest-physical range.
    pub fn ipa_range(&self) -> Option<IpaRange> {
        IpaRange::new(self.ipa, self.size)
    }

    /// Returns the physical range.
    pub fn pa_range(&self) -> Option<PaRange> {
        PaRange::new(self.pa, self.size)
    }
}

/// Pages of a device, mapped as Device memory, never executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMapping {
    /// Guest-physical start.
    pub ipa: Ipa,
    /// Physical start.
    pub pa: Pa,
    /// Size in bytes, whole pages.
    pub size: u64,
}

/// A physical interrupt that a partition owns; the guest sees it under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptPlan {
    /// The interrupt.
    pub intid: Intid,
    /// How the tree says it signals.
    pub trigger: Trigger,
}

/// A device passed through, for the guest's tree, reports and restart.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// Its path in the board's tree.
    pub path: String,
    /// Its registers, as the tree gives them.
    pub registers: Vec<PaRange>,
    /// Why the partition reaches it.
    pub reach: Reach,
    /// Its interrupts, a part of [`PartitionPlan::interrupts`].
    pub interrupts: Vec<Intid>,
    /// How its bus mastering is stopped before a restart; see [`DmaQuiesce`].
    pub dma: Dma,
}

/// Why a partition reaches a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its author gave it.
    Given,
    /// It lies in a page of a device that was given; it is not in the guest's tree and its interrupts are nobody's.
    SharesPage,
}

/// What is known of a device as a bus master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dma {
    /// It is no bus master.
    None,
    /// It is one, accepted by `unsafe-dma`, and is stopped in this way before its partition is restarted.
    Unprotected(DmaQuiesce),
}

/// How a bus master is stopped. `Unknown` makes a restart of its partition be refused, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaQuiesce {
    /// virtio-mmio: write 0 to Status and read it back (Virtio 1.2, 4.2.2.1).
    VirtioMmio,
    /// No way is known.
    Unknown,
}

/// The interrupt controller that the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestGic {
    /// GICv2: the distributor is emulated, GICV is mapped at the CPU interface's address.
    V2 {
        /// GICD, emulated.
        distributor: IpaRange,
        /// GICC as the guest sees it; both pages.
        cpu_interface: IpaRange,
        /// GICV, mapped there.
        virtual_interface: PaRange,
    },
    /// GICv3: distributor and redistributors are emulated.
    V3 {
        /// GICD.
        distributor: IpaRange,
        /// The redistributors, 128 KiB for each vCPU.
        redistributors: IpaRange,
    },
}

/// An emulated PL011.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsolePlan {
    /// Its page.
    pub range: IpaRange,
    /// Its interrupt: level-sensitive and not backed by hardware, or with direct delivery a spare SPI of the board.
    pub intid: Intid,
}

/// Bytes of the bundle (or zeroes) at a guest-physical place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// What it is, for reports: "kernel", "initrd".
    pub what: String,
    /// Where it goes.
    pub range: IpaRange,
    /// What is copied to the start of the range; the rest is zero.
    pub file: Option<FileRange>,
    /// The file is not copied: the pages of the bundle that hold it are the partition's.
    pub in_place: bool,
}

/// A guest's device tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePlan {
    /// Where it goes, 8-byte aligned.
    pub ipa: Ipa,
    /// The blob.
    pub blob: Vec<u8>,
}
