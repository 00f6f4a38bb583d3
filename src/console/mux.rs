// SPDX-License-Identifier: MIT OR Apache-2.0
//! The multiplexer: bytes of all consoles in, one stream of named lines out.
//!
//! The console in focus is shown as it comes, so that prompts appear and typing is echoed. All others are shown line by
//! line, so that lines never mix: when one is complete, the focus's unfinished line is left with a newline, the other
//! line is printed, and the unfinished line is printed again. In the raw view the focus has the terminal to itself,
//! unfiltered; the lines of the others are counted and told afterwards.
//!
//! The work of a call is bounded by its byte budget, whatever the guests print.

use alloc::vec::Vec;
use core::fmt::Write as _;

use super::Source;
use super::channel::{Channel, Fit, Queue};
use super::filter::{Colour, Filtered, Freedom, Sequence};
use crate::id::{MAX_PARTITIONS, PartitionId};

/// The name of the hypervisor's own console.
pub const HYPERVISOR_NAME: &str = "septum";

/// Calls of [`Mux::pump`] without a new byte after which an unfinished line is printed nevertheless.
const HOLD_CALLS: u16 = 20;
/// Bytes taken from one console before the next has its turn.
const TURN_SIZE: usize = 32;
/// More than one byte of input can turn into: leaving a line, two prefixes and two lines with their colours.
const ROOM: usize = 512;

const NEW_LINE: &[u8] = b"\r\n";
const PLAIN: &[u8] = b"\x1b[0m";

/// How the focus is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All consoles, each line with its name.
    Lines,
    /// The focus alone, as it is.
    Raw,
}

/// What a call of [`Mux::pump`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes sent.
    pub sent: usize,
    /// Whether the budget ended first, so that work may be left.
    pub unfinished: bool,
    /// Partitions (bit n: id n) of which output was taken: their UARTs' interrupt lines may have changed.
    pub drained: u64,
}

/// The multiplexer.
#[derive(Debug)]
pub struct Mux {
    /// The partitions in the order of their ids, then the hypervisor.
    channels: Vec<Channel>,
    focus: usize,
    view: View,
    /// The channel whose unfinished line the cursor stands in; `None`: at the start of a line.
    cursor: Option<usize>,
    /// Whose turn it is.
    turn: usize,
    queue: Queue,
}

impl Mux {
    /// Returns a multiplexer for partitions of these names, in the order of their ids. The first one has the focus.
    pub fn new(names: &[&str]) -> Self {
        let names = names.iter().copied().take(MAX_PARTITIONS);
        let width = names.clone().chain([HYPERVISOR_NAME]).map(str::len).max().unwrap_or(0);
        let channels = names.chain([HYPERVISOR_NAME]).map(|name| Channel::new(name, width)).collect();
        Self { channels, focus: 0, view: View::Lines, cursor: None, turn: 0, queue: Queue::new() }
    }

    /// Returns how the focus is shown.
    pub fn view(&self) -> View {
        self.view
    }

    /// Moves the focus. Ends the raw view. A partition that does not exist is ignored.
    pub fn set_focus(&mut self, source: Source) {
        let focus = match source {
            Source::Partition(id) => id.index(),
            Source::Hypervisor => self.hypervisor(),
        };
        if focus > self.hypervisor() || (source != Source::Hypervisor && focus == self.hypervisor()) {
            return;
        }
        self.set_view(View::Lines);
        if focus != self.focus {
            self.leave_line(LineEnd::Given);
            self.focus = focus;
        }
    }

    /// Changes how the focus is shown.
    pub fn set_view(&mut self, view: View) {
        if view == self.view {
            return;
        }
        match view {
            View::Raw => self.leave_line(LineEnd::Given),
            View::Lines => {
                self.queue.put(PLAIN);
                self.queue.put(NEW_LINE);
            }
        }
        self.view = view;
        if let Some(channel) = self.channels.get_mut(self.focus) {
            channel.line.clear();
            channel.continued = true;
            channel.printed = false;
        }
    }

