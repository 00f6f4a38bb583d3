// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel, device tree and initrd in a partition's RAM, as the arm64 boot protocol wants them (Linux,
//! Documentation/arch/arm64/booting.rst): the kernel `text_offset` from a 2 MiB boundary with `image_size` bytes free,
//! the tree on 8 bytes and at most 2 MiB, the initrd in a 1 GiB-aligned window of 32 GiB that holds the kernel too.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Context;
use super::draft::Draft;
use super::space::{Fit, Space};
use crate::addr::{BLOCK_SIZE, Ipa, IpaRange, PAGE_SIZE};
use crate::config::{DeviceTreeAt, FileRange, Kernel, Segment};
use crate::plan::error::{Key, Problem};
use crate::plan::tree::guest_tree;
use crate::plan::types::{LoadPlan, PartitionPlan, TreePlan};

/// The largest device tree that Linux maps.
const TREE_LIMIT: u64 = 2 << 20;
/// The window that holds kernel and initrd, and its alignment.
const WINDOW: u64 = 32 << 30;
const WINDOW_ALIGN: u64 = 1 << 30;

/// What is to be placed, for messages.
struct Sizes {
    kernel: u64,
    initrd: u64,
    tree: u64,
}

/// Places what is loaded, and writes the guest's device tree.
pub(super) fn place(
    draft: &mut Draft<'_>,
    context: &Context<'_>,
    mut partition: PartitionPlan,
) -> Option<PartitionPlan> {
    let ram: Vec<IpaRange> = partition.memory.iter().filter_map(|piece| piece.ipa_range()).collect();
    let spec = draft.spec;
    for (key, what, file) in files(draft) {
        let end = file.offset.checked_add(file.size);
        let bundle = context.placement.bundle.size();
        if end.is_none_or(|end| end > bundle) {
            let (partition, offset, size) = (draft.name(), file.offset, file.size);
            draft.fail(key, Problem::FileOutsideBundle { partition, what, offset, size, bundle });
        }
    }
    partition.load = kernel(draft, &ram)?;
    partition.entry = entry(draft, &partition.load, &ram)?;
    let mut space = Space::new(&ram, partition.load.iter().map(|load| load.range));
    let end = partition.load.iter().map(|load| load.range.end()).max()?;
    let initrd_size = spec.initrd.map(|file| file.size);
    // Every address in the tree has a fixed width, so that a first draft tells the size.
    let first = spec.initrd.and_then(|_| IpaRange::new(end, 1));
    let has_sound_devices = (0..spec.devices.len()).all(|index| !draft.has_error_at(Key::Device(index)));
    let drafted = match spec.device_tree {
        DeviceTreeAt::None => None,
        _ if !has_sound_devices => None,
        DeviceTreeAt::Auto | DeviceTreeAt::At(_) => Some(write(draft, context, &partition, first)?),
    };
    let tree_size = drafted.as_ref().map(|blob| u64::try_from(blob.len()).unwrap_or(u64::MAX));
    let kernel_size = partition.load.iter().fold(0u64, |sum, load| sum.saturating_add(load.range.size()));
    let sizes = Sizes { kernel: kernel_size, initrd: initrd_size.unwrap_or(0), tree: tree_size.unwrap_or(0) };
    let tree = place_tree(draft, &mut space, &sizes, tree_size, end, &ram);
    let initrd = match spec.initrd {
        Some(file) => {
            let range = place_initrd(draft, &mut space, &sizes, end)?;
            partition.load.push(LoadPlan { what: "initrd".to_string(), range, file: Some(file), in_place: false });
            Some(range)
        }
        None => None,
    };
    if spec.device_tree != DeviceTreeAt::None {
        let range = tree?;
        let ipa = range.start();
        // Only the initrd's place was not known yet.
        let blob = match drafted.filter(|_| initrd.is_none()) {
            Some(blob) => blob,
            None => write(draft, context, &partition, initrd)?,
        };
        if u64::try_from(blob.len()) != Ok(range.size()) {
            let why = "its size depends on the addresses in it".to_string();
            draft.fail(Key::Table, Problem::TreeUnwritable { partition: draft.name(), why });
            return None;
        }
        partition.device_tree = Some(TreePlan { ipa, blob });
    }
    Some(partition)
}

/// Lists the files of a partition.
fn files(draft: &Draft<'_>) -> Vec<(Key, String, FileRange)> {
    let mut files = Vec::new();
    match &draft.spec.kernel {
        Kernel::Image { file, .. } => files.push((Key::Kernel, "the kernel".to_string(), *file)),
        Kernel::Segments { segments, .. } => {
            let of_segments = segments.iter().filter_map(|segment| segment.file);
            files.extend(of_segments.map(|file| (Key::Kernel, "a segment of the kernel".to_string(), file)));
        }
    }
    files.extend(draft.spec.initrd.map(|file| (Key::Initrd, "the initrd".to_string(), file)));
    files
}

