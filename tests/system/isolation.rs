// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that tries everything, beside one that would notice and one that restarts all the time. The verdict is of those
//! who were attacked: the hypervisor still answers and says how each partition is, the canary's timer is on time and its
//! memory its own; what the attacker itself saw is only more of it. With a bug put into the hypervisor the same trial
//! must fail.

use std::panic::{self, AssertUnwindSafe};

use regex::Regex;
use system_tests::{Booted, Gic, Machine, SeededBug, Timing, images};

/// How late the canary's timer interrupt may be, in ticks of a machine that executes an instruction in each, of any CPU.
/// All four CPUs take turns, so that most of it is what the others do in theirs.
const LATE_MAX: u64 = 50_000;

/// Where the attacker's own memory is: nowhere near the board's RAM, so that all of that is forbidden.
const OWN_MEMORY: &str = "0x10_0000_0000";
/// The hypervisor, and what QEMU's loader puts behind it; the bundle.
const HYPERVISOR: &str = "0x40200000+0x200000";
const BUNDLE: &str = "0x48000000+0x20000";
/// The canary's memory, the part where its code is.
const NEIGHBOUR: &str = "0x41000000+0x40000";
/// Interrupt controller, UART, clock, firmware configuration, GPIO and the virtio slots.
const DEVICES: &str = "0x8000000+0x20000,0x8080000+0x60000,0x9000000+0x50000,0xa000000+0x4000";

/// The partitions: a canary, the attacker with two CPUs, and a neighbour that resets itself for ever.
fn config(options: &str) -> String {
    format!(
        r#"
platform = "qemu-virt"
[hypervisor]
on-panic = "halt"
[partition.canary]
cpus    = [2]
memory  = {{ size = "16M", pa = "0x4100_0000" }}
kernel  = "guest:canary"
cmdline = "period-us=1000 report=50 late-max={LATE_MAX}"
[partition.hostile]
cpus    = [0, 1]
memory  = {{ size = "16M", ipa = "{OWN_MEMORY}" }}
kernel  = "guest:hostile"
cmdline = "{options}"
[partition.restarts]
cpus    = [3]
memory  = "16M"
kernel  = "guest:psci"
cmdline = "reset=1"
"#
    )
}

fn machine(name: &str, gic: Gic, options: &str) -> Machine {
    let cpu = "cortex-a53,cntfrq=1000000000";
    Machine::with_config(name, &config(options)).gic(gic).cpu(cpu).memory("1G").timing(Timing::Instructions)
}

/// What the canary has last said: its beat, and the latest it ever was.
fn canary(booted: &Booted) -> Option<(u64, u64)> {
    let lines = booted.lines_of("canary");
    let last = lines.iter().rev().find(|line| line.contains(": late max "))?;
    let (beat, rest) = last.strip_prefix("canary ")?.split_once(": late max ")?;
    Some((beat.parse().ok()?, rest.split(' ').next()?.parse().ok()?))
}

/// Lets the attacker run to its end and judges; panics when the wall did not hold.
fn assert_wall_holds(machine: Machine, sections: usize, seconds: u32) {
    let mut booted = machine.boot();
    booted.leave_keyboard();
    let off = r"^\[septum\] +partition hostile is off: guest called SYSTEM_OFF";
    let end = booted.expect(r"^\[hostile\] +(DONE|hostile LEAK)|hypervisor (fault|panic)", seconds);
    assert!(end.text.contains("DONE"), "something came through: {}", end.text);
    booted.expect_anywhere(off, 30);
    booted.expect_anywhere(r"^\[canary\] +canary [0-9]+: late max", 30);

    // EL2's own words: it lives, listens to its UART, knows who is how, and finds the hardware as it was planned.
    booted.shell("list");
    booted.expect(r"^\[septum\] .*canary +running +1/1 +16 MiB +0", 30);
    booted.expect(r"^\[septum\] .*hostile +stopped +0/2 .*\(guest called SYSTEM_OFF\)", 30);
    booted.expect(r"^\[septum\] .*restarts +(running|starting|stopping)", 30);
    assert_audit_passes(&mut booted);
    booted.assert_never_said("hypervisor (panic|fault)");

    // The neighbours: one goes on beating, one has begun again and again.
    let (beat, _) = canary(&booted).expect("the canary says nothing");
    booted.expect(&format!(r"^\[canary\] +canary {}0: .*memory ok", beat / 10 + 20), 60);
    let (_, latest) = canary(&booted).expect("the canary says nothing");
    booted.assert_never_said(r"CHANGED|psci .* FAIL");
    let lives = booted.lines_of("restarts").iter().filter(|line| line.starts_with("psci: boot")).count();
    println!("{beat} beats, late by {latest} ticks at most; its neighbour lived {lives} times");
    assert!(lives >= 3, "the neighbour was not restarted while the attack ran");
    assert!(latest <= LATE_MAX, "the canary was late by {latest} ticks");

    let claims = booted.claims(Some("hostile"), "hostile");
    assert_eq!(claims.failed, []);
    assert_eq!(claims.ok.len(), sections);
    for line in booted.lines_of("hostile").iter().filter(|line| line.contains(" attempts, ")) {
        println!("{line}");
    }
}

