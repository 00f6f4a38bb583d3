// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes and properties of a normalised blob, by their numbers and names.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::blob::MAX_DEPTH;
use super::error::TreeError;
use crate::addr::PaRange;

/// So many names are compared each with each.
const FEW: usize = 16;

/// A piece of the blob, or of [`Index::names`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    size: u32,
}

impl Span {
    /// Returns the piece.
    pub(super) fn bytes(self, blob: &[u8]) -> &[u8] {
        let start = to_usize(self.start);
        blob.get(start..start.saturating_add(to_usize(self.size))).unwrap_or_default()
    }

    /// Tells whether it has no bytes.
    pub(super) fn is_empty(self) -> bool {
        self.size == 0
    }

    /// Returns the piece of the names.
    fn text(self, names: &str) -> &str {
        let start = to_usize(self.start);
        names.get(start..start.saturating_add(to_usize(self.size))).unwrap_or_default()
    }

    /// Tells whether the piece of the names is a name.
    fn is(self, name: &str, names: &str) -> bool {
        to_usize(self.size) == name.len() && self.bytes(names.as_bytes()) == name.as_bytes()
    }

    /// Adds a name to the names and returns where it is.
    pub(super) fn add(name: &[u8], names: &mut String) -> Option<Self> {
        let start = names.len();
        names.push_str(core::str::from_utf8(name).ok()?);
        Self::new(start, name.len())
    }

    /// Returns a piece of these bounds.
    pub(super) fn new(start: usize, size: usize) -> Option<Self> {
        Some(Self { start: u32::try_from(start).ok()?, size: u32::try_from(size).ok()? })
    }
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeEntry {
    /// Its name with the unit address, a piece of [`Index::names`]; the root's is empty.
    name: Span,
    /// The parent's number; the root's is its own.
    pub(super) parent: u32,
    /// The number behind the last node of its subtree.
    pub(super) end: u32,
    /// Its first property's place in [`Index::properties`].
    first_property: u32,
    /// How many properties it has.
    property_count: u32,
    /// The bits of its properties' keys.
    keys: u32,
    /// The value of `compatible`, a piece of the blob; empty without one.
    pub(super) compatible: Span,
}

/// What tells most names apart: length, first and last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Key {
    /// Returns a name's key; most names are known when this is compiled.
    #[inline(always)]
    pub(super) fn of(name: &[u8]) -> Self {
        let size = u32::try_from(name.len()).unwrap_or(u32::MAX) << 16;
        match name {
            [first, .., last] => Self(size | (u32::from(*first) << 8) | u32::from(*last)),
            _ => Self(size),
        }
    }

    /// Returns one of 32 bits: a node without it has no property of this key.
    fn bit(self) -> u32 {
        1 << ((self.0 ^ (self.0 >> 8) ^ (self.0 >> 16)) & 31)
    }
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertyEntry {
    /// Its name, a piece of [`Index::names`].
    pub(super) name: Span,
    /// The name's key.
    pub(super) key: Key,
    /// Its value, a piece of the blob.
    pub(super) value: Span,
}

/// The nodes and properties of a blob.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// The names of nodes and properties, one behind the other: text, which the blob is not.
    names: String,
    /// The nodes, depth first.
    pub(super) nodes: Vec<NodeEntry>,
    /// The properties of the first node in their order, then those of the second ...
    properties: Vec<PropertyEntry>,
    /// Phandles with the numbers of their nodes, sorted.
    pub(super) phandles: Vec<(u32, u32)>,
    /// The memory reservation block.
    pub(super) reservations: Vec<PaRange>,
}

impl Index {
    /// Begins with what the walk over the blob has found.
    pub(super) fn new(
        names: String,
        nodes: Vec<NodeEntry>,
        properties: Vec<PropertyEntry>,
        reservations: Vec<PaRange>,
    ) -> Self {
        Self { names, nodes, properties, phandles: Vec::new(), reservations }
    }

    /// Returns a node.
    pub(super) fn node(&self, number: u32) -> Option<&NodeEntry> {
        self.nodes.get(to_usize(number))
    }

    /// Returns the numbers of all nodes.
    pub(super) fn node_numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Returns a node's properties in their order.
    pub(super) fn properties(&self, number: u32) -> &[PropertyEntry] {
        let range = self.node(number).map(NodeEntry::property_range);
        range.and_then(|range| self.properties.get(range)).unwrap_or_default()
    }

