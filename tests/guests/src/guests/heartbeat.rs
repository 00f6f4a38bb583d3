// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints a line each second: how often, how late at worst, and whether its memory is still its own.
//!
//! `heartbeat 12: late max 340 ticks, memory ok 0x1234abcd`
//!
//! Options: `period-ms=` (1000), `count=` (0: for ever), `memory=` (1M: bytes of RAM to watch), `silent=` (0: so many beats come
//! first without a word, between two HVCs whose immediate is 0xbea7, which an emulator's log shows). With a count it ends with its
//! claims, `DONE` and SYSTEM_OFF.

use super::ticker;
use crate::entry::machine;
use crate::pattern::Pattern;
use crate::{println, psci, report, timer};

/// Runs the guest.
pub fn main() {
    let options = machine().options();
    let period = timer::ticks(options.number("period-ms", 1000) * 1000);
    let count = options.number("count", 0);
    let pattern = Pattern::fill(options.number("memory", 1 << 20));
    println!("heartbeat: {} cpus, {:#x} bytes watched", machine().cpus.len(), pattern.size());

    ticker::start(period);
    let silent = options.number("silent", 0);
    if silent > 0 {
        // From a beat on, not from somewhere before it.
        ticker::wait_for(1);
        psci::mark();
        ticker::wait_for(1 + silent);
        psci::mark();
    }
    let mut changed = false;
    for beat in ticker::beats() + 1.. {
        ticker::wait_for(beat);
        let hash = pattern.rehash();
        changed |= hash != pattern.hash;
        let verdict = if hash == pattern.hash { "ok" } else { "CHANGED" };
        println!("heartbeat {beat}: late max {} ticks, memory {verdict} {hash:#010x}", ticker::latest());
        if beat == count {
            break;
        }
    }
    timer::stop_virtual();
    report::ok("heartbeat", "beats");
    report::equal("heartbeat", "memory-changed", changed, false);
    report::done();
}
