// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices of the board in a partition: they work there, are nowhere else, and stop before their partition's memory is
//! used again.

use std::time::{SystemTime, UNIX_EPOCH};

use system_tests::{Gic, Machine};

use crate::boots::{LINUX_BOOT, ask, expect_linux};

fn assert_devices_work(gic: Gic) {
    let mut booted = Machine::with_shipped(&format!("passthrough-{gic:?}"), "passthrough").gic(gic).boot();
    let up = |partition: &str, cpus: u32| format!(r"^\[{partition}\] +septum demo: Linux is up on {cpus} CPUs");
    booted.expect_all(&[&up("storage", 2), &up("network", 1)], LINUX_BOOT);

    let rtc = ask(&mut booted, 0, "storage", "cat /sys/class/rtc/rtc0/since_epoch");
    let rtc: u64 = rtc.parse().unwrap_or_else(|_| panic!("the clock says `{rtc}`"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(rtc) < 600, "the clock says {rtc}, it is {now}");

    assert_eq!(ask(&mut booted, 0, "storage", "cat /sys/block/vda/size"), "32768");
    booted.type_at(0, "disk-io &");
    booted.expect(r"^\[storage\] +disk-io 3 ok", 60);

    booted.type_at(1, "ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ping -c 2 10.0.2.2");
    booted.expect(r"^\[network\] +2 packets transmitted, 2 packets received", 60);

    // What one has, the other has not.
    assert_eq!(ask(&mut booted, 1, "network", "ls -d /sys/block/vd* /sys/class/rtc/rtc* 2>/dev/null | wc -l"), "0");
    assert_eq!(ask(&mut booted, 0, "storage", "ls /sys/class/net | grep -v lo | wc -l"), "0");
    booted.assert_never_said("CHANGED");
}

#[test]
fn clock_disk_and_network_work_on_gicv3() {
    assert_devices_work(Gic::V3);
}

#[test]
fn clock_disk_and_network_work_on_gicv2() {
    assert_devices_work(Gic::V2);
}

/// The disk writes and reads while its partition is pulled away and started again, many times its own size in all.
#[test]
fn a_disk_in_full_swing_stops_before_a_restart() {
    let mut booted = Machine::with_shipped("passthrough-restart", "passthrough").gic(Gic::V3).boot();
    expect_linux(&mut booted, "storage", 2);
    for _ in 0..2 {
        booted.type_at(0, "disk-io &");
        booted.expect(r"^\[storage\] +disk-io 2 ok", 60);
        booted.shell("restart storage");
        expect_linux(&mut booted, "storage", 2);
    }
    booted.type_at(0, "disk-io &");
    booted.expect(r"^\[storage\] +disk-io 2 ok", 60);
    booted.assert_never_said("CHANGED|Kernel panic|Oops");
}

/// QEMU's fw-cfg is a bus master that nobody knows how to stop.
#[test]
fn a_master_that_cannot_be_stopped_makes_a_restart_be_refused() {
    const CONFIG: &str = r#"
platform = "qemu-virt"
[partition.beside]
cpus    = [1]
memory  = "16M"
kernel  = "guest:heartbeat"
cmdline = "period-ms=200"
[partition.guest]
cpus     = [0]
memory   = "16M"
kernel   = "guest:heartbeat"
cmdline  = "period-ms=200"
devices  = [{ node = "/fw-cfg@9020000", unsafe-dma = true }]
"#;
    let mut booted = Machine::with_config("unstoppable-master", CONFIG).smp(2).memory("512M").boot();
    booted.expect(r"^\[guest\] +heartbeat 1: ", 60);
    booted.shell("restart guest");
    booted.expect(r"^\[septum\] .*/fw-cfg@9020000 is a bus master that cannot be stopped", 20);
    booted.expect(r"^\[beside\] +heartbeat [0-9]+: .*memory ok", 20);
    // Whether or not the refusal has stopped it, it never starts a second time.
    booted.shell("stop guest");
    booted.shell("start guest");
    booted.expect(r"^\[septum\] .*/fw-cfg@9020000 is a bus master that cannot be stopped", 20);
    booted.expect(r"^\[beside\] +heartbeat [0-9]+: .*memory ok", 20);
    assert_eq!(booted.lines_of("guest").iter().filter(|line| line.starts_with("heartbeat:")).count(), 1);
}