    /// Finds a property of a node by its name and the name's key.
    pub(super) fn property(&self, number: u32, name: &str, key: Key) -> Option<&PropertyEntry> {
        let node = self.node(number).filter(|node| node.keys & key.bit() != 0)?;
        // Nodes have few properties.
        self.properties
            .get(node.property_range())?
            .iter()
            .find(|entry| entry.key == key && entry.name.is(name, &self.names))
    }

    /// Returns a node's name.
    pub(super) fn node_name(&self, number: u32) -> &str {
        self.node(number).map_or("", |node| node.name.text(&self.names))
    }

    /// Tells whether a node has this name.
    pub(super) fn is_called(&self, number: u32, name: &str) -> bool {
        self.node(number).is_some_and(|node| node.name.is(name, &self.names))
    }

    /// Returns a property's name.
    pub(super) fn property_name(&self, entry: &PropertyEntry) -> &str {
        entry.name.text(&self.names)
    }

    /// Finds the node with a phandle.
    pub(super) fn phandle(&self, phandle: u32) -> Option<u32> {
        let place = self.phandles.binary_search_by_key(&phandle, |entry| entry.0).ok()?;
        self.phandles.get(place).map(|entry| entry.1)
    }

    /// Refuses two siblings of one name and two properties of one name in a node.
    pub(super) fn check_names(&self) -> Result<(), TreeError> {
        for number in self.node_numbers() {
            if let Some(property) = self.property_twice(number) {
                return Err(TreeError::DuplicateProperty { path: self.path(number), property: property.into() });
            }
        }
        // Sorted by parent and name, siblings of one name are neighbours.
        let mut siblings: Vec<_> =
            self.nodes.iter().skip(1).map(|node| (node.parent, node.name.text(&self.names))).collect();
        crate::order::sort(&mut siblings);
        if let Some((parent, name)) = twice(siblings.into_iter()) {
            let mut path = self.path(parent);
            if parent != 0 {
                path.push('/');
            }
            path.push_str(name);
            return Err(TreeError::DuplicateNode { path });
        }
        Ok(())
    }

    /// Returns the name of two properties of a node.
    fn property_twice(&self, number: u32) -> Option<&str> {
        let own = self.properties(number);
        if own.len() <= FEW {
            let mut rest = own;
            while let Some((entry, others)) = rest.split_first() {
                let same = |other: &PropertyEntry| {
                    other.key == entry.key && other.name.is(entry.name.text(&self.names), &self.names)
                };
                if others.iter().any(same) {
                    return Some(entry.name.text(&self.names));
                }
                rest = others;
            }
            return None;
        }
        let mut names: Vec<&str> = own.iter().map(|entry| entry.name.text(&self.names)).collect();
        crate::order::sort(&mut names);
        twice(names.into_iter())
    }

    /// Returns a node's path.
    pub(super) fn path(&self, number: u32) -> String {
        // A node is at most so deep that its parser accepts it.
        let mut names = [""; MAX_DEPTH];
        let mut size = 0usize;
        let mut at = number;
        let mut depth = 0usize;
        while let (Some(node), Some(name)) = (self.node(at).filter(|_| at != 0), names.get_mut(depth)) {
            *name = node.name.text(&self.names);
            size = size.saturating_add(name.len()).saturating_add(1);
            depth = depth.saturating_add(1);
            at = node.parent;
        }
        if depth == 0 {
            return "/".into();
        }
        let mut path = String::with_capacity(size);
        for name in names.iter().take(depth).rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

impl NodeEntry {
    /// A node that has no properties yet; its subtree's end is not known.
    pub(super) fn new(name: Span, parent: u32, first_property: usize) -> Self {
        let first_property = u32::try_from(first_property).unwrap_or(u32::MAX);
        let compatible = Span { start: 0, size: 0 };
        Self { name, parent, end: 0, first_property, property_count: 0, keys: 0, compatible }
    }

    /// Counts a property that belongs to this node.
    pub(super) fn count_property(&mut self, key: Key) {
        self.keys |= key.bit();
        self.property_count = self.property_count.saturating_add(1);
    }

    fn property_range(&self) -> core::ops::Range<usize> {
        let start = to_usize(self.first_property);
        start..start.saturating_add(to_usize(self.property_count))
    }
}

/// Widens a number of the format to an index.
pub(super) fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns the first item that equals the one before it.
pub(super) fn twice<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut last = None;
    for item in items {
        if last.is_some_and(|last: T| last.cmp(&item) == Ordering::Equal) {
            return Some(item);
        }
        last = Some(item);
    }
    None
}
