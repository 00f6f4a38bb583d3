// SPDX-License-Identifier: MIT OR Apache-2.0
//! The row that should cost nothing: work that touches no device.

use core::hint::black_box;

use super::rounds;
use crate::entry::machine;
use crate::random::Random;
use crate::timer;

const WORDS: usize = 16 * 1024;
/// Passes of a round, so that one takes some 184 million instructions.
const PASSES: usize = 20;

/// Runs the row: fill, copy, sort and checksum, in free RAM.
pub fn run() {
    let region = machine().scratch(2 * 4 * WORDS as u64);
    if region.size < 2 * 4 * WORDS as u64 {
        return;
    }
    // SAFETY: free RAM of that size, mapped one to one, which nothing else in this guest uses; any bits are a `u32`.
    let words = unsafe { core::slice::from_raw_parts_mut(region.base as *mut u32, 2 * WORDS) };
    let (data, copy) = words.split_at_mut(WORDS);
    rounds("compute", 1, 2, || {
        let before = timer::now();
        for _ in 0..PASSES {
            black_box(work(data, copy));
        }
        timer::now() - before
    });
}

fn work(data: &mut [u32], copy: &mut [u32]) -> u32 {
    let mut random = Random::new(1, 2);
    data.iter_mut().for_each(|word| *word = random.bits() as u32);
    copy.copy_from_slice(data);
    sort(copy);
    data.iter().chain(copy.iter()).fold(!0, |crc, word| checksum(crc, *word))
}

/// Sorts in place, by a heap.
fn sort(words: &mut [u32]) {
    for start in (0..words.len() / 2).rev() {
        sink(words, start);
    }
    for end in (1..words.len()).rev() {
        words.swap(0, end);
        sink(&mut words[..end], 0);
    }
}

fn sink(heap: &mut [u32], mut at: usize) {
    loop {
        let left = 2 * at + 1;
        if left >= heap.len() {
            return;
        }
        let larger = if left + 1 < heap.len() && heap[left + 1] > heap[left] { left + 1 } else { left };
        if heap[at] >= heap[larger] {
            return;
        }
        heap.swap(at, larger);
        at = larger;
    }
}

/// One word of CRC-32, bit by bit.
fn checksum(crc: u32, word: u32) -> u32 {
    (0..32).fold(crc ^ word, |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
}
