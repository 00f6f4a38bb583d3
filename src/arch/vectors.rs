// SPDX-License-Identifier: MIT OR Apache-2.0
//! The EL2 vectors. An exit saves what the Rust handler may clobber (AAPCS64: x0 to x18 and x30), calls it, and returns;
//! handlers that need a guest's other registers get them saved too. ELR_EL2 and SPSR_EL2 stay in their registers,
//! since EL2 runs with all exceptions masked and never nests.

use core::arch::global_asm;

use crate::write_sysreg;

/// A guest's general-purpose registers during an exit. x19 to x29 are live only in exits by [`full`].
///
/// [`full`]: self
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    reserved: u64,
}

impl Frame {
    /// Returns register `index`; 31 is the zero register.
    pub fn get(&self, index: u8) -> u64 {
        self.x.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Sets register `index`; 31 is the zero register.
    pub fn set(&mut self, index: u8, value: u64) {
        if let Some(register) = self.x.get_mut(usize::from(index)) {
            *register = value;
        }
    }
}

/// Offset of the emergency stack's top in the per-CPU data, for the vectors of EL2's own faults.
pub const EMERGENCY_STACK_OFFSET: usize = 0;

global_asm!(
    r#"
    .macro save_thin
    sub     sp, sp, #256
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
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

    .section .text.vectors, "ax"
    .balign 0x800
    .global el2_vectors
el2_vectors:
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
    lsr     x2, x1, #26
    mov     x0, sp
    cmp     x2, #0x16                   // HVC, AArch64
    b.ne    full_exit
    bl      {hypercall}
    b       thin_return

    .balign 0x80                        // IRQ
    save_thin
    bl      {irq}
    b       thin_return

    .balign 0x80                        // FIQ: Group 0 of EL2, handled as an interrupt
    save_thin
    bl      {irq}
    b       thin_return

    .balign 0x80                        // SError
    save_thin
    save_rest
    mov     x0, sp
    mrs     x1, esr_el2
    bl      {serror}
    b       full_return

    // A lower EL in AArch32: HCR_EL2.RW is set and guests start in AArch64, so only an AArch32 application of the
    // guest at EL0 arrives here.
    .balign 0x80
    save_thin
    mov     x0, sp
    mrs     x1, esr_el2
    b       full_exit
    .balign 0x80
    save_thin
    bl      {irq}
    b       thin_return
    .balign 0x80
    save_thin
    bl      {irq}
    b       thin_return
    .balign 0x80
    save_thin
    save_rest
    mov     x0, sp
    mrs     x1, esr_el2
    bl      {serror}
    b       full_return
    .balign 0x80

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
    eret
    dsb     nsh                         // nothing behind ERET is to be speculated
    isb

    // enter_guest(x0, stack_top): the first entry into a vCPU; ELR_EL2 and SPSR_EL2 are set.
    .global enter_guest
enter_guest:
    mov     sp, x1
    mov     x1, xzr
    mov     x2, xzr
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    mov     x7, xzr
    mov     x8, xzr
    mov     x9, xzr
    mov     x10, xzr
    mov     x11, xzr
    mov     x12, xzr
    mov     x13, xzr
    mov     x14, xzr
    mov     x15, xzr
    mov     x16, xzr
    mov     x17, xzr
    mov     x18, xzr
    mov     x19, xzr
    mov     x20, xzr
    mov     x21, xzr
    mov     x22, xzr
    mov     x23, xzr
    mov     x24, xzr
    mov     x25, xzr
    mov     x26, xzr
    mov     x27, xzr
    mov     x28, xzr
    mov     x29, xzr
    mov     x30, xzr
    eret
    dsb     nsh
    isb

    // leave_guest(stack_top): drops whatever exit is being handled.
    .global leave_guest
leave_guest:
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    b       {idle}
"#,
    emergency = const EMERGENCY_STACK_OFFSET,
    own_fault = sym crate::machine::exit::own_fault,
    hypercall = sym crate::machine::exit::hypercall,
    synchronous = sym crate::machine::exit::synchronous,
    irq = sym crate::machine::exit::interrupt,
    serror = sym crate::machine::exit::serror,
    idle = sym crate::machine::idle::idle,
);

/// Points VBAR_EL2 at the vectors.
pub fn install() {
    unsafe extern "C" {
        static el2_vectors: [u8; 0];
    }
    let vectors = &raw const el2_vectors;
    write_sysreg!("vbar_el2", vectors as u64);
    super::sysreg::isb();
}
