// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of 32 interrupts as atomics: one bank for each word of SPIs, and one for the SGIs and PPIs of each vCPU.
//!
//! A state bit says what the distributor knows. While an interrupt is in a list register, that register says the rest.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::lr::Lr;
use super::{Model, SGIS};
use crate::id::{Intid, VcpuId};

/// Nobody has the interrupt in a list register.
pub(super) const NOBODY: u8 = 0xff;

/// 32 interrupts. The vectors know where some of it stands (`short_way`).
#[repr(C)]
pub(super) struct Bank {
    /// The interrupt id of bit 0.
    pub first: u32,
    /// The vCPU whose private interrupts these are; `None` for SPIs.
    pub home: Option<VcpuId>,
    /// Which have a physical interrupt behind them, owned by the partition. For those a `latch` bit means: EL2 has
    /// acknowledged it, so that it is physically active, and it waits here for a list register.
    pub linked: u32,
    /// Which are edge-triggered after a reset.
    pub edge_at_reset: u32,
    /// Which there are: ids from 1020 on are none.
    pub exists: u32,
    /// Which can be enabled and disabled: all that exist, but for GICv2's SGIs.
    pub can_enable: u32,
    /// GICD_ISENABLER.
    pub enable: AtomicU32,
    /// Pending, remembered: an edge, or a write to ISPENDR.
    pub latch: AtomicU32,
    /// The level of an emulated device's line.
    pub line: AtomicU32,
    /// GICD_ICFGR, one bit an interrupt: set for edge.
    pub edge: AtomicU32,
    /// Active, and not in a list register.
    pub active: AtomicU32,
    /// For level-sensitive ones: what is pending in a list register came from ISPENDR, not from the line.
    pub soft: AtomicU32,
    /// Whose route names no vCPU.
    pub unrouted: AtomicU32,
    irqs: [Irq; 32],
}

/// What does not fit a bit. The vectors know the layout (`short_way`).
#[repr(C)]
pub(super) struct Irq {
    /// Identity and group as a list register wants them; no state, priority 0.
    pub(super) template: AtomicU64,
    /// GICv3: the affinity of IROUTER, Aff3 in bits 31:24. GICv2: ITARGETSR.
    pub route: AtomicU32,
    /// The vCPU that last had it in a list register, or `NOBODY`. May be stale: the owner may have ended it since.
    pub holder: AtomicU8,
    /// The priority, of which only the bits that a list register keeps are ever set.
    pub(super) priority: AtomicU8,
}

impl Irq {
    /// Returns identity, group and priority as a list register wants them; no state.
    #[inline(always)]
    pub fn template(&self) -> Lr {
        Lr::from_v3(self.template.load(SeqCst)).with_priority(self.priority.load(SeqCst))
    }

    /// Returns the group: 0 or 1.
    #[inline(always)]
    pub fn group(&self) -> u32 {
        Lr::from_v3(self.template.load(Relaxed)).group()
    }

    /// Changes the group. Nothing else of the template ever changes.
    pub fn set_group(&self, group: u32) {
        match group & 1 {
            0 => self.template.fetch_and(!Lr::EMPTY.with_group(1).to_v3(), SeqCst),
            _ => self.template.fetch_or(Lr::EMPTY.with_group(1).to_v3(), SeqCst),
        };
    }

    /// Returns the vCPU that has it in a list register, or had it last.
    pub fn holder(&self) -> Option<VcpuId> {
        match self.holder.load(SeqCst) {
            NOBODY => None,
            raw => Some(VcpuId::new(raw)),
        }
    }

    /// Takes it for a list register of `me`, or returns `false`: another vCPU has it.
    pub fn claim(&self, me: VcpuId) -> bool {
        match self.holder.compare_exchange(NOBODY, me.get(), SeqCst, SeqCst) {
            Ok(_) => true,
            Err(holder) => holder == me.get(),
        }
    }

