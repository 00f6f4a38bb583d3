// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts how attempts end.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::probe::Caught;
use crate::{println, report};

/// How many leaks of a section are printed.
const PRINTED: u64 = 8;

/// How the attempts of one CPU in one section ended.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// With an abort.
    aborted: u64,
    /// As an undefined instruction.
    undefined: u64,
    /// With another exception.
    other: u64,
    /// With a call's error code.
    refused: u64,
    /// With zero read.
    zero: u64,
    /// Without an exception, where no value is to be judged.
    done: u64,
    /// As they must not.
    leaks: u64,
    /// Whether what is not the guest's may read as zero and ignore writes, in place of an abort.
    zero_allowed: bool,
}

impl Tally {
    /// Counts nothing yet.
    pub fn new(zero_allowed: bool) -> Self {
        Self { zero_allowed, ..Self::default() }
    }

    /// Counts an attempt that may end in any way.
    pub fn count(&mut self, outcome: Result<u64, Caught>) {
        match outcome {
            Ok(_) => self.done += 1,
            Err(caught) => self.count_caught(caught),
        }
    }

    /// Counts an attempt to read at `address` what is not the guest's: it must abort, or read zero where that is allowed.
    pub fn count_read(&mut self, what: &str, address: u64, outcome: Result<u64, Caught>) {
        match outcome {
            Ok(0) if self.zero_allowed => self.zero += 1,
            Ok(value) => self.leak(what, address, value),
            Err(caught) => self.count_caught(caught),
        }
    }

    /// Counts an attempt to write at `address` what is not the guest's: it must abort, or be ignored where that is allowed.
    pub fn count_write(&mut self, what: &str, address: u64, outcome: Result<u64, Caught>) {
        match outcome {
            Ok(_) if self.zero_allowed => self.done += 1,
            Ok(value) => self.leak(what, address, value),
            Err(caught) => self.count_caught(caught),
        }
    }

    /// Counts an attempt that must not succeed at all.
    pub fn count_forbidden(&mut self, what: &str, address: u64, outcome: Result<u64, Caught>) {
        match outcome {
            Ok(value) => self.leak(what, address, value),
            Err(caught) => self.count_caught(caught),
        }
    }

    /// Counts a call of `function`: negative results are refusals, and BRK says that the call changed a register that it must keep.
    pub fn count_call(&mut self, function: u64, outcome: Result<u64, Caught>) {
        match outcome {
            Ok(value) if (value as i32) < 0 => self.refused += 1,
            Ok(_) => self.done += 1,
            Err(caught) if caught.class() == 0x3c => self.leak("registers changed by call", function, caught.esr),
            Err(caught) => self.count_caught(caught),
        }
    }

    fn count_caught(&mut self, caught: Caught) {
        if caught.is_abort() {
            self.aborted += 1;
        } else if caught.is_undefined() {
            self.undefined += 1;
        } else {
            self.other += 1;
        }
    }

    fn leak(&mut self, what: &str, address: u64, value: u64) {
        self.leaks += 1;
        if self.leaks <= PRINTED {
            println!("hostile LEAK: {what} at {address:#x} gave {value:#x}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { aborted, undefined, other, refused, zero, done, leaks, .. } = self;
        write!(
            out,
            "{aborted} aborted, {undefined} undefined, {other} other, {refused} refused, {zero} zero, {done} done, {leaks} leaks"
        )
    }
}

/// The sums of a section over all CPUs.
pub struct Totals {
    attempts: AtomicU64,
    leaks: AtomicU64,
}

impl Totals {
    /// Returns empty sums.
    pub const fn new() -> Self {
        Self { attempts: AtomicU64::new(0), leaks: AtomicU64::new(0) }
    }

    /// Adds what one CPU counted.
    pub fn add(&self, tally: &Tally) {
        let Tally { aborted, undefined, other, refused, zero, done, leaks, .. } = *tally;
        let attempts = aborted + undefined + other + refused + zero + done + leaks;
        self.attempts.fetch_add(attempts, Ordering::Relaxed);
        self.leaks.fetch_add(leaks, Ordering::Relaxed);
    }

    /// Claims that nothing came through.
    pub fn judge(&self, section: &str) {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let leaks = self.leaks.load(Ordering::Relaxed);
        println!("hostile {section}: {attempts} attempts, {leaks} leaks");
        if attempts != 0 && leaks == 0 {
            report::ok("hostile", section);
        } else {
            report::fail("hostile", section, format_args!("{leaks} leaks in {attempts} attempts"));
        }
    }
}
