// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual interrupt controller: distributor, redistributors and list registers as pure policy.
//!
//! One [`Vgic`] per partition holds what its vCPUs share, as atomics; no lock is taken anywhere. One [`CpuInterface`] per
//! vCPU decides what is in the list registers; only the CPU that runs the vCPU touches it. What reaches hardware goes
//! through [`Machine`], of which the PC tests have a fake.
//!
//! Rules that everything here rests on:
//!
//! - Every SPI up to GICD_TYPER.ITLinesNumber exists for the guest. Only those the partition owns, and the linked PPIs
//!   (the guest timers), have a physical interrupt behind them (`linked`), and only those are ever named in a [`HwChange`].
//! - A linked interrupt that neither waits here nor is in a list register has its pending state in the physical
//!   distributor: ISPENDR and ICPENDR go there, and reads include it. EL2 acknowledges it, drops its priority and puts it
//!   into a list register with HW set; the guest's end of it deactivates the physical one. So it is physically active as
//!   long as it is pending or active here.
//! - A linked interrupt that is disabled while it waits, or sits pending in a list register, is given back to the physical
//!   distributor (pending again if edge-triggered or set by ISPENDR, and deactivated), so that a line that falls in the
//!   meantime takes it along.
//! - That the guest has taken what ISPENDR made pending is noticed when its list register is looked at. Where the line of a
//!   level-sensitive linked interrupt is high besides, its next arrival may hide that: then it may be pending once more
//!   than on a real distributor after the line has fallen. None is ever lost by it.
//! - An SPI is in the list registers of one vCPU at most: it must be claimed first.
//! - An access that needs another vCPU's list registers recalls them (see `recall`).

mod bank;
mod cpu;
pub mod direct;
mod distributor;
mod lr;
mod machine;
mod operations;
mod outcome;
mod quick;
mod recall;
mod redistributor;
mod registers;
mod sgi;
mod shell;
pub mod short_way;
mod targets;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod model;
#[cfg(test)]
mod race;
#[cfg(test)]
mod tables;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::SeqCst};

use crate::id::{CpuId, Intid, MAX_VCPUS, Mpidr, Trigger, VcpuId};
use crate::mmio::Width;
use crate::plan::InterruptPlan;
use bank::Bank;
use recall::Mailbox;

pub use cpu::CpuInterface;
pub use lr::Lr;
pub use machine::{Control, Level, Machine, Maintenance, Patience};
pub use outcome::{Edit, Enabled, HwBits, HwChange, Operation, Outcome, Own, Recall, VcpuMask};
pub use quick::{Quick, Sgi, Unfinished};
pub use sgi::SgiRegister;

/// The architecture of the controller that a guest sees; always that of the board's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// GICv2: at most 8 vCPUs, CPU interface by GICV.
    V2,
    /// GICv3 with one security state, affinity routing always on, no LPIs.
    V3,
}

/// What a [`Vgic`] is made from.
#[derive(Clone, Debug)]
pub struct VgicConfig<'a> {
    /// The architecture.
    pub model: Model,
    /// The CPU of each vCPU.
    pub cpus: &'a [CpuId],
    /// How many words of 32 SPIs: the board's GICD_TYPER.ITLinesNumber, 0 to 31.
    pub spi_words: usize,
    /// How many priority bits a list register keeps, 4 to 8; GICv2 keeps 5.
    pub priority_bits: u32,
    /// PPIs with the physical PPI of the same id behind them, bits 16 to 31: the guest timers.
    pub linked_ppis: u32,
    /// The SPIs that the partition owns. Ids that are no SPI of the board are ignored.
    pub interrupts: &'a [InterruptPlan],
}

/// Why there is no [`Vgic`] of this configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VgicError {
    /// A partition has between 1 and 32 vCPUs, with GICv2 at most 8.
    VcpuCount {
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
}

impl fmt::Display for VgicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VcpuCount { count, limit } => {
                write!(f, "{count} vCPUs, but this interrupt controller serves 1 to {limit}")
            }
        }
    }
}

/// A partition's interrupt controller.
pub struct Vgic {
    model: Model,
    priority_mask: u8,
    /// GICD_CTLR.EnableGrp0 and EnableGrp1.
    groups: AtomicU32,
    /// vCPUs that run.
    online: AtomicU32,
    /// All vCPUs, one bit each.
    all: u32,
    spis: Box<[Bank]>,
    vcpus: Box<[Vcpu]>,
}

