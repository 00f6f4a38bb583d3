// SPDX-License-Identifier: MIT OR Apache-2.0
use std::path::Path;

use proptest::prelude::*;
use septum::addr::{Ipa, Pa};
use septum::config::{Console, DeviceTreeAt, FaultPolicy, Memory, OnPanic, WhenAllOff};
use septum::id::CpuId;

use super::*;

const EVERYTHING: &str = r#"
platform = "qemu-virt"

[hypervisor]
uart         = "serial0"
cpu          = 2
log          = "debug"
on-panic     = "halt"
when-all-off = "power-off"

[partition.zebra]
cpus        = [1, 0]
memory      = [{ size = "64M", ipa = "0x4000_0000", pa = "auto" }, "16M"]
kernel      = { file = "control.bin", load = "0x4028_0000", entry = "0x4028_0004" }
initrd      = "initrd"
device-tree = { at = "0x4800_0000" }
cmdline     = "a b"
console     = { ipa = "0x900_0000" }
devices     = ["rtc", { node = "/virtio_mmio@a000000", unsafe-dma = true }]
interrupts  = "virtual"
on-fault    = { action = "restart", attempts = 3, within = "2min" }
autostart   = false

[partition.ant]
cpus   = [2]
memory = "4K"
kernel = "Image"

[qemu]
args = ["-drive", "file={scratch:disk0.img:16M}"]
"#;

#[test]
fn every_key_is_read() {
    let system = read(EVERYTHING).unwrap();
    assert_eq!(system.hypervisor.uart.as_deref(), Some("serial0"));
    assert_eq!(system.hypervisor.cpu, Some(CpuId::new(2)));
    assert_eq!(system.hypervisor.on_panic, OnPanic::Halt);
    assert_eq!(system.hypervisor.when_all_off, WhenAllOff::PowerOff);
    let zebra = &system.partitions[0];
    assert_eq!(zebra.cpus.iter().map(|cpu| cpu.value.get()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(zebra.memory[0].value, Memory { size: 64 << 20, ipa: Some(Ipa::new(0x4000_0000)), pa: None });
    assert_eq!(zebra.memory[1].value, Memory { size: 16 << 20, ipa: None, pa: None });
    assert_eq!(zebra.kernel.value.load.as_ref().unwrap().value, Ipa::new(0x4028_0000));
    assert_eq!(zebra.kernel.value.entry.as_ref().unwrap().value, Ipa::new(0x4028_0004));
    assert_eq!(zebra.device_tree.value, DeviceTreeAt::At(Ipa::new(0x4800_0000)));
    assert_eq!(zebra.console.value, Console::Virtual { ipa: Some(Ipa::new(0x900_0000)) });
    assert_eq!(zebra.devices.iter().map(|device| device.value.unsafe_dma).collect::<Vec<_>>(), [false, true]);
    assert_eq!(zebra.on_fault, FaultPolicy::Restart { attempts: 3, within_ms: 120_000 });
    assert!(!zebra.autostart);
    assert_eq!(system.qemu_args.len(), 2);
}

#[test]
fn partitions_keep_the_order_of_the_file() {
    let names: Vec<String> =
        read(EVERYTHING).unwrap().partitions.into_iter().map(|partition| partition.name.value).collect();
    assert_eq!(names, ["zebra", "ant"]);
}

#[test]
fn left_out_keys_have_their_defaults() {
    let system = read(EVERYTHING).unwrap();
    let ant = &system.partitions[1];
    assert_eq!(ant.device_tree.value, DeviceTreeAt::Auto);
    assert_eq!(ant.console.value, Console::Virtual { ipa: None });
    assert_eq!(ant.on_fault, FaultPolicy::Stop);
    assert!(ant.initrd.is_none() && ant.devices.is_empty() && ant.cmdline.is_empty() && ant.autostart);
}

#[test]
fn explicit_defaults_are_the_defaults() {
    let plain = read("platform = \"x\"\n[partition.a]\ncpus = [0]\nmemory = \"4K\"\nkernel = \"k\"\n").unwrap();
    let stated = read(
        "platform = \"x\"\n[hypervisor]\nlog = \"info\"\non-panic = \"reset\"\nwhen-all-off = \"stay\"\n\
         [partition.a]\ncpus = [0]\nmemory = { size = \"4K\", ipa = \"auto\", pa = \"auto\" }\nkernel = { file = \"k\" }\n\
         device-tree = \"auto\"\ncmdline = \"\"\nconsole = \"virtual\"\ndevices = []\ninterrupts = \"virtual\"\n\
         on-fault = \"stop\"\nautostart = true\n",
    )
    .unwrap();
    assert_eq!(plain.hypervisor, stated.hypervisor);
    let (plain, stated) = (&plain.partitions[0], &stated.partitions[0]);
    assert_eq!(plain.memory[0].value, Memory { size: 4096, ipa: None, pa: None::<Pa> });
    assert_eq!(plain.memory[0].value, stated.memory[0].value);
    assert_eq!(plain.device_tree.value, stated.device_tree.value);
    assert_eq!(plain.console.value, stated.console.value);
    assert_eq!((plain.on_fault, plain.autostart), (stated.on_fault, stated.autostart));
}

#[test]
fn windows_line_ends_are_read() {
    assert!(read(&EVERYTHING.replace('\n', "\r\n")).is_ok());
}

/// Reads a text and shows what is wrong with it, if anything.
fn read_and_show(text: &str) {
    if let Err(errors) = read(text) {
        assert!(!errors.is_empty());
        let report = Report::new(Path::new("a.toml"), text, errors);
        assert!(!report.render(Colour::Never).is_empty());
        assert!(!report.render(Colour::Ansi).is_empty());
    }
}

proptest! {
    #[test]
    fn mutated_configurations_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), ".{0,3}"), 1..4),
    ) {
        let mut text: Vec<char> = EVERYTHING.chars().collect();
        for (start, length, with) in changes {
            let start = start.index(text.len());
            let length = length.index(8).min(text.len() - start);
            text.splice(start..start + length, with.chars());
        }
        read_and_show(&text.into_iter().collect::<String>());
    }

    #[test]
    fn swapped_values_never_panic(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let mut lines: Vec<String> = EVERYTHING.lines().map(str::to_owned).collect();
        let assigned: Vec<usize> = (0..lines.len()).filter(|index| lines[*index].contains(" = ")).collect();
        let value = lines[assigned[from.index(assigned.len())]].split_once('=').map(|(_, value)| value.to_owned());
        let to = assigned[to.index(assigned.len())];
        let key = lines[to].split('=').next().unwrap_or_default().to_owned();
        lines[to] = format!("{key}={}", value.unwrap_or_default());
        read_and_show(&lines.join("\n"));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,64}") {
        read_and_show(&text);
    }
}
