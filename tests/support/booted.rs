// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine that runs: its console is read, waited on and typed at. When a test fails, all that was said is printed.

use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use septum_tool::qemu::{self, Line, Running};

use crate::claims::Claims;
use crate::machine::patience;

/// The name that the hypervisor's own lines carry.
pub const HYPERVISOR: &str = "septum";

/// The line on which the hypervisor's shell waits.
const PROMPT: &str = "[septum] > ";

/// A running machine; it ends with this.
pub struct Booted {
    name: String,
    command: String,
    running: Running,
}

impl Booted {
    /// Starts QEMU.
    pub(crate) fn start(name: &str, machine: &qemu::Machine) -> Self {
        let running = machine.spawn().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        Self { name: name.to_owned(), command: machine.command_line(), running }
    }

    /// Waits until the console says what the expression describes, behind what the last wait has matched.
    ///
    /// # Panics
    /// It does not within `seconds`.
    pub fn expect(&mut self, expression: &str, seconds: u32) -> Line {
        let limit = Duration::from_secs(u64::from(seconds * patience()));
        let regex = Regex::new(expression).unwrap();
        self.running.wait_for(&regex, limit).unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    /// Waits until the console has said all of it, in any order, behind what the last wait has matched.
    ///
    /// # Panics
    /// Something is missing after `seconds`.
    pub fn expect_all(&mut self, expressions: &[&str], seconds: u32) {
        let limit = Duration::from_secs(u64::from(seconds * patience()));
        let regexes: Vec<Regex> = expressions.iter().map(|text| Regex::new(text).unwrap()).collect();
        self.running.wait_for_all(&regexes, limit).unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
    }

    /// Waits until the console says what the expression describes, or has said it at any time.
    ///
    /// # Panics
    /// It does not within `seconds`.
    pub fn expect_anywhere(&self, expression: &str, seconds: u32) {
        let end = Instant::now() + Duration::from_secs(u64::from(seconds * patience()));
        let regex = Regex::new(expression).unwrap();
        while !self.lines().iter().any(|line| regex.is_match(line)) {
            assert!(Instant::now() < end, "{}: `{expression}` was not said within {seconds} s", self.name);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Types a text as it is.
    ///
    /// # Panics
    /// The machine has ended.
    pub fn send(&mut self, text: &str) {
        self.running.send(text).unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
    }

    /// Gives the keyboard to the hypervisor's shell. Lines of partitions are then whole when they are printed.
    ///
    /// # Panics
    /// The machine has ended.
    pub fn leave_keyboard(&mut self) {
        self.send("\x07h");
    }

    /// Gives the hypervisor's shell a command.
    ///
    /// # Panics
    /// The machine has ended.
    pub fn shell(&mut self, command: &str) {
        self.send(&format!("\x07h{command}\r"));
    }

    /// Types a line at the console of a partition, which is named by its place in the configuration.
    ///
    /// # Panics
    /// The machine has ended.
    pub fn type_at(&mut self, partition: u8, line: &str) {
        assert!(partition < 10, "the escape key reaches ten partitions");
        self.send(&format!("\x07{partition}{line}\r"));
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Panics
    /// It has not after `seconds`, or QEMU ended with an error.
    pub fn expect_power_off(&mut self, seconds: u32) {
        let limit = Duration::from_secs(u64::from(seconds * patience()));
        match self.running.wait(Some(limit)).unwrap_or_else(|error| panic!("{}: {error:#}", self.name)) {
            Some(status) => assert!(status.success(), "{}: QEMU ended with {status}", self.name),
            None => panic!("{}: the machine is still on after {seconds} s", self.name),
        }
    }

    /// Lets the machine run for a while, where nothing can be waited for.
    pub fn run_for(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Returns the whole console, one text for each line.
    pub fn lines(&self) -> Vec<String> {
        self.running.lines().into_iter().map(|line| line.text).collect()
    }

    /// Returns what a partition (or [`HYPERVISOR`]) has said, without its name. A line that another one had cut in two,
    /// and that was printed again from its start, is there once.
    pub fn lines_of(&self, partition: &str) -> Vec<String> {
        whole_lines(&self.lines(), partition)
    }

    /// Reads the claims of a guest that is alone on its machine, or of one in a partition.
    ///
    /// # Panics
    /// They are not complete.
    pub fn claims(&self, partition: Option<&str>, guest: &str) -> Claims {
        let mut lines = partition.map_or_else(|| self.lines(), |partition| self.lines_of(partition));
        // A line that another's interrupts while it is shown as it comes is shown again whole.
        lines.dedup();
        Claims::read(guest, lines.iter().map(String::as_str)).unwrap_or_else(|why| panic!("{}: {why}", self.name))
    }

    /// Counts the lines that are no text: a console whose bytes got lost or mixed.
    pub fn unreadable_lines(&self) -> usize {
        self.lines().iter().filter(|line| line.contains('\u{fffd}')).count()
    }

    /// Asserts that nothing on the console matches.
    ///
    /// # Panics
    /// Something does.
    pub fn assert_never_said(&self, expression: &str) {
        let regex = Regex::new(expression).unwrap();
        if let Some(line) = self.lines().iter().find(|line| regex.is_match(line)) {
            panic!("{}: the console says `{line}`", self.name);
        }
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        println!("---- {}: {}", self.name, self.command);
        for line in self.running.lines() {
            // The shell's prompt comes again behind each line of another console.
            if line.text == PROMPT {
                continue;
            }
            println!("{:9.3} {}", line.at.as_secs_f64(), line.text);
        }
        let errors = self.running.errors();
        if !errors.is_empty() {
            println!("QEMU said: {errors}");
        }
        println!("---- end of the console of {}", self.name);
    }
}

/// Picks a console's lines out of all.
fn whole_lines(lines: &[String], console: &str) -> Vec<String> {
    let prefix = format!("[{console}]");
    let own = |line: &String| line.strip_prefix(&prefix).map(|text| text.trim_start_matches(' ').to_owned());
    let mut whole = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(text) = own(line) else { continue };
        let behind = &lines[index + 1..];
        let is_cut = behind.first().is_some_and(|next| own(next).is_none());
        let next = behind.iter().find_map(own);
        if !(is_cut && next.is_some_and(|next| next.len() > text.len() && next.starts_with(&text))) {
            whole.push(text);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::whole_lines;

    #[test]
    fn a_line_that_was_cut_in_two_is_there_once() {
        let lines = ["[septum] up", "[one]    a", "[one]    TEST x", "[two]    b", "[one]    TEST x ok", "[one]    c"];
        let lines = lines.map(str::to_owned);
        assert_eq!(whole_lines(&lines, "one"), ["a", "TEST x ok", "c"]);
        assert_eq!(whole_lines(&lines, "septum"), ["up"]);
        assert_eq!(whole_lines(&lines, "o"), Vec::<String>::new());
    }

    #[test]
    fn lines_that_come_twice_stay_two() {
        let lines = ["[one] ok", "[one] ok", "[two] x", "[one] ok"].map(str::to_owned);
        assert_eq!(whole_lines(&lines, "one"), ["ok", "ok", "ok"]);
    }
}
