// SPDX-License-Identifier: MIT OR Apache-2.0
//! System registers that aarch64-cpu does not have, one line each, and the barriers.

/// Reads a system register by the name the assembler knows.
#[macro_export]
macro_rules! read_sysreg {
    ($name:expr) => {{
        let value: u64;
        // SAFETY: reading a system register at EL2 has no effect on memory; the register exists on this CPU, as the
        // caller has found out from the ID registers where it is optional.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Writes a system register by the name the assembler knows.
#[macro_export]
macro_rules! write_sysreg {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the register exists on this CPU and the value is one that the hypervisor's design gives it; guests'
        // registers and the hypervisor's own translation are written only where this module's callers say so.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack)) };
    }};
}

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $asm:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: a barrier or hint changes no state that Rust knows of.
            unsafe { core::arch::asm!($asm, options(nostack)) };
        }
    };
}

instruction! {
    /// Instruction synchronisation barrier.
    isb, "isb"
}
instruction! {
    /// Data synchronisation barrier, full system.
    dsb_sy, "dsb sy"
}
instruction! {
    /// Data synchronisation barrier, inner shareable.
    dsb_ish, "dsb ish"
}
instruction! {
    /// Data synchronisation barrier for stores, inner shareable.
    dsb_ishst, "dsb ishst"
}
instruction! {
    /// Data synchronisation barrier, this CPU only.
    dsb_nsh, "dsb nsh"
}
instruction! {
    /// Waits for an interrupt; wakes on a masked one too.
    wfi, "wfi"
}
instruction! {
    /// Wakes CPUs that wait for an event.
    sev, "sev"
}
