// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU: whether it is there and new enough, and a machine whose console can be read, waited on and written to.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use serde::Deserialize;

pub use crate::console_log::Line;
use crate::console_log::{ConsoleLog, Echo, Position};
use crate::platform::{self, Board};

/// How long a QEMU that was told to end may take.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often a wait looks whether it was interrupted.
const POLL: Duration = Duration::from_millis(50);

/// Whether a signal has told the tool to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT, SIGTERM and SIGHUP end waits with an error instead of the tool on the spot, so that no QEMU is left
/// behind.
///
/// # Errors
/// When it was called before.
pub fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("cannot catch signals")
}

/// A release of QEMU: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(u32, u32);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self(major, minor)),
            _ => Err(format!("`{text}` is not a version such as 9.0")),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Finds the release in what `qemu-system-aarch64 --version` prints.
fn parse_version(output: &str) -> Option<Version> {
    output.split_once("version ")?.1.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns the installed release, which is new enough for the board.
///
/// # Errors
/// When QEMU is missing or too old, with the release needed and the way to get it.
pub fn require(board: &Board) -> Result<Version> {
    let program = &board.qemu.program;
    let output = match Command::new(program).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "{program} is not installed: {} needs QEMU {} or later, and `make setup` installs it",
            board.name,
            board.qemu.minimum
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot run {program}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).with_context(|| format!("`{program} --version` says no version: {text}"))?;
    ensure!(
        version >= board.qemu.minimum,
        "{program} is QEMU {version}: {} needs {} or later, and `make setup` installs it",
        board.name,
        board.qemu.minimum
    );
    Ok(version)
}

/// What a machine is started with.
#[derive(Clone, Debug)]
pub struct Machine {
    program: String,
    arguments: Vec<OsString>,
    echo: Echo,
}

impl Machine {
    /// Begins with a board's machine.
    ///
    /// # Errors
    /// Those of [`require`].
    pub fn new(board: &Board, machine: &platform::Machine) -> Result<Self> {
        require(board)?;
        let arguments = board.machine_arguments(machine).into_iter().map(OsString::from).collect();
        Ok(Self { program: board.qemu.program.clone(), arguments, echo: Echo::No })
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Boots this image.
    #[must_use]
    pub fn kernel(self, image: &Path) -> Self {
        self.arg("-kernel").arg(image)
    }

    /// Hands over this file as the initrd: the bundle.
    #[must_use]
    pub fn initrd(self, file: &Path) -> Self {
        self.arg("-initrd").arg(file)
    }

    /// Counts instructions as time (each 1 ns), so that runs are deterministic and no timer is late.
    #[must_use]
    pub fn icount(self) -> Self {
        self.args(["-icount", "shift=0,sleep=off"])
    }

    /// Copies the console to standard output as it comes.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = Echo::Yes;
        self
    }

    /// Returns the whole command, for people and for their shells.
    pub fn command_line(&self) -> String {
        let mut line = self.program.clone();
        for argument in &self.arguments {
            let text = argument.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+".contains(c);
            if !text.is_empty() && text.chars().all(plain) {
                line.push_str(&format!(" {text}"));
            } else {
                line.push_str(&format!(" '{}'", text.replace('\'', "'\\''")));
            }
        }
        line
    }

    /// Runs the machine on this terminal until it ends or the time is up: its console gets all keys, Ctrl-C included;
    /// Ctrl-A X ends it. `None` when the time was up.
    ///
    /// # Errors
    /// When it cannot be started, or after a signal.
    pub fn attach(&self, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        // One stream for the console and, behind Ctrl-A C, QEMU's monitor.
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["-serial", "mon:stdio"])
            .spawn()
            .with_context(|| format!("cannot run {}", self.program))?;
        Process(child).wait(limit, || {
            // A hang-up is signalled to the session's leader, which need not be us.
            ensure!(io::stdin().is_terminal(), "the terminal is gone");
            Ok(())
        })
    }

    /// Starts the machine in the background with its console in our hands.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self) -> Result<Running> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["-serial", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.program))?;
        let input = child.stdin.take();
        let console = child.stdout.take().context("QEMU has no output")?;
        let errors = child.stderr.take().context("QEMU has no error output")?;
        let log = ConsoleLog::new();
        let (reader, echo) = (log.clone(), self.echo);
        thread::spawn(move || reader.read_console(console, echo));
        let reader = log.clone();
        thread::spawn(move || reader.read_errors(errors));
        Ok(Running { process: Process(child), input, log, position: Position::default() })
    }
}

