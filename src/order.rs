// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sorting for what runs once: one small merge sort for all types, where the library's would be compiled again, with 5 KiB,
//! for each type and key.

use alloc::vec::Vec;

/// Sorts by a key; items with equal keys keep their order.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a) < key(b));
}

/// Sorts by the items' own order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, |a, b| a < b);
}

/// Sorts so that no item is less than the one before it; items that are neither keep their order.
pub fn sort_by<T>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let by_index = |a: usize, b: usize| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => less(a, b),
        _ => false,
    };
    if (1..items.len()).all(|at| !by_index(at, at.saturating_sub(1))) {
        return;
    }
    let mut order = order(items.len(), &by_index);
    // Follows each cycle of the permutation; a place is marked done by pointing to itself.
    for first in 0..items.len() {
        let mut at = first;
        while let Some(from) = order.get(at).copied().filter(|from| *from != at) {
            if let Some(place) = order.get_mut(at) {
                *place = at;
            }
            if from == first {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
}

/// Returns the indices of `count` items in their order.
fn order(count: usize, less: &dyn Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut from: Vec<usize> = (0..count).collect();
    let mut to: Vec<usize> = Vec::with_capacity(count);
    let mut run = 1_usize;
    while run < count {
        to.clear();
        for pair in from.chunks(run.saturating_mul(2)) {
            let (mut left, mut right) = pair.split_at(run.min(pair.len()));
            // Each turn takes one index from one of the two runs.
            loop {
                let take = match (left.split_first(), right.split_first()) {
                    (Some((a, _)), Some((b, rest))) if less(*b, *a) => {
                        right = rest;
                        *b
                    }
                    (Some((a, rest)), _) => {
                        left = rest;
                        *a
                    }
                    (None, Some((b, rest))) => {
                        right = rest;
                        *b
                    }
                    (None, None) => break,
                };
                to.push(take);
            }
        }
        core::mem::swap(&mut from, &mut to);
        run = run.saturating_mul(2);
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec;

    proptest! {
        #[test]
        fn sorts_as_the_library_does(items in proptest::collection::vec((0..20_u8, any::<u16>()), 0..200)) {
            let (mut ours, mut theirs) = (items.clone(), items);
            sort_by_key(&mut ours, |item| item.0);
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(&ours, &theirs);
            sort(&mut ours);
            theirs.sort();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn sorts_what_owns_memory() {
        let mut items: Vec<String> = ["c", "a", "b", "a"].map(String::from).into();
        sort(&mut items);
        assert_eq!(items, vec!["a", "a", "b", "c"]);
        sort(&mut Vec::<String>::new());
    }
}
