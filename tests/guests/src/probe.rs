// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probes: code that may end in an exception, which is caught and returned.

use core::arch::naked_asm;
use core::sync::atomic::Ordering;

use crate::cpu;
use crate::exception::Frame;

/// Code that a probe runs: two arguments, one result. It may end in any synchronous exception or SError.
pub type Code = unsafe extern "C" fn(u64, u64) -> u64;

/// The exception that ended a probe.
#[derive(Clone, Copy, Debug)]
pub struct Caught {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// ELR_EL1.
    pub elr: u64,
}

impl Caught {
    /// Returns the exception class.
    pub fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// Tells whether it was an abort of an instruction or data access.
    pub fn is_abort(&self) -> bool {
        matches!(self.class(), 0x21 | 0x25)
    }

    /// Tells whether the instruction is undefined, or trapped as if it were.
    pub fn is_undefined(&self) -> bool {
        matches!(self.class(), 0x00 | 0x07 | 0x09 | 0x18 | 0x19 | 0x1d)
    }

    /// Returns the fault status code of an abort.
    pub fn fault_status(&self) -> u64 {
        self.esr & 0x3f
    }
}

#[repr(C)]
struct Returned {
    value: u64,
    caught: u64,
}

/// Runs `code` with two arguments.
///
/// The code is not trusted to be well-behaved beyond this: it keeps TPIDR_EL1, VBAR_EL1 and the translation of the
/// guest's own image, it ends, and it writes no memory that Rust code relies on.
pub fn run(code: Code, first: u64, second: u64) -> Result<u64, Caught> {
    // SAFETY: `enter` saves what the ABI has it save, and `recover` comes back through it; the rest is the promise above.
    let returned = unsafe { enter(code as *const () as u64, first, second) };
    if returned.caught == 0 {
        return Ok(returned.value);
    }
    let [esr, far, elr] = &cpu::this().caught;
    let load = |register: &core::sync::atomic::AtomicU64| register.load(Ordering::Relaxed);
    Err(Caught { esr: load(esr), far: load(far), elr: load(elr) })
}

/// Branches to `address`.
pub fn execute(address: u64) -> Result<u64, Caught> {
    // SAFETY: a function pointer is an address; `run` says what it may do.
    run(unsafe { core::mem::transmute::<u64, Code>(address) }, 0, 0)
}

/// Ends the probe that runs on this CPU, if one does: `frame` then returns to its caller.
pub fn recover(frame: &mut Frame) -> bool {
    let this = cpu::this();
    if this.probe_stack.load(Ordering::Relaxed) == 0 {
        return false;
    }
    for (place, value) in this.caught.iter().zip([frame.esr, frame.far, frame.elr]) {
        place.store(value, Ordering::Relaxed);
    }
    frame.elr = leave as *const () as u64;
    // EL1h, DAIF masked as probes run: what the code left in PSTATE is forgotten.
    frame.spsr = frame.spsr & 0x3c0 | 5;
    true
}

/// Calls x0 with x1 and x2, and notes the stack pointer in [`cpu::PerCpu::probe_stack`] meanwhile.
#[unsafe(naked)]
unsafe extern "C" fn enter(code: u64, first: u64, second: u64) -> Returned {
    naked_asm!(
        "stp x29, x30, [sp, #-96]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "mrs x9, tpidr_el1",
        "mov x10, sp",
        "str x10, [x9]",
        "mov x16, x0",
        "mov x0, x1",
        "mov x1, x2",
        "blr x16",
        "mrs x9, tpidr_el1",
        "str xzr, [x9]",
        "mov x1, #0",
        "b {finish}",
        finish = sym finish,
    )
}

/// Comes here out of the exception handler: takes the noted stack pointer back.
#[unsafe(naked)]
unsafe extern "C" fn leave() -> Returned {
    naked_asm!(
        "mrs x9, tpidr_el1",
        "ldr x10, [x9]",
        "str xzr, [x9]",
        "mov sp, x10",
        "mov x0, #0",
        "mov x1, #1",
        "b {finish}",
        finish = sym finish,
    )
}

/// Restores what [`enter`] saved.
#[unsafe(naked)]
unsafe extern "C" fn finish() -> Returned {
    naked_asm!(
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp x29, x30, [sp], #96",
        "ret",
    )
}
