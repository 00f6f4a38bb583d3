// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random steps of one partition's life beside another one that must not notice: CPUs go off and on, the system reboots,
//! powers off and is started again, with its disk's interrupt routed to the CPU that goes and its disk at work.

use system_tests::{Booted, Gic, Machine, Random, Timing};

use crate::boots::{LINUX_BOOT, expect_linux};

/// How late the neighbour's timer interrupt may be, in nanoseconds of a machine that executes one instruction in each,
/// of any CPU: all CPUs take turns, so that this is mostly what the others do in theirs.
pub const LATE_MAX: u64 = 50_000;

/// A neighbour that measures, and a Linux with a disk.
fn config() -> String {
    format!(
        r#"
platform = "qemu-virt"
[hypervisor]
cpu = 2
[partition.linux]
cpus    = [0, 1]
memory  = "192M"
kernel  = "debian:vmlinuz"
initrd  = "debian:initrd"
cmdline = "console=ttyAMA0 quiet"
devices = [{{ node = "/virtio_mmio@a000000", unsafe-dma = true }}]
[partition.canary]
cpus    = [3]
memory  = "16M"
kernel  = "guest:canary"
cmdline = "period-us=1000 report=250 late-max={LATE_MAX}"
[qemu]
args = [
  "-drive", "if=none,id=disk0,format=raw,file={{scratch:disk0.img:16M}}",
  "-device", "virtio-blk-device,drive=disk0,bus=virtio-mmio-bus.0",
]
"#
    )
}

/// A step, and how many of the hundred it counts for.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The second CPU goes off and on, so often.
    Hotplug(usize),
    /// Linux reboots.
    Reboot,
    /// Linux switches itself off and the shell starts it.
    PowerOff,
    /// The shell restarts it in the middle of what it does.
    Restart,
}

/// Returns the latest that the canary ever was, as it says last, and asserts that its memory is its own.
fn latest(booted: &Booted) -> u64 {
    let lines = booted.lines_of("canary");
    let reports: Vec<&String> = lines.iter().filter(|line| line.contains(": late max ")).collect();
    let last = reports.last().expect("the canary says nothing");
    assert!(lines.iter().all(|line| !line.contains("CHANGED")), "the canary's memory has changed: {last}");
    let ticks = last.split("late max ").nth(1).and_then(|rest| rest.split(' ').next());
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or_else(|| panic!("no figure in `{last}`"))
}

#[test]
fn a_hundred_random_steps_of_linux_leave_its_neighbour_alone() {
    let mut random = Random::seeded(2);
    let machine = Machine::with_config("steps-linux", &config())
        .gic(Gic::V3)
        .cpu("cortex-a53,cntfrq=1000000000")
        .memory("1G")
        .timing(Timing::Instructions);
    let mut booted = machine.boot();
    expect_linux(&mut booted, "linux", 2);

    // A boot of Linux takes seconds, a CPU's going off and on milliseconds.
    let mut whole_lives = [Step::Reboot, Step::PowerOff, Step::Restart];
    for index in (1..whole_lives.len()).rev() {
        whole_lives.swap(index, random.below(index as u64 + 1) as usize);
    }
    let mut done = 0;
    for step in whole_lives {
        let hotplugs = 30 + random.below(5) as usize;
        for step in [Step::Hotplug(hotplugs), step] {
            println!("step {done}: {step:?}, the canary was late by {} ticks at most", latest(&booted));
            done += take(&mut booted, step);
        }
    }
    println!("{done} steps, the canary was late by {} ticks at most", latest(&booted));
    assert!(done >= 90, "only {done} steps");
    assert!(latest(&booted) <= LATE_MAX, "the canary was late by {} ticks", latest(&booted));
    booted.assert_never_said("CHANGED|FAILED|Kernel panic|Oops|hypervisor (panic|fault)");
}

/// Takes a step, with the disk at work, and waits until Linux is up again; returns for how many it counts.
fn take(booted: &mut Booted, step: Step) -> usize {
    booted.type_at(0, "disk-io >/tmp/disk-io.log &");
    match step {
        Step::Hotplug(count) => {
            booted.type_at(0, &format!("hotplug {count}; killall disk-io; tail -1 /tmp/disk-io.log"));
            booted.expect(&format!("hotplug: {count} steps done"), 300);
            booted.expect("disk-io [0-9]+ ok", 60);
            return count;
        }
        Step::Reboot => booted.type_at(0, "reboot -f"),
        Step::Restart => {
            booted.expect(r"^\[linux\] .*# $", 60);
            booted.shell("restart linux");
        }
        Step::PowerOff => {
            booted.type_at(0, "poweroff -f");
            booted.expect(r"^\[septum\] +partition linux is off: guest called SYSTEM_OFF", 120);
            booted.shell("start linux");
        }
    }
    expect_linux(booted, "linux", 2);
    1
}

/// `two-linux.toml`: one hashes its memory and counts seconds while the other comes and goes.
#[test]
fn one_linux_comes_and_goes_beside_the_other() {
    let mut random = Random::seeded(3);
    let mut booted = Machine::with_shipped("steps-two-linux", "two-linux").gic(Gic::V2).boot();
    let up = |partition: &str| format!(r"^\[{partition}\] +septum demo: Linux is up on 2 CPUs");
    booted.expect_all(&[&up("left"), &up("right")], LINUX_BOOT);
    booted.type_at(1, "memory-hash 8 & heartbeat &");
    booted.expect(r"^\[right\] +memory-hash 1 ok", 60);

    let steps = 4;
    for number in 0..steps {
        let kind = random.below(4);
        println!("step {number}: kind {kind}");
        match kind {
            0 => {
                booted.type_at(0, "hotplug 5");
                booted.expect(r"^\[left\] +hotplug: 5 steps done", 120);
            }
            1 => booted.type_at(0, "reboot -f"),
            2 => booted.shell("restart left"),
            _ => {
                booted.type_at(0, "poweroff -f");
                booted.expect(r"^\[septum\] +partition left is off: guest called SYSTEM_OFF", 60);
                booted.shell("start left");
            }
        }
        if kind != 0 {
            expect_linux(&mut booted, "left", 2);
        }
        booted.expect(r"^\[right\] +memory-hash [0-9]+ ok", 30);
        booted.expect(r"^\[right\] +heartbeat [0-9]+ at", 30);
    }
    booted.assert_never_said(r"CHANGED|FAILED|Kernel panic|Oops|hypervisor (panic|fault)");
    let beats: Vec<u32> = booted
        .lines_of("right")
        .iter()
        .filter_map(|line| line.strip_prefix("heartbeat ")?.split(' ').next()?.parse().ok())
        .collect();
    assert!(beats.len() > steps && beats.windows(2).all(|pair| pair[1] == pair[0] + 1), "{beats:?}");
    assert_eq!(booted.lines_of("right").iter().filter(|line| line.starts_with("septum demo: Linux")).count(), 1);
}
