// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shell's line editor: backspace, Ctrl-U, Ctrl-C; echoes what it takes. Serial input ends a line with CR, a pipe
//! with LF, some with both.

use core::fmt;

/// The longest line.
const LINE_SIZE: usize = 128;

/// What became of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The line goes on.
    Pending,
    /// The line is complete: see [`LineEditor::line`]. The next byte starts a new one.
    Complete,
    /// The line was given up: a new prompt is due.
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Editing,
    /// The line was handed out; `after_return`: by a CR, so that an LF directly behind it is part of it.
    Complete {
        after_return: bool,
    },
    /// An escape sequence of a cursor key is being skipped.
    Escape,
    Control,
}

/// The line editor.
#[derive(Debug)]
pub struct LineEditor {
    bytes: [u8; LINE_SIZE],
    len: usize,
    state: State,
}

impl LineEditor {
    /// Returns an editor with an empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; LINE_SIZE], len: 0, state: State::Editing }
    }

    /// Returns the line so far, or the complete one.
    pub fn line(&self) -> &str {
        // Only printable ASCII is taken.
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Takes a byte and echoes to `echo`; an echo that fails is left out.
    pub fn feed(&mut self, byte: u8, echo: &mut dyn fmt::Write) -> Edited {
        match (self.state, byte) {
            (State::Complete { after_return: true }, b'\n') => {
                self.state = State::Complete { after_return: false };
                return Edited::Pending;
            }
            (State::Complete { .. }, _) => {
                self.len = 0;
                self.state = State::Editing;
            }
            (State::Escape, b'[' | b'O') => {
                self.state = State::Control;
                return Edited::Pending;
            }
            (State::Control, 0x20..=0x3f) => return Edited::Pending,
            (State::Escape | State::Control, _) => {
                self.state = State::Editing;
                return Edited::Pending;
            }
            (State::Editing, _) => {}
        }
        self.edit(byte, echo)
    }

    fn edit(&mut self, byte: u8, echo: &mut dyn fmt::Write) -> Edited {
        // An echo that does not fit the output is no reason to lose the input.
        match byte {
            b'\r' | b'\n' => {
                let _ = echo.write_char('\n');
                self.state = State::Complete { after_return: byte == b'\r' };
                return Edited::Complete;
            }
            0x03 => {
                let _ = echo.write_str("^C\n");
                self.len = 0;
                return Edited::Cancelled;
            }
            0x08 | 0x7f => self.erase(1, echo),
            0x15 => self.erase(self.len, echo),
            0x1b => self.state = State::Escape,
            0x20..=0x7e => match self.bytes.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len += 1;
                    let _ = echo.write_char(byte.into());
                }
                None => {
                    let _ = echo.write_char('\x07');
                }
            },
            _ => {}
        }
        Edited::Pending
    }

    fn erase(&mut self, count: usize, echo: &mut dyn fmt::Write) {
        for _ in 0..count.min(self.len) {
            self.len -= 1;
            let _ = echo.write_str("\x08 \x08");
        }
    }
}

impl Default for LineEditor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn lines(input: &[u8]) -> (Vec<String>, String) {
        let mut editor = LineEditor::new();
        let mut echo = String::new();
        let mut lines = Vec::new();
        for &byte in input {
            if editor.feed(byte, &mut echo) == Edited::Complete {
                lines.push(String::from(editor.line()));
            }
        }
        (lines, echo)
    }

    #[test]
    fn cr_lf_and_both_each_end_one_line() {
        assert_eq!(lines(b"list\rlist\nlist\r\nlog\n\n").0, ["list", "list", "list", "log", ""]);
    }

    #[test]
    fn backspace_and_ctrl_u_erase_what_is_there_and_no_more() {
        let (typed, echo) = lines(b"ax\x7f\x08\x08b\x15list\r");
        assert_eq!(typed, ["list"]);
        assert_eq!(echo, "ax\x08 \x08\x08 \x08b\x08 \x08list\n");
    }

    #[test]
    fn ctrl_c_gives_the_line_up() {
        let mut editor = LineEditor::new();
        let mut echo = String::new();
        editor.feed(b'x', &mut echo);
        assert_eq!(editor.feed(3, &mut echo), Edited::Cancelled);
        assert_eq!((editor.line(), echo.as_str()), ("", "x^C\n"));
    }

    #[test]
    fn cursor_keys_type_nothing() {
        assert_eq!(lines(b"li\x1b[A\x1bOB\x1b[1;5Cst\r").0, ["list"]);
    }

    #[test]
    fn a_line_ends_at_128_characters() {
        let (typed, echo) = lines(&[&[b'x'; 129][..], b"\r"].concat());
        assert_eq!(typed, [String::from_utf8([b'x'; 128].to_vec()).unwrap()]);
        assert!(echo.ends_with("x\x07\n"));
    }

    proptest! {
        #[test]
        fn no_input_breaks_the_editor(input: Vec<u8>) {
            for line in lines(&input).0 {
                prop_assert!(line.len() <= LINE_SIZE && line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}