/// What is one vCPU's, but visible to the others. The vectors know how the first two stand (`short_way`).
#[repr(C)]
struct Vcpu {
    /// SGIs and PPIs.
    bank: Bank,
    /// GICv2: for each SGI the CPU interfaces it is pending from.
    sources: [AtomicU8; 16],
    cpu: CpuId,
    /// Whether it was kicked and has not looked since.
    attention: AtomicBool,
    /// GICR_WAKER.ProcessorSleep.
    asleep: AtomicU32,
    mailbox: Mailbox,
}

/// SGIs are edge-triggered.
const SGIS: u32 = 0xffff;

impl Vgic {
    /// Makes a controller in its reset state, with every vCPU off.
    ///
    /// # Errors
    /// See [`VgicError`].
    pub fn new(config: &VgicConfig<'_>) -> Result<Self, VgicError> {
        let limit = match config.model {
            Model::V2 => 8,
            Model::V3 => MAX_VCPUS,
        };
        let count = config.cpus.len();
        if count == 0 || count > limit {
            return Err(VgicError::VcpuCount { count, limit });
        }
        let owned = |word: usize, trigger: Option<Trigger>| {
            config
                .interrupts
                .iter()
                .filter(|irq| irq.intid.is_spi() && irq.intid.index() >> 5 == word)
                .filter(|irq| trigger.is_none_or(|trigger| irq.trigger == trigger))
                .fold(0, |mask, irq| mask | 1 << (irq.intid.get() & 31))
        };
        let spis: Vec<Bank> = (1..=config.spi_words.min(31))
            .map(|word| Bank::new(word, None, owned(word, None), owned(word, Some(Trigger::Edge))))
            .collect();
        let vcpus: Vec<Vcpu> = (0u8..)
            .zip(config.cpus)
            .map(|(raw, &cpu)| Vcpu {
                cpu,
                bank: Bank::new(0, Some((config.model, VcpuId::new(raw))), config.linked_ppis & !SGIS, SGIS),
                sources: [const { AtomicU8::new(0) }; 16],
                attention: AtomicBool::new(false),
                asleep: AtomicU32::new(0),
                mailbox: Mailbox::default(),
            })
            .collect();
        let vgic = Self {
            model: config.model,
            priority_mask: !(0xff_u32 >> config.priority_bits.clamp(4, 8)) as u8,
            groups: AtomicU32::new(0),
            online: AtomicU32::new(0),
            all: (1_u64 << count).wrapping_sub(1) as u32,
            spis: spis.into_boxed_slice(),
            vcpus: vcpus.into_boxed_slice(),
        };
        vgic.reset();
        Ok(vgic)
    }

    /// Returns to the reset state, every vCPU off. For a partition whose vCPUs are all stopped; the physical side is
    /// cleaned by the hardware layer.
    pub fn reset(&self) {
        self.groups.store(0, SeqCst);
        self.online.store(0, SeqCst);
        let single = self.vcpus.len() == 1;
        for bank in &self.spis {
            match self.model {
                // A GICv2 with one CPU sends everything there (IHI 0048, 4.3.12); with more, nowhere at first.
                Model::V2 if single => bank.reset(0, 1, 0),
                Model::V2 => bank.reset(0, 0, !0),
                Model::V3 => bank.reset(0, 0, 0),
            }
        }
        for vcpu in &self.vcpus {
            // GICv2's SGIs are always enabled here (IHI 0048, 4.3.5 leaves it to us).
            let enable = match self.model {
                Model::V2 => SGIS,
                Model::V3 => 0,
            };
            vcpu.bank.reset(enable, 0, 0);
            vcpu.sources.iter().for_each(|source| source.store(0, SeqCst));
            vcpu.attention.store(false, SeqCst);
            vcpu.asleep.store(1, SeqCst);
            vcpu.mailbox.reset();
        }
    }

    /// Returns the architecture that the guest sees.
    pub fn model(&self) -> Model {
        self.model
    }

    /// Returns how many vCPUs there are.
    pub fn vcpu_count(&self) -> usize {
        self.vcpus.len()
    }

    /// Returns the CPU of a vCPU.
    pub fn cpu_of(&self, vcpu: VcpuId) -> Option<CpuId> {
        self.vcpu(vcpu).map(|vcpu| vcpu.cpu)
    }

    /// Tells whether the interrupt is an SPI that the partition owns.
    pub fn owns(&self, intid: Intid) -> bool {
        intid.is_spi()
            && self.spi_bank(intid.index() >> 5).is_some_and(|bank| bank.linked >> (intid.get() & 31) & 1 == 1)
    }

