// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL2's own translation (stage 1 of the EL2 regime, 4 KiB granule, 48 bits). What the hypervisor uses is mapped at its
//! physical address with the least permissions that serve; guest memory is not mapped but through a [`Window`], a piece
//! of address space that each CPU has for itself.
//!
//! The tables are written by the boot CPU before any other CPU runs, except for a CPU's own window.

use core::cell::UnsafeCell;

use super::secondary::Translation;
use super::sysreg::{dsb_ishst, dsb_nsh, isb};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE, Pa, PaRange, Va};
use crate::{memory, read_sysreg, write_sysreg};

const VALID: u64 = 1 << 0;
const TABLE_OR_PAGE: u64 = 1 << 1;
const AP_RES1: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;
const ADDRESS: u64 = 0xffff_ffff_f000;

/// MAIR_EL2: 0 is Device-nGnRE, 1 is Normal write-back.
const MAIR: u64 = 0xff_04;
/// T0SZ = 16, inner-shareable write-back walks, 4 KiB granule; RES1 bits 31 and 23.
const TCR: u64 = (1 << 31) | (1 << 23) | (0b11 << 12) | (0b01 << 10) | (0b01 << 8) | 16;
/// RES1 bits, and M, C, SA, I, WXN.
const SCTLR: u64 = 0x30c5_0830 | (1 << 0) | (1 << 2) | (1 << 3) | (1 << 12) | (1 << 19);

/// The entry of the root that holds each CPU's window.
const WINDOW_ROOT_INDEX: u64 = 511;
/// Where a CPU's window begins.
const WINDOW: u64 = WINDOW_ROOT_INDEX << 39;

/// What a piece of the hypervisor's address space is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Instructions: read and execute.
    Text,
    /// Constants: read only.
    ReadOnly,
    /// Data: read and write.
    Data,
    /// Registers: Device-nGnRE, read and write.
    Device,
}

impl Use {
    const fn attributes(self) -> u64 {
        let normal = (1 << 2) | INNER_SHAREABLE | AP_RES1 | ACCESS_FLAG;
        match self {
            Self::Text => normal | READ_ONLY,
            Self::ReadOnly => normal | READ_ONLY | EXECUTE_NEVER,
            Self::Data => normal | EXECUTE_NEVER,
            Self::Device => AP_RES1 | ACCESS_FLAG | EXECUTE_NEVER,
        }
    }
}

/// Why something could not be mapped at EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is no memory for a table.
    OutOfTables,
    /// The address does not fit, or is mapped for something else already.
    Conflict(Pa),
}

/// Tables for the time before there is a heap: one of each level, for the hypervisor's own block.
const EARLY_TABLES: usize = 4;

#[repr(C, align(4096))]
struct Early(UnsafeCell<[[u64; 512]; EARLY_TABLES]>);

// SAFETY: only the boot CPU uses it, before any other runs.
unsafe impl Sync for Early {}

static EARLY: Early = Early(UnsafeCell::new([[0; 512]; EARLY_TABLES]));

/// EL2's tables as one CPU sees them.
pub struct AddressSpace {
    root: Pa,
    early_used: usize,
}

/// Tells whether this CPU's MMU is on, at whichever exception level it runs.
pub fn is_on() -> bool {
    match (read_sysreg!("CurrentEL") >> 2) & 3 {
        2 => read_sysreg!("sctlr_el2") & 1 != 0,
        _ => false,
    }
}

impl AddressSpace {
    /// Starts the boot CPU's address space, empty.
    pub fn new() -> Self {
        Self { root: Pa::new(EARLY.0.get() as u64), early_used: 1 }
    }

    /// Maps a physical range at its own address, whole pages around it.
    ///
    /// # Errors
    ///
    /// See [`MapError`]; mapping a page again for the same use is none.
    pub fn map(&mut self, range: PaRange, used_for: Use) -> Result<(), MapError> {
        let range = range.align_out(PAGE_SIZE).ok_or(MapError::Conflict(range.start()))?;
        if range.end().get() >= WINDOW {
            return Err(MapError::Conflict(range.start()));
        }
        let mut at = range.start().get();
        while at < range.end().get() {
            let block = at % BLOCK_SIZE == 0 && range.end().get() - at >= BLOCK_SIZE;
            if block {
                self.map_leaf(at, 2, used_for)?;
                at += BLOCK_SIZE;
            } else {
                at = self.map_pages(at, range.end().get(), used_for)?;
            }
        }
        dsb_ishst();
        isb();
        Ok(())
    }

