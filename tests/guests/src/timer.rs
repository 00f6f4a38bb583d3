// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generic timer: the virtual counter, the virtual and the physical timer.

use core::hint::spin_loop;

use crate::{cpu, read_register, write_register};

/// Returns the virtual counter.
pub fn now() -> u64 {
    cpu::isb();
    read_register!("cntvct_el0")
}

/// Returns ticks per second.
pub fn frequency() -> u64 {
    read_register!("cntfrq_el0")
}

/// Returns how many ticks `microseconds` are.
pub fn ticks(microseconds: u64) -> u64 {
    (u128::from(frequency()) * u128::from(microseconds) / 1_000_000) as u64
}

/// Returns the counter's value `milliseconds` from now.
pub fn after_ms(milliseconds: u64) -> u64 {
    now() + ticks(milliseconds * 1000)
}

/// Passes time without an interrupt.
pub fn delay_us(microseconds: u64) {
    let end = now() + ticks(microseconds);
    while now() < end {
        spin_loop();
    }
}

/// Starts the virtual timer: it interrupts from `deadline` on.
pub fn start_virtual(deadline: u64) {
    write_register!("cntv_cval_el0", deadline);
    write_register!("cntv_ctl_el0", 1);
    cpu::isb();
}

/// Stops the virtual timer.
pub fn stop_virtual() {
    write_register!("cntv_ctl_el0", 0);
    cpu::isb();
}

/// Starts the physical timer: it interrupts `ticks` from now on.
pub fn start_physical(ticks: u64) {
    cpu::isb();
    write_register!("cntp_cval_el0", read_register!("cntpct_el0") + ticks);
    write_register!("cntp_ctl_el0", 1);
    cpu::isb();
}

/// Stops the physical timer.
pub fn stop_physical() {
    write_register!("cntp_ctl_el0", 0);
    cpu::isb();
}
