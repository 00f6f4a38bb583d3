// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller as a guest sees it: GICv2 (Arm IHI 0048) or GICv3 (Arm IHI 0069), by the tree.
//!
//! The registers of the distributor that both versions have are here; `v2` and `v3` hold what differs. In GICv3 the same
//! registers of SGIs and PPIs are in each CPU's redistributor.

mod v2;
mod v3;

use crate::entry::machine;
use crate::machine::Gic;
use crate::{cpu, mmio};

const CTLR: u64 = 0x000;
const TYPER: u64 = 0x004;
const IGROUPR: u64 = 0x080;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const ICACTIVER: u64 = 0x380;
const IPRIORITYR: u64 = 0x400;
const ICFGR: u64 = 0xc00;

/// INTIDs from here on are special: there is nothing to take.
const SPECIAL: u32 = 1020;

/// The group of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Group {
    /// Group 0: FIQ on GICv3, and on GICv2 when the guest asks for it.
    Zero,
    /// Group 1: IRQ.
    One,
}

/// What makes an interrupt pending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    /// A high line.
    Level,
    /// A rising edge.
    Edge,
}

/// Whether the end of an interrupt also deactivates it (EOImode).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EndMode {
    /// EOIR drops the priority and deactivates.
    Together,
    /// EOIR drops the priority, DIR deactivates.
    Split,
}

/// Whom an SGI is for.
#[derive(Clone, Copy, Debug)]
pub enum SgiTarget {
    /// One CPU, by number.
    Cpu(usize),
    /// All but the sender.
    Others,
    /// The sender, by the mode that says so where there is one.
    Own,
}

/// An acknowledged interrupt: what IAR returned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken(pub u32);

impl Taken {
    /// Returns the INTID.
    pub fn intid(self) -> u32 {
        match machine().gic {
            Gic::V3 { .. } => self.0,
            _ => self.0 & 0x3ff,
        }
    }

    /// Returns the CPU interface that sent an SGI on GICv2; 0 on GICv3, which does not tell.
    pub fn source(self) -> u32 {
        match machine().gic {
            Gic::V3 { .. } => 0,
            _ => self.0 >> 10 & 7,
        }
    }
}

/// Tells whether the controller is a GICv3.
pub fn is_v3() -> bool {
    matches!(machine().gic, Gic::V3 { .. })
}

/// Returns the group in which a guest that does not care has its interrupts: as Linux does.
pub fn usual_group() -> Group {
    if is_v3() { Group::One } else { Group::Zero }
}

/// Returns the distributor's address.
pub fn distributor() -> u64 {
    match machine().gic {
        Gic::None => panic!("the guest needs a GIC in its tree"),
        Gic::V2 { distributor, .. } | Gic::V3 { distributor, .. } => distributor.base,
    }
}

/// Sets the distributor up: all interrupts off, edge and level as they are, priority 0xa0, in the usual group.
pub fn init_distributor() {
    let base = distributor();
    mmio::write32(base + CTLR, 0);
    wait_for_writes();
    let lines = u64::from(mmio::read32(base + TYPER) & 0x1f) + 1;
    for block in 1..lines {
        init_block(base, block);
    }
    // With one security state: bit 0 Group 0, bit 1 Group 1, bit 4 (GICv3) affinity routing.
    mmio::write32(base + CTLR, if is_v3() { 0x13 } else { 3 });
    wait_for_writes();
}

/// Sets up this CPU's interface and its own interrupts.
pub fn init_cpu() {
    if is_v3() {
        v3::wake_redistributor();
    }
    init_block(bank(0), 0);
    wait_for_writes();
    if is_v3() {
        v3::init_interface()
    } else {
        v2::init_interface()
    }
    cpu::isb();
}

