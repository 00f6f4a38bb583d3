// SPDX-License-Identifier: MIT OR Apache-2.0
//! The physical interrupt controller: GICv2 or GICv3, chosen once by what the device tree says. [`guest`] joins it to a
//! partition's [`crate::vgic::Vgic`].
//!
//! Owns the distributor, the redistributors and the CPU interfaces; nothing else touches them. Partitions' SPIs are
//! disabled until their guests enable them, and each is routed to a CPU of its partition only. The hypervisor itself
//! uses SGI 0 ([`KICK`]), the maintenance interrupt, its timer and its console's interrupt.

mod frame;
mod gicv2;
mod gicv3;
pub mod guest;
mod sysreg;

use core::fmt;
use spin::Once;

use crate::id::{CpuId, Intid, Mpidr, Trigger};
use crate::plan::{Gic, GicVersion};
use crate::vgic::{Control, HwBits, Lr, Maintenance, Model};
use gicv2::GicV2;
use gicv3::GicV3;

/// The SGI by which a CPU makes another one leave its guest. Secure firmware commonly keeps SGIs 8 to 15.
pub const KICK: Intid = Intid::new(0);

/// What an acknowledge register gave: the interrupt, with GICv2 and an SGI also its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged(u32);

impl Acknowledged {
    /// Returns the interrupt; from 1020 on there is none.
    #[inline(always)]
    pub const fn intid(self) -> Intid {
        // With GICv2 bits 12:10 are the source of an SGI; ids of both end at 1023 here, as there are no LPIs.
        Intid::new(self.0 & 0x3ff)
    }
}

/// Why the interrupt controller cannot be used on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqchipError {
    /// No redistributor region of the device tree has this CPU's frames.
    NoRedistributor {
        /// The CPU's affinity.
        mpidr: Mpidr,
    },
    /// The redistributor does not wake up (GICR_WAKER.ChildrenAsleep stays set).
    RedistributorAsleep,
}

impl fmt::Display for IrqchipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRedistributor { mpidr } => write!(f, "no GICv3 redistributor has the affinity of {mpidr}"),
            Self::RedistributorAsleep => f.write_str("the GICv3 redistributor does not wake up"),
        }
    }
}

/// What the hypervisor uses itself.
#[derive(Clone, Copy, Debug)]
pub struct OwnInterrupts {
    /// The maintenance interrupt of the virtual CPU interface, a PPI.
    pub maintenance: Intid,
    /// EL2's physical timer, a PPI.
    pub timer: Intid,
    /// The console UART's, an SPI.
    pub console: Option<(Intid, Trigger)>,
}

enum Driver {
    V2(GicV2),
    V3(GicV3),
}

struct Chip {
    driver: Driver,
    own: OwnInterrupts,
}

static CHIP: Once<Chip> = Once::new();

/// What both architectures do for the CPU that executes. `cpu` names that CPU where its private registers are needed.
trait Interface {
    fn acknowledge(&self) -> Acknowledged;
    fn drop_priority(&self, acknowledged: Acknowledged);
    fn deactivate(&self, acknowledged: Acknowledged);
    fn kick(&self, cpu: CpuId);
    fn enable(&self, cpu: CpuId, word: usize, mask: u32);
    fn change(&self, cpu: CpuId, bits: &HwBits);
    fn route(&self, intid: Intid, cpu: CpuId);
    fn configure(&self, word: usize, mask: u32, edge: u32);
    fn pending(&self, cpu: CpuId, word: usize) -> u32;
    fn free_lrs(&self) -> u32;
    fn read_lr(&self, index: u32) -> Lr;
    fn write_lr(&self, index: u32, lr: Lr);
    fn lr_count(&self) -> u32;
    fn priority_bits(&self) -> u32;
    fn control(&self) -> Control;
    fn eoi_count(&self) -> u32;
    fn set_maintenance(&self, wanted: Maintenance);
    fn reset_interface(&self);
}

