// SPDX-License-Identifier: MIT OR Apache-2.0
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

use super::*;
use crate::addr::Ipa;
use crate::config::{
    BootOrder, Console, Delivery, DeviceTreeAt, FaultPolicy, Hypervisor, Kernel, LogLevel, Memory, OnPanic, Partition,
    Restart, Segment, WhenAllOff, is_valid_name,
};
use crate::id::{CpuId, MAX_PARTITIONS, MAX_VCPUS, PartitionId};

fn partition(name: &str, file: FileRange) -> Partition {
    Partition {
        name: name.into(),
        cpus: vec![CpuId::new(0)],
        memory: vec![Memory { size: 0x20_0000, ipa: None, pa: None }],
        kernel: Kernel::Image { file, text_offset: 0, image_size: file.size },
        initrd: Some(file),
        device_tree: DeviceTreeAt::Auto,
        cmdline: "quiet".into(),
        console: Console::Virtual { ipa: None },
        devices: Vec::new(),
        on_fault: FaultPolicy::Stop,
        delivery: Delivery::Virtual,
        autostart: true,
        boot: BootOrder::Any,
        restart: Restart::Allowed,
    }
}

fn manifest(partitions: Vec<Partition>) -> Manifest {
    Manifest {
        platform: "test".into(),
        hypervisor: Hypervisor {
            uart: None,
            cpu: None,
            log: LogLevel::Info,
            on_panic: OnPanic::Reset,
            when_all_off: WhenAllOff::Stay,
        },
        partitions,
    }
}

fn sample() -> Vec<u8> {
    let mut writer = Writer::new();
    let file = writer.add(&[0xa5; 5000]);
    writer.finish(&manifest(vec![partition("one", file), partition("two", file)])).unwrap()
}

/// Writes a bundle with one file of 8 KiB whose manifest `change` has spoilt, and returns why it is refused.
fn refused(change: impl FnOnce(&mut Manifest)) -> ManifestError {
    let mut writer = Writer::new();
    let file = writer.add(&[0xa5; 8192]);
    let mut manifest = manifest(vec![partition("one", file), partition("two", file)]);
    change(&mut manifest);
    match writer.finish(&manifest) {
        Err(BundleError::Manifest(error)) => error,
        other => panic!("{other:?}"),
    }
}

const ONE: PartitionId = PartitionId::new(0);
const TWO: PartitionId = PartitionId::new(1);

#[test]
fn what_was_written_is_read() {
    let mut writer = Writer::new();
    let kernel = writer.add(b"kernel");
    let initrd = writer.add(b"initrd");
    assert_eq!(writer.add(b"kernel"), kernel);
    let mut one = partition("one", kernel);
    one.initrd = Some(initrd);
    let written = manifest(vec![one]);
    let bytes = writer.finish(&written).unwrap();

    let bundle = parse(&bytes).unwrap();

    assert_eq!(bundle.manifest, written);
    assert_eq!(bundle.file(kernel), Some(&b"kernel"[..]));
    assert_eq!(bundle.file(initrd), Some(&b"initrd"[..]));
    assert_eq!(bundle.size(), bytes.len() as u64);
    assert!(kernel.offset.is_multiple_of(4096) && initrd.offset.is_multiple_of(4096));
}

#[test]
fn padding_behind_the_bundle_is_ignored() {
    let mut bytes = sample();
    let size = bytes.len() as u64;
    bytes.extend([0xff; 4096]);
    assert_eq!(parse(&bytes).unwrap().size(), size);
}

#[test]
fn every_truncation_is_named_with_both_sizes() {
    let bytes = sample();
    for has in 1..bytes.len() {
        let needs = if has < HEADER_SIZE as usize { HEADER_SIZE.into() } else { bytes.len() as u64 };
        let error = parse(&bytes[..has]).unwrap_err();
        assert_eq!(error, BundleError::Truncated { has: has as u64, needs });
    }
}

#[test]
fn other_version_is_named_with_both_versions() {
    let mut bytes = sample();
    bytes[8] = 7;
    let error = parse(&bytes).unwrap_err();
    assert_eq!(error, BundleError::Version { found: 7 });
    assert!(error.to_string().contains("format version 7, this firmware reads version 2"));
}

#[test]
fn missing_trailer_is_named() {
    let mut bytes = sample();
    let offset = bytes.len() - 16;
    for byte in offset..bytes.len() {
        bytes[byte] ^= 1;
        assert_eq!(parse(&bytes).unwrap_err(), BundleError::TrailerMissing { offset: offset as u64 });
        bytes[byte] ^= 1;
    }
}

#[test]
fn damaged_header_is_named() {
    for byte in 12..HEADER_SIZE as usize {
        let mut bytes = sample();
        bytes[byte] ^= 0x10;
        assert_eq!(parse(&bytes).unwrap_err(), BundleError::HeaderDamaged, "byte {byte}");
    }
}