fn init_block(base: u64, block: u64) {
    let group = if usual_group() == Group::One { !0 } else { 0 };
    mmio::write32(base + ICENABLER + 4 * block, !0);
    mmio::write32(base + ICPENDR + 4 * block, !0);
    mmio::write32(base + ICACTIVER + 4 * block, !0);
    mmio::write32(base + IGROUPR + 4 * block, group);
    for word in 0..8 {
        mmio::write32(base + IPRIORITYR + 32 * block + 4 * word, 0xa0a0_a0a0);
    }
}

/// Waits until the controller has taken in what was written: enables and routes (GICD_CTLR.RWP, GICR_CTLR.RWP).
pub fn wait_for_writes() {
    if is_v3() {
        while mmio::read32(distributor() + CTLR) & 1 << 31 != 0 {}
        let own = cpu::this().redistributor.load(core::sync::atomic::Ordering::Relaxed);
        while own != 0 && mmio::read32(own) & 8 != 0 {}
    }
    cpu::dsb();
}

/// Returns the address of the registers that hold `intid`, for this CPU.
pub fn bank(intid: u32) -> u64 {
    if is_v3() && intid < 32 { v3::sgi_frame(cpu::index()) } else { distributor() }
}

fn bit(register: u64, intid: u32) -> (u64, u32) {
    (bank(intid) + register + u64::from(intid / 32 * 4), 1 << (intid % 32))
}

fn set_bit(register: u64, intid: u32) {
    let (address, mask) = bit(register, intid);
    mmio::write32(address, mask);
    cpu::dsb();
}

fn get_bit(register: u64, intid: u32) -> bool {
    let (address, mask) = bit(register, intid);
    mmio::read32(address) & mask != 0
}

/// Enables an interrupt.
pub fn enable(intid: u32) {
    set_bit(ISENABLER, intid);
}

/// Disables an interrupt, and waits until that holds.
pub fn disable(intid: u32) {
    set_bit(ICENABLER, intid);
    wait_for_writes();
}

/// Tells whether an interrupt is enabled.
pub fn is_enabled(intid: u32) -> bool {
    get_bit(ISENABLER, intid)
}

/// Makes an interrupt pending.
pub fn pend(intid: u32) {
    set_bit(ISPENDR, intid);
}

/// Takes a pending state back.
pub fn unpend(intid: u32) {
    set_bit(ICPENDR, intid);
}

/// Tells whether an interrupt is pending.
pub fn is_pending(intid: u32) -> bool {
    get_bit(ISPENDR, intid)
}

/// Makes an interrupt active without taking it.
pub fn activate(intid: u32) {
    set_bit(ISACTIVER, intid);
}

/// Takes an active state back by the distributor.
pub fn clear_active(intid: u32) {
    set_bit(ICACTIVER, intid);
}

/// Tells whether an interrupt is active.
pub fn is_active(intid: u32) -> bool {
    get_bit(ISACTIVER, intid)
}

/// Sets an interrupt's priority: 0 is the most urgent.
pub fn set_priority(intid: u32, priority: u8) {
    mmio::write8(bank(intid) + IPRIORITYR + u64::from(intid), priority);
    cpu::dsb();
}

/// Returns an interrupt's priority.
pub fn priority(intid: u32) -> u8 {
    mmio::read8(bank(intid) + IPRIORITYR + u64::from(intid))
}

/// Sets an interrupt's group.
pub fn set_group(intid: u32, group: Group) {
    let (address, mask) = bit(IGROUPR, intid);
    let others = mmio::read32(address) & !mask;
    mmio::write32(address, if group == Group::One { others | mask } else { others });
    cpu::dsb();
}

/// Returns an interrupt's group.
pub fn group(intid: u32) -> Group {
    if get_bit(IGROUPR, intid) { Group::One } else { Group::Zero }
}

/// Sets what triggers an interrupt.
pub fn set_trigger(intid: u32, trigger: Trigger) {
    let address = bank(intid) + ICFGR + u64::from(intid / 16 * 4);
    let mask = 2 << (intid % 16 * 2);
    let others = mmio::read32(address) & !mask;
    mmio::write32(address, if trigger == Trigger::Edge { others | mask } else { others });
    cpu::dsb();
}

