// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a normalised blob through the `fdt` crate, once, into an index of nodes and properties.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::blob::Normalised;
use super::error::TreeError;
use crate::addr::{Pa, PaRange};

/// So many properties are faster searched one by one.
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

    /// Returns the piece of the names.
    fn text(self, names: &str) -> &str {
        let start = to_usize(self.start);
        names.get(start..start.saturating_add(to_usize(self.size))).unwrap_or_default()
    }

    /// Adds a name to the names and returns where it is.
    fn add(name: &str, names: &mut String) -> Option<Self> {
        let start = u32::try_from(names.len()).ok()?;
        names.push_str(name);
        Some(Self { start, size: u32::try_from(name.len()).ok()? })
    }

    /// Finds where in the blob a slice of it lies.
    fn of(part: &[u8], blob: &[u8]) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(blob.as_ptr().addr())?;
        if start.checked_add(part.len())? > blob.len() {
            return None;
        }
        Some(Self { start: u32::try_from(start).ok()?, size: u32::try_from(part.len()).ok()? })
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
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertyEntry {
    /// Its name, a piece of [`Index::names`].
    name: Span,
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
    /// As `properties`, but those of each node sorted by name.
    sorted: Vec<PropertyEntry>,
    /// Phandles with the numbers of their nodes, sorted.
    pub(super) phandles: Vec<(u32, u32)>,
    /// The memory reservation block.
    pub(super) reservations: Vec<PaRange>,
}

impl Index {
    /// Reads a normalised blob.
    pub(super) fn read(normalised: &Normalised) -> Result<Self, TreeError> {
        let blob = normalised.blob.as_slice();
        let tree = fdt::Fdt::new(blob).map_err(|_| TreeError::Inconsistent)?;
        let mut names = String::new();
        let (nodes, properties) = read_nodes(&tree, normalised, &mut names).ok_or(TreeError::Inconsistent)?;
        let reservations = read_reservations(&tree)?;
        let sorted = properties.clone();
        let mut index = Self { names, nodes, properties, sorted, phandles: Vec::new(), reservations };
        for node in &index.nodes {
            if let Some(own) = index.sorted.get_mut(node.property_range()) {
                crate::order::sort_by(own, |a, b| a.name.text(&index.names) < b.name.text(&index.names));
            }
        }
        Ok(index)
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

    /// Finds a property of a node by its name.
    pub(super) fn property(&self, number: u32, name: &str) -> Option<&PropertyEntry> {
        let own = self.sorted.get(self.node(number)?.property_range())?;
        if own.len() <= FEW {
            // Most names differ in length already.
            return own.iter().find(|entry| entry.name.text(&self.names) == name);
        }
        let place = own.binary_search_by(|entry| entry.name.text(&self.names).cmp(name)).ok()?;
        own.get(place)
    }

    /// Returns a node's name.
    pub(super) fn node_name(&self, number: u32) -> &str {
        self.node(number).map_or("", |node| node.name.text(&self.names))
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
        for (number, node) in self.node_numbers().zip(&self.nodes) {
            let own = self.sorted.get(node.property_range()).unwrap_or_default();
            if let Some(property) = twice(own.iter().map(|entry| entry.name.text(&self.names))) {
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

    /// Returns a node's path.
    pub(super) fn path(&self, number: u32) -> String {
        let mut names = Vec::new();
        let mut at = number;
        while let Some(node) = self.node(at).filter(|_| at != 0) {
            names.push(node.name.text(&self.names));
            at = node.parent;
        }
        if names.is_empty() {
            return "/".into();
        }
        names.iter().rev().fold(String::new(), |mut path, name| {
            path.push('/');
            path.push_str(name);
            path
        })
    }
}

impl NodeEntry {
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
fn twice<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut last = None;
    for item in items {
        if last.is_some_and(|last: T| last.cmp(&item) == Ordering::Equal) {
            return Some(item);
        }
        last = Some(item);
    }
    None
}

/// Reads all nodes, and checks that the outline says the same. `None` when it does not.
fn read_nodes(
    tree: &fdt::Fdt<'_>,
    normalised: &Normalised,
    names: &mut String,
) -> Option<(Vec<NodeEntry>, Vec<PropertyEntry>)> {
    let blob = normalised.blob.as_slice();
    let mut nodes = Vec::with_capacity(normalised.outline.len());
    let mut properties = Vec::new();
    for node in tree.all_nodes() {
        let outline = normalised.outline.get(nodes.len())?;
        let first_property = properties.len();
        for property in node.properties() {
            let name = Span::add(property.name, names)?;
            properties.push(PropertyEntry { name, value: Span::of(property.value, blob)? });
        }
        let property_count = properties.len().checked_sub(first_property)?;
        if property_count != to_usize(outline.property_count) {
            return None;
        }
        // `fdt` calls the root "/", in no part of the blob.
        let name = Span::add(if nodes.is_empty() { "" } else { node.name }, names)?;
        nodes.push(NodeEntry {
            name,
            parent: outline.parent,
            end: outline.end,
            first_property: u32::try_from(first_property).ok()?,
            property_count: outline.property_count,
        });
    }
    (nodes.len() == normalised.outline.len()).then_some((nodes, properties))
}

/// Reads the memory reservation block; entries of no size reserve nothing.
fn read_reservations(tree: &fdt::Fdt<'_>) -> Result<Vec<PaRange>, TreeError> {
    let mut reservations = Vec::new();
    for entry in tree.memory_reservations() {
        let address = u64::try_from(entry.address().addr()).unwrap_or(u64::MAX);
        let size = u64::try_from(entry.size()).unwrap_or(u64::MAX);
        if size != 0 {
            let range = PaRange::new(Pa::new(address), size).ok_or(TreeError::BadReservation { address, size })?;
            reservations.push(range);
        }
    }
    Ok(reservations)
}
