// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting, stopping and restarting partitions: carries out what `partition::Lifecycle` decides. A request never
//! waits; each CPU of the partition does its own part when its mail reaches it.

use super::percpu::{Local, Mail, PerCpu, Role};
use super::prepare::{Preparation, Progress};
use super::{Machine, housekeeping, interrupts, partition::Partition};
use crate::addr::Pa;
use crate::arch::mmu::Use;
use crate::arch::sysreg::dsb_ish;
use crate::arch::{timer, vcpu};
use crate::config::Restart;
use crate::exit::StopReason;
use crate::id::{CpuId, VcpuId};
use crate::memory::HeapTables;
use crate::partition::{Entry, Next, Power, State};
use crate::plan::{Dma, DmaQuiesce};
use crate::stage2::Validity;

/// Whether a CPU has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Call again.
    More,
    /// Nothing to do until the next interrupt.
    Done,
}

/// Why a partition was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError<'a> {
    /// It is not off.
    NotOff(State),
    /// This CPU of it did not come up.
    MissingCpu(CpuId),
    /// This bus master of it cannot be stopped, and may still write to its memory.
    UnstoppableMaster(&'a str),
    /// It has run, and its images were used in place.
    UsedUp,
}

/// Asks for a start of a partition that is off.
///
/// # Errors
///
/// See [`StartError`].
pub fn start<'a>(machine: &'static Machine, partition: &'a Partition) -> Result<(), StartError<'a>> {
    let missing = |cpu: CpuId| !machine.cpu(cpu).is_some_and(PerCpu::is_online);
    if let Some(vcpu) = partition.plan.vcpus.iter().find(|vcpu| missing(vcpu.cpu)) {
        return Err(StartError::MissingCpu(vcpu.cpu));
    }
    let ran_before = partition.life.generation() > 0;
    if let Some(path) = partition.unstoppable_master().filter(|_| ran_before) {
        return Err(StartError::UnstoppableMaster(path));
    }
    if ran_before && partition.plan.restart == Restart::Never {
        return Err(StartError::UsedUp);
    }
    if !partition.life.request_start() {
        return Err(StartError::NotOff(partition.life.state()));
    }
    partition.faults.lock().clear();
    tell_first(machine, partition);
    Ok(())
}

/// Asks for a stop of a running partition, and for a restart after it if `next` says so and nothing stands against it.
/// Tells whether this request won.
pub fn stop(machine: &'static Machine, partition: &Partition, next: Next, reason: StopReason) -> bool {
    let refusal = match next {
        Next::Off => None,
        Next::Restart if partition.plan.restart == Restart::Never => Some(StopReason::UsedUp),
        Next::Restart => partition.unstoppable_master().map(|_| StopReason::MasterRuns),
    };
    let next = if refusal.is_some() { Next::Off } else { next };
    // One that is being prepared is simply not begun: its first CPU looks at the state between two steps.
    if partition.life.state() == State::Preparing && next == Next::Off && partition.life.abandon() {
        partition.set_last_stop(reason);
        partition.begin_stop(0);
        partition.end_stop(0);
        housekeeping::notify();
        return true;
    }
    let asked_at = timer::now();
    if !partition.life.request_stop(next) {
        return false;
    }
    partition.begin_stop(asked_at);
    partition.set_last_stop(refusal.unwrap_or(reason));
    for vcpu in &partition.plan.vcpus {
        if let Some(cpu) = machine.cpu(vcpu.cpu) {
            cpu.post(Mail::Lifecycle);
        }
    }
    true
}

fn tell_first(machine: &'static Machine, partition: &Partition) {
    let first = partition.plan.vcpus.first();
    if let Some(cpu) = first.and_then(|vcpu| machine.cpu(vcpu.cpu)) {
        cpu.post(Mail::Lifecycle);
    }
}

