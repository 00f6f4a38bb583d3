// SPDX-License-Identifier: MIT OR Apache-2.0
// The short way of interrupts and SGIs with a GICv3.

    .section .text.vectors, "ax"
    // GICv3: acknowledge, find, write the first free list register, drop the priority.
irq_v3:
    stp     x0, x1, [sp, #-256]!
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    mrs     x1, icc_iar1_el1
    mrs     x0, tpidr_el2
    cmp     w1, #{guest_sgi}
    b.eq    sgi_v3
    lsr     w2, w1, #5
    find_line
    mrs     x3, ich_elrsr_el2
    cbz     w3, irq_slow
    rbit    w3, w3
    clz     w3, w3
    adr     x4, 2f
    add     x4, x4, x3, lsl #3
    orr     x2, x2, #(1 << 62)          // pending
    br      x4
2:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    msr     ich_lr\n\()_el2, x2
    b       3f
    .endr
3:  msr     icc_eoir1_el1, x1
    leave_short_way {irq_count}

    // The signal that an SGI is pending for the guest: into the first list register with it, if it is the only one, in Group
    // 1, and all list registers are free. `vgic::CpuInterface::attend_sgi` says it in Rust, and does what is left.
sgi_v3:
    ldr     w5, [x0, #{lrs_for_sgi}]
    cbz     w5, irq_slow
    ldr     x3, [x0, #{private}]
    find_sgi
    mrs     x4, ich_elrsr_el2
    bics    wzr, w5, w4
    b.ne    irq_slow
    ldr     x5, [x0, #{groups}]
    ldr     w5, [x5]
    tbz     w5, #1, irq_slow
    rbit    w4, w2
    clz     w4, w4
    add     x4, x3, x4, lsl #4
    ldr     x5, [x4, #{lines}]
    tbz     x5, #60, irq_slow
    ldrb    w4, [x4, #{priority}]
    bfi     x5, x4, #48, #8
    msr     icc_eoir1_el1, x1
    msr     icc_dir_el1, x1
    add     x3, x3, #{latch}
4:  ldaxr   w4, [x3]
    bic     w4, w4, w2
    stlxr   w1, w4, [x3]
    cbnz    w1, 4b
    orr     x5, x5, #(1 << 62)          // pending
    msr     ich_lr0_el2, x5
    leave_short_way {kick_count}

