// SPDX-License-Identifier: MIT OR Apache-2.0
//! The physical interrupt controllers, GICv2 and GICv3, chosen by the tree. They deliver every interrupt to EL2, drop
//! its priority at once and leave its deactivation to whoever handles it (EOImode 1).
//!
//! On a GICv3 with a single security state (GICD_CTLR.DS = 1) the hypervisor's own interrupts are Group 0, more urgent than
//! any other, and arrive as FIQs on every CPU; guests' are Group 1 and arrive as IRQs, at EL2 or, with direct delivery,
//! at the guest. Elsewhere all are in one group and arrive as IRQs.

mod bank;
pub mod direct;
mod gicv2;
mod gicv3;

use core::fmt;

use spin::Once;

use crate::addr::Pa;
use crate::arch::sysreg::dsb_ishst;
use crate::config::Delivery;
use crate::id::{Intid, Mpidr};
use crate::plan::{Gic, GicFacts, GicVersion, Security};
use crate::vgic::{Control, HwBits, Lr, Maintenance, Model};
use bank::Bank;
use gicv2::GicV2;
use gicv3::GicV3;

/// The SGI that tells a CPU of mail; guests' SGIs are never physical ones.
pub const KICK: Intid = Intid::new(0);
/// The SGI that tells a CPU of an SGI of its own guest's, which is the most frequent mail.
pub const GUEST_SGI: Intid = Intid::new(1);
/// The priority of every interrupt: the priority is dropped as soon as it is acknowledged, so that none waits.
const PRIORITY: u8 = 0xa0;
/// The priority of the hypervisor's own interrupts, where they are a group of their own: more urgent than what a guest can
/// give any of its own.
const OWN_PRIORITY: u8 = 0x10;
/// How many times a register write that takes a moment is looked at again. Each look takes tens of cycles at least.
const PATIENCE: u32 = 100_000;

enum Chip {
    V2(GicV2),
    V3(GicV3),
}

static CHIP: Once<Chip> = Once::new();

/// Why the interrupt controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// No redistributor of the tree has this CPU's affinity.
    NoRedistributor(Mpidr),
    /// The redistributor did not wake up.
    Asleep(Mpidr),
    /// System-register access cannot be enabled at EL2 (ICC_SRE_EL2.SRE).
    NoSystemRegisters(Mpidr),
    /// GICD_CTLR.DS says that Group 0 is the hypervisor's, but an interrupt of it does not arrive.
    NoGroup0(Mpidr),
    /// [`init`] was not called.
    NotInitialised,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRedistributor(cpu) => write!(f, "no GIC redistributor has {cpu}"),
            Self::Asleep(cpu) => write!(f, "the GIC redistributor of {cpu} does not wake up"),
            Self::NoSystemRegisters(cpu) => write!(f, "{cpu} does not allow the GIC's system registers at EL2"),
            Self::NoGroup0(cpu) => {
                write!(f, "the GIC has one security state, but a Group 0 interrupt does not arrive at EL2 of {cpu}")
            }
            Self::NotInitialised => write!(f, "the GIC was not initialised"),
        }
    }
}

/// How one CPU is reached: what `init_cpu` has found out.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The registers of this CPU's private interrupts.
    private: Bank,
    /// Those of the SPIs, and how many words of them there are.
    spis: Bank,
    spi_words: usize,
    /// What raises an SGI with id 0 at this CPU; the id is in bits 27:24 (GICv3) or 3:0 (GICv2).
    sgi: u64,
    /// How it is told of mail.
    kick: Kick,
    /// What routes an SPI to this CPU.
    route: u64,
}

/// How a CPU is interrupted by another.
#[derive(Clone, Copy, Debug)]
enum Kick {
    /// By an SGI.
    Sgi,
    /// By a private interrupt that is made pending in its redistributor, since all SGIs are its guest's: bits of word 0.
    Private(u32),
}

/// Which interrupts are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Group 0 of a GIC with a single security state: the hypervisor's own.
    Own,
    /// All others; where there is one group, all.
    Guests,
}

/// An interrupt that was acknowledged. GICv2 wants the whole value back, with an SGI's source.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    raw: u32,
    group: Group,
}

impl Acknowledged {
    /// Wraps what the vectors have read.
    pub const fn new(raw: u32) -> Self {
        Self { raw, group: Group::Guests }
    }

