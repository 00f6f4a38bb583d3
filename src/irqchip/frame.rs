// SPDX-License-Identifier: MIT OR Apache-2.0
//! The register frame that GICv2's distributor, GICv3's distributor and GICv3's SGI frames have in common
//! (Arm IHI 0048, 4.3; Arm IHI 0069, 12.9 and 12.11).

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};

use super::IrqchipError;
use crate::addr::Pa;
use crate::id::{Intid, Trigger};
use crate::vgic::HwBits;

/// The priority of everything that may reach a guest. Guests' own priorities act among list registers only.
const PRIORITY_GUEST: u8 = 0xa0;
/// The priority of the hypervisor's own interrupts.
const PRIORITY_HYPERVISOR: u8 = 0x80;
/// How often a register write in progress is looked at before it is given up.
const RWP_POLLS: u32 = 1_000_000;

register_structs! {
    /// Offsets below 0x1000.
    pub(super) Frame {
        /// GICD_CTLR; GICR_CTLR of the frame below for an SGI frame, where it is not here.
        (0x000 => pub(super) ctlr: ReadWrite<u32>),
        /// GICD_TYPER.
        (0x004 => pub(super) typer: ReadOnly<u32>),
        (0x008 => _reserved0),
        /// Interrupt Group.
        (0x080 => igroupr: [ReadWrite<u32>; 32]),
        /// Interrupt Set-Enable.
        (0x100 => isenabler: [ReadWrite<u32>; 32]),
        /// Interrupt Clear-Enable.
        (0x180 => icenabler: [ReadWrite<u32>; 32]),
        /// Interrupt Set-Pending.
        (0x200 => ispendr: [ReadWrite<u32>; 32]),
        /// Interrupt Clear-Pending.
        (0x280 => icpendr: [ReadWrite<u32>; 32]),
        /// Interrupt Set-Active.
        (0x300 => isactiver: [ReadWrite<u32>; 32]),
        /// Interrupt Clear-Active.
        (0x380 => icactiver: [ReadWrite<u32>; 32]),
        /// Interrupt Priority, by bytes.
        (0x400 => ipriorityr: [ReadWrite<u8>; 1024]),
        /// Interrupt Targets, by bytes; GICv2 only.
        (0x800 => itargetsr: [ReadWrite<u8>; 1024]),
        /// Interrupt Configuration.
        (0xc00 => icfgr: [ReadWrite<u32>; 64]),
        (0xd00 => _reserved1),
        /// Software Generated Interrupt; GICv2 only.
        (0xf00 => pub(super) sgir: WriteOnly<u32>),
        (0xf04 => _reserved2),
        (0x1000 => @END),
    }
}

/// Writes to read-modify-write registers that partitions share.
static CONFIG: spin::Mutex<()> = spin::Mutex::new(());

impl Frame {
    /// Returns the frame at `base`.
    ///
    /// # Safety
    /// `base` is that of a GIC frame, mapped as Device memory at VA = PA from now on.
    pub(super) unsafe fn at<'a>(base: Pa) -> &'a Self {
        // SAFETY: as the caller ensures; the registers are interior-mutable, so that shared references may coexist.
        unsafe { &*(base.get() as *const Self) }
    }

    /// Carries out changes to word `word` of the frame. `settle` waits until a disabling has taken effect.
    #[inline]
    pub(super) fn apply(&self, word: usize, bits: &HwBits, settle: impl Fn()) {
        if bits.disable != 0 {
            write(&self.icenabler, word, bits.disable);
            settle();
        }
        for (register, value) in [
            (&self.ispendr, bits.set_pending),
            (&self.icpendr, bits.clear_pending),
            (&self.isactiver, bits.activate),
            (&self.icactiver, bits.deactivate),
            (&self.isenabler, bits.enable),
        ] {
            if value != 0 {
                write(register, word, value);
            }
        }
    }

    /// Enables interrupts of a word.
    #[inline(always)]
    pub(super) fn enable(&self, word: usize, mask: u32) {
        write(&self.isenabler, word, mask);
    }

    /// Returns which interrupts of a word are pending.
    pub(super) fn pending(&self, word: usize) -> u32 {
        self.ispendr.get(word).map_or(0, |register| register.get())
    }

    /// Sets which interrupts of `mask` are edge-triggered.
    pub(super) fn configure(&self, word: usize, mask: u32, edge: u32) {
        let _lock = CONFIG.lock();
        for half in 0..2u32 {
            let mask = mask >> (16 * half) & 0xffff;
            let Some(register) = self.icfgr.get(2 * word + half as usize).filter(|_| mask != 0) else { continue };
            let fields = |bits: u32| (0..16).fold(0, |all, n| all | (bits >> n & 1) << (2 * n + 1));
            let keep = register.get() & !fields(mask);
            register.set(keep | fields(mask & edge >> (16 * half)));
        }
    }

    /// Gives the interrupts of a word the state that the hypervisor wants at its start: disabled, not pending, not active,
    /// in `group`, of the priority that guests' interrupts have.
    pub(super) fn initialise(&self, word: usize, group: u32, settle: impl Fn()) {
        self.apply(word, &HwBits::clean(word, !0), settle);
        write(&self.igroupr, word, group);
        for intid in 32 * word..32 * word + 32 {
            self.set_priority(intid, PRIORITY_GUEST);
        }
    }

    /// Enables an interrupt of the hypervisor's own.
    pub(super) fn enable_own(&self, intid: Intid) {
        self.set_priority(intid.index(), PRIORITY_HYPERVISOR);
        self.enable(intid.index() >> 5, 1 << (intid.get() & 31));
    }

    /// Sets how one interrupt signals.
    pub(super) fn set_trigger(&self, intid: Intid, trigger: Trigger) {
        let mask = 1 << (intid.get() & 31);
        self.configure(intid.index() >> 5, mask, if trigger == Trigger::Edge { mask } else { 0 });
    }

    fn set_priority(&self, intid: usize, priority: u8) {
        if let Some(register) = self.ipriorityr.get(intid) {
            register.set(priority);
        }
    }

    /// Sets GICv2's targets of an interrupt, one bit for each CPU interface.
    pub(super) fn set_targets(&self, intid: Intid, targets: u8) {
        if let Some(register) = self.itargetsr.get(intid.index()) {
            register.set(targets);
        }
    }

    /// Returns this CPU's bit in GICv2's target masks.
    pub(super) fn own_target(&self) -> u8 {
        self.itargetsr.iter().take(32).map(|register| register.get()).find(|&mask| mask != 0).unwrap_or(1)
    }

    /// Returns how many words of SPIs there are: GICD_TYPER.ITLinesNumber.
    pub(super) fn spi_words(&self) -> usize {
        (self.typer.get() & 0x1f) as usize
    }

    /// Waits until bit `bit` of the control register, a register write in progress, is clear. Gives up after a bounded
    /// number of looks.
    pub(super) fn settle(&self, bit: u32) {
        // A distributor that never settles is broken hardware; what follows does not become less safe by going on.
        let _ = poll(|| self.ctlr.get() >> bit & 1 == 0);
    }
}

/// Looks until `done` holds, a bounded number of times.
pub(super) fn poll(done: impl Fn() -> bool) -> Result<(), IrqchipError> {
    for _ in 0..RWP_POLLS {
        if done() {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(IrqchipError::RedistributorAsleep)
}

#[inline(always)]
fn write(registers: &[ReadWrite<u32>; 32], word: usize, value: u32) {
    if let Some(register) = registers.get(word) {
        register.set(value);
    }
}
