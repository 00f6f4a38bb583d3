// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs beside a hostile neighbour: a tight timer and watched memory tell whether anything comes through the wall.
//!
//! It is silent between reports, so that the console is not what makes it late.
//!
//! Options: `period-us=` (1000), `count=` (0: for ever), `report=` (1000: periods between two lines), `late-max=` (none: the most
//! ticks that it may be late), `memory=` (1M: bytes of RAM to watch).

use super::ticker;
use crate::entry::machine;
use crate::pattern::Pattern;
use crate::{println, report, timer};

/// How many words are compared in each period; all are at the end.
const WORDS_EACH: usize = 256;

/// Runs the guest.
pub fn main() {
    let options = machine().options();
    let period = timer::ticks(options.number("period-us", 1000));
    let count = options.number("count", 0);
    let every = options.number("report", 1000).max(1);
    let limit = options.number("late-max", u64::MAX);
    let mut pattern = Pattern::fill(options.number("memory", 1 << 20));
    println!("canary: {:#x} bytes watched, a period is {period} ticks", pattern.size());

    ticker::start(period);
    let mut changed = 0u64;
    for beat in 1.. {
        ticker::wait_for(beat);
        if let Err(address) = pattern.check_some(WORDS_EACH) {
            changed += 1;
            if changed == 1 {
                println!("canary {beat}: memory CHANGED at {address:#x}");
            }
        }
        if beat % every == 0 {
            println!("canary {beat}: late max {} ticks, memory {}", ticker::latest(), verdict(changed));
        }
        if beat == count {
            break;
        }
    }
    timer::stop_virtual();
    let hash = pattern.rehash();
    changed += u64::from(hash != pattern.hash);
    let latest = ticker::latest();
    println!("canary end: {count} periods, late max {latest} ticks, memory {} {hash:#010x}", verdict(changed));
    report::equal("canary", "memory-changes", changed, 0);
    if latest <= limit {
        report::ok("canary", "late");
    } else {
        report::fail("canary", "late", format_args!("by {latest} ticks, {limit} at most"));
    }
    report::done();
}

fn verdict(changed: u64) -> &'static str {
    if changed == 0 { "ok" } else { "CHANGED" }
}