    /// Makes a page inaccessible, such as a guard. Only what was mapped page by page, as image and heap are.
    pub fn unmap_page(&mut self, pa: Pa) {
        let Some(entry) = self.page_slot(pa.get()) else { return };
        // SAFETY: an entry of this address space's tables; the page belongs to the caller and nothing refers to it.
        unsafe { entry.write_volatile(0) };
        invalidate(Va::new(pa.get()));
    }

    /// Makes a range inaccessible that was mapped by one call of [`AddressSpace::map`] and is needed no more.
    pub fn unmap(&mut self, range: PaRange) {
        let Some(range) = range.align_out(PAGE_SIZE) else { return };
        let mut at = range.start().get();
        while at < range.end().get() {
            match self.block_slot(at) {
                Some(entry) => {
                    // SAFETY: an entry of this address space's tables; the range belongs to the caller and nothing refers to it.
                    unsafe { entry.write_volatile(0) };
                    invalidate(Va::new(at));
                    at += BLOCK_SIZE;
                }
                None => {
                    self.unmap_page(Pa::new(at));
                    at += PAGE_SIZE;
                }
            }
        }
    }

    /// Returns the level-2 entry that maps an address by a block.
    fn block_slot(&self, address: u64) -> Option<*mut u64> {
        let mut table = self.root.get();
        for level in 0..=2 {
            let at = slot(table, address, level);
            // SAFETY: `table` is one of this address space's tables.
            let entry = unsafe { at.read_volatile() };
            match entry & (VALID | TABLE_OR_PAGE) {
                0b11 => table = entry & ADDRESS,
                0b01 if level == 2 => return Some(at),
                _ => return None,
            }
        }
        None
    }

    /// Maps the pages from `start` to `end` that one table holds; returns where it came to.
    fn map_pages(&mut self, start: u64, end: u64, used_for: Use) -> Result<u64, MapError> {
        self.map_leaf(start, 3, used_for)?;
        let mut at = start + PAGE_SIZE;
        let end = end.min((start | (BLOCK_SIZE - 1)) + 1);
        let Some(first) = self.page_slot(start) else { return Ok(at) };
        while at < end {
            let entry = first.wrapping_add(((at - start) / PAGE_SIZE) as usize);
            let wanted = at | VALID | TABLE_OR_PAGE | used_for.attributes();
            // SAFETY: the table that holds `start` holds all pages of its 2 MiB, and is this address space's own.
            let found = unsafe { entry.read_volatile() };
            if found & VALID != 0 && found != wanted {
                return Err(MapError::Conflict(Pa::new(at)));
            }
            // SAFETY: as above; an entry goes from invalid to valid only, which needs no break-before-make.
            unsafe { entry.write_volatile(wanted) };
            at += PAGE_SIZE;
        }
        Ok(at)
    }

    /// Returns the entry of a page, or `None` where the tables end or map a block.
    fn page_slot(&self, address: u64) -> Option<*mut u64> {
        let mut table = self.root.get();
        for level in 0..3 {
            // SAFETY: `table` is one of this address space's tables.
            let entry = unsafe { slot(table, address, level).read_volatile() };
            if entry & (VALID | TABLE_OR_PAGE) != VALID | TABLE_OR_PAGE {
                return None;
            }
            table = entry & ADDRESS;
        }
        Some(slot(table, address, 3))
    }

    fn map_leaf(&mut self, address: u64, leaf: u8, used_for: Use) -> Result<(), MapError> {
        let mut table = self.root.get();
        for level in 0..leaf {
            let at = slot(table, address, level);
            // SAFETY: `table` is one of this address space's tables.
            let entry = unsafe { at.read_volatile() };
            table = match entry & (VALID | TABLE_OR_PAGE) {
                0b11 => entry & ADDRESS,
                // A larger block for the same use covers it.
                0b01 if entry & !(ADDRESS | VALID) == used_for.attributes() => return Ok(()),
                0b01 => return Err(MapError::Conflict(Pa::new(address))),
                _ => {
                    let next = self.table()?;
                    // SAFETY: as above.
                    unsafe { at.write_volatile(next.get() | VALID | TABLE_OR_PAGE) };
                    next.get()
                }
            };
        }
        let at = slot(table, address, leaf);
        let kind = if leaf == 3 { VALID | TABLE_OR_PAGE } else { VALID };
        let wanted = address | kind | used_for.attributes();
        // SAFETY: `table` is one of this address space's tables.
        let found = unsafe { at.read_volatile() };
        if found & VALID != 0 && found != wanted {
            return Err(MapError::Conflict(Pa::new(address)));
        }
        // SAFETY: as above; an entry goes from invalid to valid only, which needs no break-before-make.
        unsafe { at.write_volatile(wanted) };
        Ok(())
    }

