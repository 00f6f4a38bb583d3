// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures for people: sizes with units, counts with the right ending.

use core::fmt;

/// A size in bytes that shows itself in the largest unit that keeps it exact, or rounded to a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in UNITS {
            if self.0 < unit {
                continue;
            }
            let whole = self.0 / unit;
            let tenth = self.0 % unit / (unit / 10);
            return match (self.0 % unit, tenth) {
                (0, _) => write!(f, "{whole} {name}"),
                // Below ten units a tenth would hide too much of it: the next smaller unit says it.
                (_, _) if whole < 10 && unit > 1 << 10 => {
                    write!(f, "{} {}", self.0 / (unit >> 10), smaller(name))
                }
                (_, tenth) => write!(f, "{whole}.{} {name}", tenth.min(9)),
            };
        }
        write!(f, "{} bytes", self.0)
    }
}

/// Returns the unit 1024 times smaller than `name`.
fn smaller(name: &str) -> &'static str {
    match name {
        "GiB" => "MiB",
        "MiB" => "KiB",
        _ => "bytes",
    }
}

/// A count with its noun, which gets an `s` unless the count is 1.
pub(super) struct Count(pub usize, pub &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{ending}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn sizes_read_in_the_unit_a_person_would_use() {
        let table: [(u64, &str); 9] = [
            (0, "0 bytes"),
            (512, "512 bytes"),
            (4096, "4 KiB"),
            (5000, "4.8 KiB"),
            (16 << 20, "16 MiB"),
            (0x0200_1000, "32.0 MiB"),
            (1 << 30, "1 GiB"),
            (1536 << 20, "1536 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(format!("{}", Size(bytes)), text);
        }
    }
}
