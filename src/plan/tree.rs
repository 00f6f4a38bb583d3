// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a guest's device tree from the board's: what the partition has, under the names and phandles of the board,
//! and nothing else.

mod devices;
mod emit;
mod supply;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::board::{Board, TimerLine};
use super::error::Problem;
use super::types::{GuestGic, PartitionPlan, Reach};
use crate::addr::{AddrRange, Address, IpaRange};
use crate::config::Delivery;
use crate::devicetree::{DeviceTree, Node, Property};
use crate::id::Mpidr;
use emit::Emit;
use supply::Closure;

/// The clock that the emulated PL011's driver asks for, in Hz.
const CONSOLE_CLOCK: u32 = 24_000_000;
/// Interrupt kinds of the GIC's binding.
const SPI: u32 = 0;
const PPI: u32 = 1;
/// A level-sensitive line, active high, in the GIC's binding.
const LEVEL_HIGH: u32 = 4;
/// An edge-triggered line, low to high, in the GIC's binding.
const EDGE_RISING: u32 = 1;

/// Names that a guest's tree uses again and again.
struct Guest<'a> {
    board: &'a Board,
    partition: &'a PartitionPlan,
    /// The GIC's phandle.
    gic: u32,
    /// The console clock's phandle.
    clock: u32,
    closure: Closure<'a>,
}

/// Returns the tree of a partition. Its addresses all have fixed widths, so that its size depends on no address.
///
/// # Errors
/// All that its devices need and it does not have, or that cannot be written.
pub fn guest_tree(
    tree: &DeviceTree,
    board: &Board,
    partition: &PartitionPlan,
    cmdline: &str,
    initrd: Option<IpaRange>,
) -> Result<Vec<u8>, Vec<Problem>> {
    let given = partition.devices.iter().filter(|device| device.reach == Reach::Given);
    let given: Vec<Node<'_>> = given.filter_map(|device| tree.node(&device.path)).collect();
    let mut fresh = (1..u32::MAX).filter(|phandle| tree.by_phandle(*phandle).is_none());
    let gic = tree.node(&board.gic.path).and_then(Node::phandle).or_else(|| fresh.next()).unwrap_or(1);
    let clock = fresh.next().unwrap_or(1);
    let closure = Closure::of(&given, &partition.name)?;
    let guest = Guest { board, partition, gic, clock, closure };
    let mut emit = Emit::new();
    emit.begin("");
    root(&mut emit, tree, &guest);
    memory(&mut emit, partition);
    cpus(&mut emit, tree, &guest);
    psci(&mut emit);
    interrupt_controller(&mut emit, &guest);
    timer(&mut emit, tree, &guest);
    let console = console(&mut emit, &guest);
    let paths = devices::write(&mut emit, &guest, &given)?;
    aliases(&mut emit, tree, console.as_deref(), &paths);
    chosen(&mut emit, cmdline, console.as_deref(), initrd);
    emit.end();
    emit.finish().map_err(|error| {
        let (partition, why) = (partition.name.clone(), format!("{error}"));
        Vec::from([Problem::TreeUnwritable { partition, why }])
    })
}

fn root(emit: &mut Emit, tree: &DeviceTree, guest: &Guest<'_>) {
    emit.writer.property_u32("#address-cells", 2);
    emit.writer.property_u32("#size-cells", 2);
    emit.writer.property_u32("interrupt-parent", guest.gic);
    for name in ["model", "compatible"] {
        emit.copy(tree.root().property(name));
    }
}

/// Appends an address or a size as two cells.
fn push_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_be_bytes());
}