    /// Takes bytes of the consoles with `take` and sends at most `max_bytes` to `out`. `take` is asked at most
    /// 32 + 32 * `max_bytes` times for a byte that it has, and about once per partition for one that it has not.
    pub fn pump(
        &mut self,
        mut take: impl FnMut(Source) -> Option<u8>,
        max_bytes: usize,
        mut out: impl FnMut(u8),
    ) -> Pumped {
        let mut pumped = Pumped { sent: 0, unfinished: false, drained: 0 };
        let mut rested = false;
        for _ in 0..=max_bytes {
            while pumped.sent < max_bytes {
                let Some(byte) = self.queue.pop() else { break };
                out(byte);
                pumped.sent += 1;
            }
            if pumped.sent == max_bytes {
                break;
            }
            // The queue is empty, so there is room for all that one turn brings before it looks again.
            if self.take_turn(&mut take, &mut pumped.drained) {
                continue;
            }
            if rested {
                return pumped;
            }
            rested = true;
            self.rest();
        }
        pumped.unfinished = true;
        pumped
    }

    fn hypervisor(&self) -> usize {
        self.channels.len().saturating_sub(1)
    }

    fn source(&self, index: usize) -> Source {
        match u8::try_from(index) {
            Ok(id) if index < self.hypervisor() => Source::Partition(PartitionId::new(id)),
            _ => Source::Hypervisor,
        }
    }

    /// Takes some bytes of the next console that has any; returns whether one had.
    fn take_turn(&mut self, take: &mut impl FnMut(Source) -> Option<u8>, drained: &mut u64) -> bool {
        let count = self.channels.len().max(1);
        for step in 0..count {
            let index = self.turn.wrapping_add(step) % count;
            let source = self.source(index);
            let mut taken = 0;
            while taken < TURN_SIZE && self.queue.room() >= ROOM {
                let Some(byte) = take(source) else { break };
                self.feed(index, byte);
                taken += 1;
            }
            if taken > 0 {
                if let Source::Partition(id) = source {
                    *drained |= 1_u64.checked_shl(id.get().into()).unwrap_or(0);
                }
                self.turn = index + 1;
                return true;
            }
        }
        false
    }

    /// Does what is due when no console has a byte: prints lines held too long, tells of missed ones, and puts the
    /// focus's unfinished line back.
    fn rest(&mut self) {
        if self.view == View::Raw {
            return;
        }
        for index in 0..self.channels.len() {
            if self.queue.room() < ROOM {
                return;
            }
            let is_focus = index == self.focus;
            let Some(channel) = self.channels.get_mut(index) else { continue };
            let missed = core::mem::take(&mut channel.missed);
            channel.idle_calls = channel.idle_calls.saturating_add(1);
            let is_held = !is_focus && !channel.line.is_empty() && !channel.printed;
            if missed > 0 {
                self.print_missed(index, missed);
            }
            if is_held && self.channels.get(index).is_some_and(|channel| channel.idle_calls >= HOLD_CALLS) {
                self.print_line(index);
                if let Some(channel) = self.channels.get_mut(index) {
                    channel.printed = true;
                }
            }
        }
        if self.cursor != Some(self.focus) && self.channels.get(self.focus).is_some_and(|focus| !focus.line.is_empty())
        {
            self.enter_line();
        }
    }

    fn feed(&mut self, index: usize, byte: u8) {
        let is_focus = index == self.focus;
        if self.view == View::Raw {
            if is_focus {
                self.queue.put(&[byte]);
            } else if byte == b'\n'
                && let Some(channel) = self.channels.get_mut(index)
            {
                channel.missed = channel.missed.saturating_add(1);
            }
            return;
        }
        let freedom = if is_focus { Freedom::Edit } else { Freedom::Text };
        let Some(channel) = self.channels.get_mut(index) else { return };
        channel.idle_calls = 0;
        let filtered = channel.filter.feed(byte, freedom);
        if channel.returned && !matches!(filtered, Filtered::Nothing | Filtered::Return | Filtered::NewLine) {
            self.restart_line(index);
        }
        let Some(channel) = self.channels.get_mut(index) else { return };
        match filtered {
            Filtered::Nothing => {}
            Filtered::Return => channel.returned = true,
            Filtered::NewLine => {
                channel.returned = false;
                self.end_line(index);
            }
            Filtered::Backspace if !is_focus => channel.line.pop(),
            Filtered::Backspace => self.show(index, &[8], Colour::Kept),
            Filtered::Text(byte) => self.show(index, &[byte], Colour::Kept),
            Filtered::Sequence(sequence) => self.show_sequence(index, &sequence),
        }
    }

