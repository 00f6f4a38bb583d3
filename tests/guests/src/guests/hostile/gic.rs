// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every register of the interrupt controller, at every offset, in each width, with any value; nothing is put back.

use super::Attacker;
use super::code::WIDTHS;
use crate::entry::machine;
use crate::machine::{Gic, Region};
use crate::probe;

/// The redistributor of one CPU: two frames of 64 KiB.
const REDISTRIBUTOR: u64 = 0x2_0000;
/// How many accesses go to redistributors beyond those of the guest's CPUs.
const SAMPLES: u64 = 4096;

/// Runs the section.
pub fn run(attacker: &mut Attacker) {
    match machine().gic {
        Gic::None => {}
        Gic::V2 { distributor, cpu_interface } => {
            attacker.sweep(distributor);
            attacker.sweep(cpu_interface);
        }
        Gic::V3 { distributor, redistributors } => {
            attacker.sweep(distributor);
            let own =
                Region { size: redistributors.size.min(REDISTRIBUTOR * machine().cpus.len() as u64), ..redistributors };
            attacker.sweep(own);
            attacker.sample(Region { base: own.end(), size: redistributors.size - own.size });
        }
    }
}

impl Attacker {
    /// Reads and writes each offset in each width.
    fn sweep(&mut self, region: Region) {
        for (width, load, store) in WIDTHS {
            for address in (region.base..region.end()).step_by(width as usize) {
                self.tally.count(probe::run(load, address, 0));
                // Registers are words: each gets all patterns; the other widths get one each.
                if width == 4 {
                    self.tally.count(probe::run(store, address, 0));
                    self.tally.count(probe::run(store, address, u64::MAX));
                    self.tally.count(probe::run(store, address, self.random.bits()));
                } else {
                    self.tally.count(probe::run(store, address, self.random.pattern()));
                }
            }
        }
    }

    /// Reads and writes some offsets.
    fn sample(&mut self, region: Region) {
        if region.size == 0 {
            return;
        }
        for _ in 0..SAMPLES {
            let (_, load, store) = WIDTHS[self.random.below(4) as usize];
            let address = region.base + self.random.below(region.size);
            self.tally.count(probe::run(load, address, 0));
            self.tally.count(probe::run(store, address, self.random.pattern()));
        }
    }
}
