// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes and properties as their readers see them.

use alloc::string::String;
use core::fmt;

use super::DeviceTree;
use super::index::{Key, PropertyEntry};

/// A node of a tree: a cheap handle. Two are equal when they are the same place of the same tree.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: &'a DeviceTree,
    number: u32,
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.tree, other.tree) && self.number == other.number
    }
}

impl Eq for Node<'_> {}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.path())
    }
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// What the `status` property says (Devicetree Specification, section 2.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// "okay" or "ok", or no such property: the device can be used.
    Okay,
    /// "disabled".
    Disabled,
    /// "reserved": used by someone else, such as the firmware.
    Reserved,
    /// "fail" or "fail-...".
    Fail,
    /// Something that the specification does not know.
    Unknown,
}

impl<'a> Node<'a> {
    pub(super) fn new(tree: &'a DeviceTree, number: u32) -> Self {
        Self { tree, number }
    }

    pub(super) fn number(self) -> u32 {
        self.number
    }

    /// Returns the tree.
    pub fn tree(self) -> &'a DeviceTree {
        self.tree
    }

    /// Returns the name with the unit address; the root's is empty.
    pub fn name(self) -> &'a str {
        self.tree.index.node_name(self.number)
    }

    /// Returns the name without the unit address.
    pub fn base_name(self) -> &'a str {
        let name = self.name();
        name.split_once('@').map_or(name, |(base, _)| base)
    }

    /// Returns the full path, "/" for the root.
    pub fn path(self) -> String {
        self.tree.index.path(self.number)
    }

    /// Returns the parent, or `None` for the root.
    pub fn parent(self) -> Option<Self> {
        let entry = self.tree.index.node(self.number).filter(|_| self.number != 0)?;
        Some(Self::new(self.tree, entry.parent))
    }

    /// Returns the parent, its parent, and so on to the root.
    pub fn ancestors(self) -> impl Iterator<Item = Self> {
        core::iter::successors(self.parent(), |node| node.parent())
    }

    /// Returns the children in the tree's order.
    pub fn children(self) -> impl Iterator<Item = Self> {
        let tree = self.tree;
        let end_of = move |number| tree.index.node(number).map_or(0, |node| node.end);
        let end = end_of(self.number);
        let first = self.number.checked_add(1).filter(|first| *first < end);
        core::iter::successors(first, move |number| {
            // A subtree's end lies behind its node, so this goes forward only.
            Some(end_of(*number)).filter(|next| number < next && *next < end)
        })
        .map(move |number| Self::new(tree, number))
    }

    /// Returns the child with exactly this name.
    pub fn child(self, name: &str) -> Option<Self> {
        self.children().find(|child| self.tree.index.is_called(child.number, name))
    }

    /// Returns this node and all below it, depth first.
    pub fn subtree(self) -> impl Iterator<Item = Self> {
        let tree = self.tree;
        let end = tree.index.node(self.number).map_or(0, |node| node.end);
        (self.number..end).map(move |number| Self::new(tree, number))
    }

    /// Returns the properties in the tree's order.
    pub fn properties(self) -> impl Iterator<Item = Property<'a>> {
        self.tree.index.properties(self.number).iter().map(move |entry| self.read(entry))
    }

    /// Returns a property by its name.
    #[inline(always)]
    pub fn property(self, name: &str) -> Option<Property<'a>> {
        self.property_by_key(name, Key::of(name.as_bytes()))
    }

    fn property_by_key(self, name: &str, key: Key) -> Option<Property<'a>> {
        self.tree.index.property(self.number, name, key).map(|entry| self.read(entry))
    }

    /// Returns the strings of `compatible`, the most specific first.
    pub fn compatible(self) -> impl Iterator<Item = &'a str> {
        self.property("compatible").into_iter().flat_map(Property::strings)
    }

    /// Tells whether `compatible` has this string.
    pub fn is_compatible(self, with: &str) -> bool {
        let value = self.tree.index.node(self.number).map(|node| node.compatible.bytes(&self.tree.blob));
        value.is_some_and(|value| Property { name: "compatible", value }.has_string(with))
    }

    /// Returns what `status` says of this node alone.
    pub fn status(self) -> Status {
        let Some(property) = self.property("status") else {
            return Status::Okay;
        };
        match property.as_str() {
            Some("okay" | "ok") => Status::Okay,
            Some("disabled") => Status::Disabled,
            Some("reserved") => Status::Reserved,
            Some(text) if text == "fail" || text.starts_with("fail-") => Status::Fail,
            _ => Status::Unknown,
        }
    }

    /// Tells whether this node and all its ancestors can be used.
    pub fn is_enabled(self) -> bool {
        self.status() == Status::Okay && self.ancestors().all(|node| node.status() == Status::Okay)
    }

    /// Returns the phandle, also from the old `linux,phandle`.
    pub fn phandle(self) -> Option<u32> {
        let property = self.property("phandle").or_else(|| self.property("linux,phandle"))?;
        property.as_u32().filter(|phandle| *phandle != 0 && *phandle != u32::MAX)
    }

    /// Returns the labels that /__symbols__ gives this node.
    pub fn labels(self) -> impl Iterator<Item = &'a str> {
        let path = self.path();
        let symbols = self.tree.root().child("__symbols__");
        let labels = symbols.into_iter().flat_map(Self::properties);
        labels.filter(move |label| label.as_str() == Some(&path)).map(|label| label.name)
    }

    /// Returns `#address-cells`: the cells of an address in the children's `reg`; 2 when the node does not say.
    pub fn address_cells(self) -> u32 {
        self.property("#address-cells").and_then(Property::as_u32).unwrap_or(2)
    }

    /// Returns `#size-cells`: the cells of a size in the children's `reg`; 1 when the node does not say.
    pub fn size_cells(self) -> u32 {
        self.property("#size-cells").and_then(Property::as_u32).unwrap_or(1)
    }

    fn read(self, entry: &PropertyEntry) -> Property<'a> {
        Property { name: self.tree.index.property_name(entry), value: entry.value.bytes(&self.tree.blob) }
    }
}

