// SPDX-License-Identifier: MIT OR Apache-2.0
use septum::config::bundle::Writer;

use super::*;

fn lower_plain(bytes: &[u8]) -> Result<Kernel, NoKernel> {
    lower(bytes, "file", Stated::Nothing, &mut Writer::new())
}

fn what(bytes: &[u8]) -> String {
    lower_plain(bytes).unwrap_err().what
}

fn image_file(text_offset: u64, image_size: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; size];
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[0x38..0x3c].copy_from_slice(b"ARM\x64");
    bytes
}

/// A program header: virtual and physical address, bytes in the file, bytes in memory.
type Load = (u64, u64, usize, u64);

fn elf_file(kind: u16, machine: u16, entry: u64, loads: &[Load]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(entry.to_le_bytes());
    bytes.extend(64u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    for half in [64u16, 56, u16::try_from(loads.len()).unwrap(), 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * loads.len() as u64;
    for (virtual_, physical, file_size, memory_size) in loads {
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        for field in [offset, *virtual_, *physical, *file_size as u64, *memory_size, 4096] {
            bytes.extend(field.to_le_bytes());
        }
        offset += *file_size as u64;
    }
    for (index, (_, _, file_size, _)) in loads.iter().enumerate() {
        bytes.extend(vec![u8::try_from(index + 1).unwrap(); *file_size]);
    }
    bytes
}

const EXEC: u16 = 2;
const DYN: u16 = 3;
const AARCH64: u16 = 183;

#[test]
fn image_header_is_read() {
    let kernel = lower_plain(&image_file(0, 0x20_0000, 4096)).unwrap();
    assert!(matches!(kernel, Kernel::Image { text_offset: 0, image_size: 0x20_0000, file } if file.size == 4096));
}

#[test]
fn image_without_size_follows_the_rule_for_old_kernels() {
    let kernel = lower_plain(&image_file(0x1234, 0, 4096)).unwrap();
    assert!(matches!(kernel, Kernel::Image { text_offset: 0x8_0000, image_size: 0x100_1000, .. }));
}

#[test]
fn image_needs_at_least_its_file() {
    let kernel = lower_plain(&image_file(0, 100, 4096)).unwrap();
    assert!(matches!(kernel, Kernel::Image { image_size: 4096, .. }));
}

#[test]
fn elf_is_lowered_by_its_physical_addresses() {
    let loads = [(0xffff_0000, 0x4020_0000, 0x2000, 0x2000), (0xffff_8000, 0x4010_0000, 0, 0x1000)];
    let bytes = elf_file(EXEC, AARCH64, 0xffff_0010, &loads);
    let mut writer = Writer::new();
    let Kernel::Segments { segments, entry } = lower(&bytes, "file", Stated::Nothing, &mut writer).unwrap() else {
        panic!("no segments");
    };
    assert_eq!(entry, Ipa::new(0x4020_0010));
    assert_eq!(segments[0], Segment { ipa: Ipa::new(0x4010_0000), file: None, memory_size: 0x1000 });
    assert_eq!((segments[1].ipa, segments[1].memory_size), (Ipa::new(0x4020_0000), 0x2000));
    assert_eq!(segments[1].file.unwrap().size, 0x2000);
}

#[test]
fn elf_without_physical_addresses_is_lowered_by_its_virtual_ones() {
    let bytes = elf_file(EXEC, AARCH64, 0x4020_0000, &[(0x4020_0000, 0, 16, 32)]);
    let Kernel::Segments { segments, entry } = lower_plain(&bytes).unwrap() else { panic!("no segments") };
    assert_eq!((segments[0].ipa, entry), (Ipa::new(0x4020_0000), Ipa::new(0x4020_0000)));
}

#[test]
fn unusable_elf_files_are_named() {
    let one: &[Load] = &[(0x4020_0000, 0x4020_0000, 16, 16)];
    assert_eq!(what(&elf_file(EXEC, 62, 0, one)), "an ELF file for x86-64");
    assert_eq!(what(&elf_file(EXEC, 243, 0, one)), "an ELF file for RISC-V");
    assert_eq!(what(&elf_file(1, AARCH64, 0, one)), "an object file");
    assert_eq!(what(&elf_file(4, AARCH64, 0, one)), "an ELF file that is no executable");
    assert_eq!(what(&elf_file(EXEC, AARCH64, 0, &[])), "an ELF file without anything to load");
    assert!(what(&elf_file(DYN, AARCH64, 0, &[(0, 0, 16, 16)])).contains("position-independent"));
    assert!(
        what(&elf_file(DYN, AARCH64, 0, &[(0xffff_8000_0000_0000, 0xffff_8000_0000_0000, 16, 16)])).contains("vmlinux")
    );
    assert!(what(&elf_file(EXEC, AARCH64, 0, &[(0, 4096, 16, 15)])).contains("a segment's sizes"));
    assert!(what(&elf_file(EXEC, AARCH64, 0, &[(0, u64::MAX, 1, 1)])).contains("a segment's sizes"));
    let whole = elf_file(EXEC, AARCH64, 0, one);
    assert_eq!(what(&whole[..whole.len() - 1]), "a truncated ELF file");
    assert!(what(&whole[..64]).starts_with("a damaged ELF file"));
    let mut big = whole.clone();
    big[5] = 2;
    assert!(lower_plain(&big).is_err());
}

#[test]
fn elf_of_32_bits_is_named() {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    bytes[18] = 40;
    assert_eq!(what(&bytes), "a 32-bit ELF file for Arm (AArch32)");
}

#[test]
fn no_prefix_of_an_elf_file_panics() {
    let whole = elf_file(EXEC, AARCH64, 0, &[(0x4020_0000, 0x4020_0000, 16, 16)]);
    for size in 0..whole.len() {
        assert!(lower_plain(&whole[..size]).is_err());
    }
}

#[test]
fn other_files_are_named_with_a_way_out() {
    let mut zboot = vec![0; 0x40];
    zboot[..8].copy_from_slice(b"MZ\0\0zimg");
    zboot[8..12].copy_from_slice(&4096u32.to_le_bytes());
    zboot[12..16].copy_from_slice(&777u32.to_le_bytes());
    zboot[0x18..0x1c].copy_from_slice(b"gzip");
    let error = lower_plain(&zboot).unwrap_err();
    assert_eq!(error.what, "an EFI zboot kernel, compressed by gzip");
    assert_eq!(error.help, "unpack it: `tail -c +4097 file | head -c 777 | gzip -dc > Image`");

    let mut pe = vec![0; 0x100];
    pe[..2].copy_from_slice(b"MZ");
    pe[0x3c] = 0x80;
    pe[0x80..0x86].copy_from_slice(b"PE\0\0\x64\x86");
    assert_eq!(what(&pe), "an EFI executable for x86-64");
    assert_eq!(what(b"MZ"), "an EFI executable that is no arm64 Image");
    assert_eq!(what(b""), "empty");
    assert_eq!(what(b"\x1f\x8b\x08"), "a gzip stream");
    assert_eq!(what(b"\x28\xb5\x2f\xfd"), "compressed by zstd");
    assert_eq!(what(b"070701"), "a cpio archive");
    assert_eq!(what(b"\xd0\x0d\xfe\xed"), "a device tree or a FIT image");
    assert_eq!(what(b"hello"), "neither an arm64 Image nor an ELF file");
}

#[test]
fn raw_binary_goes_where_its_author_says() {
    let stated = Stated::Raw { load: Ipa::new(0x4028_0000), entry: Ipa::new(0x4028_0004) };
    let kernel = lower(b"\x00\x01\x02\x03", "file", stated, &mut Writer::new()).unwrap();
    let Kernel::Segments { segments, entry } = kernel else { panic!("no segments") };
    assert_eq!((segments[0].ipa, segments[0].memory_size), (Ipa::new(0x4028_0000), 4));
    assert_eq!(entry, Ipa::new(0x4028_0004));
}

#[test]
fn stated_addresses_are_refused_where_the_file_has_its_own() {
    let stated = Stated::Raw { load: Ipa::new(0), entry: Ipa::new(0) };
    for bytes in [image_file(0, 0, 64), elf_file(EXEC, AARCH64, 0, &[(4096, 4096, 16, 16)])] {
        let error = lower(&bytes, "file", stated, &mut Writer::new()).unwrap_err();
        assert!(error.help.starts_with("remove `load` and `entry`"));
    }
}
