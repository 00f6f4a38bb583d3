// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random boards and configurations: the oracle accepts what the planner accepts, and counting pages one by one agrees.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::ToString;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::config::{Console, Device, DeviceTreeAt, FileRange, Kernel, Memory, Segment};
use crate::devicetree::TreeWriter;
use crate::id::VcpuId;

/// A device of a random board.
#[derive(Clone, Debug)]
struct Part {
    page: u64,
    offset: u64,
    size: u64,
    spi: u32,
    is_master: bool,
}

impl Part {
    fn address(&self) -> u64 {
        0xb00_0000 + self.page * PAGE_SIZE + self.offset
    }

    fn name(&self, index: usize) -> String {
        let kind = if self.is_master { "dma" } else { "gpio" };
        format!("{kind}{index}@{:x}", self.address())
    }

    fn write(&self, w: &mut TreeWriter, index: usize) {
        w.begin_node(&self.name(index));
        w.property_str("compatible", if self.is_master { "acme,x-dma" } else { "acme,x" });
        reg(w, &[(self.address(), self.size)]);
        w.property_cells("interrupts", &[0, self.spi, 4]);
        w.end_node();
    }
}

/// A board and a configuration for it.
#[derive(Clone, Debug)]
struct Case {
    virt: Virt,
    parts: Vec<Part>,
    /// Offset in RAM and size.
    reserved: Vec<(u64, u64)>,
    partitions: Vec<Partition>,
}

impl Case {
    fn tree(&self) -> DeviceTree {
        self.virt.tree_with(|w| {
            for (index, part) in self.parts.iter().enumerate() {
                part.write(w, index);
            }
            w.begin_node("reserved-memory");
            w.property_u32("#address-cells", 2);
            w.property_u32("#size-cells", 2);
            w.property_empty("ranges");
            for (index, (offset, size)) in self.reserved.iter().enumerate() {
                w.begin_node(&format!("keep{index}@{:x}", RAM + offset));
                reg(w, &[(RAM + offset, *size)]);
                w.end_node();
            }
            w.end_node();
        })
    }
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = (0..16u64, 0..4u64, select(&[0x200u64, 0x400, 0x1000, 0x2000][..]), 40..60u32, any::<bool>());
    let part = part.prop_map(|(page, quarter, size, spi, is_master)| {
        let offset = if size < PAGE_SIZE { quarter * 0x400 } else { 0 };
        Part { page, offset, size, spi, is_master }
    });
    vec(part, 0..8)
}

fn virt() -> impl Strategy<Value = Virt> {
    let more = proptest::option::of((0..64u64, 1..512u64));
    (2..=3u32, 2..9u32, 192..768u64, 0..64u64, more, any::<bool>()).prop_map(
        |(gic, cpus, mib, pages, more, is_wide)| {
            let more_ram = more.map(|(at, mib)| (0x1_0000_0000 + at * PAGE_SIZE, mib * MIB)).into_iter().collect();
            let interface = if is_wide { 0x2_0000 } else { 0x1_0000 };
            Virt { gic, cpus, ram: mib * MIB + pages * PAGE_SIZE, slots: 10, interface, more_ram }
        },
    )
}

/// How large a piece is, and where it is said to be.
fn piece() -> impl Strategy<Value = Memory> {
    let size = prop_oneof![
        6 => (1..32u64).prop_map(|blocks| blocks * 2 * MIB),
        2 => (512..2048u64).prop_map(|pages| pages * PAGE_SIZE),
        1 => (64..512u64).prop_map(|mib| mib * MIB),
    ];
    let at = || proptest::option::weighted(0.1, (0..200u64).prop_map(|mib| RAM + mib * MIB));
    (size, at(), at()).prop_map(|(size, ipa, pa)| Memory { size, ipa: ipa.map(Ipa::new), pa: pa.map(Pa::new) })
}

/// What makes a partition, but for its CPUs and devices.
fn shape() -> impl Strategy<Value = Partition> {
    let sizes = (1..300u64, proptest::option::of(1..300u64), 0..3u64);
    (vec(piece(), 1..3), sizes, 0..20u8).prop_map(|(memory, (kernel, initrd, offset), odd)| {
        let mut shape = partition("", &[], 0);
        shape.memory = memory;
        let (file_size, text_offset) = (kernel * PAGE_SIZE, offset * 0x8_0000);
        let image_size = file_size + PAGE_SIZE;
        shape.kernel = Kernel::Image { file: file(4096, file_size), text_offset, image_size };
        shape.initrd = initrd.map(|pages| file(4 * MIB, pages * PAGE_SIZE));
        match odd {
            0 => shape.console = Console::None,
            1 => shape.device_tree = DeviceTreeAt::None,
            2 => shape.device_tree = DeviceTreeAt::At(Ipa::new(RAM + 3 * MIB)),
            3 => shape.console = Console::Virtual { ipa: Some(Ipa::new(0xd00_0000)) },
            _ => {}
        }
        shape
    })
}

