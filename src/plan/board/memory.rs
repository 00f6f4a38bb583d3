// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM, what of it is reserved, and the board's name.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{BoardError, ReservedRange};
use crate::addr::{PAGE_SIZE, PaRange};
use crate::devicetree::{DeviceTree, Property};

/// Returns the root's `model`, or its first `compatible`.
pub(super) fn model(tree: &DeviceTree) -> String {
    let model = tree.root().property("model").and_then(Property::as_str);
    let name = model.or_else(|| tree.root().compatible().next());
    name.unwrap_or("a board without a name").to_string()
}

/// Returns the RAM in whole pages: a page that is RAM in part only is none.
pub(super) fn ram(tree: &DeviceTree) -> Result<Vec<PaRange>, BoardError> {
    let whole_pages = |range: PaRange| {
        let start = range.start().align_up(PAGE_SIZE)?;
        PaRange::between(start, range.end().align_down(PAGE_SIZE))
    };
    let ram: Vec<PaRange> = tree.memory().into_iter().filter_map(whole_pages).collect();
    if ram.is_empty() {
        return Err(BoardError::NoMemory);
    }
    Ok(ram)
}

/// Returns what the tree reserves, in whole pages.
pub(super) fn reserved(tree: &DeviceTree) -> Vec<ReservedRange> {
    let block = tree.memory_reservations().map(|range| (range, "a memory reservation".to_string()));
    let nodes = tree.reserved_memory().into_iter().map(|region| (region.range, region.path));
    let pages = |range: PaRange| range.align_out(PAGE_SIZE).unwrap_or(range);
    block.chain(nodes).map(|(range, name)| ReservedRange { range: pages(range), name }).collect()
}
