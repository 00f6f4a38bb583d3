// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies devices and their fixed suppliers. Registers are written as the CPUs see them, directly below the root.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::emit::Emit;
use super::{Guest, SPI, push_u64, text};
use crate::devicetree::{Node, Property, gic_interrupt};
use crate::plan::error::Problem;

/// Properties that are written anew or that mean nothing in the guest.
const REWRITTEN: [&str; 7] =
    ["reg", "ranges", "dma-ranges", "interrupts", "interrupts-extended", "interrupt-parent", "interrupt-map"];
const MEANINGLESS: [&str; 3] = ["interrupt-map-mask", "#address-cells", "#size-cells"];

/// Whose addresses a node's `reg` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bus {
    /// Those of the CPUs.
    Cpu,
    /// Those of a bus of the device's own.
    Own,
}

/// Where each copied node is now.
type Paths<'a> = Vec<(Node<'a>, String)>;

/// Writes suppliers and devices, and returns where each device is in the guest's tree.
pub(super) fn write<'a>(emit: &mut Emit, guest: &Guest<'_>, given: &[Node<'a>]) -> Result<Paths<'a>, Vec<Problem>> {
    for supplier in &guest.closure.suppliers {
        emit.begin_unique(supplier.base_name(), None);
        for property in supplier.properties() {
            if !guest.closure.leaves_out(*supplier, property.name) && property.name != "reg" {
                emit.copy(Some(property));
            }
        }
        emit.end();
    }
    let mut paths = Paths::new();
    let mut problems = Vec::new();
    // A device inside another that was given too comes with it.
    let inside = |node: &Node<'_>| node.ancestors().any(|above| given.contains(&above));
    for node in given.iter().filter(|node| !inside(node)) {
        if let Err(found) = device(emit, guest, *node, &mut paths) {
            problems.extend(found);
        }
    }
    if problems.is_empty() { Ok(paths) } else { Err(problems) }
}

/// Writes one device, on a bus of its own where its DMA addresses are not those of the CPUs.
fn device<'a>(emit: &mut Emit, guest: &Guest<'_>, node: Node<'a>, paths: &mut Paths<'a>) -> Result<(), Vec<Problem>> {
    let dma_ranges = dma_ranges(guest, node)?;
    let mut parent = String::new();
    if let Some(dma_ranges) = &dma_ranges {
        parent = format!("/{}", emit.begin_unique("dma-bus", None));
        emit.writer.property_str("compatible", "simple-bus");
        emit.writer.property_u32("#address-cells", 2);
        emit.writer.property_u32("#size-cells", 2);
        emit.writer.property_empty("ranges");
        emit.writer.property("dma-ranges", dma_ranges);
    }
    let address = node.reg().ok().and_then(|entries| entries.first().map(|entry| entry.address.get()));
    let name = match dma_ranges {
        Some(_) => {
            let name = named(node, address);
            emit.begin(&name);
            name
        }
        None => emit.begin_unique(node.base_name(), address),
    };
    coherency(emit, node);
    let path = format!("{parent}/{name}");
    body(emit, guest, node, Bus::Cpu, path, paths)?;
    if dma_ranges.is_some() {
        emit.end();
    }
    Ok(())
}

fn named(node: Node<'_>, address: Option<u64>) -> String {
    match address {
        Some(address) => format!("{}@{address:x}", node.base_name()),
        None => node.base_name().to_string(),
    }
}

/// Writes the properties and children of a node that was begun, and ends it. The depth is that of the board's tree.
fn body<'a>(
    emit: &mut Emit,
    guest: &Guest<'_>,
    node: Node<'a>,
    bus: Bus,
    path: String,
    paths: &mut Paths<'a>,
) -> Result<(), Vec<Problem>> {
    let is_bridge = bus == Bus::Cpu && node.property("ranges").is_some();
    for property in node.properties() {
        let is_rewritten = match property.name {
            "reg" | "ranges" | "dma-ranges" => bus == Bus::Cpu,
            "#address-cells" | "#size-cells" => is_bridge,
            name => REWRITTEN.contains(&name) || MEANINGLESS.contains(&name),
        };
        if !is_rewritten && !guest.closure.leaves_out(node, property.name) {
            emit.copy(Some(property));
        }
    }
    if bus == Bus::Cpu {
        registers(emit, node);
    }
    if is_bridge {
        emit.writer.property_u32("#address-cells", 2);
        emit.writer.property_u32("#size-cells", 2);
        emit.writer.property_empty("ranges");
    }
    interrupts(emit, guest, node)?;
    let below = if is_bridge { Bus::Cpu } else { Bus::Own };
    for child in node.children().filter(|child| child.is_enabled()) {
        let entries = child.reg();
        let name = match (&entries, below) {
            // Its registers were not given either.
            (Err(_), Bus::Cpu) => continue,
            (Ok(entries), Bus::Cpu) => named(child, entries.first().map(|entry| entry.address.get())),
            (_, Bus::Own) => child.name().to_string(),
        };
        emit.begin(&name);
        body(emit, guest, child, below, format!("{path}/{name}"), paths)?;
    }
    emit.end();
    paths.push((node, path));
    Ok(())
}

