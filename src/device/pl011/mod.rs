// SPDX-License-Identifier: MIT OR Apache-2.0
//! The emulated PL011 UART, revision r1p5 (Arm DDI 0183): the console of a partition.
//!
//! Three contexts meet here and none waits for another. The partition's vCPUs read and write registers, one at a time
//! (the shell holds the partition's lock around [`Pl011::read`], [`Pl011::write`] and [`Pl011::reset`]). The
//! housekeeping CPU takes output with [`Pl011::output`] and hands in input with [`Pl011::receive`], without that lock.
//! Any of them may ask for [`Pl011::line`]. This works because every interrupt condition is a function of registers that
//! only vCPUs write and of counters that only grow: nothing is set by one side and cleared by the other.
//!
//! Output beyond the 32 bytes of the guest's FIFO is on the wire as far as the guest can tell: a ring of
//! [`OUTPUT_SIZE`](crate::console::OUTPUT_SIZE) bytes, of which the last 32 free ones are the FIFO. So a guest sees TXFF
//! only when the shared UART is far behind.

mod registers;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

use registers::*;

use super::Line;
use crate::console::{ByteSource, OUTPUT_SIZE, Pushed, Ring};
use crate::mmio::Width;

/// What a register write asks of the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The first byte of output since all was taken: the housekeeping CPU may have to be woken.
    Output,
}

/// The input could not be taken: the guest has not read what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// One PL011.
#[derive(Debug)]
pub struct Pl011 {
    /// Producer: vCPUs. Consumer: housekeeping.
    transmit: Ring<OUTPUT_SIZE>,
    /// Producer: housekeeping. Consumer: vCPUs.
    receive: Ring<DEPTH>,
    /// Producer and consumer: vCPUs.
    loopback: Ring<DEPTH>,
    /// Input bytes dropped since the start; written by housekeeping.
    overruns: AtomicUsize,
    /// Output bytes written to a full FIFO since the start.
    output_lost: AtomicUsize,

    // Written by vCPUs alone.
    ilpr: AtomicU32,
    ibrd: AtomicU32,
    fbrd: AtomicU32,
    lcr_h: AtomicU32,
    cr: AtomicU32,
    ifls: AtomicU32,
    imsc: AtomicU32,
    dmacr: AtomicU32,
    /// Output was written since UARTICR cleared the transmit interrupt below its trigger.
    transmitted: AtomicBool,
    /// `receive.pushed()` when UARTICR cleared the receive interrupt.
    rx_cleared_at: AtomicUsize,
    /// The same for the receive timeout interrupt.
    rt_cleared_at: AtomicUsize,
    /// `overruns` when UARTICR cleared the overrun interrupt.
    oe_cleared_at: AtomicUsize,
    /// `overruns` when UARTECR was written.
    rsr_cleared_at: AtomicUsize,
    /// `overruns` when UARTDR last told of one.
    dr_told_at: AtomicUsize,
}

impl Pl011 {
    /// Returns a UART after reset.
    pub const fn new() -> Self {
        Self {
            transmit: Ring::new(),
            receive: Ring::new(),
            loopback: Ring::new(),
            overruns: AtomicUsize::new(0),
            output_lost: AtomicUsize::new(0),
            ilpr: AtomicU32::new(0),
            ibrd: AtomicU32::new(0),
            fbrd: AtomicU32::new(0),
            lcr_h: AtomicU32::new(0),
            cr: AtomicU32::new(CR_RESET),
            ifls: AtomicU32::new(IFLS_RESET),
            imsc: AtomicU32::new(0),
            dmacr: AtomicU32::new(0),
            transmitted: AtomicBool::new(false),
            rx_cleared_at: AtomicUsize::new(0),
            rt_cleared_at: AtomicUsize::new(0),
            oe_cleared_at: AtomicUsize::new(0),
            rsr_cleared_at: AtomicUsize::new(0),
            dr_told_at: AtomicUsize::new(0),
        }
    }

    /// Puts the registers and the input into their reset state; output that waits is kept. For a restart, when none of
    /// the partition's vCPUs runs.
    pub fn reset(&self) {
        for register in [&self.ilpr, &self.ibrd, &self.fbrd, &self.lcr_h, &self.imsc, &self.dmacr] {
            register.store(0, Ordering::Relaxed);
        }
        self.cr.store(CR_RESET, Ordering::Relaxed);
        self.ifls.store(IFLS_RESET, Ordering::Relaxed);
        self.transmitted.store(false, Ordering::Relaxed);
        self.receive.clear();
        self.loopback.clear();
        let overruns = self.overruns.load(Ordering::Relaxed);
        for cleared_at in [&self.oe_cleared_at, &self.rsr_cleared_at, &self.dr_told_at] {
            cleared_at.store(overruns, Ordering::Relaxed);
        }
    }

