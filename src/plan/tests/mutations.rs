// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle itself: a finished plan passes, and each change of one owner in it does not.

use std::vec;

use super::*;
use crate::addr::{Ipa, IpaRange, Pa, PaRange};
use crate::config::{Delivery, FaultPolicy, Kernel, Partition, Restart};
use crate::id::{Mpidr, Trigger, VcpuId, Vmid};

/// A plan with everything in it: two partitions, one with a bus master.
fn rich(virt: &Virt) -> (Board, Plan) {
    let mut first = partition("first", &[0, 1], 32 * MIB);
    first.devices = vec![device("rtc")];
    first.initrd = Some(file(MIB, 4 * MIB));
    let mut second = partition("second", &[2], 32 * MIB);
    second.devices = vec![master("/virtio_mmio@a000000"), master("/virtio_mmio@a001000")];
    let (board, outcome) = plan(&virt.tree(), &manifest(vec![first, second]));
    assert_eq!(outcome.all_errors().count(), 0);
    (board, outcome.plan)
}

/// Makes the first partition's interrupts direct, with `intid` for its console.
fn spare(plan: &mut Plan, intid: u32) {
    plan.partitions[0].delivery = Delivery::Direct;
    plan.partitions[0].console.as_mut().unwrap().intid = Intid::new(intid);
}

