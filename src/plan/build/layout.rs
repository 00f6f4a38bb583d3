// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's view: its interrupt controller, console and devices where the board has them, its RAM, nothing twice.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::draft::Draft;
use super::in_place;
use super::memory::Piece;
use super::{Context, IPA_END, images};
use crate::addr::{Ipa, IpaRange, PAGE_SIZE, Pa};
use crate::config::{Console, Delivery};
use crate::id::{Intid, VcpuId, Vmid};
use crate::plan::board::{Board, GicVersion};
use crate::plan::error::{Key, Problem};
use crate::plan::types::{
    ConsolePlan, DeviceMapping, DevicePlan, GuestGic, InterruptPlan, MemoryPlan, PartitionPlan, Reach, VcpuPlan,
};

/// The RD and SGI frames of one GICv3 redistributor.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;

/// Something at guest addresses.
struct Window {
    range: IpaRange,
    what: String,
    key: Key,
}

/// Lays a partition out, or records why it cannot be. Without `places` the pieces' guest addresses alone are looked at,
/// as far as they are known, and nothing is returned.
pub(super) fn lay_out(
    draft: &mut Draft<'_>,
    context: &Context<'_>,
    places: Option<&[MemoryPlan]>,
) -> Option<PartitionPlan> {
    let memory: Vec<MemoryPlan> = match places {
        Some(places) => places.to_vec(),
        // Without all its memory, that something does not fit in it would be said in vain.
        None if draft.pieces.is_empty() || draft.pieces.len() != draft.spec.memory.len() => {
            return None;
        }
        None => draft.pieces.iter().map(provisional).collect::<Option<_>>()?,
    };
    let interrupts = interrupts(draft);
    let console = console(draft, context.board, &interrupts);
    let partition = PartitionPlan {
        id: draft.id,
        name: draft.name(),
        vmid: Vmid::new(draft.id.get().saturating_add(1)),
        vcpus: vcpus(draft, context.board),
        memory,
        mappings: mappings(draft),
        interrupts,
        delivery: draft.spec.delivery,
        devices: devices(draft),
        gic: gic(draft, context.board)?,
        console,
        load: Vec::new(),
        entry: Ipa::default(),
        device_tree: None,
        on_fault: draft.spec.on_fault,
        autostart: draft.spec.autostart,
        boot: draft.spec.boot,
        restart: draft.spec.restart,
    };
    check_windows(draft, &partition);
    let mut partition = images::place(draft, context, partition).filter(|_| draft.is_sound())?;
    in_place::apply(&mut partition, context);
    Some(partition)
}

/// Returns a piece with no physical place, when its guest address is known.
fn provisional(piece: &Piece) -> Option<MemoryPlan> {
    Some(MemoryPlan { ipa: piece.ipa()?, pa: Pa::default(), size: piece.size })
}

fn vcpus(draft: &Draft<'_>, board: &Board) -> Vec<VcpuPlan> {
    let cpus = draft.spec.cpus.iter().zip(0..);
    cpus.filter_map(|(cpu, id)| Some(VcpuPlan { id: VcpuId::new(id), cpu: *cpu, mpidr: board.cpu(*cpu)?.mpidr }))
        .collect()
}

/// Returns the SPIs of all devices, each once.
fn interrupts(draft: &Draft<'_>) -> Vec<InterruptPlan> {
    let mut all: Vec<InterruptPlan> = draft.claims.iter().flat_map(|claim| claim.interrupts.iter().copied()).collect();
    crate::order::sort_by_key(&mut all, |line| line.intid);
    all.dedup_by_key(|line| line.intid);
    all
}

/// Returns the pages of all devices, joined, IPA = PA.
fn mappings(draft: &Draft<'_>) -> Vec<DeviceMapping> {
    let pages = draft.claims.iter().flat_map(|claim| claim.pages.iter().copied()).collect();
    let mapping = |range: crate::addr::PaRange| DeviceMapping {
        ipa: Ipa::new(range.start().get()),
        pa: range.start(),
        size: range.size(),
    };
    super::pages::merge(pages).into_iter().map(mapping).collect()
}

fn devices(draft: &Draft<'_>) -> Vec<DevicePlan> {
    let given = draft.claims.iter().map(|claim| DevicePlan {
        path: claim.path.clone(),
        registers: claim.registers.clone(),
        reach: Reach::Given,
        interrupts: claim.interrupts.iter().map(|line| line.intid).collect(),
        dma: claim.dma,
    });
    given.chain(draft.tenants.iter().cloned()).collect()
}

/// Returns the interrupt controller at the board's own addresses.
fn gic(draft: &Draft<'_>, board: &Board) -> Option<GuestGic> {
    let as_seen = |start: Pa, size| IpaRange::new(Ipa::new(start.get()), size);
    match &board.gic.version {
        GicVersion::V2 { distributor, virtual_interface, guest_interface, .. } => Some(GuestGic::V2 {
            distributor: as_seen(distributor.start(), distributor.size())?,
            cpu_interface: IpaRange::new(*guest_interface, virtual_interface.size())?,
            virtual_interface: *virtual_interface,
        }),
        GicVersion::V3 { distributor, redistributors, .. } => {
            let count = u64::try_from(draft.spec.cpus.len().max(1)).ok()?;
            let size = count.checked_mul(REDISTRIBUTOR_SIZE)?;
            Some(GuestGic::V3 {
                distributor: as_seen(distributor.start(), distributor.size())?,
                redistributors: as_seen(redistributors.first()?.start(), size)?,
            })
        }
    }
}

