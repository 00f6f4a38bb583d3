// SPDX-License-Identifier: MIT OR Apache-2.0
//! `septum run`: builds what a configuration needs and boots it in QEMU.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use regex::Regex;

use crate::pack::{self, Bootable};
use crate::platform::{Board, MachineArgs};
use crate::qemu::{self, Machine};
use crate::{firmware, paths};

/// How long `--until` waits when nothing else is said.
const UNTIL_LIMIT: Duration = Duration::from_secs(60);

/// Boot a configuration in QEMU
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The configuration [default: configs/qemu-virt/default.toml]
    pub config: Option<PathBuf>,
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
    /// Hand this file over as the initrd instead of a configuration's bundle; plans nothing
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub bundle: Option<PathBuf>,
    /// The platform that --bundle is for
    #[arg(long, value_name = "NAME", default_value = "qemu-virt", requires = "bundle")]
    pub platform: String,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub qemu: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// When something is missing, wrong or does not build, or QEMU fails; and when `--until` is not met.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let bootable = match &args.bundle {
        Some(bundle) => foreign(args, bundle)?,
        None => {
            let config = args.config.clone().unwrap_or_else(|| paths::root().join(pack::DEFAULT));
            pack::bundle(&config, &args.machine)?
        }
    };
    let mut machine = machine(bootable, args.image.as_deref())?;
    if args.icount {
        machine = machine.icount();
    }
    boot(&machine.args(args.qemu.iter().cloned()), &args.until, args.timeout.map(Duration::from_secs))
}

/// Makes the machine that boots a bundle, with `image` or else with the firmware, which is built.
///
/// # Errors
/// When QEMU is missing or too old, or the firmware does not build.
pub fn machine(bootable: Bootable, image: Option<&Path>) -> Result<Machine> {
    let machine = Machine::new(&bootable.board, &bootable.machine)?;
    let image = match image {
        Some(image) => image.to_owned(),
        None => firmware::build_firmware()?,
    };
    Ok(machine.kernel(&image).initrd(&bootable.bundle).args(bootable.qemu_args))
}

/// Describes a bundle that was made elsewhere.
fn foreign(args: &RunArgs, bundle: &Path) -> Result<Bootable> {
    let board = Board::load(&args.platform)?;
    let machine = board.machine(&args.machine);
    Ok(Bootable { board, machine, bundle: bundle.to_owned(), qemu_args: Vec::new() })
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