type Mutation = (&'static str, fn(&mut Plan));

fn ipa_range(start: u64, size: u64) -> IpaRange {
    IpaRange::new(Ipa::new(start), size).unwrap()
}

fn pa_of(plan: &Plan, partition: usize) -> Pa {
    plan.partitions[partition].memory[0].pa
}

const MUTATIONS: [Mutation; 64] = [
    ("id of a neighbour", |p| p.partitions[1].id = p.partitions[0].id),
    ("id without a place", |p| p.partitions[1].id = PartitionId::new(64)),
    ("vmid of a neighbour", |p| p.partitions[1].vmid = p.partitions[0].vmid),
    ("vmid of nobody", |p| p.partitions[1].vmid = Vmid::new(0)),
    ("vmid of another id", |p| p.partitions[1].vmid = Vmid::new(9)),
    ("cpu of a neighbour", |p| p.partitions[1].vcpus[0].cpu = CpuId::new(0)),
    ("cpu and affinity of a neighbour", |p| {
        p.partitions[1].vcpus[0] = VcpuPlan { id: VcpuId::new(0), ..p.partitions[0].vcpus[1] }
    }),
    ("cpu twice in a partition", |p| p.partitions[0].vcpus[1].cpu = CpuId::new(0)),
    ("cpu that the board lacks", |p| p.partitions[1].vcpus[0].cpu = CpuId::new(9)),
    ("affinity of another cpu", |p| p.partitions[1].vcpus[0].mpidr = Mpidr::new(3)),
    ("vcpu out of order", |p| p.partitions[0].vcpus[0].id = VcpuId::new(1)),
    ("no vcpu", |p| p.partitions[1].vcpus.clear()),
    ("housekeeping on no cpu", |p| p.housekeeping = CpuId::new(40)),
    ("memory of a neighbour", |p| p.partitions[0].memory[0].pa = pa_of(p, 1)),
    ("a page of a neighbour", |p| p.partitions[0].memory[0].pa = Pa::new(pa_of(p, 1).get() + 32 * MIB - 4096)),
    ("a page more", |p| p.partitions[0].memory[0].size += GIB),
    ("no memory in a piece", |p| p.partitions[0].memory[0].size = 0),
    ("half a page", |p| p.partitions[0].memory[0].size += 0x800),
    ("memory past the end of addresses", |p| p.partitions[0].memory[0].size = !0xfff),
    ("memory of the hypervisor", |p| p.partitions[0].memory[0].pa = Pa::new(RAM + 6 * MIB)),
    ("memory of the bundle", |p| p.partitions[0].memory[0].pa = Pa::new(RAM + 128 * MIB)),
    ("memory that is none", |p| p.partitions[0].memory[0].pa = Pa::new(RAM + GIB)),
    ("memory that is a device", |p| p.partitions[0].memory[0].pa = Pa::new(0x900_0000)),
    ("memory twice in a partition", |p| {
        let again = MemoryPlan { ipa: Ipa::new(1 << 40), ..p.partitions[0].memory[0] };
        p.partitions[0].memory.push(again);
    }),
    ("memory where a master does not see it", |p| p.partitions[1].memory[0].ipa = Ipa::new(1 << 40)),
    ("memory beyond guest addresses", |p| p.partitions[0].memory[0].ipa = Ipa::new(1 << 48)),
    ("memory off its block", |p| p.partitions[0].memory[0].ipa = Ipa::new(RAM + 0x1000)),
    ("device of a neighbour", |p| {
        let theirs = p.partitions[1].mappings[0];
        p.partitions[0].mappings.push(theirs);
    }),
    ("device of the hypervisor", |p| p.partitions[0].mappings[0].pa = Pa::new(UART)),
    ("device at another address", |p| p.partitions[0].mappings[0].ipa = Ipa::new(0xb00_0000)),
    ("device of nobody", |p| p.partitions[0].mappings[0].pa = Pa::new(0x903_0000)),
    ("distributor mapped", |p| {
        p.partitions[0].mappings[0] = DeviceMapping { ipa: Ipa::new(0x800_0000), pa: Pa::new(0x800_0000), size: 4096 }
    }),
    ("memory mapped as a device", |p| {
        let pa = Pa::new(RAM + 900 * MIB);
        p.partitions[0].mappings.push(DeviceMapping { ipa: Ipa::new(pa.get()), pa, size: 4096 });
    }),
    ("device page too many", |p| p.partitions[0].mappings[0].size += 4096),
    ("device page lost", |p| p.partitions[0].mappings.clear()),
    ("device lost", |p| p.partitions[0].devices.clear()),
    ("device by registers of a neighbour", |p| p.partitions[0].devices[0].registers[0] = range(0xa00_0000, 0x200)),
    ("interrupt of a neighbour", |p| {
        let theirs = p.partitions[1].interrupts[0];
        p.partitions[0].interrupts.push(theirs);
    }),
    ("interrupt instead", |p| p.partitions[0].interrupts[0].intid = Intid::new(48)),
    ("interrupt of the console", |p| p.partitions[0].interrupts[0].intid = Intid::new(33)),
    ("interrupt of nobody", |p| p.partitions[0].interrupts[0].intid = Intid::new(99)),
    ("private interrupt", |p| p.partitions[0].interrupts[0].intid = Intid::new(27)),
    ("special interrupt", |p| {
        p.partitions[0].interrupts.push(InterruptPlan { intid: Intid::new(1023), trigger: Trigger::Edge })
    }),
    ("interrupt twice", |p| {
        let again = p.partitions[0].interrupts[0];
        p.partitions[0].interrupts.push(again);
    }),
    ("spare interrupt of a device of nobody", |p| spare(p, 39)),
    ("spare interrupt of a neighbour", |p| {
        spare(p, 32);
        p.partitions[1].delivery = Delivery::Direct;
        p.partitions[1].console.as_mut().unwrap().intid = Intid::new(32);
    }),
    ("spare interrupt that no GIC has", |p| spare(p, 1020)),
    ("interrupt lost", |p| p.partitions[0].interrupts.clear()),
    ("interrupt of a device lost", |p| p.partitions[0].devices[0].interrupts.clear()),
    ("console with a device's interrupt", |p| p.partitions[0].console.as_mut().unwrap().intid = Intid::new(34)),
    ("console with a private interrupt", |p| p.partitions[0].console.as_mut().unwrap().intid = Intid::new(27)),
    ("console of two pages", |p| p.partitions[0].console.as_mut().unwrap().range = ipa_range(UART, 0x2000)),
    ("console in memory", |p| p.partitions[0].console.as_mut().unwrap().range = ipa_range(RAM, 0x1000)),
    ("console over the distributor", |p| {
        p.partitions[0].console.as_mut().unwrap().range = ipa_range(0x800_0000, 0x1000)
    }),
    ("console over a device", |p| p.partitions[0].console.as_mut().unwrap().range = ipa_range(0x901_0000, 0x1000)),
    ("kernel outside memory", |p| p.partitions[0].load[0].range = ipa_range(RAM + 32 * MIB, 4096)),
    ("kernel at the edge of memory", |p| p.partitions[0].load[0].range = ipa_range(RAM + 31 * MIB, MIB + 4096)),
    ("initrd on the kernel", |p| p.partitions[0].load[1].range = p.partitions[0].load[0].range),
    ("file larger than its place", |p| p.partitions[0].load[0].file.as_mut().unwrap().size = GIB),
    ("tree on the kernel", |p| p.partitions[0].device_tree.as_mut().unwrap().ipa = Ipa::new(RAM)),
    ("tree off its boundary", |p| p.partitions[0].device_tree.as_mut().unwrap().ipa = Ipa::new(RAM + 16 * MIB + 4)),
    ("tree outside memory", |p| p.partitions[0].device_tree.as_mut().unwrap().ipa = Ipa::new(RAM + 32 * MIB - 8)),
    ("entry outside memory", |p| p.partitions[0].entry = Ipa::new(RAM + 32 * MIB)),
    ("entry between instructions", |p| p.partitions[0].entry = Ipa::new(RAM + 2)),
];

#[test]
fn each_change_of_an_owner_is_seen() {
    for virt in [Virt::default(), Virt::v2()] {
        let (board, plan) = rich(&virt);
        for (name, mutate) in MUTATIONS {
            let mut changed = plan.clone();
            mutate(&mut changed);
            assert!(check(&changed, &board, &placement()).is_err(), "{name} was not seen");
        }
    }
}

#[test]
fn each_loss_of_a_range_of_the_hypervisor_is_seen() {
    for virt in [Virt::default(), Virt::v2()] {
        let (board, plan) = rich(&virt);
        for place in 0..plan.hypervisor.len() {
            let mut changed = plan.clone();
            let lost = changed.hypervisor.remove(place);
            assert!(check(&changed, &board, &placement()).is_err(), "{lost:?} was not missed");
        }
    }
}

#[test]
fn each_change_of_the_interrupt_controller_is_seen() {
    let wrong_v2: [fn(&mut IpaRange, &mut IpaRange, &mut PaRange); 6] = [
        |d, _, _| *d = ipa_range(0x700_0000, 0x1_0000),
        |d, _, _| *d = ipa_range(0x800_0000, 0x1000),
        |_, c, _| *c = ipa_range(0x801_0000, 0x1000),
        |_, c, _| *c = ipa_range(0x701_0000, 0x2000),
        |_, _, v| *v = range(0x801_0000, 0x2000),
        |_, _, v| *v = range(0x806_0000, 0x3000),
    ];
    for interface in [0x1_0000, 0x2_0000] {
        let (board, plan) = rich(&Virt { interface, ..Virt::v2() });
        for (place, wrong) in wrong_v2.iter().enumerate() {
            let mut changed = plan.clone();
            let GuestGic::V2 { distributor, cpu_interface, virtual_interface } = &mut changed.partitions[0].gic else {
                panic!()
            };
            wrong(distributor, cpu_interface, virtual_interface);
            assert!(check(&changed, &board, &placement()).is_err(), "{place}");
        }
        // The first pages of a region of 64 KiB pages are not the pair that touches.
        let mut changed = plan.clone();
        let GuestGic::V2 { virtual_interface, .. } = &mut changed.partitions[0].gic else { panic!() };
        let other = if interface == 0x1_0000 { 0x806_f000 } else { 0x806_0000 };
        *virtual_interface = range(other, 0x2000);
        assert!(check(&changed, &board, &placement()).is_err());
    }
    let (board, plan) = rich(&Virt::default());
    for wrong in [ipa_range(0x80a_0000, 0x2_0000), ipa_range(0x80a_0000, 0x6_0000), ipa_range(0x80c_0000, 0x4_0000)] {
        let mut changed = plan.clone();
        let GuestGic::V3 { redistributors, .. } = &mut changed.partitions[0].gic else { panic!() };
        *redistributors = wrong;
        assert!(check(&changed, &board, &placement()).is_err(), "{wrong}");
    }
    let (_, of_v2) = rich(&Virt::v2());
    let mut changed = plan.clone();
    changed.partitions[0].gic = of_v2.partitions[0].gic;
    assert!(check(&changed, &board, &placement()).is_err());
}

/// A partition that runs once, whose kernel and initrd lie in the bundle, beside another.
fn once() -> (Board, Plan) {
    let mut once = partition("once", &[0], 32 * MIB);
    once.restart = Restart::Never;
    once.kernel = Kernel::Image { file: file(2 * MIB, 5 * MIB + 7), text_offset: 0, image_size: 6 * MIB };
    once.initrd = Some(file(8 * MIB, 4096));
    let (board, outcome) = plan(&Virt::default().tree(), &manifest(vec![once, partition("other", &[1], 32 * MIB)]));
    assert_eq!(outcome.all_errors().count(), 0);
    (board, outcome.plan)
}

#[test]
fn images_in_place_lie_on_the_pages_of_the_bundle() {
    let (board, plan) = once();
    assert_eq!(check(&plan, &board, &placement()), Ok(()));
    let once = &plan.partitions[0];
    assert!(once.load.iter().all(|load| load.in_place) && plan.partitions[1].load.iter().all(|load| !load.in_place));
    let bundle = placement().bundle.start().get();
    for load in &once.load {
        let piece = once.memory.iter().find(|piece| piece.ipa == load.range.start()).unwrap();
        let file = load.file.unwrap();
        assert_eq!((piece.pa.get(), piece.size), (bundle + file.offset, file.size.next_multiple_of(4096)));
    }
    // The guest sees one piece of memory without a gap.
    let mut pieces = once.memory.clone();
    pieces.sort_by_key(|piece| piece.ipa);
    assert!(pieces.windows(2).all(|pair| pair[0].ipa.get() + pair[0].size == pair[1].ipa.get()));
    assert_eq!(pieces.iter().map(|piece| piece.size).sum::<u64>(), 32 * MIB);
}

#[test]
fn what_cannot_be_used_in_place_is_copied() {
    let shared = || partition("b", &[1], 32 * MIB);
    let with_master = || Partition { devices: vec![master("/virtio_mmio@a000000")], ..partition("a", &[0], 32 * MIB) };
    let at_the_end = || Partition {
        kernel: Kernel::Image { file: file(48 * MIB - 4096, 4000), text_offset: 0, image_size: 8192 },
        ..partition("a", &[0], 32 * MIB)
    };
    let cases = [vec![partition("a", &[0], 32 * MIB), shared()], vec![with_master()], vec![at_the_end()]];
    for mut partitions in cases {
        partitions[0].restart = Restart::Never;
        let (board, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
        assert_eq!(outcome.all_errors().count(), 0);
        assert!(outcome.plan.partitions[0].load.iter().all(|load| !load.in_place));
        assert_eq!(check(&outcome.plan, &board, &placement()), Ok(()));
    }
}

#[test]
fn each_way_to_use_in_place_what_is_not_ones_own_is_found() {
    const WRONG: [Mutation; 9] = [
        ("restart allowed", |p| p.partitions[0].restart = Restart::Allowed),
        ("restart for a fault", |p| p.partitions[0].on_fault = FaultPolicy::Restart { attempts: 1, within_ms: 1 }),
        ("copied all the same", |p| p.partitions[0].load[0].in_place = false),
        ("another page of the bundle", |p| in_bundle(p).pa = Pa::new(RAM + 128 * MIB + 16 * MIB)),
        ("a page more", |p| in_bundle(p).size += 4096),
        ("a page less", |p| in_bundle(p).size -= 4096),
        ("a file that another partition loads", |p| p.partitions[1].load[0].file = p.partitions[0].load[0].file),
        ("a file that it loads twice", |p| p.partitions[0].load[1].file = p.partitions[0].load[0].file),
        ("the pages of the manifest", |p| {
            in_bundle(p).pa = Pa::new(RAM + 176 * MIB - 4096);
            p.partitions[0].load[0].file = Some(file(48 * MIB - 4096, 5 * MIB + 7));
        }),
    ];
    fn in_bundle(plan: &mut Plan) -> &mut MemoryPlan {
        let at = plan.partitions[0].load[0].range.start();
        plan.partitions[0].memory.iter_mut().find(|piece| piece.ipa == at).unwrap()
    }
    let (board, plan) = once();
    for (what, change) in WRONG {
        let mut changed = plan.clone();
        change(&mut changed);
        assert!(check(&changed, &board, &placement()).is_err(), "{what}");
    }
}

#[test]
fn plan_of_another_board_is_not_carried_out() {
    let (_, plan) = rich(&Virt::default());
    let boards = [Virt { ram: 64 * MIB, ..Virt::default() }, Virt { cpus: 2, ..Virt::default() }, Virt::v2()];
    for virt in boards {
        let board = Board::read(&virt.tree(), None).unwrap();
        assert!(check(&plan, &board, &placement()).is_err(), "{virt:?}");
    }
    let board = Board::read(&Virt::default().tree(), None).unwrap();
    let mut moved = placement();
    moved.hypervisor = range(pa_of(&plan, 0).get(), 4096);
    assert!(check(&plan, &board, &moved).is_err());
}

/// A parked CPU runs whatever address it finds there, at EL2.
#[test]
fn page_with_a_release_address_is_nobodys() {
    let tree = Virt::default().tree();
    let mut board = Board::read(&tree, None).unwrap();
    let manifest = manifest(vec![partition("a", &[0], 16 * MIB)]);
    let before = build(&manifest, &board, &tree, &placement()).plan;
    let release = Pa::new(pa_of(&before, 0).get() + 5 * MIB + 8);
    board.cpus[3].enable = CpuEnable::SpinTable { release };
    assert!(check(&before, &board, &placement()).is_err());
    let after = build(&manifest, &board, &tree, &placement()).plan;
    assert_eq!(check(&after, &board, &placement()), Ok(()));
    assert!(!after.partitions[0].memory[0].pa_range().unwrap().contains(release));
}
