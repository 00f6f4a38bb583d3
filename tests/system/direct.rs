// SPDX-License-Identifier: MIT OR Apache-2.0
//! Partitions whose interrupts arrive at the guest itself: what the guest sees, that it takes no exits, and that the
//! hypervisor gets its CPUs back whatever the guest has masked.

use std::fs;
use std::path::PathBuf;

use regex::Regex;
use system_tests::{Booted, Gic, Machine, Timing};

use crate::interrupts::scenes;

/// A counter of 1 GHz: under counted instructions one tick is one instruction, of any CPU.
const COUNTED: &str = "cortex-a53,cntfrq=1000000000";

/// Scenes that differ from the Non-secure side of QEMU's GIC in what is known: its ICC_PMR_EL1 is not shifted, since its
/// boot loader leaves SCR_EL3.FIQ clear; and the console's line is an edge.
const OTHERWISE: [&str; 6] = ["mask", "level", "level-disabled", "level-drop", "level-clear", "level-soft"];

/// Returns the log without those scenes. On the bare machine the running priorities are physical ones (SCR_EL3.FIQ, as
/// above), which the Non-secure side sees shifted.
fn log(booted: &mut Booted, partition: Option<&str>) -> Vec<String> {
    booted.expect_power_off(120);
    let lines = partition.map_or_else(|| booted.lines(), |partition| booted.lines_of(partition));
    let is_compared = |line: &String| {
        let scene =
            line.strip_prefix("vgic ").or(line.strip_prefix("TEST vgic ")).and_then(|rest| rest.split(' ').next());
        scene.is_some_and(|scene| !OTHERWISE.contains(&scene))
    };
    let priority = Regex::new("(take|end|back|irq) (s[0-9]+|sgi[0-9]+|vtimer|ptimer) ([0-9a-f]+);").unwrap();
    let seen = |line: String| {
        let shift = |found: &regex::Captures<'_>| {
            let value = u32::from_str_radix(&found[3], 16).unwrap();
            let value = if partition.is_none() { value << 1 & 0xff } else { value };
            format!("{} {} {value:x};", &found[1], &found[2])
        };
        priority.replace_all(&line, shift).into_owned()
    };
    lines.into_iter().filter(is_compared).map(seen).collect()
}

#[test]
fn a_direct_guest_sees_the_non_secure_side_of_a_real_gicv3() {
    let bare = Machine::bare("direct-bare", "vgic", "").gic(Gic::V3).smp(2).memory("256M");
    let bare_log = log(&mut bare.qemu(["-M", "secure=on"]).boot(), None);
    let mut septum = Machine::with_config("direct-vgic", &scenes("direct")).smp(3).memory("512M").boot();
    let septum_log = log(&mut septum, Some("guest"));
    assert!(bare_log.len() >= 60, "the log has only {} lines", bare_log.len());
    let differ = bare_log.iter().zip(&septum_log).find(|(bare, septum)| bare != septum);
    assert_eq!(differ, None);
    assert_eq!(bare_log.len(), septum_log.len());
    println!("{} lines are the same", bare_log.len());
    // What the Non-secure side lacks: groups, a bit of each priority, and the lowest priority of all. And what is lost of a
    // line by a spare SPI: when it falls, so does what software has made pending.
    let claims = septum.claims(Some("guest"), "vgic");
    let failed: Vec<&str> = claims.failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, ["registers", "order", "mask", "groups", "level-soft"]);
}

#[test]
fn linux_boots_on_two_cpus_with_direct_interrupts() {
    let text = r#"
platform = "qemu-virt"
[partition.linux]
cpus       = [0, 1]
memory     = "256M"
kernel     = "debian:vmlinuz"
initrd     = "debian:initrd"
cmdline    = "console=ttyAMA0"
interrupts = "direct"
[partition.beat]
cpus       = [2]
memory     = "16M"
kernel     = "guest:heartbeat"
cmdline    = "period-ms=500"
interrupts = "direct"
"#;
    let mut booted = Machine::with_config("direct-linux", text).boot();
    booted.expect(r"^\[linux\] +septum demo: Linux is up on 2 CPUs", 120);
    booted.type_at(
        0,
        "grep -c processor /proc/cpuinfo; echo 0 > /sys/devices/system/cpu/cpu1/online; echo an$((40 + 2))",
    );
    booted.expect(r"^\[linux\] +2$", 30);
    booted.expect(r"^\[linux\] +an42", 30);
    booted.type_at(
        0,
        "echo 1 > /sys/devices/system/cpu/cpu1/online; grep -c processor /proc/cpuinfo; echo on$((40 + 3))",
    );
    booted.expect(r"^\[linux\] +2$", 30);
    booted.expect(r"^\[linux\] +on43", 30);
    booted.shell("audit");
    booted.expect(r"audit: [1-9][0-9]* mappings and [1-9][0-9]* enabled interrupts are", 30);
    booted.shell("restart linux");
    booted.expect(r"^\[linux\] +septum demo: Linux is up on 2 CPUs", 120);
    booted.expect(r"^\[beat\] +heartbeat [0-9]+: .*memory ok", 30);
    booted.assert_never_said("CHANGED|hypervisor (panic|fault)");
}

