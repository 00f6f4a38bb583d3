// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of a guest: words `name=value` in /chosen/bootargs.

/// The boot arguments of this guest.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(pub &'a str);

impl<'a> Options<'a> {
    /// Returns the value of the last word `name=value`.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next_back()
    }

    /// Returns a number, decimal or with `0x`, with K, M or G behind it for powers of 1024; `default` when it is absent or
    /// is no number.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(parse).unwrap_or(default)
    }

    /// Tells whether `item` is in the comma-separated list `name`, which holds everything when it is absent.
    pub fn selects(&self, name: &str, item: &str) -> bool {
        self.text(name).is_none_or(|list| list.split(',').any(|entry| entry == item))
    }
}

fn parse(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    let unit = match text.as_bytes().last()? {
        b'K' => 1 << 10,
        b'M' => 1 << 20,
        b'G' => 1 << 30,
        _ => return text.parse().ok(),
    };
    text.get(..text.len() - 1)?.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn numbers_are_decimal_hex_or_scaled() {
        let options = Options("a=12 b=0x10 c=4K d=x a=13 =5 e=");
        assert_eq!(options.number("a", 0), 13);
        assert_eq!(options.number("b", 0), 16);
        assert_eq!(options.number("c", 0), 4096);
        assert_eq!(options.number("d", 7), 7);
        assert_eq!(options.number("e", 8), 8);
        assert_eq!(options.number("f", 9), 9);
    }

    #[test]
    fn an_absent_list_selects_everything() {
        assert!(Options("").selects("sections", "gic"));
        assert!(Options("sections=sgi,gic").selects("sections", "gic"));
        assert!(!Options("sections=sgi").selects("sections", "gic"));
    }
}