#[test]
fn damaged_manifest_is_named_with_its_checksums() {
    let mut bytes = sample();
    let header = Header::read(&bytes).unwrap();
    bytes[header.manifest_offset as usize] ^= 1;
    assert!(
        matches!(parse(&bytes), Err(BundleError::ManifestChecksum { stated, .. }) if stated == header.manifest_crc)
    );
}

/// Replaces the manifest's bytes and mends every checksum, as a hostile author would.
fn forge(encoded: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.add(&[0xa5; 8192]);
    writer.pad(16);
    let manifest_offset = writer.bytes.len() as u64;
    writer.bytes.extend(encoded);
    let mut bytes = writer.bytes;
    let header = Header {
        total: bytes.len() as u64 + TRAILER_SIZE,
        manifest_offset,
        manifest_size: encoded.len() as u64,
        manifest_crc: CRC.checksum(encoded),
    };
    bytes.extend(encode_trailer(header.total));
    bytes[..HEADER_SIZE as usize].copy_from_slice(&header.encode());
    bytes
}

#[test]
fn manifest_that_does_not_decode_is_named() {
    assert_eq!(parse(&forge(&[])).unwrap_err(), BundleError::ManifestDecode);
    assert_eq!(parse(&forge(&[0xff; 64])).unwrap_err(), BundleError::ManifestDecode);
}

#[test]
fn manifest_with_bytes_behind_it_is_refused() {
    let file = FileRange { offset: 4096, size: 8192 };
    let mut encoded = postcard::to_allocvec(&manifest(vec![partition("one", file)])).unwrap();
    assert!(parse(&forge(&encoded)).is_ok());
    encoded.push(0);
    assert_eq!(parse(&forge(&encoded)).unwrap_err(), BundleError::ManifestDecode);
}

#[test]
fn manifest_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    let file = FileRange { offset: 4096, size: 8192 };
    let mut manifest = manifest(vec![partition("one", file)]);
    let spare = MAX_MANIFEST_SIZE as usize - postcard::to_allocvec(&manifest).unwrap().len();
    // The length of the command line takes two bytes more than that of "quiet".
    manifest.partitions[0].cmdline = "x".repeat(5 + spare - 2);
    let encoded = postcard::to_allocvec(&manifest).unwrap();
    assert_eq!(encoded.len() as u64, MAX_MANIFEST_SIZE);
    assert!(parse(&forge(&encoded)).is_ok());
    manifest.partitions[0].cmdline.push('x');
    let encoded = postcard::to_allocvec(&manifest).unwrap();
    assert_eq!(parse(&forge(&encoded)).unwrap_err(), BundleError::HeaderDamaged);
}

