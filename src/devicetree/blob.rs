// SPDX-License-Identifier: MIT OR Apache-2.0
//! Validates a blob and rewrites it in normal form (Devicetree Specification, chapter 5). Trusts nothing.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::cursor::{Cursor, terminated};
use super::error::{Block, TreeError};
use super::index::{Key, NodeEntry, PropertyEntry, Span};

/// The most content that is read or written, in bytes.
pub const MAX_SIZE: u64 = 4 << 20;
/// The deepest level of a node; the root's is 0.
pub const MAX_DEPTH: usize = 32;
/// The longest name of a node or property, in bytes without its NUL.
pub const MAX_NAME: usize = 255;
/// The size of the header of version 17, in bytes.
pub const HEADER_SIZE: usize = 40;

/// The most names of properties that are remembered, a power of two.
const MAX_KNOWN: usize = 128;

pub(super) const MAGIC: u32 = 0xd00d_feed;
pub(super) const BEGIN_NODE: u32 = 1;
pub(super) const END_NODE: u32 = 2;
pub(super) const PROPERTY: u32 = 3;
pub(super) const NOP: u32 = 4;
pub(super) const END: u32 = 9;

/// The fields of a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    total_size: u32,
    structure_offset: u32,
    strings_offset: u32,
    reservations_offset: u32,
    boot_cpu: u32,
    strings_size: u32,
    /// Version 16 does not say it.
    structure_size: Option<u32>,
}

impl Header {
    /// Reads a header and checks magic and version.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut cursor = Cursor { bytes, at: 0 };
        let mut word = || {
            let given = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            cursor.word().ok_or(TreeError::TooShort { needed: 40, given })
        };
        let magic = word()?;
        if magic != MAGIC {
            return Err(TreeError::BadMagic { found: magic });
        }
        let (total_size, structure_offset, strings_offset) = (word()?, word()?, word()?);
        let (reservations_offset, version, last_compatible) = (word()?, word()?, word()?);
        let (boot_cpu, strings_size, structure_size) = (word()?, word()?, word()?);
        if version < 16 || last_compatible > 17 {
            return Err(TreeError::UnsupportedVersion { version, last_compatible });
        }
        let structure_size = (version >= 17).then_some(structure_size);
        Ok(Self {
            total_size,
            structure_offset,
            strings_offset,
            reservations_offset,
            boot_cpu,
            strings_size,
            structure_size,
        })
    }

    /// Returns where the content ends, in bytes from the blob's start.
    pub(super) fn extent(&self) -> Result<u64, TreeError> {
        let total = u64::from(self.total_size);
        let (structure, strings) = (u64::from(self.structure_offset), u64::from(self.strings_offset));
        let strings_end = strings.saturating_add(u64::from(self.strings_size));
        if strings_end > total {
            return Err(TreeError::BlockOutside { block: Block::Strings });
        }
        let structure_end = match self.structure_size {
            Some(size) => structure.saturating_add(u64::from(size)),
            None if structure < strings => strings,
            None => total,
        };
        if structure_end > total {
            return Err(TreeError::BlockOutside { block: Block::Structure });
        }
        let mut end = strings_end.max(structure_end).max(40);
        // The header does not say how long the reservations are; usually they come first.
        if u64::from(self.reservations_offset) >= end {
            end = total;
        }
        if end > MAX_SIZE {
            return Err(TreeError::TooLarge { size: end });
        }
        Ok(end)
    }
}

/// A blob in normal form.
pub(super) struct Normalised {
    /// The blob: header, reservations, structure, strings, without gaps.
    pub(super) blob: Vec<u8>,
    /// The names of nodes and properties, one behind the other.
    pub(super) names: String,
    /// Its nodes, depth first.
    pub(super) nodes: Vec<NodeEntry>,
    /// The properties of the first node, then those of the second ...
    pub(super) properties: Vec<PropertyEntry>,
}

/// Validates a blob and rewrites it.
pub(super) fn normalise(bytes: &[u8]) -> Result<Normalised, TreeError> {
    let header = Header::read(bytes)?;
    let extent = header.extent()?;
    let given = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let content = usize::try_from(extent).ok().and_then(|end| bytes.get(..end));
    let content = content.ok_or(TreeError::TooShort { needed: extent, given })?;

    let reservations = reservations(content, &header)?;
    let structure = block(content, Block::Structure, header.structure_offset, header.structure_size, 4)?;
    let strings = block(content, Block::Strings, header.strings_offset, Some(header.strings_size), 1)?;
    // Where the structure begins in the normalised blob.
    let base = HEADER_SIZE.saturating_add(reservations.len());
    let mut walk = Walk {
        structure,
        strings,
        base,
        output: Vec::with_capacity(structure.len()),
        from: 0,
        names: String::with_capacity(structure.len() / 4),
        nodes: Vec::new(),
        properties: Vec::with_capacity(structure.len() / 32),
        known: vec![None; MAX_KNOWN],
        open: Vec::new(),
    };
    walk.run()?;
    let blob =
        assemble(reservations, &walk.output, strings, header.boot_cpu).ok_or(TreeError::TooLarge { size: extent })?;
    let Walk { names, nodes, properties, .. } = walk;
    Ok(Normalised { blob, names, nodes, properties })
}

