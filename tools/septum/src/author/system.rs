// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration as it was written: checked one key at a time, each value with its place; files not read yet.

use septum::addr::Ipa;
use septum::config::{self, BootOrder, Console, Delivery, Device, DeviceTreeAt, FaultPolicy, Memory, Restart};
use septum::id::{CpuId, PartitionId};
use septum::plan::{Key, Place};

use super::diagnostic::{At, Span};

/// A whole file.
#[derive(Clone, Debug)]
pub struct System {
    /// The platform's folder name.
    pub platform: At<String>,
    /// `[hypervisor]`.
    pub hypervisor: config::Hypervisor,
    /// Where `[hypervisor]` names its UART.
    pub uart: Option<Span>,
    /// Where `[hypervisor]` names its CPU.
    pub housekeeping: Option<Span>,
    /// `[qemu] args`, placeholders not replaced.
    pub qemu_args: Vec<At<String>>,
    /// The partitions, in the order of the file.
    pub partitions: Vec<Partition>,
}

/// `[partition.NAME]`.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its name, where the table begins.
    pub name: At<String>,
    /// `cpus`.
    pub cpus: Vec<At<CpuId>>,
    /// `memory`.
    pub memory: Vec<At<Memory>>,
    /// `kernel`.
    pub kernel: At<KernelSource>,
    /// `initrd`: an asset or a file beside the configuration.
    pub initrd: Option<At<String>>,
    /// `device-tree`.
    pub device_tree: At<DeviceTreeAt>,
    /// `cmdline`.
    pub cmdline: String,
    /// `console`.
    pub console: At<Console>,
    /// `devices`.
    pub devices: Vec<At<Device>>,
    /// `interrupts`.
    pub delivery: At<Delivery>,
    /// `on-fault`.
    pub on_fault: FaultPolicy,
    /// `autostart`.
    pub autostart: bool,
    /// `boot`.
    pub boot: BootOrder,
    /// `restart`.
    pub restart: Restart,
}

/// `kernel`.
#[derive(Clone, Debug)]
pub struct KernelSource {
    /// An asset or a file beside the configuration.
    pub file: At<String>,
    /// Where a raw binary is loaded.
    pub load: Option<At<Ipa>>,
    /// Where a raw binary begins.
    pub entry: Option<At<Ipa>>,
}

impl System {
    /// Returns where the author wrote what the planner names, or the nearest thing around it.
    pub fn span_of(&self, place: Place) -> &Span {
        let Some(id) = place.partition else {
            let written = match place.key {
                Key::HousekeepingCpu => self.housekeeping.as_ref(),
                _ => self.uart.as_ref(),
            };
            return written.unwrap_or(&self.platform.span);
        };
        let Some(partition) = self.partition(id) else {
            return &self.platform.span;
        };
        let table = &partition.name.span;
        match place.key {
            Key::Cpu(index) => partition.cpus.get(index).map_or(table, |cpu| &cpu.span),
            Key::Memory(index) => partition.memory.get(index).map_or(table, |piece| &piece.span),
            Key::Kernel => &partition.kernel.span,
            Key::Initrd => partition.initrd.as_ref().map_or(table, |initrd| &initrd.span),
            Key::DeviceTree => &partition.device_tree.span,
            Key::Console => &partition.console.span,
            Key::Interrupts => &partition.delivery.span,
            Key::Device(index) => partition.devices.get(index).map_or(table, |device| &device.span),
            Key::HousekeepingCpu | Key::Table => table,
        }
    }

    /// Returns a partition by its place.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(id.index())
    }
}
