// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arm PrimeCell UART PL011 (DDI 0183). Baud rate and line settings are the firmware's and are left alone.

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite};
use tock_registers::{register_bitfields, register_structs};

use crate::addr::Pa;

register_bitfields! {
    u32,
    FR [
        /// Transmit FIFO full.
        TXFF OFFSET(5) NUMBITS(1) [],
        /// Receive FIFO empty.
        RXFE OFFSET(4) NUMBITS(1) []
    ],
    CR [
        /// Receive enable.
        RXE OFFSET(9) NUMBITS(1) [],
        /// Transmit enable.
        TXE OFFSET(8) NUMBITS(1) [],
        /// UART enable.
        UARTEN OFFSET(0) NUMBITS(1) []
    ],
    INTERRUPTS [
        /// Receive timeout.
        RT OFFSET(6) NUMBITS(1) [],
        /// Receive.
        RX OFFSET(4) NUMBITS(1) []
    ]
}

register_structs! {
    Registers {
        /// Data, UARTDR.
        (0x000 => dr: ReadWrite<u32>),
        (0x004 => _reserved0),
        /// Flags, UARTFR.
        (0x018 => fr: ReadOnly<u32, FR::Register>),
        (0x01c => _reserved1),
        /// Control, UARTCR.
        (0x030 => cr: ReadWrite<u32, CR::Register>),
        (0x034 => _reserved2),
        /// Interrupt mask, UARTIMSC.
        (0x038 => imsc: ReadWrite<u32, INTERRUPTS::Register>),
        (0x03c => @END),
    }
}

/// A PL011.
#[derive(Debug)]
pub struct Pl011 {
    base: Pa,
}

impl Pl011 {
    /// Takes the UART over, enabled, without interrupts.
    ///
    /// # Safety
    ///
    /// `base` is a PL011 that can be reached at its physical address, and no one else drives it.
    pub(super) unsafe fn new(base: Pa) -> Self {
        let uart = Self { base };
        uart.registers().imsc.set(0);
        uart.registers().cr.modify(CR::UARTEN::SET + CR::TXE::SET + CR::RXE::SET);
        uart
    }

    fn registers(&self) -> &Registers {
        // SAFETY: `new`'s caller ensured that the registers are there and ours.
        unsafe { &*(self.base.get() as *const Registers) }
    }

    pub(super) fn try_put(&mut self, byte: u8) -> bool {
        let room = !self.registers().fr.is_set(FR::TXFF);
        if room {
            self.registers().dr.set(u32::from(byte));
        }
        room
    }

    pub(super) fn try_get(&mut self) -> Option<u8> {
        if self.registers().fr.is_set(FR::RXFE) {
            return None;
        }
        Some((self.registers().dr.get() & 0xff) as u8)
    }

    pub(super) fn disable_interrupts(&mut self) {
        self.registers().imsc.set(0);
    }

    pub(super) fn enable_receive_interrupt(&mut self) {
        self.registers().imsc.write(INTERRUPTS::RX::SET + INTERRUPTS::RT::SET);
    }
}
