// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries a checked plan out: interrupt controller, stage 2 and devices of each partition, the CPUs that serve them.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use ::log::{debug, error, info};

use super::{Refusal, cpus, describe, needed_cpus, seeded};
use crate::addr::{Ipa, PaRange};
use crate::arch::cpu::{self, Features};
use crate::arch::entry;
use crate::arch::mmu::{AddressSpace, Use};
use crate::arch::smc::Firmware;
use crate::arch::{timer, vcpu, vectors};
use crate::config::{BootOrder, Manifest};
use crate::device::pl011::Pl011;
use crate::fault::FaultWindow;
use crate::irqchip;
use crate::machine::partition::{Console, Partition};
use crate::machine::percpu::{PerCpu, Role};
use crate::machine::stages::{self, Stage};
use crate::machine::{self, Machine, direct, housekeeping, interrupts, lifecycle, log};
use crate::memory::{self, HeapTables};
use crate::plan::{Board, Conduit, GicVersion, GuestGic, PartitionPlan, Plan};
use crate::stage2::{ForcedWriteBack, Geometry, Kind, Stage2};

/// What boot has found and decided.
pub struct Parts {
    /// The boot CPU's address space.
    pub space: AddressSpace,
    /// The board.
    pub board: Board,
    /// The configuration.
    pub manifest: Manifest,
    /// The checked plan.
    pub plan: Plan,
    /// Where the bundle is.
    pub bundle: PaRange,
}

/// Builds the machine, starts its CPUs and asks for the start of its partitions. Returns the boot CPU's data.
#[inline(never)]
pub fn carve(parts: Parts) -> Result<&'static PerCpu, Refusal> {
    let Parts { mut space, board, manifest, plan, bundle } = parts;
    let features = Features::read();
    irqchip::init(&board.gic);
    irqchip::init_distributor();
    vectors::install(irqchip::model().ok_or("the GIC was not initialised")?);

    let firmware = firmware(&board);
    let prepared = prepare_cpus(&mut space, &board, &plan)?;
    let mut partitions = Vec::new();
    for planned in plan.partitions {
        let name = planned.name.clone();
        match partition(planned, &board, &features) {
            Ok(partition) => partitions.push(partition),
            Err(why) => error!("{why}; partition {name} is not started"),
        }
    }
    let machine = machine::publish(Machine {
        features,
        firmware,
        bundle,
        partitions: partitions.into_boxed_slice(),
        names: manifest.partitions.iter().map(|partition| partition.name.clone()).collect(),
        cpus: prepared.iter().map(|prepared| prepared.cpu).collect::<Box<[_]>>(),
        timer: board.timer.hypervisor.intid,
        console: board.console.as_ref().and_then(|uart| uart.interrupt).map(|(intid, _)| intid),
        housekeeping: plan.housekeeping,
        on_panic: manifest.hypervisor.on_panic,
        when_all_off: manifest.hypervisor.when_all_off,
    });
    give_roles(machine);
    stages::reach(Stage::Carved);
    let boot_cpu = prepared.iter().find(|prepared| prepared.cpu.mpidr == cpu::affinity());
    let boot_cpu = boot_cpu.ok_or("the CPU that booted is not in the device tree")?.cpu;
    cpus::arrive(boot_cpu, machine.timer);
    if let Some(why) = boot_cpu.failure() {
        return Err(why.to_string());
    }
    let others = || prepared.iter().filter(|prepared| prepared.cpu.id != boot_cpu.id);
    let mut start = |prepared: &cpus::Prepared| {
        let Some(node) = board.cpu(prepared.cpu.id) else { return };
        if let Err(why) = cpus::start(&mut space, node, prepared, firmware) {
            error!("{} ({}) cannot be started: {why}", node.id, node.path);
        }
    };
    let is_first = |prepared: &&cpus::Prepared| is_first(prepared.cpu);
    others().filter(is_first).for_each(&mut start);
    begin_first(machine);
    others().filter(|prepared| !is_first(prepared)).for_each(&mut start);
    cpus::wait(machine, &board);
    stages::reach(Stage::Up);
    debug!("{}", stages::Line);
    let (used, total) = memory::usage();
    let image = entry::FOOTPRINT.saturating_sub(total);
    info!(
        "hypervisor memory: {} KiB in use (image {}, heap {}) of {} KiB kept",
        (image + used) >> 10,
        image >> 10,
        used >> 10,
        entry::FOOTPRINT >> 10
    );
    begin(machine, boot_cpu);
    Ok(boot_cpu)
}

/// Tells whether a CPU serves a partition that is to begin before the others.
fn is_first(cpu: &PerCpu) -> bool {
    cpu.role().is_some_and(|role| role.partition.plan.boot == BootOrder::First)
}

/// Starts the partitions that are to begin first, as their CPUs come up. One whose CPU is this one begins when this one is
/// done with the boot; one of which a CPU is missing is reported with the others.
fn begin_first(machine: &'static Machine) {
    let waits = |cpu: &&&PerCpu| is_first(cpu) && cpu.mpidr != cpu::affinity();
    if machine.cpus.iter().any(|cpu| waits(&cpu)) {
        cpus::wait_for(machine, is_first);
    }
    let first = |partition: &&Partition| partition.plan.boot == BootOrder::First && partition.plan.autostart;
    for partition in machine.partitions.iter().filter(first) {
        // What stands against it stands against it later too, and is said then.
        let _ = lifecycle::start(machine, partition);
    }
}

