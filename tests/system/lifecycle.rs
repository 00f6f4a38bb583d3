// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor's shell, and what a partition's life looks like from there. PSCI as a guest sees it.

use system_tests::{GICS, Gic, Machine};

const BEATS: &str = r#"
platform = "qemu-virt"
[hypervisor]
when-all-off = "power-off"
[partition.one]
cpus   = [0]
memory = "16M"
kernel = "guest:heartbeat"
cmdline = "period-ms=200"
[partition.two]
cpus   = [1]
memory = "16M"
kernel = "guest:heartbeat"
cmdline = "period-ms=200"
[partition.three]
cpus   = [2]
memory = "16M"
kernel = "guest:heartbeat"
cmdline = "period-ms=200"
autostart = false
"#;

#[test]
fn shell_answers() {
    for gic in GICS {
        let mut booted = Machine::with_config(&format!("shell-{gic:?}"), BEATS).gic(gic).smp(3).memory("512M").boot();
        booted.expect(r"^\[two\] +heartbeat 1: ", 60);

        booted.shell("list");
        for row in [" 0  one +running +1/1 +16 MiB +0", " 1  two +running +1/1", " 2  three +off +0/1"] {
            booted.expect(row, 20);
        }
        booted.shell("help");
        for command in ["list", "stop", "start", "restart", "stats", "log", "audit", "reset", "help"] {
            booted.expect(&format!(r"^\[septum\] +{command} "), 20);
        }
        booted.shell("stats one");
        booted.expect(r"^\[septum\] .*one vcpu0 on cpu0: [0-9]+ exits: mmio [0-9]+", 20);
        booted.shell("lst");
        booted.expect(r#"no command "lst"; did you mean "list"\?"#, 20);
        booted.shell("stop noone");
        booted.expect(r#"no partition "noone""#, 20);
        booted.shell("start one");
        booted.expect("one is not started: it is not off", 20);
        booted.shell("log");
        booted.expect(r"^\[septum\] .*board: ", 20);
    }
}

#[test]
fn partitions_are_stopped_started_and_restarted_one_at_a_time() {
    for gic in GICS {
        let mut booted = Machine::with_config(&format!("lives-{gic:?}"), BEATS).gic(gic).smp(3).memory("512M").boot();
        let beat = |name: &str, number: u32| format!(r"^\[{name}\] +heartbeat {number}: .*memory ok");
        booted.expect_all(&[&beat("one", 2), &beat("two", 2)], 60);

        booted.shell("start three");
        booted.expect(&beat("three", 1), 20);
        booted.shell("restart one");
        booted.expect(&beat("one", 1), 20);
        booted.shell("stop two");
        booted.expect(r"^\[septum\] +partition two is off: operator", 20);
        booted.shell("list");
        booted.expect(" 0  one +running +1/1 +16 MiB +1", 20);
        booted.expect(r" 1  two +stopped +0/1 .*\(operator\)", 20);
        booted.expect(&beat("three", 5), 20);
        booted.shell("start two");
        booted.expect(&beat("two", 1), 20);

        // Those that were left alone never noticed: their beats are numbered without a gap.
        let numbers = |name: &str| -> Vec<u32> {
            let number = |line: &String| line.strip_prefix("heartbeat ")?.split(':').next()?.parse().ok();
            booted.lines_of(name).iter().filter_map(number).collect()
        };
        let three = numbers("three");
        assert!(three.len() >= 5 && three.iter().copied().eq(1..=three.len() as u32), "{three:?}");
        assert_eq!(numbers("one").iter().filter(|number| **number == 1).count(), 2);
        assert_eq!(numbers("two").iter().filter(|number| **number == 1).count(), 2);

        // The last one that is stopped switches the machine off.
        for name in ["one", "two", "three"] {
            booted.shell(&format!("stop {name}"));
        }
        booted.expect_power_off(30);
    }
}

#[test]
fn reset_boots_everything_again() {
    let mut booted = Machine::with_config("shell-reset", BEATS).smp(3).memory("512M").boot();
    booted.expect(r"^\[one\] +heartbeat 2: ", 60);
    booted.shell("reset");
    booted.expect(r"^\[septum\] Septum [0-9]", 30);
    booted.expect(r"^\[one\] +heartbeat 1: ", 60);
}

fn psci(cpus: &str, options: &str) -> String {
    format!(
        r#"
platform = "qemu-virt"
[hypervisor]
when-all-off = "power-off"
[partition.beside]
cpus    = [3]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "period-ms=100 {}"
[partition.guest]
cpus    = {cpus}
memory  = "16M"
kernel  = "guest:psci"
cmdline = "{options}"
"#,
        if options.contains("reset") { "" } else { "count=20" }
    )
}

#[test]
fn psci_calls_answer_as_the_specification_says() {
    for (gic, cpu) in [(Gic::V3, "max"), (Gic::V2, "cortex-a72")] {
        let name = format!("psci-{gic:?}");
        let machine = Machine::with_config(&name, &psci("[0, 1, 2]", "rounds=40")).gic(gic).cpu(cpu).memory("512M");
        let mut booted = machine.boot();
        booted.leave_keyboard();
        booted.expect_power_off(120);
        let claims = booted.claims(Some("guest"), "psci");
        assert_eq!(claims.failed, []);
        assert!(claims.ok.len() >= 30, "only {} claims", claims.ok.len());
        assert_eq!(claims.ok.iter().filter(|name| *name == "hotplug").count(), 2);
        assert_eq!(booted.claims(Some("beside"), "heartbeat").failed, []);
    }
}

#[test]
fn a_guest_that_resets_itself_begins_again_and_nobody_else_does() {
    for gic in GICS {
        let name = format!("psci-reset-{gic:?}");
        let machine = Machine::with_config(&name, &psci("[0, 1]", "rounds=2 reset=1")).gic(gic).memory("512M");
        let mut booted = machine.boot();
        booted.leave_keyboard();
        for _ in 0..10 {
            booted.expect(r"^\[guest\] +psci: boot, 2 cpus", 60);
        }
        booted.shell("stop guest");
        booted.expect(r"^\[septum\] +partition guest is off: operator", 30);
        booted.assert_never_said("FAIL|CHANGED");
        let boots = booted.lines_of("beside").iter().filter(|line| line.starts_with("heartbeat:")).count();
        assert_eq!(boots, 1);
    }
}

const ONCE: &str = r#"
platform = "qemu-virt"
[partition.other]
cpus   = [0]
memory = "16M"
kernel = "guest:heartbeat"
cmdline = "period-ms=200"
[partition.once]
cpus    = [1]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "period-ms=200"
boot    = "first"
restart = "never"
"#;

/// Its image is used where it lies in the bundle, beside a partition that is copied from the same file.
#[test]
fn partition_that_runs_once_runs_in_place_and_is_never_started_again() {
    for gic in GICS {
        let mut booted = Machine::with_config(&format!("once-{gic:?}"), ONCE).gic(gic).smp(2).memory("512M").boot();
        let beat = |name: &str, number: u32| format!(r"^\[{name}\] +heartbeat {number}: .*memory ok");
        booted.expect_all(
            &[
                &beat("once", 3),
                &beat("other", 3),
                r"partition once: began after [0-9]+ ticks, of which [0-9]+ scrubbing",
            ],
            60,
        );
        booted.shell("audit");
        booted.expect(r"^\[septum\] .*audit: [0-9]+ mappings .* are as planned", 20);
        booted.shell("restart once");
        booted.expect(r"partition once is off: not restarted, as it runs once", 20);
        booted.shell("start once");
        booted.expect(r"once is not started: it runs once", 20);
        booted.shell("restart other");
        booted.expect(&beat("other", 1), 20);
    }
}