#[test]
fn shipped_configuration_runs_a_virtual_partition_beside_a_direct_one() {
    let mut booted = Machine::with_shipped("direct-shipped", "direct").boot();
    let running = [r"^\[linux\] +septum demo: Linux is up on 2 CPUs", r"^\[control\] +heartbeat [0-9]+: .*memory ok"];
    booted.expect_all(&running, 120);
    booted.shell("audit");
    booted.expect(r"audit: [1-9][0-9]* mappings and [1-9][0-9]* enabled interrupts are", 30);
}

#[test]
fn a_machine_of_direct_partitions_alone_keeps_house() {
    let text = r#"
platform = "qemu-virt"
[hypervisor]
when-all-off = "power-off"
[partition.first]
cpus       = [0]
memory     = "16M"
kernel     = "guest:heartbeat"
cmdline    = "period-ms=100"
interrupts = "direct"
[partition.second]
cpus       = [1]
memory     = "16M"
kernel     = "guest:heartbeat"
cmdline    = "period-ms=100"
interrupts = "direct"
"#;
    let mut booted = Machine::with_config("direct-alone", text).smp(2).memory("512M").boot();
    booted.expect_all(&["housekeeping on CPU 1", "`second` has exits for housekeeping on this CPU"], 60);
    booted.expect_all(&[r"^\[first\] +heartbeat 3: .*memory ok", r"^\[second\] +heartbeat 3: .*memory ok"], 60);
    for name in ["first", "second"] {
        booted.shell(&format!("restart {name}"));
        booted.expect(&format!(r"^\[{name}\] +heartbeat 2: .*memory ok"), 30);
    }
    for name in ["first", "second"] {
        booted.shell(&format!("stop {name}"));
    }
    booted.expect_power_off(30);
}

#[test]
fn psci_calls_answer_a_direct_guest() {
    let text = r#"
platform = "qemu-virt"
[hypervisor]
when-all-off = "power-off"
[partition.beside]
cpus    = [3]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "period-ms=100 count=20"
[partition.guest]
cpus       = [0, 1, 2]
memory     = "16M"
kernel     = "guest:psci"
cmdline    = "rounds=40"
interrupts = "direct"
"#;
    let mut booted = Machine::with_config("direct-psci", text).cpu("max").memory("512M").boot();
    booted.leave_keyboard();
    booted.expect_power_off(120);
    let claims = booted.claims(Some("guest"), "psci");
    assert_eq!(claims.failed, []);
    assert!(claims.ok.len() >= 30, "only {} claims", claims.ok.len());
    assert_eq!(booted.claims(Some("beside"), "heartbeat").failed, []);
}

/// Stops and restarts a guest that holds its CPU by all means. Returns how long it took to leave, in microseconds.
fn stop_of(how: &str) -> Vec<u64> {
    let text = format!(
        r#"
platform = "qemu-virt"
[hypervisor]
cpu = 0
[partition.beside]
cpus    = [0]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "period-ms=100"
[partition.holder]
cpus       = [1]
memory     = "16M"
kernel     = "guest:fault"
cmdline    = "do={how}"
interrupts = "direct"
"#
    );
    let machine = Machine::with_config(&format!("direct-{how}"), &text).cpu(COUNTED).smp(2).memory("512M");
    let mut booted = machine.timing(Timing::Instructions).boot();
    let holds = r"^\[holder\] +fault: holds after 2 ticks";
    booted.expect(holds, 60);
    let mut took = Vec::new();
    for _ in 0..3 {
        // Each life takes two ticks first: nothing that the last one has left active or masked is in its way.
        booted.shell("restart holder");
        booted.expect(holds, 60);
        booted.shell("stop holder");
        let off =
            booted.expect(r"^\[septum\] +partition holder is off: operator; its CPUs left it within [0-9]+ us", 60);
        let time = off.text.split("within ").nth(1).and_then(|rest| rest.split(' ').next());
        took.push(time.and_then(|time| time.parse().ok()).expect("a time"));
        booted.shell("start holder");
        booted.expect(holds, 60);
    }
    booted.assert_never_said("has not left the guest|hypervisor (panic|fault)");
    took
}

#[test]
fn a_guest_that_masks_everything_and_spins_is_stopped_and_restarted() {
    for how in ["hold", "hold-wfi"] {
        let took = stop_of(how);
        println!("{how}: left within {took:?} us, a thousand instructions each");
        assert!(took.iter().all(|time| *time <= 100), "{how}: {took:?} us");
    }
}

#[test]
fn a_guest_that_claims_the_highest_priority_loses_its_memory_and_is_stopped() {
    let took = stop_of("hold-active");
    println!("left within {took:?} us, a thousand instructions each");
    assert!(took.iter().all(|time| (2_000..20_000).contains(time)), "{took:?} us");
}

