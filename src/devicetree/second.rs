// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads blobs of ours through the `fdt` crate, which shares no code with what normalised or wrote them. It panics on
//! damaged blobs; none gets here.

use alloc::vec::Vec;

use fdt::Fdt;

use super::error::TreeError;
use super::index::twice;
use crate::addr::{Pa, PaRange};

/// What a tree was meant to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meant<'a> {
    /// The number of each node's parent, in the tree's order; the root's is its own.
    pub(super) parents: &'a [u32],
    /// How many properties.
    pub(super) properties: usize,
    /// The length of all names of nodes and properties.
    pub(super) names: usize,
    /// The length of all values.
    pub(super) values: usize,
}

/// Opens a blob that was normalised or written by this module.
///
/// # Errors
/// The header does not describe the blob.
pub(super) fn open(blob: &[u8]) -> Result<Fdt<'_>, TreeError> {
    Fdt::new(blob).ok().filter(|tree| tree.total_size() == blob.len()).ok_or(TreeError::Inconsistent)
}

/// Reads the memory reservation block; entries of no size reserve nothing.
///
/// # Errors
/// An entry passes the end of the address space.
pub(super) fn reservations(tree: &Fdt<'_>) -> Result<Vec<PaRange>, TreeError> {
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

/// Reads a tree that was written. Tells whether it is beyond doubt: no two siblings have one name, no two nodes have one
/// phandle, and there is no /reserved-memory, whose ranges are to be read with care.
///
/// # Errors
/// The tree is not what was meant, or a memory reservation is none.
pub(super) fn is_beyond_doubt(blob: &[u8], meant: &Meant<'_>) -> Result<bool, TreeError> {
    let tree = open(blob)?;
    reservations(&tree)?;
    let mut siblings = Vec::with_capacity(meant.parents.len());
    let mut phandles: Vec<&[u8]> = Vec::new();
    let (mut properties, mut names, mut values) = (0usize, 0usize, 0usize);
    for node in tree.all_nodes() {
        let parent = *meant.parents.get(siblings.len()).ok_or(TreeError::Inconsistent)?;
        // `fdt` calls the root "/"; no other node can have that name.
        let name = if siblings.is_empty() { "" } else { node.name };
        siblings.push((parent, name));
        names = names.saturating_add(name.len());
        for property in node.properties() {
            properties = properties.saturating_add(1);
            names = names.saturating_add(property.name.len());
            values = values.saturating_add(property.value.len());
            if matches!(property.name, "phandle" | "linux,phandle") {
                phandles.push(property.value);
            }
        }
    }
    if (siblings.len(), properties, names, values) != (meant.parents.len(), meant.properties, meant.names, meant.values)
    {
        return Err(TreeError::Inconsistent);
    }
    let reserved = siblings.iter().any(|(parent, name)| *parent == 0 && *name == "reserved-memory");
    crate::order::sort(&mut siblings);
    crate::order::sort(&mut phandles);
    Ok(!reserved && twice(siblings.into_iter()).is_none() && twice(phandles.into_iter()).is_none())
}
