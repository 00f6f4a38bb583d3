// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints a line each second: how often, how late at worst, and whether its memory is still its own.
//!
//! `heartbeat 12: late max 340 ticks, memory ok 0x1234abcd`
//!
//! Options: `period-ms=` (1000), `count=` (0: for ever), `memory=` (1M, bytes of pattern). With a count it ends with its claims,
//! `DONE` and SYSTEM_OFF.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::entry::machine;
use crate::pattern::Pattern;
use crate::{cpu, exception, gic, println, report, timer};

static DEADLINE: AtomicU64 = AtomicU64::new(0);
static LATEST: AtomicU64 = AtomicU64::new(0);
static BEATS: AtomicU64 = AtomicU64::new(0);

/// Runs the guest.
pub fn main() {
    let options = machine().options();
    let period = timer::ticks(options.number("period-ms", 1000) * 1000);
    let count = options.number("count", 0);
    let pattern = Pattern::fill(options.number("memory", 1 << 20));
    println!(
        "heartbeat: {} cpus, {:#x} bytes watched",
        machine().cpus.len(),
        pattern.size()
    );

    start(period);
    let mut memory_changed = false;
    for beat in 1.. {
        wait_for_beat(beat);
        let hash = pattern.rehash();
        memory_changed |= hash != pattern.hash;
        let verdict = if hash == pattern.hash {
            "ok"
        } else {
            "CHANGED"
        };
        println!(
            "heartbeat {beat}: late max {} ticks, memory {verdict} {hash:#010x}",
            LATEST.load(Ordering::Relaxed)
        );
        if beat == count {
            break;
        }
    }
    timer::stop_virtual();
    report::ok("heartbeat", "beats");
    report::equal("heartbeat", "memory", memory_changed, false);
    report::done();
}

/// Starts the timer and its interrupt.
fn start(period: u64) {
    PERIOD.store(period, Ordering::Relaxed);
    exception::on_irq(beat);
    gic::init_distributor();
    gic::init_cpu();
    gic::enable(machine().virtual_timer);
    let first = timer::now() + period;
    DEADLINE.store(first, Ordering::Relaxed);
    timer::start_virtual(first);
}

static PERIOD: AtomicU64 = AtomicU64::new(0);

/// Takes the timer's interrupt: notes how late it is and sets the next deadline.
fn beat() {
    let now = timer::now();
    let Some(taken) = gic::acknowledge(gic::usual_group()) else {
        return;
    };
    let deadline = DEADLINE.load(Ordering::Relaxed);
    LATEST.fetch_max(now.saturating_sub(deadline), Ordering::Relaxed);
    let next = deadline + PERIOD.load(Ordering::Relaxed);
    DEADLINE.store(next, Ordering::Relaxed);
    timer::start_virtual(next);
    BEATS.fetch_add(1, Ordering::Relaxed);
    gic::end(gic::usual_group(), taken);
}

/// Sleeps until the beat of that number has been.
fn wait_for_beat(number: u64) {
    while BEATS.load(Ordering::Relaxed) < number {
        // WFI also ends for a masked interrupt: nothing can come between the check and the sleep.
        cpu::wfi();
        cpu::unmask_irq();
        cpu::isb();
        cpu::mask_irq();
    }
}
