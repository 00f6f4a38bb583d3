// SPDX-License-Identifier: MIT OR Apache-2.0
//! `septum run`: boots an image and a bundle in QEMU.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use regex::Regex;

use crate::firmware;
use crate::platform::{Board, MachineArgs};
use crate::qemu::{self, Machine};

/// How long `--until` waits when nothing else is said.
const UNTIL_LIMIT: Duration = Duration::from_secs(60);

/// Boot a configuration in QEMU
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The machine
    #[command(flatten)]
    pub machine: MachineArgs,
    /// End the machine after this many seconds [default: never, or 60 with --until]
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
    /// Exit with 0 when the console has said this, with 1 when it has not in time; all of it, when given more than once
    #[arg(long, value_name = "REGEX")]
    pub until: Vec<Regex>,
    /// Count instructions as time: deterministic, and no timer is late
    #[arg(long)]
    pub icount: bool,
    /// Boot this image instead of building the firmware
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Hand this file over as the initrd instead of the configuration's bundle
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub qemu: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// When something is missing, wrong or does not build, or QEMU fails; and when `--until` is not met.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let board = Board::load("qemu-virt")?;
    let mut machine = Machine::new(&board, &board.machine(&args.machine))?;
    let image = match &args.image {
        Some(image) => image.clone(),
        None => firmware::build_firmware()?,
    };
    machine = machine.kernel(&image);
    if let Some(bundle) = &args.bundle {
        machine = machine.initrd(bundle);
    }
    if args.icount {
        machine = machine.icount();
    }
    boot(&machine.args(args.qemu.iter().cloned()), &args.until, args.timeout.map(Duration::from_secs))
}

/// Boots the machine: on the terminal when there is one, otherwise with its console copied to standard output.
fn boot(machine: &Machine, until: &[Regex], limit: Option<Duration>) -> Result<ExitCode> {
    qemu::catch_signals()?;
    eprintln!("{}", machine.command_line());
    if until.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal() {
        eprintln!("QEMU's own keys: Ctrl-A X ends the machine, Ctrl-A C is its monitor");
        return finish(machine.attach(limit)?, "");
    }
    let mut running = machine.clone().echo().spawn()?;
    if until.is_empty() {
        let status = running.wait(limit)?;
        return finish(status, &running.errors());
    }
    let seen = running.wait_for_all(until, limit.unwrap_or(UNTIL_LIMIT));
    // The console's last line may be unfinished.
    println!();
    seen.map(|()| ExitCode::SUCCESS)
}

/// Says how QEMU ended; being ended because the time was up is what `--timeout` asks for.
fn finish(status: Option<ExitStatus>, errors: &str) -> Result<ExitCode> {
    match status {
        Some(status) if !status.success() => bail!("QEMU ended with {status}: {errors}"),
        Some(_) => Ok(ExitCode::SUCCESS),
        None => {
            eprintln!("the time is up");
            Ok(ExitCode::SUCCESS)
        }
    }
}
