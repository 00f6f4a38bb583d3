// SPDX-License-Identifier: MIT OR Apache-2.0
//! `septum bench`: what exits, interrupts, boot and memory cost, beside the bare machine and under the budgets of
//! `tests/bench-budgets.toml`.

mod budgets;
mod exceptions;
mod init;
mod machines;
mod measure;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

pub use budgets::{Budgets, Limit, Part, Row, Unit};
pub use machines::Files;
pub use measure::{Figures, Place, Run, Subject};
pub use table::{Entry, Table, Tally, Verdict};

use crate::{author, paths, qemu};

/// Measure what exits, interrupts, boot and memory cost
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// GIC version [default: both]
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub gic: Option<u8>,
    /// Measure only these parts [default: all]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub part: Vec<Part>,
    /// Measure everything twice, and fail when a figure differs
    #[arg(long)]
    pub twice: bool,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// What the columns of a table mean.
const LEGEND: &str = "\
bare: the guest at EL1 of the machine itself; Septum: the same guest in a partition, the hypervisor's share included; budget:
the most that Septum may take (tests/bench-budgets.toml); best peer: what Bao or Xen takes, measured in the same way.
";

/// A run, and its figures or what went wrong.
pub type Measured = (Run, Result<Figures, String>);

/// All that one bench has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// A table for each GIC.
    pub gics: Vec<Table>,
    /// The verdicts of all of them.
    pub tally: Tally,
    /// Runs that gave no figures, and why.
    pub failures: Vec<String>,
    /// Figures that were not the same the second time; absent when all was measured once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Vec<String>>,
}

/// Runs the command; it fails when a row is over its budget, was not measured or, when asked, is not the same twice.
///
/// # Errors
/// Something does not build, or the budgets cannot be read.
pub fn bench(args: &BenchArgs) -> Result<ExitCode> {
    qemu::catch_signals()?;
    let budgets = budgets()?;
    let gics = args.gic.map_or_else(|| vec![3, 2], |gic| vec![gic]);
    let parts = if args.part.is_empty() { Part::ALL.to_vec() } else { args.part.clone() };
    let files = Files::prepare()?;
    let runs = runs(&gics, &parts);
    let measured = measure_all(&files, &runs)?;
    let mut report = Report::of(&gics, &parts, &budgets, &measured);
    if args.twice {
        report.differences = Some(differences(&measured, &measure_all(&files, &runs)?));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.render(&budgets));
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the budgets of this checkout.
///
/// # Errors
/// Those of [`Budgets::read`].
pub fn budgets() -> Result<Budgets> {
    Budgets::read(&paths::root().join("tests/bench-budgets.toml"))
}

/// Lists the runs of some parts with some GICs, the longest first.
pub fn runs(gics: &[u8], parts: &[Part]) -> Vec<Run> {
    let order = [Part::Linux, Part::Events, Part::Exits, Part::Boot, Part::Memory];
    let wanted = order.into_iter().filter(|part| parts.contains(part));
    wanted.flat_map(|part| gics.iter().flat_map(move |gic| Run::all(part, *gic))).collect()
}

/// Measures all runs, as many at a time as there are CPUs; the result is in their order.
///
/// # Errors
/// A run was lost.
pub fn measure_all(files: &Files, runs: &[Run]) -> Result<Vec<Measured>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..runs.len()).collect());
    let done: Mutex<BTreeMap<usize, Result<Figures, String>>> = Mutex::default();
    let work = || {
        // The guard is gone before the run begins.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(index) = next() {
            let run = runs[index];
            eprintln!("measuring {:?} on GICv{}, {:?}", run.subject, run.gic, run.place);
            let figures = measure::measure(files, run).map_err(|error| sentence(&error));
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, figures);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(runs.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(done.len() == runs.len(), "a run was lost");
    Ok(done.into_iter().map(|(index, figures)| (runs[index], figures)).collect())
}

/// Returns what went wrong; of a configuration's errors the first line.
fn sentence(error: &anyhow::Error) -> String {
    let text = match error.downcast_ref::<author::Report>() {
        Some(report) => report.render(author::Colour::Never).lines().next().unwrap_or_default().to_owned(),
        None => format!("{error:#}"),
    };
    text.trim_start_matches("error: ").to_owned()
}

/// Names the figures in which two measurements differ.
pub fn differences(first: &[Measured], second: &[Measured]) -> Vec<String> {
    let mut found = Vec::new();
    let show = |figure: Option<&u64>| figure.map_or_else(|| "nothing".to_owned(), u64::to_string);
    for ((run, first), (_, second)) in first.iter().zip(second) {
        let empty = Figures::new();
        let [first, second] = [first, second].map(|figures| figures.as_ref().unwrap_or(&empty));
        for name in first.keys().chain(second.keys().filter(|name| !first.contains_key(*name))) {
            let (before, after) = (first.get(name), second.get(name));
            if before != after {
                found.push(format!("{name} on GICv{}, {:?}: {} and {}", run.gic, run.place, show(before), show(after)));
            }
        }
    }
    found
}

