// SPDX-License-Identifier: MIT OR Apache-2.0
//! The housekeeping CPU.

use crate::config::{Delivery, Manifest};
use crate::id::CpuId;
use crate::plan::board::Board;
use crate::plan::error::{Key, Place, PlanError, Problem};
use crate::plan::types::PartitionPlan;

/// Chooses the housekeeping CPU: the one that was asked for, else the lowest of the last partition whose interrupts take
/// exits anyway, else one that no partition has, else the lowest of the last partition.
pub(super) fn choose(manifest: &Manifest, board: &Board, partitions: &[PartitionPlan]) -> (CpuId, Option<PlanError>) {
    let usable = |id: CpuId| board.cpu(id).is_some_and(|cpu| cpu.enabled);
    let lowest_of_last = |delivery: Delivery| {
        let mut like = partitions.iter().rev().filter(move |partition| partition.delivery == delivery);
        like.find_map(|partition| partition.vcpus.iter().map(|vcpu| vcpu.cpu).min())
    };
    let is_idle = |id: CpuId| partitions.iter().all(|partition| partition.vcpus.iter().all(|vcpu| vcpu.cpu != id));
    let mut idle = board.cpus.iter().filter(|cpu| cpu.enabled && is_idle(cpu.id)).map(|cpu| cpu.id);
    let chosen = lowest_of_last(Delivery::Virtual).or_else(|| idle.next());
    let fallback = chosen.or_else(|| lowest_of_last(Delivery::Direct)).unwrap_or_default();
    match manifest.hypervisor.cpu {
        Some(cpu) if usable(cpu) => (cpu, None),
        Some(cpu) => {
            let at = Place { partition: None, key: Key::HousekeepingCpu };
            let problem = Problem::NoHousekeepingCpu { cpu, cpu_count: board.cpus.len() };
            (fallback, Some(PlanError { at, other: None, problem }))
        }
        None => (fallback, None),
    }
}
