// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests over trees that the writer makes. `board` is a small one with something of everything.

mod damage;
mod format;
mod reading;

use super::*;

const GIC: u32 = 1;
const COMBINER: u32 = 2;
const NEXUS: u32 = 3;
const LOOP: u32 = 4;

fn node(tree: &mut TreeWriter, name: &str, content: impl FnOnce(&mut TreeWriter)) {
    tree.begin_node(name);
    content(tree);
    tree.end_node();
}

fn cells(tree: &mut TreeWriter, address: u32, size: u32) {
    tree.property_u32("#address-cells", address);
    tree.property_u32("#size-cells", size);
}

/// Writes a tree with 2 + 2 cells at its root.
fn tree(content: impl FnOnce(&mut TreeWriter)) -> Result<Vec<u8>, WriteError> {
    let mut tree = TreeWriter::new();
    node(&mut tree, "", |tree| {
        cells(tree, 2, 2);
        content(tree);
    });
    tree.finish()
}

fn parsed(content: impl FnOnce(&mut TreeWriter)) -> DeviceTree {
    DeviceTree::parse(&tree(content).unwrap()).unwrap()
}

/// Returns the blob of a small board.
fn board() -> Vec<u8> {
    let mut tree = TreeWriter::new();
    tree.reserve(0, 0x1000);
    tree.reserve(0x4fff_0000, 0x1_0000);
    node(&mut tree, "", |tree| {
        cells(tree, 2, 2);
        tree.property_u32("interrupt-parent", GIC);
        tree.property_strings("compatible", &["septum,board", "septum,family"]);
        memory(tree);
        names(tree);
        interrupt_controllers(tree);
        soc(tree);
        pcie(tree);
    });
    tree.finish().unwrap()
}

fn memory(tree: &mut TreeWriter) {
    node(tree, "memory@60000000", |tree| {
        tree.property_str("device_type", "memory");
        tree.property_cells("reg", &[0, 0x6000_0000, 0, 0x2000_0000, 1, 0, 0, 0x1000_0000, 2, 0, 0, 0]);
    });
    node(tree, "memory@40000000", |tree| {
        tree.property_str("device_type", "memory");
        tree.property_cells("reg", &[0, 0x4000_0000, 0, 0x2000_0000]);
    });
    node(tree, "memory@90000000", |tree| {
        tree.property_str("device_type", "memory");
        tree.property_str("status", "disabled");
        tree.property_cells("reg", &[0, 0x9000_0000, 0, 0x2000_0000]);
    });
    node(tree, "reserved-memory", |tree| {
        cells(tree, 2, 2);
        tree.property_empty("ranges");
        node(tree, "firmware@50000000", |tree| {
            tree.property_cells("reg", &[0, 0x5000_0000, 0, 0x1000, 0, 0x5100_0000, 0, 0x2000]);
            tree.property_empty("no-map");
        });
        node(tree, "pool", |tree| tree.property_u64("size", 0x40_0000));
        node(tree, "frames@52000000", |tree| tree.property_cells("reg", &[0, 0x5200_0000, 0, 0x1000]));
        node(tree, "unused@53000000", |tree| {
            tree.property_cells("reg", &[0, 0x5300_0000, 0, 0x1000]);
            tree.property_str("status", "disabled");
        });
    });
}

fn names(tree: &mut TreeWriter) {
    node(tree, "chosen", |tree| {
        tree.property_str("stdout-path", "serial0:115200n8");
        tree.property_u32("linux,initrd-start", 0x4800_0000);
        tree.property_u64("linux,initrd-end", 0x4900_0000);
    });
    node(tree, "aliases", |tree| {
        tree.property_str("serial0", "/soc/serial@1000");
        tree.property_str("gone", "/soc/nothing@0");
    });
    node(tree, "__symbols__", |tree| {
        tree.property_str("uart_a", "/soc/serial@1000");
        tree.property_str("debug_uart", "/soc/serial@1000");
        tree.property_str("gic", "/interrupt-controller@8000000");
    });
    node(tree, "cpus", |tree| {
        cells(tree, 1, 0);
        for (name, reg) in [("cpu@0", 0), ("cpu@100", 0x100)] {
            node(tree, name, |tree| tree.property_u32("reg", reg));
        }
    });
}

