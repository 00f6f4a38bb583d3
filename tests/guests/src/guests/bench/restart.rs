// SPDX-License-Identifier: MIT OR Apache-2.0
//! A restart by the guest itself: from its SYSTEM_RESET to the first instruction of its next life. No memory of it
//! outlives that, but the counter goes on: who begins behind the time of the call has been restarted.

use crate::entry;
use crate::entry::machine;
use crate::{cpu, gic, println, psci, report, timer};

/// Calls SYSTEM_RESET at `at=` ticks (1 G), in the first life; in the second says how long it took.
pub fn play() {
    let at = machine().options().number("at", 1_000_000_000);
    if let Some(ticks) = entry::start_time().checked_sub(at) {
        println!("BENCH restart {ticks}");
        report::ok("bench", "restarted");
        return;
    }
    // Most of it asleep, with an interrupt that is only pending.
    gic::enable(machine().virtual_timer);
    timer::start_virtual(at - timer::ticks(100));
    cpu::wfi();
    timer::stop_virtual();
    while timer::now() < at {}
    psci::system_reset()
}