/// Does what the life cycle of this CPU's partition wants of an idle CPU. Does not return when it enters the guest.
pub fn attend(this_cpu: &'static PerCpu, local: &mut Local) -> Attention {
    let (Some(machine), Some(role)) = (super::get(), this_cpu.role()) else { return Attention::Done };
    match role.partition.life.state() {
        State::Off => Attention::Done,
        State::Preparing if role.vcpu == VcpuId::new(0) => prepare(machine, this_cpu, role, local),
        State::Preparing => Attention::Done,
        State::Running => run(machine, this_cpu, role, local),
        State::Stopping(_) => acknowledge(machine, this_cpu, role, local),
    }
}

/// Prepares the partition by one step; at the end its first vCPU begins.
fn prepare(machine: &'static Machine, this_cpu: &'static PerCpu, role: &Role, local: &mut Local) -> Attention {
    let partition = role.partition;
    let generation = partition.life.generation();
    let Local { preparation, window, .. } = local;
    let current = preparation.take().filter(|p| p.generation == generation);
    let mut current = current.unwrap_or_else(|| Preparation::new(generation, since(partition)));
    // SAFETY: the bundle was mapped read-only at boot and nobody writes it.
    let bundle = unsafe { super::bytes(machine.bundle) };
    match current.step(&partition.plan, bundle, window) {
        Progress::More => {
            *preparation = Some(current);
            Attention::More
        }
        Progress::Failed => {
            partition.set_last_stop(StopReason::LoadFailed);
            partition.life.abandon();
            housekeeping::notify();
            Attention::Done
        }
        Progress::Ready => {
            interrupts::clean_partition(machine, this_cpu, partition);
            partition.set_began(timer::now().saturating_sub(current.since), current.scrubbing);
            if !partition.life.begin() {
                return Attention::Done;
            }
            housekeeping::notify();
            let tree = partition.plan.device_tree.as_ref().map_or(0, |tree| tree.ipa.get());
            enter(this_cpu, role, local, Entry { pc: partition.plan.entry, context: tree })
        }
    }
}

/// From when on the way of a partition to its guest is counted: the hypervisor's first instruction for what starts with the
/// machine, or now.
fn since(partition: &Partition) -> u64 {
    let at_boot = partition.plan.autostart && partition.life.generation() == 1;
    if at_boot { super::stages::first() } else { timer::now() }
}

/// Takes up a CPU_ON; stops the partition when no vCPU is left that could ever run again.
fn run(machine: &'static Machine, this_cpu: &'static PerCpu, role: &Role, local: &mut Local) -> Attention {
    let partition = role.partition;
    if let Some(entry) = partition.life.take_on(role.vcpu) {
        enter(this_cpu, role, local, entry);
    }
    let off = |id| partition.life.power(id) == Some(Power::Off);
    if partition.plan.vcpus.iter().all(|vcpu| off(vcpu.id)) {
        stop(machine, partition, Next::Off, StopReason::LastCpuOff);
        return Attention::More;
    }
    Attention::Done
}

/// Confines this CPU's vCPU, which has the state after reset as [`leave`] and boot have left it, and enters it.
fn enter(this_cpu: &'static PerCpu, role: &Role, local: &mut Local, entry: Entry) -> ! {
    vcpu::confine(&local.features, role.partition.confinement, role.vcpu);
    interrupts::begin(this_cpu, role, local);
    // SAFETY: the lines above gave this CPU the state that `enter` asks for, and the idle loop's stack is not needed.
    unsafe { vcpu::enter(entry, this_cpu.stack_top()) }
}

/// Ends a vCPU on this CPU, which has left it: EL1, EL0 and the virtual interrupt interface are as after a reset.
pub fn leave(this_cpu: &'static PerCpu, role: &Role, local: &mut Local) {
    vcpu::reset(&local.features);
    interrupts::end(this_cpu, role, local);
}

