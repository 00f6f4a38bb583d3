// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a blob of version 17.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::DeviceTree;
use super::blob::{self, BEGIN_NODE, END, END_NODE, MAX_DEPTH, MAX_SIZE, PROPERTY};
use super::error::TreeError;
use super::index::to_usize;
use super::second::{self, Meant};

/// Why a tree could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// A name is empty, too long, or has a character that names cannot have.
    BadName {
        /// The name.
        name: String,
    },
    /// A property stands outside all nodes or behind a child node.
    MisplacedProperty {
        /// The property.
        name: String,
    },
    /// Nodes are not closed, or closed too often, or there is not exactly one root.
    Unbalanced,
    /// The tree is larger than [`MAX_SIZE`] or deeper than [`MAX_DEPTH`].
    TooLarge,
    /// The finished tree does not pass this module's own reader.
    Unreadable(TreeError),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName { name } => write!(f, "`{name}` is no legal name in a device tree"),
            Self::MisplacedProperty { name } => write!(f, "property `{name}` stands outside a node or behind a child"),
            Self::Unbalanced => f.write_str("nodes of the device tree do not open and close in pairs"),
            Self::TooLarge => {
                write!(f, "device tree is larger than {MAX_SIZE} bytes or deeper than {MAX_DEPTH} levels")
            }
            Self::Unreadable(error) => write!(f, "written tree cannot be read: {error}"),
        }
    }
}

impl core::error::Error for WriteError {}
/// Writes a tree node by node: the root is begun first, with the name "", and properties come before children. The first
/// mistake is kept and reported by [`TreeWriter::finish`].
#[derive(Clone, Debug, Default)]
pub struct TreeWriter {
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// Where in `strings` each name is, and its length.
    names: Vec<(u32, u32)>,
    reservations: Vec<u8>,
    /// The number of each node's parent; the root's is its own.
    parents: Vec<u32>,
    /// The numbers of the open nodes, the innermost last.
    open: Vec<u32>,
    /// The names of the innermost open node's properties, by their offsets in `strings`.
    own: Vec<u32>,
    /// Whether a node has two properties of one name.
    has_twins: bool,
    /// How many properties there are.
    properties: usize,
    /// The length of all names of nodes and properties.
    name_bytes: usize,
    /// The length of all values.
    value_bytes: usize,
    place: Place,
    error: Option<WriteError>,
}

/// What may be written next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The root.
    #[default]
    Start,
    /// A property of the innermost open node, a child, or its end.
    Properties,
    /// A child of the innermost open node, or its end.
    Children,
    /// Nothing: the root is closed.
    End,
}

impl TreeWriter {
    /// Returns a writer of an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a node inside the innermost open one; the name has the unit address, the root's is "".
    pub fn begin_node(&mut self, name: &str) {
        match self.place {
            Place::Start if name.is_empty() => {}
            Place::Properties | Place::Children if blob::is_node_name(name.as_bytes()) => {}
            Place::End => return self.fail(WriteError::Unbalanced),
            _ => {
                return self.fail(WriteError::BadName { name: name.to_owned() });
            }
        }
        let Some(number) = u32::try_from(self.parents.len()).ok().filter(|_| self.open.len() <= MAX_DEPTH) else {
            return self.fail(WriteError::TooLarge);
        };
        if self.error.is_some() {
            return;
        }
        self.parents.push(self.open.last().copied().unwrap_or(0));
        self.open.push(number);
        self.own.clear();
        self.name_bytes = self.name_bytes.saturating_add(name.len());
        self.place = Place::Properties;
        self.put(&BEGIN_NODE.to_be_bytes());
        self.put(name.as_bytes());
        self.put(&[0]);
        self.pad();
    }

    /// Ends the innermost open node.
    pub fn end_node(&mut self) {
        if self.open.pop().is_none() {
            return self.fail(WriteError::Unbalanced);
        }
        self.place = if self.open.is_empty() { Place::End } else { Place::Children };
        self.put(&END_NODE.to_be_bytes());
    }

