// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the readers say of a board.

use alloc::string::{String, ToString};

use super::*;
use crate::addr::Pa;
use crate::id::{Intid, Trigger};

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

fn board_tree() -> DeviceTree {
    DeviceTree::parse(&board()).unwrap()
}

fn reg(tree: &DeviceTree, path: &str) -> Result<Vec<(u64, u64)>, ReadError> {
    let entries = tree.node(path).unwrap().reg()?;
    Ok(entries.iter().map(|entry| (entry.address.get(), entry.size)).collect())
}

fn interrupts(tree: &DeviceTree, path: &str) -> Result<Vec<(String, Vec<u32>)>, ReadError> {
    let found = tree.node(path).unwrap().interrupts()?;
    Ok(found.iter().map(|interrupt| (interrupt.controller.path(), interrupt.cells().to_vec())).collect())
}

#[test]
fn nodes_come_parents_first_and_know_their_place() {
    let tree = board_tree();
    assert_eq!(tree.nodes().next(), Some(tree.root()));
    assert_eq!(tree.root().path(), "/");
    assert_eq!(tree.root().parent(), None);
    for node in tree.nodes() {
        assert_eq!(tree.node(&node.path()), Some(node));
        assert!(node.children().all(|child| child.parent() == Some(node)));
        assert_eq!(node.subtree().count(), 1 + node.children().map(|child| child.subtree().count()).sum::<usize>());
    }
    let names: Vec<_> = tree.node("/cpus").unwrap().children().map(Node::name).collect();
    assert_eq!(names, ["cpu@0", "cpu@100"]);
}

#[test]
fn unit_address_may_be_left_out_only_where_the_name_is_unique() {
    let tree = board_tree();
    assert_eq!(tree.node("/pcie/ethernet").unwrap().path(), "/pcie@3f000000/ethernet@1,0");
    assert_eq!(tree.node("/soc/serial"), None);
    for path in ["", "soc", "//", "/soc/", "/soc/serial@1", "/soc/serial@"] {
        assert_eq!(tree.node(path), None, "{path}");
    }
}

#[test]
fn find_takes_path_alias_and_label() {
    let tree = board_tree();
    let serial = tree.node("/soc/serial@1000").unwrap();
    for reference in ["/soc/serial@1000", "serial0", "uart_a"] {
        assert_eq!(tree.find(reference), Ok(serial));
    }
    assert_eq!(serial.labels().collect::<Vec<_>>(), ["uart_a", "debug_uart"]);
    assert_eq!(tree.root().labels().count(), 0);
}

#[test]
fn find_of_what_does_not_exist_names_what_comes_near() {
    let tree = board_tree();
    let nearest = |reference: &str| match tree.find(reference) {
        Err(FindError::Unknown { nearest, .. }) => nearest,
        other => panic!("{other:?}"),
    };
    assert_eq!(nearest("serial1"), ["serial0"]);
    assert_eq!(nearest("uart_b"), ["uart_a"]);
    assert_eq!(nearest("/soc/seral@1000"), ["/soc/serial@1000", "/soc/serial@2000"]);
    assert_eq!(nearest("/serial@2000"), ["/soc/serial@2000"]);
    assert_eq!(nearest("combiner"), ["/soc/combiner@3000"]);
    assert!(nearest("").is_empty());
    assert!(nearest("completely different").is_empty());
    let ambiguous = tree.find("/soc/serial").unwrap_err();
    assert_eq!(
        ambiguous.to_string(),
        "`/soc/serial` fits more than one node of the device tree; give one of `/soc/serial@1000`, `/soc/serial@2000`"
    );
    let dangling = FindError::Dangling { reference: "gone".into(), target: "/soc/nothing@0".into() };
    assert_eq!(tree.find("gone"), Err(dangling));
}

#[test]
fn phandle_names_its_node_also_by_the_old_property() {
    let tree = board_tree();
    assert_eq!(tree.by_phandle(GIC).unwrap().name(), "interrupt-controller@8000000");
    assert_eq!(tree.by_phandle(NEXUS).unwrap().path(), "/nexus");
    assert_eq!(tree.by_phandle(0), None);
    assert_eq!(tree.by_phandle(99), None);
}

#[test]
fn memory_is_sorted_and_merged_without_disabled_and_empty_ranges() {
    assert_eq!(board_tree().memory(), [range(0x4000_0000, 0x4000_0000), range(1 << 32, 0x1000_0000)]);
}

