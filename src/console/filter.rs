// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps what a guest prints within its own line: passes text and the control sequences that stay in the line, drops those
//! that would move, clear or reconfigure the terminal that all share.

/// The longest control sequence that is passed.
pub(super) const SEQUENCE_SIZE: usize = 16;
/// The longest string sequence (a window title and its kind) that is swallowed whole.
const STRING_SIZE: u16 = 256;

const BEL: u8 = 0x07;
/// Starts every control sequence.
pub(super) const ESC: u8 = 0x1b;

/// How much a console may do to its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    /// Text and colours: it is shown line by line.
    Text,
    /// Also edit its line: it is shown as it comes.
    Edit,
}

/// A control sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    bytes: [u8; SEQUENCE_SIZE],
    len: usize,
}

impl Sequence {
    /// Returns its bytes, from ESC on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Tells what it does to the colours.
    pub fn colour(&self) -> Colour {
        match self.bytes() {
            [ESC, b'[', b'm'] | [ESC, b'[', b'0', b'm'] => Colour::Plain,
            [ESC, b'[', .., b'm'] => Colour::Changed,
            _ => Colour::Kept,
        }
    }
}

/// What a sequence does to the colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Nothing.
    Kept,
    /// Sets one.
    Changed,
    /// Resets them.
    Plain,
}

/// What becomes of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtered {
    /// Nothing to show, or not yet.
    Nothing,
    /// This byte is text.
    Text(u8),
    /// A backspace.
    Backspace,
    /// A carriage return; what it means is told by what follows.
    Return,
    /// The line ends.
    NewLine,
    /// A whole control sequence.
    Sequence(Sequence),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Text,
    Escape,
    /// ESC [ and what came behind it, whole in the buffer.
    Control,
    /// A control sequence too long to pass.
    LongControl,
    /// OSC, DCS, SOS, PM, APC: until BEL or ESC \.
    String {
        left: u16,
    },
}

/// The filter of one console.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    state: State,
    sequence: Sequence,
}

impl Filter {
    pub const fn new() -> Self {
        Self { state: State::Text, sequence: Sequence { bytes: [0; SEQUENCE_SIZE], len: 0 } }
    }

    /// Takes the next byte.
    pub fn feed(&mut self, byte: u8, freedom: Freedom) -> Filtered {
        match self.state {
            State::Text => self.text(byte, freedom),
            State::Escape => {
                self.state = match byte {
                    b'[' => {
                        self.append(byte);
                        State::Control
                    }
                    b']' | b'P' | b'X' | b'^' | b'_' => State::String { left: STRING_SIZE },
                    // Intermediate bytes: one more follows.
                    0x20..=0x2f => State::Escape,
                    _ => State::Text,
                };
                Filtered::Nothing
            }
            State::Control | State::LongControl => self.control(byte, freedom),
            State::String { left } => {
                self.state = match (byte, left) {
                    (BEL, _) | (_, 0) => State::Text,
                    (ESC, _) => State::Escape,
                    _ => State::String { left: left - 1 },
                };
                Filtered::Nothing
            }
        }
    }

    fn text(&mut self, byte: u8, freedom: Freedom) -> Filtered {
        match byte {
            b'\n' => Filtered::NewLine,
            b'\r' => Filtered::Return,
            0x08 => Filtered::Backspace,
            b'\t' | 0x20..=0x7e | 0x80.. => Filtered::Text(byte),
            BEL if freedom == Freedom::Edit => Filtered::Text(byte),
            ESC => {
                self.sequence.len = 0;
                self.append(byte);
                self.state = State::Escape;
                Filtered::Nothing
            }
            // Other controls, among them SO, which would change the character set.
            0x00..=0x1f | 0x7f => Filtered::Nothing,
        }
    }

    fn control(&mut self, byte: u8, freedom: Freedom) -> Filtered {
        if matches!(self.state, State::Control) && !self.append(byte) {
            self.state = State::LongControl;
        }
        match byte {
            0x40..=0x7e => {
                let is_whole = matches!(self.state, State::Control);
                self.state = State::Text;
                if is_whole && stays_in_line(self.sequence.bytes(), freedom) {
                    Filtered::Sequence(self.sequence)
                } else {
                    Filtered::Nothing
                }
            }
            0x20..=0x3f => Filtered::Nothing,
            // Not a control sequence after all: a line that ends must end.
            _ => {
                self.state = State::Text;
                self.text(byte, freedom)
            }
        }
    }