/// Returns `reg` of ranges in two cells each.
fn reg<A: Address>(ranges: &[AddrRange<A>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in ranges {
        push_u64(&mut bytes, range.start().get());
        push_u64(&mut bytes, range.size());
    }
    bytes
}

fn memory(emit: &mut Emit, partition: &PartitionPlan) {
    for range in partition.memory.iter().filter_map(|piece| piece.ipa_range()) {
        emit.begin_unique("memory", Some(range.start().get()));
        emit.writer.property_str("device_type", "memory");
        emit.writer.property("reg", &reg(&[range]));
        emit.end();
    }
}

fn cpus(emit: &mut Emit, tree: &DeviceTree, guest: &Guest<'_>) {
    emit.begin_unique("cpus", None);
    emit.writer.property_u32("#address-cells", 1);
    emit.writer.property_u32("#size-cells", 0);
    for vcpu in &guest.partition.vcpus {
        let affinity = Mpidr::of_vcpu(vcpu.id).get();
        emit.begin(&format!("cpu@{affinity:x}"));
        emit.writer.property_str("device_type", "cpu");
        let node = guest.board.cpu(vcpu.cpu).and_then(|cpu| tree.node(&cpu.path));
        for name in ["compatible", "capacity-dmips-mhz"] {
            emit.copy(node.and_then(|node| node.property(name)));
        }
        emit.writer.property_u32("reg", u32::try_from(affinity).unwrap_or(u32::MAX));
        emit.writer.property_str("enable-method", "psci");
        emit.end();
    }
    emit.end();
}

fn psci(emit: &mut Emit) {
    emit.begin_unique("psci", None);
    emit.writer.property_strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    emit.writer.property_str("method", "hvc");
    emit.end();
}

fn interrupt_controller(emit: &mut Emit, guest: &Guest<'_>) {
    let (start, regions) = match guest.partition.gic {
        GuestGic::V2 { distributor, cpu_interface, .. } => (distributor.start(), [distributor, cpu_interface]),
        GuestGic::V3 { distributor, redistributors } => (distributor.start(), [distributor, redistributors]),
    };
    emit.begin_unique("interrupt-controller", Some(start.get()));
    match guest.partition.gic {
        GuestGic::V2 { .. } => {
            let names: Vec<&str> = guest.board.gic.compatible.iter().map(String::as_str).collect();
            emit.writer.property_strings("compatible", &names);
        }
        GuestGic::V3 { .. } => emit.writer.property_str("compatible", "arm,gic-v3"),
    }
    emit.writer.property_empty("interrupt-controller");
    emit.writer.property_u32("#interrupt-cells", 3);
    emit.writer.property_u32("#address-cells", 0);
    emit.writer.property("reg", &reg(&regions));
    emit.writer.property_u32("phandle", guest.gic);
    emit.end();
}

fn timer(emit: &mut Emit, tree: &DeviceTree, guest: &Guest<'_>) {
    const LEFT_OUT: [&str; 9] = [
        "compatible",
        "interrupts",
        "interrupts-extended",
        "interrupt-parent",
        "interrupt-names",
        "always-on",
        "phandle",
        "linux,phandle",
        "status",
    ];
    emit.begin_unique("timer", None);
    emit.writer.property_strings("compatible", &["arm,armv8-timer"]);
    // In a GICv2's binding a PPI also says which CPUs have it.
    let cpus = match guest.partition.gic {
        GuestGic::V2 { .. } => {
            (1u32.checked_shl(guest.partition.vcpus.len().try_into().unwrap_or(0)).unwrap_or(0)).wrapping_sub(1) & 0xff
        }
        GuestGic::V3 { .. } => 0,
    };
    let timer = guest.board.timer;
    let line = |line: TimerLine| [PPI, line.intid.get().saturating_sub(16), (cpus << 8) | line.flags];
    let lines = [timer.secure, timer.physical, timer.virtual_, timer.hypervisor].map(line);
    emit.writer.property_cells("interrupts", lines.as_flattened());
    emit.writer.property_empty("always-on");
    // Errata and a frequency that the firmware did not set are told by properties.
    let is_timer = |node: &Node<'_>| node.is_compatible("arm,armv8-timer") && node.is_enabled();
    for property in tree.nodes().find(is_timer).into_iter().flat_map(Node::properties) {
        if !LEFT_OUT.contains(&property.name) {
            emit.copy(Some(property));
        }
    }
    emit.end();
}

/// Writes the emulated console and its clock, and returns the console's path.
fn console(emit: &mut Emit, guest: &Guest<'_>) -> Option<String> {
    let console = guest.partition.console?;
    emit.begin_unique("apb-pclk", None);
    emit.writer.property_str("compatible", "fixed-clock");
    emit.writer.property_u32("#clock-cells", 0);
    emit.writer.property_u32("clock-frequency", CONSOLE_CLOCK);
    // Not the board's name for its own: Linux refuses a second clock of a name, and every device on it then waits for ever.
    emit.writer.property_str("clock-output-names", "console-clk");
    emit.writer.property_u32("phandle", guest.clock);
    emit.end();
    let name = emit.begin_unique("pl011", Some(console.range.start().get()));
    emit.writer.property_strings("compatible", &["arm,pl011", "arm,primecell"]);
    emit.writer.property("reg", &reg(&[console.range]));
    let flags = match guest.partition.delivery {
        Delivery::Virtual => LEVEL_HIGH,
        Delivery::Direct => EDGE_RISING,
    };
    emit.writer.property_cells("interrupts", &[SPI, console.intid.get().saturating_sub(32), flags]);
    emit.writer.property_cells("clocks", &[guest.clock, guest.clock]);
    emit.writer.property_strings("clock-names", &["uartclk", "apb_pclk"]);
    emit.end();
    Some(format!("/{name}"))
}

/// Writes the aliases of what was copied. The console is serial0.
fn aliases(emit: &mut Emit, tree: &DeviceTree, console: Option<&str>, paths: &[(Node<'_>, String)]) {
    emit.begin_unique("aliases", None);
    if let Some(console) = console {
        emit.writer.property_str("serial0", console);
    }
    let of_board = tree.root().child("aliases");
    for alias in of_board.into_iter().flat_map(Node::properties) {
        let target = alias.as_str().and_then(|path| tree.node(path));
        let copied = paths.iter().find(|(node, _)| Some(*node) == target);
        if let Some((_, path)) = copied.filter(|_| alias.name != "serial0" || console.is_none()) {
            emit.writer.property_str(alias.name, path);
        }
    }
    emit.end();
}

fn chosen(emit: &mut Emit, cmdline: &str, console: Option<&str>, initrd: Option<IpaRange>) {
    emit.begin_unique("chosen", None);
    let line = cmdline.split('\0').next().unwrap_or_default();
    emit.writer.property_str("bootargs", line);
    if let Some(console) = console {
        emit.writer.property_str("stdout-path", console);
    }
    if let Some(initrd) = initrd {
        emit.writer.property_u64("linux,initrd-start", initrd.start().get());
        emit.writer.property_u64("linux,initrd-end", initrd.end().get());
    }
    emit.end();
}

/// Returns the text of a property that holds one string.
fn text<'a>(node: Node<'a>, name: &str) -> Option<&'a str> {
    node.property(name).and_then(Property::as_str)
}
