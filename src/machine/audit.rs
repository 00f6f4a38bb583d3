// SPDX-License-Identifier: MIT OR Apache-2.0
//! The audit: compares what the hardware holds with what the plan allows, while the machine runs. It reads the stage-2
//! tables themselves, EL2's own and the physical distributor, so that it also finds what building them got wrong. The shell's
//! `audit` prints its findings; a verdict on isolation is this one, never a guest's.

use core::fmt;

use super::Machine;
use super::partition::Partition;
use crate::addr::{IpaRange, PaRange};
use crate::arch::mmu;
use crate::id::{CpuId, Intid, PartitionId};
use crate::irqchip;
use crate::irqchip::direct::{self as interface, SpiState};
use crate::memory::HeapTables;
use crate::plan::{GuestGic, PartitionPlan};
use crate::stage2::{Kind, Leaf};

/// Something that the plan does not allow.
#[derive(Clone, Copy, Debug)]
pub enum Finding {
    /// A leaf of a partition's tables that its plan does not name.
    Mapped {
        /// Whose tables.
        partition: PartitionId,
        /// The leaf.
        leaf: Leaf,
    },
    /// EL2 maps what is a partition's, outside a window.
    Own {
        /// Whose.
        partition: PartitionId,
        /// What EL2 maps.
        range: PaRange,
    },
    /// The console's interrupt is disabled: the hypervisor hears its operator no more.
    ConsoleDisabled {
        /// Which.
        intid: Intid,
    },
    /// An SPI of a partition with direct delivery is in the hypervisor's group, as urgent as its interrupts, or goes to a CPU
    /// of nobody or of somebody else.
    Direct {
        /// Whose.
        partition: PartitionId,
        /// Which.
        intid: Intid,
        /// How the distributor holds it.
        state: SpiState,
    },
    /// On a CPU the private interrupts of the hypervisor's group are not those that are the hypervisor's.
    Private {
        /// Which CPU.
        cpu: CpuId,
        /// Those in Group 0, as bits.
        group0: u32,
    },
    /// A physical SPI is enabled that nobody owns.
    Enabled {
        /// Which.
        intid: Intid,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped { partition, leaf } => write!(
                f,
                "{partition} reaches {:#x} bytes at {} through guest address {}, which its plan does not give it",
                leaf.size, leaf.pa, leaf.ipa
            ),
            Self::Own { partition, range } => write!(f, "EL2 maps {range}, which is {partition}'s"),
            Self::Direct { partition, intid, state } => write!(
                f,
                "{intid} of {partition} is in group {} with priority {:#x}, routed to {:#x}",
                state.group, state.priority, state.route
            ),
            Self::Private { cpu, group0 } => write!(f, "{cpu}: the private interrupts of Group 0 are {group0:#x}"),
            Self::ConsoleDisabled { intid } => write!(f, "{intid}, the console's, is disabled"),
            Self::Enabled { intid } => write!(f, "{intid} is enabled, but nobody owns it"),
        }
    }
}

/// What an audit looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Audited {
    /// Leaves of stage-2 tables and of EL2's own.
    pub leaves: u32,
    /// Physical SPIs that are enabled.
    pub interrupts: u32,
}

/// Audits the machine. `console` is the hypervisor's own SPI.
pub fn audit(machine: &Machine, console: Option<Intid>, report: &mut impl FnMut(Finding)) -> Audited {
    let mut audited = Audited::default();
    for partition in &machine.partitions {
        partition.stage2.for_each_leaf(&HeapTables, &mut |leaf| {
            audited.leaves += 1;
            if !allowed(&partition.plan, leaf) {
                report(Finding::Mapped { partition: partition.plan.id, leaf });
            }
        });
    }
    mmu::for_each_mapping(&mut |range| {
        audited.leaves += 1;
        for partition in machine.partitions.iter().filter(|partition| owns_any(&partition.plan, range)) {
            report(Finding::Own { partition: partition.plan.id, range });
        }
    });
    let mut hears = console.is_none();
    for intid in irqchip::enabled_spis() {
        audited.interrupts += 1;
        hears |= console == Some(intid);
        let owns = |partition: &Partition| partition.plan.owned_interrupts().any(|owned| owned.intid == intid);
        if console != Some(intid) && !machine.partitions.iter().any(owns) {
            report(Finding::Enabled { intid });
        }
    }
    machine.partitions.iter().for_each(|partition| direct(machine, partition, report));
    if let Some(intid) = console.filter(|_| !hears) {
        report(Finding::ConsoleDisabled { intid });
    }
    audited
}

/// Looks at the interrupts of a partition that arrive at its guest directly.
fn direct(machine: &Machine, partition: &Partition, report: &mut impl FnMut(Finding)) {
    if partition.direct.is_none() {
        return;
    }
    let cpus = || partition.plan.vcpus.iter().filter_map(|vcpu| machine.cpu(vcpu.cpu));
    for owned in partition.plan.owned_interrupts() {
        let Some(state) = interface::spi_state(owned.intid) else { continue };
        let is_own_cpu = cpus().any(|cpu| cpu.mpidr.get() == state.route);
        if state.group != 1 || state.priority < 0x80 || !is_own_cpu {
            report(Finding::Direct { partition: partition.plan.id, intid: owned.intid, state });
        }
    }
    let kick = irqchip::maintenance().map_or(0, |intid| 1 << intid.get());
    for cpu in cpus() {
        let Some(group0) = cpu.port().map(interface::own_private) else { continue };
        if group0 != kick | 1 << machine.timer.get() {
            report(Finding::Private { cpu: cpu.id, group0 });
        }
    }
}

/// Tells whether memory or devices of a partition lie in a physical range.
fn owns_any(plan: &PartitionPlan, range: PaRange) -> bool {
    let memory = plan.memory.iter().filter_map(|memory| memory.pa_range());
    let devices = plan.mappings.iter().filter_map(|mapping| PaRange::new(mapping.pa, mapping.size));
    memory.chain(devices).any(|owned| owned.overlaps(&range))
}

fn allowed(plan: &PartitionPlan, leaf: Leaf) -> bool {
    let (Some(ipa), Some(pa)) = (IpaRange::new(leaf.ipa, leaf.size), PaRange::new(leaf.pa, leaf.size)) else {
        return false;
    };
    let within = |from: Option<(IpaRange, PaRange)>| {
        from.is_some_and(|(ipas, pas)| {
            let distance = ipa.start().get().wrapping_sub(ipas.start().get());
            ipas.contains_range(&ipa)
                && pas.contains_range(&pa)
                && pa.start().get().wrapping_sub(pas.start().get()) == distance
        })
    };
    let ram = plan.memory.iter().any(|memory| within(memory.ipa_range().zip(memory.pa_range())));
    let device = plan
        .mappings
        .iter()
        .any(|mapping| within(IpaRange::new(mapping.ipa, mapping.size).zip(PaRange::new(mapping.pa, mapping.size))));
    let interface = match plan.gic {
        GuestGic::V2 { cpu_interface, virtual_interface, .. } => within(Some((cpu_interface, virtual_interface))),
        GuestGic::V3 { .. } => false,
    };
    match leaf.kind {
        Kind::Ram => ram,
        Kind::Device => device || interface,
    }
}
