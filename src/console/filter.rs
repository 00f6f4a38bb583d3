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

/// The character in UTF-8 whose bytes are coming.
#[derive(Clone, Copy, Debug)]
struct Character {
    /// Its first byte.
    lead: u8,
    /// Bytes that follow.
    left: u8,
}

const NO_CHARACTER: Character = Character { lead: 0, left: 0 };

/// The filter of one console.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    state: State,
    sequence: Sequence,
    character: Character,
}

impl Filter {
    pub const fn new() -> Self {
        let sequence = Sequence { bytes: [0; SEQUENCE_SIZE], len: 0 };
        Self { state: State::Text, sequence, character: NO_CHARACTER }
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
        if byte >= 0x80 {
            return self.part_of_character(byte);
        }
        self.character = NO_CHARACTER;
        match byte {
            b'\n' => Filtered::NewLine,
            b'\r' => Filtered::Return,
            0x08 => Filtered::Backspace,
            b'\t' | 0x20..=0x7e => Filtered::Text(byte),
            BEL if freedom == Freedom::Edit => Filtered::Text(byte),
            ESC => {
                self.sequence.len = 0;
                self.append(byte);
                self.state = State::Escape;
                Filtered::Nothing
            }
            // Other controls, among them SO, which would change the character set.
            0x00..=0x1f | 0x7f.. => Filtered::Nothing,
        }
    }

    /// Passes the bytes of a character in UTF-8, but for the controls U+0080 to U+009F: to a terminal those are ESC and a
    /// letter in one, as are bytes 0x80 to 0x9f that belong to no character.
    fn part_of_character(&mut self, byte: u8) -> Filtered {
        let Character { lead, left } = core::mem::replace(&mut self.character, NO_CHARACTER);
        let following = match byte {
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            0x80..=0xbf if left > 0 => left - 1,
            _ => return Filtered::Nothing,
        };
        if byte >= 0xc0 {
            self.character = Character { lead: byte, left: following };
            return Filtered::Text(byte);
        }
        // Controls, and longer forms of shorter characters.
        if matches!((lead, byte), (0xc2 | 0xe0, ..0xa0) | (0xf0, ..0x90)) {
            return Filtered::Nothing;
        }
        // What holds for the second byte does not for those behind it.
        self.character = Character { lead: 0, left: following };
        Filtered::Text(byte)
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
    fn a_control_sequence_in_one_byte_never_passes() {
        // CSI, OSC and DCS alone, as U+009B and its like, in an overlong form, and behind a character that is whole.
        for control in [0x9b, 0x9d, 0x90, 0x84] {
            assert_eq!(filtered(&[control, b'x'], Freedom::Edit), b"x");
            assert_eq!(filtered(&[0xc2, control, b'x'], Freedom::Edit), [0xc2, b'x']);
            assert_eq!(filtered(&[0xc2, control, control, b'x'], Freedom::Edit), [0xc2, b'x']);
            assert_eq!(filtered(&[0xe0, 0x82, control, b'x'], Freedom::Edit), [0xe0, b'x']);
            assert_eq!(filtered(&[0xf0, 0x80, 0x82, control, b'x'], Freedom::Edit), [0xf0, b'x']);
            assert_eq!(filtered(&[0xc3, 0xa9, control, b'x'], Freedom::Edit), [0xc3, 0xa9, b'x']);
        }
    }

    #[test]
    fn characters_pass_whole() {
        let text = "Grüße, \u{a0}ě, \u{801}, 漢字 ✓, \u{10000}\u{10ffff}\n";
        for freedom in [Freedom::Text, Freedom::Edit] {
            assert_eq!(filtered(text.as_bytes(), freedom), text.as_bytes());
        }
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

        #[test]
        fn nothing_reads_as_a_control_of_one_byte(input: Vec<u8>) {
            // Whatever a decoder makes of damaged text, it finds no C1 control in it.
            let output = filtered(&input, Freedom::Edit);
            let controls = std::string::String::from_utf8_lossy(&output).chars().filter(|c| ('\u{80}'..'\u{a0}').contains(c)).count();
            prop_assert_eq!(controls, 0);
        }

        #[test]
        fn any_text_without_controls_passes(text in "\\PC*") {
            prop_assert_eq!(filtered(text.as_bytes(), Freedom::Text), text.as_bytes());
        }
    }
}
