// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every owner and function number of SMCCC (Arm DEN0028), by HVC and SMC, with arguments that mean nothing or too much.
//!
//! Left out are those that do what they say: a CPU or the system off, reset or asleep.

use core::arch::naked_asm;

use super::Attacker;
use crate::entry::machine;
use crate::probe;

/// The owner of PSCI, and those whose function numbers are swept in full.
const STANDARD: u64 = 4;
const FULL: [u64; 2] = [0, STANDARD];

/// CPU_SUSPEND, CPU_OFF, SYSTEM_OFF, SYSTEM_RESET, CPU_FREEZE, CPU_DEFAULT_SUSPEND, SYSTEM_SUSPEND, SYSTEM_RESET2.
const LEFT_OUT: [u64; 8] = [0x1, 0x2, 0x8, 0x9, 0xb, 0xc, 0xe, 0x12];

/// Runs the section.
pub fn run(attacker: &mut Attacker) {
    let step = machine().options().number("step", 97).max(1);
    for owner in 0..64 {
        let step = if FULL.contains(&owner) { 1 } else { step };
        // Each CPU starts elsewhere, so that they call different functions at the same time.
        let start = attacker.index as u64 * 0x1_0000 / attacker.cpus as u64;
        for number in (0..0x1_0000).step_by(step as usize) {
            let number = (start + number) & 0xffff;
            if owner != STANDARD || !LEFT_OUT.contains(&number) {
                attacker.call_all(owner << 24 | number);
            }
        }
    }
    for code in [hvc_immediate, smc_immediate] {
        let function = 0x8400_0000;
        attacker.tally.count_call(function, probe::run(code, function, 0));
    }
}

impl Attacker {
    /// Calls a function as fast and yielding call, in both conventions, by both instructions.
    fn call_all(&mut self, function: u64) {
        for convention in [0, 1 << 30, 1 << 31, 3 << 30] {
            for code in [hvc, smc] {
                let argument = match self.random.below(4) {
                    0 => self.random.below(16),
                    1 => machine().cpus[self.random.below(machine().cpus.len() as u64) as usize],
                    _ => self.random.pattern(),
                };
                let outcome = probe::run(code, function | convention, argument);
                self.tally.count_call(function | convention, outcome);
            }
        }
    }
}

macro_rules! calls {
    ($($name:ident: $call:literal;)*) => {
        $(
            /// Calls function x0 with x1 and what follows from it; BRK tells of a register that the call must keep and did not.
            #[unsafe(naked)]
            unsafe extern "C" fn $name(_function: u64, _argument: u64) -> u64 {
                naked_asm!(
                    "add x2, x1, x0",
                    "mvn x3, x1",
                    "mov x4, #0",
                    "mov x5, x1",
                    "mov x6, x0",
                    "mov x7, x2",
                    "add x19, x1, #19",
                    "add x20, x1, #20",
                    "add x21, x1, #21",
                    "add x22, x1, #22",
                    "add x23, x1, #23",
                    "add x24, x1, #24",
                    "add x25, x1, #25",
                    "add x26, x1, #26",
                    "add x27, x1, #27",
                    "add x28, x1, #28",
                    "add x29, x1, #29",
                    $call,
                    "sub x19, x19, #19",
                    "sub x20, x20, #20",
                    "sub x21, x21, #21",
                    "sub x22, x22, #22",
                    "sub x23, x23, #23",
                    "sub x24, x24, #24",
                    "sub x25, x25, #25",
                    "sub x26, x26, #26",
                    "sub x27, x27, #27",
                    "sub x28, x28, #28",
                    "sub x29, x29, #29",
                    "cmp x19, x20",
                    "ccmp x19, x21, #0, eq",
                    "ccmp x19, x22, #0, eq",
                    "ccmp x19, x23, #0, eq",
                    "ccmp x19, x24, #0, eq",
                    "ccmp x19, x25, #0, eq",
                    "ccmp x19, x26, #0, eq",
                    "ccmp x19, x27, #0, eq",
                    "ccmp x19, x28, #0, eq",
                    "ccmp x19, x29, #0, eq",
                    "b.eq 1f",
                    "brk #1",
                    "1: ret",
                )
            }
        )*
    };
}

calls! {
    hvc: "hvc #0";
    smc: "smc #0";
    hvc_immediate: "hvc #0xffff";
    smc_immediate: "smc #1";
}
