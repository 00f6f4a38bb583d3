// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are not the guest's: read, written, executed, maintained, and used as translation tables.

use super::Attacker;
use super::code::{ATOMICS, MAINTENANCE, READS, WRITES, has_atomics, load64};
use crate::entry::machine;
use crate::mmu::{self, Kind};
use crate::{probe, read_register};

/// How many kinds of attempt [`Attacker::attempt`] knows.
const KINDS: u64 = (READS.len() + WRITES.len() + MAINTENANCE.len() + ATOMICS.len() + 2) as u64;
/// How many of them a random page gets.
const RANDOM_ATTEMPTS: u64 = 4;

/// Runs the section: one page of each 2 MiB and the swept ranges on every CPU, the random pages shared among the CPUs.
pub fn run(attacker: &mut Attacker) {
    let options = machine().options();
    for block in 0..options.number("first", 16 << 30) >> 21 {
        let page = (block << 21) + (attacker.random.below(512) << 12);
        attacker.try_all(page);
    }
    for range in options.text("sweep").unwrap_or("").split(',') {
        let (base, size) = range.split_once('+').unwrap_or(("", ""));
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
        (0..number(size) >> 12).for_each(|page| attacker.try_all(number(base) + (page << 12)));
    }
    for _ in 0..options.number("pages", 10_000) / attacker.cpus as u64 {
        let page = attacker.random_page();
        if !machine().owns_page(page) {
            (0..RANDOM_ATTEMPTS).for_each(|_| {
                let kind = attacker.random.below(KINDS) as usize;
                attacker.attempt(page, kind);
            });
        }
    }
}

impl Attacker {
    /// Tries everything on a page, unless it is the guest's own.
    fn try_all(&mut self, page: u64) {
        if !machine().owns_page(page) {
            (0..KINDS as usize).for_each(|kind| self.attempt(page, kind));
        }
    }

    /// Returns a page anywhere in the physical address space, as often below 16 GiB as not.
    fn random_page(&mut self) -> u64 {
        let bits = match self.random.below(4) {
            0 | 1 => 34,
            2 => 38,
            _ => [32, 36, 40, 42, 44, 48][(read_register!("id_aa64mmfr0_el1") & 0xf).min(5) as usize],
        };
        self.random.bits() & ((1 << bits) - 1) & !0xfff
    }

    /// Tries one thing on a page that is not the guest's.
    fn attempt(&mut self, page: u64, kind: usize) {
        let memory = match self.random.below(3) {
            0 => Kind::Normal,
            1 => Kind::Uncached,
            _ => Kind::ExecutableDevice,
        };
        let offset = self.random.below(0xff8 / 16) * 16;
        let window = mmu::look_at(page, memory) + offset;
        let (value, at) = (self.random.pattern(), page + offset);
        let (writes, maintenance) = (READS.len(), READS.len() + WRITES.len());
        let atomics = maintenance + MAINTENANCE.len();
        if let Some((name, code)) = READS.get(kind) {
            self.tally.count_read(name, at, probe::run(*code, window, value));
        } else if let Some((name, code)) = kind.checked_sub(writes).and_then(|kind| WRITES.get(kind)) {
            self.tally.count_write(name, at, probe::run(*code, window, value));
        } else if let Some(code) = kind.checked_sub(maintenance).and_then(|kind| MAINTENANCE.get(kind)) {
            self.tally.count(probe::run(*code, window, value));
        } else if let Some((name, code)) = kind.checked_sub(atomics).and_then(|kind| ATOMICS.get(kind)) {
            if has_atomics() {
                self.tally.count_read(name, at, probe::run(*code, window, value));
            }
        } else if kind + 1 == KINDS as usize {
            self.tally.count_forbidden("execute", at, probe::execute(window));
        } else {
            self.tally.count_forbidden("walk", page, probe::run(load64, mmu::translate_by(page), 0));
        }
    }
}
