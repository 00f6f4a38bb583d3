// SPDX-License-Identifier: MIT OR Apache-2.0
// The short way of interrupts and SGIs with a GICv2.

    .section .text.vectors, "ax"
    // GICv2: the same by the memory-mapped interfaces; the list register has a layout of its own (IHI 0048, 5.3.10).
irq_v2:
    stp     x0, x1, [sp, #-256]!
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    mrs     x0, tpidr_el2
    ldr     x5, [x0, #{gicc}]
    ldr     w1, [x5, #0x0c]             // GICC_IAR
    and     w2, w1, #0x3ff
    cmp     w2, #{guest_sgi}
    b.eq    sgi_v2
    ubfx    w2, w1, #5, #5
    find_line
    ubfx    x3, x2, #51, #5
    ubfx    x4, x2, #60, #1
    and     w2, w1, #0x3ff
    orr     w2, w2, w2, lsl #10         // virtual and physical id
    orr     w2, w2, w3, lsl #23         // priority
    orr     w2, w2, w4, lsl #30         // group
    orr     w2, w2, #(1 << 31)          // HW
    orr     w2, w2, #(1 << 28)          // pending
    ldr     x4, [x0, #{gich}]
    ldr     w3, [x4, #0x30]             // GICH_ELRSR0
    cbz     w3, irq_slow
    rbit    w3, w3
    clz     w3, w3
    add     x4, x4, x3, lsl #2
    str     w2, [x4, #0x100]            // GICH_LR<n>
    str     w1, [x5, #0x10]             // GICC_EOIR
    leave_short_way {irq_count}

    // As `sgi_v3`, for an SGI that is pending from one source only. A sender notes itself as a source first and latches then;
    // so here the source goes first, and what came meanwhile stays latched.
sgi_v2:
    ldr     w4, [x0, #{lrs_for_sgi}]
    cbz     w4, irq_slow
    ldr     x3, [x0, #{gich}]
    ldr     w3, [x3, #0x30]             // GICH_ELRSR0
    bics    wzr, w4, w3
    b.ne    irq_slow
    ldr     x3, [x0, #{private}]
    find_sgi
    stp     x6, x7, [sp, #48]
    rbit    w4, w2
    clz     w4, w4                      // x4: the SGI
    add     x6, x3, x4, lsl #4
    ldr     x7, [x6, #{lines}]
    ubfx    x7, x7, #60, #1             // x7: its group
    ldr     x6, [x0, #{groups}]
    ldr     w6, [x6]
    lsr     w6, w6, w7
    tbz     w6, #0, 9f
    add     x6, x3, x4
    ldrb    w6, [x6, #{sources}]
    cbz     w6, 9f
    rbit    w0, w6
    clz     w0, w0                      // x0: its source
    lsr     w6, w6, w0
    cmp     w6, #1
    b.ne    9f
    str     w1, [x5, #0x10]             // GICC_EOIR
    mrs     x6, tpidr_el2
    ldr     x6, [x6, #{gicc_dir}]
    str     w1, [x6]
    orr     w1, w4, w7, lsl #30         // w1: the list register
    orr     w1, w1, w0, lsl #10
    orr     w1, w1, #(1 << 28)          // pending
    add     x6, x3, x4, lsl #4
    ldrb    w6, [x6, #{priority}]
    lsr     w6, w6, #3
    orr     w1, w1, w6, lsl #23
    mov     w6, #1
    lsl     w6, w6, w0
    add     x4, x3, x4
    add     x4, x4, #{sources}
    add     x3, x3, #{latch}
5:  ldaxrb  w0, [x4]
    bic     w0, w0, w6
    stlxrb  w7, w0, [x4]
    cbnz    w7, 5b
    cbnz    w0, 8f
6:  ldaxr   w0, [x3]
    bic     w0, w0, w2
    stlxr   w7, w0, [x3]
    cbnz    w7, 6b
    ldarb   w0, [x4]
    cbz     w0, 8f
7:  ldaxr   w0, [x3]
    orr     w0, w0, w2
    stlxr   w7, w0, [x3]
    cbnz    w7, 7b
8:  mrs     x0, tpidr_el2
    ldr     x3, [x0, #{gich}]
    str     w1, [x3, #0x100]            // GICH_LR0
    ldp     x6, x7, [sp, #48]
    leave_short_way {kick_count}
9:  ldp     x6, x7, [sp, #48]
    b       irq_slow