#[test]
fn foreign_files_are_named() {
    let mut image = [0; 64];
    image[..2].copy_from_slice(b"MZ");
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    let table: &[(&[u8], &str)] = &[
        (b"", "is empty"),
        (&[0; 64], "is zeroes"),
        (b"\x1f\x8b\x08\x00", "is a gzip stream"),
        (b"070701", "is a cpio archive"),
        (b"\x7fELF\x02", "is an ELF file"),
        (&image, "is an arm64 Linux Image"),
        (b"MZ\x90\x00", "is an EFI executable"),
        (b"\xd0\x0d\xfe\xed", "is a device tree or a FIT image"),
        (b"\x27\x05\x19\x56", "is a U-Boot legacy image"),
        (b"\x28\xb5\x2f\xfd", "is a stream compressed by zstd"),
        (b"ab", "begins with 61 62 00 00"),
    ];
    for (bytes, message) in table {
        let error = parse(bytes).unwrap_err();
        assert!(matches!(error, BundleError::Foreign(_)), "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn partitions_are_counted() {
    assert_eq!(refused(|m| m.partitions.clear()), ManifestError::PartitionCount { count: 0 });
    let fill = |m: &mut Manifest, count: usize| {
        let one = m.partitions[0].clone();
        m.partitions = (0..count).map(|i| Partition { name: alloc::format!("p{i}"), ..one.clone() }).collect();
    };
    let error = refused(|m| fill(m, MAX_PARTITIONS + 1));
    assert_eq!(error, ManifestError::PartitionCount { count: MAX_PARTITIONS + 1 });
    // The largest legal count passes on to the next check.
    let error = refused(|m| {
        fill(m, MAX_PARTITIONS);
        m.partitions[MAX_PARTITIONS - 1].cpus.clear();
    });
    assert_eq!(error, ManifestError::CpuCount { partition: PartitionId::new(63), count: 0 });
}

#[test]
fn names_are_checked() {
    let with = |name: String| refused(|m| m.partitions[1].name = name);
    for name in ["", "Linux", "a b", "\u{1b}[2J", "a/b", &"x".repeat(32)] {
        assert_eq!(with(name.into()), ManifestError::Name { partition: TWO }, "{name:?}");
    }
    assert_eq!(with("one".into()), ManifestError::NameTwice { first: ONE, second: TWO });
    assert!(is_valid_name(&"x".repeat(31)) && is_valid_name("a-_9"));
}

#[test]
fn counts_and_sizes_of_a_partition_are_checked() {
    let with = |change: fn(&mut Partition)| refused(|m| change(&mut m.partitions[0]));
    assert_eq!(with(|p| p.cpus.clear()), ManifestError::CpuCount { partition: ONE, count: 0 });
    assert_eq!(
        with(|p| p.cpus = vec![CpuId::new(0); MAX_VCPUS + 1]),
        ManifestError::CpuCount { partition: ONE, count: MAX_VCPUS + 1 }
    );
    assert_eq!(with(|p| p.memory.clear()), ManifestError::Empty { partition: ONE });
    assert_eq!(with(|p| p.memory[0].size = 0), ManifestError::MemorySize { partition: ONE, size: 0 });
    assert_eq!(with(|p| p.memory[0].size = 4095), ManifestError::MemorySize { partition: ONE, size: 4095 });
    assert_eq!(
        with(|p| p.on_fault = FaultPolicy::Restart { attempts: 0, within_ms: 1 }),
        ManifestError::NoAttempts { partition: ONE }
    );
    assert_eq!(
        with(|p| p.kernel = Kernel::Segments { segments: Vec::new(), entry: Ipa::new(0) }),
        ManifestError::Empty { partition: ONE }
    );
}

#[test]
fn kernels_fit_the_memory_they_state() {
    let kernel = |file: Option<FileRange>, memory_size| Kernel::Segments {
        segments: vec![Segment { ipa: Ipa::new(0), file, memory_size }],
        entry: Ipa::new(0),
    };
    let file = FileRange { offset: 4096, size: 8192 };
    for bad in [kernel(Some(file), 8191), kernel(None, 0), Kernel::Image { file, text_offset: 0, image_size: 8191 }] {
        let error = refused(|m| m.partitions[0].kernel = bad);
        assert_eq!(error, ManifestError::ImageSize { partition: ONE });
    }
}

#[test]
fn files_lie_in_the_bundle() {
    for (offset, size) in [
        (0, 4096),            // the header
        (4096, 0),            // empty
        (4097, 1),            // not aligned
        (4096, 8193),         // into the manifest
        (8192, 4097),         // into the manifest
        (12288, 1),           // the manifest
        (4096, u64::MAX),     // wraps
        (u64::MAX - 4095, 1), // far away
    ] {
        let file = FileRange { offset, size };
        assert_eq!(refused(|m| m.partitions[1].initrd = Some(file)), ManifestError::File { partition: TWO, file });
    }
}

proptest! {
    #[test]
    fn mutated_bundles_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = sample();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let _ = parse(&bytes);
    }

    #[test]
    fn forged_manifests_never_panic_and_files_they_name_exist(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let file = FileRange { offset: 4096, size: 8192 };
        let mut encoded =
            postcard::to_allocvec(&manifest(vec![partition("one", file), partition("two", file)])).unwrap();
        for (index, value) in &changes {
            let index = index.index(encoded.len());
            encoded[index] = *value;
        }
        if changes.len() > 4 {
            encoded.truncate(cut.index(encoded.len()));
        }
        let bytes = forge(&encoded);
        if let Ok(bundle) = parse(&bytes) {
            for partition in &bundle.manifest.partitions {
                if let Some(file) = partition.initrd {
                    prop_assert!(bundle.file(file).is_some());
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() > 12 {
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        }
        let _ = parse(&bytes);
    }
}

#[test]
fn file_of_its_own_shares_no_page_and_begins_at_a_block() {
    let mut writer = Writer::new();
    let shared = writer.add(&[1; 100]);
    writer.set_sharing(Sharing::Own);
    let own = [writer.add(&[1; 100]), writer.add(&[1; 100])];
    writer.set_sharing(Sharing::Equal);
    let behind = writer.add(&[2; 100]);
    assert_eq!(writer.add(&[1; 100]), shared);
    assert_eq!(own.map(|range| range.offset), [0x20_0000, 0x40_0000]);
    assert_eq!(behind.offset, 0x40_1000);
    let bytes = writer.finish(&manifest(vec![partition("once", own[0])])).unwrap();
    let parsed = parse(&bytes).unwrap();
    assert!(parsed.files_end() >= behind.offset + 100);
    // The rest of the last page is the guest's to see.
    assert!(bytes[0x20_0000 + 100..0x20_1000].iter().all(|byte| *byte == 0));
}

#[test]
fn manifest_does_not_begin_in_a_page_of_its_own_kind_of_file() {
    let mut writer = Writer::new();
    writer.set_sharing(Sharing::Own);
    let own = writer.add(&[1; 100]);
    let bytes = writer.finish(&manifest(vec![partition("once", own)])).unwrap();
    assert!(parse(&bytes).unwrap().files_end() >= own.offset + 4096);
}
