// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest tells the test that booted it.

use core::fmt::Arguments;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::{println, psci};

static CLAIMS: AtomicUsize = AtomicUsize::new(0);

/// Says that a claim holds.
pub fn ok(guest: &str, name: &str) {
    CLAIMS.fetch_add(1, Ordering::Relaxed);
    println!("TEST {guest} {name} ok");
}

/// Says that a claim does not hold, and why.
pub fn fail(guest: &str, name: &str, why: Arguments<'_>) {
    CLAIMS.fetch_add(1, Ordering::Relaxed);
    println!("TEST {guest} {name} FAIL {why}");
}

/// Says whether two values are equal, as they should be.
pub fn equal<T: PartialEq + core::fmt::Debug>(guest: &str, name: &str, seen: T, expected: T) {
    if seen == expected {
        ok(guest, name);
    } else {
        fail(guest, name, format_args!("got {seen:x?}, expected {expected:x?}"));
    }
}

/// Ends the guest: says how many claims it made and turns the machine off.
pub fn done() -> ! {
    println!("DONE {}", CLAIMS.load(Ordering::Relaxed));
    psci::system_off()
}
