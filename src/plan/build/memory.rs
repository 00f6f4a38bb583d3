// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM: what the file states is checked, the rest is chosen. Stated places first; then those that bus masters must
//! reach, lowest; then the others, largest first. PA and IPA agree within a 2 MiB block, so that stage 2 maps blocks.

use alloc::string::String;
use alloc::vec::Vec;

use super::draft::{self, Draft};
use super::space::{Fit, Space};
use super::{Context, IPA_END};
use crate::addr::{BLOCK_SIZE, Ipa, PAGE_SIZE, Pa, PaRange};
use crate::config::Memory;
use crate::plan::error::{Key, Problem};
use crate::plan::types::{Dma, MemoryPlan};

/// The size of a level-1 block with the 4 KiB granule, in bytes.
const LARGE_BLOCK: u64 = 1 << 30;
/// Sixteen 2 MiB blocks, which one TLB entry can hold by the contiguous hint.
const CONTIGUOUS_BLOCKS: u64 = 16 * BLOCK_SIZE;
/// All physical addresses.
const EVERYWHERE: (Pa, Pa) = (Pa::new(0), Pa::new(u64::MAX));

/// A piece of RAM as far as it is stated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Its place in `memory`.
    pub(super) index: usize,
    pub(super) size: u64,
    pub(super) at: Stated,
}

/// What is stated of a piece's place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stated {
    /// All of it.
    Both(Ipa, Pa),
    /// The guest's address; any PA fits that agrees with it within a block.
    Ipa(Ipa),
    /// Nothing, and IPA = PA.
    Identity,
}

impl Piece {
    /// Returns the guest's address, if it is stated.
    pub(super) fn ipa(&self) -> Option<Ipa> {
        match self.at {
            Stated::Both(ipa, _) | Stated::Ipa(ipa) => Some(ipa),
            Stated::Identity => None,
        }
    }

    /// Returns the stated physical range.
    fn pa_range(&self) -> Option<PaRange> {
        match self.at {
            Stated::Both(_, pa) => PaRange::new(pa, self.size),
            Stated::Ipa(_) | Stated::Identity => None,
        }
    }
}

/// Checks what a partition states of its memory, and fills in the guest's addresses.
pub(super) fn check(draft: &mut Draft<'_>, context: &Context<'_>) {
    let spec = draft.spec;
    if spec.memory.is_empty() {
        draft.fail(Key::Table, Problem::NoMemory { partition: draft.name() });
    }
    let first = context.board.memory.first();
    let mut next = first.and_then(|ram| ram.start().align_up(BLOCK_SIZE)).map(|start| Ipa::new(start.get()));
    for (index, memory) in spec.memory.iter().enumerate() {
        if !is_aligned(draft, index, memory) {
            continue;
        }
        let Some(at) = place(draft, index, memory, next) else {
            continue;
        };
        let piece = Piece { index, size: memory.size, at };
        next = piece.ipa().and_then(|ipa| ipa.checked_add(memory.size));
        if piece.ipa().is_some() && next.is_none_or(|end| end.get() > IPA_END) {
            too_high(draft, &piece);
            continue;
        }
        if let Some(range) = piece.pa_range() {
            check_stated(draft, context, index, range);
        }
        draft.pieces.push(piece);
    }
}

fn too_high(draft: &mut Draft<'_>, piece: &Piece) {
    let address = piece.ipa().unwrap_or_default().get().saturating_add(piece.size);
    let (partition, what) = (draft.name(), String::from("memory"));
    let problem = Problem::AddressTooHigh { partition, what, address, limit: IPA_END };
    draft.fail(Key::Memory(piece.index), problem);
}

fn is_aligned(draft: &mut Draft<'_>, index: usize, memory: &Memory) -> bool {
    if memory.size == 0 {
        draft.fail(Key::Memory(index), Problem::NoMemory { partition: draft.name() });
        return false;
    }
    let addresses = [("ipa", memory.ipa.map(Ipa::get)), ("pa", memory.pa.map(Pa::get)), ("size", Some(memory.size))];
    let mut all = true;
    for (what, value) in addresses {
        let Some(value) = value.filter(|value| value % PAGE_SIZE != 0) else {
            continue;
        };
        let problem = Problem::Misaligned { partition: draft.name(), what, value, align: PAGE_SIZE };
        draft.fail(Key::Memory(index), problem);
        all = false;
    }
    all
}

