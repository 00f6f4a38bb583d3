// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows a device's interrupts to the controller that takes them (Devicetree Specification, section 2.4).

use alloc::vec::Vec;

use super::node::{Node, Property};
use super::{DeviceTree, MAX_ENTRIES, error::ReadError, index::to_usize};
use crate::id::{Intid, Trigger};

/// The most nodes that the search for an interrupt parent visits.
const MAX_HOPS: usize = 64;
/// The most `interrupt-map`s that an interrupt passes.
const MAX_MAPS: usize = 8;
/// The most cells of an interrupt specifier or unit address.
const MAX_CELLS: usize = 4;

/// An interrupt, as the controller that takes it numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt<'a> {
    /// The controller.
    pub controller: Node<'a>,
    specifier: Cells,
}

impl Interrupt<'_> {
    /// Returns the specifier's cells, as many as the controller's `#interrupt-cells`.
    pub fn cells(&self) -> &[u32] {
        self.specifier.as_slice()
    }
}

/// Reads a specifier of the GIC's binding: three cells, or four with a set of CPUs behind them, which is ignored. `None`
/// for extended SPIs and PPIs, numbers out of range, and flags that are neither one edge (1, 2) nor one level (4, 8).
pub fn gic_interrupt(cells: &[u32]) -> Option<(Intid, Trigger)> {
    let ([kind, number, flags] | [kind, number, flags, _]) = *cells else {
        return None;
    };
    let intid = match kind {
        0 if number < 1020 - 32 => Intid::new(number.checked_add(32)?),
        1 if number < 16 => Intid::new(number.checked_add(16)?),
        _ => return None,
    };
    let trigger = match flags & 0xf {
        1 | 2 => Trigger::Edge,
        4 | 8 => Trigger::Level,
        _ => return None,
    };
    Some((intid, trigger))
}

/// Up to four cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cells {
    words: [u32; MAX_CELLS],
    count: usize,
}

impl Cells {
    /// Takes `count` cells; `None` when there are fewer or `count` is above four.
    fn take(from: &mut impl Iterator<Item = u32>, count: u32) -> Option<Self> {
        let mut cells = Self { count: to_usize(count), ..Self::default() };
        for word in cells.words.get_mut(..cells.count)? {
            *word = from.next()?;
        }
        Some(cells)
    }

    fn as_slice(&self) -> &[u32] {
        self.words.get(..self.count).unwrap_or_default()
    }
}

/// An interrupt on its way.
#[derive(Clone, Copy)]
struct Route<'a> {
    at: Node<'a>,
    address: Cells,
    specifier: Cells,
}

