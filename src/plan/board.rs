// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hypervisor needs to know of a board, read from its device tree once and typed. The tree may be anything:
//! what cannot be used is an error that names the node.

mod cpus;
mod gic;
mod memory;
mod uart;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::{Ipa, Pa, PaRange};
use crate::devicetree::DeviceTree;
use crate::id::{CpuId, Intid, Mpidr, Trigger};

/// A board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// The root's `model`, for people.
    pub model: String,
    /// RAM: whole pages, ascending, disjoint and not touching one another.
    pub memory: Vec<PaRange>,
    /// What of the address space is spoken for: the reservation block and /reserved-memory.
    pub reserved: Vec<ReservedRange>,
    /// The CPUs; a CPU's place here is its `CpuId`.
    pub cpus: Vec<CpuNode>,
    /// How the firmware is called, if it speaks PSCI.
    pub psci: Option<Psci>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The generic timer's interrupts.
    pub timer: Timer,
    /// The hypervisor's console.
    pub console: Option<Uart>,
}

/// A range that the tree reserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedRange {
    /// Whole pages.
    pub range: PaRange,
    /// The node's path, or "memory reservation".
    pub name: String,
}

/// A physical CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuNode {
    /// Its id, equal to its place in [`Board::cpus`].
    pub id: CpuId,
    /// Its path.
    pub path: String,
    /// Its affinity.
    pub mpidr: Mpidr,
    /// How it is started.
    pub enable: CpuEnable,
    /// Whether its `status` lets it be used.
    pub enabled: bool,
    /// What it is.
    pub compatible: Vec<String>,
}

/// How a CPU is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuEnable {
    /// By PSCI's CPU_ON.
    Psci,
    /// By writing an address to `release` and sending an event.
    SpinTable {
        /// Where its 64-bit release address is written.
        release: Pa,
    },
    /// The tree does not say.
    Unknown,
}

/// PSCI as the board's firmware has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// The instruction that calls it.
    pub conduit: Conduit,
    /// The version that the tree promises.
    pub version: PsciVersion,
}

/// The instruction that calls the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// SMC.
    Smc,
    /// HVC.
    Hvc,
}

/// A version of PSCI by its binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PsciVersion {
    /// "arm,psci": function ids are in the tree.
    V0_1,
    /// "arm,psci-0.2".
    V0_2,
    /// "arm,psci-1.0" and later.
    V1_0,
}

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gic {
    /// Its path.
    pub path: String,
    /// What it is.
    pub compatible: Vec<String>,
    /// Its architecture and where its parts are.
    pub version: GicVersion,
    /// All its register regions as the tree gives them, in the tree's order.
    pub regions: Vec<PaRange>,
    /// The maintenance interrupt of the virtual interface.
    pub maintenance: Intid,
    /// What sits below it: ITS, v2m frames.
    pub children: Vec<GicChild>,
    /// The SPIs that some node of the tree names, enabled or not, ascending: all others are nobody's, as far as the tree
    /// knows.
    pub named: Vec<Intid>,
    /// What its registers say and the tree does not.
    pub facts: GicFacts,
}

/// What the registers of a GIC say and a device tree does not. The firmware reads them; on the PC the platform's facts
/// stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicFacts {
    /// Whose Group 0 is.
    pub security: Security,
    /// The number of its interrupt ids, GICD_TYPER.ITLinesNumber: a multiple of 32, at most 1020.
    pub intid_limit: u32,
}

impl GicFacts {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { security: Security::Unknown, intid_limit: 1020 };
}

/// The security states of a GIC (GICD_CTLR.DS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Nobody has said.
    Unknown,
    /// One (DS = 1): both interrupt groups are the hypervisor's.
    One,
    /// Two (DS = 0): Group 0 is the secure firmware's.
    Two,
}

/// The architecture of a GIC and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GicVersion {
    /// GICv2 with virtualization extensions.
    V2 {
        /// GICD.
        distributor: PaRange,
        /// GICC: two pages, the second with GICC_DIR.
        cpu_interface: PaRange,
        /// GICH.
        hyp_interface: PaRange,
        /// GICV: two pages, the second with GICV_DIR.
        virtual_interface: PaRange,
        /// Where a guest built for the board looks for GICC.
        guest_interface: Ipa,
    },
    /// GICv3 or v4.
    V3 {
        /// GICD.
        distributor: PaRange,
        /// The redistributor regions.
        redistributors: Vec<PaRange>,
        /// `redistributor-stride` in bytes; `None` for what GICR_TYPER says.
        stride: Option<u64>,
    },
}

/// A part of the GIC with a node of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GicChild {
    /// Its path.
    pub path: String,
    /// Its registers.
    pub registers: Vec<PaRange>,
}

