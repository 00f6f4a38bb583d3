// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers, one by one: what each reads after a reset, what writes stick, which widths and offsets answer.

use std::vec;
use std::vec::Vec;

use super::fake::{Board, BoardConfig};
use super::*;
use crate::mmio::Width::{Byte, Double, Half, Word};

fn board(model: Model, cpus: usize) -> Board {
    let owned = vec![(40, Trigger::Level), (41, Trigger::Edge)];
    Board::new(BoardConfig { model, cpus, lrs: 4, owned, linked_ppis: 1 << 27 | 1 << 30 })
}

/// Values that a hostile guest writes.
const VALUES: [u64; 4] = [u64::MAX, 0, 0xaaaa_aaaa_aaaa_aaaa, 0x0101_0101_0101_0101];

#[test]
fn every_offset_width_and_value_of_the_distributor_answers() {
    for model in [Model::V2, Model::V3] {
        let board = board(model, 3);
        for value in VALUES {
            for width in Width::ALL {
                for offset in (0..0x1100).chain(0x5ff0..0x8010).chain(0xff00..0x1_0010) {
                    board.write(0, offset, width, value);
                    let read = board.read(1, offset, width);
                    assert_eq!(read & !width.mask(), 0, "{offset:#x} reads more than its width");
                    if offset % 64 == 0 {
                        board.settle();
                    }
                }
                board.write(2, u64::MAX, width, value);
                assert_eq!(board.read(2, u64::MAX, width), 0);
            }
        }
    }
}

#[test]
fn every_offset_width_and_value_of_the_redistributors_answers() {
    let board = board(Model::V3, 3);
    for value in VALUES {
        for width in Width::ALL {
            for frame in 0..8 {
                for offset in (0..0x1100).chain(0xff00..0x1_0000) {
                    let offset = frame * 0x1_0000 + offset;
                    board.write_redistributor(0, offset, width, value);
                    let read = board.read_redistributor(1, offset, width);
                    assert_eq!(read & !width.mask(), 0, "{offset:#x} reads more than its width");
                    if offset % 64 == 0 {
                        board.settle();
                    }
                }
            }
            board.write_redistributor(0, u64::MAX, width, value);
        }
    }
}

#[test]
fn redistributors_of_gicv2_are_not_there() {
    let board = board(Model::V2, 2);
    board.write_redistributor(0, 0x1_0100, Word, u64::MAX);
    assert_eq!(board.read_redistributor(0, 0x08, Double), 0);
}

#[test]
fn v3_distributor_reads_as_after_a_reset() {
    let board = board(Model::V3, 2);
    for (offset, value) in [
        (0x0000, 0x50),                            // CTLR: ARE, DS
        (0x0004, 2 | 9 << 19 | 1 << 24 | 1 << 25), // TYPER: 96 ids, 10 id bits, A3V, No1N
        (0x0008, 0x5300_043b),                     // IIDR
        (0x000c, 0),                               // TYPER2
        (0x0010, 0),                               // STATUSR
        (0x0084, 0),                               // IGROUPR1
        (0x0104, 0),                               // ISENABLER1
        (0x0c08, 0x0008_0000),                     // ICFGR2: 41 is edge-triggered by the tree
        (0x0c0c, 0),
        (0x0d04, 0), // IGRPMODR1
        (0x0e04, 0), // NSACR1
        (0x0f00, 0), // SGIR
        (0x6100, 0), // IROUTER32
        (0xffd0, 0x44),
        (0xffe0, 0x92),
        (0xffe4, 0xb4),
        (0xffe8, 0x3b), // PIDR2: GICv3
        (0xfff0, 0x0d),
        (0xfff4, 0xf0),
        (0xfff8, 0x05),
        (0xfffc, 0xb1),
    ] {
        assert_eq!(board.read(1, offset, Word), value, "at {offset:#x}");
    }
}