/// Deals CPUs and devices out to partitions, each to one, but for some cheating.
fn deal(virt: &Virt, parts: &[Part], mut partitions: Vec<Partition>, picks: &[Index], cheats: u8) -> Vec<Partition> {
    let count = partitions.len();
    for (index, shape) in partitions.iter_mut().enumerate() {
        shape.name = format!("p{index}");
    }
    let mut picks = picks.iter().cycle();
    let mut pick = move |below: usize| picks.next().unwrap().index(below);
    for cpu in 0..virt.cpus {
        let owner = if usize::try_from(cpu).unwrap() < count { usize::try_from(cpu).unwrap() } else { pick(count) };
        partitions[owner].cpus.push(CpuId::new(u8::try_from(cpu).unwrap()));
    }
    // A page goes to one partition with all that is in it, and so does an interrupt; a cheat leaves that out.
    let mut owner_of: BTreeMap<(u8, u64), usize> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        let chosen = pick(count + 1);
        let pages = [(0, part.page), (0, part.page + (part.size - 1) / PAGE_SIZE), (1, part.spi.into())];
        let owner = match pages.iter().find_map(|page| owner_of.get(page)) {
            Some(owner) if cheats & 1 == 0 => *owner,
            _ => chosen,
        };
        for page in pages {
            owner_of.entry(page).or_insert(owner);
        }
        if let Some(shape) = partitions.get_mut(owner) {
            let unsafe_dma = part.is_master || cheats & 2 == 0;
            shape.devices.push(Device { node: format!("/{}", part.name(index)), unsafe_dma });
        }
    }
    if cheats & 4 != 0 {
        let (thief, cpu) = (pick(count), pick(10));
        partitions[thief].cpus.push(CpuId::new(u8::try_from(cpu).unwrap()));
    }
    partitions
}

fn case() -> impl Strategy<Value = Case> {
    let reserved = vec((0..150u64, 1..64u64), 0..3);
    let cheats = prop_oneof![4 => Just(0u8), 1 => any::<u8>()];
    (virt(), parts(), reserved, vec(shape(), 1..5), vec(any::<Index>(), 16), cheats).prop_map(
        |(virt, parts, reserved, partitions, picks, cheats)| {
            let partitions = deal(&virt, &parts, partitions, &picks, cheats);
            let mut offsets = BTreeSet::new();
            let reserved = reserved.into_iter().filter(|(mib, _)| offsets.insert(*mib));
            let reserved = reserved.map(|(mib, pages)| (mib * MIB + 0x800, pages * PAGE_SIZE)).collect();
            Case { virt, parts, reserved, partitions }
        },
    )
}

/// Counts pages one by one, from the case itself and not from what was read of its tree.
fn count_pages(case: &Case, plan: &Plan) -> Result<(), TestCaseError> {
    let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
    let placement = placement();
    for kept in [placement.hypervisor, placement.bundle] {
        for page in (kept.start().get()..kept.end().get()).step_by(4096) {
            owners.insert(page, "hypervisor");
        }
    }
    for (offset, size) in &case.reserved {
        let start = (RAM + offset) & !0xfff;
        for page in (start..RAM + offset + size).step_by(4096) {
            owners.insert(page, "reserved");
        }
    }
    owners.insert(UART, "console");
    let ram: Vec<(u64, u64)> =
        core::iter::once((RAM, case.virt.ram)).chain(case.virt.more_ram.iter().copied()).collect();
    let is_ram = |page: u64| ram.iter().any(|(start, size)| (*start..start + size).contains(&page));
    let mut cpus = BTreeSet::new();
    let mut spis = BTreeSet::new();
    for partition in &plan.partitions {
        let mut guest = BTreeSet::new();
        for piece in &partition.memory {
            for offset in (0..piece.size).step_by(4096) {
                let page = piece.pa.get() + offset;
                prop_assert!(is_ram(page));
                prop_assert_eq!(owners.insert(page, &partition.name), None);
                prop_assert!(guest.insert(piece.ipa.get() + offset));
            }
        }
        for mapping in &partition.mappings {
            for offset in (0..mapping.size).step_by(4096) {
                let page = mapping.pa.get() + offset;
                prop_assert!(!is_ram(page) && (0xb00_0000..0xc00_0000).contains(&page));
                prop_assert_eq!(owners.insert(page, &partition.name), None);
                prop_assert!(guest.insert(mapping.ipa.get() + offset));
            }
        }
        prop_assert!(
            partition.vcpus.iter().all(|vcpu| cpus.insert(vcpu.cpu) && u32::from(vcpu.cpu.get()) < case.virt.cpus)
        );
        prop_assert!(partition.interrupts.iter().all(|line| spis.insert(line.intid) && line.intid.is_spi()));
    }
    Ok(())
}

