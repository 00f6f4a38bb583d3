// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small files that look like kernels, good ones and bad ones. None of them is ever run.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Writes the files, once per run of the tests, and returns their folder.
pub fn write() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kernels");
            fs::create_dir_all(&folder).expect("a folder");
            for (name, bytes) in files() {
                fs::write(folder.join(name), bytes).expect("a file");
            }
            folder
        })
        .clone()
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let elf = |class, kind, machine, address| elf(class, kind, machine, address);
    vec![
        ("Image", image(4096, 2 << 20)),
        // As large as Debian's kernel, in the file and in memory.
        ("debian-Image", image(33 << 20, 36 << 20)),
        ("large-Image", image(4096, 65 << 20)),
        ("Image.gz", b"\x1f\x8b\x08\0\0\0\0\0".to_vec()),
        ("vmlinuz.efi", zboot()),
        ("bzImage.efi", efi(0x8664)),
        ("x86.elf", elf(2, 2, 62, 0x10_0000)),
        ("arm32.elf", elf(1, 2, 40, 0x4000_8000)),
        ("pie.elf", elf(2, 3, 183, 0)),
        ("vmlinux", elf(2, 3, 183, 0xffff_8000_0800_0000)),
        ("initrd.cpio", b"07070100000000".repeat(300_000)),
        ("large-initrd", vec![0x5a; 3 << 20]),
        ("empty", Vec::new()),
        ("control.bin", vec![0xd5; 4096]),
    ]
}

/// Makes an arm64 `Image` of `size` bytes that says it needs `image_size`.
fn image(size: usize, image_size: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[0x38..0x3c].copy_from_slice(b"ARM\x64");
    bytes
}

/// Makes an EFI zboot kernel's header.
fn zboot() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(b"MZ\0\0zimg");
    bytes[8..12].copy_from_slice(&0x400_u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&0xc00_u32.to_le_bytes());
    bytes[0x18..0x1c].copy_from_slice(b"gzip");
    bytes
}

/// Makes the headers of an EFI executable.
fn efi(machine: u16) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    bytes
}

/// Makes an ELF file with one segment of 16 bytes; of a 32-bit one only what names it.
fn elf(class: u8, kind: u16, machine: u16, address: u64) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
    bytes.resize(16, 0);
    let mut put = |value: u64, size: usize| bytes.extend_from_slice(&value.to_le_bytes()[..size]);
    for (value, size) in [(kind.into(), 2), (machine.into(), 2), (1, 4), (address, 8), (64, 8), (0, 8), (0, 4)] {
        put(value, size);
    }
    for half in [64, 56, 1, 64, 0, 0] {
        put(half, 2);
    }
    // The program header: load, read and execute.
    for (value, size) in [(1, 4), (5, 4), (120, 8), (address, 8), (address, 8), (16, 8), (16, 8), (4096, 8)] {
        put(value, size);
    }
    bytes.resize(136, 0xd5);
    bytes
}