fn registers(emit: &mut Emit, node: Node<'_>) {
    let entries = node.reg().unwrap_or_default();
    let mut bytes = Vec::new();
    for entry in &entries {
        push_u64(&mut bytes, entry.address.get());
        push_u64(&mut bytes, entry.size);
    }
    if !bytes.is_empty() {
        emit.writer.property("reg", &bytes);
    }
}

/// Says what the buses above, which are not copied, say of the device's coherency.
fn coherency(emit: &mut Emit, node: Node<'_>) {
    let says =
        |node: &Node<'_>| ["dma-coherent", "dma-noncoherent"].into_iter().find(|name| node.property(name).is_some());
    if says(&node).is_some() {
        return;
    }
    if let Some(name) = node.ancestors().find_map(|above| says(&above)) {
        emit.writer.property_empty(name);
    }
}

/// Writes the interrupts for the guest's GIC, or for controllers that the partition was given.
fn interrupts(emit: &mut Emit, guest: &Guest<'_>, node: Node<'_>) -> Result<(), Vec<Problem>> {
    let unreadable = || {
        Vec::from([Problem::DeviceUnreadable {
            partition: guest.partition.name.clone(),
            device: node.path(),
            property: "interrupts".to_string(),
        }])
    };
    let interrupts = node.interrupts().map_err(|_| unreadable())?;
    if interrupts.is_empty() {
        return Ok(());
    }
    let mut plain: Vec<u32> = Vec::new();
    let mut extended: Vec<u32> = Vec::new();
    let mut is_plain = true;
    for interrupt in &interrupts {
        let of_gic = interrupt.controller.path() == guest.board.gic.path;
        is_plain &= of_gic;
        if of_gic {
            let (intid, _) = gic_interrupt(interrupt.cells()).ok_or_else(unreadable)?;
            let number = intid.get().checked_sub(32).ok_or_else(unreadable)?;
            let flags = interrupt.cells().get(2).ok_or_else(unreadable)? & 0xf;
            extended.push(guest.gic);
            extended.extend([SPI, number, flags]);
            plain.extend([SPI, number, flags]);
        } else {
            extended.push(interrupt.controller.phandle().ok_or_else(unreadable)?);
            extended.extend(interrupt.cells());
        }
    }
    if is_plain {
        emit.writer.property_u32("interrupt-parent", guest.gic);
        emit.writer.property_cells("interrupts", &plain);
    } else {
        emit.writer.property_cells("interrupts-extended", &extended);
    }
    Ok(())
}

/// Returns how the buses above a device translate its DMA addresses, with two cells for each number; `None` when they do
/// not.
fn dma_ranges(guest: &Guest<'_>, node: Node<'_>) -> Result<Option<Vec<u8>>, Vec<Problem>> {
    let translates = |bus: &Node<'_>| bus.property("dma-ranges").is_some_and(|ranges| !ranges.value.is_empty());
    let mut buses = node.ancestors().filter(translates);
    let Some(bus) = buses.next() else {
        return Ok(None);
    };
    let refused = || {
        Vec::from([Problem::DmaRanges {
            partition: guest.partition.name.clone(),
            device: node.path(),
            bus: bus.path(),
        }])
    };
    if buses.next().is_some() || text(bus, "device_type").is_some_and(|kind| kind.starts_with("pci")) {
        return Err(refused());
    }
    let property = bus.property("dma-ranges").ok_or_else(refused)?;
    let above = bus.parent().ok_or_else(refused)?;
    let widths = [bus.address_cells(), above.address_cells(), bus.size_cells()];
    let mut bytes = Vec::new();
    let mut cells = Property::cells(property);
    while cells.len() != 0 {
        for width in widths {
            let mut value = 0u64;
            if !(1..=2).contains(&width) {
                return Err(refused());
            }
            for _ in 0..width {
                value = (value << 32) | u64::from(cells.next().ok_or_else(refused)?);
            }
            push_u64(&mut bytes, value);
        }
    }
    Ok(Some(bytes))
}