/// What the guest's own tree says must be what it has.
fn read_trees(plan: &Plan) -> Result<(), TestCaseError> {
    for partition in &plan.partitions {
        let Some(tree) = &partition.device_tree else { continue };
        let read = DeviceTree::parse(&tree.blob).unwrap();
        let told: u64 = read.memory().iter().map(|range| range.size()).sum();
        prop_assert_eq!(told, partition.memory.iter().map(|piece| piece.size).sum::<u64>());
        let board = Board::read(&read, None);
        // A GICv2 of a guest has no GICV, and no GIC of a guest has a maintenance interrupt.
        let is_guest =
            matches!(board, Err(BoardError::GicUnreadable { .. } | BoardError::NoMaintenanceInterrupt { .. }));
        prop_assert!(is_guest);
    }
    Ok(())
}

/// Changes one owner in a plan of two partitions at least.
fn steal(plan: &mut Plan, kind: usize, thief: usize, victim: usize, place: Index) -> bool {
    let (mut taken, theirs) = (plan.partitions[thief].clone(), plan.partitions[victim].clone());
    match kind {
        0 => taken.vmid = theirs.vmid,
        1 => {
            let vcpu = theirs.vcpus[place.index(theirs.vcpus.len())];
            let last = taken.vcpus.len();
            taken.vcpus.push(VcpuPlan { id: VcpuId::new(u8::try_from(last).unwrap()), ..vcpu });
        }
        2 => {
            let piece = theirs.memory[place.index(theirs.memory.len())];
            let page = u64::try_from(place.index(usize::try_from(piece.size / 4096).unwrap())).unwrap() * 4096;
            let pa = Pa::new(piece.pa.get() + page);
            taken.memory.push(MemoryPlan { ipa: Ipa::new((1 << 40) + (pa.get() & 0x1f_ffff)), pa, size: 4096 });
        }
        3 if !theirs.mappings.is_empty() => {
            let mapping = theirs.mappings[place.index(theirs.mappings.len())];
            taken.mappings.push(DeviceMapping { size: 4096, ..mapping });
        }
        4 if !theirs.interrupts.is_empty() => {
            taken.interrupts.push(theirs.interrupts[place.index(theirs.interrupts.len())]);
        }
        5 => {
            let kept = &plan.hypervisor[place.index(plan.hypervisor.len())];
            let pa = kept.range.start();
            taken.memory.push(MemoryPlan { ipa: Ipa::new((1 << 40) + (pa.get() & 0x1f_ffff)), pa, size: 4096 });
        }
        _ => return false,
    }
    plan.partitions[thief] = taken;
    true
}

#[test]
fn what_the_planner_accepts_the_oracle_and_counting_accept() {
    let (all, accepted, stolen) = (Cell::new(0u32), Cell::new(0u32), Cell::new(0u32));
    let mut runner = TestRunner::new(Config { cases: 160, failure_persistence: None, ..Config::default() });
    let thief = (0..6usize, any::<Index>(), any::<Index>(), any::<Index>());
    let result = runner.run(&(case(), thief), |(case, (kind, thief, victim, place))| {
        let tree = case.tree();
        let board = Board::read(&tree, None).unwrap();
        let outcome = build(&manifest(case.partitions.clone()), &board, &tree, &placement());
        prop_assert_eq!(check(&outcome.plan, &board, &placement()), Ok(()));
        count_pages(&case, &outcome.plan)?;
        read_trees(&outcome.plan)?;
        prop_assert_eq!(outcome.plan.partitions.len() + outcome.refused.len(), case.partitions.len());
        prop_assert!(!report(&outcome.plan, &board).to_string().is_empty());
        all.set(all.get() + 1);
        accepted.set(accepted.get() + u32::from(outcome.refused.is_empty()));
        let count = outcome.plan.partitions.len();
        if count >= 2 {
            let mut plan = outcome.plan;
            let thief = thief.index(count);
            let victim = (thief + 1 + victim.index(count - 1)) % count;
            if steal(&mut plan, kind, thief, victim, place) {
                prop_assert!(check(&plan, &board, &placement()).is_err(), "theft {} was not seen", kind);
                stolen.set(stolen.get() + 1);
            }
        }
        Ok(())
    });
    std::println!("{} cases, {} accepted whole, {} thefts", all.get(), accepted.get(), stolen.get());
    result.unwrap();
    assert!(accepted.get() * 10 >= all.get() * 3, "too few cases are accepted to prove anything");
    assert!(stolen.get() >= 20, "too few thefts to prove anything");
}

