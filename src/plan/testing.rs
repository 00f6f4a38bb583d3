// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boards and configurations for tests: a machine like QEMU's virt, written node by node.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::format;

use super::Placement;
use crate::addr::{Pa, PaRange};
use crate::config::{
    BootOrder, Console, Delivery, Device, DeviceTreeAt, FaultPolicy, FileRange, Hypervisor, Kernel, LogLevel, Manifest,
    Memory, OnPanic, Partition, Restart, WhenAllOff,
};
use crate::devicetree::{DeviceTree, TreeWriter};
use crate::id::CpuId;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const UART: u64 = 0x900_0000;
const GIC: u32 = 0x8005;
const CLOCK: u32 = 0x8000;

/// A machine like QEMU's virt.
#[derive(Clone, Debug)]
pub(crate) struct Virt {
    /// 2 or 3.
    pub(crate) gic: u32,
    pub(crate) cpus: u32,
    /// RAM from [`RAM`] on.
    pub(crate) ram: u64,
    /// How many virtio-mmio slots.
    pub(crate) slots: u64,
    /// The size of the GICC and GICV regions.
    pub(crate) interface: u64,
    /// More RAM, as (start, size).
    pub(crate) more_ram: Vec<(u64, u64)>,
}

impl Default for Virt {
    fn default() -> Self {
        Self { gic: 3, cpus: 4, ram: GIB, slots: 32, interface: 0x1_0000, more_ram: Vec::new() }
    }
}

impl Virt {
    pub(crate) fn v2() -> Self {
        Self { gic: 2, ..Self::default() }
    }

    pub(crate) fn tree(&self) -> DeviceTree {
        self.tree_with(|_| {})
    }

