// SPDX-License-Identifier: MIT OR Apache-2.0
//! Free space: what is left of some ranges after others were taken.

use alloc::vec::Vec;

use crate::addr::{AddrRange, Address};

/// Where in a block of `align` bytes something must begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    /// The size of the block, a power of two.
    pub(super) align: u64,
    /// The offset in it, less than `align`.
    pub(super) offset: u64,
}

impl Fit {
    /// Anything that is a multiple of `align`, a power of two.
    pub(super) fn aligned(align: u64) -> Self {
        Self { align, offset: 0 }
    }

    /// Returns the lowest address from `start` on that fits.
    pub(super) fn first(self, start: u64) -> Option<u64> {
        let mask = self.align.wrapping_sub(1);
        start.checked_add(self.offset.wrapping_sub(start) & mask)
    }
}

/// Free ranges, ascending and disjoint.
#[derive(Clone, Debug)]
pub(super) struct Space<A> {
    free: Vec<AddrRange<A>>,
}

impl<A: Address> Space<A> {
    /// Returns ranges without others.
    pub(super) fn new(all: &[AddrRange<A>], taken: impl IntoIterator<Item = AddrRange<A>>) -> Self {
        let mut free = all.to_vec();
        crate::order::sort(&mut free);
        let mut space = Self { free };
        for range in taken {
            space.take(&range);
        }
        space
    }

    /// Removes a range, free or not.
    pub(super) fn take(&mut self, taken: &AddrRange<A>) {
        let cut = |range: &AddrRange<A>| {
            let below = AddrRange::between(range.start(), range.end().min(taken.start()));
            let above = AddrRange::between(range.start().max(taken.end()), range.end());
            if range.overlaps(taken) { [below, above] } else { [Some(*range), None] }
        };
        self.free = self.free.iter().flat_map(cut).flatten().collect();
    }

    /// Returns the lowest free range of `size` bytes that fits, within a window.
    pub(super) fn find(&self, size: u64, fit: Fit, window: &AddrRange<A>) -> Option<AddrRange<A>> {
        self.free.iter().find_map(|range| {
            let start = fit.first(range.start().max(window.start()).get())?;
            let found = AddrRange::new(A::new(start), size)?;
            (range.contains_range(&found) && window.contains_range(&found)).then_some(found)
        })
    }

    /// Returns the sum of the free bytes.
    pub(super) fn total(&self) -> u64 {
        self.free.iter().fold(0, |sum, range| sum.saturating_add(range.size()))
    }

    /// Returns the size of the largest free range.
    pub(super) fn largest(&self) -> u64 {
        self.free.iter().map(AddrRange::size).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Pa, PaRange};

    fn range(start: u64, end: u64) -> PaRange {
        PaRange::between(Pa::new(start), Pa::new(end)).unwrap()
    }

    #[test]
    fn what_was_taken_is_not_found_again() {
        let mut space = Space::new(&[range(0x1000, 0x9000)], [range(0x3000, 0x4000)]);
        let all = range(0, u64::MAX);
        assert_eq!((space.total(), space.largest()), (0x7000, 0x5000));
        assert_eq!(space.find(0x2000, Fit::aligned(0x1000), &all), Some(range(0x1000, 0x3000)));
        assert_eq!(space.find(0x2000, Fit { align: 0x4000, offset: 0x1000 }, &all), Some(range(0x1000, 0x3000)));
        space.take(&range(0x0, 0x2000));
        assert_eq!(space.find(0x2000, Fit { align: 0x4000, offset: 0x1000 }, &all), Some(range(0x5000, 0x7000)));
        assert_eq!(space.find(0x5001, Fit::aligned(1), &all), None);
        assert_eq!(space.find(0x1000, Fit::aligned(1), &range(0x8800, 0x9000)), None);
    }

    #[test]
    fn fit_at_the_end_of_the_address_space_is_none() {
        assert_eq!(Fit::aligned(0x1000).first(u64::MAX), None);
        assert_eq!(Fit { align: 0x1000, offset: 0xfff }.first(u64::MAX), Some(u64::MAX));
    }
}
