// SPDX-License-Identifier: MIT OR Apache-2.0
// The EL2 vectors: vectors.rs says what they are for, and gives the values in braces.

    .macro save_thin
    stp     x0, x1, [sp, #-256]!
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    save_more
    .endm

    .macro save_more
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    str     x18, [sp, #144]
    str     x30, [sp, #240]
    .endm

    .macro save_rest
    stp     x19, x20, [sp, #152]
    stp     x21, x22, [sp, #168]
    stp     x23, x24, [sp, #184]
    stp     x25, x26, [sp, #200]
    stp     x27, x28, [sp, #216]
    str     x29, [sp, #232]
    .endm

    // Nothing behind ERET is to be speculated.
    .macro return_to_guest
    eret
    dsb     nsh
    isb
    .endm

    // Leaves by `save_thin`'s frame.
    .macro restore_thin
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldr     x18, [sp, #144]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp], #256
    return_to_guest
    .endm

    // EL2's own fault: the stack may be the cause, so change to the emergency stack of this CPU.
    // A fault of `probe_load` is no fault: it goes on at `probe_failed`. What is clobbered is that load's own.
    .macro own_fault kind
    .balign 0x80
    mrs     x0, elr_el2
    adr     x1, probe_load
    cmp     x0, x1
    b.eq    2f
    mrs     x0, tpidr_el2
    cbz     x0, 1f
    ldr     x0, [x0, #{emergency}]
    cbz     x0, 1f
    mov     sp, x0
1:  mrs     x0, esr_el2
    mrs     x1, elr_el2
    mrs     x2, far_el2
    mov     x3, #\kind
    b       {own_fault}
2:  adr     x1, probe_failed
    msr     elr_el2, x1
    eret
    .endm

    // The exits of a lower EL in AArch32 (HCR_EL2.RW is set and guests start in AArch64, so only an AArch32 application
    // of the guest at EL0) are not hot, but arrive at the same handlers.
    .macro vectors name, irq
    .balign 0x800
    .global \name
\name:
    own_fault 0
    own_fault 1
    own_fault 2
    own_fault 3
    own_fault 0
    own_fault 1
    own_fault 2
    own_fault 3
    .balign 0x80                        // synchronous, lower EL, AArch64
    save_thin
    mrs     x1, esr_el2
    mov     x0, sp
    lsr     x2, x1, #26
    cmp     x2, #0x16                   // HVC
    b.ne    no_hypercall
    bl      {hypercall}
    restore_thin
    .balign 0x80                        // IRQ
    b       \irq
    .balign 0x80                        // FIQ
    b       fiq
    .balign 0x80                        // SError
    b       serror
    .balign 0x80                        // AArch32: synchronous, IRQ, FIQ, SError
    save_thin
    mov     x0, sp
    mrs     x1, esr_el2
    b       full_exit
    .balign 0x80
    b       \irq
    .balign 0x80
    b       fiq
    .balign 0x80
    b       serror
    .balign 0x80
    .endm

    .section .text.vectors, "ax"
    vectors el2_vectors_v3, irq_v3
    vectors el2_vectors_v2, irq_v2

    // Other synchronous exits; x1 is the syndrome, x2 its class. x19 to x29 are not in the frame: who moves one of them gets a
    // whole one.
no_hypercall:
    cmp     x2, #0x24                   // data abort
    b.ne    1f
    ubfx    w3, w1, #16, #5             // SRT
    sub     w3, w3, #19
    cmp     w3, #10
    b.ls    full_exit
    bl      {data_abort}
    restore_thin
1:  cmp     x2, #0x18                   // MSR, MRS
    b.ne    full_exit
    ubfx    w3, w1, #5, #5              // Rt
    sub     w3, w3, #19
    cmp     w3, #10
    b.ls    full_exit
    bl      {system_register}
    restore_thin

    // An interrupt that takes the long way; w1 is what was acknowledged, x0 to x5 are saved.
irq_slow:
    save_more
    mov     w0, w1
    bl      {irq}
    b       thin_return

    // FIQ: Group 0 of EL2, where there is one.
fiq:
    save_thin
    bl      {fiq}
    b       thin_return

serror:
    save_thin
    save_rest
    mov     x0, sp
    mrs     x1, esr_el2
    bl      {serror}
    b       full_return

full_exit:
    save_rest
    bl      {synchronous}
full_return:
    ldp     x19, x20, [sp, #152]
    ldp     x21, x22, [sp, #168]
    ldp     x23, x24, [sp, #184]
    ldp     x25, x26, [sp, #200]
    ldp     x27, x28, [sp, #216]
    ldr     x29, [sp, #232]
thin_return:
    restore_thin

    // enter_guest(x0, stack_top): the first entry into a vCPU; ELR_EL2 and SPSR_EL2 are set.
    .global enter_guest
enter_guest:
    mov     sp, x1
    str     xzr, [sp, #-8]              // the zero register of every frame
    .irp    n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    mov     x\n, xzr
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
    mov     x\n, xzr
    .endr
    return_to_guest

    // leave_guest(stack_top): drops whatever exit is being handled.
    .global leave_guest
leave_guest:
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    b       {idle}