/// Writes the tree, and records what it lacks at the device that needs it.
fn write(
    draft: &mut Draft<'_>,
    context: &Context<'_>,
    partition: &PartitionPlan,
    initrd: Option<IpaRange>,
) -> Option<Vec<u8>> {
    let problems = match guest_tree(context.tree, context.board, partition, &draft.spec.cmdline, initrd) {
        Ok(blob) => return Some(blob),
        Err(problems) => problems,
    };
    for problem in problems {
        let claim = problem.device().and_then(|device| draft.claims.iter().find(|claim| claim.path == device));
        let key = claim.map_or(Key::Table, |claim| Key::Device(claim.index));
        draft.fail(key, problem);
    }
    None
}

/// Places the kernel.
fn kernel(draft: &mut Draft<'_>, ram: &[IpaRange]) -> Option<Vec<LoadPlan>> {
    match &draft.spec.kernel {
        Kernel::Image { file, text_offset, image_size } => image(draft, ram, *file, *text_offset, *image_size),
        Kernel::Segments { segments, .. } => self::segments(draft, ram, segments),
    }
}

fn image(
    draft: &mut Draft<'_>,
    ram: &[IpaRange],
    file: FileRange,
    text_offset: u64,
    image_size: u64,
) -> Option<Vec<LoadPlan>> {
    let size = image_size.max(file.size);
    if file.size == 0 {
        draft.fail(Key::Kernel, Problem::FileEmpty { partition: draft.name(), what: "kernel".to_string() });
        return None;
    }
    let in_piece = |piece: &IpaRange| {
        let base = piece.start().align_up(BLOCK_SIZE)?;
        let range = IpaRange::new(base.checked_add(text_offset)?, size)?;
        piece.contains_range(&range).then_some(range)
    };
    let Some(range) = ram.iter().find_map(in_piece) else {
        let sizes = Sizes { kernel: size, initrd: draft.spec.initrd.map_or(0, |file| file.size), tree: 0 };
        too_large(draft, Key::Kernel, "kernel", size.saturating_add(text_offset), &sizes);
        return None;
    };
    Some(Vec::from([LoadPlan { what: "kernel".to_string(), range, file: Some(file), in_place: false }]))
}

fn segments(draft: &mut Draft<'_>, ram: &[IpaRange], segments: &[Segment]) -> Option<Vec<LoadPlan>> {
    let mut loads: Vec<LoadPlan> = Vec::new();
    let mut is_sound = true;
    for (index, segment) in segments.iter().enumerate() {
        let size = segment.memory_size.max(segment.file.map_or(0, |file| file.size));
        if size == 0 {
            continue;
        }
        let what = if segments.len() == 1 { "kernel".to_string() } else { alloc::format!("kernel segment {index}") };
        let range = IpaRange::new(segment.ipa, size);
        match range.filter(|range| ram.iter().any(|piece| piece.contains_range(range))) {
            Some(range) => {
                loads.push(LoadPlan { what, range, file: segment.file.filter(|file| file.size != 0), in_place: false })
            }
            None => {
                let (partition, at, ram) = (draft.name(), segment.ipa, ram.to_vec());
                draft.fail(Key::Kernel, Problem::SegmentOutsideRam { partition, what, range, at, ram });
                is_sound = false;
            }
        }
    }
    if loads.is_empty() && is_sound {
        draft.fail(Key::Kernel, Problem::FileEmpty { partition: draft.name(), what: "kernel".to_string() });
    }
    let mut sorted: Vec<&LoadPlan> = loads.iter().collect();
    crate::order::sort_by_key(&mut sorted, |load| load.range);
    let mut overlaps = Vec::new();
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && first.range.overlaps(&second.range)
        {
            overlaps.push(Problem::SegmentsOverlap {
                partition: draft.name(),
                first: first.what.clone(),
                first_range: first.range,
                second: second.what.clone(),
                second_range: second.range,
            });
        }
    }
    is_sound &= overlaps.is_empty() && !loads.is_empty();
    for problem in overlaps {
        draft.fail(Key::Kernel, problem);
    }
    is_sound.then_some(loads)
}