/// The generic timer's interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The secure EL1 physical timer; only its place in a guest's tree matters.
    pub secure: TimerLine,
    /// The non-secure EL1 physical timer.
    pub physical: TimerLine,
    /// The virtual timer.
    pub virtual_: TimerLine,
    /// The non-secure EL2 physical timer.
    pub hypervisor: TimerLine,
}

/// One timer's interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerLine {
    /// A PPI.
    pub intid: Intid,
    /// Its flags as the binding of the GIC has them: 1, 2 for edges, 4, 8 for levels.
    pub flags: u32,
}

/// A UART.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uart {
    /// Its path.
    pub path: String,
    /// Its registers.
    pub registers: PaRange,
    /// What it is.
    pub compatible: Vec<String>,
    /// Its interrupt, if it goes to the GIC.
    pub interrupt: Option<(Intid, Trigger)>,
}

/// Why a tree describes no board that the hypervisor can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoardError {
    /// The tree names no RAM.
    NoMemory,
    /// The tree names no CPU.
    NoCpus,
    /// A CPU has no readable `reg`.
    CpuUnreadable {
        /// The CPU's path.
        path: String,
    },
    /// Two CPUs have one affinity.
    CpuTwice {
        /// The affinity.
        mpidr: Mpidr,
        /// The first CPU's path.
        first: String,
        /// The second CPU's path.
        second: String,
    },
    /// The tree has no GICv2 or GICv3.
    NoGic,
    /// A register region of the GIC is missing or unusable.
    GicUnreadable {
        /// The GIC's path.
        path: String,
        /// Which region.
        part: &'static str,
    },
    /// The GIC has no maintenance interrupt, so that it cannot be virtualised.
    NoMaintenanceInterrupt {
        /// The GIC's path.
        path: String,
    },
    /// Something else lies in the pages of GICV, so that no guest can be given them.
    VirtualInterfaceShared {
        /// The GIC's path.
        path: String,
        /// The node with the other registers.
        with: String,
    },
    /// The tree has no generic timer with its interrupts at the GIC.
    NoTimer,
    /// The console that the configuration names is not in the tree.
    NoConsole {
        /// Why, with names that come near.
        why: String,
    },
    /// The console that the configuration names has no registers.
    ConsoleWithoutRegisters {
        /// The node's path.
        path: String,
    },
}

impl fmt::Display for BoardError {
    #[rustfmt::skip]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("the device tree names no RAM: it has no enabled node with device_type = \"memory\" and a `reg`"),
            Self::NoCpus => f.write_str("the device tree names no CPU below /cpus"),
            Self::CpuUnreadable { path } => write!(f, "the `reg` of {path} cannot be read"),
            Self::CpuTwice { mpidr, first, second } => write!(f, "{first} and {second} both have {mpidr}"),
            Self::NoGic => f.write_str("the device tree has no GICv2 with virtualization extensions and no GICv3"),
            Self::GicUnreadable { path, part } => write!(f, "{path}: its {part} is missing in `reg`, or is no whole page"),
            Self::NoMaintenanceInterrupt { path } => write!(f, "{path}: no maintenance interrupt (a PPI in `interrupts`): it cannot serve guests"),
            Self::NoTimer => f.write_str("the device tree has no arm,armv8-timer whose interrupts are PPIs of the GIC"),
            Self::NoConsole { why } => write!(f, "the hypervisor's uart: {why}"),
            Self::VirtualInterfaceShared { path, with } => write!(f, "{path}: {with} lies in the two pages of GICV that guests would be given"),
            Self::ConsoleWithoutRegisters { path } => write!(f, "the hypervisor's uart {path} has no registers"),
        }
    }
}

impl Board {
    /// Reads a board from its tree. `uart` is the console's path, alias or label; `None` is /chosen's stdout-path.
    ///
    /// # Errors
    /// The first thing without which the hypervisor cannot run on the board.
    #[inline(never)]
    pub fn read(tree: &DeviceTree, uart: Option<&str>) -> Result<Self, BoardError> {
        let gic = gic::read(tree)?;
        Ok(Self {
            model: memory::model(tree),
            memory: memory::ram(tree)?,
            reserved: memory::reserved(tree),
            cpus: cpus::read(tree)?,
            psci: cpus::psci(tree),
            timer: gic::timer(tree, &gic)?,
            console: uart::read(tree, &gic, uart)?,
            gic,
        })
    }

    /// Returns a CPU that the tree has, enabled or not.
    pub fn cpu(&self, id: CpuId) -> Option<&CpuNode> {
        self.cpus.get(id.index())
    }
}
