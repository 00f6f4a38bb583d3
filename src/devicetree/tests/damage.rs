// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged blobs: refused or read, never a panic, and never more work than the blob's size allows.

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::blob::NOP;
use super::*;

/// One way to damage a blob.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte becomes another one.
    Byte(Index, u8),
    /// An aligned word becomes another one.
    Word(Index, u32),
    /// An aligned word becomes that of another place.
    Copy(Index, Index),
    /// Words are put in.
    Insert(Index, u32),
    /// Words are taken out.
    Remove(Index, usize),
    /// The end is cut off.
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let interesting = prop_oneof![
        4 => 0..16u32,
        1 => Just(NOP),
        1 => any::<u32>(),
        1 => prop::sample::select(&[u32::MAX, u32::MAX - 3, 1 << 31, 0x1000, 40, 56, 64][..]),
    ];
    let word = interesting.boxed();
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        8 => (at(), word.clone()).prop_map(|(at, value)| Damage::Word(at, value)),
        8 => (at(), at()).prop_map(|(to, from)| Damage::Copy(to, from)),
        1 => (at(), word).prop_map(|(at, value)| Damage::Insert(at, value)),
        1 => (at(), 1..4usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => at().prop_map(Damage::Truncate),
    ]
}

fn apply(blob: &mut Vec<u8>, damage: &Damage) {
    let words = blob.len() / 4;
    if words < 4 {
        return;
    }
    match damage {
        Damage::Byte(at, value) => blob[at.index(words * 4)] = *value,
        Damage::Word(at, value) => blob[at.index(words) * 4..][..4].copy_from_slice(&value.to_be_bytes()),
        Damage::Copy(to, from) => {
            let from = from.index(words) * 4;
            blob.copy_within(from..from + 4, to.index(words) * 4);
        }
        Damage::Insert(at, value) => {
            let at = at.index(words) * 4;
            blob.splice(at..at, value.to_be_bytes());
        }
        Damage::Remove(at, count) => {
            let at = at.index(words - 3) * 4;
            blob.drain(at..at + count * 4);
        }
        Damage::Truncate(at) => blob.truncate(at.index(blob.len())),
    }
}

/// Reads the normalised blob through `fdt`, which panics where a blob is damaged: all is as this module reads it.
pub(super) fn read_by_fdt(tree: &DeviceTree) {
    let other = fdt::Fdt::new(tree.as_bytes()).unwrap();
    assert_eq!(other.total_size(), tree.as_bytes().len());
    assert!(other.all_nodes().map(|node| node.name).eq(tree.nodes().map(|node| match node.name() {
        "" => "/",
        name => name,
    })));
    for (node, ours) in other.all_nodes().zip(tree.nodes()) {
        let properties = node.properties().map(|property| (property.name, property.value));
        assert!(properties.eq(ours.properties().map(|property| (property.name, property.value))));
    }
}

/// Calls every reader on everything.
fn read_all(tree: &DeviceTree, size: usize) {
    assert!(tree.nodes().count() <= size / 8);
    let normalised = DeviceTree::parse(tree.as_bytes()).unwrap();
    assert_eq!(normalised.as_bytes(), tree.as_bytes());
    read_by_fdt(tree);
    let _ = (tree.memory(), tree.reserved_memory(), tree.chosen(), tree.stdout(), tree.initrd());
    assert!(tree.memory_reservations().count() <= size / 16);
    let mut properties = 0;
    for node in tree.nodes() {
        assert_eq!(tree.node(&node.path()), Some(node));
        assert!(node.ancestors().count() <= MAX_DEPTH);
        let _ = (node.labels().count(), node.compatible().count(), node.is_enabled(), node.phandle());
        let _ = (tree.find(node.name()).is_ok(), tree.find(node.base_name()).is_ok());
        assert!(node.reg().map_or(0, |reg| reg.len()) <= node.raw_reg().map_or(0, |reg| reg.len()));
        for interrupt in node.interrupts().unwrap_or_default() {
            let _ = gic_interrupt(interrupt.cells());
        }
        for property in node.properties() {
            properties += 1;
            assert_eq!(node.property(property.name), Some(property));
            let _ = (property.as_u32(), property.as_u64(), property.as_str(), property.strings().count());
            assert_eq!(property.cells().count(), property.bytes().len() / 4);
        }
    }
    assert!(properties <= size / 12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_blob_is_refused_or_read(damages in prop::collection::vec(damage(), 1..4)) {
        let mut blob = board();
        damages.iter().for_each(|damage| apply(&mut blob, damage));
        if let Ok(tree) = DeviceTree::parse(&blob) {
            read_all(&tree, blob.len());
        }
        let _ = DeviceTree::extent(&blob);
    }

    #[test]
    fn noise_behind_a_good_header_is_refused_or_read(words in prop::collection::vec(prop_oneof![0..10u32, any::<u32>()], 0..64)) {
        let structure: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let blob = super::super::blob::assemble(&[0; 16], &structure, b"a\0reg\0ranges\0", 0).unwrap();
        if let Ok(tree) = DeviceTree::parse(&blob) {
            read_all(&tree, blob.len());
        }
    }
}

#[test]
fn every_truncation_of_the_board_is_refused() {
    let blob = board();
    let extent = usize::try_from(DeviceTree::extent(&blob).unwrap()).unwrap();
    for length in 0..extent {
        assert!(DeviceTree::parse(&blob[..length]).is_err(), "{length}");
    }
}

#[test]
fn every_word_of_the_board_may_be_any_small_number() {
    let blob = board();
    for at in (0..blob.len()).step_by(4) {
        for value in [0, 1, 2, 3, 4, 9, u32::MAX] {
            let mut damaged = blob.clone();
            damaged[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
            if let Ok(tree) = DeviceTree::parse(&damaged) {
                read_all(&tree, damaged.len());
            }
        }
    }
}

#[test]
fn largest_blob_of_smallest_nodes_is_read_in_bounded_time() {
    let count = 170_000u32;
    let blob = tree(|tree| {
        for number in 0..count {
            node(tree, &std::format!("{number:06x}"), |_| {});
        }
    });
    let tree = DeviceTree::parse(&blob.unwrap()).unwrap();
    assert_eq!(tree.root().children().count(), usize::try_from(count).unwrap());
    assert!(tree.find("/00000g").is_err());
}
