// SPDX-License-Identifier: MIT OR Apache-2.0
//! A defect of the hypervisor itself: it is printed at once, on whichever CPU it happened, and then `on-panic` applies.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use ::log::error;

use super::{housekeeping, log};
use crate::arch::sysreg::wfi;
use crate::config::OnPanic;

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    error!("hypervisor panic: {info}");
    end()
}

/// Reports a fault of EL2's own. `kind` is 0 for a synchronous one, 1 and 2 for interrupts, 3 for an SError.
pub fn own_fault(esr: u64, elr: u64, far: u64, kind: u64) -> ! {
    begin();
    let name = match kind {
        0 => "synchronous exception",
        3 => "SError",
        _ => "interrupt",
    };
    error!("hypervisor fault: {name} at EL2, ESR {esr:#x}, ELR {elr:#x}, FAR {far:#x}");
    end()
}

/// Takes the console from whoever has it. A second CPU, or a panic in a panic, stops here.
fn begin() {
    if PANICKING.swap(true, Ordering::SeqCst) {
        halt();
    }
    // SAFETY: this CPU never goes on with what it did, and nobody else logs once the housekeeping CPU's UART is taken.
    unsafe { log::seize() };
    if let Some(uart) = housekeeping::seize_uart() {
        log::set_uart(uart);
    }
}

fn end() -> ! {
    if let Some(machine) = super::get() {
        match (machine.on_panic, machine.firmware) {
            (OnPanic::Reset, Some(firmware)) => firmware.system_reset(),
            (OnPanic::Reset, None) => error!("no firmware to reset the machine; it halts"),
            (OnPanic::Halt, _) => error!("this CPU halts; guests on other CPUs go on without a console"),
        }
    }
    halt()
}

fn halt() -> ! {
    loop {
        wfi();
    }
}