#[test]
fn overlapping_memory_is_merged() {
    let tree = parsed(|tree| {
        for (name, start, size) in [("memory@0", 0, 0x8000), ("memory@1", 0x1000, 0x1000), ("memory@2", 0x7000, 0x2000)]
        {
            node(tree, name, |tree| {
                tree.property_str("device_type", "memory");
                tree.property_cells("reg", &[0, start, 0, size]);
            });
        }
    });
    assert_eq!(tree.memory(), [range(0, 0x9000)]);
}

#[test]
fn reservations_of_both_kinds_are_read() {
    let tree = board_tree();
    let block: Vec<_> = tree.memory_reservations().collect();
    assert_eq!(block, [range(0, 0x1000), range(0x4fff_0000, 0x1_0000)]);
    let reserved: Vec<_> =
        tree.reserved_memory().into_iter().map(|region| (region.range, region.no_map, region.path)).collect();
    let firmware = "/reserved-memory/firmware@50000000".to_string();
    assert_eq!(
        reserved,
        [
            (range(0x5000_0000, 0x1000), true, firmware.clone()),
            (range(0x5100_0000, 0x2000), true, firmware),
            (range(0x5200_0000, 0x1000), false, "/reserved-memory/frames@52000000".into()),
        ]
    );
}

#[test]
fn reserved_memory_that_cannot_be_read_refuses_the_tree() {
    let blob = tree(|tree| {
        node(tree, "reserved-memory", |tree| {
            cells(tree, 2, 2);
            tree.property_empty("ranges");
            node(tree, "secret@0", |tree| tree.property_cells("reg", &[0, 0, 1]));
        });
    });
    assert!(matches!(blob, Err(WriteError::Unreadable(TreeError::BadReservedMemory(_)))));
}

#[test]
fn chosen_gives_console_and_initrd() {
    let tree = board_tree();
    let (console, options) = tree.stdout().unwrap();
    assert_eq!((console.path().as_str(), options), ("/soc/serial@1000", "115200n8"));
    assert_eq!(tree.initrd(), Some(range(0x4800_0000, 0x100_0000)));
}

#[test]
fn chosen_may_be_missing_or_say_nothing_sensible() {
    let tree = parsed(|_| {});
    assert!(tree.chosen().is_none() && tree.stdout().is_none() && tree.initrd().is_none());
    let tree = parsed(|tree| {
        node(tree, "chosen", |tree| {
            tree.property_str("stdout-path", ":115200");
            tree.property_u32("linux,initrd-start", 8);
            tree.property_u32("linux,initrd-end", 8);
        });
    });
    assert!(tree.chosen().is_some() && tree.stdout().is_none() && tree.initrd().is_none());
}

#[test]
fn status_of_an_ancestor_disables() {
    let tree = board_tree();
    let sensor = tree.node("/soc/i2c@5000/sensor@50").unwrap();
    assert_eq!(sensor.status(), Status::Okay);
    assert!(!sensor.is_enabled());
    for (text, status) in [
        ("ok", Status::Okay),
        ("okay", Status::Okay),
        ("disabled", Status::Disabled),
        ("reserved", Status::Reserved),
        ("fail", Status::Fail),
        ("fail-sss", Status::Fail),
        ("okey", Status::Unknown),
    ] {
        let tree = parsed(|tree| tree.property_str("status", text));
        assert_eq!(tree.root().status(), status, "{text}");
    }
}

