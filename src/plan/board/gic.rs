// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller and the timer that interrupts through it.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::{BoardError, Gic, GicChild, GicFacts, GicVersion, Timer, TimerLine};
use crate::addr::{Ipa, PAGE_SIZE, PaRange};
use crate::devicetree::{DeviceTree, Node, Property, RegEntry, gic_interrupt};
use crate::id::Intid;

/// GICs with virtualization extensions. A Cortex-A9's has none.
const V2: [&str; 3] = ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic"];
const V3: [&str; 1] = ["arm,gic-v3"];
const PARTS: [&str; 2] = ["arm,gic-v3-its", "arm,gic-v2m-frame"];

/// The two pages of GICC or GICV.
const INTERFACE_SIZE: u64 = 2 * PAGE_SIZE;
/// From this size on a GICC or GICV region is known to show its first page at 0 to 0xffff and its second at 0x1_0000
/// to 0x1_ffff, 16 times each, so that 64 KiB pages can map it (SBSA level 1; Linux looks at the same size).
const ALIASED_SIZE: u64 = 0x2_0000;
/// Where in such a region the first page stands directly before the second one.
const ALIASED_OFFSET: u64 = 0xf000;

/// Reads the first GIC of the tree.
pub(super) fn read(tree: &DeviceTree) -> Result<Gic, BoardError> {
    let is_any = |node: &Node<'_>, names: &[&str]| names.iter().any(|name| node.is_compatible(name));
    let is_gic = |node: &Node<'_>| is_any(node, &V2) || is_any(node, &V3);
    let node = tree.nodes().find(|node| is_gic(node) && node.is_enabled()).ok_or(BoardError::NoGic)?;
    let entries = node.reg().unwrap_or_default();
    let regions: Vec<PaRange> = entries.iter().filter_map(RegEntry::range).collect();
    let version = if is_any(&node, &V3) { v3(node, &regions)? } else { v2(node, &regions)? };
    let is_part = |part: &Node<'_>| part.ancestors().any(|above| above == node) || is_any(part, &PARTS);
    let gic = Gic {
        path: node.path(),
        compatible: node.compatible().map(ToString::to_string).collect(),
        version,
        regions,
        maintenance: maintenance(node)?,
        children: tree.nodes().filter(is_part).map(child).collect(),
        named: named(tree, node),
        facts: GicFacts::UNKNOWN,
    };
    nothing_beside_the_virtual_interface(tree, node, &gic)?;
    Ok(gic)
}

/// Returns a region of whole pages and at least `least` bytes.
fn region(
    node: Node<'_>,
    regions: &[PaRange],
    index: usize,
    least: u64,
    part: &'static str,
) -> Result<PaRange, BoardError> {
    let found = regions.get(index).copied();
    let usable = found.filter(|range| range.start().is_aligned(PAGE_SIZE) && range.size() >= least);
    usable.ok_or_else(|| BoardError::GicUnreadable { path: node.path(), part })
}

/// Returns the two contiguous pages of a GICC or GICV region.
fn interface(range: PaRange) -> Option<PaRange> {
    let offset = if range.size() >= ALIASED_SIZE { ALIASED_OFFSET } else { 0 };
    PaRange::new(range.start().checked_add(offset)?, INTERFACE_SIZE)
}

fn v2(node: Node<'_>, regions: &[PaRange]) -> Result<GicVersion, BoardError> {
    let distributor = region(node, regions, 0, PAGE_SIZE, "distributor (GICD)")?;
    let part = "CPU interface (GICC), two pages,";
    let cpu_interface = region(node, regions, 1, INTERFACE_SIZE, part)?;
    let hyp_interface = region(node, regions, 2, PAGE_SIZE, "virtual interface control (GICH)")?;
    let virtual_part = "virtual CPU interface (GICV), two pages,";
    let virtual_interface = region(node, regions, 3, INTERFACE_SIZE, virtual_part)?;
    let unreadable = |part| BoardError::GicUnreadable { path: node.path(), part };
    Ok(GicVersion::V2 {
        distributor,
        cpu_interface: interface(cpu_interface).ok_or_else(|| unreadable(part))?,
        hyp_interface,
        virtual_interface: interface(virtual_interface).ok_or_else(|| unreadable(virtual_part))?,
        guest_interface: Ipa::new(cpu_interface.start().get()),
    })
}

fn v3(node: Node<'_>, regions: &[PaRange]) -> Result<GicVersion, BoardError> {
    const FRAMES: u64 = 0x2_0000;
    let distributor = region(node, regions, 0, 0x1_0000, "distributor (GICD)")?;
    let count = node.property("#redistributor-regions").and_then(Property::as_u32);
    let count = usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX);
    let redistributors: Vec<PaRange> = regions.iter().skip(1).take(count).copied().collect();
    for index in 0..redistributors.len().max(1) {
        region(node, &redistributors, index, FRAMES, "redistributors (GICR)")?;
    }
    let stride = node.property("redistributor-stride").and_then(Property::as_u64);
    Ok(GicVersion::V3 { distributor, redistributors, stride: stride.filter(|stride| *stride != 0) })
}

