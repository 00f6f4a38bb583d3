// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller of a partition whose interrupts arrive at its guest directly, as pure policy (GICv3 with one
//! security state, which the hypervisor splits itself).
//!
//! The guest is shown the Non-secure side of a GIC with two security states (Arm IHI 0069, 4.8 and 12.9): all of its
//! interrupts are in Group 1, its priorities are the lower half of the physical ones, and an interrupt that it does not
//! own is not there: its registers read as zero and ignore writes. So whatever a guest writes, no physical access names
//! an interrupt of somebody else, and none of its own becomes as urgent as the hypervisor's, which are in Group 0.
//!
//! State is in the physical registers. What they cannot hold is here: what the guest has enabled while it has
//! GICD_CTLR.EnableGrp1A off or while an SPI is routed to nobody, and routes as the guest wrote them. The shell lets one
//! vCPU at a time write, and carries out what is handed to it at once.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::outcome::{Operation, VcpuMask, bits};
use super::redistributor::{FRAME, STRIDE, rd_frame, sgi_frame_register};
use super::registers::{IIDR, Register, identification, lanes};
use super::{SGIS, SgiRegister};
use crate::id::{Intid, Mpidr, Trigger, VcpuId};
use crate::mmio::Width;
use crate::plan::InterruptPlan;

/// GICD_CTLR as its Non-secure side shows it: ARE_NS is always 1.
const ARE_NS: u32 = 1 << 4;
/// GICD_CTLR.EnableGrp1A.
const ENABLE_GROUP_1: u32 = 1 << 1;
/// ICC_CTLR_EL1.EOImode.
const EOI_MODE: u64 = 1 << 1;
/// ICC_CTLR_EL1.CBPR and PMHE, which the Non-secure side cannot have.
const SECURE_CONTROLS: u64 = 1 << 0 | 1 << 6;
/// ICC_RPR_EL1 when no interrupt is active.
const IDLE_PRIORITY: u64 = 0xff;

/// Returns the physical priority for one that a guest wrote: never below 0x80.
pub const fn physical_priority(seen: u8) -> u8 {
    0x80 | seen >> 1
}

/// Returns what a guest sees of a physical priority; those above its half read as 0.
pub const fn seen_priority(physical: u8) -> u8 {
    if physical < 0x80 { 0 } else { physical << 1 }
}

/// Returns what a guest sees of the running priority, ICC_RPR_EL1.
pub const fn seen_running_priority(physical: u64) -> u64 {
    if physical & 0xff == IDLE_PRIORITY { IDLE_PRIORITY } else { seen_priority(physical as u8) as u64 }
}

/// Returns what a guest sees of ICC_CTLR_EL1.
pub const fn seen_control(physical: u64) -> u64 {
    physical & !SECURE_CONTROLS
}

/// Returns ICC_CTLR_EL1 after a guest's write: EOImode is all that it can change.
pub const fn physical_control(physical: u64, written: u64) -> u64 {
    physical & !EOI_MODE | written & EOI_MODE
}

/// Tells whether the end of an interrupt only drops its priority, by ICC_CTLR_EL1.
pub const fn splits_eoi(control: u64) -> bool {
    control & EOI_MODE != 0
}

/// Which physical registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The distributor's: SPIs.
    Distributor,
    /// Those of the redistributor of this vCPU's CPU: SGIs and PPIs.
    Redistributor(VcpuId),
}