    /// Walks the words of SPIs that the partition owns any of: the word and its owned interrupts, and which of them
    /// are edge-triggered after a reset.
    pub fn owned_words(&self) -> impl Iterator<Item = (usize, u32, u32)> + '_ {
        (1..)
            .zip(&self.spis)
            .map(|(word, bank)| (word, bank.linked, bank.edge_at_reset))
            .filter(|&(_, mask, _)| mask != 0)
    }

    /// Returns the PPIs that have a physical one behind them, as bits of word 0.
    pub fn linked_ppis(&self) -> u32 {
        self.vcpus.first().map_or(0, |vcpu| vcpu.bank.linked)
    }

    #[inline(always)]
    fn vcpu(&self, id: VcpuId) -> Option<&Vcpu> {
        self.vcpus.get(id.index())
    }

    #[inline(always)]
    fn spi_bank(&self, word: usize) -> Option<&Bank> {
        self.spis.get(word.checked_sub(1)?)
    }

    /// Returns the bank of a word as `me` sees it.
    #[inline(always)]
    fn bank(&self, me: VcpuId, word: usize) -> Option<&Bank> {
        match word.checked_sub(1) {
            None => self.vcpu(me).map(|vcpu| &vcpu.bank),
            Some(spi) => self.spis.get(spi),
        }
    }

    #[inline(always)]
    fn online(&self) -> VcpuMask {
        VcpuMask::new(self.online.load(SeqCst))
    }

    /// Returns the vCPU that an interrupt of a bank goes to. A GICv2 SPI with several targets goes to the lowest one.
    fn target(&self, bank: &Bank, bit: u32) -> Option<VcpuId> {
        if bank.home.is_some() {
            return bank.home;
        }
        self.route_target(bank.irq(bit).route.load(SeqCst))
    }

    /// Returns the vCPU that a route means.
    fn route_target(&self, route: u32) -> Option<VcpuId> {
        let target = match self.model {
            Model::V2 => VcpuId::new(route.trailing_zeros() as u8),
            Model::V3 => Mpidr::new(u64::from(route & 0xff_ffff) | u64::from(route >> 24) << 32).to_vcpu()?,
        };
        (target.index() < self.vcpus.len()).then_some(target)
    }

    /// Returns whom an interrupt concerns: who has it or had it last, and who it goes to. Both, since the one may be about
    /// to let go of it and the other about to look in vain.
    fn concerned(&self, bank: &Bank, bit: u32) -> VcpuMask {
        let target = self.target(bank, bit).map_or(VcpuMask::NONE, VcpuMask::of);
        match bank.home {
            Some(_) => target,
            None => bank.irq(bit).holder().map_or(target, |holder| target.with(holder)),
        }
    }

    /// Notes that a vCPU must look at everything again, and returns it as a set if it runs.
    fn summon(&self, vcpu: VcpuId) -> VcpuMask {
        match self.vcpu(vcpu) {
            Some(shared) if self.online().contains(vcpu) => {
                shared.attention.store(true, SeqCst);
                VcpuMask::of(vcpu)
            }
            _ => VcpuMask::NONE,
        }
    }

    /// Notes for each interrupt of `mask` that whoever it concerns must look again; returns those who run.
    fn summon_for(&self, bank: &Bank, mask: u32) -> VcpuMask {
        outcome::bits(mask)
            .fold(VcpuMask::NONE, |all, bit| all.union(self.concerned(bank, bit)))
            .iter()
            .fold(VcpuMask::NONE, |all, vcpu| all.union(self.summon(vcpu)))
    }

    /// Sets the line of an emulated device, from any CPU, and returns the vCPUs that must be kicked. An SPI that the
    /// partition owns physically, or that does not exist, has no such line.
    pub fn set_line(&self, intid: Intid, level: Level) -> VcpuMask {
        let bit = intid.get() & 31;
        let mask = 1 << bit;
        let Some(bank) = self.spi_bank(intid.index() >> 5).filter(|bank| bank.linked & mask == 0) else {
            return VcpuMask::NONE;
        };
        match level {
            Level::High => {
                let rose = bank.line.fetch_or(mask, SeqCst) & mask == 0;
                if rose && bank.edge.load(SeqCst) & mask != 0 {
                    bank.latch.fetch_or(mask, SeqCst);
                }
                if rose && bank.enable.load(SeqCst) & mask != 0 {
                    return self.summon_for(bank, mask);
                }
            }
            Level::Low => {
                let fell = bank.line.fetch_and(!mask, SeqCst) & mask != 0;
                // Only a list register may have to forget it.
                if let Some(holder) = bank.irq(bit).holder().filter(|_| fell) {
                    return self.summon(holder);
                }
            }
        }
        VcpuMask::NONE
    }
}
