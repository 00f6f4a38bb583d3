// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU that runs: its number, its registers, its barriers.

use core::arch::asm;
use core::sync::atomic::AtomicU64;

use crate::machine::MAX_CPUS;

/// Reads a system register by name.
#[macro_export]
macro_rules! read_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register changes nothing that the compiler knows of.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Writes a system register by name.
#[macro_export]
macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers that guests write so (timers, interrupt controller, own pointers) change neither the
        // translation nor the stack.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack)) };
    }};
}

/// What a CPU keeps for itself; TPIDR_EL1 points to it. The first field's place is known to assembly.
#[repr(C)]
pub struct PerCpu {
    /// Stack pointer to which a probe recovers; 0 outside a probe.
    pub probe_stack: AtomicU64,
    /// ESR_EL1, FAR_EL1 and ELR_EL1 of the last exception of a probe.
    pub caught: [AtomicU64; 3],
    /// This CPU's GICv3 redistributor, 0 before it is known.
    pub redistributor: AtomicU64,
}

static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        probe_stack: AtomicU64::new(0),
        caught: [const { AtomicU64::new(0) }; 3],
        redistributor: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Makes this CPU number `index`.
pub fn attach(index: usize) {
    write_register!("tpidr_el1", (&raw const CPUS[index]) as u64);
}

/// Returns this CPU's number: its place in the tree.
pub fn index() -> usize {
    let base = (&raw const CPUS) as u64;
    (read_register!("tpidr_el1") - base) as usize / size_of::<PerCpu>()
}

/// Returns this CPU's own data.
pub fn this() -> &'static PerCpu {
    &CPUS[index()]
}

/// Returns the data of CPU `index`.
pub fn other(index: usize) -> &'static PerCpu {
    &CPUS[index]
}

/// Returns the affinity fields of MPIDR_EL1.
pub fn affinity() -> u64 {
    read_register!("mpidr_el1") & 0xff_00ff_ffff
}

macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name() {
                // SAFETY: the instruction orders, waits or masks; it changes no register and no memory.
                unsafe { asm!($text, options(nostack, preserves_flags)) };
            }
        )*
    };
}

instructions! {
    /// Waits for an interrupt.
    wfi = "wfi";
    /// Waits for an event.
    wfe = "wfe";
    /// Sends an event.
    sev = "sev";
    /// Takes changes of system registers into effect.
    isb = "isb";
    /// Completes stores to tables and devices before what follows.
    dsb_ish = "dsb ish";
    /// Completes all before what follows.
    dsb = "dsb sy";
    /// Masks IRQ and FIQ.
    mask_interrupts = "msr daifset, #3";
    /// Unmasks IRQ.
    unmask_irq = "msr daifclr, #2";
    /// Unmasks FIQ.
    unmask_fiq = "msr daifclr, #1";
    /// Masks everything that can be masked: debug exceptions, SError, IRQ and FIQ.
    mask_all = "msr daifset, #15";
    /// Masks IRQ.
    mask_irq = "msr daifset, #2";
}

/// Forgets what was cached of the translation of `address`.
pub fn flush_translation(address: u64) {
    // SAFETY: forgetting a translation only makes the next access walk the tables.
    unsafe {
        asm!("dsb ish", "tlbi vaae1is, {}", "dsb ish", "isb", in(reg) address >> 12 & 0xfff_ffff_ffff, options(nostack));
    }
}

/// Writes the cache lines of `size` bytes at `address` to memory and forgets them, and what was fetched of them.
pub fn flush_cache(address: u64, size: u64) {
    let mut line = address & !0xf;
    while line < address + size {
        // SAFETY: cleaning keeps what memory holds.
        unsafe { asm!("dc civac, {0}", "dsb ish", "ic ivau, {0}", in(reg) line, options(nostack)) };
        line += 16;
    }
    dsb();
    isb();
}

/// Runs `work` with IRQ and FIQ masked.
pub fn without_interrupts<R>(work: impl FnOnce() -> R) -> R {
    let flags = read_register!("daif");
    mask_interrupts();
    let result = work();
    write_register!("daif", flags);
    result
}
