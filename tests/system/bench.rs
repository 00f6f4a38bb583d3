// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate: `septum bench` as a test. No row over its budget, none left out.

use septum_tool::bench::{self, Files, Part, Report};
use system_tests::images;

#[test]
fn every_row_is_measured_and_within_its_budget() {
    let guest = |name: &str| images::asset(&format!("guest:{name}"));
    let files = Files::with(images::firmware(), &guest("bench"), &guest("heartbeat")).expect("the images of the bench");
    let (gics, budgets) = ([3, 2], bench::budgets().expect("the budgets"));
    let measured = bench::measure_all(&files, &bench::runs(&gics, &Part::ALL)).expect("all runs");
    let report = Report::of(&gics, &Part::ALL, &budgets, &measured);
    println!("{}", report.render(&budgets));
    assert!(report.is_good(), "{}: tests/bench-budgets.toml says what each row may cost", report.tally);
}
