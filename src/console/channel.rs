// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the multiplexer keeps: of each console its unfinished line, and of the terminal what was not sent yet.

use alloc::string::String;

use super::filter::{Colour, ESC, Filter, SEQUENCE_SIZE};

/// Bytes of an unfinished line that are kept.
pub(super) const LINE_SIZE: usize = 120;
/// Bytes formatted but not yet sent.
const QUEUE_SIZE: usize = 1024;

const _: () = assert!(LINE_SIZE / 2 > 2 * SEQUENCE_SIZE, "dropping half of a line makes room for any sequence");

/// One console.
#[derive(Debug)]
pub(super) struct Channel {
    pub prefix: String,
    pub line: Line,
    pub filter: Filter,
    /// A carriage return came, and it is not known what for.
    pub returned: bool,
    /// What is in `line` has been printed as a line of its own, but stays the answer to "what does it wait for".
    pub printed: bool,
    /// The line began on an earlier printed one: when nothing is added, its end is no empty line.
    pub continued: bool,
    /// Calls since the last byte.
    pub idle_calls: u16,
    /// Lines that came in another's raw view.
    pub missed: u32,
}

impl Channel {
    pub fn new(name: &str, width: usize) -> Self {
        let mut prefix = String::with_capacity(width + 3);
        prefix.push('[');
        prefix.push_str(name);
        prefix.push(']');
        prefix.extend(core::iter::repeat_n(' ', width.saturating_sub(name.len()) + 1));
        Self {
            prefix,
            line: Line { bytes: [0; LINE_SIZE], len: 0, coloured: false },
            filter: Filter::new(),
            returned: false,
            printed: false,
            continued: false,
            idle_calls: 0,
            missed: 0,
        }
    }
}

/// The text of an unfinished line.
#[derive(Debug)]
pub(super) struct Line {
    bytes: [u8; LINE_SIZE],
    len: usize,
    /// A colour is set at its end.
    pub coloured: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Whole,
    Full,
}

impl Line {
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        self.len = 0;
        self.coloured = false;
    }

    /// Appends all of the bytes or, when they do not fit, none.
    pub fn append(&mut self, bytes: &[u8], colour: Colour) -> Fit {
        let end = self.len.saturating_add(bytes.len());
        let Some(place) = self.bytes.get_mut(self.len..end) else { return Fit::Full };
        place.copy_from_slice(bytes);
        self.len = end;
        match colour {
            Colour::Kept => {}
            Colour::Changed => self.coloured = true,
            Colour::Plain => self.coloured = false,
        }
        Fit::Whole
    }

    pub fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// Drops the older half, but cuts no control sequence in two.
    pub fn drop_half(&mut self) {
        let half = self.len / 2;
        let older = self.bytes.get(..half).unwrap_or_default();
        let sequence = older.iter().rposition(|byte| *byte == ESC).unwrap_or(half);
        let is_cut = older.iter().skip(sequence + 2).all(|byte| matches!(byte, 0x20..=0x3f));
        let cut = if is_cut { sequence } else { half };
        self.bytes.copy_within(cut..self.len, 0);
        self.len -= cut;
    }
}

/// What is formatted and not yet sent. Bytes that do not fit are dropped; guests' output is only taken when it fits.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: [u8; QUEUE_SIZE],
    start: usize,
    len: usize,
}

impl Queue {
    pub const fn new() -> Self {
        Self { bytes: [0; QUEUE_SIZE], start: 0, len: 0 }
    }

    pub fn room(&self) -> usize {
        QUEUE_SIZE - self.len
    }

    pub fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let place = self.start.wrapping_add(self.len) % QUEUE_SIZE;
            let Some(place) = self.bytes.get_mut(place).filter(|_| self.len < QUEUE_SIZE) else { return };
            *place = byte;
            self.len += 1;
        }
    }

    pub fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes.get(self.start).copied();
        self.start = (self.start + 1) % QUEUE_SIZE;
        byte
    }
}

impl core::fmt::Write for Queue {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}
