// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPUs and how they are started.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::{BoardError, Conduit, CpuEnable, CpuNode, Psci, PsciVersion};
use crate::addr::Pa;
use crate::devicetree::{DeviceTree, Node, Property};
use crate::id::{CpuId, MAX_CPUS, Mpidr};

/// Reads the CPUs in the tree's order. Those behind the first [`MAX_CPUS`] are left out: nobody can name them.
pub(super) fn read(tree: &DeviceTree) -> Result<Vec<CpuNode>, BoardError> {
    let psci = psci(tree);
    let cpus = tree.root().child("cpus").ok_or(BoardError::NoCpus)?;
    let is_cpu = |node: &Node<'_>| match node.property("device_type").and_then(Property::as_str) {
        Some(kind) => kind == "cpu",
        None => node.base_name() == "cpu",
    };
    let nodes = cpus.children().filter(is_cpu).take(MAX_CPUS);
    let found: Vec<CpuNode> =
        nodes.zip(0..).map(|(node, index)| read_one(node, CpuId::new(index), psci)).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(BoardError::NoCpus);
    }
    no_two_alike(&found)?;
    Ok(found)
}

fn read_one(node: Node<'_>, id: CpuId, psci: Option<Psci>) -> Result<CpuNode, BoardError> {
    let reg = node.property("reg").and_then(Property::as_u64);
    let reg = reg.ok_or_else(|| BoardError::CpuUnreadable { path: node.path() })?;
    Ok(CpuNode {
        id,
        path: node.path(),
        mpidr: Mpidr::new(reg),
        enable: enable(node, psci),
        enabled: node.is_enabled(),
        compatible: node.compatible().map(ToString::to_string).collect(),
    })
}

/// Reads how a CPU is started; a method that cannot work as the tree stands is none.
fn enable(node: Node<'_>, psci: Option<Psci>) -> CpuEnable {
    let from = |name| node.property(name).or_else(|| node.parent().and_then(|cpus| cpus.property(name)));
    match from("enable-method").and_then(|method| method.strings().next()) {
        Some("psci") if psci.is_some() => CpuEnable::Psci,
        Some("spin-table") => match from("cpu-release-addr").and_then(Property::as_u64) {
            Some(release) => CpuEnable::SpinTable { release: Pa::new(release) },
            None => CpuEnable::Unknown,
        },
        _ => CpuEnable::Unknown,
    }
}

/// Makes sure that an affinity names one CPU.
fn no_two_alike(cpus: &[CpuNode]) -> Result<(), BoardError> {
    let mut sorted: Vec<&CpuNode> = cpus.iter().filter(|cpu| cpu.enabled).collect();
    crate::order::sort_by_key(&mut sorted, |cpu| (cpu.mpidr, cpu.id));
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && first.mpidr == second.mpidr
        {
            return Err(BoardError::CpuTwice {
                mpidr: first.mpidr,
                first: first.path.clone(),
                second: second.path.clone(),
            });
        }
    }
    Ok(())
}

/// Reads how the firmware is called. Without a clear answer it must not be called at all.
pub(super) fn psci(tree: &DeviceTree) -> Option<Psci> {
    const VERSIONS: [(&str, PsciVersion); 3] =
        [("arm,psci-1.0", PsciVersion::V1_0), ("arm,psci-0.2", PsciVersion::V0_2), ("arm,psci", PsciVersion::V0_1)];
    let version_of = |node: Node<'_>| {
        let found = VERSIONS.iter().find(|(compatible, _)| node.is_compatible(compatible));
        found.map(|(_, version)| *version)
    };
    let enabled = |(node, _): &(Node<'_>, PsciVersion)| node.is_enabled();
    let (node, version) = tree.nodes().filter_map(|node| Some((node, version_of(node)?))).find(enabled)?;
    let conduit = match node.property("method").and_then(Property::as_str) {
        Some("smc") => Conduit::Smc,
        Some("hvc") => Conduit::Hvc,
        _ => return None,
    };
    Some(Psci { conduit, version })
}
