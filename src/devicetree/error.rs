// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a blob and with what it says.

use alloc::string::String;
use core::fmt;

use super::blob::{MAX_DEPTH, MAX_SIZE};

/// A block of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The memory reservation block.
    Reservations,
    /// The structure block.
    Structure,
    /// The strings block.
    Strings,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reservations => "memory reservation block",
            Self::Structure => "structure block",
            Self::Strings => "strings block",
        })
    }
}

/// Why a blob was refused. Offsets count from the start of the structure block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// Fewer bytes than the content needs.
    TooShort {
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        given: u64,
    },
    /// The first word is not 0xd00dfeed.
    BadMagic {
        /// The word.
        found: u32,
    },
    /// A version that this reader does not know.
    UnsupportedVersion {
        /// The header's version.
        version: u32,
        /// The header's last compatible version.
        last_compatible: u32,
    },
    /// More content than [`MAX_SIZE`].
    TooLarge {
        /// The content in bytes.
        size: u64,
    },
    /// A block does not lie inside the blob.
    BlockOutside {
        /// The block.
        block: Block,
    },
    /// A block's offset is not aligned as the format demands.
    Misaligned {
        /// The block.
        block: Block,
    },
    /// The memory reservation block has no end.
    ReservationsWithoutEnd,
    /// An entry of the memory reservation block passes the end of the address space.
    BadReservation {
        /// Its address.
        address: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The structure block ends within something.
    Truncated {
        /// Where that begins.
        offset: usize,
    },
    /// A token that does not exist or has no place here.
    BadToken {
        /// Where it is.
        offset: usize,
        /// The token.
        token: u32,
    },
    /// A name is empty, too long, unterminated or not printable ASCII.
    BadName {
        /// Where its token is.
        offset: usize,
    },
    /// Nodes are nested deeper than [`MAX_DEPTH`].
    TooDeep {
        /// Where the first too deep node is.
        offset: usize,
    },
    /// A property stands behind a child node.
    PropertyAfterChild {
        /// Where the property is.
        offset: usize,
    },
    /// There is no root, or more than one, or it is not closed.
    NotOneRoot {
        /// Where that was found.
        offset: usize,
    },
    /// Two nodes have the same path.
    DuplicateNode {
        /// The path.
        path: String,
    },
    /// A node has two properties of one name.
    DuplicateProperty {
        /// The node.
        path: String,
        /// The property.
        property: String,
    },
    /// Two nodes have the same phandle.
    DuplicatePhandle {
        /// The phandle.
        phandle: u32,
        /// The later node.
        path: String,
    },
    /// A child of /reserved-memory cannot be understood, so what it protects is unknown.
    BadReservedMemory(ReadError),
    /// The `fdt` crate read something else than this module wrote: a defect of ours.
    Inconsistent,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("device tree: ")?;
        match self {
            Self::TooShort { needed, given } => {
                write!(f, "{needed} bytes needed, only {given} there")
            }
            Self::BadMagic { found } => write!(f, "magic is {found:#x}, not 0xd00dfeed"),
            Self::UnsupportedVersion { version, last_compatible } => {
                write!(f, "version {version} (compatible down to {last_compatible}) is not supported, 16 and 17 are")
            }
            Self::TooLarge { size } => write!(f, "{size} bytes of content, at most {MAX_SIZE} are supported"),
            Self::BlockOutside { block } => write!(f, "the {block} lies outside the blob"),
            Self::Misaligned { block } => write!(f, "the {block} is misaligned"),
            Self::ReservationsWithoutEnd => f.write_str("the memory reservation block has no end"),
            Self::BadReservation { address, size } => {
                write!(f, "memory reservation at {address:#x} of {size:#x} bytes passes the end of the address space")
            }
            Self::Truncated { offset } => write!(f, "the structure block ends within the token at {offset:#x}"),
            Self::BadToken { offset, token } => {
                write!(f, "token {token:#x} at {offset:#x} has no place there")
            }
            Self::BadName { offset } => write!(f, "the name at {offset:#x} is no legal name"),
            Self::TooDeep { offset } => write!(f, "the node at {offset:#x} is deeper than {MAX_DEPTH} levels"),
            Self::PropertyAfterChild { offset } => {
                write!(f, "the property at {offset:#x} stands behind a child node")
            }
            Self::NotOneRoot { offset } => {
                write!(f, "not exactly one complete root node, seen at {offset:#x}")
            }
            Self::DuplicateNode { path } => write!(f, "{path} exists twice"),
            Self::DuplicateProperty { path, property } => {
                write!(f, "{path} has two properties `{property}`")
            }
            Self::DuplicatePhandle { phandle, path } => {
                write!(f, "phandle {phandle:#x} of {path} belongs to another node too")
            }
            Self::BadReservedMemory(error) => write!(f, "reserved memory cannot be read: {error}"),
            Self::Inconsistent => f.write_str("two readings of the blob differ; please report this"),
        }
    }
}