    /// Returns the interrupt, or `None` if there was none (ids 1020 to 1023).
    pub fn intid(self) -> Option<Intid> {
        let id = self.raw & 0xff_ffff;
        let id = if matches!(CHIP.get(), Some(Chip::V2(_))) { id & 0x3ff } else { id };
        (!(1020..1024).contains(&id)).then_some(Intid::new(id))
    }
}

/// Chooses the driver. The registers are mapped at their physical addresses. Called once, by the boot CPU.
pub fn init(gic: &Gic) {
    CHIP.call_once(|| match &gic.version {
        GicVersion::V2 { distributor, cpu_interface, hyp_interface, .. } => {
            Chip::V2(GicV2::new(distributor.start(), *cpu_interface, hyp_interface.start(), gic.maintenance))
        }
        GicVersion::V3 { distributor, redistributors, stride } => {
            Chip::V3(GicV3::new(distributor.start(), redistributors.clone(), *stride, gic.maintenance))
        }
    });
}

macro_rules! with_chip {
    ($default:expr, $chip:ident => $call:expr) => {
        match CHIP.get() {
            Some(Chip::V2($chip)) => $call,
            Some(Chip::V3($chip)) => $call,
            None => $default,
        }
    };
}

/// Puts the distributor into a known state: every SPI disabled, not pending, not active. Called once, by the boot CPU.
pub fn init_distributor() {
    with_chip!((), chip => chip.init_distributor());
}

/// Puts the calling CPU's interface into a known state and enables the hypervisor's own interrupts. `timer` is the
/// hypervisor's timer; `delivery` says how the interrupts of this CPU's guest arrive.
///
/// # Errors
///
/// See [`InitError`].
pub fn init_cpu(mpidr: Mpidr, timer: Intid, delivery: Delivery) -> Result<Port, InitError> {
    match CHIP.get() {
        Some(Chip::V2(chip)) => chip.init_cpu(mpidr, timer),
        Some(Chip::V3(chip)) => chip.init_cpu(mpidr, timer, delivery),
        None => Err(InitError::NotInitialised),
    }
}

/// Reads what the registers say and the tree does not. They are mapped at their physical addresses.
pub fn facts(gic: &Gic) -> GicFacts {
    match &gic.version {
        GicVersion::V2 { .. } => GicFacts::UNKNOWN,
        GicVersion::V3 { distributor, .. } => {
            let security =
                if gicv3::has_one_security_state(distributor.start()) { Security::One } else { Security::Two };
            let lines = gicv3::spi_words(distributor.start()) as u32;
            GicFacts { security, intid_limit: (32 * (lines + 1)).min(1020) }
        }
    }
}

/// Makes an SPI the hypervisor's own, at the calling CPU, and enables it. `port` is the calling CPU's or that of the CPU
/// that it is to arrive at.
pub fn claim(intid: Intid, port: &Port) {
    let (word, mask) = (intid.index() / 32, 1 << (intid.get() % 32));
    if let (Some(Chip::V3(chip)), Some(bank)) = (CHIP.get(), bank(port, word))
        && chip.own_group() == Group::Own
    {
        bank.set_groups(word, bank.groups(word) & !mask);
        bank.set_priority(intid, OWN_PRIORITY);
    }
    route(intid, port);
    enable(port, word, mask);
}

/// Acknowledges the pending interrupt of highest priority.
#[inline(always)]
pub fn acknowledge() -> Acknowledged {
    Acknowledged { raw: with_chip!(1023, chip => chip.acknowledge()), group: Group::Guests }
}

/// Acknowledges the pending interrupt of the hypervisor's own group; there is none where it has no group of its own.
pub fn acknowledge_own() -> Acknowledged {
    let raw = match CHIP.get() {
        Some(Chip::V3(chip)) if chip.own_group() == Group::Own => chip.acknowledge_own(),
        _ => 1023,
    };
    Acknowledged { raw, group: Group::Own }
}

/// Drops the priority of an interrupt that was acknowledged; it stays active.
#[inline(always)]
pub fn drop_priority(interrupt: Acknowledged) {
    match interrupt.group {
        Group::Guests => with_chip!((), chip => chip.drop_priority(interrupt.raw)),
        Group::Own => gicv3::drop_own_priority(interrupt.raw),
    }
}

/// Deactivates an interrupt whose priority was dropped.
#[inline(always)]
pub fn deactivate(interrupt: Acknowledged) {
    match interrupt.group {
        Group::Guests => with_chip!((), chip => chip.deactivate(interrupt.raw)),
        Group::Own => gicv3::deactivate_own(interrupt.raw),
    }
}

