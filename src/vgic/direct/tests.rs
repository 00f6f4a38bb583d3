// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest reads and writes, and what of it reaches the physical registers: nothing of anybody else's.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::mmio::Width::{Byte, Double, Word};

const TIMERS: u32 = 1 << 27 | 1 << 30;
const OWNED: [(u32, Trigger); 4] =
    [(32, Trigger::Edge), (40, Trigger::Level), (41, Trigger::Edge), (97, Trigger::Level)];
/// Values that a hostile guest writes.
const VALUES: [u64; 5] = [u64::MAX, 0, 0xaaaa_aaaa_aaaa_aaaa, 0x0101_0101_0101_0101, 1];

/// Three vCPUs, 128 ids, four SPIs of which 32 is spare.
fn direct() -> Direct {
    let owned = OWNED.map(|(id, trigger)| InterruptPlan { intid: Intid::new(id), trigger });
    Direct::new(3, 3, TIMERS, &owned, Some(Intid::new(32)))
}

fn write(direct: &Direct, offset: u64, width: Width, value: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    direct.write_distributor(offset, width, value, |effect| effects.push(effect));
    effects
}

fn write_redistributor(direct: &Direct, offset: u64, width: Width, value: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    direct.write_redistributor(offset, width, value, |effect| effects.push(effect));
    effects
}

fn bit_effect(frame: Frame, operation: Operation, word: usize, mask: u32) -> Effect {
    Effect::Bits { frame, operation, word, mask }
}

const SPIS: Frame = Frame::Distributor;

/// The interrupts of a word of a frame that the partition owns, told apart from the module's own bookkeeping.
fn owned(frame: Frame, word: usize) -> u32 {
    match frame {
        Frame::Redistributor(who) if who.get() < 3 && word == 0 => 0xffff | TIMERS,
        Frame::Redistributor(_) => 0,
        Frame::Distributor if word == 0 => 0,
        Frame::Distributor => {
            OWNED.iter().filter(|(id, _)| *id as usize / 32 == word).fold(0, |mask, (id, _)| mask | 1 << (id % 32))
        }
    }
}

/// Fails if an effect concerns anything that is not the partition's, or is as urgent as the hypervisor's.
fn assert_own(effect: Effect) {
    let is_own = |frame, intid: Intid| owned(frame, intid.index() / 32) >> (intid.get() % 32) & 1 == 1;
    match effect {
        Effect::Bits { frame, word, mask, .. } => assert_eq!(mask & !owned(frame, word), 0, "{effect:?}"),
        Effect::Priority { frame, intid, priority } => assert!(is_own(frame, intid) && priority >= 0x80, "{effect:?}"),
        Effect::Config { word, mask, .. } => assert!(word != 0 && mask & !owned(SPIS, word) == 0, "{effect:?}"),
        Effect::Route { intid, vcpu } => assert!(is_own(SPIS, intid) && vcpu.get() < 3, "{effect:?}"),
    }
}

fn assert_own_reading(reading: Reading, width: Width) {
    match reading {
        Reading::Value(value) => assert_eq!(value & !width.mask(), 0, "{reading:?}"),
        Reading::Bits { frame, word, mask, .. } => assert_eq!(mask & !owned(frame, word), 0, "{reading:?}"),
        Reading::Priorities { frame, first, lane, mask } => {
            let word = owned(frame, first.index() / 32);
            assert_eq!(mask & !(word >> ((first.get() + lane) % 32)), 0, "{reading:?}");
            assert!(lane == 0 || mask <= 1, "{reading:?}");
        }
        Reading::Config { first, mask } => {
            let fields = (0..16).filter(|n| mask >> (2 * n) & 3 != 0);
            let word = owned(SPIS, first.index() / 32) >> (first.get() % 32);
            fields.for_each(|n| assert_eq!(word >> n & 1, 1, "{reading:?}"));
        }
    }
}

