// SPDX-License-Identifier: MIT OR Apache-2.0
mod direct;
mod errors;
mod guest;
mod mutations;
mod random;

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::testing::*;
use super::*;
use crate::config::{Manifest, Partition};
use crate::devicetree::DeviceTree;
use crate::id::{CpuId, Intid, PartitionId};

/// Plans and checks, on a GIC with one security state.
fn plan(tree: &DeviceTree, manifest: &Manifest) -> (Board, Outcome) {
    let mut board = Board::read(tree, manifest.hypervisor.uart.as_deref()).unwrap();
    board.gic.facts.security = Security::One;
    let outcome = build(manifest, &board, tree, &placement());
    assert_eq!(check(&outcome.plan, &board, &placement()), Ok(()));
    (board, outcome)
}

/// Plans partitions that all fit.
fn all_fit(virt: &Virt, partitions: Vec<Partition>) -> Plan {
    let (_, outcome) = plan(&virt.tree(), &manifest(partitions));
    let errors: Vec<String> = outcome.all_errors().map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    outcome.plan
}

#[test]
fn guests_share_guest_addresses_and_no_physical_ones() {
    for virt in [Virt::default(), Virt::v2()] {
        let mut linux = partition("linux", &[0, 1], 256 * MIB);
        linux.devices = vec![device("rtc")];
        linux.initrd = Some(file(0x20_0000, 8 * MIB));
        let plan = all_fit(&virt, vec![linux, partition("control", &[2], 16 * MIB)]);
        let [first, second] = plan.partitions.as_slice() else { panic!("{plan:?}") };
        assert_eq!(first.memory[0].ipa, second.memory[0].ipa);
        assert_eq!(first.memory[0].ipa.get(), RAM);
        assert!(!first.memory[0].pa_range().unwrap().overlaps(&second.memory[0].pa_range().unwrap()));
        assert_eq!((first.vmid.get(), second.vmid.get()), (1, 2));
        assert_eq!(first.interrupts, vec![InterruptPlan { intid: Intid::new(34), trigger: crate::id::Trigger::Level }]);
        assert_eq!(plan.housekeeping, CpuId::new(2));
    }
}

#[test]
fn refused_partition_leaves_its_neighbours_their_ids() {
    let partitions =
        vec![partition("a", &[0], 16 * MIB), partition("b", &[9], 16 * MIB), partition("c", &[2], 16 * MIB)];
    let (_, outcome) = plan(&Virt::default().tree(), &manifest(partitions));
    assert_eq!(outcome.refused.len(), 1);
    assert_eq!(outcome.refused[0].id, PartitionId::new(1));
    assert!(outcome.plan.partition(PartitionId::new(1)).is_none());
    assert_eq!(outcome.plan.partition(PartitionId::new(2)).unwrap().vmid.get(), 3);
}

#[test]
fn housekeeping_cpu_is_the_one_asked_for_or_a_way_out_is_said() {
    let mut both = manifest(vec![partition("a", &[3], 16 * MIB), partition("b", &[2, 1], 16 * MIB)]);
    for (asked, chosen, replaced) in [(None, 1, 0), (Some(0), 0, 0), (Some(4), 1, 1)] {
        both.hypervisor.cpu = asked.map(CpuId::new);
        let (_, outcome) = plan(&Virt::default().tree(), &both);
        assert_eq!(outcome.plan.housekeeping, CpuId::new(chosen));
        assert_eq!((outcome.replaced.len(), outcome.plan.partitions.len()), (replaced, 2));
    }
}

#[test]
fn large_memory_is_on_1_gib_blocks_where_it_can_be() {
    let virt = Virt { ram: 4 * GIB, ..Virt::default() };
    let plan = all_fit(&virt, vec![partition("small", &[0], 16 * MIB), partition("large", &[1], GIB)]);
    let large = plan.partitions[1].memory[0];
    assert!(large.pa.is_aligned(GIB) && large.ipa.is_aligned(GIB));
    // No second one is left, and the partition runs all the same.
    let virt = Virt { ram: 2 * GIB + 512 * MIB, ..Virt::default() };
    let plan = all_fit(&virt, vec![partition("a", &[0], GIB), partition("b", &[1], GIB)]);
    assert!(plan.partitions.iter().all(|partition| partition.memory[0].pa.is_aligned(2 * MIB)));
}

