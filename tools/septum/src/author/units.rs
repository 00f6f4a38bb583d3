// SPDX-License-Identifier: MIT OR Apache-2.0
//! Quantities as their author writes them: sizes, times and addresses, each with one spelling. An error is the way out.

/// Reads a size in bytes: a whole number and K, M or G (KiB, MiB, GiB), such as `512M`.
///
/// # Errors
/// Says what to write instead.
pub fn size(text: &str) -> Result<u64, String> {
    const HINT: &str = "a size is a whole number with K, M or G (KiB, MiB, GiB), such as \"512M\"";
    let (number, unit) = split(text);
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "" if !number.is_empty() => return Err(format!("it has no unit: {HINT}")),
        "k" | "m" | "g" | "KB" | "MB" | "GB" | "KiB" | "MiB" | "GiB" | "kB" | "kb" | "mb" | "gb"
            if !number.is_empty() =>
        {
            let unit = unit.chars().next().unwrap_or_default().to_ascii_uppercase();
            return Err(format!("write \"{number}{unit}\": {HINT}"));
        }
        _ => return Err(HINT.into()),
    };
    let number: u64 = number.parse().map_err(|_| HINT.to_owned())?;
    let bytes = number.checked_mul(1 << shift).ok_or("it does not fit in 64 bits")?;
    if bytes == 0 { Err("a size of 0 is no memory: leave the piece out".into()) } else { Ok(bytes) }
}

/// Reads a time in milliseconds: a whole number and ms, s or min, such as `60s`.
///
/// # Errors
/// Says what to write instead.
pub fn time_ms(text: &str) -> Result<u64, String> {
    const HINT: &str = "a time is a whole number with ms, s or min, such as \"60s\"";
    let (number, unit) = split(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "" if !number.is_empty() => return Err(format!("it has no unit: {HINT}")),
        _ => return Err(HINT.into()),
    };
    let number: u64 = number.parse().map_err(|_| HINT.to_owned())?;
    match number.checked_mul(factor) {
        None => Err("it does not fit in 64 bits".into()),
        Some(0) => Err("it must be more than 0".into()),
        Some(ms) => Ok(ms),
    }
}

/// Reads an address: hexadecimal with 0x, underscores between digits as one likes, such as `0x4000_0000`.
///
/// # Errors
/// Says what to write instead.
pub fn address(text: &str) -> Result<u64, String> {
    const HINT: &str = "an address is hexadecimal with 0x, such as \"0x4000_0000\"";
    let digits = text.strip_prefix("0x").ok_or(HINT)?.replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(HINT.into());
    }
    u64::from_str_radix(&digits, 16).map_err(|_| "it does not fit in 64 bits".into())
}

/// Shows an address as [`address`] reads it, in groups of four digits.
pub fn show_address(value: u64) -> String {
    let digits = format!("{value:x}");
    let head = digits.len() % 4;
    let mut groups: Vec<&str> = Vec::new();
    if head > 0 {
        groups.push(&digits[..head]);
    }
    groups.extend((head..digits.len()).step_by(4).map(|at| &digits[at..at + 4]));
    format!("0x{}", groups.join("_"))
}

/// Splits a quantity behind its digits.
fn split(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("4K"), Ok(4096));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        assert_eq!(size("17179869183G"), Ok(17179869183 << 30));
        assert!(size("17179869184G").unwrap_err().contains("64 bits"));
    }

    #[test]
    fn other_spellings_of_sizes_get_the_right_one() {
        assert!(size("512").unwrap_err().contains("no unit"));
        assert!(size("512MB").unwrap_err().contains("write \"512M\""));
        assert!(size("512MiB").unwrap_err().contains("write \"512M\""));
        assert!(size("4k").unwrap_err().contains("write \"4K\""));
        assert!(size("0M").unwrap_err().contains("0 is no memory"));
        for text in ["", "M", "-1M", "1.5G", " 1G", "1 G", "0x10M", "1T", "99999999999999999999G"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(time_ms("10ms"), Ok(10));
        assert_eq!(time_ms("60s"), Ok(60_000));
        assert_eq!(time_ms("2min"), Ok(120_000));
        assert!(time_ms("60").unwrap_err().contains("no unit"));
        for text in ["", "s", "0s", "1h", "1.5s", "18446744073709551615s"] {
            assert!(time_ms(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_are_hexadecimal() {
        assert_eq!(address("0x4000_0000"), Ok(0x4000_0000));
        assert_eq!(address("0xffffffffffffffff"), Ok(u64::MAX));
        for text in ["", "0x", "0x_", "4000", "0X40", "0x1_0000_0000_0000_0000", "0xg"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn shown_addresses_are_read_back() {
        for value in [0, 0xf, 0x1_0000, 0x4000_0000, 0x1_2345_6789, u64::MAX] {
            assert_eq!(address(&show_address(value)), Ok(value));
        }
        assert_eq!(show_address(0x4000_0000), "0x4000_0000");
    }
}
