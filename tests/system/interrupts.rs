// SPDX-License-Identifier: MIT OR Apache-2.0
//! The emulated interrupt controller against the real one: one guest, one log.

use std::fmt::Write;

use system_tests::{Booted, Gic, Machine};

/// Scenes that the guest plays at least; it says itself how many it has.
const LEAST_SCENES: usize = 20;
/// Lines of the log without which nothing was compared.
const LEAST_LINES: usize = 40;

/// The guest with two CPUs and the SPIs of all 32 virtio slots, which stay quiet without a driver. Its interrupts arrive as
/// `interrupts` says.
pub fn scenes(interrupts: &str) -> String {
    let slots: Vec<String> = (0..32)
        .map(|slot| format!("  {{ node = \"/virtio_mmio@{:x}\", unsafe-dma = true }},", 0xa00_0000 + slot * 0x200))
        .collect();
    format!(
        r#"
platform = "qemu-virt"
[hypervisor]
cpu = 2
when-all-off = "power-off"
[partition.guest]
cpus       = [0, 1]
memory     = "16M"
kernel     = "guest:vgic"
interrupts = "{interrupts}"
devices = [
{}
]
"#,
        slots.join("\n")
    )
}

/// Runs the guest to its end and returns its log. What it claims is part of that.
fn log(booted: &mut Booted, partition: Option<&str>) -> Vec<String> {
    booted.expect_power_off(120);
    let claims = booted.claims(partition, "vgic");
    println!("{partition:?}: {} scenes, failed: {:?}", claims.count(), claims.failed);
    assert!(claims.count() >= LEAST_SCENES, "only {} scenes were played", claims.count());
    let lines = partition.map_or_else(|| booted.lines(), |partition| booted.lines_of(partition));
    lines.into_iter().filter(|line| line.starts_with("vgic") || line.starts_with("TEST")).collect()
}

/// Shows where two logs differ, line by line.
fn difference(bare: &[String], septum: &[String]) -> Option<String> {
    let mut shown = String::new();
    for index in 0..bare.len().max(septum.len()) {
        let (left, right) = (bare.get(index), septum.get(index));
        if left != right {
            let text = |line: Option<&String>| line.cloned().unwrap_or_else(|| "(nothing)".to_owned());
            writeln!(shown, "line {index}\n  bare:   {}\n  septum: {}", text(left), text(right)).unwrap();
        }
    }
    (!shown.is_empty()).then_some(shown)
}

fn assert_same_log(gic: Gic) {
    let bare = Machine::bare(&format!("vgic-bare-{gic:?}"), "vgic", "").gic(gic).smp(2).memory("256M");
    let mut bare = bare.boot();
    let bare_log = log(&mut bare, None);
    assert_eq!(bare.claims(None, "vgic").failed, [], "on the bare machine");
    let septum =
        Machine::with_config(&format!("vgic-septum-{gic:?}"), &scenes("virtual")).gic(gic).smp(3).memory("512M");
    let mut septum = septum.boot();
    let septum_log = log(&mut septum, Some("guest"));
    assert!(bare_log.len() >= LEAST_LINES, "the log has only {} lines", bare_log.len());
    if let Some(difference) = difference(&bare_log, &septum_log) {
        panic!("the logs differ:\n{difference}");
    }
    println!("{gic:?}: {} lines are the same", bare_log.len());
}

#[test]
fn a_guest_sees_what_a_real_gicv3_does() {
    assert_same_log(Gic::V3);
}

#[test]
fn a_guest_sees_what_a_real_gicv2_does() {
    assert_same_log(Gic::V2);
}

#[test]
fn a_difference_in_the_log_is_seen() {
    let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(difference(&lines(&["a", "b"]), &lines(&["a", "b"])), None);
    assert!(difference(&lines(&["a", "b"]), &lines(&["a", "c"])).is_some());
    assert!(difference(&lines(&["a"]), &lines(&["a", "b"])).is_some());
}