/// A physical access that a guest's write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write ones to a register of bits.
    Bits {
        /// Whose.
        frame: Frame,
        /// Which register. Disabling is in effect before what comes next.
        operation: Operation,
        /// Which 32 interrupts.
        word: usize,
        /// The ones.
        mask: u32,
    },
    /// Set the priority of an interrupt, one byte.
    Priority {
        /// Whose.
        frame: Frame,
        /// The interrupt.
        intid: Intid,
        /// The physical priority.
        priority: u8,
    },
    /// Set which SPIs of a word are edge-triggered.
    Config {
        /// Which 32 interrupts.
        word: usize,
        /// Those that change.
        mask: u32,
        /// Set for edge, clear for level.
        edge: u32,
    },
    /// Route an SPI to the CPU of a vCPU.
    Route {
        /// The interrupt.
        intid: Intid,
        /// The vCPU.
        vcpu: VcpuId,
    },
}

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The value.
    Value(u64),
    /// The bits of a physical register that are in a mask: ISPENDR or ISACTIVER.
    Bits {
        /// Whose.
        frame: Frame,
        /// [`Operation::SetPending`] or [`Operation::SetActive`].
        operation: Operation,
        /// Which 32 interrupts.
        word: usize,
        /// The bits.
        mask: u32,
    },
    /// The priorities of four interrupts; see [`Reading::priorities`].
    Priorities {
        /// Whose.
        frame: Frame,
        /// The first interrupt of the word of four.
        first: Intid,
        /// The byte with which the access begins.
        lane: u32,
        /// Its bytes that are the partition's, counted from `lane`.
        mask: u32,
    },
    /// How 16 SPIs signal: bits 1 of the fields of ICFGR that are in a mask.
    Config {
        /// The first interrupt.
        first: Intid,
        /// The bits of the register.
        mask: u32,
    },
}

impl Reading {
    /// Turns a word of physical priorities into what the guest sees.
    pub fn priorities(physical: u32, lane: u32, mask: u32) -> u64 {
        let byte = |n: u32| seen_priority((physical >> (8 * ((lane + n) & 3))) as u8);
        bits(mask & 0xf).fold(0, |value, n| value | u64::from(byte(n)) << (8 * n))
    }
}

/// An SGI that a guest sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sgi {
    /// Its id, 0 to 15.
    pub intid: Intid,
    /// The vCPUs that get it.
    pub targets: VcpuMask,
}

/// A partition's interrupt controller with direct delivery.
pub struct Direct {
    /// EnableGrp1A.
    groups: AtomicU32,
    /// SPIs, from word 1 on.
    spis: Box<[Word]>,
    /// Routes of the owned SPIs, ascending: Aff3 in bits 31:24.
    routes: Box<[(Intid, AtomicU32)]>,
    vcpus: Box<[Private]>,
    /// SGIs and PPIs that are the guest's, as bits of word 0.
    private: u32,
}

/// 32 SPIs.
struct Word {
    owned: u32,
    edge_at_reset: u32,
    /// Whose trigger the guest cannot change: spare ones.
    fixed: u32,
    /// What the guest has enabled.
    enable: AtomicU32,
}

/// One vCPU's.
struct Private {
    enable: AtomicU32,
    /// GICR_WAKER.ProcessorSleep.
    asleep: AtomicU32,
}

impl Direct {
    /// Makes a controller in its reset state. `spi_words` is the board's GICD_TYPER.ITLinesNumber, `linked_ppis` are the
    /// guest timers as bits of word 0, `owned` the SPIs that are the partition's, `spare` the one of them that an
    /// emulated console raises.
    pub fn new(
        vcpu_count: usize,
        spi_words: usize,
        linked_ppis: u32,
        owned: &[InterruptPlan],
        spare: Option<Intid>,
    ) -> Self {
        let is_there = |intid: Intid| intid.is_spi() && intid.index() >> 5 <= spi_words.min(31);
        let owned: Vec<InterruptPlan> = owned.iter().copied().filter(|line| is_there(line.intid)).collect();
        let mask = |word: usize, wanted: &dyn Fn(&InterruptPlan) -> bool| {
            let here = owned.iter().filter(|line| line.intid.index() >> 5 == word && wanted(line));
            here.fold(0, |mask, line| mask | 1 << (line.intid.get() & 31))
        };
        let word = |word: usize| Word {
            owned: mask(word, &|_| true),
            edge_at_reset: mask(word, &|line| line.trigger == Trigger::Edge),
            fixed: mask(word, &|line| spare == Some(line.intid)),
            enable: AtomicU32::new(0),
        };
        let mut ids: Vec<Intid> = owned.iter().map(|line| line.intid).collect();
        crate::order::sort(&mut ids);
        ids.dedup();
        let vcpu = |_| Private { enable: AtomicU32::new(0), asleep: AtomicU32::new(1) };
        Self {
            groups: AtomicU32::new(0),
            spis: (1..=spi_words.min(31)).map(word).collect(),
            routes: ids.into_iter().map(|intid| (intid, AtomicU32::new(0))).collect(),
            vcpus: (0..vcpu_count).map(vcpu).collect(),
            private: SGIS | linked_ppis & !SGIS,
        }
    }

