// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine's console has said: lines with their time, read by a thread and searched by whoever waits.

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use regex::Regex;

/// The longest line that is kept in one piece, in bytes.
const LINE_LIMIT: usize = 16 << 10;
/// How many lines an error shows.
const TAIL: usize = 25;

/// A line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, from the machine's start.
    pub at: Duration,
    /// Its text, without the line's end and without carriage returns.
    pub text: String,
}

/// A place in the log: a line and an offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    line: usize,
    offset: usize,
}

/// Whether the console is copied to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// It is kept only.
    No,
    /// It is copied as it comes.
    Yes,
}

/// A log that several threads share.
#[derive(Clone, Debug)]
pub struct ConsoleLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
}

#[derive(Debug)]
struct Log {
    start: Instant,
    /// The last one may be unfinished.
    lines: Vec<Line>,
    /// The unfinished line's bytes; a character may be cut in two.
    partial: Vec<u8>,
    ended: bool,
    /// What QEMU itself said.
    errors: String,
}

impl ConsoleLog {
    /// Begins an empty log; its time starts now.
    pub fn new() -> Self {
        let log =
            Log { start: Instant::now(), lines: Vec::new(), partial: Vec::new(), ended: false, errors: String::new() };
        Self(Arc::new(Shared { log: Mutex::new(log), changed: Condvar::new() }))
    }

    /// Reads the console to its end.
    pub fn read_console(&self, mut console: impl Read, echo: Echo) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = console.read(&mut buffer) {
            let bytes = &buffer[..count];
            if echo == Echo::Yes {
                let mut output = io::stdout().lock();
                // A reader of ours that went away does not stop the machine.
                let _ = output.write_all(bytes).and_then(|()| output.flush());
            }
            self.lock().push(bytes);
            self.0.changed.notify_all();
        }
        self.lock().ended = true;
        self.0.changed.notify_all();
    }

    /// Reads QEMU's own words to their end.
    pub fn read_errors(&self, mut errors: impl Read) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = errors.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]);
            self.lock().errors.push_str(&text);
        }
    }

    /// Tells whether the console was closed: nothing will be added.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Finds the first place from `from` on that matches; returns its line, and the position behind the match.
    pub fn find(&self, expression: &Regex, from: Position) -> Option<(Line, Position)> {
        let log = self.lock();
        log.lines.iter().enumerate().skip(from.line).find_map(|(index, line)| {
            let offset = if index == from.line { from.offset } else { 0 };
            // The end of a line that was unfinished, and so perhaps of a character, may have moved.
            let offset = (0..=offset.min(line.text.len())).rev().find(|&at| line.text.is_char_boundary(at))?;
            let found = expression.find_at(&line.text, offset)?;
            Some((line.clone(), Position { line: index, offset: found.end() }))
        })
    }

    /// Waits until something is added, or the time is up.
    pub fn wait_for_change(&self, limit: Duration) {
        let log = self.lock();
        if !log.ended {
            drop(self.0.changed.wait_timeout(log, limit));
        }
    }

    /// Returns all lines.
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// Returns what QEMU itself said.
    pub fn errors(&self) -> String {
        self.lock().errors.trim().to_owned()
    }

    /// Returns the last lines and what QEMU itself said, for an error.
    pub fn tail(&self) -> String {
        let log = self.lock();
        let from = log.lines.len().saturating_sub(TAIL);
        let mut text = match log.lines.len() {
            0 => "the console said nothing".to_owned(),
            _ => "the console's last lines:".to_owned(),
        };
        for line in log.lines.iter().skip(from) {
            text.push_str(&format!("\n  {:8.3} {}", line.at.as_secs_f64(), line.text));
        }
        if !log.errors.trim().is_empty() {
            text.push_str(&format!("\nQEMU said: {}", log.errors.trim()));
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ConsoleLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    fn push(&mut self, bytes: &[u8]) {
        let at = self.start.elapsed();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.partial.is_empty() {
                self.lines.push(Line { at, text: String::new() });
            }
            self.partial.extend_from_slice(piece);
            if let Some(line) = self.lines.last_mut() {
                line.text = String::from_utf8_lossy(&self.partial).replace(['\r', '\n'], "");
            }
            if piece.ends_with(b"\n") || self.partial.len() >= LINE_LIMIT {
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(pieces: &[&[u8]]) -> ConsoleLog {
        let log = ConsoleLog::new();
        for piece in pieces {
            log.lock().push(piece);
        }
        log
    }

    fn texts(log: &ConsoleLog) -> Vec<String> {
        log.lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut() {
        let bytes = "boot\r\n\r\ngr\u{fc}n\r\n# ".as_bytes();
        for size in 1..=bytes.len() {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(texts(&log(&pieces)), ["boot", "", "gr\u{fc}n", "# "], "pieces of {size}");
        }
    }

    #[test]
    fn a_search_goes_on_behind_the_last_match() {
        let log = log(&[b"tick 1 tick 2\ntick 3\n$ "]);
        let tick = Regex::new("tick [0-9]").unwrap();
        let mut position = Position::default();
        let mut found = Vec::new();
        while let Some((line, next)) = log.find(&tick, position) {
            found.push(line.text);
            position = next;
        }
        assert_eq!(found, ["tick 1 tick 2", "tick 1 tick 2", "tick 3"]);
        assert!(log.find(&Regex::new(r"\$ $").unwrap(), position).is_some(), "an unfinished line counts");
        assert!(log.find(&Regex::new("^tick 1").unwrap(), position).is_none());
    }

    #[test]
    fn a_match_in_an_unfinished_character_does_not_hide_what_follows() {
        let log = log(&["\u{fc}".as_bytes().split_at(1).0]);
        let (_, position) = log.find(&Regex::new(".").unwrap(), Position::default()).unwrap();
        log.lock().push(b"\xbc go\n");
        assert!(log.find(&Regex::new("go").unwrap(), position).is_some());
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; LINE_LIMIT];
        assert_eq!(texts(&log(&[&long, b"y"])).len(), 2);
        assert_eq!(texts(&log(&[&long[1..], b"\n"])).len(), 1);
    }

    #[test]
    fn the_tail_shows_the_last_lines_and_what_qemu_said() {
        let log = log(&[b"first\n", &b"more\n".repeat(TAIL)]);
        log.read_errors(&b"qemu: no disk\n"[..]);
        let tail = log.tail();
        assert!(!tail.contains("first") && tail.contains("more") && tail.ends_with("QEMU said: qemu: no disk"));
    }
}
