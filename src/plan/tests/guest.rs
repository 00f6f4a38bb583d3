// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's device tree, read back.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::devicetree::{Node, Property, TreeWriter, gic_interrupt};
use crate::id::VcpuId;

fn guest(plan: &Plan) -> DeviceTree {
    DeviceTree::parse(&plan.partitions[0].device_tree.as_ref().unwrap().blob).unwrap()
}

fn guest_of(tree: &DeviceTree, partition: Partition) -> DeviceTree {
    let (_, outcome) = plan(tree, &manifest(vec![partition]));
    let errors: Vec<String> = outcome.all_errors().map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    guest(&outcome.plan)
}

fn node<'a>(tree: &'a DeviceTree, path: &str) -> Node<'a> {
    tree.node(path).unwrap_or_else(|| panic!("{path} is not in {:?}", tree.nodes().map(Node::path).collect::<Vec<_>>()))
}

fn ranges(node: Node<'_>) -> Vec<(u64, u64)> {
    node.reg().unwrap().iter().map(|entry| (entry.address.get(), entry.size)).collect()
}

#[test]
fn guest_finds_the_board_it_was_built_for() {
    let mut linux = partition("linux", &[3, 1], 64 * MIB);
    linux.initrd = Some(file(MIB, 4 * MIB));
    for virt in [Virt::default(), Virt::v2()] {
        let plan = all_fit(&virt, vec![linux.clone()]);
        let tree = guest(&plan);
        assert_eq!(tree.memory(), vec![range(RAM, 64 * MIB)]);
        assert_eq!(tree.root().property("model").unwrap().as_str(), Some("linux,dummy-virt"));
        let cpus: Vec<u64> =
            node(&tree, "/cpus").children().map(|cpu| cpu.property("reg").unwrap().as_u64().unwrap()).collect();
        assert_eq!(cpus, vec![0, 1]);
        assert_eq!(node(&tree, "/psci").property("method").unwrap().as_str(), Some("hvc"));
        let (uart, _) = tree.stdout().unwrap();
        assert_eq!(ranges(uart), vec![(UART, 0x1000)]);
        assert_eq!(tree.find("serial0").unwrap(), uart);
        let interrupt = uart.interrupts().unwrap()[0];
        assert_eq!(interrupt.controller.path(), "/interrupt-controller@8000000");
        assert_eq!(gic_interrupt(interrupt.cells()).unwrap().0, Intid::new(33));
        let initrd = plan.partitions[0].load.iter().find(|load| load.what == "initrd").unwrap();
        assert_eq!(tree.initrd().unwrap().start().get(), initrd.range.start().get());
        assert_eq!(tree.initrd().unwrap().size(), 4 * MIB);
        let timer: Vec<u32> = node(&tree, "/timer")
            .interrupts()
            .unwrap()
            .iter()
            .map(|line| gic_interrupt(line.cells()).unwrap().0.get())
            .collect();
        assert_eq!(timer, vec![29, 30, 27, 26]);
    }
}

#[test]
fn gic_has_what_the_partition_has_and_no_more() {
    let three = partition("a", &[0, 1, 2], 64 * MIB);
    let tree = guest(&all_fit(&Virt::default(), vec![three.clone()]));
    let gic = node(&tree, "/interrupt-controller@8000000");
    assert_eq!(ranges(gic), vec![(0x800_0000, 0x1_0000), (0x80a_0000, 3 * 0x2_0000)]);
    assert_eq!(gic.children().count(), 0);
    let tree = guest(&all_fit(&Virt { interface: 0x2_0000, ..Virt::v2() }, vec![three]));
    let gic = node(&tree, "/interrupt-controller@8000000");
    assert_eq!(ranges(gic), vec![(0x800_0000, 0x1_0000), (0x801_0000, 0x2000)]);
    // A GICv2's PPIs name the CPUs that have them.
    let cells: Vec<u32> = node(&tree, "/timer").property("interrupts").unwrap().cells().collect();
    assert_eq!(cells[2], 0x704);
}

#[test]
fn many_vcpus_have_the_affinities_that_the_hypervisor_shows() {
    let virt = Virt { cpus: 20, ..Virt::default() };
    let tree = guest(&all_fit(&virt, vec![partition("a", &(0..20).collect::<Vec<u8>>(), 64 * MIB)]));
    for (vcpu, cpu) in (0..).zip(node(&tree, "/cpus").children()) {
        let affinity = crate::id::Mpidr::of_vcpu(VcpuId::new(vcpu)).get();
        assert_eq!(cpu.property("reg").unwrap().as_u64(), Some(affinity));
    }
}

