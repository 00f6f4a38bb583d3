// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-2 translation tables as a pure builder: what is mapped where, in the largest blocks that alignment allows.
//!
//! The builder owns the layout of the tables (Arm ARM, D8 "The AArch64 Virtual Memory System Architecture", 4 KiB
//! granule); where they live is the business of its [`Tables`]. A mapping is only ever added to an entry that was
//! invalid, so building needs no break-before-make; the tables are not touched while a vCPU of the partition runs.

use core::fmt;

use crate::addr::{Ipa, Pa};

/// Entries of one table.
pub const ENTRIES: usize = 512;

const VALID: u64 = 1 << 0;
const TABLE_OR_PAGE: u64 = 1 << 1;
const ACCESS_FLAG: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const READ_WRITE: u64 = 0b11 << 6;
const CONTIGUOUS: u64 = 1 << 52;
const EXECUTE_NEVER: u64 = 1 << 54;
const OUTPUT_ADDRESS: u64 = 0xffff_ffff_f000;

/// What a guest may do with a mapping, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM: Normal write-back memory, read, write and execute.
    Ram,
    /// A device: Device-nGnRE, read and write, never executable.
    Device,
}

/// Whether a map is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is.
    Valid,
    /// It is taken away as a whole.
    Invalid,
}

/// Whether stage 2 forces its memory types upon stage 1 (FEAT_S2FWB, HCR_EL2.FWB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedWriteBack {
    /// MemAttr means what FEAT_S2FWB says.
    On,
    /// MemAttr is combined with stage 1's attributes.
    Off,
}

/// The shape of a partition's guest-physical address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Width of a guest-physical address, 32 to 48.
    pub ipa_bits: u8,
    /// The encoding of memory types.
    pub forced_write_back: ForcedWriteBack,
}

impl Geometry {
    /// Returns the geometry for a CPU with `pa_bits` of physical address and a guest whose highest guest-physical
    /// address is `highest`: 40 bits, or what the CPU has if that is less, or up to 48 where the guest needs more.
    pub fn new(pa_bits: u8, highest: Ipa, forced_write_back: ForcedWriteBack) -> Self {
        let wanted = if highest.get() >> 40 == 0 { 40 } else { 48 };
        Self { ipa_bits: wanted.min(pa_bits).clamp(32, 48), forced_write_back }
    }

    /// Returns the level at which a walk starts.
    const fn start_level(self) -> u8 {
        if self.ipa_bits > 43 { 0 } else { 1 }
    }

    /// Returns how many tables are concatenated at the start level (Arm ARM, "Concatenated translation tables").
    pub const fn root_tables(self) -> usize {
        let resolved = if self.start_level() == 0 { 48 } else { 39 };
        if self.ipa_bits > resolved { 1 << (self.ipa_bits - resolved) } else { 1 }
    }

    /// Returns VTCR_EL2 for this geometry: T0SZ, SL0, inner-shareable write-back walks, 4 KiB granule, 8-bit VMID.
    /// `pa_range` is ID_AA64MMFR0_EL1.PARange, clamped to 48 bits.
    pub const fn vtcr(self, pa_range: u64) -> u64 {
        let t0sz = 64 - self.ipa_bits as u64;
        let sl0 = if self.start_level() == 0 { 2 } else { 1 };
        let pa_range = if pa_range > 5 { 5 } else { pa_range };
        (1 << 31) | (pa_range << 16) | (0b11 << 12) | (0b01 << 10) | (0b01 << 8) | (sl0 << 6) | t0sz
    }

    const fn memory_type(self, kind: Kind) -> u64 {
        match (kind, self.forced_write_back) {
            (Kind::Ram, ForcedWriteBack::Off) => 0b1111 << 2,
            (Kind::Ram, ForcedWriteBack::On) => 0b0110 << 2,
            (Kind::Device, _) => 0b0001 << 2,
        }
    }
}

/// The memory that tables are made of.
pub trait Tables {
    /// Returns a zeroed table, 4 KiB and aligned, or `None` when there is no more memory.
    fn allocate(&mut self) -> Option<Pa>;
    /// Returns entry `index` (below 512) of a table.
    fn get(&self, table: Pa, index: usize) -> u64;
    /// Writes entry `index` (below 512) of a table.
    fn set(&mut self, table: Pa, index: usize, entry: u64);
}

