// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exception vectors: interrupts go to the guest's handlers, what a probe provokes goes back to the probe, all else ends
//! the guest with a message.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::{console, cpu, println, probe, psci, read_register, write_register};

global_asm!(
    r#"
    .macro  vector kind
    .balign 128
    sub     sp, sp, #288
    stp     x0, x1, [sp]
    mov     x0, #\kind
    b       take_exception
    .endm

    .text
    .balign 2048
    .global vectors
vectors:
    .irp    kind, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vector  \kind
    .endr

take_exception:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el1
    mrs     x2, spsr_el1
    stp     x30, x1, [sp, #240]
    mrs     x3, esr_el1
    stp     x2, x3, [sp, #256]
    mrs     x4, far_el1
    str     x4, [sp, #272]
    mov     x1, sp
    bl      {handle}
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x30, x1, [sp, #240]
    ldr     x0, [sp, #256]
    msr     elr_el1, x1
    msr     spsr_el1, x0
    ldp     x0, x1, [sp]
    add     sp, sp, #288
    eret
"#,
    handle = sym handle,
);

unsafe extern "C" {
    static vectors: u8;
}

/// What was interrupted.
#[repr(C)]
pub struct Frame {
    /// x0 to x30.
    pub registers: [u64; 31],
    /// Where it goes on.
    pub elr: u64,
    /// The saved PSTATE.
    pub spsr: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
}

static IRQ: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static FIQ: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Makes this CPU use the vectors.
pub fn install_vectors() {
    write_register!("vbar_el1", (&raw const vectors) as u64);
    cpu::isb();
}

/// Chooses what handles IRQs, on all CPUs.
pub fn on_irq(handler: fn()) {
    IRQ.store(handler as *mut (), Ordering::Release);
}

/// Chooses what handles FIQs, on all CPUs.
pub fn on_fiq(handler: fn()) {
    FIQ.store(handler as *mut (), Ordering::Release);
}

/// Takes an exception; `kind` is the number of its vector.
extern "C" fn handle(kind: u64, frame: &mut Frame) {
    match kind {
        5 => call(&IRQ, frame),
        6 => call(&FIQ, frame),
        4 | 7 if probe::recover(frame) => {}
        _ => end(kind, frame),
    }
}

fn call(handler: &AtomicPtr<()>, frame: &Frame) {
    let handler = handler.load(Ordering::Acquire);
    if handler.is_null() {
        end(5, frame);
    }
    // SAFETY: only `on_irq` and `on_fiq` store here, and they store a `fn()`.
    let handler: fn() = unsafe { core::mem::transmute(handler) };
    handler();
}

fn end(kind: u64, frame: &Frame) -> ! {
    console::break_open();
    println!(
        "guest cpu {} ended by exception {kind}: esr {:#x}, far {:#x}, pc {:#x}, lr {:#x}",
        cpu::index(),
        frame.esr,
        frame.far,
        frame.elr,
        frame.registers[30]
    );
    psci::system_off()
}

/// Ends the guest with the message of a failed assumption.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::break_open();
    println!("guest cpu {} (mpidr {:#x}) panicked: {}", cpu::index(), read_register!("mpidr_el1"), info);
    psci::system_off()
}
