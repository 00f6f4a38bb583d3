// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of one GIC: each row's figures, its budget, and whether it keeps it.

use std::collections::BTreeMap;
use std::fmt;

use comfy_table::{CellAlignment, Table as Grid, presets};
use serde::Serialize;

use super::budgets::{Budgets, Limit, Part, Row, Unit};
use super::measure::{Figures, Place, Run};

/// What was measured with one GIC, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// The GIC's version.
    pub gic: u8,
    /// The rows, in the order of the file; one that has a budget for direct interrupts comes twice.
    pub rows: Vec<Entry>,
}

/// One row in one mode.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The part that it belongs to.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// What is measured, for people.
    pub what: String,
    /// What is counted.
    pub unit: Unit,
    /// How interrupts reach the guest.
    pub mode: Place,
    /// On the bare machine.
    pub bare: Option<u64>,
    /// Under Septum.
    pub septum: Option<u64>,
    /// The most it may be.
    pub budget: Option<u64>,
    /// The best peer's.
    pub peer: Option<u64>,
    /// Whether it keeps its budget.
    pub verdict: Verdict,
}

/// Whether a row keeps its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does.
    Within,
    /// It does not.
    Over,
    /// It was not measured, or the bare machine was not that its budget depends on.
    Missing,
    /// It was measured and has no budget.
    NoBudget,
}

/// How many rows have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// Rows within their budgets.
    pub within: usize,
    /// Rows over their budgets.
    pub over: usize,
    /// Rows that were not measured.
    pub missing: usize,
    /// Rows that have no budget.
    pub no_budget: usize,
}

impl Table {
    /// Judges what was measured with one GIC, as far as it is of these parts. Every row of theirs is there, measured or
    /// not.
    pub fn of<'a>(
        gic: u8,
        parts: &[Part],
        budgets: &Budgets,
        measured: impl Iterator<Item = (&'a Run, &'a Figures)>,
    ) -> Self {
        let mut figures: BTreeMap<(Place, &str), u64> = BTreeMap::new();
        for (run, found) in measured.filter(|(run, _)| run.gic == gic) {
            figures.extend(found.iter().map(|(name, figure)| ((run.place, name.as_str()), *figure)));
        }
        let mut rows = Vec::new();
        for part in budgets.part.iter().filter(|part| parts.contains(&part.name)) {
            for row in part.row.iter().filter(|row| row.exists_on(gic)) {
                let entry = |mode, limit| Entry::judge(part.name, row, gic, mode, limit, &figures);
                rows.push(entry(Place::Virtual, row.budget_on(gic)));
                if gic == 3 && row.direct.is_some() {
                    rows.push(entry(Place::Direct, row.direct));
                }
            }
        }
        Self { gic, rows }
    }

    /// Counts the verdicts.
    pub fn tally(&self) -> Tally {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        Tally {
            within: count(Verdict::Within),
            over: count(Verdict::Over),
            missing: count(Verdict::Missing),
            no_budget: count(Verdict::NoBudget),
        }
    }

    /// Shows the table, for people.
    pub fn render(&self, budgets: &Budgets) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        let title = format!("GICv{}: instructions, or the unit beside the figure", self.gic);
        grid.set_header([&title, "bare", "Septum", "budget", "best peer", "verdict"]);
        let mut part = None;
        for row in &self.rows {
            if part.replace(row.part) != Some(row.part) {
                let title = budgets.part.iter().find(|part| part.name == row.part).map_or("", |part| &part.title);
                grid.add_row([title]);
            }
            let show = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), grouped);
            let septum = show(row.septum) + if row.septum.is_some() { row.unit.suffix() } else { "" };
            let mode = if row.mode == Place::Direct { ", direct" } else { "" };
            grid.add_row([
                &format!("  {}{mode}", row.what),
                &show(row.bare),
                &septum,
                &show(row.budget),
                &show(row.peer),
                &row.verdict.to_string(),
            ]);
        }
        for column in 1..=4 {
            if let Some(column) = grid.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        grid.trim_fmt()
    }
}

impl Entry {
    fn judge(
        part: Part,
        row: &Row,
        gic: u8,
        mode: Place,
        limit: Option<Limit>,
        figures: &BTreeMap<(Place, &str), u64>,
    ) -> Self {
        let name = row.name.as_str();
        // What becomes of the image in a partition is the bare machine's business as little as the mode is.
        let plain = name.strip_suffix("-in-place").unwrap_or(name);
        let bare = figures.get(&(Place::Bare, plain)).copied();
        let septum = figures.get(&(mode, name)).copied();
        let budget = limit.and_then(|limit| limit.resolve(bare));
        let verdict = match (septum, limit, budget) {
            (None, _, _) | (_, Some(_), None) => Verdict::Missing,
            (Some(_), None, _) => Verdict::NoBudget,
            (Some(septum), Some(_), Some(budget)) if septum <= budget => Verdict::Within,
            (Some(_), Some(_), Some(_)) => Verdict::Over,
        };
        let peer = row.peer_on(gic).and_then(|peer| peer.resolve(bare));
        let (what, unit) = (row.what.clone(), row.unit);
        Self { part, name: name.to_owned(), what, unit, mode, bare, septum, budget, peer, verdict }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Within => "ok",
            Self::Over => "OVER",
            Self::Missing => "NOT MEASURED",
            Self::NoBudget => "",
        })
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            within: self.within + other.within,
            over: self.over + other.over,
            missing: self.missing + other.missing,
            no_budget: self.no_budget + other.no_budget,
        }
    }
}