    /// Appends to the sequence; returns whether it fitted.
    fn append(&mut self, byte: u8) -> bool {
        let Some(place) = self.sequence.bytes.get_mut(self.sequence.len) else { return false };
        *place = byte;
        self.sequence.len += 1;
        true
    }
}

/// Tells whether a control sequence acts on the cursor's line alone (ECMA-48, 8.3): SGR always; erase to the end, move
/// within the line, delete and insert characters, and report the cursor for one that may edit.
fn stays_in_line(sequence: &[u8], freedom: Freedom) -> bool {
    let [ESC, b'[', parameters @ .., last] = sequence else { return false };
    if !parameters.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')) {
        return false;
    }
    match (last, freedom) {
        (b'm', _) => true,
        (b'J', Freedom::Edit) => matches!(parameters, [] | [b'0']),
        (b'K' | b'C' | b'D' | b'P' | b'@', Freedom::Edit) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn filtered(input: &[u8], freedom: Freedom) -> Vec<u8> {
        let mut filter = Filter::new();
        let mut output = Vec::new();
        for &byte in input {
            match filter.feed(byte, freedom) {
                Filtered::Nothing => {}
                Filtered::Text(byte) => output.push(byte),
                Filtered::Backspace => output.push(8),
                Filtered::Return => output.push(b'\r'),
                Filtered::NewLine => output.push(b'\n'),
                Filtered::Sequence(sequence) => output.extend(sequence.bytes()),
            }
        }
        output
    }

    #[test]
    fn a_query_that_the_terminal_would_answer_by_typing_never_passes() {
        for freedom in [Freedom::Text, Freedom::Edit] {
            assert_eq!(filtered(b"\x1b[6n", freedom), b"");
        }
    }

    #[test]
    fn colours_pass_always_and_line_editing_for_the_focus_alone() {
        assert_eq!(filtered(b"\x1b[1;32mok\x1b[m", Freedom::Text), b"\x1b[1;32mok\x1b[m");
        for sequence in [&b"\x1b[K"[..], b"\x1b[J", b"\x1b[0J", b"\x1b[3C", b"\x1b[2D"] {
            assert_eq!(filtered(sequence, Freedom::Edit), sequence);
            assert_eq!(filtered(sequence, Freedom::Text), b"");
        }
    }

    #[test]
    fn nothing_that_leaves_the_line_passes() {
        let table = [
            &b"\x1b[2J"[..],
            b"\x1b[H",
            b"\x1b[10;10f",
            b"\x1b[5A",
            b"\x1b[?1049h",
            b"\x1b[?25l",
            b"\x1bc",
            b"\x1b7",
            b"\x1b(0",
            b"\x1b]0;title\x07",
            b"\x1bPq\x1b\\",
            b"\x1b[1;2;3;4;5;6;7;8;9;10m",
            b"\x0e\x0f\x00\x7f\x0c\x0b",
        ];
        for sequence in table {
            assert_eq!(filtered(sequence, Freedom::Edit), b"", "{sequence:?}");
        }
        assert_eq!(filtered(b"\x1b]0;title\x07shown", Freedom::Text), b"shown");
    }

    #[test]
    fn a_line_end_inside_a_broken_sequence_ends_the_line() {
        assert_eq!(filtered(b"a\x1b[12\nb", Freedom::Text), b"a\nb");
    }

    #[test]
    fn an_endless_title_is_given_up() {
        let mut input = b"\x1b]".to_vec();
        input.extend([b'x'; 400]);
        assert_eq!(filtered(&input, Freedom::Text).len(), 400 - usize::from(STRING_SIZE) - 1);
    }

    proptest! {
        #[test]
        fn only_known_sequences_hold_an_escape(input: Vec<u8>) {
            let output = filtered(&input, Freedom::Edit);
            for (place, _) in output.iter().enumerate().filter(|(_, byte)| **byte == ESC) {
                prop_assert_eq!(output.get(place + 1), Some(&b'['));
            }
            prop_assert!(output.len() <= input.len());
        }
    }
}