/// What no trap covers (docs/safety.md): the neighbour's interrupts may come twice. It goes on all the same, and so does
/// the hypervisor.
#[test]
fn a_guest_that_ends_interrupts_of_others_breaks_nothing_but_their_order() {
    let neighbour = scenes("virtual").replace("cpu = 2", "cpu = 3");
    let text = format!(
        r#"{neighbour}
[partition.ender]
cpus       = [2]
memory     = "16M"
kernel     = "guest:fault"
cmdline    = "do=end-others addr=79"
interrupts = "direct"
"#
    );
    let mut booted = Machine::with_config("direct-ends-others", &text).memory("512M").boot();
    booted.leave_keyboard();
    booted.expect(r"^\[guest\] +DONE", 120);
    booted.expect_anywhere(r"^\[ender\] +fault: alive", 30);
    booted.shell("audit");
    booted.expect(r"audit: [1-9][0-9]* mappings and [1-9][0-9]* enabled interrupts are", 30);
    booted.shell("stop ender");
    booted.expect(r"^\[septum\] +partition ender is off: operator", 30);
    booted.assert_never_said("hypervisor (panic|fault)");
    println!("failed: {:?}", booted.claims(Some("guest"), "vgic").failed);
}

/// Counts what QEMU's log of exceptions says of a CPU between its two marks: those taken to EL1, and those to EL2.
fn exceptions_between_marks(log: &str, cpu: u32) -> (usize, usize) {
    let mut marks = 0;
    let (mut to_el1, mut to_el2) = (0, 0);
    let mut blocks = log.split("Taking exception ").skip(1);
    let own = format!("on CPU {cpu}");
    while let Some(block) = blocks.next().filter(|_| marks < 2) {
        if !block.lines().next().unwrap_or_default().contains(&own) {
            continue;
        }
        if block.starts_with("11 [Hypervisor Call]") && block.contains("ESR 0x16/0x5a00bea7") {
            marks += 1;
        } else if marks == 1 && block.contains("...to EL2 PC") {
            to_el2 += 1;
        } else if marks == 1 && block.contains("...to EL1 PC") {
            to_el1 += 1;
        }
    }
    assert_eq!(marks, 2, "the window was not marked");
    (to_el1, to_el2)
}

/// Runs a guest with a tick of 1 kHz for ten seconds, beside one that prints all the time.
fn exceptions_of_a_tick(interrupts: &str) -> (usize, usize) {
    let text = format!(
        r#"
platform = "qemu-virt"
[hypervisor]
cpu = 0
[partition.talks]
cpus    = [0]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "period-ms=10"
[partition.ticks]
cpus       = [1]
memory     = "16M"
kernel     = "guest:heartbeat"
cmdline    = "period-ms=1 silent=10000 memory=4096"
interrupts = "{interrupts}"
"#
    );
    let name = format!("direct-exits-{interrupts}");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
    let file = path.display().to_string();
    let machine = Machine::with_config(&name, &text).cpu("cortex-a53").smp(2).memory("512M");
    let mut booted = machine.timing(Timing::Instructions).qemu(["-d", "int", "-D", &file]).boot();
    booted.expect(r"^\[ticks\] +heartbeat 100[0-9]{2}: ", 300);
    drop(booted);
    let log = fs::read_to_string(&path).unwrap();
    let counts = exceptions_between_marks(&log, 1);
    fs::remove_file(&path).unwrap();
    counts
}

#[test]
fn a_direct_partition_has_no_exits_in_ten_seconds_of_a_tick() {
    let (to_el1, to_el2) = exceptions_of_a_tick("direct");
    println!("direct: {to_el1} interrupts at EL1, {to_el2} exits");
    assert!(to_el1 >= 9_999, "only {to_el1} interrupts came");
    assert_eq!(to_el2, 0);
}

#[test]
fn the_count_of_exits_sees_those_of_a_virtual_partition() {
    let (_, to_el2) = exceptions_of_a_tick("virtual");
    println!("virtual: {to_el2} exits");
    assert!(to_el2 >= 9_999, "only {to_el2} exits were seen");
}

#[test]
fn a_gic_with_two_security_states_refuses_direct_interrupts_by_name() {
    let text = r#"
platform = "qemu-virt"
[partition.control]
cpus       = [0]
memory     = "16M"
kernel     = "guest:heartbeat"
interrupts = "direct"
[partition.beside]
cpus    = [1]
memory  = "16M"
kernel  = "guest:heartbeat"
"#;
    // The platform says that it has one state; the firmware looks for itself.
    let mut booted = Machine::with_config("direct-refused", text).smp(2).qemu(["-M", "secure=on"]).boot();
    let why = "partition `control` cannot have `interrupts = \"direct\"`: the board's GIC has two security states";
    booted.expect_all(&[&regex::escape(why), "partition control is not started"], 60);
    booted.expect(r"^\[beside\] +heartbeat 1: ", 60);
    booted.assert_never_said(r"^\[control\] ");
}