#[test]
fn device_comes_with_its_fixed_clock_and_its_alias() {
    let mut linux = partition("a", &[0], 64 * MIB);
    linux.devices = vec![device("rtc"), master("/virtio_mmio@a000200")];
    let tree = guest(&all_fit(&Virt::default(), vec![linux]));
    let rtc = tree.find("rtc").unwrap();
    assert_eq!(ranges(rtc), vec![(0x901_0000, 0x1000)]);
    let clock = tree.by_phandle(rtc.property("clocks").unwrap().as_u32().unwrap()).unwrap();
    assert!(clock.is_compatible("fixed-clock"));
    assert!(rtc.property("dma-coherent").is_some(), "the board's root says so of all");
    assert_eq!(ranges(node(&tree, "/virtio_mmio@a000200")), vec![(0xa00_0200, 0x200)]);
    // What merely shares the page is not there.
    assert!(tree.node("/virtio_mmio@a000000").is_none());
}

fn begin(w: &mut TreeWriter, name: &str, compatible: &str) {
    w.begin_node(name);
    w.property_str("compatible", compatible);
}

/// A bus that moves addresses, with a device, and one behind a clock controller.
fn soc(w: &mut TreeWriter) {
    begin(w, "soc", "simple-bus");
    w.property_u32("#address-cells", 1);
    w.property_u32("#size-cells", 1);
    w.property_cells("ranges", &[0x7e00_0000, 0, 0x1000_0000, 0x100_0000]);
    begin(w, "clocks@7e000000", "acme,clocks");
    w.property_u32("phandle", 0x100);
    w.property_u32("#clock-cells", 1);
    w.property_cells("reg", &[0x7e00_0000, 0x1000]);
    w.end_node();
    begin(w, "i2c@7e001000", "acme,i2c");
    w.property_cells("reg", &[0x7e00_1000, 0x1000]);
    w.property_cells("interrupts", &[0, 100, 4]);
    w.property_cells("clocks", &[0x101, 0x100, 7]);
    w.property_cells("pinctrl-0", &[0x999]);
    w.property_str("pinctrl-names", "default");
    w.property_u32("#address-cells", 1);
    w.property_u32("#size-cells", 0);
    begin(w, "sensor@48", "acme,sensor");
    w.property_cells("reg", &[0x48]);
    w.property_cells("vdd-supply", &[0x102]);
    w.end_node();
    w.end_node();
    begin(w, "wrapper", "acme,wrapper");
    w.property_u32("#address-cells", 1);
    w.property_u32("#size-cells", 1);
    w.property_empty("ranges");
    begin(w, "core@7e005000", "acme,core");
    w.property_cells("reg", &[0x7e00_5000, 0x1000]);
    w.property_cells("interrupts", &[0, 101, 4]);
    w.end_node();
    w.end_node();
    w.end_node();
    begin(w, "osc", "fixed-clock");
    w.property_u32("phandle", 0x101);
    w.property_u32("#clock-cells", 0);
    w.end_node();
    begin(w, "vdd", "regulator-fixed");
    w.property_u32("phandle", 0x102);
    w.property_cells("vin-supply", &[0x103]);
    w.end_node();
    begin(w, "vin", "regulator-fixed");
    w.property_u32("phandle", 0x103);
    w.end_node();
}

#[test]
fn device_that_lacks_a_supplier_is_refused_by_name() {
    let tree = Virt::default().tree_with(soc);
    let mut only = partition("a", &[0], 64 * MIB);
    only.devices = vec![device("/soc/i2c@7e001000")];
    let (_, outcome) = plan(&tree, &manifest(vec![only]));
    let errors: Vec<String> = outcome.all_errors().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("/soc/i2c@7e001000 needs /soc/clocks@7e000000 (`clocks`)"), "{}", errors[0]);
    assert_eq!(outcome.refused[0].errors[0].at.key, Key::Device(0));
}

