// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of calls and register accesses: what one instruction costs that a hypervisor takes over.

use core::arch::naked_asm;

use super::row;
use crate::entry::machine;
use crate::probe::{self, Code};
use crate::{cpu, gic, println, psci, report};

/// Runs the rows.
pub fn run() {
    row("overhead", || ticks(nothing, 0, 0));
    calls();
    registers();
}

fn calls() {
    // Without an EL2, or with firmware behind SMC, HVC is undefined on the bare machine: then there is no row.
    if probe::run(hvc, psci::VERSION.into(), 0).is_err() {
        return;
    }
    row("hvc-psci-version", || ticks(hvc, psci::VERSION.into(), 0));
    row("hvc-psci-features", || ticks(hvc, psci::FEATURES.into(), psci::CPU_ON.into()));
    row("hvc-unknown", || ticks(hvc, 0x8400_fffe, 0));
    report::equal("bench", "unknown-call-is-not-supported", psci::hvc(0x8400_fffe, [0; 3]) as i32, -1);
}

fn registers() {
    let distributor = gic::distributor();
    let own = u64::from(own_spi());
    let private = gic::bank(0);
    row("gicd-typer-read", || ticks(load, distributor + 4, 0));
    row("gicd-isenabler-read", || ticks(load, distributor + 0x100 + own / 32 * 4, 0));
    row("gicd-isenabler-write-own-spi", || ticks(store, distributor + 0x100 + own / 32 * 4, 1 << (own % 32)));
    row("gicd-ipriority-write-own-spi", || ticks(store_byte, distributor + 0x400 + own, 0x80));
    let name = if gic::is_v3() { "gicr-isenabler0-write" } else { "gicd-isenabler0-write" };
    row(name, || ticks(store, private + 0x100, 1 << machine().virtual_timer));
    gic::disable(own_spi());
    let uart = machine().uart.registers.base;
    if uart != 0 {
        // Few enough for the FIFO: none of them waits.
        row("console-char", || ticks(store, uart, b'.'.into()));
        println!("");
    }
}

/// Returns an SPI that is the guest's: the clock's, or else that of any device but the console.
fn own_spi() -> u32 {
    let machine = machine();
    if machine.rtc_intid != 0 {
        return machine.rtc_intid;
    }
    let other = machine.spis.iter().find(|spi| spi.intid != machine.uart.intid);
    other.map_or(machine.uart.intid, |spi| spi.intid)
}

fn ticks(code: Code, first: u64, second: u64) -> u64 {
    cpu::isb();
    probe::run(code, first, second).unwrap_or(u64::MAX)
}

macro_rules! timed {
    ($($name:ident: $($line:literal),*;)*) => {
        $(
            /// Returns the ticks from before the event to after it.
            #[unsafe(naked)]
            unsafe extern "C" fn $name(_first: u64, _second: u64) -> u64 {
                naked_asm!(
                    "stp x19, x20, [sp, #-16]!",
                    "isb",
                    "mrs x19, cntvct_el0",
                    $($line,)*
                    "isb",
                    "mrs x20, cntvct_el0",
                    "sub x0, x20, x19",
                    "ldp x19, x20, [sp], #16",
                    "ret",
                )
            }
        )*
    };
}

timed! {
    nothing: "";
    hvc: "hvc #0";
    load: "ldr w0, [x0]";
    store: "str w1, [x0]";
    store_byte: "strb w1, [x0]";
}