/// Decides what is fixed of a piece's place.
fn place(draft: &mut Draft<'_>, index: usize, memory: &Memory, next: Option<Ipa>) -> Option<Stated> {
    if let Some(device) = master(draft) {
        return match (memory.ipa, memory.pa) {
            (Some(ipa), Some(pa)) if ipa.get() != pa.get() => {
                let problem = Problem::DmaNotIdentity { partition: draft.name(), device, ipa, pa };
                draft.fail(Key::Memory(index), problem);
                None
            }
            (Some(ipa), _) => Some(Stated::Both(ipa, Pa::new(ipa.get()))),
            (None, Some(pa)) => Some(Stated::Both(Ipa::new(pa.get()), pa)),
            (None, None) => Some(Stated::Identity),
        };
    }
    let block_offset = |address: u64| address & (BLOCK_SIZE - 1);
    match (memory.ipa, memory.pa) {
        (Some(ipa), Some(pa)) if block_offset(ipa.get()) != block_offset(pa.get()) => {
            let problem = Problem::Incongruent { partition: draft.name(), ipa, pa };
            draft.fail(Key::Memory(index), problem);
            None
        }
        (Some(ipa), Some(pa)) => Some(Stated::Both(ipa, pa)),
        (Some(ipa), None) => Some(Stated::Ipa(ipa)),
        (None, Some(pa)) => {
            let fit = Fit { align: BLOCK_SIZE, offset: block_offset(pa.get()) };
            Some(Stated::Both(Ipa::new(fit.first(next?.get())?), pa))
        }
        (None, None) => Some(Stated::Ipa(next?)),
    }
}

/// Returns the first device of a partition that sees physical addresses.
fn master(draft: &Draft<'_>) -> Option<String> {
    let given = draft.claims.iter().find(|claim| claim.dma != Dma::None).map(|claim| claim.path.clone());
    given.or_else(|| draft.tenants.iter().find(|tenant| tenant.dma != Dma::None).map(|tenant| tenant.path.clone()))
}

/// Checks a stated physical range against the board.
fn check_stated(draft: &mut Draft<'_>, context: &Context<'_>, index: usize, range: PaRange) {
    let ram = &context.board.memory;
    if !ram.iter().any(|piece| piece.contains_range(&range)) {
        let problem = Problem::OutsideRam { partition: draft.name(), range, ram: ram.clone() };
        draft.fail(Key::Memory(index), problem);
    }
    for kept in context.kept.iter().filter(|kept| kept.range.overlaps(&range)) {
        let (partition, owner, taken) = (draft.name(), kept.what.clone(), kept.range);
        draft.fail(Key::Memory(index), Problem::MemoryTaken { partition, range, owner, taken });
    }
}

/// Finds stated ranges that overlap, within a partition and between two.
pub(super) fn compare(drafts: &mut [Draft<'_>]) {
    let stated = |draft: &Draft<'_>| -> Vec<(usize, PaRange)> {
        draft.pieces.iter().filter_map(|piece| Some((piece.index, piece.pa_range()?))).collect()
    };
    for draft in drafts.iter_mut() {
        let ranges = stated(draft);
        for (place, (index, range)) in ranges.iter().enumerate() {
            let earlier = ranges.iter().take(place).find(|(_, earlier)| earlier.overlaps(range));
            let Some((_, taken)) = earlier.copied() else {
                continue;
            };
            let (partition, owner) = (draft.name(), String::from("another piece of it"));
            draft.fail(Key::Memory(*index), Problem::MemoryTaken { partition, range: *range, owner, taken });
        }
    }
    draft::each_pair(drafts, |first, second| {
        let theirs = stated(second);
        for (index, range) in stated(first) {
            for (other, taken) in theirs.iter().copied().filter(|(_, taken)| taken.overlaps(&range)) {
                let owner = alloc::format!("partition `{}`", second.name());
                let problem = Problem::MemoryTaken { partition: first.name(), range, owner, taken };
                draft::conflict(first, Key::Memory(index), second, Key::Memory(other), problem);
            }
        }
    });
}

