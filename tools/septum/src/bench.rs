// SPDX-License-Identifier: MIT OR Apache-2.0
//! `septum bench`: what exits, interrupts and boot cost, in instructions, beside the bare machine and under the ceilings of
//! `tests/bench-ceilings.toml`.

mod ceilings;
mod init;
mod measure;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, ensure};
use clap::Args;

pub use ceilings::{Ceilings, Row};
pub use measure::{Figures, Files, Place, Run, Subject};

use crate::{paths, qemu};

/// Measure what exits, interrupts and boot cost, in instructions
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// GIC version [default: both]
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub gic: Option<u8>,
    /// Measure everything twice, and fail when a figure differs
    #[arg(long)]
    pub twice: bool,
    /// Leave out what takes longest: the boot of Linux
    #[arg(long)]
    pub no_linux: bool,
}

/// What was measured with one GIC.
#[derive(Clone, Debug, Default)]
pub struct Table {
    figures: BTreeMap<Place, Figures>,
}

/// Runs the command; it fails when a row is above its ceiling or, when asked, not the same twice.
///
/// # Errors
/// Something does not build or run.
pub fn bench(args: &BenchArgs) -> Result<ExitCode> {
    qemu::catch_signals()?;
    let ceilings = Ceilings::read(&paths::root().join("tests/bench-ceilings.toml"))?;
    let files = Files::prepare()?;
    let gics = args.gic.map_or_else(|| vec![3, 2], |gic| vec![gic]);
    let mut runs: Vec<Run> = gics.iter().flat_map(|gic| Run::all(*gic)).collect();
    runs.retain(|run| !args.no_linux || run.subject != Subject::Linux);
    let measured = measure_all(&files, &runs)?;
    let mut status = ExitCode::SUCCESS;
    for gic in gics {
        let table = Table::of(gic, &measured);
        println!("{}", table.render(gic, &ceilings));
        if !table.above(gic, &ceilings).is_empty() {
            status = ExitCode::FAILURE;
        }
    }
    if args.twice {
        let differences = differences(&measured, &measure_all(&files, &runs)?);
        if differences.is_empty() {
            println!(
                "measured twice: all {} figures are the same",
                measured.iter().map(|(_, f)| f.len()).sum::<usize>()
            );
        } else {
            println!("measured twice, and not the same:\n{}", differences.join("\n"));
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}

/// Measures all runs, as many at a time as there are CPUs; the result is in their order.
///
/// # Errors
/// Those of the first run that fails.
pub fn measure_all(files: &Files, runs: &[Run]) -> Result<Vec<(Run, Figures)>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..runs.len()).collect());
    let done: Mutex<BTreeMap<usize, Result<Figures>>> = Mutex::default();
    let work = || {
        // The guard is gone before the run begins.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(index) = next() {
            let run = runs[index];
            eprintln!("measuring {:?} on GICv{}, {:?}", run.subject, run.gic, run.place);
            let figures = files.measure(run);
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, figures);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(runs.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(done.len() == runs.len(), "a run was lost");
    done.into_iter().map(|(index, figures)| Ok((runs[index], figures?))).collect()
}

/// Names the figures in which two measurements differ.
pub fn differences(first: &[(Run, Figures)], second: &[(Run, Figures)]) -> Vec<String> {
    let mut found = Vec::new();
    for ((run, first), (_, second)) in first.iter().zip(second) {
        for name in first.keys().chain(second.keys().filter(|name| !first.contains_key(*name))) {
            let (before, after) = (first.get(name), second.get(name));
            if before != after {
                found.push(format!("{name} on GICv{}, {:?}: {} and {}", run.gic, run.place, show(before), show(after)));
            }
        }
    }
    found
}

impl Table {
    /// Collects what was measured with one GIC.
    pub fn of(gic: u8, measured: &[(Run, Figures)]) -> Self {
        let mut table = Self::default();
        for (run, figures) in measured.iter().filter(|(run, _)| run.gic == gic) {
            table.figures.entry(run.place).or_default().extend(figures.clone());
        }
        table
    }

