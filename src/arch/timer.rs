// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system counter and EL2's physical timer (Arm ARM, D12).

use super::sysreg::isb;
use crate::{read_sysreg, write_sysreg};

/// Returns the physical count in ticks.
pub fn now() -> u64 {
    isb();
    read_sysreg!("cntpct_el0")
}

/// Returns the counter's frequency in Hz, at least 1.
pub fn frequency() -> u64 {
    (read_sysreg!("cntfrq_el0") & 0xffff_ffff).max(1)
}

/// Returns how many ticks `milliseconds` are.
pub fn ticks(milliseconds: u64) -> u64 {
    frequency().saturating_mul(milliseconds) / 1000
}

/// Returns how many microseconds `ticks` are, rounded up.
pub fn microseconds(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000).div_ceil(frequency())
}

/// Lets this CPU's hypervisor timer fire at `deadline`, in ticks of the physical count.
pub fn arm(deadline: u64) {
    write_sysreg!("cnthp_cval_el2", deadline);
    write_sysreg!("cnthp_ctl_el2", 1);
}

/// Silences this CPU's hypervisor timer.
pub fn disarm() {
    write_sysreg!("cnthp_ctl_el2", 0);
}

/// Waits until `condition` holds, at most `milliseconds`. Tells whether it does.
pub fn wait_for(milliseconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = now().saturating_add(ticks(milliseconds));
    loop {
        if condition() {
            return true;
        }
        if now() >= deadline {
            return condition();
        }
        core::hint::spin_loop();
    }
}