#[test]
fn no_access_of_any_offset_width_or_value_names_what_is_not_owned() {
    let direct = direct();
    for value in VALUES {
        for width in Width::ALL {
            for offset in (0..0x1100).chain(0x5ff0..0x8010).chain(0xff00..0x1_0010).chain([u64::MAX]) {
                direct.write_distributor(offset, width, value, assert_own);
                assert_own_reading(direct.read_distributor(offset, width), width);
            }
            for frame in 0..8 {
                for offset in (0..0x1100).chain(0xff00..0x1_0000) {
                    let offset = frame * 0x1_0000 + offset;
                    direct.write_redistributor(offset, width, value, assert_own);
                    assert_own_reading(direct.read_redistributor(offset, width), width);
                }
            }
            direct.write_redistributor(u64::MAX, width, value, assert_own);
        }
    }
    direct.reset(assert_own);
}

#[test]
fn physical_priorities_are_below_the_hypervisors_and_round_trip() {
    for seen in 0..=0xff_u8 {
        let physical = physical_priority(seen);
        assert!(physical >= 0x80);
        assert_eq!(seen_priority(physical), seen & 0xfe);
        assert_eq!(seen_running_priority(physical.into()), if physical == 0xff { 0xff } else { (seen & 0xfe).into() });
    }
    for physical in 0..0x80 {
        assert_eq!((seen_priority(physical), seen_running_priority(physical.into())), (0, 0));
    }
    assert_eq!(seen_running_priority(0xff), 0xff);
    // More urgent there is more urgent here.
    assert!((1..=0xff_u8).all(|seen| physical_priority(seen) >= physical_priority(seen - 1)));
}

#[test]
fn guest_changes_eoi_mode_of_its_control_register_alone() {
    assert_eq!(physical_control(0x400, u64::MAX), 0x402);
    assert_eq!(physical_control(0x402, 0), 0x400);
    assert_eq!(seen_control(0x443), 0x402);
    assert!(splits_eoi(2) && !splits_eoi(0x401));
}

#[test]
fn distributor_reads_as_the_non_secure_side_after_a_reset() {
    let direct = direct();
    for (offset, value) in [
        (0x0000, 0x10),                                      // CTLR: ARE_NS
        (0x0004, 3 | 1 << 10 | 9 << 19 | 1 << 24 | 1 << 25), // TYPER: SecurityExtn
        (0x0008, 0x5300_043b),                               // IIDR
        (0x0084, 0),                                         // IGROUPR1: RAZ
        (0x0104, 0),                                         // ISENABLER1
        (0x0d04, 0),                                         // IGRPMODR1
        (0x6100, 0),                                         // IROUTER32
        (0xffe8, 0x3b),                                      // PIDR2
        (0xfffc, 0xb1),                                      // CIDR3
    ] {
        assert_eq!(direct.read_distributor(offset, Word), Reading::Value(value), "at {offset:#x}");
    }
    assert_eq!(write(&direct, 0, Word, 0x37), []);
    assert_eq!(direct.read_distributor(0, Word), Reading::Value(0x12));
    assert_eq!(write(&direct, 0x84, Word, u64::MAX), []);
}

#[test]
fn redistributor_reads_as_after_a_reset() {
    let direct = direct();
    for (offset, width, value) in [
        (0x0008, Double, 0),
        (0x4_0008, Double, 2 << 32 | 2 << 8 | 1 << 4),
        (0x0014, Word, 6),
        (0xffe8, Word, 0x3b),
        (0x1_0080, Word, 0),
        (0x1_0c00, Word, 0xaaaa_aaaa),
        (0x1_0c04, Word, 0),
        (0x6_0008, Double, 0),
    ] {
        assert_eq!(direct.read_redistributor(offset, width), Reading::Value(value), "at {offset:#x}");
    }
    assert_eq!(write_redistributor(&direct, 0x14, Word, 0), []);
    assert_eq!(direct.read_redistributor(0x14, Word), Reading::Value(0));
}

#[test]
fn enables_reach_the_hardware_while_the_guest_takes_its_group() {
    let direct = direct();
    let second = Frame::Redistributor(VcpuId::new(1));
    assert_eq!(write(&direct, 0x104, Word, 0x300), []);
    assert_eq!(write_redistributor(&direct, 0x3_0100, Word, u64::MAX), []);
    assert_eq!(direct.read_distributor(0x184, Word), Reading::Value(0x300));
    let on = write(&direct, 0, Word, 2);
    let enable = Operation::SetEnable;
    assert_eq!(on, [bit_effect(second, enable, 0, 0xffff | TIMERS), bit_effect(SPIS, enable, 1, 0x300)]);
    assert_eq!(write(&direct, 0x104, Word, 0xffff), [bit_effect(SPIS, enable, 1, 0x301)]);
    assert_eq!(write(&direct, 0x184, Word, 0x1), [bit_effect(SPIS, Operation::ClearEnable, 1, 1)]);
    let off = write(&direct, 0, Word, 0);
    assert!(off.contains(&bit_effect(SPIS, Operation::ClearEnable, 1, 0x301)), "{off:?}");
    assert!(off.contains(&bit_effect(second, Operation::ClearEnable, 0, 0xffff | TIMERS)), "{off:?}");
    assert_eq!(direct.read_distributor(0x104, Word), Reading::Value(0x300));
}