    /// Returns to the reset state, for a partition whose vCPUs are all stopped, and hands out what puts the physical
    /// registers into theirs: disabled, not pending, not active, of the guest's highest priority, SPIs triggered as the
    /// tree says and routed to the first vCPU.
    pub fn reset(&self, mut sink: impl FnMut(Effect)) {
        self.groups.store(0, SeqCst);
        let mut clean = |frame, word, mask: u32| {
            for operation in [Operation::ClearEnable, Operation::ClearPending, Operation::ClearActive] {
                sink(Effect::Bits { frame, operation, word, mask });
            }
            for bit in bits(mask) {
                let intid = Intid::new(word as u32 * 32 + bit);
                sink(Effect::Priority { frame, intid, priority: physical_priority(0) });
            }
        };
        for (id, vcpu) in (0..).map(VcpuId::new).zip(&self.vcpus) {
            vcpu.enable.store(0, SeqCst);
            vcpu.asleep.store(1, SeqCst);
            clean(Frame::Redistributor(id), 0, self.private);
        }
        for (word, spis) in (1..).zip(&self.spis).filter(|(_, spis)| spis.owned != 0) {
            spis.enable.store(0, SeqCst);
            clean(Frame::Distributor, word, spis.owned);
        }
        for (word, spis) in (1..).zip(&self.spis).filter(|(_, spis)| spis.owned != 0) {
            sink(Effect::Config { word, mask: spis.owned, edge: spis.edge_at_reset });
        }
        for (intid, route) in &self.routes {
            route.store(0, SeqCst);
            sink(Effect::Route { intid: *intid, vcpu: VcpuId::new(0) });
        }
    }

    /// Tells whether a vCPU may deactivate the interrupt: one of its own SGIs and PPIs, or an SPI of the partition.
    pub fn owns(&self, intid: Intid) -> bool {
        let (word, bit) = (intid.index() >> 5, intid.get() & 31);
        self.owned(word) >> bit & 1 == 1
    }

    /// Walks the words of SPIs that the partition owns any of.
    pub fn owned_words(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        (1..).zip(&self.spis).map(|(word, spis)| (word, spis.owned)).filter(|(_, owned)| *owned != 0)
    }

    /// Returns the SGI of a write to one of the registers that send them. The Non-secure side can send Group 1 alone.
    pub fn sgi(&self, me: VcpuId, register: SgiRegister, value: u64) -> Option<Sgi> {
        if register != SgiRegister::Sgi1 {
            return None;
        }
        let intid = Intid::new((value >> 24 & 0xf) as u32);
        let all = self.vcpus.len() as u8;
        let targets = if value >> 40 & 1 == 1 {
            (0..all).map(VcpuId::new).filter(|vcpu| *vcpu != me).fold(VcpuMask::NONE, VcpuMask::with)
        } else {
            let range = (value >> 44 & 0xf) << 4;
            let cluster = (value >> 48 & 0xff) << 32 | (value >> 32 & 0xff) << 16 | (value >> 16 & 0xff) << 8;
            let listed = bits((value & 0xffff) as u32).map(|bit| Mpidr::new(cluster | range | u64::from(bit)));
            let there = listed.filter_map(Mpidr::to_vcpu).filter(|vcpu| vcpu.get() < all);
            there.fold(VcpuMask::NONE, VcpuMask::with)
        };
        Some(Sgi { intid, targets })
    }

