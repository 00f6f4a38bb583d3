// SPDX-License-Identifier: MIT OR Apache-2.0
//! The audit: compares what the hardware holds with what the plan allows, while the machine runs. It reads the stage-2
//! tables themselves, EL2's own and the physical distributor, so that it also finds what building them got wrong. The shell's
//! `audit` prints its findings; a verdict on isolation is this one, never a guest's.

use core::fmt;

use super::Machine;
use super::partition::Partition;
use crate::addr::{IpaRange, PaRange};
use crate::arch::mmu;
use crate::id::{Intid, PartitionId};
use crate::irqchip;
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
        let owns = |partition: &Partition| partition.plan.interrupts.iter().any(|owned| owned.intid == intid);
        if console != Some(intid) && !machine.partitions.iter().any(owns) {
            report(Finding::Enabled { intid });
        }
    }
    if let Some(intid) = console.filter(|_| !hears) {
        report(Finding::ConsoleDisabled { intid });
    }
    audited
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
