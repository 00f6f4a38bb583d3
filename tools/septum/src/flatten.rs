// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a position-independent ELF to the flat image that boot loaders take: its loadable segments, laid out as in
//! memory from the lowest address on. The image relocates itself when it starts, so nothing is fixed up here.

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// Offset of the magic number in the header of an arm64 `Image` (Documentation/arch/arm64/booting).
const MAGIC_OFFSET: usize = 0x38;
const MAGIC: &[u8; 4] = b"ARM\x64";
/// What a flat image may take; a stray segment far away would otherwise fill the disk.
const FLAT_LIMIT: u64 = 64 << 20;

/// The fields of an arm64 `Image` header that a loader goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Offset from a 2 MiB boundary at which the image wants to be loaded, in bytes.
    pub text_offset: u64,
    /// Memory that the image needs from its start, in bytes.
    pub image_size: u64,
}

/// Reads the header of an arm64 `Image`; `None` when the file is none.
pub fn image_header(file: &[u8]) -> Option<ImageHeader> {
    let word = |offset: usize| Some(u64::from_le_bytes(file.get(offset..offset + 8)?.try_into().ok()?));
    (file.get(MAGIC_OFFSET..MAGIC_OFFSET + 4)? == MAGIC).then_some(())?;
    Some(ImageHeader { text_offset: word(8)?, image_size: word(16)? })
}

/// Lays the segments of an ELF file out as a flat arm64 `Image`. Memory behind the last stored byte is left out: the
/// header's image_size covers it.
///
/// # Errors
/// When the file is no 64-bit little-endian AArch64 ELF, needs a dynamic linker, is larger than 64 MiB in all, does not
/// begin with its entry point, or has no arm64 `Image` header or one whose image_size is too small.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>> {
    let header = elf::FileHeader64::<Endianness>::parse(file).context("not a 64-bit ELF file")?;
    let endian = header.endian().context("not an ELF file")?;
    ensure!(header.is_little_endian() && header.e_machine(endian) == elf::EM_AARCH64, "not for AArch64");
    let segments = header.program_headers(endian, file).context("its program headers are damaged")?;

    let mut pieces = Vec::new();
    for segment in segments {
        match segment.p_type(endian) {
            elf::PT_INTERP => bail!("it needs a dynamic linker"),
            elf::PT_LOAD if segment.p_memsz(endian) != 0 => {
                let data = segment.data(endian, file).ok().context("a segment lies outside the file")?;
                pieces.push((segment.p_vaddr(endian), segment.p_memsz(endian), data));
            }
            _ => {}
        }
    }
    pieces.sort_by_key(|&(address, ..)| address);
    let base = pieces.first().context("it has no loadable segment")?.0;
    ensure!(header.e_entry(endian) == base, "its entry point is not at its start");

    let mut image = Vec::new();
    let mut memory_end = 0;
    for (address, memory_size, data) in pieces {
        let offset = address - base;
        ensure!(offset >= memory_end, "its segments overlap");
        memory_end = offset.checked_add(memory_size).filter(|&end| end <= FLAT_LIMIT).context("larger than 64 MiB")?;
        if !data.is_empty() {
            image.resize(usize::try_from(offset)?, 0);
            image.extend_from_slice(data);
        }
    }
    let header = image_header(&image).context("it does not begin with an arm64 Image header")?;
    ensure!(
        header.image_size >= memory_end,
        "its header says image_size {:#x}, its segments need {memory_end:#x}",
        header.image_size
    );
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an ELF with segments of (address, file bytes, memory size).
    fn elf(machine: u16, entry: u64, segments: &[(u64, Vec<u8>, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..18].copy_from_slice(&3u16.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[20] = 1;
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32] = 64;
        file[52] = 64;
        file[54] = 56;
        file[56] = u8::try_from(segments.len()).unwrap();
        for (index, (address, data, memory_size)) in segments.iter().enumerate() {
            let offset = file.len() as u64;
            let header = &mut file[64 + 56 * index..][..56];
            header[0] = 1;
            header[8..16].copy_from_slice(&offset.to_le_bytes());
            header[16..24].copy_from_slice(&address.to_le_bytes());
            header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
            header[40..48].copy_from_slice(&memory_size.to_le_bytes());
            file.extend_from_slice(data);
        }
        file
    }

    fn text(image_size: u64) -> Vec<u8> {
        let mut text = vec![0xaa; 64];
        text[16..24].copy_from_slice(&image_size.to_le_bytes());
        text[MAGIC_OFFSET..MAGIC_OFFSET + 4].copy_from_slice(MAGIC);
        text
    }

    #[test]
    fn gaps_are_zero_and_memory_behind_the_file_is_left_out() {
        let file = elf(183, 0x1000, &[(0x2000, vec![7; 16], 0x1000), (0x1000, text(0x2000), 64)]);
        let image = flatten(&file).unwrap();
        assert_eq!(image.len(), 0x1010);
        assert_eq!(image[0x40..0x1000], [0; 0x1000 - 0x40]);
        assert_eq!(image[0x1000..], [7; 16]);
    }

    #[test]
    fn an_image_size_below_the_memory_used_is_refused() {
        let segments = |size| [(0, text(size), 64), (0x1000, vec![7; 16], 0x1000)];
        assert!(flatten(&elf(183, 0, &segments(0x2000))).is_ok());
        assert!(flatten(&elf(183, 0, &segments(0x1fff))).is_err());
    }

    #[test]
    fn what_is_no_bootable_image_is_refused() {
        let refused = |file: &[u8], why: &str| {
            let error = format!("{:#}", flatten(file).unwrap_err());
            assert!(error.contains(why), "{error}");
        };
        refused(b"", "not a 64-bit ELF");
        refused(&elf(62, 0, &[(0, text(64), 64)]), "not for AArch64");
        refused(&elf(183, 4, &[(0, text(64), 64)]), "entry point");
        refused(&elf(183, 0, &[]), "no loadable segment");
        refused(&elf(183, 0, &[(0, vec![0; 64], 64)]), "Image header");
        refused(&elf(183, 0, &[(0, text(64), 64), (32, vec![0; 16], 16)]), "overlap");
        refused(&elf(183, 0, &[(0, text(64), FLAT_LIMIT + 1)]), "64 MiB");
        refused(&elf(183, 0, &[(0, text(64), u64::MAX)]), "64 MiB");
        let whole = elf(183, 0, &[(0, text(64), 64)]);
        refused(&whole[..whole.len() - 1], "outside the file");
    }
}