/// Joins the blocks behind a header of version 17. `reservations` and `structure` have their end markers. Returns `None`
/// when the blob is too large for the format.
pub(super) fn assemble(reservations: &[u8], structure: &[u8], strings: &[u8], boot_cpu: u32) -> Option<Vec<u8>> {
    let structure_offset = HEADER_SIZE.checked_add(reservations.len())?;
    let strings_offset = structure_offset.checked_add(structure.len())?;
    // The end is aligned so that a blob may follow a blob.
    let total = strings_offset.checked_add(strings.len())?.checked_next_multiple_of(8)?;
    let mut blob = Vec::with_capacity(total);
    for word in [
        MAGIC,
        u32::try_from(total).ok()?,
        u32::try_from(structure_offset).ok()?,
        u32::try_from(strings_offset).ok()?,
        u32::try_from(HEADER_SIZE).ok()?,
        17,
        16,
        boot_cpu,
        u32::try_from(strings.len()).ok()?,
        u32::try_from(structure.len()).ok()?,
    ] {
        blob.extend_from_slice(&word.to_be_bytes());
    }
    blob.extend_from_slice(reservations);
    blob.extend_from_slice(structure);
    blob.extend_from_slice(strings);
    blob.resize(total, 0);
    Some(blob)
}

/// Tells whether a node other than the root may have this name.
pub(super) fn is_node_name(name: &[u8]) -> bool {
    is_property_name(name) && !name.contains(&b'/')
}

/// Tells whether a property may have this name.
pub(super) fn is_property_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.iter().all(u8::is_ascii_graphic)
}

/// Returns the bytes of a block. Without a size it goes to the end of the content.
fn block(content: &[u8], block: Block, offset: u32, size: Option<u32>, align: usize) -> Result<&[u8], TreeError> {
    let outside = TreeError::BlockOutside { block };
    let Ok(start) = usize::try_from(offset) else {
        return Err(outside);
    };
    if !start.is_multiple_of(align) {
        return Err(TreeError::Misaligned { block });
    }
    let end = match size {
        Some(size) => usize::try_from(size).ok().and_then(|size| start.checked_add(size)),
        None => Some(content.len()),
    };
    end.and_then(|end| content.get(start..end)).ok_or(outside)
}

/// Returns the memory reservations with their end marker.
fn reservations<'a>(content: &'a [u8], header: &Header) -> Result<&'a [u8], TreeError> {
    let bytes = block(content, Block::Reservations, header.reservations_offset, None, 8)?;
    let count = bytes.as_chunks::<16>().0.iter().position(|entry| entry.iter().all(|byte| *byte == 0));
    let end = count.and_then(|count| count.checked_add(1)?.checked_mul(16));
    end.and_then(|end| bytes.get(..end)).ok_or(TreeError::ReservationsWithoutEnd)
}

/// A name of properties.
#[derive(Clone, Copy)]
struct Name {
    text: Span,
    key: Key,
    is_compatible: bool,
}

/// The walk over a structure block.
struct Walk<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    /// Where the output begins in the normalised blob.
    base: usize,
    output: Vec<u8>,
    /// From where on the structure block is still to be copied to the output, which is done in runs.
    from: usize,
    names: String,
    nodes: Vec<NodeEntry>,
    properties: Vec<PropertyEntry>,
    /// Names of properties with their offsets in the strings block, each at the place that its offset gives.
    known: Vec<Option<(u32, Name)>>,
    /// Numbers of the nodes that are open, the innermost last.
    open: Vec<u32>,
}

