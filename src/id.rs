// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identifiers. Each is a type of its own; the raw number leaves it only at the edge that needs it.

use core::fmt;
use serde::{Deserialize, Serialize};

/// The most vCPUs one partition can have.
pub const MAX_VCPUS: usize = 32;
/// The most physical CPUs the hypervisor drives.
pub const MAX_CPUS: usize = 64;
/// The most partitions of one system.
pub const MAX_PARTITIONS: usize = 64;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u8);

        impl $name {
            /// Wraps a raw index.
            pub const fn new(raw: u8) -> Self {
                Self(raw)
            }

            /// Returns the raw index.
            pub const fn get(self) -> u8 {
                self.0
            }

            /// Returns the index for use with a slice's `get`.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

index! {
    /// A physical CPU: its place among the nodes of the tree's /cpus, in tree order, disabled ones included.
    CpuId, "cpu"
}
index! {
    /// A vCPU: its place in its partition's `cpus`.
    VcpuId, "vcpu"
}
index! {
    /// A partition: its place in the configuration.
    PartitionId, "partition "
}
index! {
    /// A stage-2 VMID. 0 is nobody's; a partition's is its index plus one.
    Vmid, "vmid "
}

/// An interrupt id of the GIC: 0-15 SGI, 16-31 PPI, 32-1019 SPI, 1020-1023 special.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Intid(u32);

impl Intid {
    /// Wraps a raw interrupt id.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// Returns the raw interrupt id.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the id for use with a slice's `get`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Tells whether this is a software-generated interrupt.
    pub const fn is_sgi(self) -> bool {
        self.0 < 16
    }

    /// Tells whether this is a private peripheral interrupt.
    pub const fn is_ppi(self) -> bool {
        self.0 >= 16 && self.0 < 32
    }

    /// Tells whether this is a shared peripheral interrupt.
    pub const fn is_spi(self) -> bool {
        self.0 >= 32 && self.0 < 1020
    }
}

impl fmt::Display for Intid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INTID {}", self.0)
    }
}

/// How an interrupt line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// Edge-triggered.
    Edge,
    /// Level-sensitive.
    Level,
}

/// The affinity of a CPU: the fields Aff3..Aff0 of MPIDR_EL1, all other bits 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mpidr(u64);

impl Mpidr {
    const AFFINITY: u64 = 0xff_00ff_ffff;

    /// Keeps the affinity fields of a raw MPIDR_EL1 or of a `reg` in /cpus.
    pub const fn new(raw: u64) -> Self {
        Self(raw & Self::AFFINITY)
    }

    /// Returns the affinity fields, placed as in MPIDR_EL1.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the affinity a guest sees on its vCPU: 16 vCPUs to an Aff1, as GICv3's target lists want it.
    pub const fn of_vcpu(vcpu: VcpuId) -> Self {
        Self((vcpu.get() as u64 & 0xf) | ((vcpu.get() as u64 >> 4) << 8))
    }

    /// Returns the vCPU that a guest means by this affinity; the caller checks that the partition has it.
    pub const fn to_vcpu(self) -> Option<VcpuId> {
        let (aff0, aff1) = (self.0 & 0xff, (self.0 >> 8) & 0xff);
        if self.0 >> 16 != 0 || aff0 > 15 || aff1 > 15 {
            return None;
        }
        Some(VcpuId::new(((aff1 << 4) | aff0) as u8))
    }
}

impl fmt::Display for Mpidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MPIDR {:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpu_affinity_round_trips_for_every_vcpu() {
        for raw in 0..=255 {
            let vcpu = VcpuId::new(raw);
            assert_eq!(Mpidr::of_vcpu(vcpu).to_vcpu(), Some(vcpu));
        }
    }

    #[test]
    fn foreign_affinities_name_no_vcpu() {
        for raw in [0x10, 0x1000, 0x1_0000, 1 << 32] {
            assert_eq!(Mpidr::new(raw).to_vcpu(), None);
        }
    }
}
