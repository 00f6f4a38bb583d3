// SPDX-License-Identifier: MIT OR Apache-2.0
//! The EL2 vectors. An exit saves what the Rust handler may clobber (AAPCS64: x0 to x18 and x30), calls it, and returns;
//! handlers that need a guest's other registers get them saved too. ELR_EL2 and SPSR_EL2 stay in their registers,
//! since EL2 runs with all exceptions masked and never nests.
//!
//! There is one table for each architecture of the interrupt controller. They differ in the short way of an interrupt
//! (`short_way_v3.s` and `short_way_v2.s`): from its acknowledgement into a list register and back to the guest without
//! Rust, as [`crate::vgic::CpuInterface::hardware_lr`] says it in Rust. What it reads is found through [`Hot`].

use core::arch::global_asm;

use crate::irqchip::GUEST_SGI;
use crate::machine::percpu::{Hot, PerCpu};
use crate::vgic::{Model, short_way};
use crate::write_sysreg;

/// A guest's general-purpose registers during an exit. x19 to x29 are live only in exits by [`full`].
///
/// [`full`]: self
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// x0 to x30, and for the zero register a 0 that `enter_guest` has put there: each exit's frame is at the top of the
    /// stack, and nothing else is while a guest runs.
    x: [u64; 32],
}

impl Frame {
    /// Returns register `index`, of which the low 5 bits count; 31 is the zero register.
    #[inline(always)]
    pub fn get(&self, index: u8) -> u64 {
        self.x.get(usize::from(index & 31)).copied().unwrap_or(0)
    }

    /// Sets register `index`, of which the low 5 bits count; 31 is the zero register.
    #[inline(always)]
    pub fn set(&mut self, index: u8, value: u64) {
        if let Some(register) = self.x.get_mut(usize::from(index & 31)).filter(|_| index & 31 != 31) {
            *register = value;
        }
    }
}

global_asm!(
    include_str!("vectors.s"),
    include_str!("short_way.s"),
    include_str!("short_way_v3.s"),
    include_str!("short_way_v2.s"),
    emergency = const Hot::EMERGENCY_STACK_TOP,
    private = const Hot::PRIVATE,
    spis = const Hot::SPIS,
    spi_words = const Hot::SPI_WORDS,
    groups = const Hot::GROUPS,
    gicc = const Hot::GICC,
    gicc_dir = const Hot::GICC_DIR,
    gich = const Hot::GICH,
    below = const PerCpu::SHORT_WAY_BELOW,
    taken = const PerCpu::SHORT_WAY_GROUPS,
    irq_count = const PerCpu::IRQ_COUNT,
    kick_count = const PerCpu::KICK_COUNT,
    lrs_for_sgi = const PerCpu::LRS_FOR_SGI,
    guest_sgi = const GUEST_SGI.get(),
    latch = const short_way::LATCH,
    enable = const short_way::ENABLE,
    active = const short_way::ACTIVE,
    sources = const short_way::SOURCES,
    bank_size = const short_way::BANK_SIZE,
    lines = const short_way::LINES,
    priority = const short_way::PRIORITY,
    own_fault = sym crate::machine::exit::own_fault,
    hypercall = sym crate::machine::quick::hypercall,
    data_abort = sym crate::machine::quick::data_abort,
    system_register = sym crate::machine::quick::system_register,
    synchronous = sym crate::machine::exit::synchronous,
    irq = sym crate::machine::exit::interrupt,
    fiq = sym crate::machine::exit::own_interrupt,
    serror = sym crate::machine::exit::serror,
    idle = sym crate::machine::idle::idle,
);

/// Points VBAR_EL2 at the vectors for one architecture of the interrupt controller.
pub fn install(gic: Model) {
    unsafe extern "C" {
        static el2_vectors_v3: [u8; 0];
        static el2_vectors_v2: [u8; 0];
    }
    let vectors = match gic {
        Model::V3 => &raw const el2_vectors_v3,
        Model::V2 => &raw const el2_vectors_v2,
    };
    write_sysreg!("vbar_el2", vectors as u64);
    super::sysreg::isb();
}