#[test]
fn memory_of_a_bus_master_is_where_the_master_sees_it() {
    let mut linux = partition("linux", &[0], 64 * MIB);
    linux.devices = vec![master("/virtio_mmio@a000000")];
    let plan = all_fit(&Virt::default(), vec![linux, partition("b", &[1], 64 * MIB)]);
    let linux = &plan.partitions[0];
    assert_eq!(linux.memory[0].ipa.get(), linux.memory[0].pa.get());
    let beside: Vec<&DevicePlan> = linux.devices.iter().filter(|device| device.reach == Reach::SharesPage).collect();
    assert_eq!(beside.len(), 7);
    assert!(beside.iter().all(|device| device.dma == Dma::Unprotected(DmaQuiesce::VirtioMmio)));
    assert_eq!(linux.interrupts.len(), 1);
}

#[test]
fn smallest_memory_that_holds_kernel_tree_and_initrd_is_enough() {
    // Kernel of 64 KiB and 64 KiB of bss, initrd of 4 KiB, a tree of less than 4 KiB.
    let small = |size: u64| {
        let mut small = partition("small", &[0], size);
        small.kernel = image(64 << 10);
        small.initrd = Some(file(0x20_0000, 4096));
        small
    };
    let plan = all_fit(&Virt::default(), vec![small(136 << 10)]);
    assert_eq!(plan.partitions[0].device_tree.as_ref().unwrap().ipa.get(), RAM + (128 << 10));
    let (_, outcome) = self::plan(&Virt::default().tree(), &manifest(vec![small(132 << 10)]));
    assert!(matches!(outcome.refused[0].errors[0].problem, Problem::ImageTooLarge { .. }));
}

#[test]
fn gicv2_of_64_kib_pages_gives_the_two_pages_that_touch() {
    let tree = Virt { interface: 0x2_0000, ..Virt::v2() }.tree();
    let (board, outcome) = plan(&tree, &manifest(vec![partition("a", &[0], 16 * MIB)]));
    let GuestGic::V2 { cpu_interface, virtual_interface, .. } = outcome.plan.partitions[0].gic else { panic!() };
    assert_eq!((cpu_interface.start().get(), cpu_interface.size()), (0x801_0000, 0x2000));
    assert_eq!((virtual_interface.start().get(), virtual_interface.size()), (0x806_f000, 0x2000));
    let GicVersion::V2 { cpu_interface, .. } = board.gic.version else { panic!() };
    assert_eq!(cpu_interface.start().get(), 0x801_f000);
}

#[test]
fn gicv_of_one_page_is_refused() {
    let tree = Virt { interface: 0x1000, ..Virt::v2() }.tree();
    assert!(matches!(Board::read(&tree, None), Err(BoardError::GicUnreadable { .. })));
}

#[test]
fn gicv_with_a_neighbour_in_its_pages_is_refused() {
    let tree = Virt::v2().tree_with(|w| {
        w.begin_node("other@8061000");
        reg(w, &[(0x806_1800, 4)]);
        w.end_node();
    });
    assert!(matches!(Board::read(&tree, None), Err(BoardError::VirtualInterfaceShared { .. })));
}

#[test]
fn board_is_read_from_the_tree_alone() {
    let board = Board::read(&Virt::default().tree(), None).unwrap();
    assert_eq!(board.memory, vec![range(RAM, GIB)]);
    assert_eq!(board.cpus.len(), 4);
    assert!(board.cpus.iter().all(|cpu| cpu.enable == CpuEnable::Psci && cpu.enabled));
    assert_eq!(board.psci, Some(Psci { conduit: Conduit::Smc, version: PsciVersion::V1_0 }));
    assert_eq!(board.gic.maintenance, Intid::new(25));
    let lines = [board.timer.secure, board.timer.physical, board.timer.virtual_, board.timer.hypervisor];
    assert_eq!(lines.map(|line| line.intid.get()), [29, 30, 27, 26]);
    let uart = board.console.unwrap();
    assert_eq!((uart.path.as_str(), uart.registers), ("/pl011@9000000", range(UART, 0x1000)));
    assert_eq!(uart.interrupt.unwrap().0, Intid::new(33));
}

#[test]
fn report_names_every_owner() {
    let mut linux = partition("linux", &[0, 1], 256 * MIB);
    linux.devices = vec![device("rtc"), master("/virtio_mmio@a000000")];
    let tree = Virt::default().tree();
    let (board, outcome) = plan(&tree, &manifest(vec![linux, partition("control", &[2], 16 * MIB)]));
    let text = std::format!("{}", report(&outcome.plan, &board));
    for part in [
        "linux (partition 0, vmid 1)",
        "/pl031@9010000, INTID 34",
        "/virtio_mmio@a000000, INTID 48; unsafe DMA",
        "7 other devices in the same pages: /virtio_mmio@a000200",
        "256 MiB",
        "PL011, emulated, INTID 33",
        "the bundle, 48 MiB",
        "idle cpus  3",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
}
