// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running machine: the partitions as they were carved, the CPUs that serve them, and what happens at an exit. Boot
//! builds it once; from then on each part is shared immutably, with atomics and a few short locks inside.

pub mod audit;
pub mod direct;
pub mod exit;
pub mod housekeeping;
pub mod idle;
pub mod interrupts;
pub mod lifecycle;
pub mod log;
pub mod panic;
pub mod partition;
pub mod percpu;
mod prepare;
pub mod quick;
mod registers;
mod setway;
pub mod stages;

use alloc::boxed::Box;
use alloc::string::String;

use spin::Once;

use crate::addr::PaRange;
use crate::arch::cpu::Features;
use crate::arch::smc::Firmware;
use crate::config::{OnPanic, WhenAllOff};
use crate::id::{CpuId, Intid, PartitionId};
use partition::Partition;
use percpu::PerCpu;

/// What boot built.
pub struct Machine {
    /// What the boot CPU has.
    pub features: Features,
    /// Firmware behind SMC, if the tree says so.
    pub firmware: Option<Firmware>,
    /// The bundle, mapped read-only at its physical address.
    pub bundle: PaRange,
    /// The partitions that were carved, ascending by id.
    pub partitions: Box<[Partition]>,
    /// The names of all partitions of the configuration, refused ones included, by id.
    pub names: Box<[String]>,
    /// The CPUs that run, ascending by id.
    pub cpus: Box<[&'static PerCpu]>,
    /// The hypervisor's timer, a PPI.
    pub timer: Intid,
    /// The console UART's SPI, if it has one.
    pub console: Option<Intid>,
    /// The housekeeping CPU, as planned.
    pub housekeeping: CpuId,
    /// What a panic does.
    pub on_panic: OnPanic,
    /// What happens when the last partition is off.
    pub when_all_off: WhenAllOff,
}

static MACHINE: Once<Machine> = Once::new();

/// Publishes the machine. Called once, by the boot CPU.
pub fn publish(machine: Machine) -> &'static Machine {
    MACHINE.call_once(|| machine)
}

/// Returns the machine once it is published.
pub fn get() -> Option<&'static Machine> {
    MACHINE.get()
}

impl Machine {
    /// Returns a partition that was carved.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.plan.id == id)
    }

    /// Returns a CPU that runs.
    pub fn cpu(&self, id: CpuId) -> Option<&'static PerCpu> {
        self.cpus.iter().copied().find(|cpu| cpu.id == id)
    }
}

/// Returns the bytes of a physical range that is mapped at its own address.
///
/// # Safety
///
/// The range is mapped, and nobody writes it as long as the bytes are used.
pub unsafe fn bytes(range: PaRange) -> &'static [u8] {
    // SAFETY: as the caller ensures.
    unsafe { core::slice::from_raw_parts(range.start().get() as *const u8, range.size() as usize) }
}
