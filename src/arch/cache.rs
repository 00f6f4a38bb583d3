// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache maintenance by address (Arm ARM, D7.5). QEMU models no caches: none of this can be seen to work there.

use core::arch::asm;

use super::sysreg::{dsb_ish, dsb_sy, isb};
use crate::addr::Va;

/// Returns the smallest data-cache line of the system in bytes, CTR_EL0.DminLine.
fn line() -> u64 {
    4 << ((crate::read_sysreg!("ctr_el0") >> 16) & 0xf)
}

/// Returns the block that DC ZVA zeroes in bytes, or `None` where it is prohibited (DCZID_EL0).
fn zero_block() -> Option<u64> {
    let dczid = crate::read_sysreg!("dczid_el0");
    (dczid & 0x10 == 0).then_some(4 << (dczid & 0xf))
}

/// Cleans and invalidates a mapped range to the point of coherency.
pub fn clean_invalidate(start: Va, size: u64) {
    let line = line();
    let mut at = start.get() & !(line - 1);
    while at < start.get() + size {
        // SAFETY: maintenance by address changes no contents that the coherent view has.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at += line;
    }
    dsb_sy();
}

/// Zeroes a mapped range and cleans and invalidates it to the point of coherency.
///
/// # Safety
///
/// The range is mapped writable Normal memory, and no one else holds a reference into it.
pub unsafe fn zero_and_clean(start: Va, size: u64) {
    match zero_block() {
        Some(block) if start.is_aligned(block) && size.is_multiple_of(block) => {
            let mut at = start.get();
            while at < start.get() + size {
                // SAFETY: the block lies in the range that the caller gave up.
                unsafe { asm!("dc zva, {}", in(reg) at, options(nostack)) };
                at += block;
            }
        }
        // SAFETY: the caller gave up the range.
        _ => unsafe { core::ptr::write_bytes(start.get() as *mut u8, 0, size as usize) },
    }
    clean_invalidate(start, size);
}

/// Invalidates the instruction caches of all CPUs of the inner shareable domain.
pub fn invalidate_instructions() {
    // SAFETY: an instruction cache holds no state of its own.
    unsafe { asm!("ic ialluis", options(nostack)) };
    dsb_ish();
    isb();
}
