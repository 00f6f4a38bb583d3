// SPDX-License-Identifier: MIT OR Apache-2.0
//! A partition as it runs: its plan, and what of it changes.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::{Mutex, Once};

use super::percpu::PerCpu;
use crate::arch::vcpu::Confinement;
use crate::device::pl011::Pl011;
use crate::exit::StopReason;
use crate::fault::FaultWindow;
use crate::id::{MAX_VCPUS, VcpuId};
use crate::partition::Lifecycle;
use crate::plan::{Dma, DmaQuiesce, PartitionPlan};
use crate::stage2::{Stage2, Validity};
use crate::vgic::Vgic;
use crate::vgic::direct::Direct;

/// A partition of the running machine.
pub struct Partition {
    /// Its plan, immutable.
    pub plan: PartitionPlan,
    /// Who of it runs.
    pub life: Lifecycle,
    /// Its interrupt controller, where its interrupts take exits.
    pub vgic: Vgic,
    /// Its interrupt controller, where they arrive directly.
    pub direct: Option<DirectController>,
    /// Its stage 2.
    pub confinement: Confinement,
    /// Its tables.
    pub stage2: Stage2,
    /// Its console.
    pub console: Option<Console>,
    /// How often it was restarted for a fault; locked only by its own CPUs, for a few instructions.
    pub faults: Mutex<FaultWindow>,
    cpus: Once<Box<[&'static PerCpu]>>,
    /// What signals an SGI to each vCPU, 0 for one whose CPU is not up.
    signals: [AtomicU64; MAX_VCPUS],
    restarts: AtomicU32,
    began_after: AtomicU64,
    scrubbing: AtomicU64,
    /// When the last stop was asked for, and how long its CPUs took to leave their guest, in ticks.
    stop_began: AtomicU64,
    stop_took: AtomicU64,
    /// Whether its stage 2 is in force; locked by housekeeping and by the last of its CPUs that stops.
    pub reach: Mutex<Validity>,
    last_stop: Mutex<Option<StopReason>>,
    /// The device, by its place in the plan, that did not stop mastering the bus when it was told to.
    runaway: Once<usize>,
}

/// An emulated console. Register accesses of the partition's vCPUs take the lock; the housekeeping CPU takes output
/// and hands in input without it.
pub struct Console {
    /// The registers.
    pub registers: Mutex<()>,
    /// The device.
    pub device: Pl011,
}

/// An interrupt controller with direct delivery.
pub struct DirectController {
    /// What decides.
    pub policy: Direct,
    /// One vCPU of the partition writes at a time.
    pub one_at_a_time: Mutex<()>,
    /// The console's line was high when it was looked at last.
    pub line_was_high: AtomicBool,
}

impl Partition {
    /// Makes a partition that is off.
    pub fn new(
        plan: PartitionPlan,
        vgic: Vgic,
        direct: Option<DirectController>,
        confinement: Confinement,
        stage2: Stage2,
        console: Option<Console>,
        faults: FaultWindow,
    ) -> Self {
        Self {
            life: Lifecycle::new(plan.vcpus.len()),
            plan,
            vgic,
            direct,
            confinement,
            stage2,
            console,
            faults: Mutex::new(faults),
            cpus: Once::new(),
            signals: [const { AtomicU64::new(0) }; MAX_VCPUS],
            restarts: AtomicU32::new(0),
            began_after: AtomicU64::new(0),
            scrubbing: AtomicU64::new(0),
            stop_began: AtomicU64::new(0),
            stop_took: AtomicU64::new(0),
            reach: Mutex::new(Validity::Valid),
            last_stop: Mutex::new(None),
            runaway: Once::new(),
        }
    }

    /// Names the CPUs of its vCPUs, in their order. Called once, before any of them runs.
    pub fn set_cpus(&self, cpus: Box<[&'static PerCpu]>) {
        self.cpus.call_once(|| cpus);
    }

    /// Notes what signals an SGI to a vCPU, once its CPU is up.
    pub fn set_signal(&self, vcpu: VcpuId, value: u64) {
        if let Some(signal) = self.signals.get(vcpu.index()) {
            signal.store(value, Ordering::Relaxed);
        }
    }

    /// Returns what signals an SGI to a vCPU, or 0.
    #[inline(always)]
    pub fn signal(&self, vcpu: VcpuId) -> u64 {
        self.signals.get(vcpu.index()).map_or(0, |signal| signal.load(Ordering::Relaxed))
    }

    /// Returns the CPU of a vCPU.
    #[inline(always)]
    pub fn cpu(&self, vcpu: VcpuId) -> Option<&'static PerCpu> {
        self.cpus.get()?.get(vcpu.index()).copied()
    }

    /// Counts a restart.
    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many times it was restarted.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Remembers how long it took until its guest was entered last, and how much of that went into zeroing its memory, in
    /// ticks.
    pub fn set_began(&self, after: u64, scrubbing: u64) {
        self.began_after.store(after, Ordering::Relaxed);
        self.scrubbing.store(scrubbing, Ordering::Relaxed);
    }

    /// Returns what [`Partition::set_began`] was told.
    pub fn began(&self) -> (u64, u64) {
        (self.began_after.load(Ordering::Relaxed), self.scrubbing.load(Ordering::Relaxed))
    }

    /// Notes when a stop is asked for, in ticks.
    pub fn begin_stop(&self, now: u64) {
        self.stop_began.store(now, Ordering::Relaxed);
    }

    /// Notes when the last of its CPUs has left the guest.
    pub fn end_stop(&self, now: u64) {
        self.stop_took.store(now.saturating_sub(self.stop_began.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Returns how long its CPUs took to leave their guest at the last stop, in ticks.
    pub fn stop_took(&self) -> u64 {
        self.stop_took.load(Ordering::Relaxed)
    }

    /// Remembers why it was stopped.
    pub fn set_last_stop(&self, reason: StopReason) {
        *self.last_stop.lock() = Some(reason);
    }

    /// Returns why it was stopped last.
    pub fn last_stop(&self) -> Option<StopReason> {
        *self.last_stop.lock()
    }

    /// Remembers a device, by its place in the plan, that did not stop mastering the bus.
    pub fn set_runaway(&self, device: usize) {
        self.runaway.call_once(|| device);
    }

    /// Returns the path of a bus master that cannot be stopped, if it has one: then its memory must not be used again.
    pub fn unstoppable_master(&self) -> Option<&str> {
        let devices = &self.plan.devices;
        let unstoppable = |device: &&crate::plan::DevicePlan| device.dma == Dma::Unprotected(DmaQuiesce::Unknown);
        let runaway = self.runaway.get().and_then(|place| devices.get(*place));
        runaway.or_else(|| devices.iter().find(unstoppable)).map(|device| device.path.as_str())
    }
}
