// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages of devices. Stage 2 gives whole pages, so that a device comes with all that shares a page with it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Context;
use super::devices::Claim;
use super::draft::{self, Draft};
use crate::addr::{PAGE_SIZE, PaRange};
use crate::devicetree::{DeviceTree, Node, Property, RegEntry};
use crate::plan::error::{Key, Problem};
use crate::plan::master;
use crate::plan::types::{DevicePlan, Dma, Reach};

/// A node with registers.
pub(super) struct Tenant<'a> {
    node: Node<'a>,
    registers: Vec<PaRange>,
    pages: Vec<PaRange>,
}

/// Lists all nodes with registers that the CPUs can reach. One that is disabled is there all the same.
pub(super) fn tenants(tree: &DeviceTree) -> Vec<Tenant<'_>> {
    let is_memory = |node: &Node<'_>| node.property("device_type").and_then(Property::as_str) == Some("memory");
    let tenant = |node: Node<'_>| {
        let entries = node.reg().unwrap_or_default();
        let registers: Vec<PaRange> = entries.iter().filter_map(RegEntry::range).collect();
        let pages = merge(registers.iter().filter_map(|range| range.align_out(PAGE_SIZE)).collect());
        (registers, pages)
    };
    let with = tree.nodes().filter(|node| !is_memory(node)).map(|node| (node, tenant(node)));
    with.filter(|(_, (_, pages))| !pages.is_empty())
        .map(|(node, (registers, pages))| Tenant { node, registers, pages })
        .collect()
}

/// Sorts ranges and joins those that touch.
pub(super) fn merge(mut ranges: Vec<PaRange>) -> Vec<PaRange> {
    crate::order::sort(&mut ranges);
    let mut merged: Vec<PaRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start() <= last.end() => {
                // Never `None`: the start stays and the end only grows.
                *last = PaRange::between(last.start(), last.end().max(range.end())).unwrap_or(*last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Returns the first range in which two lists overlap.
fn meeting(ours: &[PaRange], theirs: &[PaRange]) -> Option<PaRange> {
    ours.iter().find_map(|range| {
        let other = theirs.iter().find(|other| other.overlaps(range))?;
        PaRange::between(range.start().max(other.start()), range.end().min(other.end()))
    })
}

/// Checks the pages of a partition's devices against memory and the hypervisor, and lists what else is in them.
pub(super) fn check(draft: &mut Draft<'_>, context: &Context<'_>) {
    let mut problems = Vec::new();
    for claim in &draft.claims {
        problems.extend(in_memory(draft, claim, context).map(|problem| (claim.index, problem)));
        problems.extend(with_hypervisor(draft, claim, context).map(|problem| (claim.index, problem)));
    }
    let (tenants, unaccepted) = others(draft, context);
    problems.extend(unaccepted);
    for (index, problem) in problems {
        draft.fail(Key::Device(index), problem);
    }
    draft.tenants = tenants;
}

fn in_memory(draft: &Draft<'_>, claim: &Claim<'_>, context: &Context<'_>) -> Option<Problem> {
    let ram = context.board.memory.iter().map(|range| (*range, "RAM".to_string()));
    let reserved = context.board.reserved.iter().map(|reserved| (reserved.range, reserved.name.clone()));
    let (range, owner) = ram.chain(reserved).find(|(range, _)| meeting(&claim.pages, &[*range]).is_some())?;
    let range = meeting(&claim.pages, &[range])?;
    Some(Problem::DeviceInMemory { partition: draft.name(), device: claim.path.clone(), range, owner })
}

fn with_hypervisor(draft: &Draft<'_>, claim: &Claim<'_>, context: &Context<'_>) -> Option<Problem> {
    let gic = &context.board.gic;
    let kept = context.kept.iter().map(|kept| (kept.range, &kept.what));
    // GICV's pages are kept from nobody but are no device of anybody.
    let regions = gic.regions.iter().map(|range| (range.align_out(PAGE_SIZE).unwrap_or(*range), &gic.path));
    kept.chain(regions).find_map(|(range, tenant)| {
        let range = meeting(&claim.pages, &[range])?;
        let (partition, device) = (draft.name(), claim.path.clone());
        Some(Problem::PageOfHypervisor { partition, device, range, tenant: tenant.clone() })
    })
}

/// Lists what else lies in the pages of a partition's devices, and bus masters among it that nobody accepted.
fn others(draft: &Draft<'_>, context: &Context<'_>) -> (Vec<DevicePlan>, Vec<(usize, Problem)>) {
    let mut listed = Vec::new();
    let mut problems = Vec::new();
    for tenant in &context.tenants {
        if draft.claims.iter().any(|claim| claim.has(tenant.node)) {
            continue;
        }
        let mut beside =
            draft.claims.iter().filter_map(|claim| Some((claim, meeting(&claim.pages, &tenant.pages)?))).peekable();
        let Some((first, range)) = beside.peek().copied() else {
            continue;
        };
        let is_master = master::is_bus_master(tenant.node).is_some();
        let is_accepted = beside.any(|(claim, _)| claim.dma != Dma::None);
        if is_master && !is_accepted {
            let (partition, device) = (draft.name(), first.path.clone());
            let problem = Problem::PageWithMaster { partition, device, range, tenant: tenant.node.path() };
            problems.push((first.index, problem));
        }
        let dma = if is_master { Dma::Unprotected(master::quiesce(tenant.node)) } else { Dma::None };
        listed.push(DevicePlan {
            path: tenant.node.path(),
            registers: tenant.registers.clone(),
            reach: Reach::SharesPage,
            interrupts: Vec::new(),
            dma,
        });
    }
    (listed, problems)
}

/// Finds pages with devices of two partitions.
pub(super) fn compare(drafts: &mut [Draft<'_>], context: &Context<'_>) {
    draft::each_pair(drafts, |first, second| {
        for (key, other, problem) in shared(first, second, context) {
            draft::conflict(first, key, second, other, problem);
        }
    });
}

fn shared(first: &Draft<'_>, second: &Draft<'_>, context: &Context<'_>) -> Vec<(Key, Key, Problem)> {
    let mut found = Vec::new();
    for ours in &first.claims {
        for theirs in &second.claims {
            let Some(range) = meeting(&ours.pages, &theirs.pages) else {
                continue;
            };
            // That is said as "given twice".
            if ours.has(theirs.node) || theirs.has(ours.node) {
                continue;
            }
            let inside = context.tenants.iter().filter(|tenant| meeting(&tenant.pages, &[range]).is_some());
            let tenants: Vec<String> = inside.map(|tenant| tenant.node.path()).collect();
            let problem = Problem::PageShared {
                range,
                device: ours.path.clone(),
                first: first.name(),
                other_device: theirs.path.clone(),
                second: second.name(),
                tenants,
            };
            found.push((Key::Device(ours.index), Key::Device(theirs.index), problem));
        }
    }
    found
}
