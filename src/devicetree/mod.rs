// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the board's device tree and writes the guests' trees (Devicetree Specification, release v0.4).
//!
//! A blob comes from the boot loader or from a file and is not trusted. `blob` validates it, and is total: magic, version,
//! bounds, alignment, tokens, names, depth, one root. In the same walk it writes a *normalised* copy (version 17, no
//! `FDT_NOP`, zero padding, no free space) and the lists of nodes, properties and names from which everything else reads
//! (`index`). Free space behind the content is never looked at.
//!
//! `second` reads blobs through the `fdt` crate, those only that `blob` has normalised or `write` has written: the header
//! and the memory reservations of each, and all nodes and properties of a tree that was written, which must be those that
//! were meant. On such blobs `Fdt::new`, `Fdt::total_size`, `Fdt::memory_reservations`, `Fdt::all_nodes` and
//! `FdtNode::properties` neither panic nor recurse: every token, name and length that they unwrap is sound, and
//! [`MAX_DEPTH`] is below the 63 levels that `all_nodes` can hold. Nothing else of `fdt` is used, because it panics on
//! what a valid tree may lack (`chosen`, `cpus`, `memory`, `root`), on short values (`cell_sizes`), recurses (`children`,
//! `find_node`), takes any prefix for a match (`find_node`), or is too narrow (`interrupts` knows one and two cells, `reg`
//! knows neither `ranges` nor three cells). The board's nodes are not read a second time at boot, for what that costs; the
//! tests read them so.
//!
//! So parsing is O(n log n) in the size of the blob, a [`Node`] is an index, and every walk ends: a parent's index is
//! below its child's, and lists that a tree chooses the length of are bounded by [`MAX_ENTRIES`].

mod address;
mod blob;
mod chosen;
mod cursor;
mod error;
mod find;
mod index;
mod interrupt;
mod memory;
mod node;
mod second;
mod write;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

pub use address::{RawRegEntry, RegEntry};
pub use blob::{HEADER_SIZE, MAX_DEPTH, MAX_NAME, MAX_SIZE};
pub use error::{Block, ReadError, TreeError};
pub use find::FindError;
pub use interrupt::{Interrupt, gic_interrupt};
pub use memory::ReservedRegion;
pub use node::{Node, Property, Status};
pub use write::{TreeWriter, WriteError};

use crate::addr::PaRange;
use index::Index;

/// The most entries that are read from one `reg`, `ranges`, `interrupts` or `interrupt-map`.
pub const MAX_ENTRIES: usize = 1024;

/// A device tree: an owned, validated and normalised blob with an index of its nodes and properties.
#[derive(Clone)]
pub struct DeviceTree {
    blob: Vec<u8>,
    index: Index,
    reserved: Vec<ReservedRegion>,
}

impl DeviceTree {
    /// Returns how many bytes from the blob's start have content, given its first [`HEADER_SIZE`] bytes: what must be
    /// in the slice that [`DeviceTree::parse`] is given. A boot loader often leaves free space behind it.
    ///
    /// # Errors
    /// The header is none, or describes more than [`MAX_SIZE`] bytes or blocks outside the blob.
    pub fn extent(header: &[u8]) -> Result<u64, TreeError> {
        blob::Header::read(header)?.extent()
    }

    /// Validates a blob and copies it, normalised. Bytes behind its content may be missing.
    ///
    /// # Errors
    /// The blob is damaged, too large, or contradicts itself (two nodes of one path, two properties of one name, two
    /// nodes with one phandle), or a memory reservation in it cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, TreeError> {
        let normalised = blob::normalise(bytes)?;
        let blob::Normalised { blob, names, nodes, properties } = normalised;
        let reservations = second::reservations(&second::open(&blob)?)?;
        let index = Index::new(names, nodes, properties, reservations);
        let mut tree = Self { blob, index, reserved: Vec::new() };
        tree.index.check_names()?;
        tree.index_phandles()?;
        tree.reserved = tree.read_reserved_memory()?;
        Ok(tree)
    }

    /// Returns the normalised blob: version 17, without `FDT_NOP` and free space.
    pub fn as_bytes(&self) -> &[u8] {
        &self.blob
    }

    /// Returns the root.
    pub fn root(&self) -> Node<'_> {
        Node::new(self, 0)
    }

    /// Returns all nodes, depth first, parents before their children.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.index.node_numbers().map(|number| Node::new(self, number))
    }

    /// Returns the node with this phandle.
    pub fn by_phandle(&self, phandle: u32) -> Option<Node<'_>> {
        self.index.phandle(phandle).map(|number| Node::new(self, number))
    }

    /// Returns the entries of the memory reservation block (`/memreserve/`).
    pub fn memory_reservations(&self) -> impl Iterator<Item = PaRange> {
        self.index.reservations.iter().copied()
    }

    /// Fills the index of phandles.
    fn index_phandles(&mut self) -> Result<(), TreeError> {
        let mut phandles: Vec<_> = self.nodes().filter_map(|node| Some((node.phandle()?, node.number()))).collect();
        crate::order::sort(&mut phandles);
        let twice = phandles.windows(2).find_map(|pair| match pair {
            [(first, _), (second, number)] if first == second => Some((*first, *number)),
            _ => None,
        });
        if let Some((phandle, number)) = twice {
            return Err(TreeError::DuplicatePhandle { phandle, path: Node::new(self, number).path() });
        }
        self.index.phandles = phandles;
        Ok(())
    }
}

impl fmt::Debug for DeviceTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceTree({} bytes, {} nodes)", self.blob.len(), self.index.nodes.len())
    }
}
