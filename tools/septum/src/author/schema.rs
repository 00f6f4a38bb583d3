// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys that a configuration may have: one list for the reader, for the suggestions in its errors, and for the test
//! that each of them is documented.

/// The keys of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// What messages call it.
    pub name: &'static str,
    /// The keys, in the order in which messages list them.
    pub keys: &'static [&'static str],
}

/// The top level of the file.
pub const ROOT: Table = Table { name: "the top level", keys: &["platform", "hypervisor", "partition", "qemu"] };
/// `[hypervisor]`.
pub const HYPERVISOR: Table = Table { name: "[hypervisor]", keys: &["uart", "log", "on-panic", "cpu", "when-all-off"] };
/// `[partition.NAME]`.
pub const PARTITION: Table = Table {
    name: "[partition.NAME]",
    keys: &[
        "cpus",
        "memory",
        "kernel",
        "initrd",
        "device-tree",
        "cmdline",
        "console",
        "devices",
        "interrupts",
        "on-fault",
        "autostart",
        "boot",
        "restart",
    ],
};
/// A piece of `memory`.
pub const MEMORY: Table = Table { name: "memory", keys: &["size", "ipa", "pa"] };
/// `kernel`.
pub const KERNEL: Table = Table { name: "kernel", keys: &["file", "load", "entry"] };
/// `device-tree`.
pub const DEVICE_TREE: Table = Table { name: "device-tree", keys: &["at"] };
/// `console`.
pub const CONSOLE: Table = Table { name: "console", keys: &["ipa"] };
/// One of `devices`.
pub const DEVICE: Table = Table { name: "devices", keys: &["node", "unsafe-dma"] };
/// `on-fault`.
pub const ON_FAULT: Table = Table { name: "on-fault", keys: &["action", "attempts", "within"] };
/// `[qemu]`.
pub const QEMU: Table = Table { name: "[qemu]", keys: &["args"] };

/// Every table.
pub const ALL: [Table; 10] =
    [ROOT, HYPERVISOR, PARTITION, MEMORY, KERNEL, DEVICE_TREE, CONSOLE, DEVICE, ON_FAULT, QEMU];

/// Returns the way out for a key that `table` does not have: the nearest one, the table it belongs to, or the list.
pub fn suggest(table: Table, unknown: &str) -> String {
    let near = nearest(unknown, table.keys);
    let home = ALL.iter().find(|other| other.name != table.name && other.keys.contains(&unknown));
    match (near, home) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(&ROOT)) => format!("`{unknown}` belongs at the top of the file, before the first table"),
        (None, Some(home)) => format!("`{unknown}` belongs in {}", home.name),
        (None, None) => format!("{} has the keys {}", table.name, list(table.keys)),
    }
}

/// Returns the word that `unknown` is most likely meant to be, if one is near.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let unknown = plain(unknown);
    let distance = |word: &str| strsim::damerau_levenshtein(&unknown, &plain(word));
    let limit = (unknown.chars().count() / 3).max(1);
    let best = known.iter().map(|word| (distance(word), *word)).min()?;
    let part = |word: &&str| {
        let word = plain(word);
        word.len().min(unknown.len()) > 2 && (word.starts_with(&unknown) || unknown.starts_with(&word))
    };
    if best.0 <= limit { Some(best.1) } else { known.iter().copied().find(|word| part(word)) }
}

/// Shows a list as `a`, `b` and `c`.
pub fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "none".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_keys_are_suggested() {
        for (unknown, help) in [
            ("cpu_s", "did you mean `cpus`?"),
            ("on_fault", "did you mean `on-fault`?"),
            ("Memory", "did you mean `memory`?"),
            ("kernal", "did you mean `kernel`?"),
            ("cpu", "did you mean `cpus`?"),
            ("init", "did you mean `initrd`?"),
            ("unsafe-dma", "`unsafe-dma` belongs in devices"),
            ("platform", "`platform` belongs at the top of the file, before the first table"),
            ("args", "`args` belongs in [qemu]"),
        ] {
            assert_eq!(suggest(PARTITION, unknown), help);
        }
    }

    #[test]
    fn far_keys_get_the_list() {
        assert_eq!(suggest(MEMORY, "colour"), "memory has the keys `size`, `ipa` and `pa`");
    }
}