    /// Reads at a byte offset. An access that does not start at a register's first byte, a 64-bit one, and one to
    /// where no register is, read as 0.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let value = match (width, offset) {
            (Width::Double, _) => 0,
            (_, UARTDR) => self.read_data(),
            (_, UARTRSR) => self.since(&self.rsr_cleared_at, RSR_OE),
            (_, UARTFR) => self.flags(),
            (_, UARTILPR) => self.ilpr.load(Ordering::Relaxed),
            (_, UARTIBRD) => self.ibrd.load(Ordering::Relaxed),
            (_, UARTFBRD) => self.fbrd.load(Ordering::Relaxed),
            (_, UARTLCR_H) => self.lcr_h.load(Ordering::Relaxed),
            (_, UARTCR) => self.cr.load(Ordering::Relaxed),
            (_, UARTIFLS) => self.ifls.load(Ordering::Relaxed),
            (_, UARTIMSC) => self.imsc.load(Ordering::Relaxed),
            (_, UARTRIS) => self.raw_interrupts(),
            (_, UARTMIS) => self.raw_interrupts() & self.imsc.load(Ordering::Relaxed),
            (_, UARTDMACR) => self.dmacr.load(Ordering::Relaxed),
            (_, offset) => identification(offset),
        };
        u64::from(value) & width.mask()
    }

    /// Writes at a byte offset. What `read` reads as 0 for want of a register is ignored.
    pub fn write(&self, offset: u64, width: Width, value: u64) -> Effect {
        let [a, b, c, d, ..] = (value & width.mask()).to_le_bytes();
        let value = u32::from_le_bytes([a, b, c, d]);
        let (register, mask) = match (width, offset) {
            (Width::Double, _) => return Effect::None,
            (_, UARTDR) => return self.write_data(a),
            (_, UARTRSR) => {
                self.rsr_cleared_at.store(self.overruns.load(Ordering::Relaxed), Ordering::Relaxed);
                return Effect::None;
            }
            (_, UARTICR) => {
                self.clear_interrupts(value);
                return Effect::None;
            }
            (_, UARTILPR) => (&self.ilpr, 0xff),
            (_, UARTIBRD) => (&self.ibrd, 0xffff),
            (_, UARTFBRD) => (&self.fbrd, 0x3f),
            (_, UARTLCR_H) => (&self.lcr_h, 0xff),
            (_, UARTCR) => (&self.cr, 0xff87),
            (_, UARTIFLS) => (&self.ifls, 0x3f),
            (_, UARTIMSC) => (&self.imsc, 0x7ff),
            (_, UARTDMACR) => (&self.dmacr, 0x7),
            _ => return Effect::None,
        };
        register.store(value & mask, Ordering::Relaxed);
        Effect::None
    }

    /// Returns the level of the interrupt line (UARTINTR, the combined interrupt).
    pub fn line(&self) -> Line {
        // A guest that polls has masked all, and pays for none.
        match self.imsc.load(Ordering::Relaxed) {
            0 => Line::Low,
            mask if self.raw_interrupts() & mask == 0 => Line::Low,
            _ => Line::High,
        }
    }

    /// Hands the line's level to `apply`, until what was handed last still holds. To be called after each access, and by
    /// the housekeeping CPU after input and output: when two contexts do so at once, the one that applies last looks
    /// again after it, so that no edge is lost. At most four rounds; a fifth would be caused by another context, which
    /// looks itself.
    pub fn settle(&self, mut apply: impl FnMut(Line)) {
        for _ in 0..4 {
            // What this context did to the device is visible before the level that it applies is, and that level before
            // the conditions are read again.
            fence(Ordering::SeqCst);
            let line = self.line();
            apply(line);
            fence(Ordering::SeqCst);
            if self.line() == line {
                return;
            }
        }
    }

    /// Hands in a byte of input. Housekeeping only.
    ///
    /// # Errors
    ///
    /// The receive FIFO is full; the byte may be handed in again, or given up with [`Pl011::overrun`].
    pub fn receive(&self, byte: u8) -> Result<(), Full> {
        match self.receive.push(byte) {
            Pushed::First | Pushed::More => Ok(()),
            Pushed::Full => Err(Full),
        }
    }

    /// Tells the guest that input was lost. Housekeeping only.
    pub fn overrun(&self) {
        let count = self.overruns.load(Ordering::Relaxed).wrapping_add(1);
        self.overruns.store(count, Ordering::Relaxed);
    }

    /// Returns the output, of which housekeeping alone may take.
    pub fn output(&self) -> &impl ByteSource {
        &self.transmit
    }

    /// Returns how many bytes of output the guest has written to a full FIFO, wrapping.
    pub fn output_lost(&self) -> usize {
        self.output_lost.load(Ordering::Relaxed)
    }

    fn is_loopback(&self) -> bool {
        self.cr.load(Ordering::Relaxed) & CR_LBE != 0
    }

    /// Returns where the guest's input comes from.
    fn input(&self) -> &Ring<DEPTH> {
        if self.is_loopback() { &self.loopback } else { &self.receive }
    }

    /// Returns the depth of the FIFOs: without UARTLCR_H.FEN they are single registers.
    fn depth(&self) -> usize {
        if self.lcr_h.load(Ordering::Relaxed) & LCR_FEN != 0 { DEPTH } else { 1 }
    }

    /// Returns how many bytes the guest's transmit FIFO holds: what does not fit the ring but for `depth` bytes.
    fn transmit_level(&self) -> usize {
        self.transmit.len().saturating_sub(OUTPUT_SIZE - self.depth())
    }

    /// Returns the bytes at which the receive and the transmit interrupt trigger.
    fn triggers(&self) -> (usize, usize) {
        if self.depth() == 1 {
            return (1, 0);
        }
        let ifls = self.ifls.load(Ordering::Relaxed);
        (trigger(ifls >> 3), trigger(ifls))
    }

    fn read_data(&self) -> u32 {
        let Some(byte) = self.input().pop() else { return 0 };
        let overrun = self.since(&self.dr_told_at, DR_OE);
        self.dr_told_at.store(self.overruns.load(Ordering::Relaxed), Ordering::Relaxed);
        u32::from(byte) | overrun
    }

    /// Output works whether or not the UART is enabled: early consoles rely on what a boot loader has set up.
    fn write_data(&self, byte: u8) -> Effect {
        if self.is_loopback() {
            self.loopback.push(byte);
            return Effect::None;
        }
        self.transmitted.store(true, Ordering::Relaxed);
        match self.transmit.push(byte) {
            Pushed::First => Effect::Output,
            Pushed::More => Effect::None,
            Pushed::Full => {
                let count = self.output_lost.load(Ordering::Relaxed).wrapping_add(1);
                self.output_lost.store(count, Ordering::Relaxed);
                Effect::None
            }
        }
    }

    fn flags(&self) -> u32 {
        let (transmit, receive, depth) = (self.transmit_level(), self.input().len(), self.depth());
        let levels = [
            (transmit > 0, FR_BUSY),
            (transmit == 0, FR_TXFE),
            (transmit >= depth, FR_TXFF),
            (receive == 0, FR_RXFE),
            (receive >= depth, FR_RXFF),
        ];
        let modem = if self.is_loopback() {
            // DDI 0183, 2.4.4: the outputs are wired to the inputs.
            let cr = self.cr.load(Ordering::Relaxed);
            [(CR_RTS, FR_CTS), (CR_DTR, FR_DSR), (CR_OUT1, FR_DCD), (CR_OUT2, FR_RI)]
                .map(|(output, input)| (cr & output != 0, input))
        } else {
            // The other end is there and listens.
            [(true, FR_CTS), (true, FR_DSR), (true, FR_DCD), (false, FR_RI)]
        };
        levels.into_iter().chain(modem).filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
    }

    /// Returns UARTRIS.
    ///
    /// Transmit: the FIFO is at or below its trigger, and something was written since the interrupt was cleared there.
    /// Receive: the FIFO has reached its trigger. Receive timeout: anything waits (nobody can tell when a byte
    /// would have followed). Both of these stay cleared until another byte arrives.
    fn raw_interrupts(&self) -> u32 {
        let (receive_trigger, transmit_trigger) = self.triggers();
        let (waiting, arrived) = (self.input().len(), self.input().pushed());
        let conditions = [
            (waiting >= receive_trigger && arrived != self.rx_cleared_at.load(Ordering::Relaxed), INT_RX),
            (waiting > 0 && arrived != self.rt_cleared_at.load(Ordering::Relaxed), INT_RT),
            (self.transmitted.load(Ordering::Relaxed) && self.transmit_level() <= transmit_trigger, INT_TX),
        ];
        let raw = conditions.into_iter().filter(|(set, _)| *set).fold(0, |raw, (_, bit)| raw | bit);
        raw | self.since(&self.oe_cleared_at, INT_OE)
    }

    fn clear_interrupts(&self, which: u32) {
        let arrived = self.input().pushed();
        if which & INT_RX != 0 {
            self.rx_cleared_at.store(arrived, Ordering::Relaxed);
        }
        if which & INT_RT != 0 {
            self.rt_cleared_at.store(arrived, Ordering::Relaxed);
        }
        // Above the trigger there is nothing to clear: the FIFO has yet to fall to it.
        if which & INT_TX != 0 && self.transmit_level() <= self.triggers().1 {
            self.transmitted.store(false, Ordering::Relaxed);
        }
        if which & INT_OE != 0 {
            self.oe_cleared_at.store(self.overruns.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Returns `bit` when input was lost since the count was noted.
    fn since(&self, noted: &AtomicUsize, bit: u32) -> u32 {
        if self.overruns.load(Ordering::Relaxed) == noted.load(Ordering::Relaxed) { 0 } else { bit }
    }
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
