// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv3: the redistributors, the CPU interface in system registers, routing by affinity.

use core::sync::atomic::Ordering;

use super::{EndMode, Group, SgiTarget, distributor};
use crate::entry::machine;
use crate::machine::Gic;
use crate::{cpu, mmio, read_register, write_register};

const IROUTER: u64 = 0x6000;
const GICR_TYPER: u64 = 0x0008;
const GICR_WAKER: u64 = 0x0014;
const PROCESSOR_SLEEP: u32 = 2;
const CHILDREN_ASLEEP: u32 = 4;
const SGI_FRAME: u64 = 0x1_0000;

/// Finds this CPU's redistributor and wakes it.
pub fn wake_redistributor() {
    let own = find();
    cpu::this().redistributor.store(own, Ordering::Release);
    mmio::write32(own + GICR_WAKER, mmio::read32(own + GICR_WAKER) & !PROCESSOR_SLEEP);
    while mmio::read32(own + GICR_WAKER) & CHILDREN_ASLEEP != 0 {}
}

/// Walks the redistributors to the one of this CPU's affinity.
fn find() -> u64 {
    let Gic::V3 { redistributors, .. } = machine().gic else { panic!("no GICv3") };
    let mpidr = cpu::affinity();
    let own = mpidr >> 8 & 0xff00_0000 | mpidr & 0xff_ffff;
    let mut at = redistributors.base;
    while at < redistributors.end() {
        let typer = mmio::read64(at + GICR_TYPER);
        if typer >> 32 == own {
            return at;
        }
        // Bit 4 Last; bit 1 VLPIS: two more frames.
        if typer & 1 << 4 != 0 {
            break;
        }
        at += if typer & 2 != 0 { 0x4_0000 } else { 0x2_0000 };
    }
    panic!("no redistributor for affinity {mpidr:#x}");
}

/// Returns the frame with the registers of SGIs and PPIs of a CPU that has been set up.
pub fn sgi_frame(index: usize) -> u64 {
    cpu::other(index).redistributor.load(Ordering::Acquire) + SGI_FRAME
}

pub fn init_interface() {
    write_register!("S3_0_C12_C12_5", 7); // ICC_SRE_EL1
    cpu::isb();
    write_register!("S3_0_C12_C12_4", 0); // ICC_CTLR_EL1
    set_mask(0xff);
    set_preemption_bits(Group::Zero, 5);
    set_preemption_bits(Group::One, 5);
    use_both_groups(false);
}

pub fn route(intid: u32, index: usize) {
    mmio::write64(distributor() + IROUTER + 8 * u64::from(intid), machine().cpus[index]);
}

pub fn route_of(intid: u32) -> Option<usize> {
    let target = mmio::read64(distributor() + IROUTER + 8 * u64::from(intid));
    machine().cpus.iter().position(|mpidr| *mpidr == target)
}

pub fn acknowledge(group: Group) -> u32 {
    let taken = match group {
        Group::Zero => read_register!("S3_0_C12_C8_0"),
        Group::One => read_register!("S3_0_C12_C12_0"),
    };
    taken as u32
}

pub fn highest_pending(group: Group) -> u32 {
    let pending = match group {
        Group::Zero => read_register!("S3_0_C12_C8_2"),
        Group::One => read_register!("S3_0_C12_C12_2"),
    };
    pending as u32
}

pub fn end(group: Group, taken: u32) {
    match group {
        Group::Zero => write_register!("S3_0_C12_C8_1", taken.into()),
        Group::One => write_register!("S3_0_C12_C12_1", taken.into()),
    }
}

pub fn deactivate(taken: u32) {
    write_register!("S3_0_C12_C11_1", taken.into());
}

pub fn running_priority() -> u8 {
    read_register!("S3_0_C12_C11_3") as u8
}

pub fn set_mask(priority: u8) {
    write_register!("S3_0_C4_C6_0", priority.into());
}

/// ICC_BPR0 n leaves the highest 7 - n bits to preemption, ICC_BPR1 the highest 8 - n.
pub fn set_preemption_bits(group: Group, bits: u32) {
    match group {
        Group::Zero => write_register!("S3_0_C12_C8_3", u64::from(7 - bits)),
        Group::One => write_register!("S3_0_C12_C12_3", u64::from(8 - bits)),
    }
}

pub fn set_end_mode(mode: EndMode) {
    write_register!("S3_0_C12_C12_4", if mode == EndMode::Split { 2 } else { 0 });
}

pub fn use_both_groups(both: bool) {
    write_register!("S3_0_C12_C12_6", both.into()); // ICC_IGRPEN0_EL1
    write_register!("S3_0_C12_C12_7", 1); // ICC_IGRPEN1_EL1
}

pub fn send_sgi(sgi: u32, target: SgiTarget) {
    let sgi = u64::from(sgi) << 24;
    let value = match target {
        SgiTarget::Cpu(index) => one(machine().cpus[index]) | sgi,
        SgiTarget::Own => one(cpu::affinity()) | sgi,
        SgiTarget::Others => 1 << 40 | sgi,
    };
    write_register!("S3_0_C12_C11_5", value); // ICC_SGI1R_EL1
}

/// Encodes one CPU as SGI target: affinity 3.2.1, range selector and target list.
fn one(mpidr: u64) -> u64 {
    let list = 1 << (mpidr & 0xf);
    let range = mpidr >> 4 & 0xf;
    (mpidr >> 32 & 0xff) << 48 | range << 44 | (mpidr >> 16 & 0xff) << 32 | (mpidr >> 8 & 0xff) << 16 | list
}
