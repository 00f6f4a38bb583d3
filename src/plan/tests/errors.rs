// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each mistake, what is said of it, and where.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::addr::{Ipa, Pa};
use crate::config::{Console, DeviceTreeAt, Kernel, Memory, Segment};

/// Plans a configuration, and expects exactly these errors, each named by a part of its message.
fn expect(virt: &Virt, partitions: Vec<Partition>, expected: &[(Key, &str)]) {
    expect_on(&virt.tree(), partitions, expected);
}

fn expect_on(tree: &DeviceTree, partitions: Vec<Partition>, expected: &[(Key, &str)]) {
    let (_, outcome) = plan(tree, &manifest(partitions));
    let found: Vec<(Key, String)> = outcome.all_errors().map(|error| (error.at.key, error.to_string())).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (key, part) in expected {
        assert!(found.iter().any(|(at, text)| at == key && text.contains(part)), "{key:?} {part}: {found:#?}");
    }
}

fn one(change: impl FnOnce(&mut Partition)) -> Vec<Partition> {
    let mut only = partition("a", &[0], 64 * MIB);
    change(&mut only);
    vec![only]
}

fn two(change: impl FnOnce(&mut Partition, &mut Partition)) -> Vec<Partition> {
    let (mut first, mut second) = (partition("a", &[0], 64 * MIB), partition("b", &[1], 64 * MIB));
    change(&mut first, &mut second);
    vec![first, second]
}

#[test]
fn cpus_have_one_owner_that_exists() {
    let virt = Virt::default();
    expect(
        &virt,
        two(|_, b| b.cpus = vec![CpuId::new(0)]),
        &[(Key::Cpu(0), "CPU 0 is given to partition `a` and to partition `b`")],
    );
    expect(&virt, one(|a| a.cpus = vec![CpuId::new(1); 2]), &[(Key::Cpu(1), "CPU 1 is given to partition `a` twice")]);
    expect(
        &virt,
        one(|a| a.cpus = vec![CpuId::new(4)]),
        &[(Key::Cpu(0), "wants CPU 4, which the board does not have: it has CPUs 0 to 3")],
    );
    expect(&virt, one(|a| a.cpus.clear()), &[(Key::Table, "has no CPU")]);
}