/// A property: a name and bytes that only its reader can give a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Property<'a> {
    /// Returns the value's bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.value
    }

    /// Returns the value of exactly one cell.
    pub fn as_u32(self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// Returns the value of exactly one or two cells.
    pub fn as_u64(self) -> Option<u64> {
        match self.as_u32() {
            Some(value) => Some(value.into()),
            None => self.value.try_into().ok().map(u64::from_be_bytes),
        }
    }

    /// Returns the value of exactly one NUL-terminated UTF-8 string.
    pub fn as_str(self) -> Option<&'a str> {
        let text = self.value.strip_suffix(&[0])?;
        core::str::from_utf8(text).ok().filter(|text| !text.contains('\0'))
    }

    /// Returns the strings of a list of NUL-terminated strings; those that are not UTF-8 are left out.
    pub fn strings(self) -> impl Iterator<Item = &'a str> {
        let list = self.value.strip_suffix(&[0]);
        let parts = list.into_iter().flat_map(|list| list.split(|byte| *byte == 0));
        parts.filter_map(|part| core::str::from_utf8(part).ok())
    }

    /// Tells whether a list of NUL-terminated strings has this one.
    pub fn has_string(self, text: &str) -> bool {
        let text = text.as_bytes();
        let mut list = self.value;
        // Each turn takes a byte at least.
        while list.len() > text.len() {
            if list.get(text.len()) == Some(&0) && list.starts_with(text) && self.value.ends_with(&[0]) {
                return !text.contains(&0);
            }
            let Some(end) = list.iter().position(|byte| *byte == 0) else { return false };
            list = list.get(end.saturating_add(1)..).unwrap_or_default();
        }
        false
    }

    /// Returns the value's 32-bit cells; bytes behind the last whole one are left out.
    pub fn cells(self) -> impl ExactSizeIterator<Item = u32> {
        let (cells, _) = self.value.as_chunks();
        cells.iter().map(|cell| u32::from_be_bytes(*cell))
    }
}