    fn table(&mut self) -> Result<Pa, MapError> {
        if self.early_used < EARLY_TABLES {
            let table = Pa::new(EARLY.0.get() as u64 + self.early_used as u64 * PAGE_SIZE);
            self.early_used += 1;
            return Ok(table);
        }
        memory::pages(1, 1).ok_or(MapError::OutOfTables)
    }

    /// Returns the translation registers of this address space.
    pub fn translation(&self) -> Translation {
        let pa_range = (read_sysreg!("id_aa64mmfr0_el1") & 0xf).min(5);
        Translation { ttbr0: self.root.get(), tcr: TCR | (pa_range << 16), mair: MAIR, sctlr: SCTLR }
    }

    /// Makes another CPU's address space: the same but for a window of its own.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfTables`].
    pub fn for_another_cpu(&self) -> Result<Self, MapError> {
        let root = memory::pages(1, 1).ok_or(MapError::OutOfTables)?;
        for index in 0..512_u64 {
            // SAFETY: both roots are live tables of 512 entries.
            let entry = unsafe { ((self.root.get() + index * 8) as *const u64).read_volatile() };
            let kept = if index == WINDOW_ROOT_INDEX { 0 } else { entry };
            // SAFETY: the new root is this function's own.
            unsafe { ((root.get() + index * 8) as *mut u64).write_volatile(kept) };
        }
        Ok(Self { root, early_used: EARLY_TABLES })
    }

    /// Gives this address space its window.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfTables`].
    pub fn window(&mut self) -> Result<Window, MapError> {
        let upper = memory::pages(1, 1).ok_or(MapError::OutOfTables)?;
        let lower = memory::pages(1, 1).ok_or(MapError::OutOfTables)?;
        let pages = memory::pages(1, 1).ok_or(MapError::OutOfTables)?;
        // SAFETY: both tables are fresh, and the root is this address space's own.
        unsafe { slot(upper.get(), WINDOW, 1).write_volatile(lower.get() | VALID | TABLE_OR_PAGE) };
        // SAFETY: as above.
        unsafe { slot(self.root.get(), WINDOW, 0).write_volatile(upper.get() | VALID | TABLE_OR_PAGE) };
        dsb_ishst();
        isb();
        Ok(Window { table: lower, pages })
    }
}

impl Default for AddressSpace {
    fn default() -> Self {
        Self::new()
    }
}

/// A CPU's own way to physical memory that is not mapped: up to 2 MiB at a time, and no byte more than whole pages of what
/// is asked for, since behind it may be a neighbour's memory or none at all.
#[derive(Debug)]
pub struct Window {
    /// The level-2 table, of which the first entry is used.
    table: Pa,
    /// The level-3 table for less than a block.
    pages: Pa,
}

impl Window {
    /// Returns how many bytes from `pa` on the window can map at once: to the end of its 2 MiB block.
    pub fn reach(pa: Pa) -> u64 {
        BLOCK_SIZE - pa.get() % BLOCK_SIZE
    }