/// Why a mapping was refused. The planner's checks make each impossible for a checked plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the size is no multiple of 4 KiB, or the size is 0.
    Misaligned,
    /// The mapping passes the end of the guest-physical or the physical address space.
    OutOfRange,
    /// This guest-physical address is mapped already.
    AlreadyMapped(Ipa),
    /// No memory for a table.
    OutOfTables,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => write!(f, "a mapping is not made of whole 4 KiB pages"),
            Self::OutOfRange => write!(f, "a mapping passes the end of the address space"),
            Self::AlreadyMapped(ipa) => write!(f, "guest address {ipa} is mapped twice"),
            Self::OutOfTables => write!(f, "no memory is left for translation tables"),
        }
    }
}

/// How many leaves of each size a partition's map has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// 1 GiB blocks.
    pub gibibyte: u32,
    /// 2 MiB blocks.
    pub two_mebibyte: u32,
    /// 4 KiB pages.
    pub page: u32,
    /// How many of the 2 MiB blocks and pages carry the contiguous hint.
    pub contiguous: u32,
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} x 1 GiB, {} x 2 MiB, {} x 4 KiB ({} contiguous)",
            self.gibibyte, self.two_mebibyte, self.page, self.contiguous
        )
    }
}

/// The tables of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Stage2 {
    root: Pa,
    geometry: Geometry,
    histogram: Histogram,
}

impl Stage2 {
    /// Starts an empty map. `root` is [`Geometry::root_tables`] zeroed tables, contiguous and aligned to their size.
    pub fn new(root: Pa, geometry: Geometry) -> Self {
        Self { root, geometry, histogram: Histogram::default() }
    }

    /// Returns the address of the root, for VTTBR_EL2.BADDR.
    pub fn root(&self) -> Pa {
        self.root
    }

    /// Returns the geometry.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns how many leaves of each size were made.
    pub fn histogram(&self) -> Histogram {
        self.histogram
    }

    /// Makes every entry of the root invalid, so that nothing is reached through the tables, or valid again.
    pub fn set_validity(&self, tables: &mut impl Tables, validity: Validity) {
        for table in 0..self.geometry.root_tables() as u64 {
            let root = Pa::new(self.root.get() + table * 0x1000);
            for index in 0..512 {
                // Only valid entries were ever written, so that the others are 0.
                let entry = tables.get(root, index);
                match validity {
                    Validity::Invalid if entry != 0 => tables.set(root, index, entry & !VALID),
                    Validity::Valid if entry != 0 => tables.set(root, index, entry | VALID),
                    Validity::Invalid | Validity::Valid => {}
                }
            }
        }
    }

    /// Maps `size` bytes from `ipa` to `pa`, in the largest blocks that both addresses allow.
    ///
    /// # Errors
    ///
    /// See [`MapError`]. What was mapped before the error stays mapped.
    pub fn map(&mut self, tables: &mut impl Tables, ipa: Ipa, pa: Pa, size: u64, kind: Kind) -> Result<(), MapError> {
        if (ipa.get() | pa.get() | size) & 0xfff != 0 || size == 0 {
            return Err(MapError::Misaligned);
        }
        let (Some(end), Some(pa_end)) = (ipa.checked_add(size), pa.checked_add(size)) else {
            return Err(MapError::OutOfRange);
        };
        if end.get() > 1 << self.geometry.ipa_bits || pa_end.get() > OUTPUT_ADDRESS + 0x1000 {
            return Err(MapError::OutOfRange);
        }
        let mut done = 0;
        while done < size {
            let (from, to) = (ipa.get() + done, pa.get() + done);
            let level = largest_level(from | to, size - done);
            let contiguous = self.contiguous_hint(ipa, pa, size, done, level);
            self.set_leaf(tables, Ipa::new(from), Pa::new(to), level, kind, contiguous)?;
            done += level_size(level);
        }
        Ok(())
    }

