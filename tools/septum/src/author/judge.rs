// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges a configuration against a board: the planner's errors, each shown where its author wrote the cause.

use septum::config::Manifest;
use septum::devicetree::DeviceTree;
use septum::plan::{self, Board, GicFacts, Key, Place, Placement, Plan, PlanError, Problem, Violation};

use super::diagnostic::Diagnostic;
use super::system::System;

/// Plans a configuration on a board and has the plan checked.
///
/// # Errors
/// Everything that the planner refuses or would have to replace, and every violation that the oracle finds.
pub fn judge(
    system: &System,
    manifest: &Manifest,
    tree: &DeviceTree,
    placement: &Placement,
    facts: GicFacts,
) -> Result<(Board, Plan), Vec<Diagnostic>> {
    let mut board = Board::read(tree, manifest.hypervisor.uart.as_deref()).map_err(|error| {
        let span = system.uart.as_ref().unwrap_or(&system.platform.span);
        let message = format!("the board cannot be planned: {error}");
        let (title, help) = split(&message);
        let shown = Diagnostic::new(title).at(span, "");
        vec![match help {
            Some(help) => shown.help(help),
            None => shown,
        }]
    })?;
    board.gic.facts = facts;
    let outcome = plan::build(manifest, &board, tree, placement);
    // Where the memory is wrong, what it has no room for follows from that.
    let badly_placed = |error: &PlanError| {
        let of_memory =
            |other: &&PlanError| other.at.partition == error.at.partition && matches!(other.at.key, Key::Memory(_));
        matches!(error.problem, Problem::ImageTooLarge { .. }) && outcome.all_errors().any(|other| of_memory(&other))
    };
    let causes = outcome.all_errors().filter(|error| !badly_placed(error));
    let errors: Vec<Diagnostic> = causes.map(|error| show(system, error)).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    match plan::check(&outcome.plan, &board, placement) {
        Ok(()) => Ok((board, outcome.plan)),
        Err(violations) => Err(violations.iter().map(|violation| broken(system, violation)).collect()),
    }
}

/// Shows one error of the planner in the author's lines.
fn show(system: &System, error: &PlanError) -> Diagnostic {
    let message = error.to_string();
    let (title, help) = split(&message);
    let help = help.or(match error.at.key {
        Key::Cpu(_) => Some("choose one that it has"),
        Key::Device(_) => Some("a device is named by its path, an alias or a label of the board's device tree"),
        _ => None,
    });
    let span = system.span_of(error.at);
    let mut shown = Diagnostic::new(title).at(span, "");
    if let Some(other) = error.other {
        let other_span = system.span_of(other);
        if other_span != span {
            shown = shown.at(span, owner(system, error.at)).and(other_span, owner(system, other));
        }
    }
    match help {
        Some(help) => shown.help(help),
        None => shown,
    }
}

/// Shows what the oracle finds in a plan that the planner was content with: a mistake of the planner.
fn broken(system: &System, violation: &Violation) -> Diagnostic {
    Diagnostic::new(format!("the plan fails its check: {violation}"))
        .at(&system.platform.span, "")
        .help("this is a mistake of Septum, not of the configuration: report it with the configuration")
}

/// Splits a sentence of the planner, which ends with the way out.
fn split(message: &str) -> (&str, Option<&str>) {
    message.rsplit_once("; ").map_or((message, None), |(title, help)| (title, Some(help)))
}

/// Names the partition in whose table something stands.
fn owner(system: &System, place: Place) -> String {
    let partition = place.partition.and_then(|id| system.partition(id));
    partition.map_or_else(|| "here".to_owned(), |partition| format!("in partition `{}`", partition.name.value))
}
