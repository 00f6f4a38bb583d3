// SPDX-License-Identifier: MIT OR Apache-2.0
//! Software-generated interrupts to everybody.

use super::Attacker;
use crate::{gic, mmio, write_register};

/// How many values without any meaning are written.
const RANDOM: usize = 4096;

/// Runs the section; IRQs stay masked, so what reaches the guest itself only pends.
pub fn run(attacker: &mut Attacker) {
    if gic::is_v3() { all_affinities(attacker) } else { all_targets(attacker) }
}

/// GICD_SGIR: every filter, target list and INTID.
fn all_targets(attacker: &mut Attacker) {
    let register = gic::distributor() + 0xf00;
    for filter in 0..4u32 {
        for targets in 0..0x100 {
            for sgi in 0..16 {
                mmio::write32(register, filter << 24 | targets << 16 | sgi);
                attacker.tally.count(Ok(0));
            }
        }
    }
    for _ in 0..RANDOM {
        mmio::write32(register, attacker.random.bits() as u32);
        attacker.tally.count(Ok(0));
    }
}

/// ICC_SGI1R_EL1, ICC_SGI0R_EL1 and ICC_ASGI1R_EL1: every affinity 1, each bit of affinities 2 and 3, every range, every INTID.
fn all_affinities(attacker: &mut Attacker) {
    let mut send = |value: u64| {
        write_register!("S3_0_C12_C11_5", value);
        write_register!("S3_0_C12_C11_6", value);
        write_register!("S3_0_C12_C11_7", value);
        attacker.tally.count(Ok(0));
    };
    for sgi in 0..16 {
        for affinity1 in 0..0x100 {
            send(sgi << 24 | affinity1 << 16 | 0xffff);
        }
        for bit in 0..8 {
            send(sgi << 24 | 1 << (32 + bit) | 0xffff);
            send(sgi << 24 | 1 << (48 + bit) | 0xffff);
        }
        for range in 0..16 {
            send(sgi << 24 | range << 44 | 0xffff);
        }
        send(sgi << 24 | 1 << 40);
    }
    for _ in 0..RANDOM {
        let value = attacker.random.bits();
        write_register!("S3_0_C12_C11_5", value);
        write_register!("S3_0_C12_C11_6", value);
        write_register!("S3_0_C12_C11_7", value);
        attacker.tally.count(Ok(0));
    }
}