    /// Returns the physical address that a guest-physical one reaches, and as what.
    pub fn translate(&self, tables: &impl Tables, ipa: Ipa) -> Option<(Pa, Kind)> {
        if ipa.get() >> self.geometry.ipa_bits != 0 {
            return None;
        }
        let mut table = self.root_table(ipa);
        for level in self.geometry.start_level()..=3 {
            let entry = tables.get(table, index(ipa, level));
            if entry & VALID == 0 {
                return None;
            }
            let target = entry & OUTPUT_ADDRESS;
            if level == 3 || entry & TABLE_OR_PAGE == 0 {
                let kind = if entry & EXECUTE_NEVER == 0 { Kind::Ram } else { Kind::Device };
                return Some((Pa::new(target | (ipa.get() & (level_size(level) - 1))), kind));
            }
            table = Pa::new(target);
        }
        None
    }

    /// Visits every leaf of the tables as they stand, ascending by guest-physical address.
    pub fn for_each_leaf(&self, tables: &impl Tables, visit: &mut impl FnMut(Leaf)) {
        let start = self.geometry.start_level();
        for table in 0..self.geometry.root_tables() as u64 {
            let base = Ipa::new(table * level_size(start) * ENTRIES as u64);
            walk(tables, Pa::new(self.root.get() + table * 4096), base, start, visit);
        }
    }

    /// Tells whether the leaf at offset `done` belongs to an aligned group of 16 equal leaves inside the mapping.
    fn contiguous_hint(&self, ipa: Ipa, pa: Pa, size: u64, done: u64, level: u8) -> Contiguous {
        let group = level_size(level) * 16;
        if level < 2 || (ipa.get() ^ pa.get()) & (group - 1) != 0 {
            return Contiguous::No;
        }
        let start = (ipa.get() + done) & !(group - 1);
        // Groups are only of leaves of this level: a larger block would have been chosen for a larger aligned run.
        let whole = start >= ipa.get() && start + group <= ipa.get() + size;
        if whole { Contiguous::Yes } else { Contiguous::No }
    }

    fn root_table(&self, ipa: Ipa) -> Pa {
        let level = self.geometry.start_level();
        let which = ipa.get() / (level_size(level) * ENTRIES as u64);
        Pa::new(self.root.get() + which * 4096)
    }

    fn set_leaf(
        &mut self,
        tables: &mut impl Tables,
        ipa: Ipa,
        pa: Pa,
        leaf: u8,
        kind: Kind,
        contiguous: Contiguous,
    ) -> Result<(), MapError> {
        let mut table = self.root_table(ipa);
        for level in self.geometry.start_level()..leaf {
            let entry = tables.get(table, index(ipa, level));
            table = if entry & VALID == 0 {
                let next = tables.allocate().ok_or(MapError::OutOfTables)?;
                tables.set(table, index(ipa, level), next.get() | VALID | TABLE_OR_PAGE);
                next
            } else if entry & TABLE_OR_PAGE != 0 {
                Pa::new(entry & OUTPUT_ADDRESS)
            } else {
                return Err(MapError::AlreadyMapped(ipa));
            };
        }
        if tables.get(table, index(ipa, leaf)) & VALID != 0 {
            return Err(MapError::AlreadyMapped(ipa));
        }
        let mut entry = pa.get() | VALID | ACCESS_FLAG | READ_WRITE | self.geometry.memory_type(kind);
        entry |= match kind {
            Kind::Ram => INNER_SHAREABLE,
            Kind::Device => EXECUTE_NEVER,
        };
        if leaf == 3 {
            entry |= TABLE_OR_PAGE;
        }
        if contiguous == Contiguous::Yes {
            entry |= CONTIGUOUS;
            self.histogram.contiguous += 1;
        }
        tables.set(table, index(ipa, leaf), entry);
        match leaf {
            1 => self.histogram.gibibyte += 1,
            2 => self.histogram.two_mebibyte += 1,
            _ => self.histogram.page += 1,
        }
        Ok(())
    }
}

/// One leaf of a partition's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its guest-physical address.
    pub ipa: Ipa,
    /// The physical address it reaches.
    pub pa: Pa,
    /// Bytes that it maps.
    pub size: u64,
    /// What it is mapped as.
    pub kind: Kind,
}