/// This CPU has left the guest: cleans what is its own and acknowledges the stop. The last CPU finishes it.
fn acknowledge(machine: &'static Machine, this_cpu: &'static PerCpu, role: &Role, local: &mut Local) -> Attention {
    let partition = role.partition;
    let bit = 1_u32.checked_shl(u32::from(role.vcpu.get())).unwrap_or(0);
    if partition.life.unacknowledged() & bit == 0 {
        return Attention::Done;
    }
    leave(this_cpu, role, local);
    interrupts::clean_private(this_cpu, partition);
    let Some(next) = partition.life.acknowledge(role.vcpu) else { return Attention::Done };
    partition.end_stop(timer::now());
    let is_quiet = quiesce_masters(partition, local);
    if next == Next::Restart && !is_quiet {
        partition.set_last_stop(StopReason::MasterRuns);
    }
    let next = if is_quiet { next } else { Next::Off };
    interrupts::clean_partition(machine, this_cpu, partition);
    give_back(partition);
    vcpu::invalidate_vmid(partition.confinement);
    if next == Next::Restart {
        partition.count_restart();
    }
    partition.life.finish_stop(next);
    tell_first(machine, partition);
    housekeeping::notify();
    Attention::More
}

/// Takes its memory away from the guest of a partition that is being stopped, when one of its CPUs does not leave: a
/// guest with direct interrupts can keep the hypervisor's from being taken, by an active priority that it writes itself
/// (ICC_AP1R0_EL1). Its next fetch is a fault then, and that leads to EL2. Tells whether there was a CPU left.
pub fn take_away(partition: &Partition) -> bool {
    let mut reach = partition.reach.lock();
    // The last CPU acknowledges before it takes the lock: while one is missing, the tables are not in use for a new life.
    let is_held = matches!(partition.life.state(), State::Stopping(_)) && partition.life.unacknowledged() != 0;
    if !is_held || *reach == Validity::Invalid {
        return false;
    }
    *reach = Validity::Invalid;
    partition.stage2.set_validity(&mut HeapTables, Validity::Invalid);
    dsb_ish(); // the tables are written before translations are dropped
    vcpu::invalidate_vmid(partition.confinement);
    true
}

/// Undoes that, before anything of the partition runs again.
fn give_back(partition: &Partition) {
    let mut reach = partition.reach.lock();
    if *reach == Validity::Invalid {
        *reach = Validity::Valid;
        partition.stage2.set_validity(&mut HeapTables, Validity::Valid);
        dsb_ish(); // the tables are whole before a CPU walks them
    }
}

/// Stops the bus masters of a partition, so that no late access of theirs reaches a fresh image. Tells whether all
/// did stop.
fn quiesce_masters(partition: &Partition, local: &mut Local) -> bool {
    let mut all_stopped = true;
    for (place, device) in partition.plan.devices.iter().enumerate() {
        let Some(registers) = device.registers.first() else { continue };
        let is_stopped = match device.dma {
            Dma::None => true,
            Dma::Unprotected(DmaQuiesce::Unknown) => false,
            Dma::Unprotected(DmaQuiesce::VirtioMmio) => reset_virtio(registers.start(), local),
        };
        if !is_stopped {
            partition.set_runaway(place);
            all_stopped = false;
        }
    }
    all_stopped
}

/// Resets a virtio-mmio device: write 0 to Status, wait until it reads 0 (Virtio 1.2, 4.2.2.1).
fn reset_virtio(registers: Pa, local: &mut Local) -> bool {
    const STATUS: u64 = 0x70;
    local.window.with(registers, 0x100, Use::Device, |va| {
        let status = (va.get() + STATUS) as *mut u32;
        // SAFETY: the window maps the device's registers, which no vCPU uses any more.
        unsafe { status.write_volatile(0) };
        // SAFETY: as above.
        timer::wait_for(10, || unsafe { status.read_volatile() } == 0)
    })
}

impl core::fmt::Display for StartError<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::MissingCpu(cpu) => write!(f, "its {cpu} did not come up"),
            Self::UsedUp => f.write_str("it runs once: its configuration says restart = \"never\""),
            Self::NotOff(_) => write!(f, "it is not off"),
            Self::UnstoppableMaster(path) => {
                write!(
                    f,
                    "{path} is a bus master that cannot be stopped and may still write to its memory; reset the machine"
                )
            }
        }
    }
}
