// SPDX-License-Identifier: MIT OR Apache-2.0
//! A list of bounded length that needs no allocator.

/// Holds up to `N` values in place; values beyond that are dropped and counted.
#[derive(Clone, Copy, Debug)]
pub struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
    /// How many values did not fit.
    pub lost: usize,
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self { items: [T::default(); N], len: 0, lost: 0 }
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    /// Returns an empty list; `blank` fills the unused places.
    pub const fn new(blank: T) -> Self {
        Self { items: [blank; N], len: 0, lost: 0 }
    }

    /// Appends `item`, or counts it as lost when the list is full.
    pub fn push(&mut self, item: T) {
        match self.items.get_mut(self.len) {
            Some(place) => {
                *place = item;
                self.len += 1;
            }
            None => self.lost += 1,
        }
    }

    /// Forgets every value.
    pub fn clear(&mut self) {
        self.len = 0;
        self.lost = 0;
    }

    /// Keeps the first `count` values.
    pub fn truncate(&mut self, count: usize) {
        self.len = self.len.min(count);
    }
}

impl<T, const N: usize> core::ops::Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}

impl<T, const N: usize> core::ops::DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items[..self.len]
    }
}