impl<'a> Node<'a> {
    /// Returns the node's interrupts, in the order of `interrupts-extended` or, without that, `interrupts`; none when it
    /// has neither.
    ///
    /// # Errors
    /// The property is malformed, or an interrupt does not lead to a controller.
    pub fn interrupts(self) -> Result<Vec<Interrupt<'a>>, ReadError> {
        let mut found = Vec::new();
        let (property, name, parent) = match (self.property("interrupts-extended"), self.property("interrupts")) {
            (Some(property), _) => (property, "interrupts-extended", None),
            (None, Some(property)) => (property, "interrupts", Some(self.interrupt_parent()?)),
            (None, None) => return Ok(found),
        };
        let malformed = || ReadError::Malformed { path: self.path(), property: name };
        if !property.value.len().is_multiple_of(4) {
            return Err(malformed());
        }
        let mut cells = property.cells();
        while cells.len() != 0 {
            if found.len() >= MAX_ENTRIES {
                return Err(ReadError::TooManyEntries { path: self.path(), property: name });
            }
            let at = match parent {
                Some(parent) => parent,
                None => self.phandle_target(cells.next().ok_or_else(malformed)?, name)?,
            };
            let specifier = Cells::take(&mut cells, at.interrupt_cells()?).ok_or_else(malformed)?;
            found.push(self.follow(Route { at, address: Cells::default(), specifier })?);
        }
        Ok(found)
    }

    /// Returns the node that takes what is in this node's `interrupts`: the nearest with `#interrupt-cells` on the way
    /// over `interrupt-parent`, or the tree's parent where that is not given.
    ///
    /// # Errors
    /// There is none, or an `interrupt-parent` names no node.
    pub fn interrupt_parent(self) -> Result<Self, ReadError> {
        let mut at = self;
        for _ in 0..MAX_HOPS {
            at = match at.property("interrupt-parent") {
                Some(property) => {
                    let malformed = || ReadError::Malformed { path: at.path(), property: "interrupt-parent" };
                    at.phandle_target(property.as_u32().ok_or_else(malformed)?, "interrupt-parent")?
                }
                None => at.parent().ok_or_else(|| ReadError::NoInterruptParent { path: self.path() })?,
            };
            if at.property("#interrupt-cells").is_some() {
                return Ok(at);
            }
        }
        Err(ReadError::EndlessInterruptRoute { path: self.path() })
    }

    /// Follows an interrupt of this node through `interrupt-map`s to a controller.
    fn follow(self, mut route: Route<'a>) -> Result<Interrupt<'a>, ReadError> {
        for hop in 0..=MAX_MAPS {
            let Some(map) = route.at.property("interrupt-map") else {
                if route.at.property("interrupt-controller").is_none() {
                    return Err(ReadError::NotAController { path: route.at.path() });
                }
                return Ok(Interrupt { controller: route.at, specifier: route.specifier });
            };
            if hop == 0 {
                route.address = self.unit_address(route.at.map_address_cells(2)?);
            }
            let next = route.at.map_interrupt(map, route.address, route.specifier)?;
            route = next.ok_or_else(|| ReadError::NotMapped { path: self.path(), nexus: route.at.path() })?;
        }
        Err(ReadError::EndlessInterruptRoute { path: self.path() })
    }

    /// Looks an interrupt up in this node's `interrupt-map`.
    fn map_interrupt(
        self,
        map: Property<'a>,
        address: Cells,
        specifier: Cells,
    ) -> Result<Option<Route<'a>>, ReadError> {
        let address_cells = self.map_address_cells(2)?;
        let interrupt_cells = self.interrupt_cells()?;
        let mask_error = || ReadError::Malformed { path: self.path(), property: "interrupt-map-mask" };
        let (address_mask, specifier_mask) = match self.property("interrupt-map-mask") {
            Some(mask) => {
                let mut cells = mask.cells();
                let address = Cells::take(&mut cells, address_cells).ok_or_else(mask_error)?;
                (address, Cells::take(&mut cells, interrupt_cells).ok_or_else(mask_error)?)
            }
            None => (Cells { words: [u32::MAX; _], count: 4 }, Cells { words: [u32::MAX; _], count: 4 }),
        };
        let malformed = || ReadError::Malformed { path: self.path(), property: "interrupt-map" };
        let mut cells = map.cells();
        for _ in 0..MAX_ENTRIES {
            if cells.len() == 0 {
                return Ok(None);
            }
            let entry_address = Cells::take(&mut cells, address_cells).ok_or_else(malformed)?;
            let entry_specifier = Cells::take(&mut cells, interrupt_cells).ok_or_else(malformed)?;
            let at = self.phandle_target(cells.next().ok_or_else(malformed)?, "interrupt-map")?;
            let next_address = Cells::take(&mut cells, at.map_address_cells(0)?).ok_or_else(malformed)?;
            let next_specifier = Cells::take(&mut cells, at.interrupt_cells()?).ok_or_else(malformed)?;
            if matches(address, entry_address, address_mask) && matches(specifier, entry_specifier, specifier_mask) {
                return Ok(Some(Route { at, address: next_address, specifier: next_specifier }));
            }
        }
        Err(ReadError::TooManyEntries { path: self.path(), property: "interrupt-map" })
    }

    /// Returns what this node's `interrupt-map` leads to, entry by entry, as far as it can be read: all interrupts that
    /// anything behind it may raise. Entries that lead to another map are that map's.
    pub fn interrupt_map(self) -> Vec<Interrupt<'a>> {
        let mut found = Vec::new();
        let Some(map) = self.property("interrupt-map") else { return found };
        let cells = self.map_address_cells(2).ok().zip(self.interrupt_cells().ok());
        let Some((address_cells, interrupt_cells)) = cells else { return found };
        let mut cells = map.cells();
        while cells.len() != 0 && found.len() < MAX_ENTRIES {
            let key = Cells::take(&mut cells, address_cells).and(Cells::take(&mut cells, interrupt_cells));
            let at = key.and(cells.next()).and_then(|phandle| self.tree().by_phandle(phandle));
            let Some(at) = at else { break };
            let Ok(address) = at.map_address_cells(0) else { break };
            let Ok(count) = at.interrupt_cells() else { break };
            let specifier = Cells::take(&mut cells, address).and(Cells::take(&mut cells, count));
            let Some(specifier) = specifier else { break };
            found.push(Interrupt { controller: at, specifier });
        }
        found
    }

    /// Returns the first cells of `reg`; 0 where there is none.
    fn unit_address(self, count: u32) -> Cells {
        let mut reg = self.property("reg").into_iter().flat_map(Property::cells);
        let mut cells = Cells { count: to_usize(count), ..Cells::default() };
        for word in cells.words.iter_mut().take(cells.count) {
            *word = reg.next().unwrap_or(0);
        }
        cells
    }

    /// Returns `#interrupt-cells`, 1 to 4.
    fn interrupt_cells(self) -> Result<u32, ReadError> {
        let property = "#interrupt-cells";
        let cells = self.property(property).and_then(Property::as_u32);
        let cells = cells.ok_or_else(|| ReadError::Malformed { path: self.path(), property })?;
        if cells == 0 || to_usize(cells) > MAX_CELLS {
            return Err(ReadError::UnsupportedCells { path: self.path(), property, cells });
        }
        Ok(cells)
    }

    /// Returns the cells of a unit address in an `interrupt-map`, 0 to 4: a controller that does not say has none, other
    /// nodes two.
    fn map_address_cells(self, default: u32) -> Result<u32, ReadError> {
        let property = "#address-cells";
        let cells = self.property(property).and_then(Property::as_u32).unwrap_or(default);
        if to_usize(cells) > MAX_CELLS {
            return Err(ReadError::UnsupportedCells { path: self.path(), property, cells });
        }
        Ok(cells)
    }

    /// Returns the node that a phandle in a property of this node names.
    fn phandle_target(self, phandle: u32, property: &'static str) -> Result<Self, ReadError> {
        let tree: &'a DeviceTree = self.tree();
        tree.by_phandle(phandle).ok_or_else(|| ReadError::UnknownPhandle { path: self.path(), property, phandle })
    }
}

/// Tells whether two specifiers or addresses agree in the bits of a mask.
fn matches(given: Cells, entry: Cells, mask: Cells) -> bool {
    let pairs = given.words.iter().zip(entry.as_slice());
    pairs.zip(mask.words).all(|((given, entry), mask)| (given ^ entry) & mask == 0)
}