/// Returns the first instruction's address.
fn entry(draft: &mut Draft<'_>, loads: &[LoadPlan], ram: &[IpaRange]) -> Option<Ipa> {
    let entry = match &draft.spec.kernel {
        Kernel::Image { .. } => return loads.first().map(|load| load.range.start()),
        Kernel::Segments { entry, .. } => *entry,
    };
    if !ram.iter().any(|piece| piece.contains(entry)) {
        let problem = Problem::EntryOutsideRam { partition: draft.name(), entry, ram: ram.to_vec() };
        draft.fail(Key::Kernel, problem);
        return None;
    }
    if !entry.is_aligned(4) {
        let (partition, value) = (draft.name(), entry.get());
        draft.fail(Key::Kernel, Problem::Misaligned { partition, what: "its entry", value, align: 4 });
        return None;
    }
    Some(entry)
}

fn too_large(draft: &mut Draft<'_>, key: Key, what: &str, needs: u64, sizes: &Sizes) {
    let has = draft.spec.memory.iter().fold(0u64, |sum, memory| sum.saturating_add(memory.size));
    let (partition, what) = (draft.name(), what.to_string());
    let &Sizes { kernel, initrd, tree } = sizes;
    draft.fail(key, Problem::ImageTooLarge { partition, what, needs, has, kernel, initrd, tree });
}

/// Finds room behind the kernel, then anywhere; on a 2 MiB boundary where there is room, else on a page.
fn find(space: &Space<Ipa>, size: u64, kernel_end: Ipa, window: &IpaRange) -> Option<IpaRange> {
    let behind = IpaRange::between(kernel_end.max(window.start()), window.end());
    let places = [behind, Some(*window)];
    places.into_iter().flatten().find_map(|place| {
        let on = |align| space.find(size, Fit::aligned(align), &place);
        on(BLOCK_SIZE).or_else(|| on(PAGE_SIZE))
    })
}

/// Places the guest's device tree.
fn place_tree(
    draft: &mut Draft<'_>,
    space: &mut Space<Ipa>,
    sizes: &Sizes,
    size: Option<u64>,
    kernel_end: Ipa,
    ram: &[IpaRange],
) -> Option<IpaRange> {
    let size = size?;
    if size > TREE_LIMIT {
        draft.fail(Key::Table, Problem::TreeTooLarge { partition: draft.name(), size, limit: TREE_LIMIT });
        return None;
    }
    let everywhere = IpaRange::between(Ipa::new(0), Ipa::new(u64::MAX))?;
    let found = match draft.spec.device_tree {
        DeviceTreeAt::At(ipa) => stated_tree(draft, space, ipa, size, ram)?,
        DeviceTreeAt::Auto | DeviceTreeAt::None => match find(space, size, kernel_end, &everywhere) {
            Some(range) => range,
            None => {
                too_large(draft, Key::Kernel, "device tree", size, sizes);
                return None;
            }
        },
    };
    space.take(&found);
    Some(found)
}

/// Checks the stated place of a device tree.
fn stated_tree(draft: &mut Draft<'_>, space: &Space<Ipa>, ipa: Ipa, size: u64, ram: &[IpaRange]) -> Option<IpaRange> {
    if !ipa.is_aligned(8) {
        let (partition, value) = (draft.name(), ipa.get());
        let what = "its device tree's address";
        draft.fail(Key::DeviceTree, Problem::Misaligned { partition, what, value, align: 8 });
        return None;
    }
    let range = IpaRange::new(ipa, size);
    let in_ram = range.filter(|range| ram.iter().any(|piece| piece.contains_range(range)));
    let Some(wanted) = in_ram else {
        let (partition, what, ram) = (draft.name(), "device tree".to_string(), ram.to_vec());
        draft.fail(Key::DeviceTree, Problem::SegmentOutsideRam { partition, what, range, at: ipa, ram });
        return None;
    };
    if space.find(size, Fit::aligned(1), &wanted).is_none() {
        let (partition, range) = (draft.name(), wanted);
        draft.fail(Key::DeviceTree, Problem::TreeOverlapsKernel { partition, range });
        return None;
    }
    Some(wanted)
}

/// Places the initrd.
fn place_initrd(draft: &mut Draft<'_>, space: &mut Space<Ipa>, sizes: &Sizes, kernel_end: Ipa) -> Option<IpaRange> {
    if sizes.initrd == 0 {
        draft.fail(Key::Initrd, Problem::FileEmpty { partition: draft.name(), what: "initrd".to_string() });
        return None;
    }
    let kernel_start = Ipa::new(kernel_end.get().saturating_sub(sizes.kernel));
    let window_end = kernel_start.align_down(WINDOW_ALIGN).get().saturating_add(WINDOW);
    let window = IpaRange::between(kernel_start.align_down(WINDOW_ALIGN), Ipa::new(window_end))?;
    let Some(found) = find(space, sizes.initrd, kernel_end, &window) else {
        too_large(draft, Key::Initrd, "initrd", sizes.initrd, sizes);
        return None;
    };
    space.take(&found);
    Some(found)
}
