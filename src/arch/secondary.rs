// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table in which a secondary CPU, with its MMU off, finds its stack and its translation.

use core::cell::UnsafeCell;

use crate::addr::{Pa, Va};
use crate::id::{MAX_CPUS, Mpidr};

/// What a secondary CPU needs; the layout is known to `entry.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// The affinity and [`TAKEN`]; 0 where there is no CPU.
    key: u64,
    stack_top: u64,
    per_cpu: u64,
    ttbr0: u64,
    tcr: u64,
    mair: u64,
    sctlr: u64,
    reserved: u64,
}

/// Set in the key of a slot that is filled; no affinity has this bit.
pub const TAKEN: u64 = 1 << 63;

/// The table, read by CPUs whose caches are off.
#[repr(C, align(64))]
pub struct Table(UnsafeCell<[Slot; MAX_CPUS]>);

// SAFETY: the boot CPU fills a slot before it starts the CPU that reads it, and never again.
unsafe impl Sync for Table {}

/// One slot for each secondary CPU.
pub static TABLE: Table = Table(UnsafeCell::new(
    [Slot { key: 0, stack_top: 0, per_cpu: 0, ttbr0: 0, tcr: 0, mair: 0, sctlr: 0, reserved: 0 }; MAX_CPUS],
));

/// The translation registers that all CPUs share but for the root.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// TTBR0_EL2 of this CPU.
    pub ttbr0: u64,
    /// TCR_EL2.
    pub tcr: u64,
    /// MAIR_EL2.
    pub mair: u64,
    /// SCTLR_EL2 with the MMU on.
    pub sctlr: u64,
}

/// Fills the slot `index` for the CPU with this affinity and cleans it to the point of coherency.
///
/// # Safety
///
/// Only the boot CPU calls this, once for each slot, before the CPU is started; `stack_top` and `per_cpu` are that
/// CPU's own.
pub unsafe fn announce(index: usize, mpidr: Mpidr, stack_top: Va, per_cpu: Va, translation: Translation) {
    let table = TABLE.0.get().cast::<Slot>();
    if index >= MAX_CPUS {
        return;
    }
    let slot = Slot {
        key: mpidr.get() | TAKEN,
        stack_top: stack_top.get(),
        per_cpu: per_cpu.get(),
        ttbr0: translation.ttbr0,
        tcr: translation.tcr,
        mair: translation.mair,
        sctlr: translation.sctlr,
        reserved: 0,
    };
    // SAFETY: `index` is below MAX_CPUS, so the element lies inside the table.
    let element = unsafe { table.add(index) };
    // SAFETY: the CPU that reads this slot has not been started, as the caller ensures.
    unsafe { element.write_volatile(slot) };
    super::cache::clean_invalidate(Va::new(element as u64), core::mem::size_of::<Slot>() as u64);
}

/// Returns the physical address at which a secondary CPU enters.
pub fn entry() -> Pa {
    unsafe extern "C" {
        fn secondary_entry();
    }
    // The hypervisor's own image is mapped at its physical address.
    Pa::new(secondary_entry as *const () as u64)
}
