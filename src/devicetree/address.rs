// SPDX-License-Identifier: MIT OR Apache-2.0
//! `reg`, and its translation through `ranges` to what the CPU sees (Devicetree Specification, sections 2.3.6 and
//! 2.3.8; for PCI, IEEE 1275 PCI bus binding, section 2.2.1.1).

use alloc::vec::Vec;

use super::error::ReadError;
use super::node::{Node, Property};
use super::{MAX_ENTRIES, index::to_usize};
use crate::addr::{Pa, PaRange};

/// The space code in the first cell of a PCI address: configuration, I/O, 32-bit and 64-bit memory.
const PCI_SPACE: u32 = 0x0300_0000;

/// One entry of `reg` as the CPU sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegEntry {
    /// The physical address.
    pub address: Pa,
    /// The size in bytes; 0 where the bus knows no sizes.
    pub size: u64,
}

impl RegEntry {
    /// Returns the range, or `None` when the size is 0.
    pub fn range(&self) -> Option<PaRange> {
        PaRange::new(self.address, self.size)
    }
}

/// One entry of `reg` as the node's bus sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRegEntry {
    /// The first cell of an address of three; else 0.
    pub space: u32,
    /// The last two cells of the address.
    pub address: u64,
    /// The size in bytes; 0 where the bus knows no sizes.
    pub size: u64,
}

/// An address on some bus.
#[derive(Clone, Copy)]
struct BusAddress {
    space: u32,
    value: u64,
}

/// How a bus writes addresses and sizes.
#[derive(Clone, Copy)]
struct Cells {
    address: u32,
    size: u32,
}

impl<'a> Node<'a> {
    /// Returns the entries of `reg` as the node's bus sees them; none when there is no `reg`.
    ///
    /// # Errors
    /// The length does not fit the bus's cells, or these are not 1 to 3 for an address and 0 to 2 for a size.
    pub fn raw_reg(self) -> Result<Vec<RawRegEntry>, ReadError> {
        let Some(reg) = self.property("reg") else {
            return Ok(Vec::new());
        };
        let malformed = || ReadError::Malformed { path: self.path(), property: "reg" };
        let cells = self.parent().ok_or_else(malformed)?.child_cells()?;
        let entries = self.entries(reg, "reg", cells.address.saturating_add(cells.size))?;
        entries
            .map(|mut entry| {
                let address = take_address(&mut entry, cells.address).ok_or_else(malformed)?;
                let size = take_size(&mut entry, cells.size).ok_or_else(malformed)?;
                Ok(RawRegEntry { space: address.space, address: address.value, size })
            })
            .collect()
    }

    /// Returns the entries of `reg` as the CPU sees them; none when there is no `reg`.
    ///
    /// # Errors
    /// As [`Node::raw_reg`]; and an entry that a bus above the node does not map as a whole, or that passes the end of
    /// the address space.
    pub fn reg(self) -> Result<Vec<RegEntry>, ReadError> {
        let entries = self.raw_reg()?;
        entries.into_iter().map(|entry| self.translate(entry)).collect()
    }

    /// Carries an entry up to the root through the `ranges` of each bus.
    fn translate(self, entry: RawRegEntry) -> Result<RegEntry, ReadError> {
        let mut at = BusAddress { space: entry.space, value: entry.address };
        for bus in self.ancestors() {
            let lost = || ReadError::NotTranslatable { path: self.path(), bus: bus.path(), address: at.value };
            let Some(parent) = bus.parent() else { break };
            let ranges = bus.property("ranges").ok_or_else(lost)?;
            if !ranges.value.is_empty() {
                at = bus.map(ranges, parent, at, entry.size)?.ok_or_else(lost)?;
            } else if at.space != 0 && parent.address_cells() != 3 {
                return Err(lost());
            }
        }
        if at.space != 0 || at.value.checked_add(entry.size).is_none() {
            return Err(ReadError::NotTranslatable { path: self.path(), bus: "/".into(), address: at.value });
        }
        Ok(RegEntry { address: Pa::new(at.value), size: entry.size })
    }

    /// Finds the entry of this bus's `ranges` that has all of `size` bytes from an address, and returns where the
    /// parent sees them.
    fn map(
        self,
        ranges: Property<'a>,
        parent: Self,
        from: BusAddress,
        size: u64,
    ) -> Result<Option<BusAddress>, ReadError> {
        let own = self.child_cells()?;
        let above = parent.child_cells()?;
        let length = own.address.saturating_add(above.address).saturating_add(own.size);
        let is_pci =
            self.property("device_type").and_then(Property::as_str).is_some_and(|kind| kind.starts_with("pci"));
        let significant = if is_pci { PCI_SPACE } else { u32::MAX };
        for mut entry in self.entries(ranges, "ranges", length)? {
            let malformed = || ReadError::Malformed { path: self.path(), property: "ranges" };
            let child = take_address(&mut entry, own.address).ok_or_else(malformed)?;
            let target = take_address(&mut entry, above.address).ok_or_else(malformed)?;
            let window = take_size(&mut entry, own.size).ok_or_else(malformed)?;
            if (child.space ^ from.space) & significant != 0 {
                continue;
            }
            let Some(offset) = from.value.checked_sub(child.value) else {
                continue;
            };
            if offset < window && size <= window.saturating_sub(offset) {
                let value = target.value.checked_add(offset);
                return Ok(value.map(|value| BusAddress { space: target.space, value }));
            }
        }
        Ok(None)
    }

    /// Returns the cells of this node's children.
    fn child_cells(self) -> Result<Cells, ReadError> {
        let cells = Cells { address: self.address_cells(), size: self.size_cells() };
        if !(1..=3).contains(&cells.address) {
            let property = "#address-cells";
            return Err(ReadError::UnsupportedCells { path: self.path(), property, cells: cells.address });
        }
        if cells.size > 2 {
            let property = "#size-cells";
            return Err(ReadError::UnsupportedCells { path: self.path(), property, cells: cells.size });
        }
        Ok(cells)
    }

    /// Splits a value into entries of `length` cells each.
    fn entries(
        self,
        property: Property<'a>,
        name: &'static str,
        length: u32,
    ) -> Result<impl Iterator<Item = impl Iterator<Item = u32>>, ReadError> {
        let size = to_usize(length).saturating_mul(4);
        if size == 0 || !property.value.len().is_multiple_of(size) {
            return Err(ReadError::Malformed { path: self.path(), property: name });
        }
        let entries = property.value.chunks_exact(size);
        if entries.len() > MAX_ENTRIES {
            return Err(ReadError::TooManyEntries { path: self.path(), property: name });
        }
        Ok(entries.map(move |value| Property { name, value }.cells()))
    }
}

/// Takes an address of one to three cells.
fn take_address(cells: &mut impl Iterator<Item = u32>, count: u32) -> Option<BusAddress> {
    let space = if count == 3 { cells.next()? } else { 0 };
    let value = take_size(cells, count.min(2))?;
    Some(BusAddress { space, value })
}

/// Takes a number of up to two cells.
fn take_size(cells: &mut impl Iterator<Item = u32>, count: u32) -> Option<u64> {
    let mut value = 0u64;
    for _ in 0..count {
        value = (value << 32) | u64::from(cells.next()?);
    }
    Some(value)
}
