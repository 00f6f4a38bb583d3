// SPDX-License-Identifier: MIT OR Apache-2.0
//! What fits nowhere else: waiting, undefined instructions, and accesses to emulated devices that cannot be decoded.

use core::arch::naked_asm;

use super::Attacker;
use super::code::{ATOMICS, MAINTENANCE, READS, WRITES, has_atomics, load64};
use crate::entry::machine;
use crate::mmu::{self, Kind};
use crate::probe;
use crate::{console, gic, psci, timer};

/// How often each way to wait is tried.
const WAITS: usize = 64;

/// Runs the section.
pub fn run(attacker: &mut Attacker) {
    wait(attacker);
    undefined(attacker);
    // One page of each device: identification registers, where a write does nothing on the bare machine either.
    let uart = machine().uart.registers.base;
    let devices = [uart + 0xfe0, machine().rtc.base + 0xfe0, gic::distributor() + 0xfe0];
    for address in devices.into_iter().filter(|address| *address > 0xfff) {
        attacker.try_device(address);
    }
    if attacker.index == 0 {
        console::reset();
    }
}

/// Waits in all ways, each ended by the virtual timer.
fn wait(attacker: &mut Attacker) {
    gic::enable(machine().virtual_timer);
    for _ in 0..WAITS {
        for code in [wait_interrupt, wait_event, wait_event_twice, wait_timeout, suspend] {
            timer::start_virtual(timer::now() + timer::ticks(20));
            attacker.tally.count(probe::run(code, timer::now() + timer::ticks(20), 0));
            timer::stop_virtual();
        }
    }
}

/// Standby by PSCI: the timer ends it, as it ends WFI.
unsafe extern "C" fn suspend(_: u64, _: u64) -> u64 {
    psci::call(0xc400_0001, [0; 3]) as u64
}

fn undefined(attacker: &mut Attacker) {
    for code in [undefined_zero, undefined_reserved, breakpoint, halt, supervisor_call, debug_state, fast_model] {
        attacker.tally.count(probe::run(code, 0, 0));
    }
}

macro_rules! code {
    ($($name:ident: $($line:literal),*;)*) => {
        $(
            #[unsafe(naked)]
            unsafe extern "C" fn $name(_first: u64, _second: u64) -> u64 {
                naked_asm!($($line,)* "ret")
            }
        )*
    };
}

code! {
    wait_interrupt: "wfi";
    wait_event: "sevl", "wfe";
    wait_event_twice: "sev", "wfe", "yield";
    wait_timeout: ".inst 0xd5031020"; // wfit x0
    undefined_zero: "udf #0";
    undefined_reserved: ".inst 0x01234567";
    breakpoint: "brk #0x123";
    halt: "hlt #1";
    supervisor_call: "svc #0";
    debug_state: "dcps1";
    fast_model: ".inst 0xd5080000";
}

impl Attacker {
    /// Touches a device's page in every way, as memory of every kind, and uses it as a translation table.
    fn try_device(&mut self, address: u64) {
        for kind in [Kind::Device, Kind::ExecutableDevice, Kind::Normal, Kind::Uncached] {
            for offset in [0, 1, 3, 7] {
                let window = mmu::look_at(address, kind) + (address & 0xfff) + offset;
                let atomics = ATOMICS.iter().filter(|_| has_atomics());
                for (_, code) in READS.iter().chain(atomics) {
                    self.tally.count(probe::run(*code, window, 0));
                }
                for code in WRITES.iter().map(|(_, code)| code).chain(&MAINTENANCE) {
                    let value = self.random.pattern();
                    self.tally.count(probe::run(*code, window, value));
                }
            }
            let window = mmu::look_at(address, kind);
            self.tally.count_forbidden("execute", address, probe::execute(window + (address & 0xfff)));
        }
        self.tally.count(probe::run(load64, mmu::translate_by(address), 0));
    }
}
