// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reader of flattened device trees (Devicetree Specification 0.4, chapter 5), as small as the guests need.
//!
//! It is not the reader of the hypervisor: the guests judge the trees that Septum generates, with other code. A guest may
//! trust its tree, so a damaged one gives missing nodes, never a wrong access.

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

/// How deep nodes may nest.
const DEPTH: usize = 12;

/// A flattened device tree in memory.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
}

/// One level above a node: its name and how it numbers its children.
#[derive(Clone, Copy)]
struct Level<'a> {
    name: &'a str,
    address_cells: usize,
    size_cells: usize,
    /// `None` when the children's addresses mean nothing outside.
    ranges: Option<&'a [u8]>,
}

/// A node met on a walk.
pub struct Node<'w, 'a> {
    tree: Tree<'a>,
    /// The node's name with its unit address; empty for the root.
    pub name: &'a str,
    properties: &'a [u8],
    parents: &'w [Level<'a>],
}

/// Returns the size in bytes that the header at the start of `header` states, at least 8 bytes of it being there.
pub fn total_size(header: &[u8]) -> Option<usize> {
    (word(header, 0)? == MAGIC).then_some(word(header, 4)? as usize)
}

impl<'a> Tree<'a> {
    /// Finds the blocks of `blob`; `None` when it is no device tree of version 17.
    pub fn new(blob: &'a [u8]) -> Option<Self> {
        let size = total_size(blob)?;
        let blob = blob.get(..size)?;
        let block = |start: usize, length: usize| {
            let from = word(blob, start)? as usize;
            blob.get(from..from.checked_add(word(blob, length)? as usize)?)
        };
        Some(Self { structure: block(8, 36)?, strings: block(12, 32)? })
    }

    /// Calls `visit` for each node, parents first.
    pub fn walk(&self, mut visit: impl FnMut(&Node<'_, 'a>)) {
        let root = Level { name: "", address_cells: 2, size_cells: 1, ranges: Some(&[]) };
        let mut levels = [root; DEPTH];
        let mut depth = 0;
        let mut at = 0;
        while let Some(token) = word(self.structure, at) {
            at += 4;
            match token {
                BEGIN_NODE => {
                    let name = text(self.structure.get(at..).unwrap_or(&[]));
                    at = (at + name.len() + 1).next_multiple_of(4);
                    let node = Node {
                        tree: *self,
                        name,
                        properties: self.structure.get(at..).unwrap_or(&[]),
                        parents: &levels[..depth],
                    };
                    visit(&node);
                    let level = node.level();
                    let Some(place) = levels.get_mut(depth) else {
                        return;
                    };
                    *place = level;
                    depth += 1;
                }
                END_NODE => match depth.checked_sub(1) {
                    Some(above) => depth = above,
                    None => return,
                },
                PROP => at = (at + 8 + word(self.structure, at).unwrap_or(0) as usize).next_multiple_of(4),
                NOP => {}
                _ => return,
            }
        }
    }

    /// Calls `visit` for the node at `path`, which is an absolute path or an alias; options behind a colon are ignored.
    pub fn at_path(&self, path: &str, mut visit: impl FnMut(&Node<'_, 'a>)) {
        let path = path.split(':').next().unwrap_or("");
        if path.starts_with('/') {
            self.walk(|node| {
                if node.is_at(path) {
                    visit(node);
                }
            });
            return;
        }
        let mut target = "";
        self.walk(|node| {
            if node.is_at("/aliases") {
                target = node.property(path).map_or("", text);
            }
        });
        if target.starts_with('/') {
            self.at_path(target, visit);
        }
    }
}

