// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache maintenance by address (Arm ARM, D7.5). QEMU models no caches: none of this can be seen to work there.

use core::arch::asm;

use super::sysreg::{dsb_ish, dsb_sy, isb};
use crate::addr::Va;

/// The line that [`copy_and_clean`] moves at a time; where lines are longer, some are cleaned more often than once.
const LINE: u64 = 64;

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
    let end = start.get() + size;
    while size != 0 && at + 32 * line <= end {
        // SAFETY: maintenance by address changes no contents that the coherent view has.
        unsafe {
            asm!(".rept 32", "dc civac, {at}", "add {at}, {at}, {line}", ".endr", at = inout(reg) at, line = in(reg) line,
                options(nostack));
        }
    }
    while size != 0 && at < end {
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
    let line = line();
    let (head, lines) = parts(start, size, line);
    if zero_block() != Some(line) || lines == 0 {
        // SAFETY: the caller gave up the range.
        unsafe { core::ptr::write_bytes(start.get() as *mut u8, 0, size as usize) };
        return clean_invalidate(start, size);
    }
    // SAFETY: as above; the head is a part of the range.
    unsafe { core::ptr::write_bytes(start.get() as *mut u8, 0, head as usize) };
    clean_invalidate(start, head);
    let middle = start.get() + head;
    let end = middle + lines * line;
    // SAFETY: all lines from `middle` to `end` lie in the range that the caller gave up, and DC ZVA zeroes a line.
    unsafe {
        asm!(
            "cmp {at}, {unrolled}",
            "b.hs 3f",
            "2:",
            ".rept 8",
            "dc zva, {at}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            ".endr",
            "cmp {at}, {unrolled}",
            "b.lo 2b",
            "3:",
            "cmp {at}, {end}",
            "b.hs 4f",
            "dc zva, {at}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            "b 3b",
            "4:",
            at = inout(reg) middle => _,
            unrolled = in(reg) middle + lines / 8 * 8 * line,
            end = in(reg) end,
            line = in(reg) line,
            options(nostack)
        );
    }
    let tail = start.get() + size - end;
    // SAFETY: as above.
    unsafe { core::ptr::write_bytes(end as *mut u8, 0, tail as usize) };
    clean_invalidate(Va::new(end), tail);
}

/// Copies bytes to a mapped range, cleaned and invalidated to the point of coherency.
///
/// # Safety
///
/// As [`zero_and_clean`], for `source.len()` bytes from `start`.
pub unsafe fn copy_and_clean(source: &[u8], start: Va) {
    let size = source.len() as u64;
    let (head, lines) = parts(start, size, LINE);
    // A turn moves eight lines.
    let bulk = lines / 8 * 8 * LINE;
    if line() < LINE || bulk == 0 {
        // SAFETY: the caller gave up the range; what it gave up is no part of `source`.
        unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), start.get() as *mut u8, source.len()) };
        return clean_invalidate(start, size);
    }
    // SAFETY: as above; the head is a part of the range.
    unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), start.get() as *mut u8, head as usize) };
    clean_invalidate(start, head);
    let middle = start.get() + head;
    let rest: *const u8;
    // SAFETY: `bulk` bytes from `middle` lie in the range that the caller gave up, and as many behind the head in
    // `source`; a line is at least the 64 bytes that each cleaning stands for. Any address of a line cleans it.
    unsafe {
        asm!(
            "2:",
            ".rept 8",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "ldp {e}, {f}, [{from}], #16",
            "ldp {g}, {h}, [{from}], #16",
            "stp {a}, {b}, [{to}, #16]",
            "stp {c}, {d}, [{to}, #32]",
            "stp {e}, {f}, [{to}, #48]",
            "stp {g}, {h}, [{to}, #64]!",
            "dc civac, {to}",
            ".endr",
            "cmp {to}, {end}",
            "b.lo 2b",
            from = inout(reg) source.as_ptr().wrapping_add(head as usize) => rest,
            // 16 bytes before what is written next.
            to = inout(reg) middle.wrapping_sub(16) => _,
            end = in(reg) (middle + bulk).wrapping_sub(16),
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            options(nostack)
        );
    }
    let done = head + bulk;
    let tail = Va::new(start.get() + done);
    // SAFETY: as above; `rest` is where the copy of `bulk` bytes has come to in `source`.
    unsafe { core::ptr::copy_nonoverlapping(rest, tail.get() as *mut u8, (size - done) as usize) };
    clean_invalidate(tail, size - done);
}

/// Returns the bytes before the first whole line of a range, and how many whole lines follow.
fn parts(start: Va, size: u64, line: u64) -> (u64, u64) {
    let head = (start.get().wrapping_neg() % line).min(size);
    (head, (size - head) / line)
}

/// Invalidates the instruction caches of all CPUs of the inner shareable domain.
pub fn invalidate_instructions() {
    // SAFETY: an instruction cache holds no state of its own.
    unsafe { asm!("ic ialluis", options(nostack)) };
    dsb_ish();
    isb();
}
