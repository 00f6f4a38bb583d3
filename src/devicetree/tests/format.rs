// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blob's format: what is accepted, what is refused, what is written.

use alloc::string::String;
use proptest::prelude::*;

use super::super::blob::{self, BEGIN_NODE, END, END_NODE, MAGIC, NOP, PROPERTY};
use super::*;

/// Returns a blob with this structure block, and "a\0b\0" for strings.
fn raw(structure: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = structure.iter().flat_map(|word| word.to_be_bytes()).collect();
    blob::assemble(&[0; 16], &bytes, b"a\0b\0", 0).unwrap()
}

fn word(blob: &[u8], offset: usize) -> usize {
    u32::from_be_bytes(blob[offset..offset + 4].try_into().unwrap()) as usize
}

fn set_word(blob: &mut [u8], offset: usize, value: u32) {
    blob[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

/// Returns a normalised blob with `count` NOPs before each token, as many as the function says.
fn sprinkle(blob: &[u8], mut count: impl FnMut() -> usize) -> Vec<u8> {
    let (start, size) = (word(blob, 8), word(blob, 36));
    let structure = &blob[start..start + size];
    let mut output = Vec::new();
    let mut at = 0;
    while at < structure.len() {
        let length = match word(structure, at) as u32 {
            BEGIN_NODE => 4 + structure[at + 4..].iter().position(|byte| *byte == 0).unwrap() + 1,
            PROPERTY => 12 + word(structure, at + 4),
            _ => 4,
        };
        let end = (at + length).next_multiple_of(4);
        for _ in 0..count() {
            output.extend_from_slice(&NOP.to_be_bytes());
        }
        output.extend_from_slice(&structure[at..end]);
        at = end;
    }
    let strings = &blob[word(blob, 12)..][..word(blob, 32)];
    blob::assemble(&blob[word(blob, 16)..start], &output, strings, 0).unwrap()
}

#[test]
fn smallest_tree_is_accepted_and_less_is_not() {
    let words = [BEGIN_NODE, 0, END_NODE, END];
    assert_eq!(DeviceTree::parse(&raw(&words)).unwrap().nodes().count(), 1);
    for (structure, expected) in [
        ([].as_slice(), TreeError::Truncated { offset: 0 }),
        (&words[..3], TreeError::Truncated { offset: 12 }),
        (&words[..1], TreeError::BadName { offset: 0 }),
        (&[END], TreeError::NotOneRoot { offset: 0 }),
        (&[BEGIN_NODE, 0, END], TreeError::NotOneRoot { offset: 8 }),
        (&[BEGIN_NODE, 0, END_NODE, BEGIN_NODE, 0, END_NODE, END], TreeError::NotOneRoot { offset: 12 }),
        (&[END_NODE, END], TreeError::BadToken { offset: 0, token: END_NODE }),
        (&[BEGIN_NODE, 0, END_NODE, END_NODE, END], TreeError::BadToken { offset: 12, token: END_NODE }),
        (&[BEGIN_NODE, 0, 5, END_NODE, END], TreeError::BadToken { offset: 8, token: 5 }),
        (&[PROPERTY, 0, 0, BEGIN_NODE, 0, END_NODE, END], TreeError::BadToken { offset: 0, token: PROPERTY }),
        (&[BEGIN_NODE, 0x6100_0000, END_NODE, END], TreeError::BadName { offset: 0 }),
    ] {
        assert_eq!(DeviceTree::parse(&raw(structure)).unwrap_err(), expected, "{structure:x?}");
    }
}

#[test]
fn misplaced_or_malformed_properties_are_refused() {
    let of = |property: &[u32]| {
        let mut structure = [BEGIN_NODE, 0].to_vec();
        structure.extend_from_slice(property);
        structure.extend_from_slice(&[END_NODE, END]);
        DeviceTree::parse(&raw(&structure)).map(|tree| tree.root().properties().count())
    };
    assert_eq!(of(&[PROPERTY, 3, 0, 0x0102_0304]), Ok(1));
    assert_eq!(of(&[PROPERTY, 0, 2]), Ok(1));
    assert_eq!(of(&[PROPERTY, 0, 1]), Err(TreeError::BadName { offset: 8 }));
    assert_eq!(of(&[PROPERTY, 0, 4]), Err(TreeError::BadName { offset: 8 }));
    assert_eq!(of(&[PROPERTY, 0, u32::MAX]), Err(TreeError::BadName { offset: 8 }));
    assert_eq!(of(&[PROPERTY, 9, 0]), Err(TreeError::Truncated { offset: 8 }));
    assert_eq!(of(&[PROPERTY, u32::MAX, 0]), Err(TreeError::Truncated { offset: 8 }));
    let behind_child = [BEGIN_NODE, 0x6100_0000, END_NODE, PROPERTY, 0, 0];
    assert_eq!(of(&behind_child), Err(TreeError::PropertyAfterChild { offset: 20 }));
    let twice = TreeError::DuplicateProperty { path: "/".into(), property: "a".into() };
    assert_eq!(of(&[PROPERTY, 0, 0, PROPERTY, 0, 2, PROPERTY, 0, 0]), Err(twice));
}

#[test]
fn trees_that_contradict_themselves_are_refused() {
    let unreadable = |error| Err(WriteError::Unreadable(error));
    let twins = tree(|tree| {
        node(tree, "bus", |tree| {
            for name in ["a@1", "b@1", "a@1"] {
                node(tree, name, |_| {});
            }
        });
    });
    assert_eq!(twins, unreadable(TreeError::DuplicateNode { path: "/bus/a@1".into() }));
    let cousins = tree(|tree| {
        for name in ["bus@1", "bus@2"] {
            node(tree, name, |tree| node(tree, "a@1", |_| {}));
        }
    });
    assert!(cousins.is_ok());
    let twice = TreeError::DuplicateProperty { path: "/bus".into(), property: "reg".into() };
    let properties = tree(|tree| {
        node(tree, "bus", |tree| ["reg", "ranges", "reg"].into_iter().for_each(|name| tree.property_empty(name)));
    });
    assert_eq!(properties, unreadable(twice));
    let phandles = tree(|tree| {
        for name in ["a", "b"] {
            node(tree, name, |tree| tree.property_u32("phandle", 7));
        }
    });
    assert_eq!(phandles, unreadable(TreeError::DuplicatePhandle { phandle: 7, path: "/b".into() }));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let mut words = [BEGIN_NODE, 0].to_vec();
        words.extend([BEGIN_NODE, 0x6100_0000].repeat(depth));
        words.extend([END_NODE].repeat(depth + 1));
        words.push(END);
        DeviceTree::parse(&raw(&words)).map(|tree| tree.nodes().count())
    };
    assert_eq!(nested(MAX_DEPTH), Ok(MAX_DEPTH + 1));
    assert!(matches!(nested(MAX_DEPTH + 1), Err(TreeError::TooDeep { .. })));
    assert!(matches!(nested(100_000), Err(TreeError::TooDeep { .. })));
    let written = |depth: usize| {
        let mut tree = TreeWriter::new();
        tree.begin_node("");
        (0..depth).for_each(|_| tree.begin_node("a"));
        (0..=depth).for_each(|_| tree.end_node());
        tree.finish().map(|_| ())
    };
    assert_eq!(written(MAX_DEPTH), Ok(()));
    assert_eq!(written(MAX_DEPTH + 1), Err(WriteError::TooLarge));
}

#[test]
fn names_are_bounded_and_printable() {
    let of = |name: &str| {
        let as_node = tree(|tree| node(tree, name, |_| {})).is_ok();
        (as_node, tree(|tree| tree.property_empty(name)).is_ok())
    };
    assert_eq!(of(&"n".repeat(MAX_NAME)), (true, true));
    assert_eq!(of(&"n".repeat(MAX_NAME + 1)), (false, false));
    assert_eq!(of("#a,b.c_d+e?f-g@0"), (true, true));
    assert_eq!(of("a/b"), (false, true));
    for name in ["", "a b", "a\0b", "ä", "\u{7f}"] {
        assert_eq!(of(name), (false, false), "{name:?}");
    }
    // A reader meets them without a writer that refuses: 256 letters, then the NUL.
    let mut words = [BEGIN_NODE, 0, BEGIN_NODE].to_vec();
    words.extend([0x6161_6161].repeat(64));
    words.extend([0, END_NODE, END_NODE, END]);
    assert_eq!(DeviceTree::parse(&raw(&words)).unwrap_err(), TreeError::BadName { offset: 8 });
}

#[test]
fn size_is_bounded() {
    let of = |size: usize| tree(|tree| tree.property("x", &alloc::vec![0; size]));
    let overhead = of(0).unwrap().len();
    let largest = usize::try_from(MAX_SIZE).unwrap() - overhead;
    let blob = of(largest).unwrap();
    assert_eq!(DeviceTree::parse(&blob).unwrap().root().property("x").unwrap().value.len(), largest);
    assert!(of(largest + 8).is_err());
}

#[test]
fn free_space_behind_the_content_need_not_be_there() {
    let mut blob = board();
    let size = u64::try_from(blob.len()).unwrap();
    set_word(&mut blob, 4, 1 << 30);
    let extent = DeviceTree::extent(&blob[..HEADER_SIZE]).unwrap();
    assert!(extent <= size && size < extent + 8);
    let content = &blob[..usize::try_from(extent).unwrap()];
    assert_eq!(DeviceTree::parse(content).unwrap().as_bytes(), board());
    let short = DeviceTree::parse(&content[..content.len() - 1]).unwrap_err();
    assert_eq!(short, TreeError::TooShort { needed: extent, given: extent - 1 });
}

#[test]
fn header_is_checked() {
    let with = |offset: usize, value: u32| {
        let mut blob = board();
        set_word(&mut blob, offset, value);
        DeviceTree::parse(&blob).map(|_| ())
    };
    let outside = |block| Err(TreeError::BlockOutside { block });
    assert_eq!(with(0, MAGIC), Ok(()));
    assert_eq!(with(0, MAGIC.swap_bytes()), Err(TreeError::BadMagic { found: MAGIC.swap_bytes() }));
    assert_eq!(with(20, 15), Err(TreeError::UnsupportedVersion { version: 15, last_compatible: 16 }));
    assert_eq!(with(24, 18), Err(TreeError::UnsupportedVersion { version: 17, last_compatible: 18 }));
    assert_eq!(with(20, 18), Ok(()));
    assert_eq!(with(8, u32::MAX), outside(Block::Structure));
    assert_eq!(with(12, u32::MAX), outside(Block::Strings));
    assert_eq!(with(16, u32::MAX - 7), outside(Block::Reservations));
    assert_eq!(with(8, 58), Err(TreeError::Misaligned { block: Block::Structure }));
    assert_eq!(with(16, 44), Err(TreeError::Misaligned { block: Block::Reservations }));
    assert_eq!(with(32, u32::MAX), outside(Block::Strings));
    assert_eq!(with(36, u32::MAX), outside(Block::Structure));
    assert_eq!(with(4, 64), outside(Block::Strings));
    let header = &board()[..HEADER_SIZE - 1];
    assert_eq!(DeviceTree::extent(header), Err(TreeError::TooShort { needed: 40, given: 39 }));
}

#[test]
fn content_above_the_limit_is_refused_from_the_header_alone() {
    let limit = u32::try_from(MAX_SIZE).unwrap();
    let mut blob = board();
    set_word(&mut blob, 4, u32::MAX);
    set_word(&mut blob, 12, limit);
    set_word(&mut blob, 32, 0);
    assert_eq!(DeviceTree::extent(&blob), Ok(MAX_SIZE));
    set_word(&mut blob, 32, 1);
    assert_eq!(DeviceTree::extent(&blob), Err(TreeError::TooLarge { size: MAX_SIZE + 1 }));
}

#[test]
fn version_16_reads_as_version_17() {
    let mut blob = board();
    set_word(&mut blob, 20, 16);
    set_word(&mut blob, 36, 0xdead_beef);
    assert_eq!(DeviceTree::parse(&blob).unwrap().as_bytes(), board());
}

#[test]
fn reservations_without_end_or_past_the_address_space_are_refused() {
    let structure: Vec<u8> = [BEGIN_NODE, 0, END_NODE, END].iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut blob = blob::assemble(&[1; 16], &structure, b"", 0).unwrap();
    assert_eq!(DeviceTree::parse(&blob).unwrap_err(), TreeError::ReservationsWithoutEnd);
    blob.truncate(40);
    let of = |address, size| {
        let mut tree = TreeWriter::new();
        node(&mut tree, "", |_| {});
        tree.reserve(address, size);
        tree.finish().map(|blob| DeviceTree::parse(&blob).unwrap().memory_reservations().count())
    };
    assert_eq!(of(u64::MAX, 0), Ok(0));
    assert_eq!(of(0, 1), Ok(1));
    assert_eq!(of(u64::MAX - 1, 1), Ok(1));
    assert_eq!(of(u64::MAX, 1), Err(WriteError::Unreadable(TreeError::BadReservation { address: u64::MAX, size: 1 })));
}

#[test]
fn padding_is_cleared_by_normalising() {
    let mut blob = raw(&[BEGIN_NODE, 0, PROPERTY, 1, 0, 0x0102_0304, END_NODE, END]);
    let tree = DeviceTree::parse(&blob).unwrap();
    assert_eq!(tree.root().property("a").unwrap().value, [1]);
    let place = word(&blob, 8) + 20;
    set_word(&mut blob, place, 0x0100_0000);
    assert_eq!(tree.as_bytes(), blob);
}

#[test]
fn writer_shares_names_and_reports_the_first_mistake() {
    let of = |content: fn(&mut TreeWriter)| {
        let mut tree = TreeWriter::new();
        content(&mut tree);
        tree.finish().map(|blob| word(&blob, 32))
    };
    assert_eq!(
        of(|tree| node(tree, "", |tree| {
            tree.property_empty("one");
            node(tree, "child", |tree| tree.property_empty("one"));
        })),
        Ok(4)
    );
    assert_eq!(of(|_| {}), Err(WriteError::Unbalanced));
    assert_eq!(of(|tree| tree.begin_node("")), Err(WriteError::Unbalanced));
    assert_eq!(of(|tree| tree.end_node()), Err(WriteError::Unbalanced));
    let bad = |name: &str| Err(WriteError::BadName { name: name.into() });
    assert_eq!(of(|tree| node(tree, "root", |_| {})), bad("root"));
    assert_eq!(of(|tree| node(tree, "", |tree| node(tree, "", |tree| tree.begin_node("/")))), bad(""));
    let second_root = |tree: &mut TreeWriter| (0..2).for_each(|_| node(tree, "", |_| {}));
    assert_eq!(of(second_root), Err(WriteError::Unbalanced));
    let misplaced = Err(WriteError::MisplacedProperty { name: "late".into() });
    assert_eq!(of(|tree| tree.property_empty("late")), misplaced);
    assert_eq!(
        of(|tree| node(tree, "", |tree| {
            node(tree, "child", |_| {});
            tree.property_empty("late");
        })),
        misplaced
    );
}

/// A tree as it is meant.
#[derive(Clone, Debug)]
struct Model {
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<(String, Model)>,
}

fn model() -> impl Strategy<Value = Model> {
    let properties = || prop::collection::vec((0..6u8, prop::collection::vec(any::<u8>(), 0..9)), 0..4);
    let leaf = properties().prop_map(|properties| Model { properties: named(properties), children: Vec::new() });
    leaf.prop_recursive(5, 40, 4, move |inner| {
        let children = prop::collection::vec((0..6u8, inner), 0..4);
        (properties(), children)
            .prop_map(|(properties, children)| Model { properties: named(properties), children: named(children) })
    })
}

/// Names things by a number, so that some repeat in the tree but none among neighbours.
fn named<T>(things: Vec<(u8, T)>) -> Vec<(String, T)> {
    let names = things.into_iter().enumerate();
    names.map(|(place, (kind, thing))| (std::format!("n{kind}@{place}"), thing)).collect()
}

fn write(model: &Model, tree: &mut TreeWriter) {
    for (name, value) in &model.properties {
        tree.property(name, value);
    }
    for (name, child) in &model.children {
        node(tree, name, |tree| write(child, tree));
    }
}

fn assert_same(node: Node<'_>, model: &Model) {
    let properties: Vec<_> =
        node.properties().map(|property| (property.name.into(), property.value.to_vec())).collect();
    assert_eq!(properties, model.properties);
    for (name, value) in &model.properties {
        assert_eq!(node.property(name).unwrap().value, value);
    }
    let children: Vec<_> = node.children().collect();
    assert_eq!(children.len(), model.children.len());
    for (child, (name, model)) in children.into_iter().zip(&model.children) {
        assert_eq!(child.name(), name);
        assert_same(child, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(model in model(), reserve in prop::collection::vec((1..1u64 << 48, 1..1u64 << 48), 0..3)) {
        let mut writer = TreeWriter::new();
        node(&mut writer, "", |tree| write(&model, tree));
        for (address, size) in &reserve {
            writer.reserve(*address, *size);
        }
        let blob = writer.finish().unwrap();
        let tree = DeviceTree::parse(&blob).unwrap();
        prop_assert_eq!(tree.as_bytes(), &blob);
        super::damage::read_by_fdt(&tree);
        assert_same(tree.root(), &model);
        let read: Vec<_> = tree.memory_reservations().map(|range| (range.start().get(), range.size())).collect();
        prop_assert_eq!(read, reserve);
    }

    #[test]
    fn nops_change_nothing(model in model(), counts in prop::collection::vec(0..4usize, 1..20)) {
        let mut writer = TreeWriter::new();
        node(&mut writer, "", |tree| write(&model, tree));
        let blob = writer.finish().unwrap();
        let mut counts = counts.into_iter().cycle();
        let with_nops = sprinkle(&blob, || counts.next().unwrap());
        let tree = DeviceTree::parse(&with_nops).unwrap();
        prop_assert_eq!(tree.as_bytes(), &blob);
    }
}

#[test]
fn nops_around_everything_of_the_board_change_nothing() {
    let blob = board();
    assert_eq!(DeviceTree::parse(&sprinkle(&blob, || 1)).unwrap().as_bytes(), blob);
}
