// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes words, names and values off a block, never past its end.

use super::blob::MAX_NAME;

/// A reading position in a structure block.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    /// How many bytes were read.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Takes a word.
    pub(super) fn word(&mut self) -> Option<u32> {
        let (word, _) = self.bytes.get(self.at..)?.split_first_chunk()?;
        self.at = self.at.checked_add(4)?;
        Some(u32::from_be_bytes(*word))
    }

    /// Takes `length` bytes and the padding behind them.
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end.checked_next_multiple_of(4)?;
        Some(taken)
    }

    /// Takes a NUL-terminated name, without its NUL, and the padding behind it.
    pub(super) fn name(&mut self) -> Option<&'a [u8]> {
        let name = terminated(self.bytes.get(self.at..)?)?;
        self.bytes(name.len().checked_add(1)?)?;
        Some(name)
    }
}

/// Returns the bytes up to the first NUL, when that comes within the length of a name.
pub(super) fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().take(MAX_NAME.saturating_add(1)).position(|byte| *byte == 0)?;
    bytes.get(..length)
}