/// Asserts that the same trial fails with a bug, and returns how.
fn why_the_wall_fails(bug: SeededBug, machine: Machine) -> String {
    let machine = machine.firmware(images::firmware_with(bug));
    let trial = panic::catch_unwind(AssertUnwindSafe(|| assert_wall_holds(machine, 2, 200)));
    let Err(panic) = trial else { panic!("nobody noticed {bug:?}: the trial proves nothing") };
    let text = panic.downcast::<String>().map_or_else(|_| "no text".to_owned(), |text| *text);
    // For the reason that it should be, and not because it did not even start.
    let reason = match bug {
        SeededBug::LeakedPage => "something came through: ",
        SeededBug::UnfilteredSpi => "the audit says: ",
    };
    assert!(text.contains(reason), "{bug:?}: {text}");
    format!("{bug:?} was noticed: {text}")
}

/// Lets the hypervisor compare translation tables and interrupts with its plan.
fn assert_audit_passes(booted: &mut Booted) {
    booted.shell("audit");
    let verdict =
        booted.expect("audit: (FAILED with [0-9]+ findings|[0-9]+ mappings and [0-9]+ enabled interrupts are)", 30);
    // The hypervisor's own UART interrupts: with none enabled it has been made deaf.
    let is_right = Regex::new("audit: [1-9][0-9]* mappings and [1-9][0-9]* enabled interrupts are").unwrap();
    assert!(is_right.is_match(&verdict.text), "the audit says: {}", verdict.text);
}

#[test]
fn everything_is_tried_on_gicv3() {
    let sweep = format!("sweep={HYPERVISOR},{DEVICES},{NEIGHBOUR} first=4G pages=4000");
    assert_wall_holds(machine("hostile-gicv3", Gic::V3, &sweep), 6, 400);
}

/// The attacker has its CPUs' interfaces and the priorities of its own interrupts; distributor and redistributors stay
/// filtered.
#[test]
fn everything_is_tried_by_a_partition_with_direct_interrupts() {
    let sweep = format!("sweep={DEVICES} first=0 pages=1000 seed=5");
    let text = config(&sweep).replace("[partition.hostile]", "[partition.hostile]\ninterrupts = \"direct\"");
    let machine = Machine::with_config("hostile-direct", &text).cpu("cortex-a53,cntfrq=1000000000").memory("1G");
    assert_wall_holds(machine.timing(Timing::Instructions), 6, 400);
}

#[test]
fn everything_is_tried_on_gicv2() {
    let sweep = format!("sweep={BUNDLE} first=1G pages=4000 seed=2");
    assert_wall_holds(machine("hostile-gicv2", Gic::V2, &sweep), 6, 400);
}

/// On the CPU with the most features, and without counted instructions, so that the CPUs really run at once.
fn assert_wall_holds_at_once(name: &str, options: &str, seconds: u32) {
    let mut booted = Machine::with_config(name, &config(options)).gic(Gic::V3).cpu("max").memory("1G").boot();
    booted.leave_keyboard();
    let off = r"^\[septum\] +partition hostile is off: guest called SYSTEM_OFF";
    booted.expect_all(&[r"^\[hostile\] +DONE", off], seconds);
    booted.shell("list");
    booted.expect(r"^\[septum\] .*canary +running +1/1 +16 MiB +0", 30);
    assert_audit_passes(&mut booted);
    booted.assert_never_said("CHANGED|hypervisor (panic|fault)");
    let claims = booted.claims(Some("hostile"), "hostile");
    assert_eq!((claims.failed, claims.ok.len()), (Vec::new(), 6));
}

#[test]
fn everything_is_tried_at_once_on_max() {
    assert_wall_holds_at_once("hostile-max", &format!("sweep={HYPERVISOR} first=2G pages=8000 seed=3"), 400);
}

/// The longest test: about 90 seconds on one CPU.
#[test]
fn a_million_random_pages_and_the_first_16_gib_are_tried() {
    let sweep = format!("sweep={HYPERVISOR},{BUNDLE},{DEVICES},{NEIGHBOUR} first=16G pages=1000000 seed=4");
    assert_wall_holds_at_once("hostile-long", &sweep, 3600);
}

/// The parts of the trial by which the two bugs are to be found. Without a bug they pass: the whole trial has them.
const LEAK: &str = "sections=misc,pages pages=0 first=0 sweep=0x300000000+0x1000";
const SPI: &str = "sections=misc,gic";

#[test]
fn a_leaked_page_is_noticed() {
    assert_wall_holds(machine("hostile-no-leak", Gic::V3, LEAK), 2, 100);
    let noticed = why_the_wall_fails(SeededBug::LeakedPage, machine("hostile-leaked-page", Gic::V3, LEAK));
    println!("{noticed}");
}

#[test]
fn an_unfiltered_spi_is_noticed() {
    let noticed = why_the_wall_fails(SeededBug::UnfilteredSpi, machine("hostile-spi", Gic::V2, SPI));
    println!("{noticed}");
}
