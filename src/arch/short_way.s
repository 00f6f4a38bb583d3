// SPDX-License-Identifier: MIT OR Apache-2.0
// What the short ways of both architectures have in common.

    // The first half of the short way. In: x0 the per-CPU data, w1 the interrupt, w2 its word of 32.
    // Out: x2 what the list register gets, but for its state. To `irq_slow` when the interrupt is not this partition's,
    // something more urgent waits for a list register, or its group is off.
    .macro find_line
    ldr     x3, [x0, #{private}]
    cbz     w2, 1f
    ldr     w3, [x0, #{spi_words}]
    cmp     w2, w3
    b.hi    irq_slow
    ldr     x3, [x0, #{spis}]           // of word 0, so that word 1 comes next
    mov     w4, #{bank_size}
    madd    x3, x2, x4, x3
1:  and     w2, w1, #31
    add     x3, x3, x2, lsl #4
    ldr     x2, [x3, #{lines}]
    tbz     x2, #61, irq_slow        // HW
    ldrb    w3, [x3, #{priority}]
    bfi     x2, x3, #48, #8
    ldr     w4, [x0, #{below}]
    cmp     w3, w4
    b.hs    irq_slow
    ldr     x4, [x0, #{groups}]
    ldr     w4, [x4]
    ldr     w3, [x0, #{taken}]
    and     w4, w4, w3
    ubfx    x3, x2, #60, #1             // the group
    lsr     w4, w4, w3
    tbz     w4, #0, irq_slow
    .endm

    // In: x3 the bank of the vCPU's own interrupts. Out: w2 the one SGI that can be delivered, as a bit. To `irq_slow` when
    // there is none or more than one. Clobbers w4.
    .macro find_sgi
    ldp     w2, w4, [x3, #{enable}]     // and what is latched
    and     w2, w2, w4
    ldr     w4, [x3, #{active}]
    bic     w2, w2, w4
    ands    w2, w2, #0xffff
    b.eq    irq_slow
    sub     w4, w2, #1
    tst     w4, w2
    b.ne    irq_slow
    .endm

    // The end of the short way: count it, restore, return.
    .macro leave_short_way count
    ldr     x2, [x0, #\count]
    add     x2, x2, #1
    str     x2, [x0, #\count]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp], #256
    return_to_guest
    .endm