/// Numbers as they come from a file that somebody means ill with.
fn hostile() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        select(&[0, 1, 4095, 4096, u64::MAX, u64::MAX - 4095, 1 << 47, 1 << 48, 1 << 63, RAM, RAM + 16 * MIB][..]),
        (0..64u64).prop_map(|shift| 1 << shift),
    ]
}

fn hostile_partition() -> impl Strategy<Value = Partition> {
    let maybe = || proptest::option::of(hostile());
    let memory = (hostile(), maybe(), maybe()).prop_map(|(size, ipa, pa)| Memory {
        size,
        ipa: ipa.map(Ipa::new),
        pa: pa.map(Pa::new),
    });
    let range = || (hostile(), hostile()).prop_map(|(offset, size)| FileRange { offset, size });
    let segment = (hostile(), proptest::option::of(range()), hostile()).prop_map(|(ipa, file, memory_size)| Segment {
        ipa: Ipa::new(ipa),
        file,
        memory_size,
    });
    let kernel = prop_oneof![
        (range(), hostile(), hostile()).prop_map(|(file, text_offset, image_size)| Kernel::Image {
            file,
            text_offset,
            image_size
        }),
        (vec(segment, 0..4), hostile())
            .prop_map(|(segments, entry)| Kernel::Segments { segments, entry: Ipa::new(entry) }),
    ];
    let devices = vec(
        select(&["rtc", "/", "", "serial0", "/timer", "/virtio_mmio@a000000", "/cpus", "nonsense", "/intc"][..]),
        0..4,
    );
    (vec(any::<u8>(), 0..40), vec(memory, 0..4), kernel, proptest::option::of(range()), devices, maybe(), any::<bool>())
        .prop_map(|(cpus, memory, kernel, initrd, devices, address, unsafe_dma)| {
            let mut odd = partition("odd\0name", &cpus, 0);
            odd.memory = memory;
            odd.kernel = kernel;
            odd.initrd = initrd;
            odd.devices = devices.iter().map(|node| Device { node: node.to_string(), unsafe_dma }).collect();
            odd.device_tree = address.map_or(DeviceTreeAt::Auto, |address| DeviceTreeAt::At(Ipa::new(address)));
            odd.console = Console::Virtual { ipa: address.map(Ipa::new) };
            odd
        })
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_manifest_panics_or_passes_the_oracle_by(partitions in vec(hostile_partition(), 0..70), gic in 2..=3u32) {
        let tree = Virt { gic, slots: 4, ..Virt::default() }.tree();
        let board = Board::read(&tree, None).unwrap();
        let outcome = build(&manifest(partitions), &board, &tree, &placement());
        prop_assert_eq!(check(&outcome.plan, &board, &placement()), Ok(()));
        for error in outcome.all_errors() {
            prop_assert!(error.to_string().len() < 4096);
        }
    }

    #[test]
    fn no_tree_panics_or_passes_the_oracle_by(changes in vec((any::<Index>(), any::<u8>()), 1..12), gic in 2..=3u32) {
        let mut blob = Virt { gic, slots: 9, ..Virt::default() }.tree().as_bytes().to_vec();
        // The structure block alone: a damaged header is refused before anything is read.
        for (place, value) in changes {
            let place = 40 + place.index(blob.len() - 40);
            blob[place] = value;
        }
        if let Ok(tree) = DeviceTree::parse(&blob)
            && let Ok(board) = Board::read(&tree, None)
        {
            let mut first = partition("first", &[0, 1], 64 * MIB);
            first.devices = std::vec![device("rtc"), master("/virtio_mmio@a000000")];
            let mut second = partition("second", &[2], 16 * MIB);
            second.devices = std::vec![master("/virtio_mmio@a001000"), device("/pl061@9030000")];
            let outcome = build(&manifest(std::vec![first, second]), &board, &tree, &placement());
            prop_assert_eq!(check(&outcome.plan, &board, &placement()), Ok(()));
        }
    }
}
