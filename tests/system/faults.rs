// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that does wrong gets what the architecture would give it, is named, and disturbs nobody.

use system_tests::{Booted, GICS, Gic, Machine};

/// Where no board of the tests has anything.
const NOWHERE: u64 = 0xf_f000_0000;

/// What a guest does, what it says it got, and what the hypervisor says of it.
struct Case {
    does: &'static str,
    gets: &'static str,
    record: Option<&'static str>,
}

/// ESR_EL1 of an external abort: at the same exception level, on data or an instruction, on the access or on a walk.
const CASES: [Case; 10] = [
    Case { does: "read", gets: "took esr 0x96000010,", record: Some("read of 0xff0000000 refused") },
    Case { does: "write", gets: "took esr 0x96000050,", record: Some("write to 0xff0000000 refused") },
    Case { does: "exec", gets: "took esr 0x86000010,", record: Some("fetch from 0xff0000000 refused") },
    Case { does: "pair", gets: "took esr 0x96000010,", record: Some("0xff0000000 refused") },
    Case { does: "atomic", gets: "took esr 0x960000[0-9a-f]{2},", record: Some("0xff0000000 refused") },
    Case { does: "walk", gets: "took esr 0x960000[15][4-7],", record: Some("table walk to 0xff0000000 refused") },
    Case { does: "smc", gets: "returned 0xffffffffffffffff", record: None },
    Case { does: "hvc", gets: "returned 0xffffffffffffffff", record: None },
    Case { does: "undef", gets: "took esr 0x2000000,", record: None },
    Case { does: "serror", gets: "(took esr 0x9600005[0-9a-f],|returned 0x0)", record: Some("0xff0000000 refused") },
];

fn config(cases: &[Case]) -> String {
    let mut text = r#"
platform = "qemu-virt"
[hypervisor]
cpu = 3
[partition.neighbour]
cpus   = [3]
memory = "16M"
kernel = "guest:heartbeat"
cmdline = "period-ms=200"
"#
    .to_owned();
    for (cpu, Case { does, .. }) in cases.iter().enumerate() {
        text.push_str(&format!(
            "[partition.{does}]\ncpus = [{cpu}]\nmemory = \"16M\"\nkernel = \"guest:fault\"\n\
             cmdline = \"do={does} addr={NOWHERE:#x}\"\n"
        ));
    }
    text
}

/// Three guests at a time, each on a CPU of its own, beside a heartbeat.
fn assert_guests_get_what_they_should(gic: Gic) {
    let mut done = 0;
    for (number, cases) in CASES.chunks(3).enumerate() {
        let machine = Machine::with_config(&format!("faults-{gic:?}-{number}"), &config(cases)).gic(gic).memory("512M");
        let mut booted = machine.boot();
        let mut expected = Vec::new();
        for Case { does, gets, record } in cases {
            expected.push(format!(r"^\[{does}\] +fault: {does} {gets}"));
            expected.push(format!(r"^\[{does}\] +DONE 1"));
            if let Some(record) = record {
                expected.push(format!(r"^\[septum\] .*{does}: vcpu0 at PC 0x[0-9a-f]+: .*{record}"));
            }
            done += 1;
        }
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        booted.expect_all(&expected, 60);
        booted.expect(r"^\[neighbour\] +heartbeat [0-9]+: .*memory ok", 20);
        booted.assert_never_said("CHANGED|hypervisor (panic|fault)");
    }
    assert_eq!(done, CASES.len());
}

#[test]
fn guests_get_what_the_architecture_gives_on_gicv3() {
    assert_guests_get_what_they_should(Gic::V3);
}

#[test]
fn guests_get_what_the_architecture_gives_on_gicv2() {
    assert_guests_get_what_they_should(Gic::V2);
}

fn one(does: &str, options: &str) -> String {
    format!(
        r#"
platform = "qemu-virt"
[partition.neighbour]
cpus   = [1]
memory = "16M"
kernel = "guest:heartbeat"
cmdline = "period-ms=200"
[partition.guest]
cpus    = [0]
memory  = "16M"
kernel  = "guest:fault"
cmdline = "do={does} addr={NOWHERE:#x}"
{options}
"#
    )
}

fn count(booted: &Booted, partition: &str, text: &str) -> usize {
    booted.lines_of(partition).iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_guest_that_cannot_go_on_is_stopped() {
    let mut booted = Machine::with_config("fault-stops", &one("vectors", "")).smp(2).memory("512M").boot();
    booted.expect(r"^\[septum\] +partition guest is off: .*exception vectors are not in its memory", 60);
    booted.expect(r"^\[neighbour\] +heartbeat [0-9]+: .*memory ok", 20);
    booted.shell("list");
    booted.expect(r"^\[septum\] .*guest +stopped +0/1 .*exception vectors", 20);
    assert_eq!(count(&booted, "guest", "fault: do vectors"), 1);
}

#[test]
fn a_guest_that_cannot_go_on_is_restarted_as_often_as_its_policy_says() {
    let policy = r#"on-fault = { action = "restart", attempts = 3, within = "60s" }"#;
    for gic in GICS {
        let name = format!("fault-restarts-{gic:?}");
        let mut booted = Machine::with_config(&name, &one("vectors", policy)).gic(gic).smp(2).memory("512M").boot();
        for _ in 0..4 {
            booted.expect(r"^\[guest\] +fault: do vectors", 60);
        }
        booted.expect(r"^\[neighbour\] +heartbeat [0-9]+: .*memory ok", 20);
        booted.shell("list");
        booted.expect(r"^\[septum\] .*guest +stopped +0/1 +16 MiB +3 .*exception vectors", 20);
        assert_eq!(count(&booted, "guest", "fault: do vectors"), 4);
    }
}

/// Guests that never leave of their own accord: an endless loop, and sleep, with interrupts masked.
#[test]
fn a_guest_that_never_listens_can_be_stopped_and_started() {
    for (does, gic) in [("spin", Gic::V3), ("wfi", Gic::V2)] {
        let name = format!("fault-{does}");
        let mut booted = Machine::with_config(&name, &one(does, "")).gic(gic).smp(2).memory("512M").boot();
        for _ in 0..3 {
            booted.expect(&format!(r"^\[guest\] +fault: do {does}"), 60);
            booted.shell("stop guest");
            booted.expect(r"^\[septum\] +partition guest is off: operator", 20);
            booted.expect(r"^\[neighbour\] +heartbeat [0-9]+: .*memory ok", 20);
            booted.shell("start guest");
        }
        booted.expect(&format!(r"^\[guest\] +fault: do {does}"), 60);
    }
}

#[test]
fn a_partition_whose_last_cpu_is_off_is_off() {
    let mut booted = Machine::with_config("fault-off", &one("off", "")).smp(2).memory("512M").boot();
    booted.expect(r"^\[septum\] +partition guest is off: guest turned its last vCPU off", 60);
    booted.expect(r"^\[neighbour\] +heartbeat [0-9]+: .*memory ok", 20);
}
