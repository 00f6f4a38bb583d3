// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes each CPU's stack, address space and data, and starts the secondary ones by what the tree says of each.

use log::error;

use super::leak;
use crate::addr::{PAGE_SIZE, Pa, Va};
use crate::arch::entry::{self, BootStacks, EMERGENCY_STACK};
use crate::arch::mmu::{AddressSpace, MapError, Use};
use crate::arch::secondary::{self, Translation};
use crate::arch::smc::Firmware;
use crate::arch::sysreg::{dsb_sy, sev};
use crate::arch::{cache, cpu::Features, timer, vcpu};
use crate::fault::RateLimiter;
use crate::id::{Intid, VcpuId};
use crate::irqchip;
use crate::machine::Machine;
use crate::machine::percpu::{Local, PerCpu};
use crate::memory;
use crate::plan::{Board, CpuEnable, CpuNode};
use crate::vgic::CpuInterface;

/// Pages of a CPU's stack.
const STACK_PAGES: u64 = 4;
/// Pages of the stack on which a CPU reports a fault of its own.
const EMERGENCY_PAGES: u64 = EMERGENCY_STACK as u64 / PAGE_SIZE;
/// How long all secondary CPUs together may take to come up.
const START_MILLISECONDS: u64 = 1000;

/// A CPU's data and how it translates.
pub struct Prepared {
    /// Its data.
    pub cpu: &'static PerCpu,
    translation: Translation,
}

/// Makes the boot CPU's data, in the address space that it runs in.
///
/// # Errors
///
/// [`MapError::OutOfTables`].
pub fn boot_cpu(space: &mut AddressSpace, node: &CpuNode, vcpu: Option<VcpuId>) -> Result<Prepared, MapError> {
    prepare(space, node, vcpu, None)
}

/// Makes the data of a CPU that is to be started.
///
/// # Errors
///
/// [`MapError::OutOfTables`].
pub fn secondary_cpu(space: &mut AddressSpace, node: &CpuNode, vcpu: Option<VcpuId>) -> Result<Prepared, MapError> {
    let own = space.for_another_cpu()?;
    prepare(space, node, vcpu, Some(own))
}

/// `space` is the boot CPU's, which shares the lower levels of the tables with all others.
fn prepare(
    space: &mut AddressSpace,
    node: &CpuNode,
    vcpu: Option<VcpuId>,
    own: Option<AddressSpace>,
) -> Result<Prepared, MapError> {
    let (stack, emergency, window, translation) = match own {
        Some(mut own) => {
            let (stack, emergency) = stacks(space)?;
            (stack, emergency, own.window()?, own.translation())
        }
        None => {
            let BootStacks { stack_top, emergency_top, .. } = entry::boot_stacks();
            (stack_top, emergency_top, space.window()?, space.translation())
        }
    };
    // The CPU reads its own when it arrives.
    let features = Features::read();
    let interface = CpuInterface::new(vcpu.unwrap_or_default(), irqchip::list_register_count());
    // A burst of 16 records, then 10 a second.
    let records = RateLimiter::new(16, timer::ticks(100));
    let local = Local { interface, window, preparation: None, set_way: Default::default(), features, records };
    let cpu = leak(PerCpu::new(node.id, node.mpidr, stack, emergency, local));
    Ok(Prepared { cpu, translation })
}

/// Takes a stack and an emergency stack, each with an inaccessible page below it; returns their tops. They are one block,
/// since the heap hands out powers of two.
fn stacks(space: &mut AddressSpace) -> Result<(Va, Va), MapError> {
    let emergency_guard = memory::pages(1 + EMERGENCY_PAGES + 1 + STACK_PAGES, 1).ok_or(MapError::OutOfTables)?;
    let guard = Pa::new(emergency_guard.get() + (1 + EMERGENCY_PAGES) * PAGE_SIZE);
    space.unmap_page(emergency_guard);
    space.unmap_page(guard);
    Ok((Va::new(guard.get() + (1 + STACK_PAGES) * PAGE_SIZE), Va::new(guard.get())))
}