#[test]
fn reg_is_translated_through_every_bus() {
    let tree = board_tree();
    for (path, expected) in [
        ("/memory@40000000", [(0x4000_0000, 0x2000_0000)].as_slice()),
        ("/soc/serial@1000", &[(0x1000_1000, 0x1000)]),
        ("/soc/serial@2000", &[(0x1000_2000, 0x1000), (0x1_2000_0000, 0x10)]),
        ("/soc/combiner@3000", &[(0x100f_f000, 0x1000)]),
        ("/soc/bus/timer@6000", &[(0x1000_6000, 0x100)]),
        ("/pcie@3f000000/window", &[(0x1000_1000, 0x1000), (0x81_0000_0000, 0x1000)]),
        ("/soc", &[]),
    ] {
        assert_eq!(reg(&tree, path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn reg_that_the_cpu_cannot_reach_is_an_error() {
    let tree = board_tree();
    for (path, bus) in [
        ("/soc/straddles@ff000", "/soc"),
        ("/soc/i2c@5000/sensor@50", "/soc/i2c@5000"),
        ("/cpus/cpu@100", "/cpus"),
        ("/pcie@3f000000/ethernet@1,0", "/pcie@3f000000"),
    ] {
        match reg(&tree, path) {
            Err(ReadError::NotTranslatable { bus: found, .. }) => assert_eq!(found, bus),
            other => panic!("{path}: {other:?}"),
        }
    }
    let cpu = tree.node("/cpus/cpu@100").unwrap().raw_reg().unwrap();
    assert_eq!(cpu, [RawRegEntry { space: 0, address: 0x100, size: 0 }]);
}

#[test]
fn reg_up_to_the_last_address_is_legal() {
    let of = |size| parsed(|tree| node(tree, "x", |tree| tree.property_cells("reg", &[!0, 0xffff_f000, 0, size])));
    assert_eq!(reg(&of(0xfff), "/x"), Ok([(!0xfff, 0xfff)].to_vec()));
    assert!(matches!(reg(&of(0x1000), "/x"), Err(ReadError::NotTranslatable { .. })));
}

#[test]
fn reg_of_unusual_cells() {
    let of = |address, size, count: usize| {
        let mut tree = TreeWriter::new();
        node(&mut tree, "", |tree| {
            cells(tree, address, size);
            node(tree, "x", |tree| tree.property("reg", &alloc::vec![0; count * 4]));
        });
        let tree = DeviceTree::parse(&tree.finish().unwrap()).unwrap();
        reg(&tree, "/x").map(|entries| entries.len())
    };
    assert_eq!(of(1, 0, 2), Ok(2));
    assert_eq!(of(3, 2, 5), Ok(1));
    assert_eq!(of(1, 1, 2 * MAX_ENTRIES), Ok(MAX_ENTRIES));
    assert!(matches!(of(1, 1, 2 * MAX_ENTRIES + 2), Err(ReadError::TooManyEntries { .. })));
    assert!(matches!(of(2, 2, 5), Err(ReadError::Malformed { .. })));
    for (address, size) in [(0, 1), (4, 1), (u32::MAX, u32::MAX), (1, 3), (1, u32::MAX)] {
        assert!(matches!(of(address, size, 4), Err(ReadError::UnsupportedCells { .. })), "{address} {size}");
    }
}

#[test]
fn cells_have_the_specified_defaults() {
    let mut tree = TreeWriter::new();
    node(&mut tree, "", |_| {});
    let tree = DeviceTree::parse(&tree.finish().unwrap()).unwrap();
    assert_eq!((tree.root().address_cells(), tree.root().size_cells()), (2, 1));
}

#[test]
fn interrupts_reach_the_controller_that_takes_them() {
    let tree = board_tree();
    let (gic, combiner) = ("/interrupt-controller@8000000", "/soc/combiner@3000");
    for (path, expected) in [
        ("/soc/serial@1000", [(gic, [0, 1, 4].as_slice()), (gic, &[0, 2, 1])].as_slice()),
        ("/soc/dma@4000", &[(gic, &[0, 7, 1]), (combiner, &[5]), (gic, &[0, 77, 1]), (combiner, &[9])]),
        ("/pcie@3f000000/ethernet@1,0", &[(gic, &[0, 4, 4])]),
        ("/soc", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|(path, cells)| (path.to_string(), cells.to_vec())).collect();
        assert_eq!(interrupts(&tree, path), Ok(expected), "{path}");
    }
}

#[test]
fn interrupts_that_lead_nowhere_are_errors() {
    let tree = board_tree();
    assert!(matches!(interrupts(&tree, "/soc/unmapped"), Err(ReadError::NotMapped { nexus, .. }) if nexus == "/nexus"));
    assert!(matches!(interrupts(&tree, "/soc/endless"), Err(ReadError::EndlessInterruptRoute { .. })));
    let tree = parsed(|tree| {
        node(tree, "orphan", |tree| tree.property_cells("interrupts", &[1]));
        node(tree, "foreign", |tree| tree.property_cells("interrupts-extended", &[9, 1]));
        node(tree, "a", |tree| {
            tree.property_u32("phandle", 1);
            tree.property_u32("interrupt-parent", 2);
            tree.property_cells("interrupts", &[1]);
        });
        node(tree, "b", |tree| {
            tree.property_u32("phandle", 2);
            tree.property_u32("interrupt-parent", 1);
        });
        node(tree, "lost", |tree| tree.property_cells("interrupts-extended", &[3, 1]));
        node(tree, "cells", |tree| {
            tree.property_u32("phandle", 3);
            tree.property_u32("#interrupt-cells", 1);
        });
    });
    assert!(matches!(interrupts(&tree, "/orphan"), Err(ReadError::NoInterruptParent { .. })));
    assert!(matches!(interrupts(&tree, "/foreign"), Err(ReadError::UnknownPhandle { phandle: 9, .. })));
    assert!(matches!(interrupts(&tree, "/a"), Err(ReadError::EndlessInterruptRoute { .. })));
    assert!(matches!(interrupts(&tree, "/lost"), Err(ReadError::NotAController { .. })));
}

#[test]
fn interrupt_specifier_has_one_to_four_cells() {
    let of = |cells: u32, count: usize| {
        let tree = parsed(|tree| {
            node(tree, "pic", |tree| {
                tree.property_u32("phandle", 1);
                tree.property_u32("#interrupt-cells", cells);
                tree.property_empty("interrupt-controller");
            });
            node(tree, "x", |tree| {
                tree.property_u32("interrupt-parent", 1);
                tree.property("interrupts", &alloc::vec![0; count]);
            });
        });
        interrupts(&tree, "/x").map(|found| found.len())
    };
    assert_eq!(of(1, 8), Ok(2));
    assert_eq!(of(4, 16), Ok(1));
    assert_eq!(of(1, 4 * MAX_ENTRIES), Ok(MAX_ENTRIES));
    assert!(matches!(of(1, 4 * MAX_ENTRIES + 4), Err(ReadError::TooManyEntries { .. })));
    assert!(matches!(of(3, 8), Err(ReadError::Malformed { .. })));
    assert!(matches!(of(1, 5), Err(ReadError::Malformed { .. })));
    for cells in [0, 5, u32::MAX] {
        assert!(matches!(of(cells, 16), Err(ReadError::UnsupportedCells { .. })), "{cells}");
    }
}

#[test]
fn gic_specifier_table() {
    for (cells, expected) in [
        ([0, 0, 4].as_slice(), Some((32, Trigger::Level))),
        (&[0, 987, 1], Some((1019, Trigger::Edge))),
        (&[0, 988, 1], None),
        (&[0, u32::MAX, 1], None),
        (&[1, 15, 0xf08], Some((31, Trigger::Level))),
        (&[1, 16, 8], None),
        (&[1, 0, 2], Some((16, Trigger::Edge))),
        (&[1, 0, 2, 0x17], Some((16, Trigger::Edge))),
        (&[2, 0, 4], None),
        (&[3, 0, 4], None),
        (&[0, 1, 0], None),
        (&[0, 1, 3], None),
        (&[0, 1, 0xc], None),
        (&[0, 1], None),
        (&[0, 1, 4, 0, 0], None),
    ] {
        let expected = expected.map(|(intid, trigger)| (Intid::new(intid), trigger));
        assert_eq!(gic_interrupt(cells), expected, "{cells:?}");
    }
}

#[test]
fn property_readers_take_exact_lengths_only() {
    let property = |value: &'static [u8]| Property { name: "x", value };
    assert_eq!(property(&[0, 0, 1, 2]).as_u32(), Some(0x102));
    assert_eq!(property(&[0, 0, 1]).as_u32(), None);
    assert_eq!(property(&[0, 0, 1, 2]).as_u64(), Some(0x102));
    assert_eq!(property(&[0, 0, 0, 1, 0, 0, 0, 2]).as_u64(), Some(1 << 32 | 2));
    assert_eq!(property(&[0; 12]).as_u64(), None);
    assert_eq!(property(b"text\0").as_str(), Some("text"));
    assert_eq!(property(b"text").as_str(), None);
    assert_eq!(property(b"two\0texts\0").as_str(), None);
    assert_eq!(property(b"\xff\0").as_str(), None);
    assert_eq!(property(b"two\0texts\0").strings().collect::<Vec<_>>(), ["two", "texts"]);
    assert_eq!(property(b"").strings().count(), 0);
    assert_eq!(property(b"no end").strings().count(), 0);
    assert_eq!(property(&[0, 0, 0, 1, 0, 0, 0, 2, 3]).cells().collect::<Vec<_>>(), [1, 2]);
}
