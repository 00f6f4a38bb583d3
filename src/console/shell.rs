// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor's shell: what a line means, and what is wrong with it.

use core::fmt;

use crate::id::PartitionId;

/// What the shell prints when it waits.
pub const PROMPT: &str = "> ";

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show the partitions.
    List,
    /// Stop a partition.
    Stop(PartitionId),
    /// Start a stopped partition.
    Start(PartitionId),
    /// Stop a partition and start it again.
    Restart(PartitionId),
    /// Show the exits of one partition or of all.
    Stats(Option<PartitionId>),
    /// Show what was logged last.
    Log,
    /// Compare the hardware with the plan.
    Audit,
    /// Reset the machine.
    Reset,
    /// Explain one command, by its place in the table, or all.
    Help(Option<Topic>),
}

/// A command that help was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic(usize);

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'a> {
    /// There is no such command.
    UnknownCommand {
        /// What was typed.
        word: &'a str,
        /// The command that looks most like it.
        nearest: Option<&'a str>,
    },
    /// There is no such partition.
    UnknownPartition {
        /// What was typed.
        word: &'a str,
        /// The partition whose name looks most like it.
        nearest: Option<&'a str>,
    },
    /// The command wants the name of a partition.
    PartitionMissing {
        /// The command.
        command: &'static str,
    },
    /// The command takes fewer words.
    TooManyWords {
        /// The command.
        command: &'static str,
        /// The first word too many.
        word: &'a str,
    },
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand { word, nearest: Some(nearest) } => {
                write!(f, "no command \"{word}\"; did you mean \"{nearest}\"?")
            }
            Self::UnknownCommand { word, nearest: None } => {
                write!(f, "no command \"{word}\"; \"help\" lists them")
            }
            Self::UnknownPartition { word, nearest: Some(nearest) } => {
                write!(f, "no partition \"{word}\"; did you mean \"{nearest}\"?")
            }
            Self::UnknownPartition { word, nearest: None } => {
                write!(f, "no partition \"{word}\"; \"list\" shows them")
            }
            Self::PartitionMissing { command } => {
                write!(f, "\"{command}\" wants a partition's name; \"list\" shows them")
            }
            Self::TooManyWords { command, word } => write!(f, "\"{command}\" has no place for \"{word}\""),
        }
    }
}

struct Entry {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
}

const fn entry(name: &'static str, arguments: &'static str, help: &'static str) -> Entry {
    Entry { name, arguments, help }
}

const COMMANDS: [Entry; 9] = [
    entry("list", "", "shows the partitions: state, vCPUs, memory, restarts"),
    entry("stop", "NAME", "stops a partition; the others go on"),
    entry("start", "NAME", "starts a stopped partition from its pristine images"),
    entry("restart", "NAME", "stops a partition and starts it again"),
    entry("stats", "[NAME]", "shows how often each vCPU has left for the hypervisor, by reason"),
    entry("log", "", "shows the hypervisor's last messages"),
    entry("audit", "", "compares translation tables and interrupts with the plan"),
    entry("reset", "", "resets the machine, with all partitions"),
    entry("help", "[COMMAND]", "explains the commands; Ctrl-G ? explains the keys"),
];

/// Returns what a line means, or `None` for an empty one. `names` are the partitions' in the order of their ids.
///
/// # Errors
///
/// The line is no command; the error's text says what would be.
pub fn parse<'a>(line: &'a str, names: &[&'a str]) -> Result<Option<Command>, CommandError<'a>> {
    let mut words = line.split_ascii_whitespace();
    let Some(word) = words.next() else { return Ok(None) };
    let topic = find_command(word)?;
    let name = COMMANDS.get(topic.0).map_or("", |entry| entry.name);
    let argument = words.next();
    if let Some(word) = words.next() {
        return Err(CommandError::TooManyWords { command: name, word });
    }
    let partition = || match argument {
        Some(word) => find_partition(word, names),
        None => Err(CommandError::PartitionMissing { command: name }),
    };
    let alone = |command| match argument {
        Some(word) => Err(CommandError::TooManyWords { command: name, word }),
        None => Ok(command),
    };
    let command = match name {
        "list" => alone(Command::List)?,
        "stop" => Command::Stop(partition()?),
        "start" => Command::Start(partition()?),
        "restart" => Command::Restart(partition()?),
        "stats" => Command::Stats(argument.map(|word| find_partition(word, names)).transpose()?),
        "log" => alone(Command::Log)?,
        "audit" => alone(Command::Audit)?,
        "reset" => alone(Command::Reset)?,
        _ => Command::Help(argument.map(find_command).transpose()?),
    };
    Ok(Some(command))
}

/// Writes the help that was asked for.
///
/// # Errors
///
/// Those of `out`.
pub fn write_help(out: &mut dyn fmt::Write, topic: Option<Topic>) -> fmt::Result {
    for (index, Entry { name, arguments, help }) in COMMANDS.iter().enumerate() {
        if topic.is_none_or(|topic| topic.0 == index) {
            writeln!(out, "  {name:8}{arguments:10} {help}")?;
        }
    }
    Ok(())
}

fn find_command(word: &str) -> Result<Topic, CommandError<'_>> {
    match COMMANDS.iter().position(|entry| entry.name == word) {
        Some(index) => Ok(Topic(index)),
        None => {
            let nearest = nearest(word, COMMANDS.iter().map(|entry| entry.name));
            Err(CommandError::UnknownCommand { word, nearest })
        }
    }
}

