// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `septum`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use septum_tool::author::{Colour, Report};
use septum_tool::{bench, check, run};

/// Septum, a static-partitioning hypervisor for AArch64 boards: the command for the PC
#[derive(Parser)]
#[command(name = "septum", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Build(check::BuildArgs),
    Run(run::RunArgs),
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check(args) => check::check(&args),
        Command::Build(args) => check::build(&args),
        Command::Run(args) => run::run(&args),
        Command::Bench(args) => bench::bench(&args),
    };
    result.unwrap_or_else(|error: anyhow::Error| {
        match error.downcast_ref::<Report>() {
            Some(report) => eprintln!("{}", report.render(Colour::of_stderr())),
            None => eprintln!("error: {error:#}"),
        }
        ExitCode::FAILURE
    })
}
