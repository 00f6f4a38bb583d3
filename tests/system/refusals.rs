// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Septum says when it cannot boot: one sentence with the reason, on the console that can be found, and then nothing
//! is started.

use septum_tool::paths;
use system_tests::trampoline::{self, Handover};
use system_tests::{Machine, images};

/// A configuration that boots, so that what is refused is what the test spoils.
const CONFIG: &str = r#"
platform = "qemu-virt"
[partition.guest]
cpus   = [0]
memory = "16M"
kernel = "guest:heartbeat"
"#;
/// Where a trampoline finds the firmware.
const ELSEWHERE: u64 = 0x4080_0000;
/// Where QEMU's `virt` has its RAM and, without a kernel, its device tree.
const RAM: u64 = 0x4000_0000;

fn machine(name: &str) -> Machine {
    Machine::with_config(name, CONFIG).smp(1).memory("512M")
}

/// Asserts that the machine says so on its console, stops, and starts no guest.
fn assert_refused(machine: Machine, sentence: &str) {
    let mut booted = machine.boot();
    booted.expect(sentence, 30);
    booted.expect("Septum stops here", 10);
    booted.assert_never_said("heartbeat:");
}

fn handed_over(name: &str, handover: Handover) -> Machine {
    machine(name).trampoline(trampoline::make(ELSEWHERE, handover), ELSEWHERE)
}

#[test]
fn without_a_device_tree() {
    assert_refused(handed_over("refused-no-tree", Handover::Replace(0)), r"no device tree \(x0 is 0\)");
}

#[test]
fn with_atags() {
    // ATAG_CORE, of five words.
    const PLACE: u64 = RAM + 0x40_0000;
    let tags = format!("loader,addr={PLACE:#x},data=0x5441000100000005,data-len=8,data-be=off");
    let machine = handed_over("refused-atags", Handover::Replace(PLACE)).qemu(["-device", &tags]);
    assert_refused(machine, "device tree at 0x40400000: ");
}

#[test]
fn with_a_damaged_device_tree() {
    // The total size, the offset of the structure block, the token that begins it.
    for (offset, word) in [(4, 0), (4, 0x30), (8, 0xffff_fff0), (0x38, 0xdead_beef)] {
        let name = format!("refused-damaged-tree-{offset:x}-{word:x}");
        assert_refused(
            handed_over(&name, Handover::Damage { offset, word }),
            r"error: the device tree at 0x[0-9a-f]+: ",
        );
    }
}

#[test]
fn at_el1() {
    let machine = machine("refused-el1").qemu(["-M", "virtualization=off"]);
    machine.boot().expect("entered at EL1 and runs at EL2 only.*virtualization=on", 30);
}

#[test]
fn at_el3() {
    let program = trampoline::make(ELSEWHERE, Handover::Replace(RAM));
    let machine = machine("refused-el3").reset_into(program, ELSEWHERE).qemu(["-M", "secure=on"]);
    machine.boot().expect("entered at EL3 and runs at EL2 only", 30);
}

#[test]
fn without_a_bundle() {
    assert_refused(Machine::with_initrd("refused-no-bundle", None).smp(1), "no bundle: .*initrd");
}

#[test]
fn with_a_foreign_initrd() {
    let foreign: [(&str, &[u8], &str); 4] = [
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        ("cpio", b"070701000000", "cpio"),
        ("zeroes", &[0; 64], "zeroes"),
        ("text", b"hello, world, this is no bundle", "68 65 6c 6c"),
    ];
    for (name, bytes, named) in foreign {
        let sentence = format!("the initrd is .*{named}.*, not a Septum bundle.*`septum build`");
        assert_refused(with_bytes(&format!("refused-foreign-{name}"), bytes), &sentence);
    }
}

#[test]
fn with_a_damaged_bundle() {
    let whole = machine("refused-bundle").bundle_bytes();
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let newer = {
        let mut bytes = whole.clone();
        bytes[8] += 1;
        bytes
    };
    // The header says at its byte 24 where the manifest is.
    let manifest = u64::from_le_bytes(whole[24..32].try_into().unwrap()) as usize;
    let spoilt = [
        (
            "half",
            whole[..whole.len() / 2].to_vec(),
            "the bundle is truncated: [0-9]+ bytes are there, [0-9]+ are needed",
        ),
        ("one-byte-less", whole[..whole.len() - 1].to_vec(), "the bundle is truncated|trailer is missing"),
        ("version", newer, "the bundle has format version 3"),
        ("header", changed(17), "the bundle's header is damaged"),
        ("manifest", changed(manifest + 2), "the bundle's manifest is damaged"),
        ("trailer", changed(whole.len() - 3), "the bundle's trailer is missing"),
    ];
    for (name, bytes, sentence) in spoilt {
        assert_refused(with_bytes(&format!("refused-bundle-{name}"), &bytes), sentence);
    }
    // What the loader puts behind a bundle is nobody's business.
    let padded = [&whole[..], &[0xff; 4096]].concat();
    with_bytes("accepted-padded-bundle", &padded).boot().expect("heartbeat 1: ", 60);
}

fn with_bytes(name: &str, bytes: &[u8]) -> Machine {
    let path = paths::output().unwrap().join("tests").join(name);
    paths::write_whole(&path, bytes).unwrap();
    Machine::with_initrd(name, Some(&path)).smp(1).memory("512M")
}

#[test]
fn at_an_address_that_is_not_aligned() {
    const PLACE: u64 = ELSEWHERE + 0x1000;
    let machine = machine("refused-unaligned");
    assert_refused(machine.trampoline(trampoline::make(PLACE, Handover::Keep), PLACE), "not 2 MiB-aligned");
    // The claim is about the place alone: the same way to another one boots.
    let machine = self::machine("accepted-aligned");
    let mut booted = machine.trampoline(trampoline::make(ELSEWHERE, Handover::Keep), ELSEWHERE).boot();
    booted.expect("heartbeat 1: ", 60);
    assert!(images::firmware().is_file());
}
