// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PL011's registers (Arm DDI 0183, 3.2): offsets, bits and fixed values.

pub(super) const UARTDR: u64 = 0x000;
pub(super) const UARTRSR: u64 = 0x004;
pub(super) const UARTFR: u64 = 0x018;
pub(super) const UARTILPR: u64 = 0x020;
pub(super) const UARTIBRD: u64 = 0x024;
pub(super) const UARTFBRD: u64 = 0x028;
pub(super) const UARTLCR_H: u64 = 0x02c;
pub(super) const UARTCR: u64 = 0x030;
pub(super) const UARTIFLS: u64 = 0x034;
pub(super) const UARTIMSC: u64 = 0x038;
pub(super) const UARTRIS: u64 = 0x03c;
pub(super) const UARTMIS: u64 = 0x040;
pub(super) const UARTICR: u64 = 0x044;
pub(super) const UARTDMACR: u64 = 0x048;
const PERIPH_ID: u64 = 0xfe0;
const PCELL_ID: u64 = 0xff0;

/// UARTDR.OE: bytes were lost before this one.
pub(super) const DR_OE: u32 = 1 << 11;
/// UARTRSR.OE.
pub(super) const RSR_OE: u32 = 1 << 3;

pub(super) const FR_CTS: u32 = 1 << 0;
pub(super) const FR_DSR: u32 = 1 << 1;
pub(super) const FR_DCD: u32 = 1 << 2;
pub(super) const FR_BUSY: u32 = 1 << 3;
pub(super) const FR_RXFE: u32 = 1 << 4;
pub(super) const FR_TXFF: u32 = 1 << 5;
pub(super) const FR_RXFF: u32 = 1 << 6;
pub(super) const FR_TXFE: u32 = 1 << 7;
pub(super) const FR_RI: u32 = 1 << 8;

pub(super) const LCR_FEN: u32 = 1 << 4;
pub(super) const CR_LBE: u32 = 1 << 7;
pub(super) const CR_DTR: u32 = 1 << 10;
pub(super) const CR_RTS: u32 = 1 << 11;
pub(super) const CR_OUT1: u32 = 1 << 12;
pub(super) const CR_OUT2: u32 = 1 << 13;
/// TXE and RXE; the UART itself is disabled.
pub(super) const CR_RESET: u32 = 0x0300;
/// Both triggers at half full.
pub(super) const IFLS_RESET: u32 = 0x12;

/// UARTRIS: the receive FIFO has reached its trigger.
pub(super) const INT_RX: u32 = 1 << 4;
/// UARTRIS: the transmit FIFO has fallen to its trigger.
pub(super) const INT_TX: u32 = 1 << 5;
/// UARTRIS: received data waits.
pub(super) const INT_RT: u32 = 1 << 6;
/// UARTRIS: bytes were lost.
pub(super) const INT_OE: u32 = 1 << 10;

/// Bytes of each FIFO.
pub(super) const DEPTH: usize = 32;

/// Returns the bytes of a trigger level: 1/8, 1/4, 1/2, 3/4 or 7/8 of the FIFO; reserved ones are 1/2.
pub(super) const fn trigger(select: u32) -> usize {
    match select & 7 {
        0 => DEPTH / 8,
        1 => DEPTH / 4,
        3 => DEPTH / 4 * 3,
        4 => DEPTH / 8 * 7,
        _ => DEPTH / 2,
    }
}

/// Returns UARTPeriphID0-3 and UARTPCellID0-3.
pub(super) const fn identification(offset: u64) -> u32 {
    const { assert!(PCELL_ID == PERIPH_ID + 0x10) };
    match offset.wrapping_sub(PERIPH_ID) {
        0x00 => 0x11,
        0x04 => 0x10,
        // Revision 3 is r1p5, the one with 32 bytes of FIFO.
        0x08 => 0x34,
        0x0c => 0x00,
        0x10 => 0x0d,
        0x14 => 0xf0,
        0x18 => 0x05,
        0x1c => 0xb1,
        _ => 0,
    }
}