    /// Notes that nobody has it, whoever had it last.
    pub fn forget_holder(&self) {
        self.holder.store(NOBODY, SeqCst);
    }

    /// Gives it back, if `me` has it.
    pub fn release(&self, me: VcpuId) {
        let _ = self.holder.compare_exchange(me.get(), NOBODY, SeqCst, SeqCst);
    }
}

impl Bank {
    /// Where the interrupts stand in a bank.
    pub const IRQS: usize = core::mem::offset_of!(Self, irqs);

    /// Makes the bank of word `word`, in the state of a reset but for routes.
    pub fn new(word: usize, home: Option<(Model, VcpuId)>, linked: u32, edge_at_reset: u32) -> Self {
        let first = (word as u32) << 5;
        let irq = |bit: usize| {
            let intid = Intid::new(first | bit as u32);
            let template = if linked >> bit & 1 == 1 { Lr::hardware(intid) } else { Lr::software(intid) };
            Irq {
                template: AtomicU64::new(template.to_v3()),
                route: AtomicU32::new(0),
                holder: AtomicU8::new(NOBODY),
                priority: AtomicU8::new(0),
            }
        };
        let exists = if first == 992 { 0x0fff_ffff } else { !0 };
        let always_enabled = if home.is_some_and(|(model, _)| model == Model::V2) { SGIS } else { 0 };
        Self {
            first,
            home: home.map(|(_, vcpu)| vcpu),
            exists,
            can_enable: exists & !always_enabled,
            linked,
            edge_at_reset,
            enable: AtomicU32::new(0),
            latch: AtomicU32::new(0),
            line: AtomicU32::new(0),
            edge: AtomicU32::new(edge_at_reset),
            active: AtomicU32::new(0),
            soft: AtomicU32::new(0),
            unrouted: AtomicU32::new(0),
            irqs: core::array::from_fn(irq),
        }
    }

    /// Returns to the state after a reset. `route` and `unrouted` are what routes are then.
    pub fn reset(&self, enable: u32, route: u32, unrouted: u32) {
        self.enable.store(enable, SeqCst);
        self.unrouted.store(unrouted, SeqCst);
        self.edge.store(self.edge_at_reset, SeqCst);
        for word in [&self.latch, &self.line, &self.active, &self.soft] {
            word.store(0, SeqCst);
        }
        for irq in &self.irqs {
            irq.set_group(0);
            irq.priority.store(0, SeqCst);
            irq.route.store(route, SeqCst);
            irq.holder.store(NOBODY, SeqCst);
        }
    }

    /// Returns the rest of the state of one interrupt.
    #[inline(always)]
    pub fn irq(&self, bit: u32) -> &Irq {
        // Cannot fail, which the compiler sees: the mask bounds the index.
        self.irqs.get(bit as usize & 31).unwrap_or(&self.irqs[0])
    }

    /// Walks the 32 interrupts in ascending order.
    pub fn irqs(&self) -> impl Iterator<Item = &Irq> {
        self.irqs.iter()
    }

    /// Returns which are pending here: remembered, or by a raised level-sensitive line.
    #[inline(always)]
    pub fn pending(&self) -> u32 {
        self.latch.load(SeqCst) | self.line.load(SeqCst) & !self.edge.load(SeqCst)
    }

    /// Returns which could be delivered if their group, their target and the list registers allow it.
    pub fn ready(&self) -> u32 {
        self.pending() & self.enable.load(SeqCst) & !self.active.load(SeqCst)
    }
}

/// Replaces a word by what `change` makes of it, in one step; not at all if that is `None`. Returns what it replaced.
pub(super) fn update(word: &AtomicU64, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    let mut old = word.load(SeqCst);
    loop {
        // Each failure means that another CPU of the partition has succeeded.
        match word.compare_exchange_weak(old, change(old)?, SeqCst, SeqCst) {
            Ok(old) => return Some(old),
            Err(now) => old = now,
        }
    }
}