/// Maps the interrupt controller for EL2.
pub fn map_gic(space: &mut AddressSpace, board: &Board) -> Result<(), Refusal> {
    let mut map = |range: PaRange| space.map(range, Use::Device).map_err(|e| describe(&e));
    match &board.gic.version {
        GicVersion::V2 { distributor, cpu_interface, hyp_interface, .. } => {
            map(*distributor)?;
            map(*cpu_interface)?;
            map(*hyp_interface)
        }
        GicVersion::V3 { distributor, redistributors, .. } => {
            map(*distributor)?;
            redistributors.iter().try_for_each(|range| map(*range))
        }
    }
}

fn firmware(board: &Board) -> Option<Firmware> {
    let smc = board.psci.is_some_and(|psci| psci.conduit == Conduit::Smc);
    // SAFETY: the tree has a /psci node with method "smc".
    smc.then(|| unsafe { Firmware::new() })
}

#[inline(never)]
fn prepare_cpus(space: &mut AddressSpace, board: &Board, plan: &Plan) -> Result<Vec<cpus::Prepared>, Refusal> {
    let own = cpu::affinity();
    let mut prepared = Vec::new();
    let mut needed = needed_cpus(plan);
    let boot_id = board.cpus.iter().find(|node| node.mpidr == own).map(|node| node.id);
    needed.extend(boot_id.filter(|id| !needed.contains(id)));
    for node in needed.iter().filter_map(|id| board.cpu(*id)) {
        let vcpus = plan.partitions.iter().flat_map(|partition| &partition.vcpus);
        let vcpu = vcpus.filter(|vcpu| vcpu.cpu == node.id).map(|vcpu| vcpu.id).next();
        let made =
            if node.mpidr == own { cpus::boot_cpu(space, node, vcpu) } else { cpus::secondary_cpu(space, node, vcpu) };
        prepared.push(made.map_err(|e| describe(&e))?);
    }
    Ok(prepared)
}

/// Builds one partition: its stage 2, interrupt controller and console.
#[inline(never)]
fn partition(plan: PartitionPlan, board: &Board, cpu: &Features) -> Result<Partition, Refusal> {
    let map = stage2(&plan, cpu).map_err(|e| format_args!("partition {}: {e}", plan.name).to_string())?;
    let owned = seeded::owned_interrupts(&plan.interrupts);
    let confinement = vcpu::Confinement::new(plan.vmid, map.root(), map.geometry().vtcr(cpu.pa_range));
    let vgic = interrupts::make_vgic(&plan, &owned, board)
        .map_err(|e| format_args!("partition {}: {e}", plan.name).to_string())?;
    let controller = direct::make(&plan, board);
    let console = plan.console.map(|_| Console { registers: spin::Mutex::new(()), device: Pl011::new() });
    let faults = FaultWindow::new(plan.on_fault, timer::frequency());
    info!("partition {}: mapped {}", plan.name, map.histogram());
    Ok(Partition::new(plan, vgic, controller, confinement, map, console, faults))
}

fn stage2(plan: &PartitionPlan, cpu: &Features) -> Result<Stage2, crate::stage2::MapError> {
    use crate::stage2::MapError;
    let force = if cpu.forced_write_back { ForcedWriteBack::On } else { ForcedWriteBack::Off };
    let geometry = Geometry::new(cpu.pa_bits, highest(plan), force);
    let count = geometry.root_tables() as u64;
    let root = memory::pages(count, count).ok_or(MapError::OutOfTables)?;
    let mut map = Stage2::new(root, geometry);
    let mut tables = HeapTables;
    for memory in &plan.memory {
        map.map(&mut tables, memory.ipa, memory.pa, memory.size, Kind::Ram)?;
    }
    for device in &plan.mappings {
        map.map(&mut tables, device.ipa, device.pa, device.size, Kind::Device)?;
    }
    if let GuestGic::V2 { cpu_interface, virtual_interface, .. } = plan.gic {
        let (ipa, pa) = (cpu_interface.start(), virtual_interface.start());
        // The second half is GICV_DIR alone. It stays unmapped and is emulated: what a guest deactivates may be in another
        // vCPU's list register or in none, which the hardware would ignore.
        map.map(&mut tables, ipa, pa, virtual_interface.size() / 2, Kind::Device)?;
    }
    seeded::leak_page(&mut map, &mut tables, entry::image_start())?;
    Ok(map)
}

/// Returns the highest guest-physical address that a partition reaches.
fn highest(plan: &PartitionPlan) -> Ipa {
    let last = |ipa: Ipa, size: u64| ipa.get().saturating_add(size.saturating_sub(1));
    let memory = plan.memory.iter().map(|memory| last(memory.ipa, memory.size));
    let devices = plan.mappings.iter().map(|mapping| last(mapping.ipa, mapping.size));
    Ipa::new(memory.chain(devices).max().unwrap_or(0))
}

fn give_roles(machine: &'static Machine) {
    for partition in &machine.partitions {
        let cpus: Option<Box<[_]>> = partition.plan.vcpus.iter().map(|vcpu| machine.cpu(vcpu.cpu)).collect();
        // A partition whose CPUs are not all there is not started.
        let Some(cpus) = cpus else { continue };
        for (vcpu, cpu) in partition.plan.vcpus.iter().zip(&cpus) {
            // SAFETY: this is the boot CPU, the others are not started yet, and a CPU has one vCPU at most.
            unsafe { cpu.dedicate(Role::new(partition, vcpu.id)) };
        }
        partition.set_cpus(cpus);
    }
}

/// Hands the console over to the housekeeping CPU and starts the partitions.
fn begin(machine: &'static Machine, boot_cpu: &'static PerCpu) {
    housekeeping::take_over(machine, boot_cpu, log::hand_over());
    let waits = |partition: &&Partition| partition.plan.autostart && partition.life.generation() == 0;
    for partition in machine.partitions.iter().filter(waits) {
        if let Err(why) = lifecycle::start(machine, partition) {
            error!("partition {} is not started: {why}", partition.plan.name);
        }
    }
}
