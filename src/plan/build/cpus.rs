// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPUs: each belongs to one partition.

use super::Context;
use super::draft::{self, Draft};
use crate::id::MAX_VCPUS;
use crate::plan::board::GicVersion;
use crate::plan::error::{Key, Problem};

/// A GICv2 names its CPUs by the bits of a byte (GICD_ITARGETSR, Arm IHI 0048B, section 4.3.12).
const GICV2_CPUS: usize = 8;

/// Looks at the CPUs of one partition.
pub(super) fn check(draft: &mut Draft<'_>, context: &Context<'_>) {
    let board = context.board;
    let (limit, limited_by) = match board.gic.version {
        GicVersion::V2 { .. } => (GICV2_CPUS, "a GICv2"),
        GicVersion::V3 { .. } => (MAX_VCPUS, "the hypervisor"),
    };
    let spec = draft.spec;
    let count = spec.cpus.len();
    if count == 0 {
        draft.fail(Key::Table, Problem::NoCpus { partition: draft.name() });
    }
    if count > limit {
        let problem = Problem::TooManyVcpus { partition: draft.name(), count, limit, limited_by };
        draft.fail(Key::Cpu(limit), problem);
    }
    for (index, cpu) in spec.cpus.iter().copied().enumerate().take(u8::MAX.into()) {
        let partition = draft.name();
        match board.cpu(cpu) {
            None => {
                let cpu_count = board.cpus.len();
                draft.fail(Key::Cpu(index), Problem::CpuAbsent { partition, cpu, cpu_count });
            }
            Some(node) if !node.enabled => {
                let path = node.path.clone();
                draft.fail(Key::Cpu(index), Problem::CpuDisabled { partition, cpu, path });
            }
            Some(_) => {}
        }
        let earlier = spec.cpus.iter().take(index);
        if earlier.copied().any(|other| other == cpu) {
            let (first, second) = (draft.name(), draft.name());
            draft.fail(Key::Cpu(index), Problem::CpuTwice { cpu, first, second });
        }
    }
}

/// Finds CPUs that were given to two partitions.
pub(super) fn compare(drafts: &mut [Draft<'_>]) {
    draft::each_pair(drafts, |first, second| {
        let (ours, theirs) = (first.spec, second.spec);
        for (index, cpu) in ours.cpus.iter().copied().enumerate().take(u8::MAX.into()) {
            let Some(other) = theirs.cpus.iter().position(|other| *other == cpu) else {
                continue;
            };
            let problem = Problem::CpuTwice { cpu, first: first.name(), second: second.name() };
            draft::conflict(first, Key::Cpu(index), second, Key::Cpu(other), problem);
        }
    });
}
