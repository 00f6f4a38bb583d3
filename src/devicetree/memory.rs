// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM and what of it is spoken for (Devicetree Specification, sections 3.4 and 3.5).

use alloc::string::String;
use alloc::vec::Vec;

use super::node::{Node, Property};
use super::{DeviceTree, TreeError, address::RegEntry};
use crate::addr::PaRange;

/// A fixed range below /reserved-memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedRegion {
    /// The range.
    pub range: PaRange,
    /// Whether an operating system must not even map it (`no-map`).
    pub no_map: bool,
    /// The node.
    pub path: String,
}

impl DeviceTree {
    /// Returns the RAM: all enabled nodes of `device_type` "memory", sorted, what touches or overlaps merged. Nodes
    /// whose `reg` cannot be read count for nothing.
    pub fn memory(&self) -> Vec<PaRange> {
        let is_memory = |node: &Node<'_>| {
            node.property("device_type").and_then(Property::as_str) == Some("memory") && node.is_enabled()
        };
        let entries = self.nodes().filter(is_memory).flat_map(|node| node.reg().unwrap_or_default());
        let mut ranges: Vec<PaRange> = entries.filter_map(|entry| entry.range()).collect();
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

    /// Returns the fixed ranges of the enabled children of /reserved-memory, in the tree's order.
    pub fn reserved_memory(&self) -> Vec<ReservedRegion> {
        self.reserved.clone()
    }

    /// Reads the children of /reserved-memory. One that cannot be read is an error: nobody would keep away from it.
    pub(super) fn read_reserved_memory(&self) -> Result<Vec<ReservedRegion>, TreeError> {
        let mut regions = Vec::new();
        let children = self.root().child("reserved-memory").into_iter().flat_map(Node::children);
        for node in children.filter(|node| node.is_enabled()) {
            let entries = node.reg().map_err(TreeError::BadReservedMemory)?;
            let no_map = node.property("no-map").is_some();
            let ranges = entries.iter().filter_map(RegEntry::range);
            regions.extend(ranges.map(|range| ReservedRegion { range, no_map, path: node.path() }));
        }
        Ok(regions)
    }
}
