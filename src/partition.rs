// SPDX-License-Identifier: MIT OR Apache-2.0
//! Life cycle of partitions and vCPUs: who may start, stop and switch on whom, decided by compare-and-swap, so that of
//! two who ask at once exactly one wins.
//!
//! A partition is `Off`, `Preparing` (its first CPU fills its memory), `Running` or `Stopping`. A stop is a request to
//! all CPUs of the partition; each acknowledges when it has left the guest, and the last to do so learns what comes
//! next. A vCPU is switched on by another vCPU of the same partition (PSCI CPU_ON) and off by itself or by a stop.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::addr::Ipa;
use crate::id::VcpuId;

/// The state of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing runs; its memory may be anything.
    Off,
    /// Its first CPU fills its memory.
    Preparing,
    /// vCPUs run.
    Running,
    /// Its CPUs are leaving the guest.
    Stopping(Next),
}

/// What follows a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The partition stays off.
    Off,
    /// It is prepared again from its pristine images.
    Restart,
}

impl State {
    const fn encode(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Preparing => 1,
            Self::Running => 2,
            Self::Stopping(Next::Off) => 3,
            Self::Stopping(Next::Restart) => 4,
        }
    }

    const fn decode(raw: u32) -> Self {
        match raw & 0xff {
            1 => Self::Preparing,
            2 => Self::Running,
            3 => Self::Stopping(Next::Off),
            4 => Self::Stopping(Next::Restart),
            _ => Self::Off,
        }
    }
}

/// The power state of a vCPU, as PSCI AFFINITY_INFO reports it (Arm DEN 0022, 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Running.
    On,
    /// EL2 has left it.
    Off,
    /// Switched on, not yet running.
    OnPending,
}

/// Why a vCPU was not switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuOnError {
    /// The partition has no such vCPU.
    NoSuchVcpu,
    /// It runs.
    AlreadyOn,
    /// Another vCPU has just switched it on.
    OnPending,
    /// The partition is not running any more.
    NotRunning,
}

/// Where a vCPU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction.
    pub pc: Ipa,
    /// What it finds in x0.
    pub context: u64,
}

const VCPU_OFF: u8 = 0;
const VCPU_CLAIMED: u8 = 1;
const VCPU_ON_PENDING: u8 = 2;
const VCPU_ON: u8 = 3;

#[derive(Debug, Default)]
struct Vcpu {
    state: AtomicU8,
    entry: AtomicU64,
    context: AtomicU64,
}

/// The life cycle of one partition.
#[derive(Debug)]
pub struct Lifecycle {
    /// State in bits 7:0, generation above.
    state: AtomicU32,
    /// CPUs that have not yet acknowledged the stop, one bit for each vCPU.
    unacknowledged: AtomicU32,
    vcpus: Box<[Vcpu]>,
}

impl Lifecycle {
    /// Makes the life cycle of a partition of `vcpu_count` vCPUs (at most `MAX_VCPUS`), off.
    pub fn new(vcpu_count: usize) -> Self {
        Self {
            state: AtomicU32::new(State::Off.encode()),
            unacknowledged: AtomicU32::new(0),
            vcpus: (0..vcpu_count).map(|_| Vcpu::default()).collect(),
        }
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        State::decode(self.state.load(Ordering::SeqCst))
    }

    /// Returns how many times the partition was prepared; wraps at 2^24.
    pub fn generation(&self) -> u32 {
        self.state.load(Ordering::SeqCst) >> 8
    }

    /// Begins a start of a partition that is off: `true` for the one caller that won. The first CPU is to be told.
    pub fn request_start(&self) -> bool {
        self.change(State::Off, State::Preparing)
    }

    /// Ends the preparation: vCPU 0 is on and the partition runs. `false` if it was not being prepared.
    pub fn begin(&self) -> bool {
        if let Some(first) = self.vcpus.first() {
            first.state.store(VCPU_ON, Ordering::SeqCst);
        }
        let began = self.change(State::Preparing, State::Running);
        if let Some(first) = self.vcpus.first().filter(|_| !began) {
            first.state.store(VCPU_OFF, Ordering::SeqCst);
        }
        began
    }

    /// Gives up a preparation that failed.
    pub fn abandon(&self) -> bool {
        self.change(State::Preparing, State::Off)
    }