#[test]
fn v3_redistributor_reads_as_after_a_reset() {
    let board = board(Model::V3, 2);
    for (offset, width, value) in [
        (0x0000, Word, 0),                             // CTLR
        (0x0004, Word, 0x5300_043b),                   // IIDR
        (0x0008, Double, 0),                           // TYPER of vCPU 0: not the last
        (0x2_0008, Double, 1 << 32 | 1 << 8 | 1 << 4), // TYPER of vCPU 1: affinity 1, number 1, Last
        (0x2_0008, Word, 1 << 8 | 1 << 4),
        (0x2_000c, Word, 1),
        (0x0014, Word, 6), // WAKER: asleep
        (0xffe8, Word, 0x3b),
        (0x1_0c00, Word, 0xaaaa_aaaa), // ICFGR0: SGIs are edge-triggered
        (0x1_0c04, Word, 0),
        (0x1_0800, Word, 0),   // no ITARGETSR
        (0x1_0104, Word, 0),   // no second word
        (0x1_ffe8, Word, 0),   // no identification in the SGI frame
        (0x4_0008, Double, 0), // no third vCPU
    ] {
        assert_eq!(board.read_redistributor(0, offset, width), value, "at {offset:#x}");
    }
    board.write_redistributor(0, 0x14, Word, 0);
    assert_eq!(board.read_redistributor(1, 0x14, Word), 0);
    assert_eq!(board.read_redistributor(1, 0x2_0014, Word), 6);
}

#[test]
fn v2_distributor_reads_as_after_a_reset() {
    let board = board(Model::V2, 3);
    for (offset, value) in [
        (0x000, 0),
        (0x004, 2 | 2 << 5), // TYPER: 96 ids, three CPUs
        (0x008, 0x5300_043b),
        (0x100, 0xffff), // ISENABLER0: SGIs are always enabled
        (0x104, 0),
        (0x800, 0x0202_0202), // ITARGETSR0: the reader
        (0x81c, 0x0202_0202),
        (0x820, 0),
        (0xc00, 0xaaaa_aaaa),
        (0xf00, 0),
        (0xf10, 0),
        (0xfd0, 0x04),
        (0xfe0, 0x90),
        (0xfe4, 0xb4),
        (0xfe8, 0x2b), // PIDR2: GICv2
        (0xff0, 0x0d),
        (0xffc, 0xb1),
        (0x1000, 0),
    ] {
        assert_eq!(board.read(1, offset, Word), value, "at {offset:#x}");
    }
}

#[test]
fn arrays_keep_what_is_written() {
    for model in [Model::V2, Model::V3] {
        let board = board(model, 2);
        board.write(0, 0x84, Word, 0x1234_5678);
        assert_eq!(board.read(1, 0x84, Word), 0x1234_5678);
        board.write(0, 0x440, Word, 0xffa7_10f8);
        // Five bits of a priority are kept.
        assert_eq!(board.read(1, 0x440, Word), 0xf8a0_10f8);
        board.write(1, 0x441, Byte, 0x55);
        assert_eq!(board.read(0, 0x440, Word), 0xf8a0_50f8);
        assert_eq!(board.read(0, 0x442, Byte), 0xa0);
        board.write(0, 0xc0c, Word, 0xffff_ffff);
        assert_eq!(board.read(0, 0xc0c, Word), 0xaaaa_aaaa);
        board.write(0, 0xc00, Word, 0);
        assert_eq!(board.read_any(0, 0, 0xc00, Word, true), 0xaaaa_aaaa);
        // The timers stay level-sensitive, the other PPIs do not.
        board.write_any(0, 0, 0xc04, Word, true, 0xffff_ffff);
        assert_eq!(board.read_any(0, 0, 0xc04, Word, true), 0xaaaa_aaaa & !(3 << 22 | 3 << 28));
    }
}

#[test]
fn widths_that_the_architecture_does_not_have_are_ignored() {
    let board = board(Model::V3, 2);
    for (offset, width) in
        [(0x104, Byte), (0x104, Half), (0x104, Double), (0x106, Word), (0x440, Half), (0x440, Double)]
    {
        board.write(0, offset, width, u64::MAX);
        assert_eq!(board.read(0, offset, width), 0, "{width:?} at {offset:#x}");
    }
    assert_eq!((board.read(0, 0x104, Word), board.read(0, 0x440, Word)), (0, 0));
}

