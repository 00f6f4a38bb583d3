// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same files on machines of other sizes, and the firmware at other addresses.

use system_tests::trampoline::{self, Handover};
use system_tests::{GICS, Gic, Machine};

/// Two partitions with the same guest addresses.
const CONFIG: &str = r#"
platform = "qemu-virt"
[hypervisor]
when-all-off = "power-off"
[partition.one]
cpus    = [0]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "count=2 period-ms=200"
[partition.two]
cpus    = [1]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "count=2 period-ms=200"
"#;

fn assert_both_beat(machine: Machine) {
    let mut booted = machine.boot();
    booted.expect_power_off(60);
    for partition in ["one", "two"] {
        let claims = booted.claims(Some(partition), "heartbeat");
        assert_eq!((claims.failed, claims.ok.len()), (Vec::new(), 2), "{partition}");
    }
}

/// 2 MiB-aligned addresses: next to the usual one, behind what the loader puts in place, at the end of 4 GiB and beyond.
#[test]
fn firmware_at_other_addresses() {
    let places =
        [(0x4040_0000, "512M"), (0x5500_0000, "512M"), (0x7fe0_0000, "1G"), (0xffe0_0000, "4G"), (0x1_4000_0000, "5G")];
    for (index, (place, memory)) in places.into_iter().enumerate() {
        let machine = Machine::with_config(&format!("placed-{place:x}"), CONFIG)
            .gic(GICS[index % 2])
            .smp(2)
            .memory(memory)
            .planned_so()
            .trampoline(trampoline::make(place, Handover::Keep), place);
        assert_both_beat(machine);
    }
}

/// Planned for four CPUs and 1 GiB, and run on what there is: each partition that can run does, the others are named.
#[test]
fn a_partition_that_does_not_fit_the_board_is_named_and_the_others_run() {
    const CONFIG: &str = r#"
platform = "qemu-virt"
[partition.fits]
cpus   = [0]
memory = "16M"
kernel = "guest:heartbeat"
[partition.missing-cpu]
cpus   = [3]
memory = "16M"
kernel = "guest:heartbeat"
[partition.large]
cpus   = [1]
memory = "768M"
kernel = "guest:heartbeat"
"#;
    let mut booted =
        Machine::with_config("placed-elsewhere", CONFIG).smp(4).memory("2G").planned_so().smp(2).memory("512M").boot();
    booted.expect_all(
        &[
            r"\[septum\] .*partition missing-cpu is not started",
            r"\[septum\] .*partition large is not started",
            r"^\[fits\] +heartbeat 2: .*memory ok",
        ],
        60,
    );
    booted.assert_never_said(r"\[(missing-cpu|large)\]");
}

/// More CPUs and RAM than any configuration asks for.
#[test]
fn on_eight_cpus() {
    for gic in GICS {
        let name = format!("placed-smp8-{gic:?}");
        assert_both_beat(Machine::with_config(&name, CONFIG).gic(gic).smp(8).memory("8G").cpu("max"));
    }
    assert_both_beat(Machine::with_config("placed-smp2", CONFIG).gic(Gic::V2).smp(2).memory("256M"));
}
