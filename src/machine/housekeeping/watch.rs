// SPDX-License-Identifier: MIT OR Apache-2.0
//! Watches the partitions' life cycles: logs each change, names CPUs that do not leave a guest in time, and ends the
//! machine when the configuration says so.

use alloc::vec;
use alloc::vec::Vec;

use ::log::{error, info, warn};

use super::Machine;
use crate::arch::timer;
use crate::config::WhenAllOff;
use crate::console::Keyboard;
use crate::exit::StopReason;
use crate::fault::{Admission, RateLimiter};
use crate::machine::lifecycle;
use crate::machine::partition::Partition;
use crate::partition::State;

/// How long a CPU may take to leave its guest, in milliseconds. A guest cannot mask what makes it leave; only a bus that
/// does not answer an access can hold it.
const STOP_MILLISECONDS: u64 = 100;

/// After so long a guest with direct interrupts that has not left loses its memory, in milliseconds.
const TAKE_AWAY_MILLISECONDS: u64 = 2;

/// So many changes of one partition are logged in a row, then four a second: a guest that resets itself without end must not
/// push everything else out of the log.
const BURST: u32 = 32;
const INTERVAL_MILLISECONDS: u64 = 250;

/// What was last seen of a partition.
#[derive(Clone)]
struct Seen {
    state: State,
    generation: u32,
    /// When the stop that is going on must be over, in ticks; 0 once it was reported.
    deadline: u64,
    /// How many changes are logged.
    changes: RateLimiter,
}

/// What was last seen of all partitions.
pub struct Watch {
    seen: Vec<Seen>,
    /// A partition was prepared since the machine started.
    has_run: bool,
    ended: bool,
}

impl Watch {
    /// Begins to watch this many partitions, all off.
    pub fn new(partition_count: usize) -> Self {
        let changes = RateLimiter::new(BURST, timer::ticks(INTERVAL_MILLISECONDS));
        let off = Seen { state: State::Off, generation: 0, deadline: 0, changes };
        Self { seen: vec![off; partition_count], has_run: false, ended: false }
    }

    /// Logs what has changed.
    pub fn look(&mut self, machine: &Machine, keyboard: &mut Keyboard) {
        for partition in &machine.partitions {
            let Some(seen) = self.seen.get_mut(partition.plan.id.index()) else { continue };
            let (state, generation) = (partition.life.state(), partition.life.generation());
            if (state, generation) != (seen.state, seen.generation) {
                // A short life may have ended between two looks.
                self.has_run |= generation != 0;
                if !matches!(state, State::Stopping(_)) {
                    match seen.changes.admit(timer::now()) {
                        Admission::Admit { suppressed } => report(partition, seen.state, state, suppressed),
                        // It stays so; whatever came before may be left out.
                        Admission::Suppress if state == State::Off => report(partition, seen.state, state, 0),
                        Admission::Suppress => {}
                    }
                }
                if generation != seen.generation {
                    keyboard.forget(partition.plan.id);
                }
                (seen.state, seen.generation, seen.deadline) = (state, generation, deadline(state));
            }
            let late = partition.life.unacknowledged();
            let grace = timer::ticks(STOP_MILLISECONDS - TAKE_AWAY_MILLISECONDS);
            if matches!(state, State::Stopping(_))
                && partition.direct.is_some()
                && timer::now().saturating_add(grace) > seen.deadline
                && seen.deadline != 0
                && lifecycle::take_away(partition)
            {
                warn!("partition {} does not leave its CPUs: it loses its memory", partition.plan.name);
            }
            if matches!(state, State::Stopping(_)) && seen.deadline != 0 && timer::now() > seen.deadline && late != 0 {
                seen.deadline = 0;
                for vcpu in partition.plan.vcpus.iter().filter(|vcpu| late >> vcpu.id.get() & 1 == 1) {
                    error!(
                        "partition {}: {} has not left the guest after {STOP_MILLISECONDS} ms; it is lost until a reset",
                        partition.plan.name, vcpu.cpu
                    );
                }
            }
        }
    }

    /// Tells whether something is going on that has to be looked at again soon.
    pub fn is_waiting(&self) -> bool {
        self.seen.iter().any(|seen| matches!(seen.state, State::Stopping(_)) && seen.deadline != 0)
    }

    /// Ends the machine when the last partition is off, all is printed and the configuration says so.
    pub fn when_quiet(&mut self, machine: &Machine) {
        let all_off = self.seen.iter().all(|seen| seen.state == State::Off);
        if !self.has_run || !all_off || self.ended || machine.when_all_off == WhenAllOff::Stay {
            return;
        }
        self.ended = true;
        match machine.firmware {
            Some(firmware) => {
                firmware.system_off();
                error!("the firmware did not power the machine off");
            }
            None => info!("all partitions are off; this board has no firmware to power it off"),
        }
    }
}

fn deadline(state: State) -> u64 {
    match state {
        State::Stopping(_) => timer::now().saturating_add(timer::ticks(STOP_MILLISECONDS)).max(1),
        State::Off | State::Preparing | State::Running => 0,
    }
}

fn report(partition: &Partition, before: State, state: State, suppressed: u32) {
    let name = &partition.plan.name;
    if suppressed > 0 {
        warn!("partition {name}: {suppressed} changes were not shown");
    }
    match state {
        State::Running => {
            let (after, scrubbing) = partition.began();
            info!("partition {name} runs");
            info!("partition {name}: began after {after} ticks, of which {scrubbing} scrubbing");
        }
        State::Preparing if before != State::Off => match partition.last_stop() {
            Some(reason) => info!("partition {name} restarts: {reason}"),
            None => info!("partition {name} restarts"),
        },
        State::Preparing => info!("partition {name} is prepared"),
        State::Stopping(_) => {}
        State::Off => match partition.last_stop() {
            Some(reason @ (StopReason::MasterRuns | StopReason::UsedUp)) => {
                let path = partition.unstoppable_master().unwrap_or("?");
                error!("partition {name} is off: {reason}: {path}");
            }
            Some(reason) => {
                let took = timer::microseconds(partition.stop_took());
                info!("partition {name} is off: {reason}; its CPUs left it within {took} us");
            }
            None => info!("partition {name} is off"),
        },
    }
}
