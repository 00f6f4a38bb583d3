// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names what a file is that is no bundle, so that its owner knows which file was passed by mistake.

use core::fmt;

/// What bytes without the bundle's magic look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// There are no bytes.
    Empty,
    /// Only zeroes at the start.
    Zeroes,
    /// A gzip stream: commonly a Linux initrd or a compressed kernel.
    Gzip,
    /// Another compressed stream, with its name.
    Compressed(&'static str),
    /// A cpio archive: commonly a Linux initrd.
    Cpio,
    /// An ELF file.
    Elf,
    /// An arm64 Linux `Image`.
    Arm64Image,
    /// A Windows or EFI executable that is no plain arm64 `Image`.
    Pe,
    /// A flattened device tree, or a FIT image, which is one.
    DeviceTree,
    /// A U-Boot legacy image (`mkimage`).
    UImage,
    /// Nothing that is known; its first four bytes.
    Unknown([u8; 4]),
}

impl Foreign {
    /// Names the file by its magic.
    pub fn of(bytes: &[u8]) -> Self {
        const TABLE: &[(usize, &[u8], Foreign)] = &[
            (0x38, b"ARM\x64", Foreign::Arm64Image),
            (0, b"\x1f\x8b", Foreign::Gzip),
            (0, b"07070", Foreign::Cpio),
            (0, b"\xc7\x71", Foreign::Cpio),
            (0, b"\x7fELF", Foreign::Elf),
            (0, b"\xd0\x0d\xfe\xed", Foreign::DeviceTree),
            (0, b"\x27\x05\x19\x56", Foreign::UImage),
            (0, b"\xfd7zXZ", Foreign::Compressed("xz")),
            (0, b"\x28\xb5\x2f\xfd", Foreign::Compressed("zstd")),
            (0, b"\x04\x22\x4d\x18", Foreign::Compressed("lz4")),
            (0, b"\x02\x21\x4c\x18", Foreign::Compressed("lz4")),
            (0, b"BZh", Foreign::Compressed("bzip2")),
            (0, b"\x5d\x00\x00", Foreign::Compressed("lzma")),
            (0, b"MZ", Foreign::Pe),
            (0, &[0; 16], Foreign::Zeroes),
        ];
        if bytes.is_empty() {
            return Self::Empty;
        }
        for (offset, magic, what) in TABLE {
            if bytes.get(*offset..).is_some_and(|rest| rest.starts_with(magic)) {
                return *what;
            }
        }
        let mut first = [0; 4];
        for (to, from) in first.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self::Unknown(first)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "empty"),
            Self::Zeroes => write!(f, "zeroes"),
            Self::Gzip => write!(f, "a gzip stream"),
            Self::Compressed(name) => write!(f, "a stream compressed by {name}"),
            Self::Cpio => write!(f, "a cpio archive"),
            Self::Elf => write!(f, "an ELF file"),
            Self::Arm64Image => write!(f, "an arm64 Linux Image"),
            Self::Pe => write!(f, "an EFI executable"),
            Self::DeviceTree => write!(f, "a device tree or a FIT image"),
            Self::UImage => write!(f, "a U-Boot legacy image"),
            Self::Unknown([a, b, c, d]) => {
                write!(f, "an unknown file that begins with {a:02x} {b:02x} {c:02x} {d:02x}")
            }
        }
    }
}
