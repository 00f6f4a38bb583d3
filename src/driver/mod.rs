// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drivers of the physical UARTs, chosen by `compatible` as the tree gives it.

mod pl011;

use crate::addr::PaRange;
use pl011::Pl011;

/// The console UART. Owned by one CPU at a time: the boot CPU, then the housekeeping CPU.
#[derive(Debug)]
pub enum Uart {
    /// Arm PrimeCell PL011.
    Pl011(Pl011),
}

impl Uart {
    /// Returns the driver for a node with these `compatible` strings, or `None` when there is none.
    ///
    /// # Safety
    ///
    /// `registers` are those of this device, they can be reached at their physical address, and no one else drives it.
    pub unsafe fn probe<'a>(compatible: impl Iterator<Item = &'a str>, registers: PaRange) -> Option<Self> {
        for name in compatible {
            if matches!(name, "arm,pl011" | "arm,sbsa-uart" | "arm,primecell-uart") {
                // SAFETY: as the caller ensures.
                return Some(Self::Pl011(unsafe { Pl011::new(registers.start()) }));
            }
        }
        None
    }

    /// Sends a byte if the transmitter has room.
    pub fn try_put(&mut self, byte: u8) -> bool {
        match self {
            Self::Pl011(uart) => uart.try_put(byte),
        }
    }

    /// Takes a byte that was received.
    pub fn try_get(&mut self) -> Option<u8> {
        match self {
            Self::Pl011(uart) => uart.try_get(),
        }
    }

    /// Lets the UART interrupt when a byte was received. It never interrupts for room to send: housekeeping comes back
    /// by its timer, so that a fast UART cannot keep its CPU busy.
    pub fn enable_receive_interrupt(&mut self) {
        match self {
            Self::Pl011(uart) => uart.enable_receive_interrupt(),
        }
    }

    /// Lets the UART interrupt no more.
    pub fn disable_interrupts(&mut self) {
        match self {
            Self::Pl011(uart) => uart.disable_interrupts(),
        }
    }

    /// Sends a byte, waiting a bounded time for room. For the boot CPU and for panics only.
    pub fn put(&mut self, byte: u8) {
        // At 115200 baud a byte takes 87 microseconds; a UART that takes longer than this is dead.
        for _ in 0..1_000_000 {
            if self.try_put(byte) {
                return;
            }
            core::hint::spin_loop();
        }
    }
}