/// Evaluates an expression with `$gic` bound to the driver, compiled once for each.
macro_rules! with_driver {
    ($gic:ident => $body:expr) => {
        match &$crate::irqchip::chip().driver {
            $crate::irqchip::Driver::V2($gic) => $body,
            $crate::irqchip::Driver::V3($gic) => $body,
        }
    };
}
use with_driver;

/// Returns the interrupt controller. The boot CPU has called [`init`] before anything else here is called.
#[inline(always)]
fn chip() -> &'static Chip {
    match CHIP.get() {
        Some(chip) => chip,
        None => uninitialised(),
    }
}

#[cold]
#[allow(clippy::panic, reason = "a mistake of the hypervisor's own, found at the first boot")]
fn uninitialised() -> ! {
    panic!("the interrupt controller is used before it is initialised")
}

/// Chooses the driver and takes the distributor over. Once, on the boot CPU, with the GIC's registers mapped as Device
/// memory at VA = PA.
pub fn init(gic: &Gic, own: OwnInterrupts) {
    let driver = match &gic.version {
        GicVersion::V2 { distributor, cpu_interface, hyp_interface, .. } => {
            Driver::V2(GicV2::new(distributor.start(), cpu_interface.start(), hyp_interface.start()))
        }
        GicVersion::V3 { distributor, redistributors, stride } => {
            Driver::V3(GicV3::new(distributor.start(), redistributors, *stride))
        }
    };
    let chip = CHIP.call_once(|| Chip { driver, own });
    match &chip.driver {
        Driver::V2(gic) => gic.init_distributor(),
        Driver::V3(gic) => gic.init_distributor(),
    }
}

/// Takes the executing CPU's private interrupts and CPU interface over. Once on each CPU, before it unmasks interrupts
/// or runs a guest; the kick, the maintenance interrupt and EL2's timer are enabled then.
///
/// # Errors
/// See [`IrqchipError`]: the CPU cannot run a partition.
pub fn init_cpu(cpu: CpuId, mpidr: Mpidr) -> Result<(), IrqchipError> {
    let chip = chip();
    let own = [KICK, chip.own.maintenance, chip.own.timer];
    match &chip.driver {
        Driver::V2(gic) => gic.init_cpu(cpu, &own),
        Driver::V3(gic) => gic.init_cpu(cpu, mpidr, &own)?,
    }
    with_driver!(gic => gic.reset_interface());
    Ok(())
}

/// Routes the console UART's interrupt to a CPU that has come up, and enables it.
pub fn enable_console(cpu: CpuId) {
    let chip = chip();
    if let Some((intid, trigger)) = chip.own.console {
        match &chip.driver {
            Driver::V2(gic) => gic.frame().set_trigger(intid, trigger),
            Driver::V3(gic) => gic.frame().set_trigger(intid, trigger),
        }
        with_driver!(gic => gic.route(intid, cpu));
        match &chip.driver {
            Driver::V2(gic) => gic.frame().enable_own(intid),
            Driver::V3(gic) => gic.frame().enable_own(intid),
        }
    }
}

/// Returns the architecture.
pub fn model() -> Model {
    match &chip().driver {
        Driver::V2(_) => Model::V2,
        Driver::V3(_) => Model::V3,
    }
}

/// Returns how many words of 32 SPIs the distributor has: GICD_TYPER.ITLinesNumber.
pub fn spi_words() -> usize {
    match &chip().driver {
        Driver::V2(gic) => gic.frame().spi_words(),
        Driver::V3(gic) => gic.frame().spi_words(),
    }
}

/// Returns how many list registers the executing CPU has, at most 16.
pub fn lr_count() -> u32 {
    with_driver!(gic => gic.lr_count()).min(16)
}

/// Returns how many bits of a priority list registers keep.
pub fn priority_bits() -> u32 {
    with_driver!(gic => gic.priority_bits())
}

/// Makes a CPU leave its guest, or wakes it from WFI. What it shall find in memory must have been written before.
pub fn kick(cpu: CpuId) {
    with_driver!(gic => gic.kick(cpu));
}
