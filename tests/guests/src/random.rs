// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeded random numbers: the same seed gives the same run.

/// A xorshift64* generator.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Returns a generator whose sequence `seed` and `stream` decide; every CPU takes a stream of its own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mixed = (seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(mixed | 1)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Returns all zeros, all ones or random bits, each as often.
    pub fn pattern(&mut self) -> u64 {
        match self.below(3) {
            0 => 0,
            1 => u64::MAX,
            _ => self.bits(),
        }
    }
}