    /// Asks all CPUs of a running partition to leave the guest: `true` for the one caller that won. All its CPUs are
    /// to be kicked.
    pub fn request_stop(&self, next: Next) -> bool {
        // A CPU may see `Stopping` and acknowledge before its bit is set below. The kick that follows makes it
        // acknowledge again, which is harmless twice.
        let all = u32::MAX.checked_shr(32_u32.saturating_sub(self.vcpus.len() as u32)).unwrap_or(0);
        if self.state() != State::Running {
            return false;
        }
        let won = self.change(State::Running, State::Stopping(next));
        if won {
            self.unacknowledged.fetch_or(all, Ordering::SeqCst);
        }
        won
    }

    /// Reports that the CPU of `vcpu` has left the guest during a stop. The last of them gets what comes next, and
    /// with it the duty to call [`Self::finish_stop`].
    pub fn acknowledge(&self, vcpu: VcpuId) -> Option<Next> {
        let State::Stopping(next) = self.state() else { return None };
        self.vcpus.get(vcpu.index())?.state.store(VCPU_OFF, Ordering::SeqCst);
        let bit = 1_u32.checked_shl(u32::from(vcpu.get()))?;
        let before = self.unacknowledged.fetch_and(!bit, Ordering::SeqCst);
        (before == bit).then_some(next)
    }

    /// Returns the vCPUs whose CPUs have not left the guest yet, one bit each.
    pub fn unacknowledged(&self) -> u32 {
        self.unacknowledged.load(Ordering::SeqCst)
    }

    /// Ends a stop whose last acknowledgement the caller got: the partition is off, or `Preparing` for a restart. `next`
    /// may be [`Next::Off`] where a restart was asked for and something stands against it.
    pub fn finish_stop(&self, next: Next) -> bool {
        let stopping @ State::Stopping(_) = self.state() else { return false };
        for vcpu in &self.vcpus {
            vcpu.state.store(VCPU_OFF, Ordering::SeqCst);
        }
        let to = match next {
            Next::Off => State::Off,
            Next::Restart => State::Preparing,
        };
        self.change(stopping, to)
    }

    /// PSCI CPU_ON: claims the target for the caller and leaves it where to begin. The target's CPU is to be kicked.
    ///
    /// # Errors
    ///
    /// See [`CpuOnError`].
    pub fn cpu_on(&self, target: VcpuId, entry: Entry) -> Result<(), CpuOnError> {
        let vcpu = self.vcpus.get(target.index()).ok_or(CpuOnError::NoSuchVcpu)?;
        if self.state() != State::Running {
            return Err(CpuOnError::NotRunning);
        }
        match vcpu.state.compare_exchange(VCPU_OFF, VCPU_CLAIMED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {}
            Err(VCPU_ON) => return Err(CpuOnError::AlreadyOn),
            Err(_) => return Err(CpuOnError::OnPending),
        }
        vcpu.entry.store(entry.pc.get(), Ordering::Relaxed);
        vcpu.context.store(entry.context, Ordering::Relaxed);
        vcpu.state.store(VCPU_ON_PENDING, Ordering::SeqCst);
        Ok(())
    }

    /// Lets the vCPU's own CPU take up a pending CPU_ON of a running partition.
    pub fn take_on(&self, me: VcpuId) -> Option<Entry> {
        if self.state() != State::Running {
            return None;
        }
        let vcpu = self.vcpus.get(me.index())?;
        vcpu.state.compare_exchange(VCPU_ON_PENDING, VCPU_ON, Ordering::SeqCst, Ordering::SeqCst).ok()?;
        Some(Entry { pc: Ipa::new(vcpu.entry.load(Ordering::Relaxed)), context: vcpu.context.load(Ordering::Relaxed) })
    }

    /// PSCI CPU_OFF, after EL2 has left the vCPU on its own CPU.
    pub fn cpu_off(&self, me: VcpuId) {
        if let Some(vcpu) = self.vcpus.get(me.index()) {
            vcpu.state.store(VCPU_OFF, Ordering::SeqCst);
        }
    }

    /// Returns a vCPU's power state, or `None` for one that the partition does not have.
    pub fn power(&self, vcpu: VcpuId) -> Option<Power> {
        Some(match self.vcpus.get(vcpu.index())?.state.load(Ordering::SeqCst) {
            VCPU_ON => Power::On,
            VCPU_OFF => Power::Off,
            _ => Power::OnPending,
        })
    }

