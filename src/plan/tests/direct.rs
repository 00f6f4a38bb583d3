// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct delivery of interrupts: where it is possible, what it needs, and who keeps house.

use super::*;
use crate::config::{Console, Delivery};

fn refusals(virt: &Virt, security: Security, partition: Partition) -> Vec<(Key, String)> {
    let tree = virt.tree();
    let mut board = Board::read(&tree, None).unwrap();
    board.gic.facts.security = security;
    let outcome = build(&manifest(vec![partition]), &board, &tree, &placement());
    assert_eq!(check(&outcome.plan, &board, &placement()), Ok(()));
    outcome.all_errors().map(|error| (error.at.key, error.to_string())).collect()
}

#[test]
fn direct_needs_a_gicv3_with_one_security_state() {
    for (virt, security, why) in [
        (Virt::default(), Security::One, None),
        (Virt::default(), Security::Two, Some("two security states")),
        (Virt::default(), Security::Unknown, Some("it is not known")),
        (Virt::v2(), Security::One, Some("GICv2")),
    ] {
        let found = refusals(&virt, security, direct("a", &[0], 16 * MIB));
        match why {
            None => assert_eq!(found, []),
            Some(why) => {
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].0, Key::Interrupts);
                assert!(found[0].1.contains(why) && found[0].1.contains("write \"virtual\""), "{found:?}");
            }
        }
        assert_eq!(refusals(&virt, security, partition("a", &[0], 16 * MIB)), []);
    }
}

#[test]
fn console_of_a_direct_partition_has_an_interrupt_that_no_node_names() {
    let mut silent = direct("silent", &[2], 16 * MIB);
    silent.console = Console::None;
    let partitions =
        vec![direct("a", &[0], 16 * MIB), partition("v", &[1], 16 * MIB), silent, direct("b", &[3], 16 * MIB)];
    let (board, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
    let spares: Vec<Option<u32>> =
        outcome.plan.partitions.iter().map(|p| p.spare_interrupt().map(|spare| spare.intid.get())).collect();
    // 33, 34 and 39 are the UART's, the clock's and the GPIO's; 48 to 79 are the slots'.
    assert_eq!(spares, [Some(32), None, None, Some(35)]);
    assert_eq!(outcome.plan.partitions[1].console.unwrap().intid, Intid::new(33));
    assert!(board.gic.named.contains(&Intid::new(79)) && !board.gic.named.contains(&Intid::new(80)));
    assert_eq!(outcome.plan.partitions[0].delivery, Delivery::Direct);
}

#[test]
fn interrupts_behind_a_map_are_somebodys() {
    let tree = Virt::default().tree_with(|w| {
        w.begin_node("pcie@10000000");
        w.property_u32("#address-cells", 3);
        w.property_u32("#interrupt-cells", 1);
        w.property_cells("interrupt-map-mask", &[0x1800, 0, 0, 7]);
        w.property_cells("interrupt-map", &[0, 0, 0, 1, 0x8005, 0, 0, 0, 3, 4, 0, 0, 0, 2, 0x8005, 0, 0, 0, 4, 4]);
        w.end_node();
    });
    let (board, outcome) = plan(&tree, &manifest(vec![direct("a", &[0], 16 * MIB), direct("b", &[1], 16 * MIB)]));
    assert!([35, 36].into_iter().all(|id| board.gic.named.contains(&Intid::new(id))), "{:?}", board.gic.named);
    let spare = outcome.plan.partitions[1].spare_interrupt().unwrap();
    assert_eq!(spare.intid, Intid::new(37));
}

#[test]
fn gic_without_a_spare_interrupt_is_said() {
    let tree = Virt::default().tree();
    let mut board = Board::read(&tree, None).unwrap();
    board.gic.facts = GicFacts { security: Security::One, intid_limit: 64 };
    board.gic.named = (32..63).map(Intid::new).collect();
    let partitions = manifest(vec![direct("a", &[0], 16 * MIB), direct("b", &[1], 16 * MIB)]);
    let outcome = build(&partitions, &board, &tree, &placement());
    assert_eq!(outcome.plan.partitions.len(), 1);
    assert!(matches!(outcome.refused[0].errors[0].problem, Problem::NoSpareInterrupt { .. }));
}

#[test]
fn housekeeping_stays_away_from_direct_partitions_where_it_can() {
    let four = |partitions| {
        let (_, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
        outcome.plan.housekeeping.get()
    };
    let small = 16 * MIB;
    // A partition whose interrupts take exits anyway; then an idle CPU; then the last partition's.
    assert_eq!(four(vec![partition("v", &[1], small), direct("d", &[0], small)]), 1);
    assert_eq!(four(vec![direct("c", &[0], small), direct("d", &[1, 3], small)]), 2);
    assert_eq!(four(vec![direct("c", &[0, 2], small), direct("d", &[3, 1], small)]), 1);
}

#[test]
fn report_says_that_a_direct_partition_has_exits_for_housekeeping() {
    let shown = |cpus: &[u8]| {
        let (board, outcome) = plan(&Virt::default().tree(), &manifest(vec![direct("d", cpus, 16 * MIB)]));
        report(&outcome.plan, &board).to_string()
    };
    assert!(shown(&[0, 1, 2, 3]).contains("`d` has exits for housekeeping on this CPU"));
    assert!(!shown(&[0, 1, 2]).contains("exits for housekeeping"));
    assert!(shown(&[0]).contains("direct: they arrive at the guest with no exit"));
}
