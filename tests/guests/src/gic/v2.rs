// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv2: the CPU interface, targets and SGIs.

use core::sync::atomic::{AtomicU8, Ordering};

use super::{EndMode, Group, SgiTarget, distributor};
use crate::entry::machine;
use crate::machine::{Gic, MAX_CPUS};
use crate::{cpu, mmio};

const ITARGETSR: u64 = 0x800;
const SGIR: u64 = 0xf00;

const CTLR: u64 = 0x00;
const PMR: u64 = 0x04;
const BPR: u64 = 0x08;
const IAR: u64 = 0x0c;
const EOIR: u64 = 0x10;
const RPR: u64 = 0x14;
const HPPIR: u64 = 0x18;
const ABPR: u64 = 0x1c;
const DIR: u64 = 0x1000;

const ENABLE_GROUP0: u32 = 1;
const ENABLE_GROUP1: u32 = 2;
/// IAR takes interrupts of both groups; the registers for Group 1 alone (AIAR and its like) are missing in QEMU.
const ACK_BOTH: u32 = 4;
const FIQ_ENABLE: u32 = 8;
const END_MODE: u32 = 1 << 9;

/// Each CPU's bit in ITARGETSR and SGIR, by number; 0 before it has looked.
static MASKS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];

fn interface() -> u64 {
    match machine().gic {
        Gic::V2 { cpu_interface, .. } => cpu_interface.base,
        _ => panic!("no GICv2"),
    }
}

fn read(register: u64) -> u32 {
    mmio::read32(interface() + register)
}

fn write(register: u64, value: u32) {
    mmio::write32(interface() + register, value);
}

pub fn init_interface() {
    MASKS[cpu::index()].store(own_mask(), Ordering::Release);
    write(CTLR, 0);
    write(PMR, 0xff);
    write(BPR, 2);
    write(ABPR, 3);
    write(CTLR, ENABLE_GROUP0);
}

/// Returns this CPU's bit: ITARGETSR of a private interrupt reads as the reader's.
pub fn own_mask() -> u8 {
    mmio::read8(distributor() + ITARGETSR)
}

fn mask(index: usize) -> u8 {
    MASKS[index].load(Ordering::Acquire)
}

pub fn route(intid: u32, index: usize) {
    mmio::write8(distributor() + ITARGETSR + u64::from(intid), mask(index));
}

pub fn route_of(intid: u32) -> Option<usize> {
    let targets = mmio::read8(distributor() + ITARGETSR + u64::from(intid));
    (0..MAX_CPUS).find(|index| targets != 0 && mask(*index) == targets)
}

pub fn acknowledge() -> u32 {
    read(IAR)
}

pub fn highest_pending() -> u32 {
    read(HPPIR)
}

pub fn end(taken: u32) {
    write(EOIR, taken);
}

pub fn deactivate(taken: u32) {
    write(DIR, taken);
}

pub fn running_priority() -> u8 {
    read(RPR) as u8
}

pub fn set_mask(priority: u8) {
    write(PMR, priority.into());
}

/// BPR n leaves the highest 7 - n bits to preemption; ABPR, of Group 1, 8 - n.
pub fn set_preemption_bits(group: Group, bits: u32) {
    match group {
        Group::Zero => write(BPR, 7 - bits),
        Group::One => write(ABPR, 8 - bits),
    }
}

pub fn set_end_mode(mode: EndMode) {
    let others = read(CTLR) & !END_MODE;
    write(CTLR, if mode == EndMode::Split { others | END_MODE } else { others });
}

pub fn use_both_groups(both: bool) {
    write(CTLR, if both { ENABLE_GROUP0 | ENABLE_GROUP1 | ACK_BOTH | FIQ_ENABLE } else { ENABLE_GROUP0 });
}

pub fn send_sgi(sgi: u32, target: SgiTarget) {
    let filter = match target {
        SgiTarget::Cpu(index) => u32::from(mask(index)) << 16,
        SgiTarget::Others => 1 << 24,
        SgiTarget::Own => 2 << 24,
    };
    mmio::write32(distributor() + SGIR, filter | sgi);
}