    fn show_sequence(&mut self, index: usize, sequence: &Sequence) {
        self.show(index, sequence.bytes(), sequence.colour());
    }

    /// Adds to a console's line: on the terminal at once for the focus, else when the line is full or ends.
    fn show(&mut self, index: usize, bytes: &[u8], colour: Colour) {
        let is_focus = index == self.focus;
        if is_focus && self.cursor != Some(index) {
            self.enter_line();
        }
        let Some(channel) = self.channels.get_mut(index) else { return };
        if channel.printed {
            channel.printed = false;
            channel.continued = true;
            if !is_focus {
                channel.line.clear();
            }
        }
        let fitted = channel.line.append(bytes, colour);
        match (is_focus, fitted) {
            (true, Fit::Whole) => self.queue.put(bytes),
            (true, Fit::Full) => {
                // What is kept of a long line is its end.
                channel.line.drop_half();
                channel.line.append(bytes, colour);
                self.queue.put(bytes);
            }
            (false, Fit::Whole) => {}
            (false, Fit::Full) => {
                self.print_line(index);
                let Some(channel) = self.channels.get_mut(index) else { return };
                channel.line.clear();
                channel.continued = true;
                channel.line.append(bytes, colour);
            }
        }
    }

    /// A carriage return without newline: what follows replaces the line.
    fn restart_line(&mut self, index: usize) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        channel.returned = false;
        if channel.printed {
            channel.printed = false;
            channel.continued = true;
        }
        channel.line.clear();
        if self.cursor == Some(index) {
            self.queue.put(b"\r");
            self.queue.put(channel.prefix.as_bytes());
        }
    }

    fn end_line(&mut self, index: usize) {
        let Some(channel) = self.channels.get_mut(index) else { return };
        let is_shown = channel.printed || (channel.continued && channel.line.is_empty());
        if self.cursor == Some(index) {
            self.leave_line(LineEnd::Own);
        } else if !is_shown {
            self.print_line(index);
        }
        let Some(channel) = self.channels.get_mut(index) else { return };
        channel.line.clear();
        channel.printed = false;
        channel.continued = false;
    }

    /// Prints what a console's line holds as a line.
    fn print_line(&mut self, index: usize) {
        self.leave_line(LineEnd::Kept);
        let Some(channel) = self.channels.get(index) else { return };
        self.queue.put(channel.prefix.as_bytes());
        self.queue.put(channel.line.bytes());
        if channel.line.coloured {
            self.queue.put(PLAIN);
        }
        self.queue.put(NEW_LINE);
    }

    fn print_missed(&mut self, index: usize, missed: u32) {
        self.leave_line(LineEnd::Kept);
        let Some(channel) = self.channels.get(index) else { return };
        self.queue.put(channel.prefix.as_bytes());
        let plural = if missed == 1 { "line was" } else { "lines were" };
        // The queue takes what fits; it reports no error.
        let _ = write!(self.queue, "({missed} {plural} not shown)\r\n");
    }

    /// Moves the cursor behind the focus's unfinished line, printing it again.
    fn enter_line(&mut self) {
        self.leave_line(LineEnd::Kept);
        let Some(channel) = self.channels.get_mut(self.focus) else { return };
        channel.printed = false;
        self.queue.put(channel.prefix.as_bytes());
        self.queue.put(channel.line.bytes());
        self.cursor = Some(self.focus);
    }

    /// Moves the cursor to the start of a line.
    fn leave_line(&mut self, end: LineEnd) {
        let Some(channel) = self.cursor.take().and_then(|index| self.channels.get_mut(index)) else { return };
        if channel.line.coloured {
            self.queue.put(PLAIN);
        }
        self.queue.put(NEW_LINE);
        match end {
            LineEnd::Own | LineEnd::Kept => {}
            LineEnd::Given => {
                // It stays what the console waits with, and is printed again when the focus comes back.
                channel.printed = true;
            }
        }
    }
}

/// Why the cursor leaves an unfinished line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// The console ended it.
    Own,
    /// Another line comes between; it is put back.
    Kept,
    /// The console loses the focus; what was shown counts as printed.
    Given,
}

#[cfg(test)]
#[path = "mux_tests.rs"]
mod tests;