#[test]
fn irouter_keeps_affinity_and_nothing_else() {
    let board = board(Model::V3, 2);
    board.write(0, 0x6100, Double, u64::MAX);
    assert_eq!(board.read(0, 0x6100, Double), 0xff_00ff_ffff);
    board.write(0, 0x6100, Word, 1);
    board.write(0, 0x6104, Word, 0x1_0000);
    assert_eq!(board.read(1, 0x6100, Double), 1);
    assert_eq!(board.read(1, 0x6104, Word), 0);
    // Ids below 32 have none, and there is no id 96.
    board.write(0, 0x60f8, Double, u64::MAX);
    board.write(0, 0x6300, Double, u64::MAX);
    assert_eq!((board.read(0, 0x60f8, Double), board.read(0, 0x6300, Double)), (0, 0));
}

#[test]
fn itargetsr_keeps_existing_cpus_only() {
    let board = board(Model::V2, 3);
    board.write(0, 0x820, Word, 0xff05_0208);
    assert_eq!(board.read(0, 0x820, Word), 0x0705_0200);
    board.write(0, 0x823, Byte, 1);
    assert_eq!(board.read(0, 0x820, Word), 0x0105_0200);
}

#[test]
fn itargetsr_of_a_single_cpu_reads_as_zero() {
    let board = board(Model::V2, 1);
    board.write(0, 0x820, Word, u64::MAX);
    assert_eq!((board.read(0, 0x800, Word), board.read(0, 0x820, Word)), (0, 0));
}

#[test]
fn ids_from_1020_on_do_not_exist() {
    let cpus = [CpuId::new(0)];
    let interrupts = [1019, 1020, 1023, 31].map(|id| InterruptPlan { intid: Intid::new(id), trigger: Trigger::Level });
    let vgic = Vgic::new(&VgicConfig {
        model: Model::V3,
        cpus: &cpus,
        spi_words: 40,
        priority_bits: 5,
        linked_ppis: 0,
        interrupts: &interrupts,
    })
    .unwrap();
    let mut outcomes: Vec<Outcome> = Vec::new();
    vgic.distributor_write(VcpuId::new(0), 0x100 + 31 * 4, Word, u64::MAX, |outcome| outcomes.push(outcome));
    assert_eq!(outcomes[0].hw, HwChange::Enable { word: 31, mask: 1 << 27 });
    vgic.distributor_write(VcpuId::new(0), 0x200 + 31 * 4, Word, u64::MAX, |_| {});
    assert_eq!(vgic.spi_bank(31).unwrap().ready() >> 28, 0);
    assert!(vgic.owns(Intid::new(1019)) && !vgic.owns(Intid::new(1020)) && !vgic.owns(Intid::new(31)));
}

#[test]
fn too_many_vcpus_are_refused() {
    let cpus = [CpuId::new(0); 33];
    let make = |model, count: usize| {
        Vgic::new(&VgicConfig {
            model,
            cpus: &cpus[..count],
            spi_words: 1,
            priority_bits: 5,
            linked_ppis: 0,
            interrupts: &[],
        })
        .err()
    };
    assert_eq!(make(Model::V2, 8), None);
    assert_eq!(make(Model::V2, 9), Some(VgicError::VcpuCount { count: 9, limit: 8 }));
    assert_eq!(make(Model::V3, 32), None);
    assert_eq!(make(Model::V3, 33), Some(VgicError::VcpuCount { count: 33, limit: 32 }));
    assert_eq!(make(Model::V3, 0), Some(VgicError::VcpuCount { count: 0, limit: 32 }));
}

#[test]
fn enabling_an_spi_that_is_not_owned_changes_no_hardware() {
    let board = board(Model::V3, 1);
    let enable = |mask: u64| {
        let mut hw = Vec::new();
        board.vgic.distributor_write(VcpuId::new(0), 0x104, Word, mask, |outcome| hw.push(outcome.hw));
        hw
    };
    assert_eq!(enable(!(1 << 8 | 1 << 9)), [HwChange::None]);
    assert_eq!(enable(u64::MAX), [HwChange::Enable { word: 1, mask: 1 << 8 | 1 << 9 }]);
}

