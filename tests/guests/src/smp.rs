// SPDX-License-Identifier: MIT OR Apache-2.0
//! Further CPUs: started by PSCI with a job, parked in WFI after it.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::entry::machine;
use crate::machine::MAX_CPUS;
use crate::{cpu, psci, timer};

/// What a CPU runs; it gets its own number.
pub type Job = fn(usize);

static JOBS: [AtomicPtr<()>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

unsafe extern "C" {
    static secondary_start: u8;
}

/// Returns the address at which a CPU starts.
pub fn start_address() -> u64 {
    (&raw const secondary_start) as u64
}

/// Starts CPU `index` with `job`.
///
/// # Errors
/// What CPU_ON returned when it did not succeed.
pub fn start(index: usize, job: Job) -> Result<(), i64> {
    JOBS[index].store(job as *mut (), Ordering::Release);
    match psci::cpu_on(machine().cpus[index], start_address(), index as u64) {
        psci::SUCCESS => Ok(()),
        error => Err(error),
    }
}

/// Starts all other CPUs with `job` and returns the numbers of CPUs that run, this one included.
pub fn start_others(job: Job) -> usize {
    let own = cpu::index();
    let others = (0..machine().cpus.len()).filter(|index| *index != own);
    1 + others.filter(|index| start(*index, job).is_ok()).count()
}

/// Runs this CPU's job, then parks it.
pub(crate) fn run_job(index: usize) -> ! {
    let job = JOBS[index].load(Ordering::Acquire);
    // SAFETY: only `start` stores here, before this CPU runs, and it stores a `Job`.
    let job: Job = unsafe { core::mem::transmute(job) };
    job(index);
    psci::park()
}

/// Waits until `value` is at least `goal`; false when `milliseconds` pass before.
pub fn wait_for(value: &AtomicUsize, goal: usize, milliseconds: u64) -> bool {
    let end = timer::after_ms(milliseconds);
    while value.load(Ordering::Acquire) < goal {
        if timer::now() > end {
            return false;
        }
        spin_loop();
    }
    true
}
