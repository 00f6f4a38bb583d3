// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses and address ranges. A physical, a guest-physical and a hypervisor-virtual address are three types, so
//! that no function can be handed the wrong one.

use core::fmt;
use serde::{Deserialize, Serialize};

/// The size of a page and of a stage-2 leaf at level 3, in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// The size of a level-2 block with the 4 KiB granule, in bytes.
pub const BLOCK_SIZE: u64 = 2 << 20;

/// What all kinds of address have in common.
pub trait Address: Copy + Ord + fmt::Display {
    /// Wraps a raw address.
    fn new(raw: u64) -> Self;
    /// Returns the raw address.
    fn get(self) -> u64;
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw address.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// Returns the raw address.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns the address `offset` bytes further on, or `None` past the end of the address space.
            pub const fn checked_add(self, offset: u64) -> Option<Self> {
                match self.0.checked_add(offset) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Returns the distance in bytes from `base`, or `None` below it.
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// Tells whether the address is a multiple of `align`, a power of two.
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// Rounds down to a multiple of `align`, a power of two.
            pub const fn align_down(self, align: u64) -> Self {
                Self(self.0 & !(align - 1))
            }

            /// Rounds up to a multiple of `align`, a power of two, or returns `None` past the end of the address space.
            pub const fn align_up(self, align: u64) -> Option<Self> {
                match self.0.checked_add(align - 1) {
                    Some(sum) => Some(Self(sum & !(align - 1))),
                    None => None,
                }
            }
        }

        impl Address for $name {
            fn new(raw: u64) -> Self {
                Self(raw)
            }
            fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A physical address.
    Pa
}
address! {
    /// An intermediate physical address: what a guest takes for physical.
    Ipa
}
address! {
    /// A virtual address of the hypervisor at EL2.
    Va
}

/// A non-empty range of addresses whose end does not pass the end of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddrRange<A> {
    start: A,
    size: u64,
}

/// A range of physical addresses.
pub type PaRange = AddrRange<Pa>;
/// A range of guest-physical addresses.
pub type IpaRange = AddrRange<Ipa>;

impl<A: Address> AddrRange<A> {
    /// Returns the range of `size` bytes from `start`, or `None` when it is empty or its end (exclusive) does not
    /// fit in 64 bits.
    pub fn new(start: A, size: u64) -> Option<Self> {
        start.get().checked_add(size).filter(|_| size != 0)?;
        Some(Self { start, size })
    }

    /// Returns the range from `start` to `end` (exclusive), or `None` when it is empty.
    pub fn between(start: A, end: A) -> Option<Self> {
        Self::new(start, end.get().checked_sub(start.get())?)
    }

    /// Returns the first address.
    pub fn start(&self) -> A {
        self.start
    }

    /// Returns the size in bytes, never 0.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the first address behind the range.
    pub fn end(&self) -> A {
        // Cannot overflow: `new` has checked it.
        A::new(self.start.get().wrapping_add(self.size))
    }

    /// Tells whether the address lies in the range.
    pub fn contains(&self, address: A) -> bool {
        self.start <= address && address < self.end()
    }

    /// Tells whether the whole of `other` lies in the range.
    pub fn contains_range(&self, other: &Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Tells whether the two ranges have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Returns the smallest range of whole `align`-byte units (a power of two) around this one, or `None` past the end
    /// of the address space.
    pub fn align_out(&self, align: u64) -> Option<Self> {
        let mask = align.wrapping_sub(1);
        let end = self.end().get().checked_add(mask)? & !mask;
        Self::between(A::new(self.start.get() & !mask), A::new(end))
    }
}

impl<A: Address> fmt::Display for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_that_ends_at_the_last_representable_address_is_legal() {
        assert!(PaRange::new(Pa::new(u64::MAX - 4096), 4096).is_some());
        assert!(PaRange::new(Pa::new(u64::MAX - 4095), 4097).is_none());
        assert!(PaRange::new(Pa::new(0), 0).is_none());
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let low = PaRange::new(Pa::new(0x1000), 0x1000).unwrap();
        let high = PaRange::new(Pa::new(0x2000), 0x1000).unwrap();
        assert!(!low.overlaps(&high) && !high.overlaps(&low));
        assert!(low.overlaps(&low));
        assert!(!low.contains(high.start()) && low.contains(Pa::new(0x1fff)));
    }

    #[test]
    fn align_out_covers_the_range() {
        let odd = PaRange::new(Pa::new(0x1234), 1).unwrap();
        let page = odd.align_out(PAGE_SIZE).unwrap();
        assert_eq!((page.start().get(), page.size()), (0x1000, 0x1000));
    }
}