    /// Returns a figure.
    pub fn get(&self, place: Place, row: &str) -> Option<u64> {
        self.figures.get(&place).and_then(|figures| figures.get(row)).copied()
    }

    /// Names the rows that are above their ceilings.
    pub fn above(&self, gic: u8, ceilings: &Ceilings) -> Vec<String> {
        let above = |row: &&Row| {
            let ceiling = row.ceiling(gic, self.get(Place::Bare, &row.name));
            self.get(Place::Septum, &row.name).zip(ceiling).is_some_and(|(ticks, ceiling)| ticks > ceiling)
        };
        ceilings.row.iter().filter(above).map(|row| row.name.clone()).collect()
    }

    /// Shows the table; rows that were not measured in a partition are left out, but for what the guest measures itself
    /// and the file does not know.
    pub fn render(&self, gic: u8, ceilings: &Ceilings) -> String {
        let mut text =
            format!("{:58} {:>12} {:>12} {:>12}\n", format!("GICv{gic}: instructions"), "bare", "Septum", "ceiling");
        for row in &ceilings.row {
            let Some(ticks) = self.get(Place::Septum, &row.name) else { continue };
            let bare = self.get(Place::Bare, &row.name);
            let ceiling = row.ceiling(gic, bare);
            let verdict = match ceiling {
                Some(ceiling) if ticks > ceiling => "  ABOVE",
                Some(_) => "  ok",
                None => "",
            };
            let (bare, ceiling) = (show(bare.as_ref()), show(ceiling.as_ref()));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:58} {bare:>12} {ticks:>12} {ceiling:>12}{verdict}", row.what);
        }
        text
    }
}

fn show(ticks: Option<&u64>) -> String {
    ticks.map_or_else(|| "-".to_owned(), u64::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&str, u64)]) -> Figures {
        pairs.iter().map(|(name, ticks)| ((*name).to_owned(), *ticks)).collect()
    }

    fn ceilings() -> Ceilings {
        let row = |name: &str, gicv3, above_bare| Row {
            name: name.to_owned(),
            what: name.to_uppercase(),
            gicv3,
            gicv2: None,
            above_bare,
        };
        Ceilings { row: vec![row("a", Some(100), None), row("b", None, Some(10.0)), row("c", None, None)] }
    }

    fn measured(a: u64, b: u64) -> Vec<(Run, Figures)> {
        let run = |place| Run { subject: Subject::Events, place, gic: 3 };
        vec![
            (run(Place::Septum), figures(&[("a", a), ("b", b), ("c", 7)])),
            (run(Place::Bare), figures(&[("b", 1000)])),
        ]
    }

    #[test]
    fn a_row_at_its_ceiling_passes_and_one_above_is_named() {
        assert_eq!(Table::of(3, &measured(100, 1100)).above(3, &ceilings()), Vec::<String>::new());
        assert_eq!(Table::of(3, &measured(101, 1101)).above(3, &ceilings()), ["a", "b"]);
        assert!(Table::of(3, &measured(101, 0)).render(3, &ceilings()).contains("ABOVE"));
        assert!(Table::of(2, &measured(101, 0)).above(2, &ceilings()).is_empty());
    }

    #[test]
    fn a_figure_that_differs_or_is_missing_is_named() {
        assert!(differences(&measured(1, 2), &measured(1, 2)).is_empty());
        assert_eq!(differences(&measured(1, 2), &measured(1, 3)), ["b on GICv3, Septum: 2 and 3"]);
        let mut less = measured(1, 2);
        less[1].1.clear();
        assert_eq!(differences(&measured(1, 2), &less).len(), 1);
        assert_eq!(differences(&less, &measured(1, 2)).len(), 1);
    }
}