/// Returns what triggers an interrupt.
pub fn trigger(intid: u32) -> Trigger {
    let word = mmio::read32(bank(intid) + ICFGR + u64::from(intid / 16 * 4));
    if word >> (intid % 16 * 2) & 2 != 0 { Trigger::Edge } else { Trigger::Level }
}

/// Routes a shared interrupt to one CPU, by number.
pub fn route(intid: u32, index: usize) {
    if is_v3() {
        v3::route(intid, index)
    } else {
        v2::route(intid, index)
    }
    wait_for_writes();
}

/// Returns the number of the CPU to which a shared interrupt goes; `None` when that is not one CPU of the guest.
pub fn route_of(intid: u32) -> Option<usize> {
    if is_v3() { v3::route_of(intid) } else { v2::route_of(intid) }
}

/// Takes the most urgent pending interrupt of `group`.
pub fn acknowledge(group: Group) -> Option<Taken> {
    let taken = Taken(if is_v3() { v3::acknowledge(group) } else { v2::acknowledge() });
    cpu::dsb();
    (taken.intid() < SPECIAL).then_some(taken)
}

/// Returns the INTID of the most urgent pending interrupt of `group` without taking it.
pub fn highest_pending(group: Group) -> Option<u32> {
    let intid = Taken(if is_v3() { v3::highest_pending(group) } else { v2::highest_pending() }).intid();
    (intid < SPECIAL).then_some(intid)
}

/// Ends an interrupt.
pub fn end(group: Group, taken: Taken) {
    if is_v3() {
        v3::end(group, taken.0)
    } else {
        v2::end(taken.0)
    }
    cpu::isb();
}

/// Deactivates an interrupt whose priority was dropped before.
pub fn deactivate(taken: Taken) {
    if is_v3() {
        v3::deactivate(taken.0)
    } else {
        v2::deactivate(taken.0)
    }
    cpu::isb();
}

/// Returns the running priority in steps that every implementation has; `None` when nothing runs.
pub fn running_priority() -> Option<u8> {
    let priority = if is_v3() { v3::running_priority() } else { v2::running_priority() } & 0xf8;
    (priority < 0xf8).then_some(priority)
}

/// Lets only interrupts more urgent than `priority` through.
pub fn set_mask(priority: u8) {
    if is_v3() {
        v3::set_mask(priority)
    } else {
        v2::set_mask(priority)
    }
    cpu::isb();
}

/// Makes the highest `bits` bits of the priority, at most 5, decide over preemption in `group`.
pub fn set_preemption_bits(group: Group, bits: u32) {
    if is_v3() {
        v3::set_preemption_bits(group, bits)
    } else {
        v2::set_preemption_bits(group, bits)
    }
    cpu::isb();
}

/// Sets the end mode of this CPU.
pub fn set_end_mode(mode: EndMode) {
    if is_v3() {
        v3::set_end_mode(mode)
    } else {
        v2::set_end_mode(mode)
    }
    cpu::isb();
}

/// Makes this CPU's interface use both groups: Group 0 as FIQ, Group 1 as IRQ; or the usual one only.
pub fn use_both_groups(both: bool) {
    if is_v3() {
        v3::use_both_groups(both)
    } else {
        v2::use_both_groups(both)
    }
    cpu::isb();
}

/// Sends an SGI of the usual group.
pub fn send_sgi(sgi: u32, target: SgiTarget) {
    // What was written before is seen by whom the SGI wakes.
    cpu::dsb_ish();
    if is_v3() {
        v3::send_sgi(sgi, target)
    } else {
        v2::send_sgi(sgi, target)
    }
    cpu::isb();
}

/// Returns this CPU's interface number as GICv2 SGIs name it; its number in the tree on GICv3.
pub fn own_interface() -> usize {
    if is_v3() { cpu::index() } else { v2::own_mask().trailing_zeros() as usize }
}