    /// Writes a register of the distributor.
    pub fn write_distributor(&self, offset: u64, width: Width, value: u64, mut sink: impl FnMut(Effect)) {
        if (0x6100..0x8000).contains(&offset) {
            return self.write_route(offset, width, value, &mut sink);
        }
        if offset == 0 && width == Width::Word {
            return self.write_groups(value as u32 & ENABLE_GROUP_1, &mut sink);
        }
        if offset < 0x1000 {
            let register = Register::decode(offset, width);
            if register.word() != Some(0) {
                self.write(Frame::Distributor, register, width, value as u32, &mut sink);
            }
        }
    }

    /// Reads a register of the distributor.
    pub fn read_distributor(&self, offset: u64, width: Width) -> Reading {
        if (0x6100..0x8000).contains(&offset) {
            return Reading::Value(self.read_route(offset, width));
        }
        let register = if offset < 0x1000 { Register::decode(offset, width) } else { Register::Other };
        match register {
            Register::Other if width == Width::Word => Reading::Value(self.read_constant(offset).into()),
            register if register.word() == Some(0) => Reading::Value(0),
            register => self.read(Frame::Distributor, register, width),
        }
    }

    /// Writes a register of the redistributors; `offset` counts from the first vCPU's RD frame.
    pub fn write_redistributor(&self, offset: u64, width: Width, value: u64, mut sink: impl FnMut(Effect)) {
        let Some((who, vcpu)) = self.redistributor(offset) else { return };
        match (offset % STRIDE).checked_sub(FRAME) {
            None if offset % STRIDE == 0x14 && width == Width::Word => {
                vcpu.asleep.store(value as u32 >> 1 & 1, SeqCst);
            }
            None => {}
            Some(offset) => {
                if let Some(register) = sgi_frame_register(offset, width) {
                    self.write(Frame::Redistributor(who), register, width, value as u32, &mut sink);
                }
            }
        }
    }

    /// Reads a register of the redistributors.
    pub fn read_redistributor(&self, offset: u64, width: Width) -> Reading {
        let Some((who, vcpu)) = self.redistributor(offset) else { return Reading::Value(0) };
        match (offset % STRIDE).checked_sub(FRAME) {
            None => {
                let asleep = vcpu.asleep.load(SeqCst);
                Reading::Value(rd_frame(who, self.vcpus.len(), asleep, offset % STRIDE, width))
            }
            Some(offset) => sgi_frame_register(offset, width)
                .map_or(Reading::Value(0), |register| self.read(Frame::Redistributor(who), register, width)),
        }
    }

    fn redistributor(&self, offset: u64) -> Option<(VcpuId, &Private)> {
        let index = u8::try_from(offset / STRIDE).ok()?;
        Some((VcpuId::new(index), self.vcpus.get(usize::from(index))?))
    }

    /// Returns which interrupts of a word are the partition's.
    fn owned(&self, word: usize) -> u32 {
        match word.checked_sub(1) {
            None => self.private,
            Some(spi) => self.spis.get(spi).map_or(0, |spis| spis.owned),
        }
    }

    /// Returns what the guest has enabled of a word.
    fn enabled(&self, frame: Frame, word: usize) -> Option<&AtomicU32> {
        match frame {
            Frame::Redistributor(who) => self.vcpus.get(who.index()).map(|vcpu| &vcpu.enable),
            Frame::Distributor => self.spis.get(word.checked_sub(1)?).map(|spis| &spis.enable),
        }
    }

    /// Returns which of `mask` are enabled physically: those that the guest has enabled while it takes its group, and that
    /// have somewhere to go.
    fn deliverable(&self, frame: Frame, word: usize, mask: u32) -> u32 {
        let enabled = self.enabled(frame, word).map_or(0, |enable| enable.load(SeqCst)) & mask;
        if self.groups.load(SeqCst) == 0 {
            return 0;
        }
        match frame {
            Frame::Redistributor(_) => enabled,
            Frame::Distributor => bits(enabled)
                .filter(|bit| self.target(Intid::new(word as u32 * 32 + bit)).is_some())
                .fold(0, |all, bit| all | 1 << bit),
        }
    }

