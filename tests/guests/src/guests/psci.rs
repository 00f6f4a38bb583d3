// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exercises the calls of PSCI (Arm DEN0022) and their errors, turns CPUs on and off, and ends with SYSTEM_OFF or SYSTEM_RESET.
//!
//! Options: `rounds=` (100: CPU_OFF and CPU_ON of each other CPU), `reset=1` (end with SYSTEM_RESET in place of SYSTEM_OFF: RAM comes
//! back pristine, so the guest cannot count; the test counts the lines `psci: boot`).

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::entry::machine;
use crate::probe::{self, Caught};
use crate::{cpu, println, psci, report, smp, timer};

const GUEST: &str = "psci";
/// An affinity that no machine of the tests has.
const NO_CPU: u64 = 0xff_00ff_ff77;

static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// Runs the guest.
pub fn main() {
    let machine = machine();
    let options = machine.options();
    println!("psci: boot, {} cpus, conduit {:?}", machine.cpus.len(), machine.conduit);
    versions();
    features();
    errors();
    other_conduit();
    if machine.cpus.len() > 1 {
        states();
        hotplug(options.number("rounds", 100) as usize);
        start_nowhere();
    }
    if options.number("reset", 0) != 0 {
        println!("psci: reset");
        psci::system_reset();
    }
    report::done();
}

fn versions() {
    let version = psci::call(psci::VERSION, [0; 3]);
    println!("psci: version {}.{}", version >> 16, version & 0xffff);
    report::equal(GUEST, "version-is-at-least-1.0", version >= 0x1_0000, true);
    let migrate = psci::call(0x8400_0006, [0; 3]);
    report::equal(
        GUEST,
        "migrate-info-type-is-not-required-or-absent",
        migrate == 2 || migrate == psci::NOT_SUPPORTED,
        true,
    );
}

/// PSCI_FEATURES of every function of PSCI 1.1 that a guest must have, in both conventions, and of one that does not exist.
fn features() {
    let wanted = [
        ("version", 0x8400_0000),
        ("cpu-suspend-32", 0x8400_0001),
        ("cpu-suspend-64", 0xc400_0001),
        ("cpu-off", 0x8400_0002),
        ("cpu-on-32", 0x8400_0003),
        ("cpu-on-64", 0xc400_0003),
        ("affinity-info-32", 0x8400_0004),
        ("affinity-info-64", 0xc400_0004),
        ("system-off", 0x8400_0008),
        ("system-reset", 0x8400_0009),
        ("features", 0x8400_000a),
    ];
    for (name, function) in wanted {
        let answer = psci::call(psci::FEATURES, [function, 0, 0]);
        println!("psci: features of {name} {function:#x}: {answer}");
        if answer < 0 {
            report::fail(GUEST, name, format_args!("not supported"));
        } else {
            report::ok(GUEST, name);
        }
    }
    for (name, function) in
        [("smccc-version", 0x8000_0000), ("system-reset2", 0xc400_0012), ("system-suspend", 0xc400_000e)]
    {
        println!("psci: features of {name} {function:#x}: {}", psci::call(psci::FEATURES, [function, 0, 0]));
    }
    report::equal(GUEST, "unknown-feature", psci::call(psci::FEATURES, [0x8400_00ff, 0, 0]), psci::NOT_SUPPORTED);
    report::equal(GUEST, "unknown-function", psci::call(0x8400_00ff, [0; 3]), psci::NOT_SUPPORTED);
}

fn errors() {
    let own = cpu::affinity();
    let entry = smp::start_address();
    report::equal(GUEST, "cpu-on-of-itself", psci::cpu_on(own, entry, 0), psci::ALREADY_ON);
    report::equal(GUEST, "cpu-on-of-no-cpu", psci::cpu_on(NO_CPU, entry, 0), psci::INVALID_PARAMETERS);
    report::equal(GUEST, "affinity-info-of-itself", psci::affinity_info(own), 0);
    report::equal(GUEST, "affinity-info-of-no-cpu", psci::affinity_info(NO_CPU), psci::INVALID_PARAMETERS);
    // 32-bit twins.
    report::equal(GUEST, "cpu-on-32-of-itself", psci::call(0x8400_0003, [own, entry, 0]), psci::ALREADY_ON);
    report::equal(GUEST, "affinity-info-32-of-itself", psci::call(0x8400_0004, [own, 0, 0]), 0);
    // Bits 63 to 32 do not count in the 32-bit convention; QEMU's own PSCI reads them.
    let result = psci::call(0x8400_0004, [own | 0xdead_0000_0000_0000, 0, 0]);
    println!("psci: affinity info 32 with bits above: {result}");
}

