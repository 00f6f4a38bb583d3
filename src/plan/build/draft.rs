// SPDX-License-Identifier: MIT OR Apache-2.0
//! A partition while it is planned, with all that was found wrong.

use alloc::string::String;
use alloc::vec::Vec;

use super::devices::Claim;
use super::memory::Piece;
use crate::config::Partition;
use crate::id::{Intid, PartitionId};
use crate::plan::error::{Key, Place, PlanError, Problem};
use crate::plan::types::DevicePlan;

/// A partition while it is planned.
pub(super) struct Draft<'a> {
    /// Its place in the configuration.
    pub(super) id: PartitionId,
    /// What its author wrote.
    pub(super) spec: &'a Partition,
    /// Its devices, as far as they were understood.
    pub(super) claims: Vec<Claim<'a>>,
    /// What else lies in its devices' pages.
    pub(super) tenants: Vec<DevicePlan>,
    /// Its memory, as far as it is stated.
    pub(super) pieces: Vec<Piece>,
    /// The SPI by which its emulated console interrupts with direct delivery.
    pub(super) spare: Option<Intid>,
    errors: Vec<PlanError>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(id: PartitionId, spec: &'a Partition) -> Self {
        let (claims, tenants, pieces, errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { id, spec, claims, tenants, pieces, spare: None, errors }
    }

    /// Returns the name for a message.
    pub(super) fn name(&self) -> String {
        self.spec.name.clone()
    }

    /// Tells whether nothing wrong was found.
    pub(super) fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }

    /// Tells whether something wrong was found at a key other than the table itself.
    pub(super) fn has_error_at(&self, key: Key) -> bool {
        key != Key::Table && self.errors.iter().any(|error| error.at.key == key)
    }

    pub(super) fn into_errors(self) -> Vec<PlanError> {
        self.errors
    }

    /// Returns a key of this partition.
    pub(super) fn place(&self, key: Key) -> Place {
        Place { partition: Some(self.id), key }
    }

    /// Records a problem of this partition alone.
    pub(super) fn fail(&mut self, key: Key, problem: Problem) {
        let at = self.place(key);
        self.record(PlanError { at, other: None, problem });
    }

    /// Records a problem once.
    fn record(&mut self, error: PlanError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Takes back that there was too little RAM.
    pub(super) fn forget_shortage(&mut self) {
        self.errors.retain(|error| !matches!(error.problem, Problem::OutOfMemory { .. }));
    }
}

/// Records a problem of two partitions with both.
pub(super) fn conflict(first: &mut Draft<'_>, key: Key, second: &mut Draft<'_>, second_key: Key, problem: Problem) {
    let (at, other) = (first.place(key), second.place(second_key));
    first.record(PlanError { at, other: Some(other), problem: problem.clone() });
    second.record(PlanError { at: other, other: Some(at), problem });
}

/// Calls a function with each two partitions, the one that stands first in the file first.
pub(super) fn each_pair<'a>(drafts: &mut [Draft<'a>], mut compare: impl FnMut(&mut Draft<'a>, &mut Draft<'a>)) {
    for index in 0..drafts.len() {
        let Some((first, rest)) = drafts.get_mut(index..).and_then(<[_]>::split_first_mut) else {
            return;
        };
        for second in rest {
            compare(first, second);
        }
    }
}
