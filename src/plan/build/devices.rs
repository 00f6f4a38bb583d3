// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices: what each one brings with it (pages, interrupts, bus mastering), and what nobody can be given.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Context;
use super::draft::{self, Draft};
use super::pages;
use crate::addr::{PAGE_SIZE, PaRange};
use crate::config::Device;
use crate::devicetree::{FindError, Node, Property, RegEntry, Status, gic_interrupt};
use crate::plan::error::{Key, Problem};
use crate::plan::master;
use crate::plan::types::{Dma, InterruptPlan};

/// A device that a partition was given, with the nodes below it.
pub(super) struct Claim<'a> {
    /// Its place in `devices`.
    pub(super) index: usize,
    pub(super) node: Node<'a>,
    pub(super) path: String,
    /// Its registers and those of the nodes below it.
    pub(super) registers: Vec<PaRange>,
    /// The pages of its registers, ascending and disjoint.
    pub(super) pages: Vec<PaRange>,
    /// Its interrupts at the GIC.
    pub(super) interrupts: Vec<InterruptPlan>,
    /// Other controllers that its interrupts go to.
    controllers: Vec<Node<'a>>,
    pub(super) dma: Dma,
}

impl Claim<'_> {
    /// Tells whether a node is the device or below it.
    pub(super) fn has(&self, node: Node<'_>) -> bool {
        node == self.node || node.ancestors().any(|above| above == self.node)
    }
}

/// Finds the devices of one partition and checks each.
pub(super) fn resolve<'a>(draft: &mut Draft<'a>, context: &Context<'a>) {
    for (index, device) in draft.spec.devices.iter().enumerate() {
        let (claim, problems) = claim(draft, context, index, device);
        draft.claims.extend(claim);
        for problem in problems {
            draft.fail(Key::Device(index), problem);
        }
    }
    not_twice(draft);
    interrupts_are_routed(draft);
    pages::check(draft, context);
}

/// Reads one device and says all that is wrong with it. What can be read of a wrong one still counts against others.
fn claim<'a>(
    draft: &Draft<'_>,
    context: &Context<'a>,
    index: usize,
    device: &Device,
) -> (Option<Claim<'a>>, Vec<Problem>) {
    let node = match context.tree.find(&device.node) {
        Ok(node) => node,
        Err(error) => return (None, Vec::from([absent(draft, &device.node, &error)])),
    };
    let (partition, path) = (draft.name(), node.path());
    if let Some(role) = node.subtree().find_map(|node| role(node, context)) {
        return (None, Vec::from([Problem::DeviceOfHypervisor { partition, device: path, role }]));
    }
    let mut claim = Claim {
        index,
        node,
        path: path.clone(),
        registers: Vec::new(),
        pages: Vec::new(),
        interrupts: Vec::new(),
        controllers: Vec::new(),
        dma: Dma::None,
    };
    let mut problems = Vec::new();
    if !node.is_enabled() {
        let mut upward = core::iter::once(node).chain(node.ancestors());
        let off = upward.find(|node| node.status() != Status::Okay);
        let name = off.map_or_else(|| path.clone(), Node::path);
        problems.push(Problem::DeviceDisabled { partition: partition.clone(), device: path.clone(), node: name });
    }
    read_registers(&mut claim, &partition, &mut problems);
    read_interrupts(&mut claim, context, &partition, &mut problems);
    let master = node.subtree().find_map(master::is_bus_master);
    if device.unsafe_dma || master.is_some() {
        claim.dma = Dma::Unprotected(master::quiesce(node));
    }
    if let Some(why) = master.filter(|_| !device.unsafe_dma) {
        let why = alloc::format!("by `{why}`");
        problems.push(Problem::UnsafeDma { partition, device: path, why });
    }
    (Some(claim), problems)
}

fn absent(draft: &Draft<'_>, device: &str, error: &FindError) -> Problem {
    let nearest = match error {
        FindError::Unknown { nearest, .. } => nearest.clone(),
        FindError::Ambiguous { candidates, .. } => candidates.clone(),
        FindError::Dangling { .. } => Vec::new(),
    };
    Problem::DeviceAbsent { partition: draft.name(), device: device.to_string(), nearest }
}

/// Returns what a node is to the hypervisor, if no partition can have it.
fn role(node: Node<'_>, context: &Context<'_>) -> Option<&'static str> {
    let board = context.board;
    let path = node.path();
    let is_in = |top: &str| path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    let is_device_type = |kind: &str| node.property("device_type").and_then(Property::as_str) == Some(kind);
    if path == "/" || ["/chosen", "/aliases", "/__symbols__"].into_iter().any(is_in) {
        return Some("no device");
    }
    if board.console.as_ref().is_some_and(|uart| uart.path == path) {
        return Some("the hypervisor's console");
    }
    if is_in(&board.gic.path) || board.gic.children.iter().any(|child| child.path == path) {
        return Some("the interrupt controller, which every partition sees a copy of");
    }
    if node.is_compatible("arm,armv8-timer") || node.is_compatible("arm,armv7-timer") {
        return Some("the generic timer, which every partition has");
    }
    if is_in("/cpus") {
        return Some("a part of the CPUs; use `cpus`");
    }
    if is_device_type("memory") || is_in("/reserved-memory") {
        return Some("memory; use `memory`");
    }
    if node.compatible().any(|text| text.starts_with("arm,psci")) {
        return Some("the firmware, which the hypervisor stands in for");
    }
    is_device_type("pci").then_some("a PCI host bridge, whose windows the hypervisor does not confine yet")
}