/// A partition's place in `drafts` and its piece's place in `pieces`.
type Which = (usize, usize);

/// Why an allocation ended: the piece that found no room, and what was left.
struct Shortage {
    which: Which,
    free: u64,
    largest: u64,
}

/// Gives each sound partition its RAM, and refuses those for which there is none. Returns a list for each draft, in
/// the order of its pieces.
pub(super) fn allocate(drafts: &mut [Draft<'_>], context: &Context<'_>) -> Vec<Vec<MemoryPlan>> {
    let all_free = Space::new(&context.board.memory, context.kept.iter().map(|kept| kept.range));
    loop {
        // Large blocks are worth a try, but not a partition.
        let tried = allocate_with(drafts, all_free.clone(), LARGE_BLOCK);
        let tried = tried.or_else(|_| allocate_with(drafts, all_free.clone(), CONTIGUOUS_BLOCKS));
        let shortage = match tried.or_else(|_| allocate_with(drafts, all_free.clone(), BLOCK_SIZE)) {
            Ok(places) => return places,
            Err(shortage) => shortage,
        };
        // Each round refuses a sound partition, so the loop ends.
        let Some(draft) = drafts.get_mut(shortage.which.0) else {
            return Vec::new();
        };
        let piece = draft.pieces.get(shortage.which.1).copied();
        let board: u64 = context.board.memory.iter().fold(0, |sum, ram| sum.saturating_add(ram.size()));
        let problem = Problem::OutOfMemory {
            partition: draft.name(),
            needs: piece.map_or(0, |piece| piece.size),
            board,
            kept: board.saturating_sub(all_free.total()),
            free: shortage.free,
            largest: shortage.largest,
        };
        draft.fail(Key::Memory(piece.map_or(0, |piece| piece.index)), problem);
    }
}

/// Gives all sound partitions their RAM, or none.
fn allocate_with(drafts: &[Draft<'_>], mut space: Space<Pa>, large: u64) -> Result<Vec<Vec<MemoryPlan>>, Shortage> {
    let mut order: Vec<(Which, Piece)> = Vec::new();
    for (index, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.is_sound()) {
        order.extend(draft.pieces.iter().enumerate().map(|(place, piece)| ((index, place), *piece)));
    }
    crate::order::sort_by_key(&mut order, |(which, piece)| {
        let rank = match piece.at {
            Stated::Both(..) => 0,
            Stated::Identity => 1,
            Stated::Ipa(_) => 2,
        };
        (rank, core::cmp::Reverse(piece.size), *which)
    });
    let mut found: Vec<(Which, MemoryPlan)> = Vec::new();
    for (which, piece) in order {
        let Some(place) = find(&space, &piece, large) else {
            return Err(Shortage { which, free: space.total(), largest: space.largest() });
        };
        if let Some(range) = place.pa_range() {
            space.take(&range);
        }
        found.push((which, place));
    }
    crate::order::sort_by_key(&mut found, |(which, _)| *which);
    let of = |index| found.iter().filter(move |((draft, _), _)| *draft == index).map(|(_, place)| *place);
    Ok((0..drafts.len()).map(|index| of(index).collect()).collect())
}

/// Finds the place of one piece.
fn find(space: &Space<Pa>, piece: &Piece, large: u64) -> Option<MemoryPlan> {
    let size = piece.size;
    let fits = [LARGE_BLOCK, CONTIGUOUS_BLOCKS].into_iter().find(|align| *align <= large && *align <= size);
    let align = fits.unwrap_or(BLOCK_SIZE);
    let everywhere = PaRange::between(EVERYWHERE.0, EVERYWHERE.1)?;
    match piece.at {
        Stated::Both(ipa, pa) => Some(MemoryPlan { ipa, pa, size }),
        Stated::Identity => {
            let pa = space.find(size, Fit::aligned(align), &everywhere)?.start();
            Some(MemoryPlan { ipa: Ipa::new(pa.get()), pa, size })
        }
        Stated::Ipa(ipa) => {
            let fit = Fit { align, offset: ipa.get() & (align - 1) };
            let pa = space.find(size, fit, &everywhere)?.start();
            Some(MemoryPlan { ipa, pa, size })
        }
    }
}