#[test]
fn pending_and_active_bits_are_the_hardwares() {
    let direct = direct();
    for (offset, operation) in [
        (0x204, Operation::SetPending),
        (0x284, Operation::ClearPending),
        (0x304, Operation::SetActive),
        (0x384, Operation::ClearActive),
    ] {
        assert_eq!(write(&direct, offset, Word, u64::MAX), [bit_effect(SPIS, operation, 1, 0x301)]);
        assert_eq!(write(&direct, offset, Word, !0x301), []);
    }
    let pending = Reading::Bits { frame: SPIS, operation: Operation::SetPending, word: 1, mask: 0x301 };
    assert_eq!(direct.read_distributor(0x284, Word), pending);
    let third = Frame::Redistributor(VcpuId::new(2));
    let active = Reading::Bits { frame: third, operation: Operation::SetActive, word: 0, mask: 0xffff | TIMERS };
    assert_eq!(direct.read_redistributor(0x5_0300, Word), active);
    // Private interrupts are not in the distributor.
    assert_eq!(direct.read_distributor(0x200, Word), Reading::Value(0));
    assert_eq!(write(&direct, 0x200, Word, u64::MAX), []);
}

#[test]
fn priorities_are_written_byte_by_byte_in_the_lower_half() {
    let direct = direct();
    let priority = |frame, id, priority| Effect::Priority { frame, intid: Intid::new(id), priority };
    assert_eq!(write(&direct, 0x428, Word, 0xffff_a000), [priority(SPIS, 40, 0x80), priority(SPIS, 41, 0xd0)]);
    assert_eq!(write(&direct, 0x429, Byte, 0x20), [priority(SPIS, 41, 0x90)]);
    assert_eq!(write(&direct, 0x42a, Byte, 0x20), []);
    let first = Frame::Redistributor(VcpuId::new(0));
    assert_eq!(write_redistributor(&direct, 0x1_041b, Byte, 0xff), [priority(first, 27, 0xff)]);
    // CNTHP and the maintenance interrupt.
    assert_eq!(write_redistributor(&direct, 0x1_041a, Byte, 0), []);
    assert_eq!(write_redistributor(&direct, 0x1_0419, Byte, 0), []);
    assert_eq!(
        direct.read_distributor(0x429, Byte),
        Reading::Priorities { frame: SPIS, first: Intid::new(40), lane: 1, mask: 1 }
    );
    assert_eq!(Reading::priorities(0x10a0_d090, 0, 0b0111), 0x40_a020);
    assert_eq!(Reading::priorities(0x10a0_d090, 1, 1), 0xa0);
    assert_eq!(Reading::priorities(0x1000_0000, 3, 1), 0);
}

#[test]
fn trigger_changes_while_the_interrupt_is_disabled_and_a_spare_one_stays() {
    let direct = direct();
    let config = |mask, edge| Effect::Config { word: 1, mask, edge };
    // 32 is spare; 40 and 41 stand in ICFGR2.
    assert_eq!(write(&direct, 0xc08, Word, u64::MAX), [config(0x300, 0x300)]);
    assert_eq!(direct.read_distributor(0xc08, Word), Reading::Config { first: Intid::new(32), mask: 2 | 0xa_0000 });
    write(&direct, 0, Word, 2);
    write(&direct, 0x104, Word, 0x100);
    let off = bit_effect(SPIS, Operation::ClearEnable, 1, 0x100);
    let on = bit_effect(SPIS, Operation::SetEnable, 1, 0x100);
    assert_eq!(write(&direct, 0xc08, Word, 0), [off, config(0x300, 0), on]);
    assert_eq!(write(&direct, 0xc0c, Word, u64::MAX), []);
    assert_eq!(write_redistributor(&direct, 0x1_0c04, Word, u64::MAX), []);
}