/// Reads the registers of a device and of what sits on its bus.
fn read_registers(claim: &mut Claim<'_>, partition: &str, problems: &mut Vec<Problem>) {
    let node = claim.node;
    let unreadable = |property: &str| Problem::DeviceUnreadable {
        partition: partition.to_string(),
        device: node.path(),
        property: property.to_string(),
    };
    match node.reg() {
        Ok(entries) => claim.registers.extend(entries.iter().filter_map(RegEntry::range)),
        Err(_) => problems.push(unreadable("reg")),
    }
    // A bus of nothing but other devices is given by naming these.
    let is_plain_bus = node.is_compatible("simple-bus") || node.is_compatible("simple-pm-bus");
    if !is_plain_bus {
        for below in node.subtree().skip(1).filter(|below| below.is_enabled()) {
            // What does not translate is on a bus of the device's own, such as I2C.
            let entries = below.reg().unwrap_or_default();
            claim.registers.extend(entries.iter().filter_map(RegEntry::range));
        }
    }
    if claim.registers.is_empty() && problems.is_empty() {
        let (partition, device) = (partition.to_string(), node.path());
        problems.push(Problem::DeviceWithoutRegisters { partition, device });
    }
    let mut pages: Vec<PaRange> = Vec::new();
    for registers in &claim.registers {
        match registers.align_out(PAGE_SIZE) {
            Some(range) => pages.push(range),
            None => problems.push(unreadable("reg")),
        }
    }
    claim.pages = pages::merge(pages);
}

/// Reads the interrupts of a device and of what sits below it.
fn read_interrupts<'a>(claim: &mut Claim<'a>, context: &Context<'_>, partition: &str, problems: &mut Vec<Problem>) {
    for node in claim.node.subtree().filter(|node| node.is_enabled()) {
        let (partition, device) = (partition.to_string(), node.path());
        let unreadable = |property: &str| Problem::DeviceUnreadable {
            partition: partition.clone(),
            device: device.clone(),
            property: property.to_string(),
        };
        let Ok(interrupts) = node.interrupts() else {
            problems.push(unreadable("interrupts"));
            continue;
        };
        for interrupt in interrupts {
            if interrupt.controller.path() != context.board.gic.path {
                claim.controllers.push(interrupt.controller);
                continue;
            }
            let Some((intid, trigger)) = gic_interrupt(interrupt.cells()) else {
                problems.push(unreadable("interrupts"));
                continue;
            };
            let (partition, device) = (partition.clone(), device.clone());
            if !intid.is_spi() {
                problems.push(Problem::InterruptPrivate { partition, device, intid });
                continue;
            }
            let console = context.board.console.as_ref().and_then(|uart| uart.interrupt);
            if console.is_some_and(|(console, _)| console == intid) {
                problems.push(Problem::InterruptOfHypervisor { partition, device, intid });
                continue;
            }
            // Two nodes of a device, or one twice, may name one line.
            if claim.interrupts.iter().all(|line| line.intid != intid) {
                claim.interrupts.push(InterruptPlan { intid, trigger });
            }
        }
    }
}

/// Finds devices that one partition was given twice, or together with what they are a part of.
fn not_twice(draft: &mut Draft<'_>) {
    let mut found = Vec::new();
    for (place, claim) in draft.claims.iter().enumerate() {
        let mut earlier = draft.claims.iter().take(place);
        if earlier.any(|other| other.has(claim.node) || claim.has(other.node)) {
            let problem =
                Problem::DeviceTwice { device: claim.path.clone(), first: draft.name(), second: draft.name() };
            found.push((claim.index, problem));
        }
    }
    for (index, problem) in found {
        draft.fail(Key::Device(index), problem);
    }
}

/// Finds interrupts that go to a controller that is neither the GIC nor the partition's.
fn interrupts_are_routed(draft: &mut Draft<'_>) {
    let mut found = Vec::new();
    for claim in &draft.claims {
        for controller in &claim.controllers {
            if draft.claims.iter().any(|owner| owner.has(*controller)) {
                continue;
            }
            let (partition, device) = (draft.name(), claim.path.clone());
            let problem = Problem::InterruptNotRouted { partition, device, controller: controller.path() };
            found.push((claim.index, problem));
        }
    }
    for (index, problem) in found {
        draft.fail(Key::Device(index), problem);
    }
}

/// Finds devices and interrupts that two partitions were given.
pub(super) fn compare(drafts: &mut [Draft<'_>]) {
    draft::each_pair(drafts, |first, second| {
        for (key, other, problem) in shared(first, second) {
            draft::conflict(first, key, second, other, problem);
        }
    });
}

fn shared(first: &Draft<'_>, second: &Draft<'_>) -> Vec<(Key, Key, Problem)> {
    let mut found = Vec::new();
    for ours in &first.claims {
        for theirs in &second.claims {
            let keys = (Key::Device(ours.index), Key::Device(theirs.index));
            if ours.has(theirs.node) || theirs.has(ours.node) {
                let problem =
                    Problem::DeviceTwice { device: theirs.path.clone(), first: first.name(), second: second.name() };
                found.push((keys.0, keys.1, problem));
                continue;
            }
            for line in &ours.interrupts {
                if theirs.interrupts.iter().all(|other| other.intid != line.intid) {
                    continue;
                }
                let problem = Problem::InterruptShared {
                    intid: line.intid,
                    device: ours.path.clone(),
                    first: first.name(),
                    other_device: theirs.path.clone(),
                    second: second.name(),
                };
                found.push((keys.0, keys.1, problem));
            }
        }
    }
    found
}
