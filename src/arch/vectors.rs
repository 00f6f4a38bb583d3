// SPDX-License-Identifier: MIT OR Apache-2.0
//! The EL2 vectors. An exit saves what the Rust handler may clobber (AAPCS64: x0 to x18 and x30), calls it, and returns;
//! handlers that need a guest's other registers get them saved too. ELR_EL2 and SPSR_EL2 stay in their registers,
//! since EL2 runs with all exceptions masked and never nests.
//!
//! There is one table for each architecture of the interrupt controller. They differ in the short way of an interrupt
//! ([`irq_v3`] and [`irq_v2`] below): from its acknowledgement into a list register and back to the guest without Rust,
//! as [`crate::vgic::CpuInterface::hardware_lr`] says it in Rust. What it reads is found through [`Hot`].
//!
//! [`irq_v3`]: self
//! [`irq_v2`]: self

use core::arch::global_asm;

use crate::irqchip::GUEST_SGI;
use crate::machine::percpu::{Hot, PerCpu};
use crate::vgic::{Model, short_way};
use crate::write_sysreg;

/// A guest's general-purpose registers during an exit. x19 to x29 are live only in exits by [`full`].
///
/// [`full`]: self
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// x0 to x30, and for the zero register a 0 that `enter_guest` has put there: each exit's frame is at the top of the
    /// stack, and nothing else is while a guest runs.
    x: [u64; 32],
}

impl Frame {
    /// Returns register `index`, of which the low 5 bits count; 31 is the zero register.
    #[inline(always)]
    pub fn get(&self, index: u8) -> u64 {
        self.x.get(usize::from(index & 31)).copied().unwrap_or(0)
    }

    /// Sets register `index`, of which the low 5 bits count; 31 is the zero register.
    #[inline(always)]
    pub fn set(&mut self, index: u8, value: u64) {
        if let Some(register) = self.x.get_mut(usize::from(index & 31)).filter(|_| index & 31 != 31) {
            *register = value;
        }
    }
}

global_asm!(
    r#"
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

    // The first half of the short way. In: x0 the per-CPU data, w1 the interrupt, w2 its word of 32.
    // Out: x2 what the list register gets, but for its state. To `irq_slow` when the interrupt is not this partition's, something more
    // urgent waits for a list register, or its group is off.
    .macro find_line slow
    ldr     x3, [x0, #{private}]
    cbz     w2, 1f
    ldr     w3, [x0, #{spi_words}]
    cmp     w2, w3
    b.hi    \slow
    ldr     x3, [x0, #{spis}]           // of word 0, so that word 1 comes next
    mov     w4, #{bank_size}
    madd    x3, x2, x4, x3
1:  and     w2, w1, #31
    add     x3, x3, x2, lsl #4
    ldr     x2, [x3, #{lines}]
    tbz     x2, #61, \slow           // HW
    ldrb    w3, [x3, #{priority}]
    bfi     x2, x3, #48, #8
    ldr     w4, [x0, #{below}]
    cmp     w3, w4
    b.hs    \slow
    ldr     x4, [x0, #{groups}]
    ldr     w4, [x4]
    ubfx    x3, x2, #60, #1             // the group
    lsr     w4, w4, w3
    tbz     w4, #0, \slow
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
    find_line irq_slow
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
    ldp     w2, w4, [x3, #{enable}]     // and what is latched
    and     w2, w2, w4
    ldr     w4, [x3, #{active}]
    bic     w2, w2, w4
    ands    w2, w2, #0xffff
    b.eq    irq_slow
    sub     w4, w2, #1
    tst     w4, w2
    b.ne    irq_slow
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
    find_line irq_slow
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
    ldp     w2, w4, [x3, #{enable}]     // and what is latched
    and     w2, w2, w4
    ldr     w4, [x3, #{active}]
    bic     w2, w2, w4
    ands    w2, w2, #0xffff
    b.eq    irq_slow
    sub     w4, w2, #1
    tst     w4, w2
    b.ne    irq_slow
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
"#,
    emergency = const Hot::EMERGENCY_STACK_TOP,
    private = const Hot::PRIVATE,
    spis = const Hot::SPIS,
    spi_words = const Hot::SPI_WORDS,
    groups = const Hot::GROUPS,
    gicc = const Hot::GICC,
    gicc_dir = const Hot::GICC_DIR,
    gich = const Hot::GICH,
    below = const PerCpu::SHORT_WAY_BELOW,
    irq_count = const PerCpu::IRQ_COUNT,
    kick_count = const PerCpu::KICK_COUNT,
    lrs_for_sgi = const PerCpu::LRS_FOR_SGI,
    guest_sgi = const GUEST_SGI.get(),
    latch = const short_way::LATCH,
    enable = const short_way::ENABLE,
    active = const short_way::ACTIVE,
    sources = const short_way::SOURCES,
    bank_size = const short_way::BANK_SIZE,
    lines = const short_way::LINES,
    priority = const short_way::PRIORITY,
    own_fault = sym crate::machine::exit::own_fault,
    hypercall = sym crate::machine::quick::hypercall,
    data_abort = sym crate::machine::quick::data_abort,
    system_register = sym crate::machine::quick::system_register,
    synchronous = sym crate::machine::exit::synchronous,
    irq = sym crate::machine::quick::interrupt,
    fiq = sym crate::machine::exit::own_interrupt,
    serror = sym crate::machine::exit::serror,
    idle = sym crate::machine::idle::idle,
);

/// Points VBAR_EL2 at the vectors for one architecture of the interrupt controller.
pub fn install(gic: Model) {
    unsafe extern "C" {
        static el2_vectors_v3: [u8; 0];
        static el2_vectors_v2: [u8; 0];
    }
    let vectors = match gic {
        Model::V3 => &raw const el2_vectors_v3,
        Model::V2 => &raw const el2_vectors_v2,
    };
    write_sysreg!("vbar_el2", vectors as u64);
    super::sysreg::isb();
}
