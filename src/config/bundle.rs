// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bundle: the manifest and the guests' images in one file, which arrives as the initrd.
//!
//! ```text
//! 0        header (48 bytes, little-endian): magic, format version, sizes, checksums
//! 4 KiB    files, each at a multiple of 4 KiB; equal files are stored once
//!          manifest (postcard)
//! end-16   trailer: magic, total length
//! ```
//!
//! The length stands at both ends, so that a truncated bundle is found without reading it all. The manifest is
//! checksummed; the images are not read until a partition is loaded. Nothing of the bytes is trusted: [`parse`] is total.

use alloc::vec::Vec;
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc};

use super::{FileRange, Manifest};
use crate::addr::{BLOCK_SIZE, PAGE_SIZE};

mod foreign;
#[cfg(test)]
mod tests;
mod validate;

pub use foreign::Foreign;
pub use validate::ManifestError;

/// The version of the format that this build reads and writes. It stands in the first 12 bytes of every version.
pub const FORMAT_VERSION: u32 = 2;
/// The most bytes an encoded manifest may have.
pub const MAX_MANIFEST_SIZE: u64 = 256 << 10;

const MAGIC: [u8; 8] = *b"SEPTUM\x1a\n";
const TRAILER_MAGIC: [u8; 8] = *b"MUTPES\x1a\n";
const HEADER_SIZE: u32 = 48;
const TRAILER_SIZE: u64 = 16;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Why bytes are no bundle that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// It does not begin with the bundle's magic.
    Foreign(Foreign),
    /// It was written by another version of the tool.
    Version {
        /// The version it states.
        found: u32,
    },
    /// The header's checksum or its sizes are wrong.
    HeaderDamaged,
    /// The end is missing.
    Truncated {
        /// Bytes that are there.
        has: u64,
        /// Bytes that there should be.
        needs: u64,
    },
    /// The trailer does not repeat the length: the file was overwritten or joined together wrongly.
    TrailerMissing {
        /// Where it should stand, in bytes from the start.
        offset: u64,
    },
    /// The manifest's checksum is wrong.
    ManifestChecksum {
        /// What the header states.
        stated: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The manifest's checksum is right and yet it does not decode.
    ManifestDecode,
    /// The manifest decodes and says what no configuration can say.
    Manifest(ManifestError),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(what) => write!(
                f,
                "the initrd is {what}, not a Septum bundle: pass the bundle that `septum build` wrote as the initrd"
            ),
            Self::Version { found } => write!(
                f,
                "the bundle has format version {found}, this firmware reads version {FORMAT_VERSION}: \
                 build the bundle and septum.img with the same tool"
            ),
            Self::HeaderDamaged => {
                write!(f, "the bundle's header is damaged: copy the bundle again")
            }
            Self::Truncated { has, needs } => write!(
                f,
                "the bundle is truncated: {has} bytes are there, {needs} are needed: copy it again, \
                 or load it where it has room"
            ),
            Self::TrailerMissing { offset } => write!(
                f,
                "the bundle's trailer is missing at byte {offset}: its end was overwritten, load it where it has room"
            ),
            Self::ManifestChecksum { stated, computed } => write!(
                f,
                "the bundle's manifest is damaged: its checksum is {computed:#010x}, the header says {stated:#010x}"
            ),
            Self::ManifestDecode => {
                write!(f, "the bundle's manifest does not decode: build the bundle and septum.img with the same tool")
            }
            Self::Manifest(error) => write!(f, "the bundle's manifest is not valid: {error}"),
        }
    }
}

impl core::error::Error for BundleError {}

/// A bundle that was checked, over the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    /// What the author configured. Each file range of it lies in the bundle.
    pub manifest: Manifest,
    bytes: &'a [u8],
    files_end: u64,
}

impl<'a> Bundle<'a> {
    /// Returns the bundle's length in bytes, without what a loader has appended.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns where the files end, in bytes from the start: the manifest begins there.
    pub fn files_end(&self) -> u64 {
        self.files_end
    }

    /// Returns the bytes of a file, or `None` when the range is not one of this bundle.
    pub fn file(&self, range: FileRange) -> Option<&'a [u8]> {
        slice(self.bytes, range.offset, range.size)
    }
}

/// Reads a bundle. `bytes` is all that the loader has passed; what follows the bundle in it is ignored, as loaders pad.
///
/// # Errors
/// Says what is wrong with it; work and memory are bounded by [`MAX_MANIFEST_SIZE`], whatever the bytes are.
#[inline(never)]
pub fn parse(bytes: &[u8]) -> Result<Bundle<'_>, BundleError> {
    let header = Header::read(bytes)?;
    let has = bytes.len() as u64;
    let Some(bytes) = slice(bytes, 0, header.total) else {
        return Err(BundleError::Truncated { has, needs: header.total });
    };
    let trailer_offset = header.total.saturating_sub(TRAILER_SIZE);
    let trailer = slice(bytes, trailer_offset, TRAILER_SIZE).ok_or(BundleError::HeaderDamaged)?;
    if trailer != encode_trailer(header.total) {
        return Err(BundleError::TrailerMissing { offset: trailer_offset });
    }
    let encoded = slice(bytes, header.manifest_offset, header.manifest_size).ok_or(BundleError::HeaderDamaged)?;
    let computed = CRC.checksum(encoded);
    if computed != header.manifest_crc {
        return Err(BundleError::ManifestChecksum { stated: header.manifest_crc, computed });
    }
    // postcard reserves no more elements than bytes are left, so that a hostile length allocates nothing much.
    let (manifest, rest) = postcard::take_from_bytes::<Manifest>(encoded).map_err(|_| BundleError::ManifestDecode)?;
    if !rest.is_empty() {
        return Err(BundleError::ManifestDecode);
    }
    let files = u64::from(HEADER_SIZE)..header.manifest_offset;
    validate::manifest(&manifest, &files).map_err(BundleError::Manifest)?;
    Ok(Bundle { manifest, bytes, files_end: header.manifest_offset })
}

