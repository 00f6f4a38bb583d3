// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock, and a value that is written once before anyone else looks.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu;

/// A value that one CPU at a time uses, with interrupts masked.
pub struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` lets one CPU at a time reach the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// Returns an open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `work` on the value.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        cpu::without_interrupts(|| {
            while self.taken.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
                spin_loop();
            }
            // SAFETY: the flag is ours, and with interrupts masked nothing on this CPU comes in between.
            let result = work(unsafe { &mut *self.value.get() });
            self.taken.store(false, Ordering::Release);
            result
        })
    }

    /// Opens the lock by force: only for a CPU that is about to report its end.
    pub fn break_open(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

/// A value that the boot CPU fills in before there is anybody else.
pub struct Once<T>(UnsafeCell<T>);

// SAFETY: it is written by `set_with` only, which `entry` calls before interrupts, other CPUs and the guest exist.
unsafe impl<T: Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// Returns the value to start from.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Fills in the value; called by `entry` alone.
    pub(crate) fn set_with(&self, fill: impl FnOnce(&mut T)) {
        // SAFETY: see `Sync` above: nobody else holds a reference yet.
        fill(unsafe { &mut *self.0.get() });
    }

    /// Returns the value.
    pub fn get(&self) -> &T {
        // SAFETY: see `Sync` above: it is not written any more.
        unsafe { &*self.0.get() }
    }
}