/// The other instruction either reaches the same firmware or is undefined.
fn other_conduit() {
    unsafe extern "C" fn smc(function: u64, _: u64) -> u64 {
        psci::smc(function as u32, [0; 3])
    }
    unsafe extern "C" fn hvc(function: u64, _: u64) -> u64 {
        psci::hvc(function as u32, [0; 3])
    }
    for (name, code) in [("smc", smc as probe::Code), ("hvc", hvc)] {
        match probe::run(code, psci::VERSION.into(), 0) {
            Ok(version) => {
                println!("psci: {name} answers {version:#x}");
                report::equal(GUEST, name, version as i64, psci::call(psci::VERSION, [0; 3]));
            }
            Err(Caught { esr, .. }) => {
                println!("psci: {name} is undefined");
                report::equal(GUEST, name, esr >> 26, 0);
            }
        }
    }
}

/// AFFINITY_INFO follows a CPU from off to on and back, and a second CPU_ON loses.
fn states() {
    let mpidr = machine().cpus[1];
    let entry = smp::start_address();
    report::equal(GUEST, "off-before", psci::affinity_info(mpidr), 1);
    report::equal(GUEST, "cpu-on", smp::start(1, arrive_and_leave), Ok(()));
    report::equal(GUEST, "arrives", smp::wait_for(&ARRIVED, 1, 1000), true);
    report::equal(GUEST, "on-while-running", psci::affinity_info(mpidr), 0);
    report::equal(GUEST, "cpu-on-of-running", psci::cpu_on(mpidr, entry, 1), psci::ALREADY_ON);
    LEAVE.store(1, Ordering::Release);
    report::equal(GUEST, "off-after", wait_off(mpidr), true);
}

static LEAVE: AtomicUsize = AtomicUsize::new(0);

fn arrive_and_leave(_index: usize) {
    ARRIVED.fetch_add(1, Ordering::Release);
    while LEAVE.load(Ordering::Acquire) == 0 {
        core::hint::spin_loop();
    }
    psci::cpu_off();
}

fn wait_off(mpidr: u64) -> bool {
    let end = timer::after_ms(1000);
    while timer::now() < end {
        if psci::affinity_info(mpidr) == 1 {
            return true;
        }
    }
    false
}

/// Turns each other CPU on and off again, many times.
fn hotplug(rounds: usize) {
    for index in 1..machine().cpus.len() {
        let mpidr = machine().cpus[index];
        let mut done = 0;
        for _ in 0..rounds {
            let before = ARRIVED.load(Ordering::Acquire);
            let right = smp::start(index, arrive_and_leave).is_ok()
                && smp::wait_for(&ARRIVED, before + 1, 1000)
                && wait_off(mpidr);
            if !right {
                break;
            }
            done += 1;
        }
        println!("psci: cpu {index} went on and off {done} times");
        report::equal(GUEST, "hotplug", done, rounds);
    }
}

/// Turns a CPU on at an address that is no RAM.
fn start_nowhere() {
    let mpidr = machine().cpus[1];
    let unmapped = psci::cpu_on(mpidr, 0x00ff_ffff_f000, 1);
    println!("psci: cpu-on at an address that is not RAM: {unmapped}");
    if unmapped == psci::SUCCESS {
        // Allowed: the CPU then takes aborts at its first instruction. It cannot be used any more.
        report::ok(GUEST, "cpu-on-at-no-memory");
    } else {
        report::equal(GUEST, "cpu-on-at-no-memory", unmapped, psci::INVALID_ADDRESS);
    }
}