impl<'a> Node<'_, 'a> {
    /// Returns the value of a property.
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        let mut at = 0;
        loop {
            match word(self.properties, at)? {
                NOP => at += 4,
                PROP => {
                    let length = word(self.properties, at + 4)? as usize;
                    let key = text(self.tree.strings.get(word(self.properties, at + 8)? as usize..)?);
                    if key == name {
                        return self.properties.get(at + 12..at + 12 + length);
                    }
                    at = (at + 12 + length).next_multiple_of(4);
                }
                _ => return None,
            }
        }
    }

    /// Returns the first string of a property.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.property(name).map(text)
    }

    /// Returns the first cell of a property.
    pub fn cell(&self, name: &str) -> Option<u32> {
        word(self.property(name)?, 0)
    }

    /// Returns a number of one or two cells.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.property(name)?;
        cells(value, 0, value.len() / 4)
    }

    /// Tells whether one of `names` is in `compatible`.
    pub fn is_compatible(&self, names: &[&str]) -> bool {
        self.property("compatible").is_some_and(|list| {
            list.split(|byte| *byte == 0).any(|entry| names.iter().any(|name| name.as_bytes() == entry))
        })
    }

    /// Tells whether the node is not disabled.
    pub fn is_enabled(&self) -> bool {
        self.text("status").is_none_or(|status| status == "okay" || status == "ok")
    }

    /// Tells whether the node's path is `path`.
    pub fn is_at(&self, path: &str) -> bool {
        let mut rest = path;
        let names = self.parents.iter().skip(1).map(|level| level.name).chain([self.name]);
        for name in names {
            if name.is_empty() {
                continue;
            }
            match rest.strip_prefix('/').and_then(|tail| tail.strip_prefix(name)) {
                Some(tail) => rest = tail,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// Returns the parent's name.
    pub fn parent(&self) -> &'a str {
        self.parents.last().map_or("", |level| level.name)
    }

    /// Returns entry `index` of `reg` as base and size, seen from the CPU.
    pub fn reg(&self, index: usize) -> Option<(u64, u64)> {
        let parent = self.parents.last()?;
        let stride = parent.address_cells + parent.size_cells;
        let value = self.property("reg")?;
        let address = cells(value, index * stride, parent.address_cells)?;
        let size = cells(value, index * stride + parent.address_cells, parent.size_cells)?;
        let mut address = address;
        for depth in (1..self.parents.len()).rev() {
            address = self.parents[depth].translate(address, self.parents[depth - 1].address_cells)?;
        }
        Some((address, size))
    }

    /// Returns the identifier of interrupt `index`, of a GIC with three cells, and whether it is edge-triggered.
    pub fn interrupt(&self, index: usize) -> Option<(u32, bool)> {
        let value = self.property("interrupts")?;
        let number = word(value, index * 12 + 4)?;
        let edge = word(value, index * 12 + 8)? & 3 != 0;
        match word(value, index * 12)? {
            0 => Some((number + 32, edge)),
            1 => Some((number + 16, edge)),
            _ => None,
        }
    }

    fn level(&self) -> Level<'a> {
        Level {
            name: self.name,
            address_cells: self.cell("#address-cells").unwrap_or(2) as usize,
            size_cells: self.cell("#size-cells").unwrap_or(1) as usize,
            ranges: self.property("ranges"),
        }
    }
}

impl Level<'_> {
    /// Takes an address of the children to the addresses around the node, which have `outer` cells.
    fn translate(&self, address: u64, outer: usize) -> Option<u64> {
        let ranges = self.ranges?;
        if ranges.is_empty() {
            return Some(address);
        }
        let stride = self.address_cells + outer + self.size_cells;
        (0..ranges.len() / (4 * stride.max(1))).find_map(|index| {
            let child = cells(ranges, index * stride, self.address_cells)?;
            let parent = cells(ranges, index * stride + self.address_cells, outer)?;
            let size = cells(ranges, index * stride + self.address_cells + outer, self.size_cells)?;
            let offset = address.checked_sub(child)?;
            (offset < size).then(|| parent + offset)
        })
    }
}

/// Returns the cell at byte `at`.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let cell = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]]))
}