fn interrupt_controllers(tree: &mut TreeWriter) {
    node(tree, "interrupt-controller@8000000", |tree| {
        cells(tree, 2, 2);
        tree.property_u32("phandle", GIC);
        tree.property_u32("#interrupt-cells", 3);
        tree.property_empty("interrupt-controller");
        tree.property_cells("reg", &[0, 0x800_0000, 0, 0x1_0000]);
    });
    node(tree, "nexus", |tree| {
        cells(tree, 0, 0);
        tree.property_u32("linux,phandle", NEXUS);
        tree.property_u32("#interrupt-cells", 2);
        tree.property_cells("interrupt-map-mask", &[0xff, 0]);
        tree.property_cells(
            "interrupt-map",
            &[
                4, 0, COMBINER, 9, //
                5, 0, GIC, 0, 0, 0, 77, 1,
            ],
        );
    });
    node(tree, "loop", |tree| {
        cells(tree, 0, 0);
        tree.property_u32("phandle", LOOP);
        tree.property_u32("#interrupt-cells", 1);
        tree.property_cells("interrupt-map", &[1, LOOP, 1]);
    });
}

fn soc(tree: &mut TreeWriter) {
    node(tree, "soc", |tree| {
        cells(tree, 1, 1);
        tree.property_str("compatible", "simple-bus");
        tree.property_cells("ranges", &[0, 0, 0x1000_0000, 0x10_0000, 0x40_0000, 1, 0x2000_0000, 0x1000]);
        node(tree, "serial@1000", |tree| {
            tree.property_strings("compatible", &["arm,pl011", "arm,primecell"]);
            tree.property_cells("reg", &[0x1000, 0x1000]);
            tree.property_cells("interrupts", &[0, 1, 4, 0, 2, 1]);
        });
        node(tree, "serial@2000", |tree| tree.property_cells("reg", &[0x2000, 0x1000, 0x40_0000, 0x10]));
        node(tree, "combiner@3000", |tree| {
            tree.property_u32("phandle", COMBINER);
            tree.property_u32("#interrupt-cells", 1);
            tree.property_empty("interrupt-controller");
            tree.property_cells("reg", &[0xf_f000, 0x1000]);
        });
        node(tree, "straddles@ff000", |tree| tree.property_cells("reg", &[0xf_f000, 0x1001]));
        node(tree, "dma@4000", |tree| {
            tree.property_cells("interrupts-extended", &[GIC, 0, 7, 1, COMBINER, 5, NEXUS, 0x105, 3, NEXUS, 4, 0]);
        });
        node(tree, "unmapped", |tree| tree.property_cells("interrupts-extended", &[NEXUS, 6, 0]));
        node(tree, "endless", |tree| tree.property_cells("interrupts-extended", &[LOOP, 1]));
        node(tree, "i2c@5000", |tree| {
            cells(tree, 1, 0);
            tree.property_str("status", "disabled");
            node(tree, "sensor@50", |tree| tree.property_u32("reg", 0x50));
        });
        node(tree, "bus", |tree| {
            cells(tree, 1, 1);
            tree.property_empty("ranges");
            node(tree, "timer@6000", |tree| tree.property_cells("reg", &[0x6000, 0x100]));
        });
    });
}

fn pcie(tree: &mut TreeWriter) {
    node(tree, "pcie@3f000000", |tree| {
        cells(tree, 3, 2);
        tree.property_str("device_type", "pci");
        tree.property_u32("#interrupt-cells", 1);
        tree.property_cells("interrupt-map-mask", &[0x1800, 0, 0, 7]);
        let map = [[0, 0, 0, 1, GIC, 0, 0, 0, 3, 4], [0x800, 0, 0, 1, GIC, 0, 0, 0, 4, 4]];
        tree.property_cells("interrupt-map", &map.concat());
        let ranges = [
            [0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000],
            [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000],
            [0x4300_0000, 0x80, 0, 0x80, 0, 0x80, 0],
        ];
        tree.property_cells("ranges", &ranges.concat());
        node(tree, "ethernet@1,0", |tree| {
            tree.property_cells("reg", &[0x800, 0, 0, 0, 0]);
            tree.property_cells("interrupts", &[1]);
        });
        node(tree, "window", |tree| {
            let reg = [[0x8200_0010, 0, 0x1000_1000, 0, 0x1000], [0x4300_0000, 0x81, 0, 0, 0x1000]];
            tree.property_cells("reg", &reg.concat());
        });
    });
}
