// SPDX-License-Identifier: MIT OR Apache-2.0
//! A pattern in memory that nobody else may change.

use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::entry::machine;

/// Memory filled with known words, and the hash that it must keep.
pub struct Pattern {
    words: &'static [AtomicU64],
    next: usize,
    /// The hash of all words as they were written.
    pub hash: u32,
}

impl Pattern {
    /// Fills at most `size` bytes of free RAM. Only one pattern at a time may exist.
    pub fn fill(size: u64) -> Self {
        let region = machine().scratch(size);
        // SAFETY: the range is RAM that holds neither image nor tree nor initrd, mapped one to one, and any bits are an
        // `AtomicU64`.
        let words = unsafe { slice::from_raw_parts(region.base as *const AtomicU64, region.size as usize / 8) };
        for (index, word) in words.iter().enumerate() {
            word.store(expected(index), Ordering::Relaxed);
        }
        let hash = words.iter().fold(!0, |hash, word| mix(hash, word.load(Ordering::Relaxed)));
        Self { words, next: 0, hash }
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.words.len() * 8
    }

    /// Computes the hash of all words again.
    pub fn rehash(&self) -> u32 {
        self.words.iter().fold(!0, |hash, word| mix(hash, word.load(Ordering::Relaxed)))
    }

    /// Checks the next `count` words, round and round; `Err` is the address of a changed one.
    pub fn check_some(&mut self, count: usize) -> Result<(), u64> {
        for _ in 0..count.min(self.words.len()) {
            let index = self.next;
            self.next = (index + 1) % self.words.len();
            if self.words[index].load(Ordering::Relaxed) != expected(index) {
                return Err((&raw const self.words[index]) as u64);
            }
        }
        Ok(())
    }
}

fn expected(index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// One step of FNV-1a over the two halves of `word`.
fn mix(hash: u32, word: u64) -> u32 {
    [word as u32, (word >> 32) as u32].into_iter().fold(hash, |hash, half| (hash ^ half).wrapping_mul(0x0100_0193))
}