/// Returns a piece of `bytes`, or `None` when it does not lie in them.
fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    bytes.get(start..end)
}

/// The fixed start of a bundle.
#[derive(Clone, Copy, Debug)]
struct Header {
    total: u64,
    manifest_offset: u64,
    manifest_size: u64,
    manifest_crc: u32,
}

impl Header {
    /// Reads and checks the header: its own checksum, and that its parts lie behind each other.
    fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let (magic, _) = bytes.split_at_checked(MAGIC.len()).unwrap_or((bytes, &[]));
        if magic.is_empty() || !MAGIC.starts_with(magic) {
            return Err(BundleError::Foreign(Foreign::of(bytes)));
        }
        let truncated = BundleError::Truncated { has: bytes.len() as u64, needs: HEADER_SIZE.into() };
        let found = read_u32(bytes, 8).ok_or_else(|| truncated.clone())?;
        if found != FORMAT_VERSION {
            return Err(BundleError::Version { found });
        }
        let fields = || {
            let header = Self {
                total: read_u64(bytes, 16)?,
                manifest_offset: read_u64(bytes, 24)?,
                manifest_size: read_u64(bytes, 32)?,
                manifest_crc: read_u32(bytes, 40)?,
            };
            Some((read_u32(bytes, 12)?, header, CRC.checksum(bytes.get(..44)?), read_u32(bytes, 44)?))
        };
        let (size, header, computed, stated) = fields().ok_or(truncated)?;
        let end = header.manifest_offset.checked_add(header.manifest_size);
        let ordered = header.manifest_offset >= u64::from(HEADER_SIZE)
            && header.manifest_size <= MAX_MANIFEST_SIZE
            && end.and_then(|end| end.checked_add(TRAILER_SIZE)).is_some_and(|end| end <= header.total);
        if size != HEADER_SIZE || computed != stated || !ordered {
            return Err(BundleError::HeaderDamaged);
        }
        Ok(header)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_SIZE as usize);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend(HEADER_SIZE.to_le_bytes());
        bytes.extend(self.total.to_le_bytes());
        bytes.extend(self.manifest_offset.to_le_bytes());
        bytes.extend(self.manifest_size.to_le_bytes());
        bytes.extend(self.manifest_crc.to_le_bytes());
        bytes.extend(CRC.checksum(&bytes).to_le_bytes());
        bytes
    }
}

fn encode_trailer(total: u64) -> [u8; TRAILER_SIZE as usize] {
    let mut bytes = [0; TRAILER_SIZE as usize];
    for (to, from) in bytes.iter_mut().zip(TRAILER_MAGIC.into_iter().chain(total.to_le_bytes())) {
        *to = from;
    }
    bytes
}

fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn read_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Writes a bundle: first every file, which gives the ranges for the manifest, then the manifest.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    files: Vec<FileRange>,
    sharing: Sharing,
}

/// Whether files may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A file is stored once, whoever needs it.
    Equal,
    /// A file gets pages of its own, which its partition will write to, from a multiple of 2 MiB on, as stage 2 maps
    /// blocks.
    Own,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Starts an empty bundle.
    pub fn new() -> Self {
        let mut writer = Self { bytes: Vec::new(), files: Vec::new(), sharing: Sharing::Equal };
        writer.bytes.resize(HEADER_SIZE as usize, 0);
        writer
    }

    /// Says how the files that follow are stored.
    pub fn set_sharing(&mut self, sharing: Sharing) {
        self.sharing = sharing;
    }

    /// Adds a file and returns its range; unless it is to have pages of its own, a file that is there already is not stored twice.
    pub fn add(&mut self, file: &[u8]) -> FileRange {
        if self.sharing == Sharing::Own {
            self.pad(BLOCK_SIZE as usize);
            let range = FileRange { offset: self.bytes.len() as u64, size: file.len() as u64 };
            self.bytes.extend_from_slice(file);
            self.pad(PAGE_SIZE as usize);
            return range;
        }
        let same = |range: &&FileRange| slice(&self.bytes, range.offset, range.size) == Some(file);
        if let Some(range) = self.files.iter().find(same) {
            return *range;
        }
        self.pad(PAGE_SIZE as usize);
        let range = FileRange { offset: self.bytes.len() as u64, size: file.len() as u64 };
        self.bytes.extend_from_slice(file);
        self.files.push(range);
        range
    }

    /// Adds the manifest and completes the bundle.
    ///
    /// # Errors
    /// Says why [`parse`] would refuse the result.
    pub fn finish(mut self, manifest: &Manifest) -> Result<Vec<u8>, BundleError> {
        let encoded = postcard::to_allocvec(manifest).map_err(|_| BundleError::ManifestDecode)?;
        self.pad(16);
        let manifest_offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&encoded);
        self.pad(16);
        let header = Header {
            total: (self.bytes.len() as u64).saturating_add(TRAILER_SIZE),
            manifest_offset,
            manifest_size: encoded.len() as u64,
            manifest_crc: CRC.checksum(&encoded),
        };
        self.bytes.extend(encode_trailer(header.total));
        for (to, from) in self.bytes.iter_mut().zip(header.encode()) {
            *to = from;
        }
        parse(&self.bytes)?;
        Ok(self.bytes)
    }

    fn pad(&mut self, align: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
    }
}