    /// Returns the tree with more nodes below the root.
    pub(crate) fn tree_with(&self, more: impl FnOnce(&mut TreeWriter)) -> DeviceTree {
        let mut w = TreeWriter::new();
        w.begin_node("");
        w.property_u32("interrupt-parent", GIC);
        w.property_str("model", "linux,dummy-virt");
        w.property_str("compatible", "linux,dummy-virt");
        w.property_u32("#address-cells", 2);
        w.property_u32("#size-cells", 2);
        w.property_empty("dma-coherent");
        w.begin_node("psci");
        w.property_str("method", "smc");
        w.property_strings("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
        w.end_node();
        for (start, size) in core::iter::once((RAM, self.ram)).chain(self.more_ram.iter().copied()) {
            w.begin_node(&format!("memory@{start:x}"));
            w.property_str("device_type", "memory");
            reg(&mut w, &[(start, size)]);
            w.end_node();
        }
        self.cpu_nodes(&mut w);
        self.gic_node(&mut w);
        w.begin_node("timer");
        w.property_strings("compatible", &["arm,armv8-timer", "arm,armv7-timer"]);
        w.property_cells("interrupts", &[1, 13, 0xf04, 1, 14, 0xf04, 1, 11, 0xf04, 1, 10, 0xf04]);
        w.property_empty("always-on");
        w.end_node();
        w.begin_node("apb-pclk");
        w.property_u32("phandle", CLOCK);
        w.property_str("compatible", "fixed-clock");
        w.property_u32("#clock-cells", 0);
        w.property_u32("clock-frequency", 24_000_000);
        w.end_node();
        for (name, address, spi) in [("pl011", UART, 1), ("pl031", 0x901_0000, 2), ("pl061", 0x903_0000, 7)] {
            w.begin_node(&format!("{name}@{address:x}"));
            w.property_strings("compatible", &[&format!("arm,{name}"), "arm,primecell"]);
            reg(&mut w, &[(address, 0x1000)]);
            w.property_cells("interrupts", &[0, spi, 4]);
            let clocks = if name == "pl011" { &[CLOCK; 2][..] } else { &[CLOCK] };
            w.property_cells("clocks", clocks);
            w.end_node();
        }
        w.begin_node("pmu");
        w.property_str("compatible", "arm,armv8-pmuv3");
        w.property_cells("interrupts", &[1, 7, 0xf04]);
        w.end_node();
        for slot in 0..self.slots {
            w.begin_node(&format!("virtio_mmio@{:x}", 0xa00_0000 + slot * 0x200));
            w.property_str("compatible", "virtio,mmio");
            reg(&mut w, &[(0xa00_0000 + slot * 0x200, 0x200)]);
            w.property_cells("interrupts", &[0, 16 + u32::try_from(slot).unwrap(), 1]);
            w.property_empty("dma-coherent");
            w.end_node();
        }
        more(&mut w);
        w.begin_node("aliases");
        w.property_str("serial0", "/pl011@9000000");
        w.property_str("rtc", "/pl031@9010000");
        w.end_node();
        w.begin_node("chosen");
        w.property_str("stdout-path", "/pl011@9000000");
        w.end_node();
        w.end_node();
        DeviceTree::parse(&w.finish().unwrap()).unwrap()
    }

    fn cpu_nodes(&self, w: &mut TreeWriter) {
        w.begin_node("cpus");
        w.property_u32("#address-cells", 1);
        w.property_u32("#size-cells", 0);
        for cpu in 0..self.cpus {
            w.begin_node(&format!("cpu@{cpu:x}"));
            w.property_str("device_type", "cpu");
            w.property_str("compatible", "arm,cortex-a72");
            w.property_u32("reg", cpu);
            w.property_str("enable-method", "psci");
            w.end_node();
        }
        w.end_node();
    }

    fn gic_node(&self, w: &mut TreeWriter) {
        w.begin_node("intc@8000000");
        w.property_u32("phandle", GIC);
        w.property_cells("interrupts", &[1, 9, 4]);
        w.property_empty("interrupt-controller");
        w.property_u32("#interrupt-cells", 3);
        w.property_u32("#address-cells", 2);
        w.property_u32("#size-cells", 2);
        w.property_empty("ranges");
        if self.gic == 2 {
            w.property_str("compatible", "arm,cortex-a15-gic");
            let size = self.interface;
            reg(w, &[(0x800_0000, 0x1_0000), (0x801_0000, size), (0x804_0000, 0x1_0000), (0x806_0000, size)]);
            w.begin_node("v2m@8030000");
            w.property_str("compatible", "arm,gic-v2m-frame");
            reg(w, &[(0x803_0000, 0x1000)]);
        } else {
            w.property_str("compatible", "arm,gic-v3");
            reg(w, &[(0x800_0000, 0x1_0000), (0x80a_0000, 0xf6_0000)]);
            w.begin_node("its@8080000");
            w.property_str("compatible", "arm,gic-v3-its");
            reg(w, &[(0x808_0000, 0x2_0000)]);
        }
        w.end_node();
        w.end_node();
    }
}

/// Writes `reg` with two cells for each number.
pub(crate) fn reg(w: &mut TreeWriter, ranges: &[(u64, u64)]) {
    let bytes: Vec<u8> =
        ranges.iter().flat_map(|(start, size)| [start.to_be_bytes(), size.to_be_bytes()]).flatten().collect();
    w.property("reg", &bytes);
}

pub(crate) fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

/// The hypervisor behind the start of RAM, the bundle at 128 MiB.
pub(crate) fn placement() -> Placement {
    Placement {
        hypervisor: range(RAM + 2 * MIB, 6 * MIB),
        bundle: range(RAM + 128 * MIB, 48 * MIB),
        files_end: Pa::new(RAM + 176 * MIB - 4096),
    }
}

pub(crate) fn file(offset: u64, size: u64) -> FileRange {
    FileRange { offset, size }
}

/// An arm64 image of a size.
pub(crate) fn image(size: u64) -> Kernel {
    Kernel::Image { file: file(4096, size), text_offset: 0, image_size: size + 65536 }
}

pub(crate) fn memory(size: u64) -> Memory {
    Memory { size, ipa: None, pa: None }
}

pub(crate) fn device(node: &str) -> Device {
    Device { node: node.to_string(), unsafe_dma: false }
}

pub(crate) fn master(node: &str) -> Device {
    Device { node: node.to_string(), unsafe_dma: true }
}

/// A partition with an image of 1 MiB.
pub(crate) fn partition(name: &str, cpus: &[u8], size: u64) -> Partition {
    Partition {
        name: name.to_string(),
        cpus: cpus.iter().map(|cpu| CpuId::new(*cpu)).collect(),
        memory: Vec::from([memory(size)]),
        kernel: image(MIB),
        initrd: None,
        device_tree: DeviceTreeAt::Auto,
        cmdline: String::from("console=ttyAMA0"),
        console: Console::Virtual { ipa: None },
        devices: Vec::new(),
        delivery: Delivery::Virtual,
        on_fault: FaultPolicy::Stop,
        autostart: true,
        boot: BootOrder::Any,
        restart: Restart::Allowed,
    }
}

/// A partition whose interrupts arrive directly.
pub(crate) fn direct(name: &str, cpus: &[u8], size: u64) -> Partition {
    Partition { delivery: Delivery::Direct, ..partition(name, cpus, size) }
}

pub(crate) fn manifest(partitions: Vec<Partition>) -> Manifest {
    Manifest {
        platform: String::from("qemu-virt"),
        hypervisor: Hypervisor {
            uart: None,
            cpu: None,
            log: LogLevel::Info,
            on_panic: OnPanic::Halt,
            when_all_off: WhenAllOff::Stay,
        },
        partitions,
    }
}