impl Walk<'_> {
    /// Checks each token and writes all but the NOPs.
    fn run(&mut self) -> Result<(), TreeError> {
        let mut cursor = Cursor { bytes: self.structure, at: 0 };
        // Whether the innermost open node may still have properties.
        let mut in_properties = false;
        loop {
            let offset = cursor.at;
            let Some(token) = cursor.word() else { return Err(TreeError::Truncated { offset }) };
            match token {
                NOP => self.leave_out(offset, cursor.at),
                BEGIN_NODE => {
                    self.begin_node(&mut cursor, offset)?;
                    in_properties = true;
                }
                PROPERTY if in_properties => self.property(&mut cursor, offset)?,
                PROPERTY if !self.open.is_empty() => {
                    return Err(TreeError::PropertyAfterChild { offset });
                }
                END_NODE => {
                    if self.end_node().is_none() {
                        return Err(TreeError::BadToken { offset, token });
                    }
                    in_properties = false;
                }
                END if self.open.is_empty() && !self.nodes.is_empty() => {
                    self.leave_out(cursor.at, cursor.at);
                    return Ok(());
                }
                END => return Err(TreeError::NotOneRoot { offset }),
                _ => return Err(TreeError::BadToken { offset, token }),
            }
        }
    }

    fn begin_node(&mut self, cursor: &mut Cursor<'_>, offset: usize) -> Result<(), TreeError> {
        let Some(name) = cursor.name() else { return Err(TreeError::BadName { offset }) };
        let parent = self.open.last().copied();
        let name = match parent {
            Some(_) if is_node_name(name) => name,
            Some(_) => return Err(TreeError::BadName { offset }),
            None if !self.nodes.is_empty() => return Err(TreeError::NotOneRoot { offset }),
            None if name.is_empty() || name == b"/" => b"",
            None => return Err(TreeError::BadName { offset }),
        };
        if self.open.len() > MAX_DEPTH {
            return Err(TreeError::TooDeep { offset });
        }
        // Cannot fail: a node takes at least 8 of MAX_SIZE bytes.
        let number = u32::try_from(self.nodes.len()).map_err(|_| TreeError::TooDeep { offset })?;
        let Some(text) = Span::add(name, &mut self.names) else { return Err(TreeError::BadName { offset }) };
        self.nodes.push(NodeEntry::new(text, parent.unwrap_or(0), self.properties.len()));
        self.open.push(number);
        let start = offset.saturating_add(4);
        if parent.is_none() {
            // The root's name may have been "/".
            self.leave_out(start, cursor.at);
            self.output.extend_from_slice(&[0; 4]);
        } else {
            self.clear_padding(start.saturating_add(name.len()), cursor.at);
        }
        Ok(())
    }

    fn property(&mut self, cursor: &mut Cursor<'_>, offset: usize) -> Result<(), TreeError> {
        let (Some(length), Some(name)) = (cursor.word(), cursor.word()) else {
            return Err(TreeError::Truncated { offset });
        };
        let Some(value) = usize::try_from(length).ok().and_then(|length| cursor.bytes(length)) else {
            return Err(TreeError::Truncated { offset });
        };
        let Some(name) = self.property_name(name) else { return Err(TreeError::BadName { offset }) };
        let start = offset.saturating_add(12);
        let left = start.saturating_sub(self.from);
        let place = self.base.saturating_add(self.output.len()).saturating_add(left);
        let Some(span) = Span::new(place, value.len()) else { return Err(TreeError::Truncated { offset }) };
        self.properties.push(PropertyEntry { name: name.text, key: name.key, value: span });
        if let Some(node) = self.innermost() {
            node.count_property(name.key);
            if name.is_compatible && node.compatible.is_empty() {
                node.compatible = span;
            }
        }
        self.clear_padding(start.saturating_add(value.len()), cursor.at);
        Ok(())
    }

    /// Reads the name of a property at an offset of the strings block, and returns its place among the names. `None` when it
    /// is none. The last names are remembered, since a tree uses few again and again.
    fn property_name(&mut self, offset: u32) -> Option<Name> {
        let place = usize::try_from(offset).ok()? & MAX_KNOWN.saturating_sub(1);
        if let Some(Some((at, known))) = self.known.get(place)
            && *at == offset
        {
            return Some(*known);
        }
        let text = terminated(self.strings.get(usize::try_from(offset).ok()?..)?)?;
        let span = Span::add(text, &mut self.names).filter(|_| is_property_name(text))?;
        let name = Name { text: span, key: Key::of(text), is_compatible: text == b"compatible" };
        if let Some(known) = self.known.get_mut(place) {
            *known = Some((offset, name));
        }
        Some(name)
    }

    /// Closes the innermost node; `None` when none is open.
    fn end_node(&mut self) -> Option<()> {
        let end = u32::try_from(self.nodes.len()).ok()?;
        self.innermost()?.end = end;
        self.open.pop();
        Some(())
    }

    fn innermost(&mut self) -> Option<&mut NodeEntry> {
        let number = self.open.last().copied()?;
        self.nodes.get_mut(usize::try_from(number).ok()?)
    }

    /// Copies the structure block up to `start`, and goes on from `end`.
    fn leave_out(&mut self, start: usize, end: usize) {
        self.output.extend_from_slice(self.structure.get(self.from..start).unwrap_or_default());
        self.from = end;
    }

    /// Writes zeroes for what is not zero between a name or value and the next token.
    fn clear_padding(&mut self, start: usize, end: usize) {
        let padding = self.structure.get(start..end).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            self.leave_out(start, end);
            self.output.extend_from_slice([0; 4].get(..padding.len()).unwrap_or_default());
        }
    }
}
