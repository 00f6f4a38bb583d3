// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes with units, as command lines and `board.toml` say them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A size in bytes, written `64K`, `512M`, `1G` or as a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// Wraps a number of bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            unit => return Err(format!("`{unit}` is not a unit: use K, M or G")),
        };
        let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a size such as 512M"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("`{text}` does not fit in 64 bits"))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_it_was_written() {
        for text in ["0", "4095", "4K", "512M", "1G", "3G"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_largest_size_is_legal_and_the_next_one_is_not() {
        assert_eq!("17179869183G".parse::<Size>().unwrap().bytes(), u64::MAX << 30);
        assert!("17179869184G".parse::<Size>().is_err());
        assert!("".parse::<Size>().is_err());
        assert!("1T".parse::<Size>().is_err());
        assert!("-1M".parse::<Size>().is_err());
    }
}
