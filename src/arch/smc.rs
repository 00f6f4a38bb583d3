// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls to the board's firmware. Only where the tree says that there is PSCI: a board without `/psci` hangs on an SMC.

use core::arch::asm;

use crate::addr::Pa;
use crate::id::Mpidr;

const CPU_ON: u64 = 0xc400_0003;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;

/// Firmware that answers PSCI by SMC, as the tree's `/psci` node says.
#[derive(Clone, Copy, Debug)]
pub struct Firmware(());

impl Firmware {
    /// Trusts that there is firmware behind SMC.
    ///
    /// # Safety
    ///
    /// The board's tree has a `/psci` node with `method = "smc"`.
    pub const unsafe fn new() -> Self {
        Self(())
    }

    /// PSCI CPU_ON: lets a CPU begin at `entry` (Arm DEN 0022, 5.6).
    ///
    /// # Errors
    ///
    /// The negative PSCI return code.
    pub fn cpu_on(self, target: Mpidr, entry: Pa) -> Result<(), i32> {
        match self.call(CPU_ON, target.get(), entry.get()) as i32 {
            0 => Ok(()),
            code => Err(code),
        }
    }

    /// PSCI SYSTEM_OFF; comes back only if the firmware cannot.
    pub fn system_off(self) {
        self.call(SYSTEM_OFF, 0, 0);
    }

    /// PSCI SYSTEM_RESET; comes back only if the firmware cannot.
    pub fn system_reset(self) {
        self.call(SYSTEM_RESET, 0, 0);
    }

    fn call(self, function: u64, first: u64, second: u64) -> u64 {
        let result: u64;
        // SAFETY: there is firmware behind SMC, as `new`'s caller ensured; by SMCCC 1.0 it preserves x18 to x30.
        unsafe {
            asm!("smc #0", inout("x0") function => result, inout("x1") first => _, inout("x2") second => _,
                inout("x3") 0_u64 => _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
                out("x17") _, options(nostack));
        }
        result
    }
}