/// Returns `count` cells from cell `first` on as one number; cells above the lowest two are dropped.
pub fn cells(bytes: &[u8], first: usize, count: usize) -> Option<u64> {
    let mut number = 0u64;
    for index in first..first + count {
        number = number << 32 | u64::from(word(bytes, index * 4)?);
    }
    Some(number)
}

/// Returns the text up to the first NUL.
fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{BEGIN_NODE, END_NODE, MAGIC, NOP, PROP, Tree};

    /// A writer of small trees.
    #[derive(Default)]
    struct Writer {
        structure: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Writer {
        fn begin(&mut self, name: &str) {
            self.structure.extend(BEGIN_NODE.to_be_bytes());
            self.padded(&[name.as_bytes(), &[0]].concat());
        }

        fn end(&mut self) {
            self.structure.extend(END_NODE.to_be_bytes());
        }

        fn prop(&mut self, name: &str, value: &[u8]) {
            self.structure.extend(NOP.to_be_bytes());
            self.structure.extend(PROP.to_be_bytes());
            self.structure.extend((value.len() as u32).to_be_bytes());
            self.structure.extend((self.strings.len() as u32).to_be_bytes());
            self.strings.extend([name.as_bytes(), &[0]].concat());
            self.padded(value);
        }

        fn cells(&mut self, name: &str, cells: &[u32]) {
            let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
            self.prop(name, &value);
        }

        fn padded(&mut self, bytes: &[u8]) {
            self.structure.extend(bytes);
            while !self.structure.len().is_multiple_of(4) {
                self.structure.push(0);
            }
        }

        fn finish(self) -> Vec<u8> {
            let start = 40;
            let strings = start + self.structure.len();
            let header = [
                MAGIC,
                (strings + self.strings.len()) as u32,
                start as u32,
                strings as u32,
                0,
                17,
                16,
                0,
                self.strings.len() as u32,
                self.structure.len() as u32,
            ];
            let header = header.iter().flat_map(|cell| cell.to_be_bytes());
            header.chain(self.structure).chain(self.strings).collect()
        }
    }

    fn sample() -> Vec<u8> {
        let mut tree = Writer::default();
        tree.begin("");
        tree.cells("#address-cells", &[2]);
        tree.cells("#size-cells", &[2]);
        tree.begin("soc");
        tree.cells("#address-cells", &[1]);
        tree.cells("#size-cells", &[1]);
        tree.cells("ranges", &[0x7e00_0000, 0, 0xfe00_0000, 0x0180_0000]);
        tree.begin("uart@7e201000");
        tree.prop("compatible", b"arm,pl011\0arm,primecell\0");
        tree.cells("reg", &[0x7e20_1000, 0x200]);
        tree.cells("interrupts", &[0, 1, 4, 1, 11, 1]);
        tree.end();
        tree.end();
        tree.begin("aliases");
        tree.prop("serial0", b"/soc/uart@7e201000\0");
        tree.end();
        tree.end();
        tree.finish()
    }

    #[test]
    fn reg_is_taken_through_ranges() {
        let blob = sample();
        let mut seen = None;
        Tree::new(&blob).unwrap().at_path("serial0:115200", |node| seen = node.reg(0));
        // `ranges` above has a two-cell parent address and a one-cell size.
        assert_eq!(seen, Some((0xfe20_1000, 0x200)));
    }

    #[test]
    fn interrupts_are_spis_and_ppis() {
        let blob = sample();
        let mut seen = None;
        Tree::new(&blob).unwrap().at_path("/soc/uart@7e201000", |node| {
            assert!(node.is_compatible(&["arm,primecell"]));
            seen = Some((node.interrupt(0), node.interrupt(1), node.interrupt(2)));
        });
        assert_eq!(seen, Some((Some((33, false)), Some((27, true)), None)));
    }

    #[test]
    fn a_truncated_tree_is_refused() {
        let blob = sample();
        assert!(Tree::new(&blob[..blob.len() - 1]).is_none());
        assert!(Tree::new(&[]).is_none());
    }
}
