// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recognises what a kernel's file is and lowers it to what the planner places: an arm64 `Image`, or segments. What is no
//! kernel is named, with the way to get one.

use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, ET_DYN, ET_EXEC, ET_REL, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};
use septum::addr::Ipa;
use septum::config::bundle::{Foreign, Writer};
use septum::config::{Kernel, Segment};

/// What an old kernel (image_size 0, before Linux 3.17) has for `text_offset`, and what it is given behind its file for
/// its uninitialised data, which its header does not count (Documentation/arch/arm64/booting).
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
const OLD_EXTRA: u64 = 16 << 20;

/// Why a file is no kernel, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoKernel {
    /// What it is, behind "is".
    pub what: String,
    /// The way out.
    pub help: String,
}

impl NoKernel {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// Where the author says that a raw binary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stated {
    /// Nowhere: the file says so itself.
    Nothing,
    /// At `load`, beginning at `entry`.
    Raw {
        /// Where its first byte goes.
        load: Ipa,
        /// Its first instruction.
        entry: Ipa,
    },
}

/// Lowers a kernel's file and adds its pieces to the bundle. `name` is used in commands that the help shows.
///
/// # Errors
/// It is no kernel for AArch64, or not one that says where it goes.
pub fn lower(bytes: &[u8], name: &str, stated: Stated, writer: &mut Writer) -> Result<Kernel, NoKernel> {
    const NOT_STATED: &str =
        "remove `load` and `entry`: they are for raw binaries, this file says itself where it goes";
    let foreign = Foreign::of(bytes);
    match (foreign, stated) {
        (Foreign::Arm64Image, Stated::Nothing) => Ok(image(bytes, writer)),
        (Foreign::Elf, Stated::Nothing) => elf(bytes, writer),
        (Foreign::Arm64Image, Stated::Raw { .. }) => Err(NoKernel::new("an arm64 Linux Image", NOT_STATED)),
        (Foreign::Elf, Stated::Raw { .. }) => Err(NoKernel::new("an ELF file", NOT_STATED)),
        (Foreign::Empty, _) => Err(NoKernel::new("empty", "build or copy it again")),
        (Foreign::Gzip, _) => Err(NoKernel::new("a gzip stream", format!("unpack it: `gunzip -c {name} > Image`"))),
        (Foreign::Compressed(format), _) => {
            Err(NoKernel::new(format!("compressed by {format}"), format!("unpack it: `{format} -dc {name} > Image`")))
        }
        (Foreign::Pe, _) => Err(executable(bytes, name)),
        (Foreign::DeviceTree, _) => Err(NoKernel::new(
            "a device tree or a FIT image",
            format!("take the kernel out of a FIT image: `dumpimage -T flat_dt -p 0 -o Image {name}`"),
        )),
        (Foreign::UImage, _) => Err(NoKernel::new(
            "a U-Boot legacy image",
            format!("remove its header of 64 bytes: `tail -c +65 {name} > Image`"),
        )),
        (Foreign::Cpio, _) => Err(NoKernel::new("a cpio archive", "that is an initrd: name it as `initrd`")),
        (Foreign::Zeroes | Foreign::Unknown(_), Stated::Raw { load, entry }) => {
            let file = writer.add(bytes);
            let segments = vec![Segment { ipa: load, file: Some(file), memory_size: file.size }];
            Ok(Kernel::Segments { segments, entry })
        }
        (Foreign::Zeroes | Foreign::Unknown(_), Stated::Nothing) => Err(NoKernel::new(
            "neither an arm64 Image nor an ELF file",
            format!(
                "if it is a raw binary, say where it goes: \
                 {{ file = \"{name}\", load = \"0x4028_0000\", entry = \"0x4028_0000\" }}"
            ),
        )),
    }
}

