// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shipped configurations, on both GICs, three CPU models and several sizes of machine.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use regex::Regex;
use septum_tool::paths;
use system_tests::{Booted, Gic, Machine};

/// How long Debian's kernel may take to its shell, in seconds.
pub const LINUX_BOOT: u32 = 150;

/// Waits for the shell of the Linux in the partition at this place.
pub fn expect_linux(booted: &mut Booted, partition: &str, cpus: u32) {
    booted.expect(&format!(r"^\[{partition}\] +septum demo: Linux is up on {cpus} CPUs"), LINUX_BOOT);
}

/// Asserts that the shell of a Linux answers a command, and returns the answer, a word.
pub fn ask(booted: &mut Booted, place: u8, partition: &str, command: &str) -> String {
    // What is echoed while it is typed must not look like the answer, nor an earlier one that is shown again.
    static ASKED: AtomicU32 = AtomicU32::new(1000);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    booted.type_at(place, &format!("echo answer-$(({number}+0))-$({command})-end"));
    let line = booted.expect(&format!(r"^\[{partition}\] .*answer-{number}-\S+-end"), 60);
    let answer = line.text.rsplit(&format!("answer-{number}-")).next().and_then(|rest| rest.split("-end").next());
    answer.unwrap_or_default().to_owned()
}

/// Boots `default.toml`: a shell that answers, a heartbeat, and nobody who complains.
fn assert_default_boots(gic: Gic, cpu: &str, smp: u32, memory: &str) {
    let mut booted = Machine::with_shipped(&format!("default-{gic:?}-{cpu}"), "default")
        .gic(gic)
        .cpu(cpu)
        .smp(smp)
        .memory(memory)
        .boot();
    expect_linux(&mut booted, "linux", 2);
    assert_eq!(ask(&mut booted, 0, "linux", "nproc"), "2");
    booted.expect(r"^\[heartbeat\] +heartbeat [0-9]+: .*memory ok", 30);
    booted.expect(r"^\[heartbeat\] +heartbeat [0-9]+: .*memory ok", 30);
    booted.assert_never_said(r"CHANGED|hypervisor (panic|fault)|Kernel panic|Oops|BUG:|WARNING:");
    assert_eq!(booted.unreadable_lines(), 0);
}

macro_rules! default_boots {
    ($($name:ident: $gic:ident, $cpu:literal, $smp:literal, $memory:literal;)*) => {
        $(
            #[test]
            fn $name() {
                assert_default_boots(Gic::$gic, $cpu, $smp, $memory);
            }
        )*
    };
}

default_boots! {
    default_on_gicv3_cortex_a53: V3, "cortex-a53", 4, "1G";
    default_on_gicv3_cortex_a72: V3, "cortex-a72", 8, "2G";
    default_on_gicv3_max: V3, "max", 4, "4G";
    default_on_gicv2_cortex_a53: V2, "cortex-a53", 4, "8G";
    default_on_gicv2_cortex_a72: V2, "cortex-a72", 4, "1G";
    default_on_gicv2_max: V2, "max", 8, "2G";
}

/// Boots `two-linux.toml`: each sees what is its own.
fn assert_two_linux_boot(gic: Gic, smp: u32, memory: &str) {
    let mut booted =
        Machine::with_shipped(&format!("two-linux-{memory}"), "two-linux").gic(gic).smp(smp).memory(memory).boot();
    let up = |partition: &str| format!(r"^\[{partition}\] +septum demo: Linux is up on 2 CPUs");
    booted.expect_all(&[&up("left"), &up("right")], LINUX_BOOT);
    for (place, partition) in [(0, "left"), (1, "right")] {
        assert_eq!(ask(&mut booted, place, partition, "nproc"), "2");
        let kilobytes = ask(&mut booted, place, partition, "sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo");
        let kilobytes: u32 = kilobytes.parse().unwrap_or_else(|_| panic!("MemTotal is `{kilobytes}`"));
        assert!((200 << 10..320 << 10).contains(&kilobytes), "{partition} has {kilobytes} KiB of its 320 MiB");
        // Consoles are apart: what one is given is on no other.
        ask(&mut booted, place, partition, &format!("echo only-{partition}"));
    }
    assert!(booted.lines_of("left").iter().any(|line| line.contains("only-left")));
    assert!(!booted.lines_of("left").iter().any(|line| line.contains("only-right")));
    assert!(!booted.lines_of("right").iter().any(|line| line.contains("only-left")));
}

#[test]
fn two_linux_in_1g() {
    assert_two_linux_boot(Gic::V3, 4, "1G");
}

#[test]
fn two_linux_in_2g() {
    assert_two_linux_boot(Gic::V2, 8, "2G");
}

#[test]
fn two_linux_in_4g() {
    assert_two_linux_boot(Gic::V2, 4, "4G");
}

#[test]
fn two_linux_in_8g() {
    assert_two_linux_boot(Gic::V3, 8, "8G");
}

#[test]
fn four_guests_run_and_the_last_one_when_it_is_asked() {
    for gic in [Gic::V3, Gic::V2] {
        let mut booted = Machine::with_shipped(&format!("four-guests-{gic:?}"), "four-guests").gic(gic).boot();
        let beats = |name: &str| format!(r"^\[{name}\] +heartbeat 2: .*memory ok");
        booted.expect_all(&[&beats("first"), &beats("second"), &beats("third")], 60);
        booted.assert_never_said(r"^\[fourth\]");
        booted.shell("start fourth");
        booted.expect(&beats("fourth"), 30);
    }
}

/// The configurations that the tests of this file, of `devices` and of `direct` boot.
const TESTED: [&str; 5] = ["default", "direct", "four-guests", "passthrough", "two-linux"];

#[test]
fn each_shipped_configuration_is_booted_by_a_test() {
    let shipped: BTreeSet<String> = fs::read_dir(paths::root().join("configs/qemu-virt"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(shipped, TESTED.map(str::to_owned).into());
}

/// `septum.img` is the same file for every configuration: the build takes none.
#[test]
fn firmware_says_its_version_and_who_owns_what() {
    let mut booted = Machine::with_shipped("says-who-owns-what", "four-guests").boot();
    booted.expect(r"^\[septum\] Septum [0-9]+\.[0-9]+\.[0-9]+", 30);
    booted.expect(r"^\[third\] +heartbeat 1: ", 60);
    let said = booted.lines_of("septum").join("\n");
    for partition in ["first", "second", "third", "fourth"] {
        assert!(Regex::new(&format!(r"\b{partition}\b")).unwrap().is_match(&said), "{partition} is not in:\n{said}");
    }
}