    /// Writes a property of any bytes.
    pub fn property(&mut self, name: &str, value: &[u8]) {
        if self.place != Place::Properties {
            return self.fail(WriteError::MisplacedProperty { name: name.to_owned() });
        }
        if !blob::is_property_name(name.as_bytes()) {
            return self.fail(WriteError::BadName { name: name.to_owned() });
        }
        let (Some(offset), Ok(size)) = (self.string(name), u32::try_from(value.len())) else {
            return self.fail(WriteError::TooLarge);
        };
        self.has_twins |= self.own.contains(&offset);
        self.own.push(offset);
        self.properties = self.properties.saturating_add(1);
        self.name_bytes = self.name_bytes.saturating_add(name.len());
        self.value_bytes = self.value_bytes.saturating_add(value.len());
        for word in [PROPERTY, size, offset] {
            self.put(&word.to_be_bytes());
        }
        self.put(value);
        self.pad();
    }

    /// Writes a property of one cell.
    pub fn property_u32(&mut self, name: &str, value: u32) {
        self.property(name, &value.to_be_bytes());
    }

    /// Writes a property of two cells that make one number.
    pub fn property_u64(&mut self, name: &str, value: u64) {
        self.property(name, &value.to_be_bytes());
    }

    /// Writes a property of cells.
    pub fn property_cells(&mut self, name: &str, cells: &[u32]) {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &bytes);
    }

    /// Writes a property of one string.
    pub fn property_str(&mut self, name: &str, value: &str) {
        self.property_strings(name, &[value]);
    }

    /// Writes a property of a list of strings.
    pub fn property_strings(&mut self, name: &str, values: &[&str]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes().chain([0])).collect();
        self.property(name, &bytes);
    }

    /// Writes a property without a value: its presence is what it says.
    pub fn property_empty(&mut self, name: &str) {
        self.property(name, &[]);
    }

    /// Adds an entry to the memory reservation block: an address, and a size in bytes that is not 0.
    pub fn reserve(&mut self, address: u64, size: u64) {
        if size != 0 {
            self.reservations.extend_from_slice(&address.to_be_bytes());
            self.reservations.extend_from_slice(&size.to_be_bytes());
        }
    }

    /// Returns the blob, after reading it back with another reader, and what that leaves in doubt with this module's.
    ///
    /// # Errors
    /// The first mistake that was made.
    pub fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.place != Place::End {
            return Err(WriteError::Unbalanced);
        }
        self.put(&END.to_be_bytes());
        self.reservations.extend_from_slice(&[0; 16]);
        let blob = blob::assemble(&self.reservations, &self.structure, &self.strings, 0);
        let blob = blob.filter(|blob| u64::try_from(blob.len()).is_ok_and(|size| size <= MAX_SIZE));
        let blob = blob.ok_or(WriteError::TooLarge)?;
        let meant = Meant {
            parents: &self.parents,
            properties: self.properties,
            names: self.name_bytes,
            values: self.value_bytes,
        };
        let is_beyond_doubt = second::is_beyond_doubt(&blob, &meant).map_err(WriteError::Unreadable)?;
        if self.has_twins || !is_beyond_doubt {
            DeviceTree::parse(&blob).map_err(WriteError::Unreadable)?;
        }
        Ok(blob)
    }

    /// Returns a name's offset in the strings block.
    fn string(&mut self, name: &str) -> Option<u32> {
        let size = u32::try_from(name.len()).ok()?;
        let is_it = |(start, length): &(u32, u32)| {
            *length == size
                && to_usize(*start).checked_add(name.len()).and_then(|end| self.strings.get(to_usize(*start)..end))
                    == Some(name.as_bytes())
        };
        if let Some((offset, _)) = self.names.iter().find(|entry| is_it(entry)) {
            return Some(*offset);
        }
        let offset = u32::try_from(self.strings.len()).ok()?;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.names.push((offset, size));
        Some(offset)
    }

    fn put(&mut self, bytes: &[u8]) {
        let size = self.structure.len().saturating_add(bytes.len());
        if self.error.is_some() || u64::try_from(size).unwrap_or(u64::MAX) > MAX_SIZE {
            return self.fail(WriteError::TooLarge);
        }
        self.structure.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        let padding = self.structure.len().wrapping_neg() & 3;
        self.put([0; 3].get(..padding).unwrap_or_default());
    }

    /// Keeps the first mistake.
    fn fail(&mut self, error: WriteError) {
        self.error.get_or_insert(error);
    }
}
