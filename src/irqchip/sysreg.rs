// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to GICv3's system registers by the names the assembler knows, and the barriers that the drivers need.

/// Reads a GIC system register.
macro_rules! read_gic {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: a GICv3 CPU interface has the register (the driver is chosen by the device tree, and ICC_SRE_EL2.SRE is
        // set before any other is used). Acknowledging an interrupt changes the GIC's state only, in program order.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Writes a GIC system register.
macro_rules! write_gic {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: as for reading; the value changes what interrupts are signalled to this CPU and to its guest, never
        // memory.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack)) };
    }};
}

pub(super) use {read_gic, write_gic};

/// Orders stores to memory before what follows, for all CPUs: what a kicked CPU looks for is there when it looks.
pub(super) fn publish_stores() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ishst", options(nostack)) };
}

/// Makes writes to system registers take effect before what follows.
pub(super) fn synchronise() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("isb", options(nostack)) };
}

/// Returns the system counter and its frequency in ticks per second.
pub(super) fn counter() -> (u64, u64) {
    let (count, frequency): (u64, u64);
    // SAFETY: reading the counter and its frequency has no effect.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntpct_el0", "mrs {}, cntfrq_el0", out(reg) count, out(reg) frequency, options(nomem, nostack))
    };
    (count, frequency)
}