    /// Maps `size` bytes (at most [`Window::reach`]) from `pa` for the time of `f`, which gets their address.
    pub fn with<R>(&mut self, pa: Pa, size: u64, used_for: Use, f: impl FnOnce(Va) -> R) -> R {
        debug_assert!(size <= Self::reach(pa));
        let base = pa.align_down(BLOCK_SIZE);
        let offset = pa.get() - base.get();
        let first = pa.align_down(PAGE_SIZE).get() - base.get();
        let last = (offset + size).min(BLOCK_SIZE);
        let entry = if last - first == BLOCK_SIZE {
            base.get() | VALID | used_for.attributes()
        } else {
            for page in (first..last).step_by(PAGE_SIZE as usize) {
                let target = (base.get() + page) | VALID | TABLE_OR_PAGE | used_for.attributes();
                // SAFETY: the table is this window's own; the entry is invalid now.
                unsafe { slot(self.pages.get(), page, 3).write_volatile(target) };
            }
            self.pages.get() | VALID | TABLE_OR_PAGE
        };
        // SAFETY: as above.
        unsafe { slot(self.table.get(), WINDOW, 2).write_volatile(entry) };
        dsb_ishst();
        isb();
        let result = f(Va::new(WINDOW + offset));
        // SAFETY: as above; nothing outlives `f` that refers to the window.
        unsafe { slot(self.table.get(), WINDOW, 2).write_volatile(0) };
        if entry & TABLE_OR_PAGE == 0 {
            invalidate(Va::new(WINDOW));
            return result;
        }
        for page in (first..last).step_by(PAGE_SIZE as usize) {
            // SAFETY: as above.
            unsafe { slot(self.pages.get(), page, 3).write_volatile(0) };
        }
        dsb_ishst();
        // SAFETY: invalidation makes this CPU walk the tables again, nothing else.
        unsafe { core::arch::asm!("tlbi alle2", options(nostack)) };
        dsb_nsh();
        isb();
        result
    }
}

/// Visits all that EL2 maps on this CPU, but for the window.
pub fn for_each_mapping(visit: &mut impl FnMut(PaRange)) {
    walk_own(read_sysreg!("ttbr0_el2") & ADDRESS, 0, visit);
}

/// Visits the leaves below one of EL2's tables; depth is bounded by the four levels.
fn walk_own(table: u64, level: u8, visit: &mut impl FnMut(PaRange)) {
    for index in (0..512).filter(|index| level != 0 || *index != WINDOW_ROOT_INDEX) {
        // SAFETY: `table` is one of the live tables of this CPU's address space, which are mapped at their addresses.
        let entry = unsafe { ((table + index * 8) as *const u64).read_volatile() };
        match entry & (VALID | TABLE_OR_PAGE) {
            0b11 if level < 3 => walk_own(entry & ADDRESS, level + 1, visit),
            0b11 | 0b01 => {
                if let Some(range) = PaRange::new(Pa::new(entry & ADDRESS), 1 << (39 - 9 * u32::from(level))) {
                    visit(range);
                }
            }
            _ => {}
        }
    }
}

/// Turns the MMU and the caches on.
///
/// # Safety
///
/// The address space maps the code that runs, its stack and all it uses, at their physical addresses.
pub unsafe fn enable(translation: Translation) {
    write_sysreg!("mair_el2", translation.mair);
    write_sysreg!("tcr_el2", translation.tcr);
    write_sysreg!("ttbr0_el2", translation.ttbr0);
    isb();
    // SAFETY: invalidating the TLB of a CPU whose MMU is off loses nothing.
    unsafe { core::arch::asm!("tlbi alle2", "ic iallu", "dsb nsh", "isb", options(nostack)) };
    write_sysreg!("sctlr_el2", translation.sctlr);
    isb();
    super::mem::set_unaligned(true);
}

/// Turns the MMU and the caches off again, to report a failure of boot.
///
/// # Safety
///
/// Only the boot CPU runs, and what it still uses lies in `own`, the hypervisor's image and heap.
pub unsafe fn disable(own: PaRange) {
    let off = SCTLR & !((1 << 0) | (1 << 2) | (1 << 12) | (1 << 19));
    super::mem::set_unaligned(false);
    super::cache::clean_invalidate(Va::new(own.start().get()), own.size());
    write_sysreg!("sctlr_el2", off);
    isb();
    super::cache::clean_invalidate(Va::new(own.start().get()), own.size());
}

fn invalidate(va: Va) {
    dsb_ishst();
    let page = va.get() >> 12;
    // SAFETY: invalidation makes this CPU walk the tables again, nothing else.
    unsafe { core::arch::asm!("tlbi vae2, {}", in(reg) page, options(nostack)) };
    dsb_nsh();
    isb();
}

fn slot(table: u64, address: u64, level: u8) -> *mut u64 {
    let shift = 39 - 9 * u64::from(level);
    (table + ((address >> shift) & 0x1ff) * 8) as *mut u64
}
