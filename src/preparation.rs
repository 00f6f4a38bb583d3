// SPDX-License-Identifier: MIT OR Apache-2.0
//! In what steps a partition's memory is filled: what is zeroed, then what is copied from the bundle, then the device
//! tree. What an image or the tree covers is not zeroed first. A step is at most the rest of a 2 MiB block, so that the CPU
//! can look at its interrupts in between.

use crate::addr::{BLOCK_SIZE, Ipa, Pa, PaRange};
use crate::plan::PartitionPlan;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Zero this memory.
    Zero(PaRange),
    /// Fill this memory from the bundle, from byte `from` on.
    Copy {
        /// Where to.
        to: PaRange,
        /// Offset in the bundle.
        from: u64,
    },
    /// Clean this memory, which holds an image already.
    Clean(PaRange),
    /// Fill this memory from the device tree, from byte `from` on.
    Tree {
        /// Where to.
        to: PaRange,
        /// Offset in the blob.
        from: u64,
    },
}

/// The plan does not fit itself: something is loaded outside the partition's memory. A checked plan never gets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// How far a preparation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Zeroing piece `piece` of the memory from `offset`.
    Zero { piece: usize, offset: u64 },
    /// Copying file `index` of the load list from `offset`.
    Load { index: usize, offset: u64 },
    /// Writing the device tree from `offset`.
    Tree { offset: u64 },
}

/// The steps of one preparation.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    stage: Stage,
}

impl Steps {
    /// Begins.
    pub const fn new() -> Self {
        Self { stage: Stage::Zero { piece: 0, offset: 0 } }
    }