#[test]
fn route_to_nobody_parks_the_interrupt() {
    let direct = direct();
    write(&direct, 0, Word, 2);
    write(&direct, 0x104, Word, 0x100);
    let off = bit_effect(SPIS, Operation::ClearEnable, 1, 0x100);
    let on = bit_effect(SPIS, Operation::SetEnable, 1, 0x100);
    let to = |vcpu| Effect::Route { intid: Intid::new(40), vcpu: VcpuId::new(vcpu) };
    assert_eq!(write(&direct, 0x6140, Double, 2), [off, to(2), on]);
    assert_eq!(write(&direct, 0x6140, Double, 3), [off]);
    assert_eq!(direct.read_distributor(0x6140, Double), Reading::Value(3));
    assert_eq!(direct.read_distributor(0x104, Word), Reading::Value(0x100));
    // Parked, it is not enabled by anything.
    assert_eq!(write(&direct, 0x104, Word, 0x100), []);
    assert_eq!(write(&direct, 0x6140, Word, 1), [off, to(1), on]);
    assert_eq!(write(&direct, 0x6144, Word, 1), [off]);
    assert_eq!(write(&direct, 0x6140, Double, u64::MAX), [off]);
    assert_eq!(direct.read_distributor(0x6140, Double), Reading::Value(0xff_00ff_ffff));
    // Nobody's.
    assert_eq!(write(&direct, 0x6130, Double, 0), []);
}

#[test]
fn sgis_reach_vcpus_of_the_partition_and_nobody_else() {
    let direct = direct();
    let me = VcpuId::new(1);
    let send = |register, value| direct.sgi(me, register, value).map_or(0, |sgi| sgi.targets.bits());
    for (value, targets) in [
        (0x0200_0005, 0b101),
        (0x0200_0002, 0b010),
        (0x0200_fff8, 0),
        (1 << 40 | 0x0200_0002, 0b101),
        (1 << 44 | 0x0200_0001, 0),
        (1 << 16 | 0x0200_0001, 0),
        (1 << 32 | 0x0200_0001, 0),
        (1 << 48 | 0x0200_0001, 0),
        (!(1 << 40), 0),
    ] {
        assert_eq!(send(SgiRegister::Sgi1, value), targets, "{value:#x}");
        // The Secure groups are not the guest's to raise.
        assert_eq!(direct.sgi(me, SgiRegister::Sgi0, value), None);
        assert_eq!(direct.sgi(me, SgiRegister::Asgi1, value), None);
    }
    assert_eq!(direct.sgi(me, SgiRegister::Sgi1, 0x0f00_0001).unwrap().intid, Intid::new(15));
}

#[test]
fn guest_deactivates_its_own_alone() {
    let direct = direct();
    let owned: Vec<u32> = (0..1024).filter(|id| direct.owns(Intid::new(*id))).collect();
    let expected: Vec<u32> = (0..16).chain([27, 30, 32, 40, 41, 97]).collect();
    assert_eq!(owned, expected);
    assert!(!direct.owns(Intid::new(u32::MAX)));
}

#[test]
fn reset_forgets_what_the_guest_has_written() {
    let direct = direct();
    write(&direct, 0, Word, 2);
    write(&direct, 0x104, Word, u64::MAX);
    write(&direct, 0x6140, Double, 2);
    let mut effects = vec![];
    direct.reset(|effect| effects.push(effect));
    assert_eq!(direct.read_distributor(0, Word), Reading::Value(0x10));
    assert_eq!(direct.read_distributor(0x104, Word), Reading::Value(0));
    assert_eq!(direct.read_distributor(0x6140, Double), Reading::Value(0));
    let third = Frame::Redistributor(VcpuId::new(2));
    for operation in [Operation::ClearEnable, Operation::ClearPending, Operation::ClearActive] {
        assert!(effects.contains(&bit_effect(third, operation, 0, 0xffff | TIMERS)));
        assert!(effects.contains(&bit_effect(SPIS, operation, 3, 2)));
    }
    assert!(effects.contains(&Effect::Config { word: 1, mask: 0x301, edge: 0x201 }));
    assert!(effects.contains(&Effect::Route { intid: Intid::new(97), vcpu: VcpuId::new(0) }));
}