    fn route(&self, intid: Intid) -> Option<&AtomicU32> {
        let place = self.routes.binary_search_by_key(&intid, |(id, _)| *id).ok()?;
        self.routes.get(place).map(|(_, route)| route)
    }

    /// Returns the vCPU that an SPI goes to.
    fn target(&self, intid: Intid) -> Option<VcpuId> {
        let route = self.route(intid)?.load(SeqCst);
        let vcpu = Mpidr::new(u64::from(route & 0xff_ffff) | u64::from(route >> 24) << 32).to_vcpu()?;
        (vcpu.index() < self.vcpus.len()).then_some(vcpu)
    }

    fn write_groups(&self, groups: u32, sink: &mut impl FnMut(Effect)) {
        if self.groups.swap(groups, SeqCst) == groups {
            return;
        }
        let private =
            (0..).map(VcpuId::new).zip(&self.vcpus).map(|(id, _)| (Frame::Redistributor(id), 0, self.private));
        let shared = self.owned_words().map(|(word, owned)| (Frame::Distributor, word, owned));
        for (frame, word, owned) in private.chain(shared) {
            let (operation, mask) = match groups {
                0 => (Operation::ClearEnable, owned),
                _ => (Operation::SetEnable, self.deliverable(frame, word, owned)),
            };
            if mask != 0 {
                sink(Effect::Bits { frame, operation, word, mask });
            }
        }
    }

    fn write(&self, frame: Frame, register: Register, width: Width, value: u32, sink: &mut impl FnMut(Effect)) {
        let Some(word) = register.word() else { return };
        let owned = self.owned(word);
        match register {
            Register::Bits(operation, _) => self.operate(frame, operation, word, value & owned, sink),
            Register::Priority(first) => {
                for n in bits(lanes(width)).filter(|n| owned >> ((first & 31) + n) & 1 == 1) {
                    let priority = physical_priority((value >> (8 * n)) as u8);
                    sink(Effect::Priority { frame, intid: Intid::new(first + n), priority });
                }
            }
            Register::Config(first) => {
                let fixed = word.checked_sub(1).and_then(|spi| self.spis.get(spi)).map_or(!0, |spis| spis.fixed);
                let shift = first & 31;
                let mask = (0xffff << shift) & owned & !fixed;
                let edge = (0..16).fold(0, |edge, n| edge | (value >> (2 * n + 1) & 1) << n) << shift & mask;
                // A trigger may only be changed while the interrupt is disabled (IHI 0069, GICD_ICFGR).
                let meanwhile = self.deliverable(frame, word, mask);
                let mut bits = |operation| {
                    if meanwhile != 0 {
                        sink(Effect::Bits { frame, operation, word, mask: meanwhile });
                    }
                };
                bits(Operation::ClearEnable);
                if mask != 0 {
                    sink(Effect::Config { word, mask, edge });
                }
                if meanwhile != 0 {
                    sink(Effect::Bits { frame, operation: Operation::SetEnable, word, mask: meanwhile });
                }
            }
            // All are in Group 1 of the Non-secure side; GICv3 has no targets.
            Register::Group(_) | Register::Targets(_) | Register::Other => {}
        }
    }

    fn operate(&self, frame: Frame, operation: Operation, word: usize, mask: u32, sink: &mut impl FnMut(Effect)) {
        let physical = match operation {
            Operation::Review => 0,
            Operation::SetEnable => {
                if let Some(enable) = self.enabled(frame, word) {
                    enable.fetch_or(mask, SeqCst);
                }
                self.deliverable(frame, word, mask)
            }
            Operation::ClearEnable => {
                if let Some(enable) = self.enabled(frame, word) {
                    enable.fetch_and(!mask, SeqCst);
                }
                mask
            }
            Operation::SetPending | Operation::ClearPending | Operation::SetActive | Operation::ClearActive => mask,
        };
        if physical != 0 {
            sink(Effect::Bits { frame, operation, word, mask: physical });
        }
    }