/// Returns the emulated console, at the address and with the interrupt of the board's own where it can.
fn console(draft: &mut Draft<'_>, board: &Board, interrupts: &[InterruptPlan]) -> Option<ConsolePlan> {
    let asked = match draft.spec.console {
        Console::None => return None,
        Console::Virtual { ipa } => ipa,
    };
    let uart = board.console.as_ref();
    let of_board = uart.map(|uart| Ipa::new(uart.registers.start().get()).align_down(PAGE_SIZE));
    let Some(ipa) = asked.or(of_board) else {
        draft.fail(Key::Console, Problem::ConsoleWithoutAddress { partition: draft.name() });
        return None;
    };
    if !ipa.is_aligned(PAGE_SIZE) {
        let (partition, value) = (draft.name(), ipa.get());
        draft.fail(Key::Console, Problem::Misaligned { partition, what: "the console's ipa", value, align: PAGE_SIZE });
        return None;
    }
    let is_free = |intid: &Intid| interrupts.iter().all(|line| line.intid != *intid);
    let of_uart = uart.and_then(|uart| uart.interrupt).map(|(intid, _)| intid).filter(|intid| intid.is_spi());
    let intid = match draft.spec.delivery {
        Delivery::Virtual => of_uart.filter(is_free).or_else(|| (32..1020).map(Intid::new).find(is_free)),
        Delivery::Direct => draft.spare,
    };
    let intid = intid?;
    let range = IpaRange::new(ipa, PAGE_SIZE);
    if range.is_none() {
        let address = u64::MAX;
        let (partition, what) = (draft.name(), String::from("the console"));
        draft.fail(Key::Console, Problem::AddressTooHigh { partition, what, address, limit: IPA_END });
    }
    Some(ConsolePlan { range: range?, intid })
}

/// Lists everything that has a guest address.
fn windows(draft: &Draft<'_>, partition: &PartitionPlan) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut add = |range: Option<IpaRange>, what: &str, key: Key| {
        windows.extend(range.map(|range| Window { range, what: what.to_string(), key }));
    };
    for (piece, place) in draft.pieces.iter().zip(&partition.memory) {
        add(place.ipa_range(), "memory", Key::Memory(piece.index));
    }
    match partition.gic {
        GuestGic::V2 { distributor, cpu_interface, .. } => {
            add(distributor.align_out(PAGE_SIZE), "its interrupt distributor", Key::Table);
            add(Some(cpu_interface), "its interrupt CPU interface", Key::Table);
        }
        GuestGic::V3 { distributor, redistributors } => {
            add(distributor.align_out(PAGE_SIZE), "its interrupt distributor", Key::Table);
            add(Some(redistributors), "its interrupt redistributors", Key::Table);
        }
    }
    if let Some(console) = partition.console {
        add(Some(console.range), "its console", Key::Console);
    }
    for mapping in &partition.mappings {
        let inside = |claim: &&super::devices::Claim<'_>| {
            claim
                .pages
                .iter()
                .any(|page| page.start() >= mapping.pa && page.start().offset_from(mapping.pa) < Some(mapping.size))
        };
        if let Some(claim) = draft.claims.iter().find(inside) {
            add(IpaRange::new(mapping.ipa, mapping.size), &claim.path, Key::Device(claim.index));
        }
    }
    windows
}

/// Records windows that overlap or lie too high.
fn check_windows(draft: &mut Draft<'_>, partition: &PartitionPlan) {
    let mut windows = windows(draft, partition);
    // What is wrong with something itself comes first.
    windows.retain(|window| !draft.has_error_at(window.key));
    crate::order::sort_by_key(&mut windows, |window| (window.range, window.key));
    for window in &windows {
        let address = window.range.end().get();
        if address > IPA_END {
            let (partition, what) = (draft.name(), window.what.clone());
            draft.fail(window.key, Problem::AddressTooHigh { partition, what, address, limit: IPA_END });
        }
    }
    // The widest of those before is the one that reaches furthest, so comparing with it alone misses no window.
    let mut widest: Option<&Window> = None;
    for window in &windows {
        if let Some(before) = widest.filter(|before| before.range.overlaps(&window.range)) {
            // What the author can move is named as the place.
            let place = if window.key == Key::Table { before } else { window };
            let problem = Problem::WindowsOverlap {
                partition: draft.name(),
                first: before.what.clone(),
                first_range: before.range,
                second: window.what.clone(),
                second_range: window.range,
            };
            draft.fail(place.key, problem);
        }
        if widest.is_none_or(|before| before.range.end() < window.range.end()) {
            widest = Some(window);
        }
    }
}