fn maintenance(node: Node<'_>) -> Result<Intid, BoardError> {
    let interrupts = node.interrupts().unwrap_or_default();
    let first = interrupts.first().filter(|interrupt| interrupt.controller == node);
    first
        .and_then(|interrupt| gic_interrupt(interrupt.cells()))
        .map(|(intid, _)| intid)
        .filter(|intid| intid.is_ppi())
        .ok_or_else(|| BoardError::NoMaintenanceInterrupt { path: node.path() })
}

/// Returns the SPIs that a node of the tree names, whatever its status: in `interrupts`, in an `interrupt-map`, or as
/// the GIC's own message-signalled ones.
fn named(tree: &DeviceTree, gic: Node<'_>) -> Vec<Intid> {
    let spi = |cells: &[u32]| match *cells {
        [0, number, ..] => number.checked_add(32).map(Intid::new).filter(|intid| intid.is_spi()),
        _ => None,
    };
    // One bit for each id: so they are in order, and each is there once.
    let mut named = [0_u32; 32];
    let mut name = |intid: Intid| {
        if let Some(word) = named.get_mut(intid.index() >> 5) {
            *word |= 1 << (intid.get() & 31);
        }
    };
    for node in tree.nodes() {
        let own = node.interrupts().unwrap_or_default();
        let mapped = node.interrupt_map();
        let of_gic = own.iter().chain(&mapped).filter(|interrupt| interrupt.controller == gic);
        of_gic.filter_map(|interrupt| spi(interrupt.cells())).for_each(&mut name);
    }
    let mut messages = gic.property("mbi-ranges").into_iter().flat_map(Property::cells);
    while let (Some(first), Some(count)) = (messages.next(), messages.next()) {
        let range = first..first.saturating_add(count).min(1020);
        range.map(Intid::new).filter(|intid| intid.is_spi()).for_each(&mut name);
    }
    let is_named =
        |intid: &Intid| named.get(intid.index() >> 5).is_some_and(|word| word >> (intid.get() & 31) & 1 == 1);
    (32..1020).map(Intid::new).filter(is_named).collect()
}

fn child(node: Node<'_>) -> GicChild {
    let entries = node.reg().unwrap_or_default();
    GicChild { path: node.path(), registers: entries.iter().filter_map(RegEntry::range).collect() }
}

/// Makes sure that the two pages that guests are given hold nothing but GICV.
fn nothing_beside_the_virtual_interface(tree: &DeviceTree, node: Node<'_>, gic: &Gic) -> Result<(), BoardError> {
    let GicVersion::V2 { virtual_interface, .. } = gic.version else {
        return Ok(());
    };
    let shared = |with| BoardError::VirtualInterfaceShared { path: node.path(), with };
    let others = gic.regions.iter().enumerate().filter(|(index, _)| *index != 3);
    if others.into_iter().any(|(_, range)| range.overlaps(&virtual_interface)) {
        return Err(shared(node.path()));
    }
    for other in tree.nodes().filter(|other| *other != node) {
        let entries = other.reg().unwrap_or_default();
        if entries.iter().filter_map(RegEntry::range).any(|range| range.overlaps(&virtual_interface)) {
            return Err(shared(other.path()));
        }
    }
    Ok(())
}

/// Reads the generic timer's PPIs.
pub(super) fn timer(tree: &DeviceTree, gic: &Gic) -> Result<Timer, BoardError> {
    let is_timer = |node: &Node<'_>| node.is_compatible("arm,armv8-timer") || node.is_compatible("arm,armv7-timer");
    let node = tree.nodes().find(|node| is_timer(node) && node.is_enabled()).ok_or(BoardError::NoTimer)?;
    let interrupts = node.interrupts().map_err(|_| BoardError::NoTimer)?;
    let names: Vec<&str> = node.property("interrupt-names").into_iter().flat_map(Property::strings).collect();
    let line = |name: &str, place: usize| {
        let place = match names.iter().position(|given| *given == name) {
            Some(named) => named,
            None if names.is_empty() => place,
            None => return Err(BoardError::NoTimer),
        };
        let interrupt = interrupts.get(place).filter(|interrupt| interrupt.controller.path() == gic.path);
        let interrupt = interrupt.ok_or(BoardError::NoTimer)?;
        let (intid, _) = gic_interrupt(interrupt.cells()).ok_or(BoardError::NoTimer)?;
        let flags = interrupt.cells().get(2).ok_or(BoardError::NoTimer)? & 0xf;
        if intid.is_ppi() { Ok(TimerLine { intid, flags }) } else { Err(BoardError::NoTimer) }
    };
    let physical = line("phys", 1)?;
    Ok(Timer {
        secure: line("sec-phys", 0).unwrap_or(physical),
        physical,
        virtual_: line("virt", 2)?,
        hypervisor: line("hyp-phys", 3)?,
    })
}
