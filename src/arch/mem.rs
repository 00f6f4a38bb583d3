// SPDX-License-Identifier: MIT OR Apache-2.0
//! `memcpy`, `memset` and `memcmp`, in place of the compiler's own for this target, which go byte by byte where addresses
//! are not aligned. The compiler calls them too.
//!
//! With the MMU off all memory is Device memory, where an access must be aligned (Arm ARM, B2.8.2); then they go byte by
//! byte as well.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether accesses need not be aligned. CPUs that come up later run Rust with their MMU on only.
static UNALIGNED: AtomicBool = AtomicBool::new(false);

/// Says whether this hypervisor's accesses need not be aligned: its MMU is on.
pub(super) fn set_unaligned(allowed: bool) {
    UNALIGNED.store(allowed, Ordering::Relaxed);
}

// Only registers that a call may change are used (AAPCS64, 6.1.1), and no stack.
global_asm!(
    r#"
    .macro  unaligned_or to
    adrp    x9, {unaligned}
    ldrb    w9, [x9, :lo12:{unaligned}]
    cbz     w9, \to
    .endm

    // memcpy(x0: to, x1: from, x2: size) returns `to`. The ranges are apart. The last bytes are
    // moved together with some that were moved already.
    .section .text.memcpy, "ax"
    .global memcpy
    .type   memcpy, %function
memcpy:
    unaligned_or 8f
    add     x9, x1, x2                  // end of the source
    add     x10, x0, x2                 // end of the target
    cmp     x2, #16
    b.hs    4f
    tbz     x2, #3, 1f
    ldr     x3, [x1]
    ldr     x4, [x9, #-8]
    str     x3, [x0]
    str     x4, [x10, #-8]
    ret
1:  tbz     x2, #2, 2f
    ldr     w3, [x1]
    ldr     w4, [x9, #-4]
    str     w3, [x0]
    str     w4, [x10, #-4]
    ret
2:  cbz     x2, 3f
    lsr     x5, x2, #1                  // 0, 1, 1 for 1, 2, 3
    ldrb    w3, [x1]
    ldrb    w4, [x1, x5]
    ldrb    w6, [x9, #-1]
    strb    w3, [x0]
    strb    w4, [x0, x5]
    strb    w6, [x10, #-1]
3:  ret
4:  ldp     x3, x4, [x9, #-16]          // the last 16
    cmp     x2, #32
    b.hi    5f
    ldp     x5, x6, [x1]
    stp     x5, x6, [x0]
    stp     x3, x4, [x10, #-16]
    ret
5:  mov     x11, x0
    sub     x12, x10, #32
6:  ldp     x5, x6, [x1], #32
    ldp     x7, x8, [x1, #-16]
    stp     x5, x6, [x11], #32
    stp     x7, x8, [x11, #-16]
    cmp     x11, x12
    b.ls    6b
    sub     x12, x10, #16
    cmp     x11, x12
    b.hs    7f
    ldp     x5, x6, [x1]
    stp     x5, x6, [x11]
7:  stp     x3, x4, [x10, #-16]
    ret
8:  cbz     x2, 10f
    mov     x11, x0
9:  ldrb    w3, [x1], #1
    strb    w3, [x11], #1
    subs    x2, x2, #1
    b.ne    9b
10: ret
    .size   memcpy, . - memcpy

    // memset(x0: to, w1: byte, x2: size) returns `to`.
    .section .text.memset, "ax"
    .global memset
    .type   memset, %function
memset:
    unaligned_or 8f
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
    add     x10, x0, x2                 // the end
    cmp     x2, #16
    b.hs    4f
    tbz     x2, #3, 1f
    str     x1, [x0]
    str     x1, [x10, #-8]
    ret
1:  tbz     x2, #2, 2f
    str     w1, [x0]
    str     w1, [x10, #-4]
    ret
2:  cbz     x2, 3f
    lsr     x5, x2, #1
    strb    w1, [x0]
    strb    w1, [x0, x5]
    strb    w1, [x10, #-1]
3:  ret
4:  mov     x11, x0
    subs    x12, x2, #64
    b.lo    6f
    sub     x12, x10, #64
5:  stp     x1, x1, [x11], #64
    stp     x1, x1, [x11, #-48]
    stp     x1, x1, [x11, #-32]
    stp     x1, x1, [x11, #-16]
    cmp     x11, x12
    b.ls    5b
6:  sub     x12, x10, #16
7:  cmp     x11, x12
    b.hs    11f
    stp     x1, x1, [x11], #16
    b       7b
11: stp     x1, x1, [x12]
    ret
8:  cbz     x2, 10f
    mov     x11, x0
9:  strb    w1, [x11], #1
    subs    x2, x2, #1
    b.ne    9b
10: ret
    .size   memset, . - memset

    // memcmp(x0, x1, x2: size) returns less than 0, 0 or more than 0, by the first byte that differs.
    .section .text.memcmp, "ax"
    .global memcmp
    .global bcmp
    .type   memcmp, %function
    .type   bcmp, %function
memcmp:
bcmp:
    unaligned_or 8f
    cmp     x2, #8
    b.lo    4f
1:  ldr     x3, [x0], #8
    ldr     x4, [x1], #8
    cmp     x3, x4
    b.ne    3f
    subs    x2, x2, #8
    b.eq    2f
    cmp     x2, #8
    b.hs    1b
    add     x0, x0, x2                  // the last 8, of which some are equal
    add     x1, x1, x2
    ldr     x3, [x0, #-8]
    ldr     x4, [x1, #-8]
    cmp     x3, x4
    b.ne    3f
2:  mov     w0, wzr
    ret
3:  rev     x3, x3                      // the first byte counts most
    rev     x4, x4
    cmp     x3, x4
6:  cset    w0, hi
    csinv   w0, w0, wzr, hs             // -1
    ret
4:  tbz     x2, #2, 8f
    ldr     w3, [x0]
    ldr     w4, [x1]
    cmp     x3, x4
    b.ne    5f
    add     x0, x0, x2
    add     x1, x1, x2
    ldr     w3, [x0, #-4]
    ldr     w4, [x1, #-4]
    cmp     x3, x4
    b.eq    2b
5:  rev     w3, w3
    rev     w4, w4
    cmp     x3, x4
    b       6b
8:  cbz     x2, 2b
9:  ldrb    w3, [x0], #1
    ldrb    w4, [x1], #1
    subs    w3, w3, w4
    b.ne    10f
    subs    x2, x2, #1
    b.ne    9b
10: mov     w0, w3
    ret
    .size   memcmp, . - memcmp
"#,
    unaligned = sym UNALIGNED,
);