/// Starts a secondary CPU by the method that the tree names. It is not waited for.
///
/// # Errors
///
/// A sentence that says why it cannot be started.
pub fn start(
    space: &mut AddressSpace,
    board: &CpuNode,
    prepared: &Prepared,
    firmware: Option<Firmware>,
) -> Result<(), &'static str> {
    // SAFETY: the CPU has not been started, and the stack and data are its own.
    unsafe {
        secondary::announce(
            prepared.cpu.id.index(),
            prepared.cpu.mpidr,
            prepared.cpu.stack_top(),
            Va::new(core::ptr::from_ref(prepared.cpu) as u64),
            prepared.translation,
        );
    }
    match (board.enable, firmware) {
        (CpuEnable::Psci, Some(firmware)) => {
            firmware.cpu_on(prepared.cpu.mpidr, secondary::entry()).map_err(|_| "the firmware refused PSCI CPU_ON")
        }
        (CpuEnable::Psci, None) => Err("its enable-method is psci, but the tree has no /psci with method smc"),
        (CpuEnable::SpinTable { release }, _) => release_spin_table(space, release),
        (CpuEnable::Unknown, _) => Err("the tree names no enable-method that Septum knows"),
    }
}

/// Writes the entry address to where the CPU looks for it, with its caches off, and wakes it.
fn release_spin_table(space: &mut AddressSpace, release: Pa) -> Result<(), &'static str> {
    let range = crate::addr::PaRange::new(release, 8).ok_or("its cpu-release-addr is not possible")?;
    // Device memory, so that the write reaches memory itself.
    if space.map(range, Use::Device).is_err() {
        return Err("its cpu-release-addr cannot be mapped");
    }
    // SAFETY: the tree names this address for this purpose, and it was mapped just now.
    unsafe { (release.get() as *mut u64).write_volatile(secondary::entry().get()) };
    cache::clean_invalidate(Va::new(release.get()), 8);
    dsb_sy();
    sev();
    Ok(())
}

/// Waits until those CPUs have arrived that `which` names, as long as [`wait`] does.
pub fn wait_for(machine: &Machine, which: impl Fn(&PerCpu) -> bool) {
    timer::wait_for(START_MILLISECONDS, || machine.cpus.iter().all(|cpu| cpu.is_online() || !which(cpu)));
}

/// Waits until all CPUs have arrived, or names those that have not.
pub fn wait(machine: &Machine, board: &Board) {
    let all = || machine.cpus.iter().all(|cpu| cpu.is_online());
    if timer::wait_for(START_MILLISECONDS, all) {
        return;
    }
    for cpu in machine.cpus.iter().filter(|cpu| !cpu.is_online()) {
        let path = board.cpu(cpu.id).map_or("", |node| node.path.as_str());
        match cpu.failure() {
            Some(why) => error!("{} ({path}): {why}", cpu.id),
            None => error!("{} ({path}, {}) did not come up within {START_MILLISECONDS} ms", cpu.id, cpu.mpidr),
        }
    }
}

/// What a CPU does first in Rust, with its MMU on. `timer` is the hypervisor's.
pub fn arrive(this_cpu: &'static PerCpu, timer: Intid) {
    this_cpu.install();
    // SAFETY: this CPU handles no exit yet.
    let features = unsafe { &mut this_cpu.local().features };
    // The tables of stage 2 are made for all CPUs alike, with what the boot CPU has.
    *features = Features { forced_write_back: features.forced_write_back, ..Features::read() };
    vcpu::reset(features);
    match irqchip::init_cpu(this_cpu.mpidr, timer, this_cpu.delivery()) {
        Ok(port) => this_cpu.set_online(port),
        Err(why) => this_cpu.set_failed(why),
    }
}
