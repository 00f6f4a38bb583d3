// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tests/bench-ceilings.toml`: the rows of the table, and what each may cost at most.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    /// The rows, in the order of the table.
    pub row: Vec<Row>,
}

/// A row of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// Its name, as it is measured by.
    pub name: String,
    /// What is measured, for people.
    pub what: String,
    /// Instructions at most on GICv3.
    pub gicv3: Option<u64>,
    /// Instructions at most on GICv2.
    pub gicv2: Option<u64>,
    /// Percent at most above the bare machine.
    pub above_bare: Option<f64>,
}

impl Ceilings {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read or is not well-formed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }
}

impl Row {
    /// Returns what the row may cost with this GIC, where the bare machine takes `bare`; `None` when nothing is known.
    pub fn ceiling(&self, gic: u8, bare: Option<u64>) -> Option<u64> {
        let stated = if gic == 2 { self.gicv2 } else { self.gicv3 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let relative = |percent: f64| bare.map(|bare| (bare as f64 * (1.0 + percent / 100.0)) as u64);
        stated.or_else(|| self.above_bare.and_then(relative))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn the_shipped_file_is_well_formed_and_names_each_row_once() {
        let ceilings = Ceilings::read(&paths::root().join("tests/bench-ceilings.toml")).unwrap();
        let mut names: Vec<&str> = ceilings.row.iter().map(|row| row.name.as_str()).collect();
        assert!(names.len() >= 20);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ceilings.row.len());
    }

    #[test]
    fn a_ceiling_is_stated_or_relative_to_the_bare_machine() {
        let row =
            |above_bare| Row { name: String::new(), what: String::new(), gicv3: Some(7), gicv2: None, above_bare };
        assert_eq!(row(None).ceiling(3, Some(1000)), Some(7));
        assert_eq!(row(None).ceiling(2, Some(1000)), None);
        assert_eq!(row(Some(7.5)).ceiling(2, Some(1000)), Some(1075));
        assert_eq!(row(Some(7.5)).ceiling(2, None), None);
    }
}
