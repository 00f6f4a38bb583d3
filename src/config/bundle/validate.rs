// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a decoded manifest must satisfy before anyone reads it: counts in their limits, names that can be printed, and
//! files that lie in the bundle. Whether it fits a board is the planner's business.

use core::fmt;
use core::ops::Range;

use crate::addr::PAGE_SIZE;
use crate::config::{FaultPolicy, FileRange, Kernel, MAX_NAME_LEN, Manifest, Partition, Restart, is_valid_name};
use crate::id::{MAX_PARTITIONS, MAX_VCPUS, PartitionId};

/// What a manifest says that no configuration can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// No partition, or more than [`MAX_PARTITIONS`].
    PartitionCount {
        /// How many there are.
        count: usize,
    },
    /// A name has other characters, or another length, than a partition's name may have.
    Name {
        /// Whose.
        partition: PartitionId,
    },
    /// Two partitions have the same name.
    NameTwice {
        /// The one that has it.
        first: PartitionId,
        /// The one that has it too.
        second: PartitionId,
    },
    /// No CPU, or more than [`MAX_VCPUS`].
    CpuCount {
        /// Whose.
        partition: PartitionId,
        /// How many there are.
        count: usize,
    },
    /// A piece of RAM is empty or no whole number of pages.
    MemorySize {
        /// Whose.
        partition: PartitionId,
        /// Its size in bytes.
        size: u64,
    },
    /// A partition has no RAM, or a kernel without a segment.
    Empty {
        /// Whose.
        partition: PartitionId,
    },
    /// A segment occupies less memory than its file has bytes, or an image needs less than it has.
    ImageSize {
        /// Whose.
        partition: PartitionId,
    },
    /// A restart policy without an attempt.
    NoAttempts {
        /// Whose.
        partition: PartitionId,
    },
    /// It is to be restarted for a fault, and never.
    RestartNever {
        /// Whose.
        partition: PartitionId,
    },
    /// A file lies outside the bundle's files, is empty, or is not aligned to a page.
    File {
        /// Whose.
        partition: PartitionId,
        /// The range.
        file: FileRange,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartitionCount { count } => {
                write!(f, "{count} partitions, 1 to {MAX_PARTITIONS} are possible")
            }
            Self::Name { partition } => {
                write!(f, "{partition} has a name that is not 1 to {MAX_NAME_LEN} of a-z, 0-9, - and _")
            }
            Self::NameTwice { first, second } => {
                write!(f, "{first} and {second} have the same name")
            }
            Self::CpuCount { partition, count } => {
                write!(f, "{partition} has {count} CPUs, 1 to {MAX_VCPUS} are possible")
            }
            Self::MemorySize { partition, size } => {
                write!(f, "{partition} has a piece of RAM of {size:#x} bytes, no whole number of pages")
            }
            Self::Empty { partition } => write!(f, "{partition} has no RAM or no kernel"),
            Self::ImageSize { partition } => {
                write!(f, "{partition} has a kernel that is larger than it says")
            }
            Self::NoAttempts { partition } => write!(f, "{partition} is to be restarted 0 times"),
            Self::RestartNever { partition } => write!(f, "{partition} is to be restarted for a fault, and never"),
            Self::File { partition, file: FileRange { offset, size } } => {
                write!(f, "{partition} has a file of {size:#x} bytes at {offset:#x}, which is not in the bundle")
            }
        }
    }
}

/// Checks a manifest whose files must lie in `files`, in bytes from the bundle's start.
pub(super) fn manifest(manifest: &Manifest, files: &Range<u64>) -> Result<(), ManifestError> {
    let count = manifest.partitions.len();
    if count == 0 || count > MAX_PARTITIONS {
        return Err(ManifestError::PartitionCount { count });
    }
    for (partition, id) in manifest.partitions.iter().zip((0..=u8::MAX).map(PartitionId::new)) {
        if !is_valid_name(&partition.name) {
            return Err(ManifestError::Name { partition: id });
        }
        let before = manifest.partitions.iter().zip((0..id.get()).map(PartitionId::new));
        if let Some((_, first)) = before.into_iter().find(|(other, _)| other.name == partition.name) {
            return Err(ManifestError::NameTwice { first, second: id });
        }
        one_partition(partition, id, files)?;
    }
    Ok(())
}

fn one_partition(partition: &Partition, id: PartitionId, files: &Range<u64>) -> Result<(), ManifestError> {
    let count = partition.cpus.len();
    if count == 0 || count > MAX_VCPUS {
        return Err(ManifestError::CpuCount { partition: id, count });
    }
    if partition.memory.is_empty() {
        return Err(ManifestError::Empty { partition: id });
    }
    for piece in &partition.memory {
        if piece.size == 0 || !piece.size.is_multiple_of(PAGE_SIZE) {
            return Err(ManifestError::MemorySize { partition: id, size: piece.size });
        }
    }
    if matches!(partition.on_fault, FaultPolicy::Restart { attempts: 0, .. }) {
        return Err(ManifestError::NoAttempts { partition: id });
    }
    if partition.restart == Restart::Never && partition.on_fault != FaultPolicy::Stop {
        return Err(ManifestError::RestartNever { partition: id });
    }
    match &partition.kernel {
        Kernel::Image { file, image_size, .. } => {
            one_file(*file, id, files)?;
            if *image_size < file.size {
                return Err(ManifestError::ImageSize { partition: id });
            }
        }
        Kernel::Segments { segments, .. } => {
            if segments.is_empty() {
                return Err(ManifestError::Empty { partition: id });
            }
            for segment in segments {
                let size = match segment.file {
                    Some(file) => {
                        one_file(file, id, files)?;
                        file.size
                    }
                    None => 1,
                };
                if segment.memory_size < size {
                    return Err(ManifestError::ImageSize { partition: id });
                }
            }
        }
    }
    partition.initrd.map_or(Ok(()), |file| one_file(file, id, files))
}

fn one_file(file: FileRange, partition: PartitionId, files: &Range<u64>) -> Result<(), ManifestError> {
    let end = file.offset.checked_add(file.size);
    let inside = file.offset >= files.start && end.is_some_and(|end| end <= files.end);
    if file.size == 0 || !file.offset.is_multiple_of(PAGE_SIZE) || !inside {
        return Err(ManifestError::File { partition, file });
    }
    Ok(())
}
