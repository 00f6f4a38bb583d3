// SPDX-License-Identifier: MIT OR Apache-2.0
//! `septum check`: plans a configuration and shows who owns what. `septum build`: the same, and writes the two files that
//! a board boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use septum::plan;

use crate::firmware;
use crate::pack::{DEFAULT, Packed, Target};
use crate::paths;
use crate::platform::MachineArgs;

/// Plan a configuration without booting it: show its errors, or who owns what
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration
    #[arg(default_value = DEFAULT)]
    pub config: PathBuf,
    /// The machine whose device tree it is planned on
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Plan on this device tree instead, such as one saved from a running board's /sys/firmware/fdt
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gic", "cpu", "smp", "memory"])]
    pub dtb: Option<PathBuf>,
}

/// Write septum.img and the bundle of a configuration
#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// What is planned first, as `check` does
    #[command(flatten)]
    pub check: CheckArgs,
}

/// Runs `septum check`.
///
/// # Errors
/// Everything that is wrong with the configuration.
pub fn check(args: &CheckArgs) -> Result<ExitCode> {
    let (_, shown) = planned(args)?;
    print!("{shown}");
    Ok(ExitCode::SUCCESS)
}

/// Runs `septum build`.
///
/// # Errors
/// Everything that is wrong with the configuration; nothing is written then. The firmware does not build, or a file
/// cannot be written.
pub fn build(args: &BuildArgs) -> Result<ExitCode> {
    let (packed, shown) = planned(&args.check)?;
    let built = firmware::build_firmware()?;
    let image = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let path = packed.folder()?.join("septum.img");
    paths::write_whole(&path, &image)?;
    let bundle = packed.write()?;
    print!("{shown}");
    println!();
    println!("{}: the firmware, the same for every configuration", shorten(&path));
    println!("{}: the manifest and the guests' images, loaded as the initrd", shorten(&bundle));
    Ok(ExitCode::SUCCESS)
}

/// Plans a configuration and returns it with the table that shows who owns what.
fn planned(args: &CheckArgs) -> Result<(Packed, String)> {
    let packed = Packed::read(&args.config)?;
    let target = match &args.dtb {
        Some(path) => Target::saved(&packed, path)?,
        None => Target::machine(&packed, &packed.board.machine(&args.machine))?,
    };
    let (board, plan) = packed.plan(&target)?;
    let shown = plan::report(&plan, &board).to_string();
    Ok((packed, shown))
}

/// Shows a path from the working directory, where it lies below it.
fn shorten(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
