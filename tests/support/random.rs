// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeded random numbers. The seed is printed, so that a failure can be repeated with `SEPTUM_TEST_SEED`.

use std::env;

/// A xorshift64* generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Returns a generator with the seed of `SEPTUM_TEST_SEED`, or `default`; prints it.
    ///
    /// # Panics
    /// The variable is set and is no number.
    pub fn seeded(default: u64) -> Self {
        let seed = match env::var("SEPTUM_TEST_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("SEPTUM_TEST_SEED={text} is no number")),
            Err(_) => default,
        };
        println!("seed {seed}: repeat with SEPTUM_TEST_SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_same_seed_gives_the_same_numbers_in_range() {
        let draw = || {
            let mut random = Random(77);
            (0..1000).map(|_| random.below(5)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!(draw().iter().all(|number| *number < 5));
        assert!((0..5).all(|number| draw().contains(&number)));
    }
}
