// SPDX-License-Identifier: MIT OR Apache-2.0
//! A queue of bytes between one producer and one consumer that never wait for each other.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Bytes of console output that wait for the UART.
pub const OUTPUT_SIZE: usize = 2048;

/// What a byte met in a [`Ring`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The consumer had taken everything before it, so it may have to be woken.
    First,
    /// Other bytes wait before it.
    More,
    /// The ring was full; the byte is not in it.
    Full,
}

/// A ring of `N` bytes (a power of two). At any time at most one context pushes and at most one pops.
#[derive(Debug)]
pub struct Ring<const N: usize = OUTPUT_SIZE> {
    bytes: [AtomicU8; N],
    /// Bytes pushed since the start, wrapping; written by the producer alone.
    head: AtomicUsize,
    /// Bytes popped since the start, wrapping; written by the consumer alone.
    tail: AtomicUsize,
}

impl<const N: usize> Ring<N> {
    /// A value and no loop: what is made of a constant of zeroes is one fill of memory.
    #[expect(clippy::declare_interior_mutable_const, reason = "each use is a ring of its own")]
    const EMPTY: Self =
        Self { bytes: [const { AtomicU8::new(0) }; N], head: AtomicUsize::new(0), tail: AtomicUsize::new(0) };

    /// Returns an empty ring.
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two(), "the counters wrap, so the ring must divide their range") };
        Self::EMPTY
    }

    /// Appends a byte. Producer only.
    pub fn push(&self, byte: u8) -> Pushed {
        let head = self.head.load(Ordering::Relaxed);
        let used = head.wrapping_sub(self.tail.load(Ordering::Acquire));
        let Some(place) = self.bytes.get(head % N).filter(|_| used < N) else { return Pushed::Full };
        place.store(byte, Ordering::Relaxed);
        // Sequentially consistent, as the consumer's store and load are: either it sees this byte, or its count is
        // seen here and it is woken.
        self.head.store(head.wrapping_add(1), Ordering::SeqCst);
        if self.tail.load(Ordering::SeqCst) == head { Pushed::First } else { Pushed::More }
    }

    /// Returns the oldest byte and leaves it. Consumer only.
    pub fn peek(&self) -> Option<u8> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail == self.head.load(Ordering::SeqCst) {
            return None;
        }
        self.bytes.get(tail % N).map(|place| place.load(Ordering::Relaxed))
    }

    /// Takes the oldest byte. Consumer only.
    pub fn pop(&self) -> Option<u8> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail == self.head.load(Ordering::SeqCst) {
            return None;
        }
        let byte = self.bytes.get(tail % N)?.load(Ordering::Relaxed);
        self.tail.store(tail.wrapping_add(1), Ordering::SeqCst);
        Some(byte)
    }

    /// Returns how many bytes wait. To the producer it can only shrink meanwhile, to the consumer only grow.
    pub fn len(&self) -> usize {
        // The tail first: it never passes the head that is read after it.
        let tail = self.tail.load(Ordering::SeqCst);
        self.head.load(Ordering::SeqCst).wrapping_sub(tail).min(N)
    }

    /// Tells whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes were pushed since the start, wrapping.
    pub fn pushed(&self) -> usize {
        self.head.load(Ordering::SeqCst)
    }

    /// Drops all that waits. Consumer only.
    pub fn clear(&self) {
        self.tail.store(self.head.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// What the multiplexer takes bytes from.
pub trait ByteSource {
    /// Takes the oldest byte.
    fn take(&self) -> Option<u8>;
}

impl<const N: usize> ByteSource for Ring<N> {
    fn take(&self) -> Option<u8> {
        self.pop()
    }
}

/// Writes text into a ring as its producer. What does not fit is dropped, and the write reports an error.
#[derive(Clone, Copy, Debug)]
pub struct RingWriter<'a, const N: usize>(pub &'a Ring<N>);

impl<const N: usize> fmt::Write for RingWriter<'_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.0.push(byte) == Pushed::Full {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn bytes_come_out_in_order_and_a_full_ring_refuses() {
        let ring = Ring::<4>::new();
        assert_eq!(ring.push(0), Pushed::First);
        for byte in 1..4 {
            assert_eq!(ring.push(byte), Pushed::More);
        }
        assert_eq!(ring.push(4), Pushed::Full);
        assert_eq!(ring.len(), 4);
        assert_eq!(std::iter::from_fn(|| ring.pop()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(ring.is_empty());
        assert_eq!(ring.push(5), Pushed::First);
        ring.clear();
        assert_eq!((ring.pop(), ring.pushed()), (None, 5));
    }

    #[test]
    fn two_threads_lose_no_byte_and_the_length_is_never_too_large() {
        const COUNT: usize = 50_000;
        let ring = Ring::<16>::new();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for byte in (0..=255).cycle().take(COUNT) {
                    while ring.push(byte) == Pushed::Full {
                        std::thread::yield_now();
                    }
                    assert!(ring.len() <= 16);
                }
            });
            while received.len() < COUNT {
                match ring.pop() {
                    Some(byte) => received.push(byte),
                    None => std::thread::yield_now(),
                }
            }
        });
        assert!(received.iter().copied().eq((0..=255).cycle().take(COUNT)));
    }
}