impl core::error::Error for TreeError {}

/// Why a property could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Its length does not fit what it should hold, or a number in it is out of range.
    Malformed {
        /// The node.
        path: String,
        /// The property.
        property: &'static str,
    },
    /// It has more entries than [`super::MAX_ENTRIES`].
    TooManyEntries {
        /// The node.
        path: String,
        /// The property.
        property: &'static str,
    },
    /// A `#...-cells` property holds a number that is not supported.
    UnsupportedCells {
        /// The node with that property.
        path: String,
        /// The property.
        property: &'static str,
        /// Its value.
        cells: u32,
    },
    /// The CPU cannot reach an address of the node: a bus above it has no `ranges`, or none that holds the address.
    NotTranslatable {
        /// The node.
        path: String,
        /// The bus.
        bus: String,
        /// The address on that bus.
        address: u64,
    },
    /// The node has interrupts, and neither it nor an ancestor has an interrupt parent.
    NoInterruptParent {
        /// The node.
        path: String,
    },
    /// No node has this phandle.
    UnknownPhandle {
        /// The node that uses it.
        path: String,
        /// The property that uses it.
        property: &'static str,
        /// The phandle.
        phandle: u32,
    },
    /// An interrupt leads to a node that is neither an interrupt controller nor has an `interrupt-map`.
    NotAController {
        /// That node.
        path: String,
    },
    /// An interrupt has no entry in the `interrupt-map` that it leads to.
    NotMapped {
        /// The node with the interrupt.
        path: String,
        /// The node with the map.
        nexus: String,
    },
    /// Interrupt parents or maps go round in a circle.
    EndlessInterruptRoute {
        /// The node with the interrupt.
        path: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { path, property } => write!(f, "{path}: `{property}` is malformed"),
            Self::TooManyEntries { path, property } => {
                write!(f, "{path}: `{property}` has more than {} entries", super::MAX_ENTRIES)
            }
            Self::UnsupportedCells { path, property, cells } => {
                write!(f, "{path}: `{property}` of {cells} is not supported")
            }
            Self::NotTranslatable { path, bus, address } => {
                write!(f, "{path}: address {address:#x} on {bus} is not mapped to the CPU's address space")
            }
            Self::NoInterruptParent { path } => {
                write!(f, "{path}: has interrupts but no interrupt parent")
            }
            Self::UnknownPhandle { path, property, phandle } => {
                write!(f, "{path}: `{property}` names phandle {phandle:#x}, which no node has")
            }
            Self::NotAController { path } => {
                write!(f, "{path}: interrupts lead here, but it is no interrupt controller and has no `interrupt-map`")
            }
            Self::NotMapped { path, nexus } => {
                write!(f, "{path}: its interrupt is not in the `interrupt-map` of {nexus}")
            }
            Self::EndlessInterruptRoute { path } => {
                write!(f, "{path}: its interrupt never reaches a controller")
            }
        }
    }
}

impl core::error::Error for ReadError {}
