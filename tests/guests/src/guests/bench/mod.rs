// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts what single events cost: `BENCH <row> <ticks>` for each.
//!
//! Meant for QEMU with `-icount shift=0,sleep=off` and a counter of 1 GHz (`-cpu max`, or `-cpu cortex-a53,cntfrq=1000000000`),
//! where a tick of the counter is an executed instruction, the hypervisor's included, and every run gives the same figures. Each figure is
//! the least of the warm rounds; when they differ a line says by how much. A figure is the difference of two readings
//! of the counter with an ISB before the second: an event that costs one instruction reads 3. CPUs that are not part
//! of a row are off or in WFI. The row `reset` is the counter at the guest's first instruction, once.
//!
//! Under Septum the partition needs an SPI of its own (the PL031's, or any device's) for the rows `-own-spi`, and the virtio
//! slots for the row with SPIs pending. Options: `only=ROW`; `scene=exits` and `scene=restart` play a scene instead of the rows.

mod events;
mod exits;
mod interrupts;
mod restart;
mod work;

use crate::entry::{self, machine};
use crate::{cpu, gic, println, read_register, report, timer};

/// How often an event is repeated before it counts, and how often it counts.
const COLD: usize = 4;
const WARM: usize = 16;

/// Runs the guest.
pub fn main() {
    gic::init_distributor();
    gic::init_cpu();
    let frequency = read_register!("cntfrq_el0");
    println!("bench: gic v{}, {frequency} ticks per second", if gic::is_v3() { 3 } else { 2 });
    if is_selected("reset") {
        println!("BENCH reset {}", entry::start_time());
    }
    match machine().options().text("scene") {
        None => rows(),
        Some("exits") => exits::play(),
        Some("restart") => restart::play(),
        Some(other) => panic!("there is no scene {other}"),
    }
    linger();
    report::done();
}

/// Sleeps a little: where the console is served by this CPU too, the partition is then seen to run before it ends.
fn linger() {
    let deadline = timer::now() + timer::ticks(50_000);
    gic::enable(machine().virtual_timer);
    timer::start_virtual(deadline);
    while timer::now() < deadline {
        cpu::wfi();
    }
    timer::stop_virtual();
}

fn rows() {
    events::run();
    interrupts::run();
    work::run();
    report::ok("bench", "rows");
}

fn is_selected(name: &str) -> bool {
    machine().options().text("only").is_none_or(|only| only == name)
}

/// Measures one row: `event` returns the ticks of one round.
fn row(name: &str, event: impl FnMut() -> u64) {
    rounds(name, COLD, WARM, event);
}

/// Measures one row with so many rounds before it counts, and so many that count.
fn rounds(name: &str, cold: usize, warm: usize, mut event: impl FnMut() -> u64) {
    if !is_selected(name) {
        return;
    }
    (0..cold).for_each(|_| {
        event();
    });
    let (mut least, mut most) = (u64::MAX, 0);
    for _ in 0..warm {
        let ticks = event();
        least = least.min(ticks);
        most = most.max(ticks);
    }
    println!("BENCH {name} {least}");
    if least != most {
        println!("bench: {name} took up to {most}");
    }
}