#[test]
fn both_parties_of_a_conflict_are_refused_and_it_is_said_once() {
    let partitions = two(|_, b| b.cpus = vec![CpuId::new(0)]);
    let (_, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
    assert_eq!(outcome.refused.len(), 2);
    assert_eq!(outcome.refused[1].errors[0].other, Some(outcome.refused[0].errors[0].at));
    assert_eq!(outcome.all_errors().count(), 1);
}

#[test]
fn gicv2_serves_eight_cpus_and_gicv3_more() {
    let cpus = |count: u8| move |a: &mut Partition| a.cpus = (0..count).map(CpuId::new).collect();
    let v2 = Virt { cpus: 40, ..Virt::v2() };
    let v3 = Virt { cpus: 40, ..Virt::default() };
    expect(&v2, one(cpus(8)), &[]);
    expect(&v2, one(cpus(9)), &[(Key::Cpu(8), "has 9 CPUs, but a GICv2 serves at most 8")]);
    expect(&v3, one(cpus(32)), &[]);
    expect(&v3, one(cpus(33)), &[(Key::Cpu(32), "at most 32")]);
}

#[test]
fn disabled_cpu_is_nobodys() {
    let tree = Virt { cpus: 1, ..Virt::default() }.tree();
    let mut board = Board::read(&tree, None).unwrap();
    board.cpus[0].enabled = false;
    let outcome = build(&manifest(one(|_| {})), &board, &tree, &placement());
    assert!(matches!(outcome.refused[0].errors[0].problem, Problem::CpuDisabled { .. }));
}

#[test]
fn partitions_have_names_of_their_own() {
    expect(&Virt::default(), two(|_, b| b.name = "a".to_string()), &[(Key::Table, "two partitions are named `a`")]);
}

#[test]
fn sixty_four_partitions_are_enough_for_everybody() {
    let many = |count: u8| {
        let virt = Virt { cpus: 64, ..Virt::default() };
        let partitions = (0..count).map(|cpu| {
            let mut small = partition(&std::format!("p{cpu}"), &[cpu], 2 * MIB);
            small.kernel = image(4096);
            small
        });
        let tree = virt.tree();
        let board = Board::read(&tree, None).unwrap();
        build(&manifest(partitions.collect()), &board, &tree, &placement())
    };
    assert_eq!(many(64).all_errors().count(), 0);
    assert!(matches!(many(65).errors[0].problem, Problem::TooManyPartitions { count: 65 }));
}

#[test]
fn too_little_ram_is_told_in_figures_and_the_others_run() {
    let partitions = two(|a, _| a.memory[0].size = GIB);
    let (_, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
    let text = outcome.refused[0].errors[0].to_string();
    assert_eq!(
        text,
        "partition `a` needs 1 GiB of RAM in one piece, but none is left: the board has 1 GiB, the hypervisor and reserved \
         memory keep 54 MiB of it, 970 MiB are free, the largest free block has 848 MiB; ask for less, or split it into pieces"
    );
    assert_eq!(outcome.plan.partitions[0].name, "b");
}

#[test]
fn memory_that_is_refused_to_one_serves_another() {
    // The larger one is placed first, and cannot be laid out.
    let partitions = two(|a, b| {
        a.memory[0].size = 800 * MIB;
        a.kernel = image(900 * MIB);
        b.memory[0].size = 700 * MIB;
    });
    let (_, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
    assert_eq!(outcome.refused.len(), 1);
    assert_eq!(outcome.plan.partitions[0].name, "b");
}

fn at(size: u64, ipa: Option<u64>, pa: Option<u64>) -> Vec<Memory> {
    vec![Memory { size, ipa: ipa.map(Ipa::new), pa: pa.map(Pa::new) }]
}

#[test]
fn stated_memory_is_free_ram() {
    let virt = Virt::default();
    let expect_at = |ipa, pa, expected: &[(Key, &str)]| {
        expect(&virt, one(|a| a.memory = at(16 * MIB, ipa, pa)), expected);
    };
    let key = Key::Memory(0);
    expect_at(None, Some(RAM + 16 * MIB), &[]);
    expect_at(None, Some(RAM + 8 * MIB), &[]);
    expect_at(None, Some(RAM + 6 * MIB), &[(key, "overlaps 0x40200000..0x40800000, which belongs to the hypervisor")]);
    expect_at(None, Some(RAM + 126 * MIB), &[(key, "which belongs to the bundle")]);
    expect_at(None, Some(RAM + GIB - 16 * MIB), &[]);
    expect_at(None, Some(RAM + GIB - 14 * MIB), &[(key, "is not all RAM")]);
    expect_at(
        None,
        Some(RAM + 16 * MIB + 1),
        &[(key, "pa 0x41000001 is not a multiple of 4 KiB; use 0x41000000 or 0x41001000")],
    );
    expect_at(Some(RAM), Some(RAM + 16 * MIB + 4096), &[(key, "differ within a 2 MiB block")]);
    expect_at(Some(RAM + 4096), Some(RAM + 16 * MIB + 4096), &[]);
    expect_at(Some(1 << 47), None, &[]);
    expect_at(Some((1 << 48) - 16 * MIB), None, &[]);
    expect_at(Some((1 << 48) - 14 * MIB), None, &[(key, "guest addresses end at")]);
    expect_at(Some(u64::MAX - 4095), None, &[(key, "guest addresses end at")]);
    expect_at(Some(0), None, &[]);
}

#[test]
fn stated_memory_has_one_owner() {
    let at = |start: u64| at(16 * MIB, None, Some(start));
    let virt = Virt::default();
    let (low, high) = (RAM + 16 * MIB, RAM + 32 * MIB);
    expect(&virt, two(|a, b| (a.memory, b.memory) = (at(low), at(high))), &[]);
    let expected = [(Key::Memory(0), "which belongs to partition `b`")];
    expect(&virt, two(|a, b| (a.memory, b.memory) = (at(low), at(high - 2 * MIB))), &expected);
    let twice = one(|a| a.memory = [at(low), at(low)].concat());
    expect(&virt, twice, &[(Key::Memory(1), "another piece of it")]);
}

#[test]
fn memory_is_whole_pages_and_not_nothing() {
    let virt = Virt::default();
    expect(
        &virt,
        one(|a| a.memory[0].size = 16 * MIB + 1),
        &[(Key::Memory(0), "size 0x1000001 is not a multiple of 4 KiB")],
    );
    expect(&virt, one(|a| a.memory[0].size = 0), &[(Key::Memory(0), "has no memory")]);
    expect(&virt, one(|a| a.memory.clear()), &[(Key::Table, "has no memory")]);
}

#[test]
fn guest_addresses_mean_one_thing() {
    let virt = Virt::default();
    let memory_at = |ipa: u64| one(|a| a.memory = at(16 * MIB, Some(ipa), None));
    expect(&virt, memory_at(0x800_0000 - 16 * MIB), &[]);
    expect(&virt, memory_at(0x800_0000 - 16 * MIB + 4096), &[(Key::Memory(0), "its interrupt distributor")]);
    expect(
        &virt,
        memory_at(UART - 16 * MIB),
        &[(Key::Memory(0), "its interrupt distributor"), (Key::Memory(0), "its interrupt redistributors")],
    );
    expect(&virt, memory_at(UART), &[(Key::Memory(0), "its console")]);
    let console = |ipa: u64| one(|a| a.console = Console::Virtual { ipa: Some(Ipa::new(ipa)) });
    expect(&virt, console(RAM + 64 * MIB), &[]);
    expect(&virt, console(RAM + 64 * MIB - 4096), &[(Key::Console, "its console at")]);
    expect(&virt, console(0x1_0001), &[(Key::Console, "the console's ipa 0x10001 is not a multiple")]);
    expect(&virt, console(u64::MAX - 4095), &[(Key::Console, "guest addresses end at")]);
    let with_rtc = one(|a| {
        a.devices = vec![device("rtc")];
        a.console = Console::Virtual { ipa: Some(Ipa::new(0x901_0000)) };
    });
    expect(&virt, with_rtc, &[(Key::Device(0), "/pl031@9010000")]);
}

#[test]
fn device_has_one_owner_that_is_not_the_hypervisor() {
    let virt = Virt::default();
    let given = |node: &'static str| one(move |a| a.devices = vec![device(node)]);
    let key = Key::Device(0);
    expect(&virt, given("rtc"), &[]);
    expect(&virt, given("rtx"), &[(key, "`rtx` is not in the board's device tree; nearest: rtc")]);
    expect(&virt, given("serial0"), &[(key, "it is the hypervisor's console")]);
    expect(&virt, given("/intc@8000000"), &[(key, "it is the interrupt controller")]);
    expect(&virt, given("/intc@8000000/its@8080000"), &[(key, "it is the interrupt controller")]);
    expect(&virt, given("/timer"), &[(key, "it is the generic timer")]);
    expect(&virt, given("/cpus/cpu@1"), &[(key, "it is a part of the CPUs")]);
    expect(&virt, given("/memory@40000000"), &[(key, "it is memory")]);
    expect(&virt, given("/psci"), &[(key, "it is the firmware")]);
    expect(&virt, given("/"), &[(key, "it is no device")]);
    expect(&virt, given("/chosen"), &[(key, "it is no device")]);
    expect(&virt, given("/apb-pclk"), &[(key, "it has no registers")]);
    expect(&virt, given("/pmu"), &[(key, "it has no registers"), (key, "INTID 23 is private to each CPU")]);
    let twice = one(|a| a.devices = vec![device("rtc"), device("/pl031@9010000")]);
    expect(&virt, twice, &[(Key::Device(1), "given to partition `a` twice")]);
    let both = two(|a, b| (a.devices, b.devices) = (vec![device("rtc")], vec![device("rtc")]));
    expect(&virt, both, &[(key, "/pl031@9010000 is given to partition `a` and to partition `b`")]);
}

#[test]
fn bus_master_is_accepted_by_name() {
    let virt = Virt::default();
    let key = Key::Device(0);
    let slot = "/virtio_mmio@a000000";
    expect(&virt, one(|a| a.devices = vec![device(slot)]), &[(key, "unsafe-dma = true")]);
    expect(&virt, one(|a| a.devices = vec![master(slot)]), &[]);
    let moved = |ipa, pa| {
        one(|a| {
            a.devices = vec![master(slot)];
            a.memory = at(16 * MIB, ipa, pa);
        })
    };
    let (there, elsewhere) = (Some(RAM + 64 * MIB), Some(RAM + 80 * MIB));
    expect(&virt, moved(there, None), &[]);
    expect(&virt, moved(None, there), &[]);
    expect(&virt, moved(there, there), &[]);
    expect(&virt, moved(there, elsewhere), &[(Key::Memory(0), "has the bus master /virtio_mmio@a000000")]);
}

#[test]
fn page_of_devices_has_one_owner() {
    let virt = Virt::default();
    let slots = |first: &'static str, second: &'static str| {
        two(move |a, b| (a.devices, b.devices) = (vec![master(first)], vec![master(second)]))
    };
    expect(&virt, slots("/virtio_mmio@a000e00", "/virtio_mmio@a001000"), &[]);
    let expected =
        [(Key::Device(0), "/virtio_mmio@a000000 of partition `a` and /virtio_mmio@a000e00 of partition `b` share")];
    expect(&virt, slots("/virtio_mmio@a000000", "/virtio_mmio@a000e00"), &expected);
}

/// Adds a device.
fn node(w: &mut crate::devicetree::TreeWriter, name: &str, compatible: &str, range: (u64, u64), spi: u32) {
    w.begin_node(&std::format!("{name}@{:x}", range.0));
    w.property_str("compatible", compatible);
    reg(w, &[range]);
    w.property_cells("interrupts", &[0, spi, 4]);
    w.end_node();
}

#[test]
fn harmless_device_beside_a_bus_master_needs_the_word_too() {
    let tree = Virt::default().tree_with(|w| node(w, "gpio", "acme,gpio", (0xa00_0f00, 0x100), 90));
    let gpio = device("/gpio@a000f00");
    // Slot 7's registers end at 0xa000fff: the eight slots are in the page.
    let (_, outcome) = plan(&tree, &manifest(one(|a| a.devices = vec![gpio.clone()])));
    let errors: Vec<String> = outcome.all_errors().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 8, "{errors:#?}");
    assert!(errors[0].contains("shares the 4 KiB page(s) 0xa000000..0xa001000 with the bus master"));
    expect_on(&tree, one(|a| a.devices = vec![gpio, master("/virtio_mmio@a000000")]), &[]);
}

#[test]
fn page_with_a_device_of_the_hypervisor_is_nobodys() {
    let tree = Virt::default().tree_with(|w| node(w, "gpio", "acme,gpio", (UART + 0x800, 0x100), 90));
    // The board's console has the whole page, so its registers are in the way.
    expect_on(
        &tree,
        one(|a| a.devices = vec![device("/gpio@9000800")]),
        &[(Key::Device(0), "with /pl011@9000000, which is the hypervisor's")],
    );
}

#[test]
fn interrupt_has_one_owner_at_the_gic() {
    let tree = Virt::default().tree_with(|w| {
        node(w, "one", "acme,one", (0xb00_0000, 0x1000), 90);
        node(w, "two", "acme,two", (0xb00_1000, 0x1000), 90);
        node(w, "three", "acme,three", (0xb00_2000, 0x1000), 1);
        w.begin_node("four@b003000");
        reg(w, &[(0xb00_3000, 0x1000)]);
        w.property_u32("interrupt-parent", 0x7777);
        w.property_cells("interrupts", &[5]);
        w.end_node();
        w.begin_node("pins@b004000");
        w.property_u32("phandle", 0x7777);
        reg(w, &[(0xb00_4000, 0x1000)]);
        w.property_empty("interrupt-controller");
        w.property_u32("#interrupt-cells", 1);
        w.property_cells("interrupts", &[0, 91, 4]);
        w.end_node();
        w.begin_node("five@b005000");
        reg(w, &[(0xb00_5000, 0x1000)]);
        w.property_cells("interrupts", &[0, 92]);
        w.end_node();
        w.begin_node("six@b006000");
        w.property_str("status", "disabled");
        reg(w, &[(0xb00_6000, 0x1000)]);
        w.end_node();
    });
    let key = Key::Device(0);
    let shared = two(|a, b| (a.devices, b.devices) = (vec![device("/one@b000000")], vec![device("/two@b001000")]));
    expect_on(
        &tree,
        shared,
        &[(key, "INTID 122 is the interrupt of /one@b000000 of partition `a` and of /two@b001000")],
    );
    let given = |nodes: &[&str]| one(|a| a.devices = nodes.iter().map(|node| device(node)).collect());
    expect_on(&tree, given(&["/one@b000000", "/two@b001000"]), &[]);
    expect_on(&tree, given(&["/three@b002000"]), &[(key, "its INTID 33 is also that of the hypervisor's console")]);
    expect_on(&tree, given(&["/four@b003000"]), &[(key, "its interrupt goes to /pins@b004000, not to the GIC")]);
    expect_on(&tree, given(&["/four@b003000", "/pins@b004000"]), &[]);
    expect_on(
        &tree,
        given(&["/five@b005000"]),
        &[(key, "its `interrupts` in the board's device tree cannot be understood")],
    );
    expect_on(&tree, given(&["/six@b006000"]), &[(key, "/six@b006000 is disabled")]);
}

#[test]
fn device_whose_registers_are_memory_is_none() {
    let tree = Virt::default().tree_with(|w| {
        node(w, "inside", "acme,x", (RAM + 64 * MIB, 0x1000), 90);
        node(w, "last", "acme,x", (u64::MAX - 10, 5), 91);
    });
    expect_on(&tree, one(|a| a.devices = vec![device("/inside@44000000")]), &[(Key::Device(0), "lie in RAM")]);
    let (_, outcome) = plan(&tree, &manifest(one(|a| a.devices = vec![device("/last@fffffffffffffff5")])));
    assert_eq!(outcome.refused.len(), 1);
}

#[test]
fn kernel_fits_or_figures_say_why_not() {
    let virt = Virt::default();
    let sized = |kernel: Kernel| one(|a| a.kernel = kernel);
    let image = |text_offset, image_size| Kernel::Image { file: file(4096, MIB), text_offset, image_size };
    let key = Key::Kernel;
    expect(&virt, sized(image(0, 62 * MIB)), &[]);
    expect(&virt, sized(image(0, 64 * MIB)), &[(key, "no room for its device tree, which needs 1.3 KiB")]);
    expect(
        &virt,
        sized(image(0, 64 * MIB + 1)),
        &[(key, "no room for its kernel, which needs 64.0 MiB in one piece; memory 64 MiB")],
    );
    expect(&virt, sized(image(0x8_0000, 62 * MIB)), &[]);
    expect(&virt, sized(image(u64::MAX, 62 * MIB)), &[(key, "no room for its kernel")]);
    expect(&virt, sized(image(0, u64::MAX)), &[(key, "no room for its kernel")]);
    expect(
        &virt,
        sized(Kernel::Image { file: file(4096, 0), text_offset: 0, image_size: MIB }),
        &[(key, "its kernel is empty")],
    );
    let outside = Kernel::Image { file: file(48 * MIB - 4096, 8192), text_offset: 0, image_size: MIB };
    expect(&virt, sized(outside), &[(key, "is not in the bundle of 48 MiB")]);
}

#[test]
fn segments_and_entry_are_in_ram_and_apart() {
    let virt = Virt::default();
    let key = Key::Kernel;
    let segments = |places: &[(u64, u64)], entry: u64| {
        let segment = |&(ipa, memory_size): &(u64, u64)| Segment { ipa: Ipa::new(ipa), file: None, memory_size };
        let segments = places.iter().map(segment).collect();
        one(|a| a.kernel = Kernel::Segments { segments, entry: Ipa::new(entry) })
    };
    expect(&virt, segments(&[(RAM, 4096), (RAM + 4096, 4096)], RAM), &[]);
    expect(
        &virt,
        segments(&[(RAM, 4097), (RAM + 4096, 4096)], RAM),
        &[(key, "kernel segment 0 at 0x40000000..0x40001001 and kernel segment 1")],
    );
    expect(
        &virt,
        segments(&[(RAM - 1, 4096)], RAM),
        &[(key, "kernel at 0x3fffffff..0x40000fff is not in its memory 0x40000000..0x44000000")],
    );
    expect(&virt, segments(&[(u64::MAX, 4096)], RAM), &[(key, "kernel at 0xffffffffffffffff is not in its memory")]);
    expect(&virt, segments(&[(RAM, 4096)], RAM + 64 * MIB), &[(key, "its entry 0x44000000 is not in its memory")]);
    expect(&virt, segments(&[(RAM, 4096)], RAM + 2), &[(key, "its entry 0x40000002 is not a multiple of 4 bytes")]);
    expect(&virt, segments(&[], RAM), &[(key, "its kernel is empty")]);
}

#[test]
fn device_tree_goes_where_it_was_asked_to() {
    let virt = Virt::default();
    let tree_at = |ipa: u64| one(|a| a.device_tree = DeviceTreeAt::At(Ipa::new(ipa)));
    expect(&virt, tree_at(RAM + 32 * MIB), &[]);
    expect(&virt, tree_at(RAM + 32 * MIB + 4), &[(Key::DeviceTree, "is not a multiple of 8 bytes")]);
    expect(&virt, tree_at(RAM + 8), &[(Key::DeviceTree, "would overwrite the kernel")]);
    expect(&virt, tree_at(RAM + 64 * MIB - 8), &[(Key::DeviceTree, "is not in its memory")]);
    expect(&virt, tree_at(u64::MAX - 7), &[(Key::DeviceTree, "is not in its memory")]);
    let none = all_fit(&virt, one(|a| a.device_tree = DeviceTreeAt::None));
    assert!(none.partitions[0].device_tree.is_none());
}

#[test]
fn initrd_fits_or_figures_say_why_not() {
    let virt = Virt::default();
    let initrd = |size: u64| one(|a| a.initrd = Some(file(MIB, size)));
    expect(&virt, initrd(47 * MIB), &[]);
    expect(&virt, initrd(0), &[(Key::Initrd, "its initrd is empty")]);
    expect(&virt, initrd(48 * MIB), &[(Key::Initrd, "is not in the bundle")]);
    expect(&virt, initrd(u64::MAX), &[(Key::Initrd, "is not in the bundle"), (Key::Initrd, "no room for its initrd")]);
}

#[test]
fn console_without_a_board_console_needs_an_address() {
    let tree = Virt::default().tree();
    let mut board = Board::read(&tree, None).unwrap();
    board.console = None;
    let refused = |console| {
        let outcome = build(&manifest(one(|a| a.console = console)), &board, &tree, &placement());
        outcome.all_errors().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(refused(Console::Virtual { ipa: None })[0].contains("names no console UART"));
    assert!(refused(Console::Virtual { ipa: Some(Ipa::new(UART)) }).is_empty());
    assert!(refused(Console::None).is_empty());
}

#[test]
fn all_errors_of_a_partition_are_found_at_once() {
    let partitions = two(|a, b| {
        a.cpus = vec![CpuId::new(7)];
        a.devices = vec![device("nonsense"), device("rtc"), device("serial0")];
        a.kernel = image(80 * MIB);
        b.devices = vec![device("rtc")];
    });
    expect(
        &Virt::default(),
        partitions,
        &[
            (Key::Cpu(0), "wants CPU 7"),
            (Key::Device(0), "`nonsense` is not"),
            (Key::Device(1), "is given to partition `a` and to partition `b`"),
            (Key::Device(2), "hypervisor's console"),
            (Key::Kernel, "no room for its kernel"),
            (Key::Kernel, "is not in the bundle"),
        ],
    );
}
