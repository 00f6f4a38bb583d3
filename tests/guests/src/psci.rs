// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of the firmware: PSCI (Arm DEN0022) by the conduit that the tree names.

use core::arch::asm;

use crate::cpu;
use crate::entry::machine;
use crate::machine::Conduit;

/// PSCI_VERSION.
pub const VERSION: u32 = 0x8400_0000;
/// CPU_OFF.
pub const CPU_OFF: u32 = 0x8400_0002;
/// CPU_ON, 64-bit.
pub const CPU_ON: u32 = 0xc400_0003;
/// AFFINITY_INFO, 64-bit.
pub const AFFINITY_INFO: u32 = 0xc400_0004;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const FEATURES: u32 = 0x8400_000a;

/// The call succeeded.
pub const SUCCESS: i64 = 0;
/// The function does not exist.
pub const NOT_SUPPORTED: i64 = -1;
/// A parameter is wrong.
pub const INVALID_PARAMETERS: i64 = -2;
/// The CPU is on.
pub const ALREADY_ON: i64 = -4;
/// The address is not the caller's.
pub const INVALID_ADDRESS: i64 = -9;

macro_rules! conduit {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        pub fn $name(function: u32, arguments: [u64; 3]) -> u64 {
            let mut result = u64::from(function);
            // SAFETY: the firmware keeps what SMCCC has it keep (Arm DEN0028); the rest is named here.
            unsafe {
                asm!(
                    $instruction,
                    inout("x0") result,
                    inout("x1") arguments[0] => _,
                    inout("x2") arguments[1] => _,
                    inout("x3") arguments[2] => _,
                    out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
                    out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
                    options(nostack),
                );
            }
            result
        }
    };
}

conduit!(
    /// Calls by HVC.
    hvc,
    "hvc #0"
);
conduit!(
    /// Calls by SMC.
    smc,
    "smc #0"
);

/// Calls by the tree's conduit; NOT_SUPPORTED when it names none.
pub fn call(function: u32, arguments: [u64; 3]) -> i64 {
    match machine().conduit {
        Conduit::None => NOT_SUPPORTED,
        Conduit::Hvc => result(function, hvc(function, arguments)),
        Conduit::Smc => result(function, smc(function, arguments)),
    }
}

/// Turns a CPU on at `entry` with `context` in x0.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> i64 {
    call(CPU_ON, [mpidr, entry, context])
}

/// Returns 0 when the CPU is on, 1 when it is off, 2 when it comes up, or an error.
pub fn affinity_info(mpidr: u64) -> i64 {
    call(AFFINITY_INFO, [mpidr, 0, 0])
}

/// Turns this CPU off; comes back with an error only.
pub fn cpu_off() -> i64 {
    call(CPU_OFF, [0; 3])
}

/// Turns the machine off.
pub fn system_off() -> ! {
    call(SYSTEM_OFF, [0; 3]);
    park()
}

/// Starts the machine again.
pub fn system_reset() -> ! {
    call(SYSTEM_RESET, [0; 3]);
    park()
}

/// Waits for ever, quietly.
pub fn park() -> ! {
    cpu::mask_interrupts();
    loop {
        cpu::wfi();
    }
}

/// Reads a result: calls of the 32-bit convention return 32 bits.
fn result(function: u32, value: u64) -> i64 {
    if function & 0x4000_0000 == 0 { i64::from(value as i32) } else { value as i64 }
}

/// Calls PSCI_VERSION by an HVC with the immediate 0xbea7, which tells it from others in an emulator's log.
pub fn mark() {
    // SAFETY: as for the calls above; the immediate means nothing to the firmware.
    unsafe {
        asm!(
            "hvc #0xbea7",
            inout("x0") 0x8400_0000_u64 => _,
            out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
            out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
            options(nostack),
        );
    }
}
