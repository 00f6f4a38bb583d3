// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-1 translation: RAM and devices one to one, and windows through which a guest looks at any address.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::cpu;
use crate::machine::{MAX_CPUS, Machine};

/// MAIR_EL1: normal write-back, device nGnRnE, normal non-cacheable.
pub const MAIR: u64 = 0x44_00_ff;
/// TCR_EL1: 48 bits by TTBR0, 4 KiB granule, walks inner-shareable write-back; TTBR1 off. IPS is added at run time.
pub const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23;
/// SCTLR_EL1: the bits that are one in ARMv8.0, with MMU, data and instruction cache on.
pub const SCTLR: u64 = 0x30d0_0800 | 1 | 1 << 2 | 1 << 12;

const TABLE_COUNT: usize = 64;
/// Where the windows are: 2 MiB for each CPU.
const WINDOWS: u64 = 0xffff_0000_0000;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const ADDRESS: u64 = 0xffff_ffff_f000;

/// What kind of memory a mapping is for.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// RAM: read, write, execute.
    Normal,
    /// Registers.
    Device,
    /// RAM past the caches.
    Uncached,
    /// Registers that may be executed: only the hardware behind may say no.
    ExecutableDevice,
}

impl Kind {
    fn attributes(self) -> u64 {
        let common = ACCESSED | INNER_SHAREABLE | UXN;
        match self {
            Kind::Normal => common,
            Kind::Device => common | 1 << 2 | PXN,
            Kind::Uncached => common | 2 << 2,
            Kind::ExecutableDevice => common | 1 << 2,
        }
    }
}

/// A translation table.
#[repr(C, align(4096))]
pub struct Table([AtomicU64; 512]);

/// All tables; the first is the root.
pub static TABLES: [Table; TABLE_COUNT] = [const { Table([const { AtomicU64::new(0) }; 512]) }; TABLE_COUNT];
static USED: AtomicUsize = AtomicUsize::new(1);

/// Builds the tables that the MMU is switched on with.
pub fn build(machine: &Machine) {
    for ram in machine.memory.iter() {
        let pages = ram.pages();
        map(pages.base, pages.base, pages.size, Kind::Normal);
    }
    for device in machine.devices.iter() {
        let pages = device.pages();
        // Large windows of a bus are no registers that a guest would use.
        if pages.size <= 0x200_0000 && !machine.memory.iter().any(|ram| ram.pages().overlaps(&pages)) {
            map(pages.base, pages.base, pages.size, Kind::Device);
        }
    }
    for index in 0..MAX_CPUS {
        // Reserves the window's last-level table, so that moving a window allocates nothing.
        map(window(index), 0, 0x1000, Kind::Device);
    }
}

/// Maps `size` bytes at `address` to `target` with the largest blocks that fit; all are multiples of 4 KiB.
pub fn map(address: u64, target: u64, size: u64, kind: Kind) {
    let mut done = 0;
    while done < size {
        let (from, to, left) = (address + done, target + done, size - done);
        let (level, step) = [(1, 1 << 30), (2, 1 << 21)]
            .into_iter()
            .find(|(_, step)| (from | to) & (step - 1) == 0 && left >= *step)
            .unwrap_or((3, 0x1000));
        let page = if level == 3 { TABLE_OR_PAGE } else { 0 };
        if let Some(entry) = entry(from, level) {
            entry.store(to & ADDRESS | kind.attributes() | page | VALID, Ordering::Relaxed);
        }
        done += step;
    }
    cpu::dsb_ish();
}

/// Returns the address of this CPU's window.
pub fn own_window() -> u64 {
    window(cpu::index())
}

/// Turns this CPU's window to the page at `target` and returns the window's address.
pub fn look_at(target: u64, kind: Kind) -> u64 {
    let window = own_window();
    set(window, 3, target & ADDRESS | kind.attributes() | TABLE_OR_PAGE | VALID);
    window
}

/// Puts the last-level table of the first address behind this CPU's window page at `table`, which need not be the
/// guest's, and returns an address that is translated by it.
pub fn translate_by(table: u64) -> u64 {
    let address = window(cpu::index() + MAX_CPUS);
    set(address, 2, table & ADDRESS | TABLE_OR_PAGE | VALID);
    address
}

fn window(index: usize) -> u64 {
    WINDOWS + ((index as u64) << 21)
}

/// Changes one entry, break before make.
fn set(address: u64, level: u32, value: u64) {
    let Some(entry) = entry(address, level) else {
        return;
    };
    entry.store(0, Ordering::Relaxed);
    cpu::flush_translation(address);
    entry.store(value, Ordering::Relaxed);
    cpu::dsb_ish();
    cpu::isb();
}

/// Finds the entry of `address` at `level`, 1 to 3, and makes the tables above it; `None` when a larger block is in the
/// way or the tables are used up.
fn entry(address: u64, level: u32) -> Option<&'static AtomicU64> {
    let mut table = TABLES.first()?;
    for above in 0..level {
        let slot = table.0.get(slot(address, above))?;
        let descriptor = slot.load(Ordering::Relaxed);
        let next = if descriptor & VALID == 0 {
            let index = USED.fetch_add(1, Ordering::Relaxed);
            let next = TABLES.get(index)?;
            slot.store((&raw const *next) as u64 | TABLE_OR_PAGE | VALID, Ordering::Relaxed);
            index
        } else {
            let base = (&raw const TABLES) as u64;
            ((descriptor & ADDRESS).checked_sub(base)? / 0x1000) as usize
        };
        table = TABLES.get(next)?;
    }
    table.0.get(slot(address, level))
}

fn slot(address: u64, level: u32) -> usize {
    (address >> (39 - 9 * level)) as usize & 0x1ff
}