fn find_partition<'a>(word: &'a str, names: &[&'a str]) -> Result<PartitionId, CommandError<'a>> {
    let place = names.iter().position(|name| *name == word).and_then(|place| u8::try_from(place).ok());
    match place {
        Some(place) => Ok(PartitionId::new(place)),
        None => Err(CommandError::UnknownPartition { word, nearest: nearest(word, names.iter().copied()) }),
    }
}

/// Returns the candidate that takes the fewest edits to reach, if those are at most a third of the word plus one.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.len() / 3 + 1;
    let scored = candidates.map(|candidate| (distance(word, candidate), candidate));
    scored.min_by_key(|(edits, _)| *edits).filter(|(edits, _)| *edits <= limit).map(|(_, candidate)| candidate)
}

/// The longest name that is compared; anything beyond counts as an edit.
const COMPARED: usize = 32;

/// Returns how many bytes must be inserted, removed or replaced to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row = [0_usize; COMPARED + 1];
    for (edits, place) in row.iter_mut().enumerate() {
        *place = edits;
    }
    let to_len = to.len().min(COMPARED);
    for (count, a) in from.bytes().enumerate() {
        // Of the row above: to the left of the place, and above it.
        let mut diagonal = core::mem::replace(&mut row[0], count + 1);
        let mut left = count + 1;
        for (b, place) in to.bytes().zip(row.iter_mut().skip(1)) {
            let above = *place;
            let replaced = diagonal + usize::from(a != b);
            left = replaced.min(left + 1).min(above + 1);
            *place = left;
            diagonal = above;
        }
    }
    row.get(to_len).copied().unwrap_or(usize::MAX).saturating_add(to.len() - to_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::{String, ToString};

    const NAMES: [&str; 3] = ["linux", "control", "logger"];

    fn parsed(line: &str) -> Result<Option<Command>, CommandError<'_>> {
        parse(line, &NAMES)
    }

    #[test]
    fn every_command_is_understood() {
        let table = [
            ("", None),
            ("   ", None),
            ("list", Some(Command::List)),
            (" stop  linux ", Some(Command::Stop(PartitionId::new(0)))),
            ("start control", Some(Command::Start(PartitionId::new(1)))),
            ("restart logger", Some(Command::Restart(PartitionId::new(2)))),
            ("stats", Some(Command::Stats(None))),
            ("stats control", Some(Command::Stats(Some(PartitionId::new(1))))),
            ("log", Some(Command::Log)),
            ("reset", Some(Command::Reset)),
            ("help", Some(Command::Help(None))),
            ("help stop", Some(Command::Help(Some(Topic(1))))),
        ];
        for (line, command) in table {
            assert_eq!(parsed(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        let table = [
            ("lst", "no command \"lst\"; did you mean \"list\"?"),
            ("restrat linux", "no command \"restrat\"; did you mean \"restart\"?"),
            ("xyzzy", "no command \"xyzzy\"; \"help\" lists them"),
            ("stop", "\"stop\" wants a partition's name; \"list\" shows them"),
            ("stop linus", "no partition \"linus\"; did you mean \"linux\"?"),
            ("stats qqqqqqqq", "no partition \"qqqqqqqq\"; \"list\" shows them"),
            ("list linux", "\"list\" has no place for \"linux\""),
            ("stop linux now", "\"stop\" has no place for \"now\""),
            ("help halt", "no command \"halt\"; did you mean \"help\"?"),
        ];
        for (line, message) in table {
            assert_eq!(parsed(line).unwrap_err().to_string(), message, "{line:?}");
        }
    }

    #[test]
    fn help_explains_one_or_all() {
        let mut all = String::new();
        write_help(&mut all, None).unwrap();
        assert_eq!(all.lines().count(), COMMANDS.len());
        let mut one = String::new();
        write_help(&mut one, Some(Topic(1))).unwrap();
        assert_eq!(one, "  stop    NAME       stops a partition; the others go on\n");
    }

    #[test]
    fn distances_count_edits() {
        for (from, to, edits) in [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_parser(line: String, name: String) {
            if let Err(error) = parse(&line, &[&name, "x"]) {
                let _ = format!("{error}");
            }
        }

        #[test]
        fn distance_is_symmetric_and_zero_only_for_equals(a in "[a-d]{0,8}", b in "[a-d]{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
