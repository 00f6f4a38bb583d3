// SPDX-License-Identifier: MIT OR Apache-2.0
//! The best of what is pending, in order: as many as there are list registers.

use super::MAX_LRS;
use crate::id::Intid;
use crate::vgic::lr::Lr;

/// A pending interrupt that may get a list register.
#[derive(Clone, Copy, Default)]
pub(super) struct Pick {
    pub(super) rank: u32,
    /// As it was in a list register; empty when it comes from the distributor.
    pub(super) lr: Lr,
}

/// The best picks, sorted.
pub(super) struct Queue {
    picks: [Pick; MAX_LRS],
    pub(super) len: usize,
    pub(super) limit: usize,
    /// The best rank of what did not fit.
    pub(super) left_out: Option<u32>,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { picks: [Pick::default(); MAX_LRS], len: 0, limit: limit.min(MAX_LRS), left_out: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Pick> + '_ {
        self.picks.iter().take(self.len).copied()
    }

    pub(super) fn holds(&self, intid: Intid) -> bool {
        self.iter().any(|pick| pick.rank & 0xffff == intid.get())
    }

    /// Tells whether more is waiting than `capacity` list registers hold.
    pub(super) fn exceeds(&self, capacity: usize) -> bool {
        self.left_out.is_some() || self.len > capacity
    }

    /// Inserts in order; returns what falls out at the end.
    pub(super) fn insert(&mut self, pick: Pick) -> Option<Pick> {
        let mut carried = pick;
        for slot in self.picks.iter_mut().take(self.len) {
            if carried.rank < slot.rank {
                core::mem::swap(slot, &mut carried);
            }
        }
        if self.len < self.limit
            && let Some(slot) = self.picks.get_mut(self.len)
        {
            *slot = carried;
            self.len += 1;
            return None;
        }
        self.leave_out(carried.rank);
        Some(carried)
    }

    pub(super) fn leave_out(&mut self, rank: u32) {
        self.left_out = Some(self.left_out.map_or(rank, |best| best.min(rank)));
    }

    /// Takes the last ones out until `len` are left.
    pub(super) fn truncate(&mut self, len: usize) -> impl Iterator<Item = Pick> + use<> {
        let (picks, old) = (self.picks, self.len);
        self.len = old.min(len);
        if let Some(first) = picks.get(len).filter(|_| old > len) {
            self.leave_out(first.rank);
        }
        picks.into_iter().take(old).skip(len)
    }
}