#[test]
fn sgi_reaches_each_kind_of_target() {
    let board = board(Model::V3, 3);
    let vgic = &board.vgic;
    (0..3).for_each(|cpu| board.write_redistributor(0, cpu * 0x2_0000 + 0x1_0080, Word, u64::MAX));
    let send = |register, value: u64| {
        vgic.vcpus.iter().for_each(|vcpu| vcpu.bank.latch.store(0, SeqCst));
        vgic.sgi(VcpuId::new(1), register, value).bits()
    };
    for (register, value, told) in [
        (SgiRegister::Sgi1, 0x0200_0005, 0b101),           // a target list
        (SgiRegister::Sgi1, 0x0200_0002, 0b010),           // oneself
        (SgiRegister::Sgi1, 0x0200_fff8, 0),               // nobody there
        (SgiRegister::Sgi1, 1 << 40 | 0x0200_0002, 0b101), // all but oneself
        (SgiRegister::Sgi1, 1 << 44 | 0x0200_0001, 0),     // range 1: affinity 16
        (SgiRegister::Sgi1, 1 << 16 | 0x0200_0001, 0),     // another Aff1
        (SgiRegister::Sgi1, 1 << 32 | 0x0200_0001, 0),     // another Aff2
        (SgiRegister::Sgi1, 1 << 48 | 0x0200_0001, 0),     // another Aff3
        (SgiRegister::Sgi0, 0x0200_0001, 0),               // Group 1 there
        (SgiRegister::Asgi1, 0x0200_0001, 0),
    ] {
        assert_eq!(send(register, value), told, "{value:#x}");
    }
    board.write_redistributor(0, 0x1_0080, Word, 0);
    assert_eq!(send(SgiRegister::Sgi1, 0x0200_0001), 0);
    assert_eq!(send(SgiRegister::Sgi0, 0x0200_0001), 1);
}

#[test]
fn an_sgi_that_is_pending_is_told_of_once() {
    let board = board(Model::V3, 2);
    let send = || board.vgic.sgi(VcpuId::new(1), SgiRegister::Sgi0, 0x0200_0001).bits();
    assert_eq!((send(), send()), (1, 0));
    board.vgic.vcpus[0].bank.latch.store(0, SeqCst);
    assert_eq!(send(), 1);
}

#[test]
fn sgi_reaches_vcpus_of_the_second_cluster() {
    let cpus = [CpuId::new(0); 18];
    let vgic = Vgic::new(&VgicConfig {
        model: Model::V3,
        cpus: &cpus,
        spi_words: 1,
        priority_bits: 5,
        linked_ppis: 0,
        interrupts: &[],
    })
    .unwrap();
    vgic.online.store(u32::MAX, SeqCst);
    assert_eq!(vgic.sgi(VcpuId::new(0), SgiRegister::Sgi0, 1 << 16 | 3).bits(), 3 << 16);
    assert_eq!(vgic.sgi(VcpuId::new(0), SgiRegister::Sgi0, 1 << 16 | 4).bits(), 0);
}

#[test]
fn sgir_reaches_each_kind_of_target() {
    let board = board(Model::V2, 3);
    let send = |value: u32| board.vgic.sgir(VcpuId::new(1), value).bits();
    assert_eq!(send(0x00ff_0003), 0b111);
    assert_eq!(send(0x0005_0003), 0b101);
    assert_eq!(send(0x01ff_0003), 0b101);
    assert_eq!(send(0x0200_0003), 0b010);
    assert_eq!(send(0x03ff_0003), 0);
}

#[test]
fn sgis_of_two_sources_stay_distinct() {
    let board = board(Model::V2, 3);
    (0..3).for_each(|cpu| board.cpus[cpu].borrow_mut().groups = 3);
    board.write(0, 0, Word, 3);
    board.write(0, 0xf00, Word, 0x0004_0007);
    board.write(1, 0xf00, Word, 0x0004_0007);
    board.write(1, 0xf00, Word, 0x0004_0007);
    board.settle();
    assert_eq!(board.read(2, 0xf14, Word), 0x0300_0000);
    assert_eq!(board.read(2, 0xf27, Byte), 3);
    let mut sources = Vec::new();
    while let Some(lr) = board.acknowledge(2) {
        sources.push(lr.source());
        board.end(2, 7);
        board.settle();
    }
    assert_eq!(sources, [0, 1]);
}

