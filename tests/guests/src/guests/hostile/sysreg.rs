// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every encoding of a system register with op0 2 and 3, read and written, but for those that the guest stands on.

use core::sync::atomic::{AtomicU32, Ordering};

use super::Attacker;
use crate::machine::MAX_CPUS;
use crate::probe::{self, Code};
use crate::{cpu, write_register};

const RET: u32 = 0xd65f_03c0;

/// An instruction of the guest's own making and the way back, for each CPU, in cache lines of its own.
#[repr(align(64))]
struct Buffer([AtomicU32; 16]);

static BUFFERS: [Buffer; MAX_CPUS] = [const { Buffer([const { AtomicU32::new(RET) }; 16]) }; MAX_CPUS];

/// A register's encoding.
#[derive(Clone, Copy)]
struct Encoding {
    op0: u32,
    op1: u32,
    crn: u32,
    crm: u32,
    op2: u32,
}

impl Encoding {
    fn operands(self) -> u32 {
        (self.op0 & 1) << 19 | self.op1 << 16 | self.crn << 12 | self.crm << 8 | self.op2 << 5
    }

    /// Tells whether the guest would not survive a write: translation, exceptions, stacks, masks, its own pointers, and the
    /// counter's frequency that its waits are computed from.
    fn is_vital(self) -> bool {
        let Self { op0, op1, crn, crm, op2 } = self;
        match (op0, op1, crn) {
            (3, 0, 1) => true,                    // SCTLR, ACTLR, CPACR and kin
            (3, 0, 2) => !(1..=3).contains(&crm), // TTBR, TCR; CRm 1 to 3 are keys
            (3, 0, 4) => crm != 6,                // SPSR, ELR, SP_EL0, SPSel, PAN, ALLINT; CRm 6 is PMR
            (3, 0, 10) => crm < 4,                // MAIR, AMAIR, PIR, POR
            (3, 0, 12) => crm == 0,               // VBAR
            (3, 0, 13) => op2 == 4,               // TPIDR_EL1
            (3, 3, 4) => crm == 2,                // DAIF, SVCR
            (3, 3, 14) => crm == 0 && op2 == 0,   // CNTFRQ
            _ => false,
        }
    }
}

/// Runs the section.
pub fn run(attacker: &mut Attacker) {
    for op0 in 2..4 {
        for op1 in 0..8 {
            for rest in 0..0x800 {
                let encoding = Encoding { op0, op1, crn: rest >> 7, crm: rest >> 3 & 0xf, op2: rest & 7 };
                attacker.try_register(encoding);
            }
        }
    }
    // What a debug or counter register may have started stops here.
    write_register!("mdscr_el1", 0);
    write_register!("cntv_ctl_el0", 0);
    write_register!("cntp_ctl_el0", 0);
    cpu::isb();
}

impl Attacker {
    /// Reads a register, writes back what it held, writes anything, and puts it right again.
    fn try_register(&mut self, encoding: Encoding) {
        let read = self.prepare(0xd530_0000 | encoding.operands());
        let old = probe::run(read, 0, 0);
        self.tally.count(old);
        if encoding.is_vital() {
            return;
        }
        let write = self.prepare(0xd510_0001 | encoding.operands());
        let new = self.random.pattern();
        self.tally.count(probe::run(write, 0, old.unwrap_or(0)));
        self.tally.count(probe::run(write, 0, new));
        if let Ok(old) = old {
            self.tally.count(probe::run(write, 0, old));
        }
    }

    /// Makes the CPU's buffer hold `instruction`.
    fn prepare(&mut self, instruction: u32) -> Code {
        let buffer = &BUFFERS[self.index];
        buffer.0[0].store(instruction, Ordering::Relaxed);
        let address = (&raw const *buffer) as u64;
        cpu::flush_cache(address, 8);
        // SAFETY: the buffer is executable, and holds one instruction and a return.
        unsafe { core::mem::transmute::<u64, Code>(address) }
    }
}