/// Reads the header of an arm64 `Image` (Documentation/arch/arm64/booting).
fn image(bytes: &[u8], writer: &mut Writer) -> Kernel {
    let field = |offset: usize| {
        bytes.get(offset..offset + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let (text_offset, image_size) = match (field(8), field(16)) {
        (_, 0) => (OLD_TEXT_OFFSET, (bytes.len() as u64).saturating_add(OLD_EXTRA)),
        stated => stated,
    };
    let file = writer.add(bytes);
    Kernel::Image { file, text_offset, image_size: image_size.max(file.size) }
}

/// Names an executable for EFI that is no arm64 `Image`.
fn executable(bytes: &[u8], name: &str) -> NoKernel {
    let word =
        |offset: usize| bytes.get(offset..offset + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    if bytes.get(4..8) == Some(b"zimg") {
        // drivers/firmware/efi/libstub/zboot-header.S: payload offset, size and the name of its compression.
        let (offset, size) = (word(8).unwrap_or(0), word(12).unwrap_or(0));
        let method = bytes.get(0x18..0x38).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).replace("xzkern", "xz").replace("zstd22", "zstd");
        let first = u64::from(offset) + 1;
        return NoKernel::new(
            format!("an EFI zboot kernel, compressed by {method}"),
            format!("unpack it: `tail -c +{first} {name} | head -c {size} | {method} -dc > Image`"),
        );
    }
    let machine =
        word(0x3c).and_then(|header| word(usize::try_from(header).ok()?.checked_add(4)?)).map(|word| word & 0xffff);
    let what = match machine {
        Some(0x8664) => "an EFI executable for x86-64",
        Some(0x14c) => "an EFI executable for x86",
        Some(0x1c0 | 0x1c2 | 0x1c4) => "an EFI executable for 32-bit Arm",
        _ => "an EFI executable that is no arm64 Image",
    };
    NoKernel::new(what, "take the kernel's file arch/arm64/boot/Image")
}

/// Lowers an ELF file by its program headers.
fn elf(bytes: &[u8], writer: &mut Writer) -> Result<Kernel, NoKernel> {
    const LINK: &str = "link it for the addresses at which it is to run";
    match FileKind::parse(bytes) {
        Ok(FileKind::Elf64) => {}
        Ok(FileKind::Elf32) => {
            let machine = bytes.get(18).copied().map_or(0, u16::from);
            let what = if machine == EM_ARM.0 { "a 32-bit ELF file for Arm (AArch32)" } else { "a 32-bit ELF file" };
            return Err(NoKernel::new(what, "build it for AArch64: partitions run 64-bit code"));
        }
        _ => {
            return Err(NoKernel::new("a damaged ELF file", "build or copy it again"));
        }
    }
    let damaged =
        |error: object::Error| NoKernel::new(format!("a damaged ELF file ({error})"), "build or copy it again");
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let machine = header.e_machine(endian);
    if machine != EM_AARCH64 {
        let name = match machine {
            EM_X86_64 => "x86-64",
            EM_386 => "x86",
            EM_RISCV => "RISC-V",
            _ => "another machine",
        };
        return Err(NoKernel::new(
            format!("an ELF file for {name}"),
            "build it for AArch64 (aarch64-*-elf or aarch64-linux-gnu)",
        ));
    }
    if endian == Endianness::Big {
        return Err(NoKernel::new("a big-endian ELF file", "build it for little-endian AArch64"));
    }
    let kind = header.e_type(endian);
    if kind == ET_REL {
        return Err(NoKernel::new("an object file", "link it"));
    }
    if kind != ET_EXEC && kind != ET_DYN {
        return Err(NoKernel::new("an ELF file that is no executable", LINK));
    }
    let programs = header.program_headers(endian, bytes).map_err(damaged)?;
    let loads: Vec<_> =
        programs.iter().filter(|program| program.p_type(endian) == PT_LOAD && program.p_memsz(endian) > 0).collect();
    // Some linkers leave the physical addresses empty.
    let physical = loads.iter().any(|program| program.p_paddr(endian) != 0);
    let entry = header.e_entry(endian);
    let mut lowered_entry = entry;
    let mut segments = Vec::new();
    for program in &loads {
        let data = program
            .data(endian, bytes)
            .map_err(|()| NoKernel::new("a truncated ELF file", "build or copy it again"))?;
        let (virtual_, memory_size) = (program.p_vaddr(endian), program.p_memsz(endian));
        let address = if physical { program.p_paddr(endian) } else { virtual_ };
        if memory_size < data.len() as u64 || address.checked_add(memory_size).is_none() {
            return Err(NoKernel::new("a damaged ELF file (a segment's sizes)", "build or copy it again"));
        }
        if let Some(offset) = entry.checked_sub(virtual_).filter(|offset| *offset < memory_size) {
            lowered_entry = address.saturating_add(offset);
        }
        let file = (!data.is_empty()).then(|| writer.add(data));
        segments.push(Segment { ipa: Ipa::new(address), file, memory_size });
    }
    segments.sort_by_key(|segment| segment.ipa);
    match segments.first() {
        None => Err(NoKernel::new("an ELF file without anything to load", LINK)),
        Some(first) if first.ipa.get() >> 48 != 0 => Err(NoKernel::new(
            "an ELF file for kernel addresses, such as Linux's vmlinux",
            "take the kernel's file arch/arm64/boot/Image",
        )),
        Some(first) if kind == ET_DYN && first.ipa.get() == 0 => Err(NoKernel::new(
            "a position-independent ELF file, which has no address of its own",
            "link it without -pie and with an address, or make an arm64 Image or a raw binary of it",
        )),
        Some(_) => Ok(Kernel::Segments { segments, entry: Ipa::new(lowered_entry) }),
    }
}

#[cfg(test)]
mod tests;
