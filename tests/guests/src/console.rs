// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console: a PL011, polled, one line at a time.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::Machine;
use crate::mmio;
use crate::sync::Lock;

const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const LINE_CONTROL: u64 = 0x2c;
const CONTROL: u64 = 0x30;
const INTERRUPT_MASK: u64 = 0x38;
const TRANSMIT_FULL: u32 = 1 << 5;

/// Prints one line; lines of several CPUs do not mix.
#[macro_export]
macro_rules! println {
    ($($part:tt)*) => { $crate::console::print_line(format_args!($($part)*)) };
}

struct Uart;

static UART: Lock<Uart> = Lock::new(Uart);
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// Starts to use the console that the tree names; without one, lines go nowhere.
pub fn open(machine: &Machine) {
    REGISTERS.store(machine.uart.registers.base, Ordering::Relaxed);
    reset();
}

/// Sets the UART up: 8 bits, FIFOs on, no interrupts; the speed stays what the firmware chose.
pub fn reset() {
    let base = REGISTERS.load(Ordering::Relaxed);
    if base != 0 {
        mmio::write32(base + INTERRUPT_MASK, 0);
        mmio::write32(base + LINE_CONTROL, 0x70);
        mmio::write32(base + CONTROL, 0x301);
    }
}

/// Prints `line` and an end of line.
pub fn print_line(line: fmt::Arguments<'_>) {
    UART.with(|uart| {
        // Writing to the UART cannot fail.
        let _ = uart.write_fmt(line);
        let _ = uart.write_str("\n");
    });
}

/// Opens the console by force, for a last message.
pub fn break_open() {
    UART.break_open();
}

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let base = REGISTERS.load(Ordering::Relaxed);
        if base == 0 {
            return Ok(());
        }
        for byte in text.bytes() {
            while mmio::read32(base + FLAGS) & TRANSMIT_FULL != 0 {}
            mmio::write32(base + DATA, u32::from(byte));
        }
        Ok(())
    }
}