/// Visits the leaves below one table; depth is bounded by the four levels.
fn walk(tables: &impl Tables, table: Pa, base: Ipa, level: u8, visit: &mut impl FnMut(Leaf)) {
    for index in 0..ENTRIES {
        let entry = tables.get(table, index);
        if entry & VALID == 0 {
            continue;
        }
        let ipa = Ipa::new(base.get() + index as u64 * level_size(level));
        let target = Pa::new(entry & OUTPUT_ADDRESS);
        if level < 3 && entry & TABLE_OR_PAGE != 0 {
            walk(tables, target, ipa, level + 1, visit);
        } else {
            let kind = if entry & EXECUTE_NEVER == 0 { Kind::Ram } else { Kind::Device };
            visit(Leaf { ipa, pa: target, size: level_size(level), kind });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contiguous {
    Yes,
    No,
}

/// Returns the bytes that one entry of a level covers.
const fn level_size(level: u8) -> u64 {
    match level {
        0 => 1 << 39,
        1 => 1 << 30,
        2 => 1 << 21,
        _ => 1 << 12,
    }
}

/// Returns the level of the largest leaf for addresses with these low bits and this much left to map.
const fn largest_level(addresses: u64, left: u64) -> u8 {
    let mut level = 1;
    while level < 3 && (addresses & (level_size(level) - 1) != 0 || left < level_size(level)) {
        level += 1;
    }
    level
}

const fn index(ipa: Ipa, level: u8) -> usize {
    ((ipa.get() / level_size(level)) % ENTRIES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::vec;
    use std::vec::Vec;

    /// Tables in a map; allocated from 0x1_0000 upwards.
    struct Fake {
        entries: HashMap<(u64, usize), u64>,
        next: u64,
        left: usize,
    }

    impl Fake {
        fn new(left: usize) -> Self {
            Self { entries: HashMap::new(), next: 0x10_0000, left }
        }
    }

    impl Tables for Fake {
        fn allocate(&mut self) -> Option<Pa> {
            self.left = self.left.checked_sub(1)?;
            self.next += 4096;
            Some(Pa::new(self.next))
        }
        fn get(&self, table: Pa, index: usize) -> u64 {
            self.entries.get(&(table.get(), index)).copied().unwrap_or(0)
        }
        fn set(&mut self, table: Pa, index: usize, entry: u64) {
            assert!(index < ENTRIES);
            self.entries.insert((table.get(), index), entry);
        }
    }

    const FORTY: Geometry = Geometry { ipa_bits: 40, forced_write_back: ForcedWriteBack::Off };

    #[test]
    fn aligned_ram_uses_the_largest_blocks() {
        let mut tables = Fake::new(8);
        let mut map = Stage2::new(Pa::new(0), FORTY);
        map.map(&mut tables, Ipa::new(0x4000_0000), Pa::new(0x8000_0000), 0x4020_1000, Kind::Ram).unwrap();
        let h = map.histogram();
        assert_eq!((h.gibibyte, h.two_mebibyte, h.page), (1, 1, 1));
    }

    #[test]
    fn sixteen_aligned_blocks_carry_the_contiguous_hint_and_fifteen_do_not() {
        for (blocks, expected) in [(15, 0), (16, 16), (17, 16)] {
            let mut tables = Fake::new(8);
            let mut map = Stage2::new(Pa::new(0), FORTY);
            map.map(&mut tables, Ipa::new(0x4000_0000), Pa::new(0x4200_0000), blocks << 21, Kind::Ram).unwrap();
            assert_eq!(map.histogram().contiguous, expected, "{blocks} blocks");
        }
    }

    #[test]
    fn last_page_of_the_address_space_maps_and_the_next_does_not() {
        let mut tables = Fake::new(8);
        let mut map = Stage2::new(Pa::new(0), FORTY);
        let last = Ipa::new((1 << 40) - 4096);
        map.map(&mut tables, last, Pa::new(0x9000), 4096, Kind::Device).unwrap();
        assert_eq!(map.translate(&tables, last), Some((Pa::new(0x9000), Kind::Device)));
        let behind = Ipa::new(1 << 40);
        assert_eq!(map.map(&mut tables, behind, Pa::new(0), 4096, Kind::Ram), Err(MapError::OutOfRange));
        assert_eq!(map.translate(&tables, behind), None);
    }

    #[test]
    fn mapping_twice_is_refused() {
        let mut tables = Fake::new(8);
        let mut map = Stage2::new(Pa::new(0), FORTY);
        map.map(&mut tables, Ipa::new(0), Pa::new(0), 2 << 20, Kind::Ram).unwrap();
        let again = map.map(&mut tables, Ipa::new(0x1000), Pa::new(0), 4096, Kind::Ram);
        assert_eq!(again, Err(MapError::AlreadyMapped(Ipa::new(0x1000))));
    }

    #[test]
    fn map_that_is_taken_away_reaches_nothing_and_comes_back_as_it_was() {
        let mut tables = Fake::new(16);
        let mut map = Stage2::new(Pa::new(0), FORTY);
        let last = Ipa::new((1 << 40) - 4096);
        map.map(&mut tables, Ipa::new(0), Pa::new(0), 2 << 20, Kind::Ram).unwrap();
        map.map(&mut tables, last, Pa::new(0x3000), 4096, Kind::Device).unwrap();
        let before = tables.entries.clone();
        map.set_validity(&mut tables, Validity::Invalid);
        assert_eq!((map.translate(&tables, Ipa::new(0)), map.translate(&tables, last)), (None, None));
        map.for_each_leaf(&tables, &mut |leaf| panic!("{leaf:?}"));
        map.set_validity(&mut tables, Validity::Valid);
        assert_eq!(tables.entries, before);
    }

    #[test]
    fn devices_are_never_executable() {
        for kind in [Kind::Ram, Kind::Device] {
            let mut tables = Fake::new(8);
            let mut map = Stage2::new(Pa::new(0), FORTY);
            map.map(&mut tables, Ipa::new(0x1000), Pa::new(0x2000), 4096, kind).unwrap();
            let leaf = tables.entries.values().find(|e| *e & OUTPUT_ADDRESS == 0x2000).unwrap();
            assert_eq!(leaf & EXECUTE_NEVER != 0, kind == Kind::Device);
        }
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let mut map = Stage2::new(Pa::new(0), FORTY);
        let result = map.map(&mut Fake::new(1), Ipa::new(0), Pa::new(0), 4096, Kind::Ram);
        assert_eq!(result, Err(MapError::OutOfTables));
    }

    #[test]
    fn geometry_follows_cpu_and_guest() {
        let off = ForcedWriteBack::Off;
        for (pa_bits, highest, bits, roots) in [
            (40, 0, 40, 2),
            (48, 0xff_ffff_ffff, 40, 2),
            (48, 0x100_0000_0000, 48, 1),
            (44, 0x100_0000_0000, 44, 1),
            (36, 0, 36, 1),
            (32, 0, 32, 1),
        ] {
            let geometry = Geometry::new(pa_bits, Ipa::new(highest), off);
            assert_eq!((geometry.ipa_bits, geometry.root_tables()), (bits, roots), "{pa_bits} {highest:#x}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Whatever is mapped translates page by page as asked, and nothing else translates.
        #[test]
        fn map_agrees_with_a_list_of_pages(pieces in prop::collection::vec((0u64..0x800, 0u64..0x800, 1u64..0x500), 1..6)) {
            let mut tables = Fake::new(64);
            let mut map = Stage2::new(Pa::new(0), FORTY);
            let mut pages: Vec<Option<u64>> = vec![None; 0x1000];
            for (ipa, pa, count) in pieces {
                let free = pages.iter().skip(ipa as usize).take(count as usize).all(Option::is_none);
                if !free {
                    continue;
                }
                map.map(&mut tables, Ipa::new(ipa << 12), Pa::new(pa << 12), count << 12, Kind::Ram).unwrap();
                for page in 0..count {
                    pages[(ipa + page) as usize] = Some((pa + page) << 12);
                }
            }
            for (page, expected) in pages.iter().enumerate() {
                let found = map.translate(&tables, Ipa::new((page as u64) << 12));
                prop_assert_eq!(found.map(|(pa, _)| pa.get()), *expected);
            }
            let mut visited = 0;
            map.for_each_leaf(&tables, &mut |leaf| {
                assert_eq!(map.translate(&tables, leaf.ipa), Some((leaf.pa, leaf.kind)));
                visited += leaf.size >> 12;
            });
            prop_assert_eq!(visited, pages.iter().flatten().count() as u64);
        }
    }
}