#[test]
fn device_on_a_bus_stands_where_the_cpus_see_it() {
    let tree = Virt::default().tree_with(soc);
    let mut only = partition("a", &[0], 64 * MIB);
    only.devices = vec![device("/soc/i2c@7e001000"), device("/soc/clocks@7e000000"), device("/soc/wrapper")];
    let guest = guest_of(&tree, only);
    let i2c = node(&guest, "/i2c@10001000");
    assert_eq!(ranges(i2c), vec![(0x1000_1000, 0x1000)]);
    assert!(i2c.property("pinctrl-0").is_none() && i2c.property("pinctrl-names").is_none());
    assert_eq!(i2c.property("clocks").unwrap().cells().collect::<Vec<_>>(), vec![0x101, 0x100, 7]);
    assert_eq!(guest.by_phandle(0x101).unwrap().path(), "/osc");
    assert_eq!(guest.by_phandle(0x100).unwrap().path(), "/clocks@10000000");
    let sensor = node(&guest, "/i2c@10001000/sensor@48");
    assert_eq!(sensor.property("reg").unwrap().as_u32(), Some(0x48));
    assert!(guest.by_phandle(0x103).unwrap().is_compatible("regulator-fixed"));
    let core = node(&guest, "/wrapper/core@10005000");
    assert_eq!(ranges(core), vec![(0x1000_5000, 0x1000)]);
    assert_eq!(gic_interrupt(core.interrupts().unwrap()[0].cells()).unwrap().0, Intid::new(133));
}

#[test]
fn bus_that_moves_dma_addresses_comes_along() {
    let on_bus = |twice: bool| {
        Virt::default().tree_with(move |w| {
            if twice {
                begin(w, "outer", "simple-bus");
                w.property_u32("#address-cells", 1);
                w.property_u32("#size-cells", 1);
                w.property_cells("ranges", &[0, 0, 0, 0x4000_0000]);
                w.property_cells("dma-ranges", &[0, 0, 0x4000_0000, 0x4000_0000]);
            }
            begin(w, "soc", "simple-bus");
            w.property_u32("#address-cells", 1);
            w.property_u32("#size-cells", 1);
            w.property_empty("ranges");
            let above: &[u32] = if twice { &[0] } else { &[0, 0] };
            w.property_cells("dma-ranges", &[&[0xc000_0000], above, &[0x4000_0000]].concat());
            begin(w, "dma@b000000", "acme,dma");
            w.property_cells("reg", &[0xb00_0000, 0x1000]);
            w.end_node();
            w.end_node();
            if twice {
                w.end_node();
            }
        })
    };
    let mut only = partition("a", &[0], 64 * MIB);
    only.devices = vec![master("/soc/dma@b000000")];
    let guest = guest_of(&on_bus(false), only.clone());
    let bus = node(&guest, "/dma-bus");
    let cells: Vec<u32> = bus.property("dma-ranges").map(Property::cells).unwrap().collect();
    assert_eq!(cells, vec![0, 0xc000_0000, 0, 0, 0, 0x4000_0000]);
    assert_eq!(ranges(node(&guest, "/dma-bus/dma@b000000")), vec![(0xb00_0000, 0x1000)]);
    only.devices = vec![master("/outer/soc/dma@b000000")];
    let (_, outcome) = plan(&on_bus(true), &manifest(vec![only]));
    assert!(matches!(outcome.refused[0].errors[0].problem, Problem::DmaRanges { .. }));
}

#[test]
fn size_of_the_tree_depends_on_no_address() {
    let tree = Virt::default().tree();
    let (board, outcome) = plan(&tree, &manifest(vec![partition("a", &[0], 64 * MIB)]));
    let partition = &outcome.plan.partitions[0];
    let sizes = [(0, 1), (u64::MAX - 1, 1), (RAM, 64 * MIB)].map(|(start, size)| {
        let initrd = crate::addr::IpaRange::new(crate::addr::Ipa::new(start), size);
        guest_tree(&tree, &board, partition, "quiet", initrd).unwrap().len()
    });
    assert!(sizes.iter().all(|size| *size == sizes[0]));
}

#[test]
fn command_line_ends_at_its_first_nul() {
    let mut odd = partition("a", &[0], 64 * MIB);
    odd.cmdline = "quiet\0init=/bin/sh".to_string();
    let tree = guest(&all_fit(&Virt::default(), vec![odd]));
    assert_eq!(node(&tree, "/chosen").property("bootargs").unwrap().as_str(), Some("quiet"));
}
