// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carves a board. Every partition is looked at alone, then against the others, then given its memory, then laid out;
//! one that fails is refused with all that was found, and the others are carved without it.

mod cpus;
mod delivery;
mod devices;
mod draft;
mod housekeeping;
mod images;
mod in_place;
mod layout;
mod memory;
mod pages;
mod space;

use alloc::string::String;
use alloc::vec::Vec;

use super::board::{Board, CpuEnable, GicVersion};
use super::error::{Key, Place, PlanError, Problem};
use super::types::{HypervisorRange, Outcome, PartitionPlan, Placement, Plan, Refusal};
use crate::addr::{PAGE_SIZE, PaRange};
use crate::config::{FileRange, Manifest};
use crate::devicetree::DeviceTree;
use crate::id::{MAX_PARTITIONS, PartitionId};
use draft::Draft;

/// Where guest-physical addresses end: what a 4-level stage 2 can map.
const IPA_END: u64 = 1 << 48;

/// What every step looks at.
struct Context<'a> {
    board: &'a Board,
    tree: &'a DeviceTree,
    placement: &'a Placement,
    /// What no partition may map.
    kept: Vec<HypervisorRange>,
    /// The nodes with registers.
    tenants: Vec<pages::Tenant<'a>>,
    /// All files of all partitions.
    files: Vec<FileRange>,
}

/// Carves a board as a manifest says. Two partitions that want one thing are both refused.
#[inline(never)]
pub fn build(manifest: &Manifest, board: &Board, tree: &DeviceTree, placement: &Placement) -> Outcome {
    let context = Context {
        board,
        tree,
        placement,
        kept: kept(board, placement),
        tenants: pages::tenants(tree),
        files: in_place::files(manifest),
    };
    let mut errors = Vec::new();
    if manifest.partitions.len() > MAX_PARTITIONS {
        let problem = Problem::TooManyPartitions { count: manifest.partitions.len() };
        let at = Place { partition: None, key: Key::Table };
        errors.push(PlanError { at, other: None, problem });
    }
    let specs = manifest.partitions.iter().take(MAX_PARTITIONS).zip(0..);
    let mut drafts: Vec<Draft<'_>> = specs.map(|(spec, id)| Draft::new(PartitionId::new(id), spec)).collect();
    for draft in &mut drafts {
        cpus::check(draft, &context);
        delivery::check(draft, &context);
        devices::resolve(draft, &context);
        memory::check(draft, &context);
    }
    no_name_twice(&mut drafts);
    cpus::compare(&mut drafts);
    pages::compare(&mut drafts, &context);
    devices::compare(&mut drafts);
    memory::compare(&mut drafts);
    delivery::give_spares(&mut drafts, &context);
    let carved = carve(&mut drafts, &context);
    finish(manifest, context, drafts, carved, errors)
}

/// Gives memory to the partitions that can run and lays them out, until all that are left fit.
fn carve(drafts: &mut [Draft<'_>], context: &Context<'_>) -> Vec<PartitionPlan> {
    // Each round but the last refuses a partition.
    for _ in 0..=MAX_PARTITIONS {
        let places = memory::allocate(drafts, context);
        let mut carved = Vec::new();
        let mut failed = false;
        for (draft, places) in drafts.iter_mut().zip(places).filter(|(draft, _)| draft.is_sound()) {
            match layout::lay_out(draft, context, Some(&places)) {
                Some(partition) => carved.push(partition),
                None => failed = true,
            }
        }
        if !failed {
            // What does not depend on physical places is looked at in the others too, so that all errors are seen.
            for draft in drafts.iter_mut().filter(|draft| !draft.is_sound()) {
                layout::lay_out(draft, context, None);
            }
            return carved;
        }
        // One that did not fit may, now that another gave its memory back.
        drafts.iter_mut().for_each(Draft::forget_shortage);
    }
    Vec::new()
}

/// Lists what no partition may map.
fn kept(board: &Board, placement: &Placement) -> Vec<HypervisorRange> {
    let mut kept = Vec::new();
    let mut keep = |range: PaRange, what: &str| {
        let range = range.align_out(PAGE_SIZE).unwrap_or(range);
        kept.push(HypervisorRange { range, what: String::from(what) });
    };
    keep(placement.hypervisor, "the hypervisor");
    keep(placement.bundle, "the bundle");
    for reserved in &board.reserved {
        keep(reserved.range, &reserved.name);
    }
    for region in &board.gic.regions {
        match board.gic.version {
            // The two pages of GICV that guests map are cut out of their region.
            GicVersion::V2 { virtual_interface, .. } if region.overlaps(&virtual_interface) => {
                let below = PaRange::between(region.start(), virtual_interface.start());
                let above = PaRange::between(virtual_interface.end(), region.end());
                for rest in [below, above].into_iter().flatten() {
                    keep(rest, &board.gic.path);
                }
            }
            _ => keep(*region, &board.gic.path),
        }
    }
    for child in &board.gic.children {
        for registers in &child.registers {
            keep(*registers, &child.path);
        }
    }
    if let Some(uart) = &board.console {
        keep(uart.registers, &uart.path);
    }
    // Whoever writes there makes a parked CPU run at EL2.
    for cpu in &board.cpus {
        if let CpuEnable::SpinTable { release } = cpu.enable
            && let Some(range) = PaRange::new(release, 8)
        {
            keep(range, &cpu.path);
        }
    }
    kept
}

fn no_name_twice(drafts: &mut [Draft<'_>]) {
    draft::each_pair(drafts, |first, second| {
        if first.spec.name == second.spec.name {
            let problem = Problem::DuplicateName { name: first.spec.name.clone() };
            draft::conflict(first, Key::Table, second, Key::Table, problem);
        }
    });
}

fn finish(
    manifest: &Manifest,
    context: Context<'_>,
    drafts: Vec<Draft<'_>>,
    partitions: Vec<PartitionPlan>,
    errors: Vec<PlanError>,
) -> Outcome {
    let (housekeeping, replaced) = housekeeping::choose(manifest, context.board, &partitions);
    let refused = drafts.into_iter().filter(|draft| !draft.is_sound());
    Outcome {
        refused: refused
            .map(|draft| Refusal { id: draft.id, name: draft.spec.name.clone(), errors: draft.into_errors() })
            .collect(),
        plan: Plan { hypervisor: context.kept, housekeeping, partitions },
        errors,
        replaced: replaced.into_iter().collect(),
    }
}
