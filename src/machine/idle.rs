// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a CPU does when no vCPU of its runs: it serves interrupts, prepares its partition when that is asked for, and
//! sleeps otherwise.

use super::percpu::PerCpu;
use super::{interrupts, lifecycle};
use crate::arch::sysreg::wfi;
use crate::arch::vcpu;

/// Idles on a stack that is dropped: what ran before does not go on.
pub fn enter(this_cpu: &'static PerCpu) -> ! {
    // SAFETY: this CPU's own stack; the caller holds no lock and never continues.
    unsafe { vcpu::leave(this_cpu.stack_top()) }
}

/// The idle loop, at the top of this CPU's stack.
pub extern "C" fn idle() -> ! {
    let this_cpu = PerCpu::current();
    loop {
        // SAFETY: the stack was dropped, so that no other handler of this CPU holds its local data.
        let local = unsafe { this_cpu.local() };
        interrupts::drain(this_cpu, local);
        if lifecycle::attend(this_cpu, local) == lifecycle::Attention::Done {
            // An interrupt that came since `drain` is pending and ends the sleep at once.
            wfi();
        }
    }
}