impl Tally {
    /// Tells whether every row was measured and keeps its budget.
    pub fn is_good(self) -> bool {
        self.over == 0 && self.missing == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { within, over, missing, no_budget } = self;
        write!(f, "{within} of {} rows are within budget", within + over + missing)?;
        for (count, text) in [(over, "over"), (missing, "not measured"), (no_budget, "without a budget")] {
            if *count > 0 {
                write!(f, ", {count} {text}")?;
            }
        }
        Ok(())
    }
}

/// Writes a number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Subject;

    const BUDGETS: &str = r#"
        [[part]]
        name  = "events"
        title = "Events"
        row   = [
            { name = "a", what = "A", budget = 100, direct = "bare + 0" },
            { name = "b", what = "B", budget = "bare + 10 %" },
            { name = "c", what = "C" },
            { name = "d", what = "D", budget = 5, gic = 2 },
        ]
        [[part]]
        name  = "memory"
        title = "Memory"
        row   = [{ name = "e", what = "E", budget = 1, unit = "KiB" }]
    "#;

    fn figures(pairs: &[(&str, u64)]) -> Figures {
        pairs.iter().map(|(name, ticks)| ((*name).to_owned(), *ticks)).collect()
    }

    fn table(gic: u8, bare: &[(&str, u64)], septum: &[(&str, u64)], direct: &[(&str, u64)]) -> Table {
        let run = |place| Run { subject: Subject::Events, place, gic };
        let measured = [
            (run(Place::Bare), figures(bare)),
            (run(Place::Virtual), figures(septum)),
            (run(Place::Direct), figures(direct)),
        ];
        let budgets = toml::from_str(BUDGETS).unwrap();
        Table::of(gic, &[Part::Events], &budgets, measured.iter().map(|(run, figures)| (run, figures)))
    }

    fn verdicts(table: &Table) -> Vec<(&str, Place, Verdict)> {
        table.rows.iter().map(|row| (row.name.as_str(), row.mode, row.verdict)).collect()
    }

    #[test]
    fn a_row_at_its_budget_is_within_and_one_above_is_not() {
        use Verdict::{NoBudget, Over, Within};
        let bare = [("a", 7), ("b", 1000)];
        let good = table(3, &bare, &[("a", 100), ("b", 1100), ("c", 9)], &[("a", 7)]);
        let (a, b, c) = (("a", Place::Virtual), ("b", Place::Virtual), ("c", Place::Virtual));
        let direct = ("a", Place::Direct);
        let expected = [(a, Within), (direct, Within), (b, Within), (c, NoBudget)];
        assert_eq!(verdicts(&good), expected.map(|((name, mode), verdict)| (name, mode, verdict)));
        assert!(good.tally().is_good());
        let bad = table(3, &bare, &[("a", 101), ("b", 1101), ("c", 9)], &[("a", 8)]);
        let expected = [(a, Over), (direct, Over), (b, Over), (c, NoBudget)];
        assert_eq!(verdicts(&bad), expected.map(|((name, mode), verdict)| (name, mode, verdict)));
        assert!(!bad.tally().is_good());
    }

    #[test]
    fn a_row_that_is_named_and_not_measured_fails() {
        let table = table(3, &[], &[("a", 1), ("b", 1)], &[]);
        // b's budget depends on the bare machine, c has none.
        let missing: Vec<_> = table.rows.iter().filter(|row| row.verdict == Verdict::Missing).collect();
        assert_eq!(
            missing.iter().map(|row| (row.name.as_str(), row.mode)).collect::<Vec<_>>(),
            [("a", Place::Direct), ("b", Place::Virtual), ("c", Place::Virtual)]
        );
        assert!(!table.tally().is_good());
        assert_eq!(table.tally().to_string(), "1 of 4 rows are within budget, 3 not measured");
    }

    #[test]
    fn rows_of_the_other_gic_and_of_other_parts_are_not_asked_for() {
        let names = |gic| table(gic, &[], &[], &[]).rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names(3), ["a", "a", "b", "c"]);
        assert_eq!(names(2), ["a", "b", "c", "d"]);
    }

    #[test]
    fn figures_are_grouped_and_columns_are_named() {
        assert_eq!([0, 999, 1000, 9_276_212].map(grouped), ["0", "999", "1 000", "9 276 212"]);
        let shown = table(3, &[("a", 7)], &[("a", 101)], &[]).render(&toml::from_str(BUDGETS).unwrap());
        for word in
            ["GICv3", "instructions", "bare", "budget", "best peer", "Events", "A, direct", "OVER", "NOT MEASURED"]
        {
            assert!(shown.contains(word), "{shown}");
        }
    }
}
