// SPDX-License-Identifier: MIT OR Apache-2.0
//! A periodic timer that measures how late its interrupt is handled.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::entry::machine;
use crate::{cpu, exception, gic, timer};

static PERIOD: AtomicU64 = AtomicU64::new(0);
static DEADLINE: AtomicU64 = AtomicU64::new(0);
static LATEST: AtomicU64 = AtomicU64::new(0);
static BEATS: AtomicU64 = AtomicU64::new(0);

/// Sets the interrupt controller up and starts to tick every `period` ticks of the counter.
pub fn start(period: u64) {
    PERIOD.store(period, Ordering::Relaxed);
    exception::on_irq(beat);
    gic::init_distributor();
    gic::init_cpu();
    gic::enable(machine().virtual_timer);
    let first = timer::now() + period;
    DEADLINE.store(first, Ordering::Relaxed);
    timer::start_virtual(first);
}

/// Returns how late the latest interrupt was, in ticks from its deadline to its handler.
pub fn latest() -> u64 {
    LATEST.load(Ordering::Relaxed)
}

/// Returns how many interrupts there have been.
pub fn beats() -> u64 {
    BEATS.load(Ordering::Relaxed)
}

/// Sleeps until there have been `number` interrupts.
pub fn wait_for(number: u64) {
    while BEATS.load(Ordering::Relaxed) < number {
        // WFI also ends for a masked interrupt: nothing can come between the check and the sleep.
        cpu::wfi();
        cpu::unmask_irq();
        cpu::isb();
        cpu::mask_irq();
    }
}

/// Handles the timer's interrupt: the next deadline follows from the last, however late this one is.
fn beat() {
    let now = timer::now();
    let Some(taken) = gic::acknowledge(gic::usual_group()) else { return };
    let deadline = DEADLINE.load(Ordering::Relaxed);
    LATEST.fetch_max(now.saturating_sub(deadline), Ordering::Relaxed);
    let next = deadline + PERIOD.load(Ordering::Relaxed);
    DEADLINE.store(next, Ordering::Relaxed);
    timer::start_virtual(next);
    BEATS.fetch_add(1, Ordering::Relaxed);
    gic::end(gic::usual_group(), taken);
}