/// A QEMU process, ended when it is dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    /// Waits for its end; `None` when the time was up. An error of `check` ends the wait as well.
    fn wait(&mut self, limit: Option<Duration>, check: impl Fn() -> Result<()>) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if limit.is_some_and(|limit| start.elapsed() >= limit) {
                return Ok(None);
            }
            check_interrupted()?;
            check()?;
            thread::sleep(POLL);
        }
    }

    /// Tells it to end, so that it leaves terminal and disks in order; after five seconds it is killed.
    fn end(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        let start = Instant::now();
        let told = i32::try_from(self.0.id()).is_ok_and(|id| kill(Pid::from_raw(id), Signal::SIGTERM).is_ok());
        while told && start.elapsed() < END_LIMIT {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL / 10);
        }
        // Failing means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A machine that runs in the background; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    process: Process,
    input: Option<ChildStdin>,
    log: ConsoleLog,
    /// Behind what the last wait has matched.
    position: Position,
}

impl Running {
    /// Types a text on the console; a line's end is `\r`, as of a terminal's Enter key.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("the machine's input is closed")?;
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).context("the machine takes no input any more")
    }

    /// Waits until the console says what the expression describes, behind what the last wait has matched, and returns
    /// that line. A line that is not finished, such as a prompt, counts.
    ///
    /// # Errors
    /// When it does not come in time or the machine ends before; with the last lines.
    pub fn wait_for(&mut self, expression: &Regex, limit: Duration) -> Result<Line> {
        let (line, position) = self.find(expression, self.position, limit)?;
        self.position = position;
        Ok(line)
    }

    /// Waits until the console has said all of it, in any order, behind what the last wait has matched.
    ///
    /// # Errors
    /// As [`Running::wait_for`], for the first that is missing.
    pub fn wait_for_all(&mut self, expressions: &[Regex], limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let start = self.position;
        for expression in expressions {
            let left = deadline.saturating_duration_since(Instant::now());
            let (_, position) = self.find(expression, start, left)?;
            self.position = self.position.max(position);
        }
        Ok(())
    }

    fn find(&self, expression: &Regex, from: Position, limit: Duration) -> Result<(Line, Position)> {
        let start = Instant::now();
        loop {
            check_interrupted()?;
            // Asked before looking: what was written before the end is seen.
            let ended = self.log.has_ended();
            if let Some(found) = self.log.find(expression, from) {
                return Ok(found);
            }
            if ended {
                bail!("`{expression}` was not said before the machine ended; {}", self.log.tail());
            }
            if start.elapsed() >= limit {
                bail!("`{expression}` was not said within {:.1} s; {}", limit.as_secs_f64(), self.log.tail());
            }
            self.log.wait_for_change(POLL.min(limit));
        }
    }

    /// Waits for the machine's end, by a power-off or of QEMU itself; `None` when the time was up.
    ///
    /// # Errors
    /// After a signal.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        let status = self.process.wait(limit, || Ok(()))?;
        let start = Instant::now();
        while status.is_some() && !self.log.has_ended() && start.elapsed() < END_LIMIT {
            self.log.wait_for_change(POLL);
        }
        Ok(status)
    }

    /// Ends the machine and returns its console from the first line on.
    pub fn end(mut self) -> Vec<Line> {
        self.process.end();
        self.log.lines()
    }

    /// Returns the console from the first line on, up to now.
    pub fn lines(&self) -> Vec<Line> {
        self.log.lines()
    }

    /// Returns what QEMU itself said.
    pub fn errors(&self) -> String {
        self.log.errors()
    }

    /// Returns the last lines of the console and what QEMU itself said, for an error.
    pub fn tail(&self) -> String {
        self.log.tail()
    }
}

fn check_interrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

#[cfg(test)]
#[path = "qemu_tests.rs"]
mod tests;