    fn read(&self, frame: Frame, register: Register, width: Width) -> Reading {
        let Some(word) = register.word() else { return Reading::Value(0) };
        let owned = self.owned(word);
        match register {
            Register::Bits(operation, _) => match operation {
                Operation::SetEnable | Operation::ClearEnable => {
                    Reading::Value(self.enabled(frame, word).map_or(0, |enable| enable.load(SeqCst)).into())
                }
                Operation::SetPending | Operation::ClearPending => {
                    Reading::Bits { frame, operation: Operation::SetPending, word, mask: owned }
                }
                Operation::SetActive | Operation::ClearActive => {
                    Reading::Bits { frame, operation: Operation::SetActive, word, mask: owned }
                }
                Operation::Review => Reading::Value(0),
            },
            Register::Priority(first) => Reading::Priorities {
                frame,
                first: Intid::new(first & !3),
                lane: first & 3,
                mask: lanes(width) & owned >> (first & 31),
            },
            // SGIs are edge-triggered, the timers are not.
            Register::Config(0) => Reading::Value(0xaaaa_aaaa),
            Register::Config(16) => Reading::Value(0),
            Register::Config(first) => Reading::Config {
                first: Intid::new(first),
                mask: bits(owned >> (first & 31) & 0xffff).fold(0, |mask, n| mask | 2 << (2 * n)),
            },
            Register::Group(_) | Register::Targets(_) | Register::Other => Reading::Value(0),
        }
    }

    fn write_route(&self, offset: u64, width: Width, value: u64, sink: &mut impl FnMut(Effect)) {
        let intid = Intid::new((offset >> 3) as u32 & 0x3ff);
        let Some(route) = self.route(intid) else { return };
        let old = route.load(SeqCst);
        let (low, high) = (value as u32 & 0xff_ffff, ((value >> 32) as u32 & 0xff) << 24);
        let new = match (width, offset & 7) {
            (Width::Double, 0) => low | high,
            (Width::Word, 0) => low | old & 0xff00_0000,
            (Width::Word, 4) => old & 0xff_ffff | (value as u32 & 0xff) << 24,
            _ => return,
        };
        let (frame, word, mask) = (Frame::Distributor, intid.index() >> 5, 1 << (intid.get() & 31));
        sink(Effect::Bits { frame, operation: Operation::ClearEnable, word, mask });
        route.store(new, SeqCst);
        if let Some(vcpu) = self.target(intid) {
            sink(Effect::Route { intid, vcpu });
        }
        let mask = self.deliverable(frame, word, mask);
        if mask != 0 {
            sink(Effect::Bits { frame, operation: Operation::SetEnable, word, mask });
        }
    }

    fn read_route(&self, offset: u64, width: Width) -> u64 {
        let route = self.route(Intid::new((offset >> 3) as u32 & 0x3ff)).map_or(0, |route| route.load(SeqCst));
        match (width, offset & 7) {
            (Width::Double, 0) => u64::from(route & 0xff_ffff) | u64::from(route >> 24) << 32,
            (Width::Word, 0) => u64::from(route & 0xff_ffff),
            (Width::Word, 4) => u64::from(route >> 24),
            _ => 0,
        }
    }

    fn read_constant(&self, offset: u64) -> u32 {
        match offset {
            0 => ARE_NS | self.groups.load(SeqCst),
            // Two security states, 10 id bits, any Aff3, no 1-of-N routing.
            4 => self.spis.len() as u32 | 1 << 10 | 9 << 19 | 1 << 24 | 1 << 25,
            8 => IIDR,
            0xffd0..=0xffff => identification(offset, [0x92, 0xb4, 0x3b, 0x00], 0x44),
            _ => 0,
        }
    }
}
