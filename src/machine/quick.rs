// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exits that come most often, from the vectors: known hypercalls, plain accesses to the interrupt controller, SGIs.
//! What is not one of them, or leaves more to do, goes on in [`exit`](super::exit) as the last thing that happens here,
//! so that the quick way keeps nothing for it.
//!
//! None of this looks whether the partition is being stopped: a stop comes with an interrupt.

use super::interrupts::Hardware;
use super::percpu::PerCpu;
use super::{exit, interrupts};
use crate::arch::vectors::Frame;
use crate::exit::{Direction, ExitReason};
use crate::irqchip;
use crate::mmio::{self, Plain, SystemRegister};
use crate::psci::{self, Glance, ReturnCode};
use crate::vgic::{Quick, Sgi, Unfinished};
use crate::{read_sysreg, write_sysreg};

/// GICv2's GICD_SGIR.
const GICD_SGIR: u64 = 0xf00;
const ICC_SGI1R_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 5);

/// HVC from AArch64. A call that is answered here touches nothing but x0 and a counter.
pub extern "C" fn hypercall(frame: &mut Frame) {
    let counters = &PerCpu::current().counters;
    match psci::glance(frame.get(0), frame.get(1)) {
        Glance::Answer(value) => {
            counters.count(ExitReason::Hypercall);
            frame.set(0, value);
        }
        Glance::Unknown => {
            counters.count(ExitReason::UnknownCall);
            frame.set(0, ReturnCode::NotSupported.to_register());
        }
        Glance::Other => exit::hypercall(frame),
    }
}

/// A data abort of an instruction that moves none of x19 to x29, which are not in the frame.
pub extern "C" fn data_abort(frame: &mut Frame, esr: u64) {
    let this_cpu = PerCpu::current();
    let (Some(plain), Some(role)) = (mmio::decode_plain(esr), this_cpu.virtual_role()) else {
        return exit::synchronous(frame, esr);
    };
    let ipa = mmio::fault_ipa(read_sysreg!("far_el2"), read_sysreg!("hpfar_el2"));
    let vgic = &role.partition.vgic;
    let mut hardware = Hardware::new(this_cpu, role);
    let Plain { direction, width, register } = plain;
    if direction == Direction::Read {
        let value = role.distributor.offset(ipa).and_then(|offset| vgic.read_quickly(offset, width));
        let Some(value) = value else { return exit::synchronous(frame, esr) };
        frame.set(register, value);
        return done(this_cpu, ExitReason::Mmio, esr);
    }
    let value = frame.get(register) as u32;
    let written = if let Some(offset) = role.distributor.offset(ipa) {
        if offset == GICD_SGIR {
            return sgir(frame, esr, this_cpu, value);
        }
        vgic.write_quickly(role.vcpu, &mut hardware, offset, width, value)
    } else if let Some(offset) = role.redistributors.offset(ipa) {
        vgic.write_redistributor_quickly(role.vcpu, &mut hardware, offset, width, value)
    } else {
        Quick::Not
    };
    match written {
        Quick::Done => done(this_cpu, ExitReason::Mmio, esr),
        Quick::Not => exit::synchronous(frame, esr),
        Quick::Unfinished(unfinished) => finish(this_cpu, unfinished, esr),
    }
}

/// A plain write to where GICv2 has GICD_SGIR.
#[inline(never)]
fn sgir(frame: &mut Frame, esr: u64, this_cpu: &'static PerCpu, value: u32) {
    let Some(role) = this_cpu.role().filter(|role| role.redistributors.is_none() && mmio::is_word(esr)) else {
        return exit::synchronous(frame, esr);
    };
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { this_cpu.local() };
    let (gicd, gich) = (this_cpu.gicd(), this_cpu.gich());
    let signal = |vcpu| match role.partition.signal(vcpu) {
        0 => {}
        value => irqchip::signal_v2(gicd, value),
    };
    let free = |lrs| irqchip::are_free_v2(gich, lrs);
    match role.partition.vgic.send_sgir_quickly(&local.interface, value, signal, free) {
        Sgi::Sent => {}
        Sgi::Own(lr) => irqchip::write_first_lr_v2(gich, lr),
        Sgi::Latched => return take_own_sgi(this_cpu, esr),
    }
    done(this_cpu, ExitReason::Sgi, esr);
}

/// An MSR, MRS or system instruction that moves none of x19 to x29.
pub extern "C" fn system_register(frame: &mut Frame, esr: u64) {
    let this_cpu = PerCpu::current();
    let access = mmio::decode_system_access(esr);
    if access.name != ICC_SGI1R_EL1 || access.direction != Direction::Write {
        return exit::synchronous(frame, esr);
    }
    // Only GICv3 has this register.
    let Some(role) = this_cpu.virtual_role() else { return exit::synchronous(frame, esr) };
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { this_cpu.local() };
    let value = frame.get(access.register.get());
    let signal = |vcpu| match role.partition.signal(vcpu) {
        0 => {}
        value => irqchip::signal_v3(value),
    };
    match role.partition.vgic.send_sgi_quickly(&local.interface, value, signal, irqchip::are_free_v3) {
        Sgi::Sent => {}
        Sgi::Own(lr) => irqchip::write_first_lr_v3(lr),
        Sgi::Latched => return take_own_sgi(this_cpu, esr),
    }
    done(this_cpu, ExitReason::Sgi, esr);
}

/// Counts the exit and goes on behind the trapped instruction.
#[inline(always)]
fn done(this_cpu: &PerCpu, reason: ExitReason, esr: u64) {
    this_cpu.counters.count(reason);
    advance(esr);
}

#[inline(never)]
fn finish(this_cpu: &'static PerCpu, unfinished: Unfinished, esr: u64) {
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { this_cpu.local() };
    interrupts::finish(this_cpu, local, unfinished);
    done(this_cpu, ExitReason::Mmio, esr);
}

#[inline(never)]
fn take_own_sgi(this_cpu: &'static PerCpu, esr: u64) {
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { this_cpu.local() };
    interrupts::take_sgi(this_cpu, local);
    done(this_cpu, ExitReason::Sgi, esr);
}

/// Goes on behind the trapped instruction.
#[inline(always)]
pub fn advance(esr: u64) {
    let (pc, pstate) = mmio::advance(read_sysreg!("elr_el2"), read_sysreg!("spsr_el2"), esr);
    write_sysreg!("elr_el2", pc);
    write_sysreg!("spsr_el2", pstate);
}
