// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the registers of both frames and both architectures are laid out, and what a read of one gives.

use super::outcome::{Edit, Operation, VcpuMask};
use crate::mmio::Width;

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The value.
    Value(u64),
    /// A value to which list registers and hardware add.
    Live {
        /// What the distributor's own state says.
        known: u32,
        /// The interrupts in question.
        of: Edit,
        /// What else must be looked at.
        live: Live,
    },
    /// GICv2: the sources of SGIs from `first` on, one byte each, to which list registers add.
    Sources {
        /// What the distributor's own state says.
        known: u32,
        /// The first SGI.
        first: u32,
        /// How many SGIs.
        count: u32,
    },
}

/// What a read of pending or active state must look at besides the distributor's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub kind: Kind,
    /// Whether the own list registers and the physical distributor count.
    pub own: bool,
    /// Which interrupts have their pending state in the physical distributor.
    pub linked: u32,
    /// Whose list registers count.
    pub others: VcpuMask,
}

/// Which state is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pending,
    Active,
}

/// A register of the part of the map that both frames and both architectures share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// IGROUPR of a word.
    Group(usize),
    /// One of the six bit registers of a word.
    Bits(Operation, usize),
    /// IPRIORITYR: the first interrupt of the access.
    Priority(u32),
    /// ITARGETSR: the first interrupt of the access.
    Targets(u32),
    /// ICFGR: the first of 16 interrupts.
    Config(u32),
    /// Anything else.
    Other,
}

/// Implementer Arm, a product number of our own.
pub(super) const IIDR: u32 = 0x53 << 24 | 0x43b;

impl Register {
    /// Decodes an offset below 0x1000 for an access of this width.
    pub(super) fn decode(offset: u64, width: Width) -> Self {
        let word_wide = width == Width::Word && offset & 3 == 0;
        let byte_wide = word_wide || width == Width::Byte;
        let word = (offset >> 2 & 31) as usize;
        let first = (offset & 0x3ff) as u32;
        match (offset >> 7, word_wide, byte_wide) {
            (1, true, _) => Self::Group(word),
            (2, true, _) => Self::Bits(Operation::SetEnable, word),
            (3, true, _) => Self::Bits(Operation::ClearEnable, word),
            (4, true, _) => Self::Bits(Operation::SetPending, word),
            (5, true, _) => Self::Bits(Operation::ClearPending, word),
            (6, true, _) => Self::Bits(Operation::SetActive, word),
            (7, true, _) => Self::Bits(Operation::ClearActive, word),
            (8..=15, _, true) => Self::Priority(first),
            (16..=23, _, true) => Self::Targets(first),
            (24..=25, true, _) => Self::Config((offset as u32 & 0xff) << 2),
            _ => Self::Other,
        }
    }
}

impl Register {
    /// Returns the word of the interrupts it is about.
    pub(super) fn word(self) -> Option<usize> {
        match self {
            Self::Group(word) | Self::Bits(_, word) => Some(word),
            Self::Priority(first) | Self::Targets(first) | Self::Config(first) => Some(first as usize >> 5),
            Self::Other => None,
        }
    }
}

/// Returns one bit for each byte of an access.
pub(super) fn lanes(width: Width) -> u32 {
    match width {
        Width::Byte => 1,
        Width::Half => 3,
        Width::Word | Width::Double => 0xf,
    }
}

pub(super) fn lane_mask(width: Width) -> u32 {
    match width {
        Width::Byte => 0xff,
        Width::Half => 0xffff,
        Width::Word | Width::Double => !0,
    }
}

/// Reads the identification registers at the end of a frame: PIDR4-7, PIDR0-3, CIDR0-3.
pub(super) fn identification(offset: u64, pidr: [u8; 4], pidr4: u8) -> u32 {
    let cidr = [0x0d, 0xf0, 0x05, 0xb1];
    let table = [pidr4, 0, 0, 0].into_iter().chain(pidr).chain(cidr);
    let index = ((offset & 0xfff) - 0xfd0) >> 2;
    let aligned = offset & 3 == 0;
    table.into_iter().nth(index as usize).filter(|_| aligned).map_or(0, u32::from)
}
