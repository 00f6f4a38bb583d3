// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tries to get through the wall, from all its CPUs at once: it touches, calls and changes whatever is not its own.
//!
//! Each attempt must end as the architecture has it: an abort, an undefined instruction, a refused call, or a register that reads as
//! zero. The guest counts how they end and goes on; what it may not see (an access that succeeds where nothing is its own, a register that
//! a call changed) makes its claim fail. That the wall holds is for the neighbours and the hypervisor to say.
//!
//! Options: `sections=` (all of misc,pages,gic,calls,sgi,sysreg), `pages=` (10000: random pages, over all CPUs), `first=` (16G: one
//! page of every 2 MiB below), `sweep=BASE+SIZE,...` (every page of these ranges), `step=` (97: between two function numbers of the
//! owners that are not swept in full), `seed=` (1), `rounds=` (1), `zero=1` (a page that is not the
//! guest's may read as zero and ignore writes; else each access must abort).

mod calls;
mod code;
mod gic;
mod misc;
mod pages;
mod sgi;
mod sysreg;
mod tally;

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::entry::machine;
use crate::random::Random;
use crate::{cpu, println, report, smp, write_register};
use tally::{Tally, Totals};

/// What a section is on one CPU.
struct Attacker {
    /// The CPU's number.
    index: usize,
    /// How many CPUs attack.
    cpus: usize,
    /// Numbers of its own.
    random: Random,
    /// How its attempts ended.
    tally: Tally,
}

/// A kind of attack.
struct Section {
    name: &'static str,
    run: fn(&mut Attacker),
    totals: Totals,
}

/// `misc` is first, and on all CPUs before anything else: it wants a working timer interrupt.
static SECTIONS: [Section; 6] = [
    Section { name: "misc", run: misc::run, totals: Totals::new() },
    Section { name: "pages", run: pages::run, totals: Totals::new() },
    Section { name: "gic", run: gic::run, totals: Totals::new() },
    Section { name: "calls", run: calls::run, totals: Totals::new() },
    Section { name: "sgi", run: sgi::run, totals: Totals::new() },
    Section { name: "sysreg", run: sysreg::run, totals: Totals::new() },
];

static CPUS: AtomicUsize = AtomicUsize::new(0);
static FIRST_DONE: AtomicUsize = AtomicUsize::new(0);
static ALL_DONE: AtomicUsize = AtomicUsize::new(0);

/// Runs the guest.
pub fn main() {
    let machine = machine();
    println!("hostile: {} cpus, seed {}", machine.cpus.len(), machine.options().number("seed", 1));
    crate::gic::init_distributor();
    // The others wait in `attack` until the number of CPUs is known.
    let cpus = smp::start_others(attack);
    CPUS.store(cpus, Ordering::Release);
    attack(cpu::index());
    wait_for_all(&ALL_DONE, cpus);
    for section in SECTIONS.iter().filter(|section| is_selected(section)) {
        section.totals.judge(section.name);
    }
    report::done();
}

fn is_selected(section: &Section) -> bool {
    machine().options().selects("sections", section.name)
}

/// Runs all sections on one CPU, each CPU from another one on.
fn attack(index: usize) {
    while CPUS.load(Ordering::Acquire) == 0 {
        core::hint::spin_loop();
    }
    let cpus = CPUS.load(Ordering::Acquire);
    crate::gic::init_cpu();
    write_register!("cpacr_el1", 3 << 20); // FP and SIMD do not trap
    cpu::isb();

    let options = machine().options();
    let random = Random::new(options.number("seed", 1), index as u64);
    let mut attacker = Attacker { index, cpus, random, tally: Tally::default() };
    run_section(&SECTIONS[0], &mut attacker);
    FIRST_DONE.fetch_add(1, Ordering::Release);
    wait_for_all(&FIRST_DONE, cpus);
    for _ in 0..options.number("rounds", 1) {
        let others = SECTIONS.len() - 1;
        (0..others).for_each(|step| run_section(&SECTIONS[1 + (index + step) % others], &mut attacker));
    }
    ALL_DONE.fetch_add(1, Ordering::Release);
}

fn run_section(section: &Section, attacker: &mut Attacker) {
    if is_selected(section) {
        attacker.tally = Tally::new(machine().options().number("zero", 0) != 0);
        (section.run)(attacker);
        println!("hostile cpu{} {}: {}", attacker.index, section.name, attacker.tally);
        section.totals.add(&attacker.tally);
    }
}

/// Waits until `count` is `goal`. There is no limit: the test that booted the guest has one.
fn wait_for_all(count: &AtomicUsize, goal: usize) {
    while count.load(Ordering::Acquire) < goal {
        core::hint::spin_loop();
    }
}