    /// Returns the next step; `None` when all is in place.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn next(&mut self, plan: &PartitionPlan) -> Result<Option<Step>, Unfit> {
        // Each turn returns or goes on in a finite list.
        loop {
            match self.stage {
                Stage::Zero { piece, offset } => {
                    let Some(memory) = plan.memory.get(piece) else {
                        self.stage = Stage::Load { index: 0, offset: 0 };
                        continue;
                    };
                    let at = memory.ipa.checked_add(offset).ok_or(Unfit)?;
                    let left = memory.size.saturating_sub(offset);
                    let covered = covered_from(plan, at).min(left);
                    if left == 0 {
                        self.stage = Stage::Zero { piece: piece.saturating_add(1), offset: 0 };
                    } else if covered != 0 {
                        self.stage = Stage::Zero { piece, offset: offset.saturating_add(covered) };
                    } else {
                        let start = memory.pa.checked_add(offset).ok_or(Unfit)?;
                        let size = bare_from(plan, at).min(left).min(reach(start));
                        self.stage = Stage::Zero { piece, offset: offset.saturating_add(size) };
                        return PaRange::new(start, size).map(|range| Some(Step::Zero(range))).ok_or(Unfit);
                    }
                }
                Stage::Load { index, offset } => {
                    let Some(item) = plan.load.get(index) else {
                        self.stage = Stage::Tree { offset: 0 };
                        continue;
                    };
                    let size = item.file.map_or(0, |file| file.size.min(item.range.size()));
                    let Some(file) = item.file.filter(|_| offset < size) else {
                        self.stage = Stage::Load { index: index.saturating_add(1), offset: 0 };
                        continue;
                    };
                    let to = target(plan, item.range.start(), offset, size)?;
                    let from = file.offset.checked_add(offset).ok_or(Unfit)?;
                    self.stage = Stage::Load { index, offset: offset.saturating_add(to.size()) };
                    return Ok(Some(if item.in_place { Step::Clean(to) } else { Step::Copy { to, from } }));
                }
                Stage::Tree { offset } => {
                    let size = plan.device_tree.as_ref().map_or(0, |tree| tree.blob.len() as u64);
                    let Some(tree) = plan.device_tree.as_ref().filter(|_| offset < size) else { return Ok(None) };
                    let to = target(plan, tree.ipa, offset, size)?;
                    self.stage = Stage::Tree { offset: offset.saturating_add(to.size()) };
                    return Ok(Some(Step::Tree { to, from: offset }));
                }
            }
        }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

/// What is copied: start and size of each image and of the device tree.
fn copies(plan: &PartitionPlan) -> impl Iterator<Item = (Ipa, u64)> {
    let files = plan.load.iter().filter_map(|item| Some((item.range.start(), item.file?.size.min(item.range.size()))));
    files.chain(plan.device_tree.iter().map(|tree| (tree.ipa, tree.blob.len() as u64)))
}

/// Returns how many bytes from `at` on one copy covers.
fn covered_from(plan: &PartitionPlan, at: Ipa) -> u64 {
    copies(plan).filter_map(|(start, size)| size.checked_sub(at.offset_from(start)?)).max().unwrap_or(0)
}

/// Returns how many bytes from `at` on no copy covers; `at` is not covered.
fn bare_from(plan: &PartitionPlan, at: Ipa) -> u64 {
    copies(plan).filter(|(_, size)| *size != 0).filter_map(|(start, _)| start.offset_from(at)).min().unwrap_or(u64::MAX)
}

/// Returns where bytes `offset` to `size` behind `start` go, as far as one step reaches.
fn target(plan: &PartitionPlan, start: Ipa, offset: u64, size: u64) -> Result<PaRange, Unfit> {
    let at = start.checked_add(offset).ok_or(Unfit)?;
    let piece = plan.memory.iter().find_map(|memory| {
        let into = at.offset_from(memory.ipa)?;
        let left = memory.size.checked_sub(into).filter(|left| *left != 0)?;
        Some((memory.pa.checked_add(into)?, left))
    });
    let (pa, left) = piece.ok_or(Unfit)?;
    PaRange::new(pa, left.min(size.saturating_sub(offset)).min(reach(pa))).ok_or(Unfit)
}

/// Returns how many bytes from an address on are in its 2 MiB block.
fn reach(pa: Pa) -> u64 {
    BLOCK_SIZE - pa.get() % BLOCK_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    use crate::addr::IpaRange;
    use crate::config::{BootOrder, Delivery, FaultPolicy, FileRange, Restart};
    use crate::id::{PartitionId, Vmid};
    use crate::plan::{GuestGic, LoadPlan, MemoryPlan, TreePlan};

    const RAM: u64 = 0x4000_0000;

    fn plan(memory: &[(u64, u64, u64)], load: &[(u64, u64, u64)], tree: Option<(u64, usize)>) -> PartitionPlan {
        let pieces =
            memory.iter().map(|(ipa, pa, size)| MemoryPlan { ipa: Ipa::new(*ipa), pa: Pa::new(*pa), size: *size });
        let item = |(at, size, from): &(u64, u64, u64)| LoadPlan {
            what: "kernel".into(),
            range: IpaRange::new(Ipa::new(*at), *size).unwrap(),
            file: Some(FileRange { offset: *from, size: *size }),
            in_place: false,
        };
        let nowhere = IpaRange::new(Ipa::new(0x1000), 0x1000).unwrap();
        PartitionPlan {
            id: PartitionId::new(0),
            name: "p".into(),
            vmid: Vmid::new(1),
            vcpus: Vec::new(),
            memory: pieces.collect(),
            mappings: Vec::new(),
            interrupts: Vec::new(),
            delivery: Delivery::Virtual,
            devices: Vec::new(),
            gic: GuestGic::V3 { distributor: nowhere, redistributors: nowhere },
            console: None,
            load: load.iter().map(item).collect(),
            entry: Ipa::new(RAM),
            device_tree: tree.map(|(at, size)| TreePlan { ipa: Ipa::new(at), blob: vec![7; size] }),
            on_fault: FaultPolicy::Stop,
            autostart: true,
            boot: BootOrder::Any,
            restart: Restart::Allowed,
        }
    }

    /// Carries the steps out on a memory that begins at `RAM`; the bundle's byte at offset n is n % 251 + 1.
    fn carry_out(plan: &PartitionPlan, size: usize) -> (Vec<u8>, Vec<u32>) {
        let (mut bytes, mut writes) = (vec![0xee; size], vec![0; size]);
        let mut steps = Steps::new();
        while let Some(step) = steps.next(plan).unwrap() {
            let (Step::Zero(to) | Step::Clean(to) | Step::Copy { to, .. } | Step::Tree { to, .. }) = step;
            assert!(to.start().get() / BLOCK_SIZE == (to.end().get() - 1) / BLOCK_SIZE);
            let start = usize::try_from(to.start().get() - RAM).unwrap();
            for at in start..start + usize::try_from(to.size()).unwrap() {
                writes[at] += 1;
                bytes[at] = match step {
                    Step::Zero(_) => 0,
                    Step::Copy { from, .. } => u8::try_from((from + (at - start) as u64) % 251 + 1).unwrap(),
                    Step::Clean(_) => bytes[at],
                    Step::Tree { .. } => 7,
                };
            }
        }
        (bytes, writes)
    }

    #[test]
    fn each_byte_is_written_once_by_what_belongs_there() {
        let size = 0x40_0000;
        let plan = plan(&[(RAM, RAM, size)], &[(RAM + 0x8_0000, 0x25_0123, 0x1000)], Some((RAM + 0x30_0000, 777)));
        let (bytes, writes) = carry_out(&plan, size as usize);
        assert!(writes.iter().all(|count| *count == 1));
        assert!(bytes[..0x8_0000].iter().all(|byte| *byte == 0));
        assert!(bytes[0x8_0000..0x2d_0123].iter().all(|byte| *byte != 0));
        assert!(bytes[0x2d_0123..0x30_0000].iter().all(|byte| *byte == 0));
        assert!(bytes[0x30_0000..][..777].iter().all(|byte| *byte == 7));
        assert!(bytes[0x30_0000 + 777..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn an_image_may_cover_pieces_that_lie_apart() {
        let memory = [(RAM, RAM + 0x10_0000, 0x8_0000), (RAM + 0x8_0000, RAM, 0x8_0000)];
        let plan = plan(&memory, &[(RAM + 0x7_f000, 0x2000, 0)], None);
        let (bytes, writes) = carry_out(&plan, 0x18_0000);
        assert_eq!(writes.iter().sum::<u32>(), 0x10_0000);
        assert_eq!(
            (bytes[0x17_efff], bytes[0x17_f000], bytes[0x17_ffff]),
            (0, 1, u8::try_from(0xfff % 251 + 1).unwrap())
        );
        assert_eq!(
            (bytes[0], bytes[0xfff], bytes[0x1000]),
            (u8::try_from(0x1000 % 251 + 1).unwrap(), u8::try_from(0x1fff % 251 + 1).unwrap(), 0)
        );
    }

    #[test]
    fn nothing_to_load_is_zeroed_in_blocks() {
        let plan = plan(&[(RAM, RAM + 0x1000, 0x40_0000)], &[], None);
        let mut steps = Steps::new();
        let mut sizes = Vec::new();
        while let Some(Step::Zero(range)) = steps.next(&plan).unwrap() {
            sizes.push(range.size());
        }
        assert_eq!(sizes, [0x1f_f000, 0x20_0000, 0x1000]);
    }

    #[test]
    fn an_image_in_place_is_cleaned_and_only_the_rest_of_its_page_is_zeroed() {
        let mut plan =
            plan(&[(RAM, RAM + 0x9000, 0x2000), (RAM + 0x2000, RAM, 0x1000)], &[(RAM, 0x1800, 0x1000)], None);
        plan.load[0].in_place = true;
        let mut steps = Steps::new();
        let range = |start, size| PaRange::new(Pa::new(start), size).unwrap();
        let expected = [
            Step::Zero(range(RAM + 0xa800, 0x800)),
            Step::Zero(range(RAM, 0x1000)),
            Step::Clean(range(RAM + 0x9000, 0x1800)),
        ];
        for step in expected {
            assert_eq!(steps.next(&plan), Ok(Some(step)));
        }
        assert_eq!(steps.next(&plan), Ok(None));
    }

    #[test]
    fn an_image_outside_memory_is_unfit() {
        let plan = plan(&[(RAM, RAM, 0x1000)], &[(RAM + 0x1000, 1, 0)], None);
        let mut steps = Steps::new();
        assert!(matches!(steps.next(&plan), Ok(Some(Step::Zero(_)))));
        assert_eq!(steps.next(&plan), Err(Unfit));
    }
}