impl Report {
    /// Judges what was measured.
    pub fn of(gics: &[u8], parts: &[Part], budgets: &Budgets, measured: &[Measured]) -> Self {
        let figures = || measured.iter().filter_map(|(run, figures)| Some((run, figures.as_ref().ok()?)));
        let gics: Vec<Table> = gics.iter().map(|gic| Table::of(*gic, parts, budgets, figures())).collect();
        let tally = gics.iter().map(Table::tally).fold(Tally::default(), |sum, tally| sum + tally);
        let failure = |(run, figures): &Measured| {
            let why = figures.as_ref().err()?;
            Some(format!("{:?} on GICv{}, {:?}: {why}", run.subject, run.gic, run.place))
        };
        Self { gics, tally, failures: measured.iter().filter_map(failure).collect(), differences: None }
    }

    /// Tells whether every row was measured, keeps its budget and was the same twice.
    pub fn is_good(&self) -> bool {
        self.tally.is_good() && self.failures.is_empty() && self.differences.as_ref().is_none_or(Vec::is_empty)
    }

    /// Shows all of it, for people; the last line is the verdict.
    pub fn render(&self, budgets: &Budgets) -> String {
        let mut parts = vec![LEGEND.to_owned()];
        parts.extend(self.gics.iter().map(|table| table.render(budgets) + "\n"));
        if !self.failures.is_empty() {
            parts.push(format!("Runs that gave no figures:\n  {}\n", self.failures.join("\n  ")));
        }
        if let Some(differences) = &self.differences {
            parts.push(match differences.len() {
                0 => "measured twice: all figures are the same\n".to_owned(),
                _ => format!("measured twice, and not the same:\n{}\n", differences.join("\n")),
            });
        }
        parts.push(self.tally.to_string());
        parts.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(figures: &[Result<u64, &str>]) -> Vec<Measured> {
        let run = Run { subject: Subject::ImageSize, place: Place::Virtual, gic: 3 };
        let figures = figures.iter().map(|figure| match figure {
            Ok(figure) => Ok(Figures::from([("image".to_owned(), *figure)])),
            Err(why) => Err((*why).to_owned()),
        });
        figures.map(|figures| (run, figures)).collect()
    }

    #[test]
    fn a_figure_that_differs_or_is_missing_is_named() {
        assert!(differences(&measured(&[Ok(1), Ok(2)]), &measured(&[Ok(1), Ok(2)])).is_empty());
        let found = differences(&measured(&[Ok(1), Ok(2)]), &measured(&[Ok(1), Ok(3)]));
        assert_eq!(found, ["image on GICv3, Virtual: 2 and 3"]);
        assert_eq!(differences(&measured(&[Ok(1)]), &measured(&[Err("no")])).len(), 1);
        assert_eq!(differences(&measured(&[Err("no")]), &measured(&[Ok(1)])).len(), 1);
    }

    #[test]
    fn a_run_that_fails_fails_the_bench_and_is_shown() {
        let text = "[[part]]\nname = \"memory\"\ntitle = \"M\"\nrow = [{ name = \"image\", what = \"I\", budget = 5 }]";
        let budgets: Budgets = toml::from_str(text).unwrap();
        let report = |figure| Report::of(&[3], &[Part::Memory], &budgets, &measured(&[figure]));
        assert!(report(Ok(5)).is_good());
        assert!(!report(Ok(6)).is_good());
        let failed = report(Err("it burns"));
        assert!(!failed.is_good());
        assert!(failed.render(&budgets).contains("it burns"));
        let mut differing = report(Ok(5));
        differing.differences = Some(vec!["x".to_owned()]);
        assert!(!differing.is_good());
    }

    #[test]
    fn the_document_has_every_figure_by_gic_and_mode() {
        let budgets = budgets().unwrap();
        let report = Report::of(&[3, 2], &Part::ALL, &budgets, &[]);
        let document = serde_json::to_value(&report).unwrap();
        let row = &document["gics"][0]["rows"][0];
        for key in ["part", "name", "what", "unit", "mode", "bare", "septum", "budget", "peer", "verdict"] {
            assert!(row.get(key).is_some(), "{key}");
        }
        assert_eq!(row["verdict"], "missing");
        assert_eq!(document["tally"]["within"], 0);
    }
}
