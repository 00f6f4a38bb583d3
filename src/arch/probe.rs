// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads an address that may not exist: a fault of this one load at EL2 is answered instead of being EL2's own fault.

use core::arch::{asm, global_asm};

use crate::addr::Pa;

global_asm!(
    r#"
    .section .text.entry, "ax"
    // probe_word(x0) -> x0: the word, x1: 1 if it was read
    .global probe_word
probe_word:
    mov     x1, #1
    .global probe_load
probe_load:
    ldr     w0, [x0]
    dsb     sy
    ret
    .global probe_failed
probe_failed:
    mov     x1, #0
    ret
"#
);

/// Reads the aligned word at a physical address, at EL2 with the vectors installed and the MMU off or the address mapped.
/// `None` if nothing answers there.
pub fn read(at: Pa) -> Option<u32> {
    let (word, answered): (u64, u64);
    // SAFETY: the load's fault is taken up by the vectors; link register and the two registers are declared.
    unsafe { asm!("bl probe_word", inout("x0") at.get() => word, out("x1") answered, out("x30") _, options(nostack)) };
    (answered != 0).then_some(word as u32)
}