#[test]
fn sgi_sources_can_be_set_and_cleared_one_by_one() {
    let board = board(Model::V2, 3);
    board.cpus[0].borrow_mut().groups = 3;
    board.write(0, 0, Word, 3);
    board.write(0, 0xf20, Word, 0x0000_0506);
    board.settle();
    assert_eq!(board.read(0, 0xf10, Word), 0x0000_0506);
    assert_eq!(board.read(0, 0x200, Word) & 0xffff, 3);
    board.write(0, 0xf11, Byte, 1);
    board.write(0, 0xf10, Byte, 0xff);
    board.settle();
    assert_eq!(board.read(0, 0xf20, Word), 0x0000_0400);
    assert_eq!(board.acknowledge(0).map(|lr| (lr.intid().get(), lr.source())), Some((1, 2)));
    board.end(0, 1);
    board.settle();
    assert_eq!(board.acknowledge(0), None);
}

#[test]
fn nesting_deeper_than_the_list_registers_ends_in_order() {
    for model in [Model::V2, Model::V3] {
        let board = board(model, 1);
        board.cpus[0].borrow_mut().groups = 3;
        board.write(0, 0, Word, 3);
        board.write(0, 0x104, Word, 0xffff_ffff);
        // 16 levels, the first one the least urgent; 40 and 41 have hardware.
        let ids: Vec<usize> = (32..48).collect();
        for (level, &id) in ids.iter().enumerate() {
            board.write(0, 0x400 + id as u64, Byte, 0xf0 - 8 * level as u64);
            if board.linked(id) {
                board.set_wire(0, id, true);
            } else {
                board.write(0, 0x204, Word, 1 << (id - 32));
            }
            board.settle();
            assert_eq!(board.acknowledge(0).map(|lr| lr.intid().index()), Some(id));
            if board.linked(id) {
                board.set_wire(0, id, false);
            }
            board.settle();
        }
        assert_eq!(board.read(0, 0x304, Word), 0xffff);
        for (left, &id) in ids.iter().enumerate().rev() {
            board.end(0, id);
            board.settle();
            assert_eq!(board.read(0, 0x304, Word), (1 << left) - 1, "after the end of {id}");
        }
    }
}

#[test]
fn stopped_vcpu_keeps_its_pending_spis_for_whoever_they_are_moved_to() {
    let board = board(Model::V3, 2);
    (0..2).for_each(|cpu| board.cpus[cpu].borrow_mut().groups = 3);
    board.write(0, 0, Word, 3);
    board.write(0, 0x104, Word, 1 << 8 | 1);
    board.write(0, 0x6000 + 8 * 40, Double, 1);
    board.write(0, 0x6000 + 8 * 32, Double, 1);
    board.set_wire(1, 40, true);
    board.write(0, 0x204, Word, 1);
    board.settle();
    assert_eq!(board.highest(1).map(|(_, lr)| lr.intid().index()), Some(32));
    board.stop(1);
    board.settle();
    board.write(0, 0x6000 + 8 * 40, Double, 0);
    board.write(0, 0x6000 + 8 * 32, Double, 0);
    board.settle();
    let taken = [board.acknowledge(0), board.cpus[0].borrow().lrs.iter().find(|lr| lr.is_pending()).copied()];
    assert_eq!(taken.map(|lr| lr.map(|lr| lr.intid().index())), [Some(32), Some(40)]);
}

#[test]
fn reset_leaves_nothing_behind() {
    for model in [Model::V2, Model::V3] {
        let board = board(model, 2);
        let before: Vec<u64> = (0..0x1000).step_by(4).map(|offset| board.read(0, offset, Word)).collect();
        for offset in (0..0x1000).step_by(4) {
            board.write(0, offset, Word, 0xffff_ffff);
            board.settle();
        }
        let _ = board.vgic.set_line(Intid::new(33), Level::High);
        (0..2).for_each(|cpu| board.stop(cpu));
        board.vgic.reset();
        *board.spis.borrow_mut() = vec![fake::Physical::default(); fake::IDS];
        board.cpus.iter().for_each(|cpu| cpu.borrow_mut().private = [fake::Physical::default(); 32]);
        (0..2).for_each(|cpu| board.start(cpu));
        board.settle();
        let after: Vec<u64> = (0..0x1000).step_by(4).map(|offset| board.read(0, offset, Word)).collect();
        assert_eq!(before, after);
    }
}
