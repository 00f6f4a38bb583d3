// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that tries everything, beside one that would notice and one that restarts all the time. The verdict is of those
//! who were attacked: the hypervisor still answers and says how each partition is, the canary's timer is on time and its
//! memory its own; what the attacker itself saw is only more of it. With a bug put into the hypervisor the same trial
//! must fail.

use std::panic::{self, AssertUnwindSafe};

use system_tests::{Booted, Gic, Machine, SeededBug, Timing, images};

/// How late the canary's timer interrupt may be, in ticks of a machine that executes an instruction in each, of any CPU.
/// All four CPUs take turns, so that most of it is what the others do in theirs.
const LATE_MAX: u64 = 100_000;

/// Where the attacker's own memory is: nowhere near the board's RAM, so that all of that is forbidden.
const OWN_MEMORY: &str = "0x10_0000_0000";
/// The hypervisor, and what QEMU's loader puts behind it; the bundle.
const HYPERVISOR: &str = "0x40200000+0x200000";
const BUNDLE: &str = "0x48000000+0x100000";
/// Interrupt controller, UART, clock, firmware configuration, GPIO and the virtio slots.
const DEVICES: &str = "0x8000000+0x20000,0x8080000+0x60000,0x9000000+0x50000,0xa000000+0x4000";

/// The partitions: a canary, the attacker with two CPUs, and a neighbour that resets itself for ever.
fn config(options: &str) -> String {
    format!(
        r#"
platform = "qemu-virt"
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
    booted.expect(r"^\[canary\] +canary [0-9]+: late max", 60);
    booted.expect(r"^\[hostile\] +DONE", seconds);

    // EL2's own words: it lives, listens to its UART, and knows who is how.
    booted.expect(r"^\[septum\] +partition hostile is off: guest called SYSTEM_OFF", 30);
    booted.shell("list");
    booted.expect(r"^\[septum\] .*canary +running +1/1 +16 MiB +0", 30);
    booted.expect(r"^\[septum\] .*hostile +stopped +0/2 .*\(guest called SYSTEM_OFF\)", 30);
    booted.expect(r"^\[septum\] .*restarts +(running|starting|stopping)", 30);
    booted.shell("audit");
    booted.expect(r"audit: [1-9][0-9]* mappings and [1-9][0-9]* enabled interrupts are as planned", 30);
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

/// Asserts that the same trial fails with a bug.
fn assert_noticed(bug: SeededBug, machine: Machine, sections: usize) {
    let machine = machine.firmware(images::firmware_with(bug));
    let trial = panic::catch_unwind(AssertUnwindSafe(|| assert_wall_holds(machine, sections, 120)));
    assert!(trial.is_err(), "nobody noticed {bug:?}: the trial proves nothing");
    println!("{bug:?} was noticed, as it should be");
}

#[test]
fn everything_is_tried_on_gicv3() {
    let sweep = format!("sweep={HYPERVISOR},{BUNDLE},{DEVICES},0x41000000+0x100000 pages=40000");
    assert_wall_holds(machine("hostile-gicv3", Gic::V3, &sweep), 6, 500);
}

#[test]
fn everything_is_tried_on_gicv2() {
    let sweep = format!("sweep={HYPERVISOR},{DEVICES} pages=10000 first=4G");
    assert_wall_holds(machine("hostile-gicv2", Gic::V2, &sweep), 6, 500);
}

/// On the CPU with the most features, and without counted instructions, so that the CPUs really run at once.
#[test]
fn everything_is_tried_at_once_on_max() {
    let sweep = format!("sweep={HYPERVISOR},{DEVICES} pages=1000000 first=16G seed=7");
    let mut booted = Machine::with_config("hostile-max", &config(&sweep)).gic(Gic::V3).cpu("max").memory("1G").boot();
    booted.leave_keyboard();
    booted.expect(r"^\[hostile\] +DONE", 500);
    booted.shell("list");
    booted.expect(r"^\[septum\] .*canary +running +1/1 +16 MiB +0", 30);
    booted.shell("audit");
    booted.expect("enabled interrupts are as planned", 30);
    booted.assert_never_said("CHANGED|hypervisor (panic|fault)");
    let claims = booted.claims(Some("hostile"), "hostile");
    assert_eq!((claims.failed, claims.ok.len()), (Vec::new(), 6));
}

/// The part of the trial that the two bugs are to be found by, without them: it must pass.
const LEAK: &str = "sections=misc,pages pages=0 first=0 sweep=0x40200000+0x200000,0x300000000+0x1000";
const SPI: &str = "sections=misc,gic";

#[test]
fn pages_alone_hold() {
    assert_wall_holds(machine("hostile-pages", Gic::V3, LEAK), 2, 200);
}

#[test]
fn a_leaked_page_is_noticed() {
    assert_noticed(SeededBug::LeakedPage, machine("hostile-leaked-page", Gic::V3, LEAK), 2);
}

#[test]
fn interrupts_alone_hold() {
    assert_wall_holds(machine("hostile-spi", Gic::V3, SPI), 2, 200);
}

#[test]
fn an_unfiltered_spi_is_noticed() {
    for gic in [Gic::V3, Gic::V2] {
        let name = format!("hostile-unfiltered-spi-{gic:?}");
        assert_noticed(SeededBug::UnfilteredSpi, machine(&name, gic, SPI), 2);
    }
}