    /// Changes the state from `from` to `to`, counting generations at each preparation.
    fn change(&self, from: State, to: State) -> bool {
        let mut raw = self.state.load(Ordering::SeqCst);
        // Each further turn follows another CPU's change; once the state is not `from`, it ends.
        while State::decode(raw) == from {
            let bump = if to == State::Preparing { 1 } else { 0 };
            let changed = ((raw >> 8).wrapping_add(bump) << 8) | to.encode();
            match self.state.compare_exchange(raw, changed, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => raw = now,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { pc: Ipa::new(0x4008_0000), context: 7 };

    fn running(vcpus: usize) -> Lifecycle {
        let life = Lifecycle::new(vcpus);
        assert!(life.request_start() && life.begin());
        life
    }

    #[test]
    fn second_start_loses() {
        let life = Lifecycle::new(1);
        assert!(life.request_start());
        assert!(!life.request_start());
    }

    #[test]
    fn abandoned_preparation_does_not_begin() {
        let life = Lifecycle::new(1);
        assert!(life.request_start() && life.abandon());
        assert!(!life.begin());
        assert_eq!(life.power(VcpuId::new(0)), Some(Power::Off));
        assert!(life.request_start() && life.begin());
    }

    #[test]
    fn cpu_on_of_running_vcpu_returns_already_on() {
        let life = running(2);
        assert_eq!(life.cpu_on(VcpuId::new(0), ENTRY), Err(CpuOnError::AlreadyOn));
        assert_eq!(life.cpu_on(VcpuId::new(1), ENTRY), Ok(()));
        assert_eq!(life.cpu_on(VcpuId::new(1), ENTRY), Err(CpuOnError::OnPending));
        assert_eq!(life.power(VcpuId::new(1)), Some(Power::OnPending));
        assert_eq!(life.take_on(VcpuId::new(1)), Some(ENTRY));
        assert_eq!(life.take_on(VcpuId::new(1)), None);
        assert_eq!(life.cpu_on(VcpuId::new(1), ENTRY), Err(CpuOnError::AlreadyOn));
        assert_eq!(life.cpu_on(VcpuId::new(2), ENTRY), Err(CpuOnError::NoSuchVcpu));
    }

    #[test]
    fn vcpu_that_went_off_can_be_switched_on_again() {
        let life = running(2);
        for _ in 0..3 {
            assert_eq!(life.cpu_on(VcpuId::new(1), ENTRY), Ok(()));
            assert!(life.take_on(VcpuId::new(1)).is_some());
            life.cpu_off(VcpuId::new(1));
            assert_eq!(life.power(VcpuId::new(1)), Some(Power::Off));
        }
    }

    #[test]
    fn only_the_last_acknowledgement_ends_a_stop() {
        let life = running(3);
        assert!(life.request_stop(Next::Restart));
        assert!(!life.request_stop(Next::Off));
        assert_eq!(life.acknowledge(VcpuId::new(2)), None);
        assert_eq!(life.acknowledge(VcpuId::new(2)), None);
        assert_eq!(life.acknowledge(VcpuId::new(0)), None);
        assert_eq!(life.unacknowledged(), 0b010);
        assert_eq!(life.acknowledge(VcpuId::new(1)), Some(Next::Restart));
        assert!(life.finish_stop(Next::Restart));
        assert_eq!(life.state(), State::Preparing);
        assert_eq!(life.generation(), 2);
    }

    #[test]
    fn a_restart_that_turns_out_impossible_ends_off() {
        let life = running(1);
        assert!(life.request_stop(Next::Restart));
        assert_eq!(life.acknowledge(VcpuId::new(0)), Some(Next::Restart));
        assert!(life.finish_stop(Next::Off));
        assert_eq!(life.state(), State::Off);
        assert!(!life.finish_stop(Next::Off));
        assert!(life.request_start());
    }

    #[test]
    fn cpu_on_that_races_a_stop_is_never_taken_up() {
        let life = running(2);
        assert_eq!(life.cpu_on(VcpuId::new(1), ENTRY), Ok(()));
        assert!(life.request_stop(Next::Off));
        assert_eq!(life.take_on(VcpuId::new(1)), None);
        assert_eq!(life.cpu_on(VcpuId::new(1), ENTRY), Err(CpuOnError::NotRunning));
        assert_eq!(life.acknowledge(VcpuId::new(0)), None);
        assert_eq!(life.acknowledge(VcpuId::new(1)), Some(Next::Off));
        assert!(life.finish_stop(Next::Off));
        assert_eq!(life.power(VcpuId::new(1)), Some(Power::Off));
        assert_eq!(life.state(), State::Off);
    }

    #[test]
    fn stop_of_a_partition_of_32_vcpus_waits_for_all() {
        let life = running(32);
        assert!(life.request_stop(Next::Off));
        for vcpu in 0..31 {
            assert_eq!(life.acknowledge(VcpuId::new(vcpu)), None);
        }
        assert_eq!(life.acknowledge(VcpuId::new(31)), Some(Next::Off));
    }
}
