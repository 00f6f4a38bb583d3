// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an exit was for and what it ends in. A trap handler decides and returns an [`Action`]; the dispatcher alone
//! carries it out. Every exit is counted by [`ExitReason`] in the counters of its vCPU.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Why a guest left for EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitReason {
    /// HVC with a function that is known.
    Hypercall,
    /// SMC with a function that is known.
    Smc,
    /// A load or store that an emulated device answered.
    Mmio,
    /// A trapped system register or system instruction.
    SysReg,
    /// WFI or WFE.
    Wfx,
    /// A physical interrupt for the partition or the hypervisor.
    Irq,
    /// The GIC's maintenance interrupt.
    Maintenance,
    /// A physical SGI of the hypervisor: another CPU wants this one.
    Kick,
    /// The guest generated an SGI.
    Sgi,
    /// An instruction fetch from where nothing is.
    InstructionAbort,
    /// A data access that no device answered.
    DataAbort,
    /// An SError interrupt.
    SError,
    /// HVC or SMC with a function that nobody answers.
    UnknownCall,
    /// Anything else.
    Other,
}

impl ExitReason {
    /// How many reasons there are.
    pub const COUNT: usize = 14;

    /// All reasons, in the order of their index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Hypercall,
        Self::Smc,
        Self::Mmio,
        Self::SysReg,
        Self::Wfx,
        Self::Irq,
        Self::Maintenance,
        Self::Kick,
        Self::Sgi,
        Self::InstructionAbort,
        Self::DataAbort,
        Self::SError,
        Self::UnknownCall,
        Self::Other,
    ];

    /// Returns its place in [`ExitReason::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Hypercall => 0,
            Self::Smc => 1,
            Self::Mmio => 2,
            Self::SysReg => 3,
            Self::Wfx => 4,
            Self::Irq => 5,
            Self::Maintenance => 6,
            Self::Kick => 7,
            Self::Sgi => 8,
            Self::InstructionAbort => 9,
            Self::DataAbort => 10,
            Self::SError => 11,
            Self::UnknownCall => 12,
            Self::Other => 13,
        }
    }

    /// Returns its name in tables, at most 12 characters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hypercall => "hypercall",
            Self::Smc => "smc",
            Self::Mmio => "mmio",
            Self::SysReg => "sysreg",
            Self::Wfx => "wfx",
            Self::Irq => "irq",
            Self::Maintenance => "maintenance",
            Self::Kick => "kick",
            Self::Sgi => "sgi",
            Self::InstructionAbort => "fetch-abort",
            Self::DataAbort => "data-abort",
            Self::SError => "serror",
            Self::UnknownCall => "unknown-call",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The exits of one vCPU by reason. Only the CPU that runs the vCPU counts; any CPU may read.
#[derive(Debug, Default)]
pub struct ExitCounters {
    counts: [AtomicU64; ExitReason::COUNT],
}

impl ExitCounters {
    /// Returns how many bytes into the counters that of a reason stands, as 64 bits.
    pub const fn offset_of(reason: ExitReason) -> usize {
        core::mem::offset_of!(Self, counts) + reason.index() * size_of::<AtomicU64>()
    }

    /// Returns counters that are all 0.
    pub const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; ExitReason::COUNT] }
    }

    /// Counts one exit. Must be called by the vCPU's own CPU alone: it is a load and a store, not an atomic addition.
    #[inline(always)]
    pub fn count(&self, reason: ExitReason) {
        if let Some(counter) = self.counts.get(reason.index()) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Returns the count of one reason.
    pub fn get(&self, reason: ExitReason) -> u64 {
        self.counts.get(reason.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Returns all counts, in the order of [`ExitReason::ALL`].
    pub fn snapshot(&self) -> [u64; ExitReason::COUNT] {
        ExitReason::ALL.map(|reason| self.get(reason))
    }

    /// Sets all counts to 0, when the vCPU does not run.
    pub fn clear(&self) {
        for counter in &self.counts {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// What an exit ends in. `Stop` and `Restart` concern the whole partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on at the guest's PC as it stands: behind an HVC, at an instruction that is tried again.
    Resume,
    /// Go on behind the trapped instruction, which has been carried out for the guest or is ignored.
    Advance,
    /// Let the guest take an exception.
    Inject(Injection),
    /// Stop the partition.
    Stop(StopReason),
    /// Stop the partition and start it again from its pristine images.
    Restart(StopReason),
}

/// An exception that a guest takes at EL1 in place of what it tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// The instruction is UNDEFINED (EC 0x00).
    Undefined,
    /// A synchronous external abort on a data access.
    DataAbort {
        /// Whether the access would have written.
        direction: Direction,
        /// What it aborted on.
        on: AbortOn,
        /// The faulting virtual address, when FAR_EL2 holds it.
        far: Option<u64>,
    },
    /// A synchronous external abort on an instruction fetch.
    InstructionAbort {
        /// What it aborted on.
        on: AbortOn,
        /// The faulting virtual address, when FAR_EL2 holds it.
        far: Option<u64>,
    },
    /// A virtual SError: HCR_EL2.VSE, taken when the guest unmasks it.
    SError,
}

/// What a memory access aborted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortOn {
    /// The access itself.
    Access,
    /// The walk of the guest's own translation tables.
    TableWalk,
}

/// Whether an access reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// Why a partition was stopped or restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest called SYSTEM_OFF.
    SystemOff,
    /// The guest called SYSTEM_RESET.
    SystemReset,
    /// The operator's shell.
    Operator,
    /// The guest could not take an exception: its vectors are not in its memory.
    LostVectors,
    /// The guest's last vCPU called CPU_OFF.
    LastCpuOff,
    /// Its images or memory could not be prepared.
    LoadFailed,
    /// It was to be restarted, but a bus master of it cannot be stopped.
    MasterRuns,
    /// It was to be restarted, and its image was used in place.
    UsedUp,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SystemOff => "guest called SYSTEM_OFF",
            Self::SystemReset => "guest called SYSTEM_RESET",
            Self::Operator => "operator",
            Self::LostVectors => "guest's exception vectors are not in its memory",
            Self::LastCpuOff => "guest turned its last vCPU off",
            Self::LoadFailed => "images could not be loaded",
            Self::UsedUp => "not restarted, as it runs once: its configuration says restart = \"never\"",
            Self::MasterRuns => "not restarted, as a bus master may still write to its memory",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index_and_has_a_short_name_of_its_own() {
        for (index, reason) in ExitReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(reason.name().len() <= 12);
            assert_eq!(ExitReason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }

    #[test]
    fn counting_touches_the_given_reason_alone() {
        let counters = ExitCounters::new();
        counters.count(ExitReason::Sgi);
        counters.count(ExitReason::Sgi);
        counters.count(ExitReason::Other);
        for reason in ExitReason::ALL {
            let expected = match reason {
                ExitReason::Sgi => 2,
                ExitReason::Other => 1,
                _ => 0,
            };
            assert_eq!(counters.get(reason), expected);
        }
        counters.clear();
        assert_eq!(counters.snapshot(), [0; ExitReason::COUNT]);
    }

    #[test]
    fn an_action_fits_three_registers() {
        assert!(core::mem::size_of::<Action>() <= 24);
    }
}
