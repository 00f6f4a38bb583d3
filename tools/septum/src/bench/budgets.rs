// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tests/bench-budgets.toml`: the rows of the table, and what each may cost at most.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// What the bench has parts of, in the order of the table.
    pub part: Vec<PartRows>,
}

/// The rows of one part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRows {
    /// The part.
    pub name: Part,
    /// Its title, for people.
    pub title: String,
    /// Its rows, in the order of the table.
    pub row: Vec<Row>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Calls, register accesses and interrupts
    Events,
    /// How many exits a guest has
    Exits,
    /// From reset to a guest's first instruction, and a restart
    Boot,
    /// The boot of Debian Linux
    Linux,
    /// The image's size and the RAM that the hypervisor takes
    Memory,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 5] = [Self::Events, Self::Exits, Self::Boot, Self::Linux, Self::Memory];
}

/// A row of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// Its name, as it is measured by.
    pub name: String,
    /// What is measured, for people.
    pub what: String,
    /// What is counted.
    #[serde(default)]
    pub unit: Unit,
    /// The only GIC that has it.
    pub gic: Option<u8>,
    /// The most it may cost.
    pub budget: Option<Limit>,
    /// The same on GICv2, where it does not follow from the other.
    pub gicv2: Option<Limit>,
    /// The same with interrupts delivered directly; the row is measured in that mode where there is a budget.
    pub direct: Option<Limit>,
    /// What the best peer takes.
    #[serde(default)]
    pub peer: Peer,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Unit {
    /// Executed instructions of any CPU.
    #[default]
    #[serde(rename = "instructions")]
    Instructions,
    /// Exceptions taken to EL2.
    #[serde(rename = "exits")]
    Exits,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// KiB.
    #[serde(rename = "KiB")]
    Kib,
}

/// What the best peer takes, by GIC.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// On GICv3.
    pub gicv3: Option<Limit>,
    /// On GICv2.
    pub gicv2: Option<Limit>,
}

/// A figure, stated or relative to the bare machine's.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub enum Limit {
    /// So much.
    AtMost(u64),
    /// So much more than the bare machine.
    AboveBare(u64),
    /// So many percent more than the bare machine.
    PercentAboveBare(f64),
}

/// A [`Limit`] as it stands in the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Limit {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self::AtMost(number)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a number nor `bare + N` nor `bare + N %`");
        let more = text.strip_prefix("bare + ").ok_or_else(wrong)?;
        match more.strip_suffix(" %") {
            Some(percent) => match percent.parse() {
                Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(Self::PercentAboveBare(percent)),
                _ => Err(wrong()),
            },
            None => more.parse().map(Self::AboveBare).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(number) => write!(f, "{number}"),
            Self::AboveBare(more) => write!(f, "bare + {more}"),
            Self::PercentAboveBare(percent) => write!(f, "bare + {percent} %"),
        }
    }
}

impl Limit {
    /// Returns the figure where the bare machine takes `bare`; `None` when it depends on that and that is not known.
    pub fn resolve(self, bare: Option<u64>) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let percent_more = |percent: f64| bare.map(|bare| bare + (bare as f64 * percent / 100.0) as u64);
        match self {
            Self::AtMost(number) => Some(number),
            Self::AboveBare(more) => bare.map(|bare| bare.saturating_add(more)),
            Self::PercentAboveBare(percent) => percent_more(percent),
        }
    }
}

impl Unit {
    /// Returns what stands behind a figure; nothing for instructions, which a table's title names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Instructions => "",
            Self::Exits => " exits",
            Self::Bytes => " bytes",
            Self::Kib => " KiB",
        }
    }
}

impl Row {
    /// Tells whether there is such a row with this GIC.
    pub fn exists_on(&self, gic: u8) -> bool {
        self.gic.is_none_or(|only| only == gic)
    }

    /// Returns what the row may cost with this GIC and interrupts that arrive through list registers.
    pub fn budget_on(&self, gic: u8) -> Option<Limit> {
        match self.budget {
            _ if gic == 2 && self.gicv2.is_some() => self.gicv2,
            Some(Limit::AtMost(most)) if gic == 2 && self.unit == Unit::Instructions => {
                Some(Limit::AtMost(most.saturating_mul(13) / 10))
            }
            budget => budget,
        }
    }

    /// Returns what the best peer takes with this GIC.
    pub fn peer_on(&self, gic: u8) -> Option<Limit> {
        if gic == 2 { self.peer.gicv2 } else { self.peer.gicv3 }
    }
}

impl Budgets {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read or is not well-formed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn the_shipped_file_is_well_formed_and_names_each_part_and_row_once() {
        let budgets = Budgets::read(&paths::root().join("tests/bench-budgets.toml")).unwrap();
        assert_eq!(budgets.part.iter().map(|part| part.name).collect::<Vec<_>>(), Part::ALL);
        let mut names: Vec<&str> =
            budgets.part.iter().flat_map(|part| &part.row).map(|row| row.name.as_str()).collect();
        let count = names.len();
        assert!(count >= 35, "only {count} rows");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_limit_is_a_number_or_relative_to_the_bare_machine() {
        assert_eq!("bare + 0".parse(), Ok(Limit::AboveBare(0)));
        assert_eq!("bare + 0.4 %".parse(), Ok(Limit::PercentAboveBare(0.4)));
        for wrong in ["", "60", "bare", "bare +0", "bare + ", "bare + x %", "bare + -1", "bare + -1 %", "bare + NaN %"]
        {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
        assert_eq!(Limit::AtMost(7).resolve(None), Some(7));
        assert_eq!(Limit::AboveBare(2).resolve(Some(5)), Some(7));
        assert_eq!(Limit::PercentAboveBare(7.5).resolve(Some(1000)), Some(1075));
        assert_eq!(Limit::AboveBare(2).resolve(None), None);
        assert_eq!(Limit::PercentAboveBare(2.0).resolve(None), None);
    }

    fn row(text: &str) -> Row {
        toml::from_str(&format!("name = \"a\"\nwhat = \"b\"\n{text}")).unwrap()
    }

    #[test]
    fn instructions_on_gicv2_may_be_thirteen_tenths() {
        assert_eq!(row("budget = 60").budget_on(3), Some(Limit::AtMost(60)));
        assert_eq!(row("budget = 60").budget_on(2), Some(Limit::AtMost(78)));
        assert_eq!(row("budget = 60\ngicv2 = 61").budget_on(2), Some(Limit::AtMost(61)));
        assert_eq!(row("budget = 60\nunit = \"exits\"").budget_on(2), Some(Limit::AtMost(60)));
        assert_eq!(row("budget = \"bare + 10\"").budget_on(2), Some(Limit::AboveBare(10)));
        assert_eq!(row("").budget_on(2), None);
    }
}