/// Tells another CPU of mail, by an SGI or by what stands for it there. What was stored before is visible to it.
#[inline(always)]
pub fn kick(target: &Port) {
    match target.kick {
        Kick::Sgi => with_chip!((), chip => chip.kick(signal_value(KICK, target))),
        Kick::Private(mask) => {
            dsb_ishst(); // the mail is visible before the interrupt
            target.private.change(&HwBits { set_pending: mask, ..HwBits::default() });
        }
    }
}

/// Returns what [`signal`] takes to interrupt a CPU with one of the hypervisor's SGIs.
pub fn signal_value(sgi: Intid, target: &Port) -> u64 {
    match CHIP.get() {
        Some(Chip::V3(_)) => target.sgi | u64::from(sgi.get()) << 24,
        _ => target.sgi | u64::from(sgi.get()),
    }
}

/// Interrupts another CPU. What was stored before is visible to it.
#[inline(always)]
pub fn signal(value: u64) {
    with_chip!((), chip => chip.signal(value));
}

/// As [`signal`], where the interrupt controller is known to be a GICv3.
#[inline(always)]
pub fn signal_v3(value: u64) {
    gicv3::signal(value);
}

/// Tells whether these list registers of the calling CPU are free, where the interrupt controller is known to be a GICv3.
#[inline(always)]
pub fn are_free_v3(lrs: u32) -> bool {
    lrs & !gicv3::free_lrs() == 0
}

/// As [`signal`], where GICv2's distributor is at `gicd`.
#[inline(always)]
pub fn signal_v2(gicd: Pa, value: u64) {
    gicv2::signal(gicd, value);
}

/// Tells whether these list registers of the calling CPU are free, where GICH is at `gich`.
#[inline(always)]
pub fn are_free_v2(gich: Pa, lrs: u32) -> bool {
    lrs & !gicv2::free_lrs(gich) == 0
}

/// Writes the first list register, where GICH is at `gich`.
#[inline(always)]
pub fn write_first_lr_v2(gich: Pa, lr: Lr) {
    gicv2::write_first_lr(gich, lr);
}

/// Writes the first list register, where the interrupt controller is known to be a GICv3.
#[inline(always)]
pub fn write_first_lr_v3(lr: Lr) {
    gicv3::write_first_lr(lr);
}

/// Returns the architecture, once it is known.
pub fn model() -> Option<Model> {
    Some(match CHIP.get()? {
        Chip::V2(_) => Model::V2,
        Chip::V3(_) => Model::V3,
    })
}

/// Where GICv2's frames are.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// GICD.
    pub gicd: Pa,
    /// GICC.
    pub gicc: Pa,
    /// GICC_DIR.
    pub gicc_dir: Pa,
    /// GICH.
    pub gich: Pa,
}

/// Returns where the frames are, with GICv2.
pub fn frames() -> Option<Frames> {
    match CHIP.get()? {
        Chip::V2(chip) => Some(chip.frames()),
        Chip::V3(_) => None,
    }
}

/// Returns how many words of 32 SPIs there are, 0 to 31.
#[inline(always)]
pub fn spi_words() -> usize {
    with_chip!(0, chip => chip.spi_words())
}

/// Returns the interrupt that the virtual interface raises for maintenance.
pub fn maintenance() -> Option<Intid> {
    with_chip!(None, chip => Some(chip.maintenance()))
}

/// Walks the SPIs that are enabled.
pub fn enabled_spis() -> impl Iterator<Item = Intid> {
    (1..=spi_words()).flat_map(|word| {
        let enabled = spis().map_or(0, |bank| bank.enabled(word));
        (0..32).filter(move |bit| enabled >> bit & 1 == 1).map(move |bit| Intid::new(word as u32 * 32 + bit))
    })
}

#[inline(always)]
fn spis() -> Option<Bank> {
    with_chip!(None, chip => Some(chip.distributor()))
}

/// Returns the registers of a word: word 0 is the calling CPU's own.
#[inline(always)]
fn bank(port: &Port, word: usize) -> Option<Bank> {
    match word {
        0 => Some(port.private),
        _ => (word <= port.spi_words).then_some(port.spis),
    }
}

/// Changes state bits in the order of the fields; `port` is the calling CPU's.
pub fn change(port: &Port, bits: &HwBits) {
    let Some(bank) = bank(port, bits.word) else { return };
    if bits.disable != 0 {
        bank.disable(bits.word, bits.disable);
        wait_for_writes(port, bits.word);
    }
    bank.change(bits);
}

/// Enables interrupts of a word; `port` is the calling CPU's.
#[inline(always)]
pub fn enable(port: &Port, word: usize, mask: u32) {
    if let Some(bank) = bank(port, word) {
        bank.enable(word, mask);
    }
}

/// Returns which interrupts of a word are active; `port` is the calling CPU's.
pub fn active(port: &Port, word: usize) -> u32 {
    bank(port, word).map_or(0, |bank| bank.active(word))
}

/// Returns which interrupts of a word are pending; `port` is the calling CPU's.
pub fn pending(port: &Port, word: usize) -> u32 {
    bank(port, word).map_or(0, |bank| bank.pending(word))
}

/// Routes an SPI to a CPU. The interrupt is disabled meanwhile, if it was enabled.
pub fn route(intid: Intid, target: &Port) {
    with_chip!((), chip => chip.route(intid, target.route));
}

/// Sets which of the SPIs of `mask` are edge-triggered. They are disabled.
pub fn configure(port: &Port, word: usize, mask: u32, edge: u32) {
    static SHORT: spin::Mutex<()> = spin::Mutex::new(());
    if let Some(bank) = bank(port, word) {
        // Two bits of a register that is shared between partitions: read, modify, write under a lock that is held for
        // these few instructions, whatever a guest does.
        let _guard = SHORT.lock();
        bank.configure(word, mask, edge);
    }
}

/// Waits, bounded, until disabling is in effect.
fn wait_for_writes(port: &Port, word: usize) {
    with_chip!((), chip => chip.wait_for_writes(port, word));
}

/// Returns how many list registers the calling CPU has, 1 to 16.
pub fn list_register_count() -> u32 {
    with_chip!(1, chip => chip.list_register_count())
}

/// Returns how many priority bits a list register keeps.
pub fn priority_bits() -> u32 {
    with_chip!(5, chip => chip.priority_bits())
}

/// Reads a list register of the calling CPU.
#[inline(always)]
pub fn read_lr(index: u32) -> Lr {
    with_chip!(Lr::EMPTY, chip => chip.read_lr(index))
}

/// Writes a list register of the calling CPU.
#[inline(always)]
pub fn write_lr(index: u32, lr: Lr) {
    with_chip!((), chip => chip.write_lr(index, lr));
}

/// Returns which list registers are free, one bit each (ICH_ELRSR_EL2, GICH_ELRSR).
#[inline(always)]
pub fn free_lrs() -> u32 {
    with_chip!(0, chip => chip.free_lrs())
}

/// Returns what the guest has set in its CPU interface (ICH_VMCR_EL2, GICH_VMCR).
pub fn control() -> Control {
    Control::new(with_chip!(0, chip => chip.vmcr()))
}

/// Returns EOIcount of ICH_HCR_EL2 or GICH_HCR.
pub fn eoi_count() -> u32 {
    with_chip!(0, chip => chip.hcr()) >> 27
}

/// Chooses the maintenance interrupts and clears EOIcount.
pub fn set_maintenance(wanted: Maintenance) {
    const ENABLE: u32 = 1;
    with_chip!((), chip => chip.set_hcr(ENABLE | wanted.bits()));
}

/// Gives the calling CPU's virtual interface its reset state: no list register, no active priority, everything off.
pub fn reset_virtual_interface() {
    for index in 0..list_register_count() {
        write_lr(index, Lr::EMPTY);
    }
    with_chip!((), chip => chip.reset_virtual_interface());
    set_maintenance(Maintenance::NONE);
}

/// Reads a word of a device at a physical address that is mapped there.
#[inline(always)]
fn read32(base: Pa, offset: u64) -> u32 {
    // SAFETY: the drivers ask only for registers that the manual places at `offset` of a frame which boot has mapped.
    unsafe { ((base.get() + offset) as *const u32).read_volatile() }
}

/// Writes a word of a device at a physical address that is mapped there.
#[inline(always)]
fn write32(base: Pa, offset: u64, value: u32) {
    // SAFETY: as in `read32`; what is written concerns interrupts only.
    unsafe { ((base.get() + offset) as *mut u32).write_volatile(value) }
}
