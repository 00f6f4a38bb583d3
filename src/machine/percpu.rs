// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each CPU has for itself. TPIDR_EL2 points to it.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::partition::Partition;
use super::prepare::Preparation;
use crate::addr::{Ipa, IpaRange, Pa, Va};
use crate::arch::cpu::Features;
use crate::arch::mmu::Window;
use crate::config::Delivery;
use crate::exit::{ExitCounters, ExitReason};
use crate::fault::{RateLimiter, RecordRing};
use crate::id::{CpuId, Mpidr, VcpuId};
use crate::irqchip;
use crate::plan::GuestGic;
use crate::vgic::CpuInterface;
use crate::vgic::short_way::BANK_SIZE;
use crate::{read_sysreg, write_sysreg};

/// A reason to look up from the guest; bits of [`PerCpu::mail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// The partition's life cycle changed: a start, a CPU_ON or a stop.
    Lifecycle,
    /// An interrupt of the vCPU was raised or recalled elsewhere.
    Interrupts,
    /// There is something to print or to answer (housekeeping CPU only).
    Housekeeping,
}

impl Mail {
    const fn bit(self) -> u32 {
        match self {
            Self::Lifecycle => 1,
            Self::Interrupts => 2,
            Self::Housekeeping => 4,
        }
    }
}

/// Mail that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Mails(u32);

impl Mails {
    /// Tells whether this kind was among them.
    pub const fn has(self, mail: Mail) -> bool {
        self.0 & mail.bit() != 0
    }
}

/// The vCPU that a CPU is dedicated to.
#[derive(Clone, Copy)]
pub struct Role {
    /// Its partition.
    pub partition: &'static Partition,
    /// Its id there.
    pub vcpu: VcpuId,
    /// Where the guest finds its distributor.
    pub distributor: Frame,
    /// Where it finds the redistributors of its vCPUs; nowhere with GICv2.
    pub redistributors: Frame,
}

/// A frame of emulated registers in guest-physical memory.
#[derive(Clone, Copy)]
pub struct Frame {
    start: u64,
    size: u64,
}

impl Frame {
    fn of(range: Option<IpaRange>) -> Self {
        range.map_or(Self { start: 0, size: 0 }, |range| Self { start: range.start().get(), size: range.size() })
    }

    /// Tells whether there is no such frame.
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.size == 0
    }

    /// Returns how far into the frame an address is, if it is in it.
    #[inline(always)]
    pub fn offset(&self, ipa: Ipa) -> Option<u64> {
        let offset = ipa.get().wrapping_sub(self.start);
        (offset < self.size).then_some(offset)
    }
}

impl Role {
    /// Makes the role of a vCPU.
    pub fn new(partition: &'static Partition, vcpu: VcpuId) -> Self {
        let (distributor, redistributors) = match partition.plan.gic {
            GuestGic::V2 { distributor, .. } => (distributor, None),
            GuestGic::V3 { distributor, redistributors } => (distributor, Some(redistributors)),
        };
        Self { partition, vcpu, distributor: Frame::of(Some(distributor)), redistributors: Frame::of(redistributors) }
    }
}

/// What the vectors read, at the start of [`PerCpu`]. All but the stack is set before the CPU runs a guest.
#[repr(C)]
pub struct Hot {
    emergency_stack_top: u64,
    /// The bank of the vCPU's own interrupts.
    private: AtomicPtr<u8>,
    /// Where the bank of word 0 would stand before those of the SPIs.
    spis: AtomicPtr<u8>,
    /// GICD_CTLR's group enables of the partition.
    groups: AtomicPtr<AtomicU32>,
    /// The words of SPIs.
    spi_words: AtomicU32,
    /// The frames of a GICv2.
    gicd: AtomicU64,
    gicc: AtomicU64,
    /// GICC_DIR.
    gicc_dir: AtomicU64,
    gich: AtomicU64,
}

impl Hot {
    /// Where the vectors find the stack for EL2's own faults.
    pub const EMERGENCY_STACK_TOP: usize = offset_of!(Self, emergency_stack_top);
    /// ... the bank of the vCPU's own interrupts.
    pub const PRIVATE: usize = offset_of!(Self, private);
    /// ... those of the SPIs.
    pub const SPIS: usize = offset_of!(Self, spis);
    /// ... how many words of SPIs there are.
    pub const SPI_WORDS: usize = offset_of!(Self, spi_words);
    /// ... which groups are enabled.
    pub const GROUPS: usize = offset_of!(Self, groups);
    /// ... GICC.
    pub const GICC: usize = offset_of!(Self, gicc);
    /// ... GICC_DIR.
    pub const GICC_DIR: usize = offset_of!(Self, gicc_dir);
    /// ... GICH.
    pub const GICH: usize = offset_of!(Self, gich);
}

/// A partition of nobody: no group is enabled. For CPUs without a vCPU.
static NO_GROUPS: AtomicU32 = AtomicU32::new(0);

/// What a CPU alone touches, between exits and in them.
pub struct Local {
    /// The shadow of the virtual CPU interface.
    pub interface: CpuInterface,
    /// This CPU's way to guest memory.
    pub window: Window,
    /// The preparation of the partition that this CPU works on.
    pub preparation: Option<Preparation>,
    /// Progress of a clean by set and way.
    pub set_way: super::setway::Progress,
    /// What this CPU has: the clusters of a board differ in breakpoints, for one.
    pub features: Features,
    /// How many records it may leave.
    pub records: RateLimiter,
}

/// One CPU's data.
#[repr(C)]
pub struct PerCpu {
    hot: Hot,
    stack_top: Va,
    /// Its place in the tree.
    pub id: CpuId,
    /// Its affinity.
    pub mpidr: Mpidr,
    role: UnsafeCell<Option<Role>>,
    /// The same, where `vgic` is its guest's interrupt controller.
    virtual_role: UnsafeCell<Option<Role>>,
    port: spin::Once<irqchip::Port>,
    failure: spin::Once<irqchip::InitError>,
    mail: AtomicU32,
    online: AtomicBool,
    /// Exits of its vCPU.
    pub counters: ExitCounters,
    /// What it has to report; the housekeeping CPU reads it.
    pub records: RecordRing,
    local: UnsafeCell<Local>,
}

// SAFETY: `local` is touched by the CPU itself only (see `local`), the roles are not written any more when there is more
// than one CPU (see `dedicate`); the rest is atomic or immutable.
unsafe impl Sync for PerCpu {}

impl PerCpu {
    /// Where the vectors find which priorities may take the short way into a list register.
    pub const SHORT_WAY_BELOW: usize =
        offset_of!(Self, local) + offset_of!(Local, interface) + CpuInterface::SHORT_WAY_BELOW;
    /// ... which groups may.
    pub const SHORT_WAY_GROUPS: usize =
        offset_of!(Self, local) + offset_of!(Local, interface) + CpuInterface::SHORT_WAY_GROUPS;
    /// ... which list registers must be free for an SGI to take it.
    pub const LRS_FOR_SGI: usize = offset_of!(Self, local) + offset_of!(Local, interface) + CpuInterface::LRS_FOR_SGI;
    /// ... the counter of interrupts.
    pub const IRQ_COUNT: usize = offset_of!(Self, counters) + ExitCounters::offset_of(ExitReason::Irq);
    /// ... the counter of signals from other CPUs.
    pub const KICK_COUNT: usize = offset_of!(Self, counters) + ExitCounters::offset_of(ExitReason::Kick);

    /// Makes the data of a CPU that does not run yet.
    pub fn new(id: CpuId, mpidr: Mpidr, stack_top: Va, emergency_stack_top: Va, local: Local) -> Self {
        Self {
            hot: Hot {
                emergency_stack_top: emergency_stack_top.get(),
                private: AtomicPtr::default(),
                spis: AtomicPtr::default(),
                groups: AtomicPtr::new((&raw const NO_GROUPS).cast_mut()),
                spi_words: AtomicU32::new(0),
                gicd: AtomicU64::new(0),
                gicc: AtomicU64::new(0),
                gicc_dir: AtomicU64::new(0),
                gich: AtomicU64::new(0),
            },
            stack_top,
            id,
            mpidr,
            role: UnsafeCell::new(None),
            virtual_role: UnsafeCell::new(None),
            port: spin::Once::new(),
            failure: spin::Once::new(),
            mail: AtomicU32::new(0),
            online: AtomicBool::new(false),
            counters: ExitCounters::new(),
            records: RecordRing::new(),
            local: UnsafeCell::new(local),
        }
    }

    /// Dedicates the CPU to a vCPU.
    ///
    /// # Safety
    ///
    /// Called once, by the boot CPU while no other CPU runs, and before [`Self::role`] is used.
    pub unsafe fn dedicate(&self, role: Role) {
        // SAFETY: nobody reads it yet, as the caller ensures.
        unsafe { *self.role.get() = Some(role) };
        if role.partition.plan.delivery == Delivery::Virtual {
            // SAFETY: as above.
            unsafe { *self.virtual_role.get() = Some(role) };
        }
        if let Some(way) = role.partition.vgic.short_way(role.vcpu) {
            self.hot.private.store(way.private.cast_mut(), Ordering::Relaxed);
            self.hot.spis.store(way.spis.wrapping_sub(BANK_SIZE).cast_mut(), Ordering::Relaxed);
            self.hot.spi_words.store(way.spi_words, Ordering::Relaxed);
            self.hot.groups.store(way.groups.cast_mut(), Ordering::Relaxed);
        }
        if let Some(frames) = irqchip::frames() {
            self.hot.gicd.store(frames.gicd.get(), Ordering::Relaxed);
            self.hot.gicc.store(frames.gicc.get(), Ordering::Relaxed);
            self.hot.gicc_dir.store(frames.gicc_dir.get(), Ordering::Relaxed);
            self.hot.gich.store(frames.gich.get(), Ordering::Relaxed);
        }
    }

    /// Returns the vCPU it is dedicated to.
    #[inline(always)]
    pub fn role(&self) -> Option<&Role> {
        // SAFETY: it was written by the boot CPU before any other CPU ran, and never since (see `dedicate`).
        unsafe { &*self.role.get() }.as_ref()
    }

    /// Returns where GICD is, with GICv2.
    #[inline(always)]
    pub fn gicd(&self) -> Pa {
        Pa::new(self.hot.gicd.load(Ordering::Relaxed))
    }

    /// Returns where GICH is, with GICv2.
    #[inline(always)]
    pub fn gich(&self) -> Pa {
        Pa::new(self.hot.gich.load(Ordering::Relaxed))
    }

    /// Returns the vCPU it is dedicated to, if `vgic` is its interrupt controller: for the quick exits, which know no other.
    #[inline(always)]
    pub fn virtual_role(&self) -> Option<&Role> {
        // SAFETY: as in `role`.
        unsafe { &*self.virtual_role.get() }.as_ref()
    }

    /// Makes this the calling CPU's data.
    pub fn install(&'static self) {
        write_sysreg!("tpidr_el2", core::ptr::from_ref(self) as u64);
    }

    /// Returns the calling CPU's data, or `None` before [`Self::install`].
    pub fn try_current() -> Option<&'static Self> {
        let pointer = read_sysreg!("tpidr_el2") as *const Self;
        // SAFETY: TPIDR_EL2 is 0 (set so by entry) or what `install` wrote; guests cannot write it.
        unsafe { pointer.as_ref() }
    }

    /// Returns the calling CPU's data. Only in exits and after [`Self::install`].
    pub fn current() -> &'static Self {
        let pointer = read_sysreg!("tpidr_el2") as *const Self;
        // SAFETY: the CPU runs guests or idles only after `install` wrote TPIDR_EL2, and guests cannot write it.
        unsafe { &*pointer }
    }

    /// Returns what this CPU alone touches.
    ///
    /// # Safety
    ///
    /// `self` is the calling CPU's data, and no other result of this function is alive: an exit handler takes it once
    /// and hands it down.
    #[expect(clippy::mut_from_ref, reason = "one CPU, one handler, no nesting")]
    pub unsafe fn local(&self) -> &mut Local {
        // SAFETY: as the caller ensures.
        unsafe { &mut *self.local.get() }
    }

    /// Returns how the interrupts of its guest arrive; a CPU without a guest is like one whose guest's interrupts take exits.
    pub fn delivery(&self) -> Delivery {
        self.role().map_or(Delivery::Virtual, |role| role.partition.plan.delivery)
    }

    /// Returns the top of its stack.
    pub fn stack_top(&self) -> Va {
        self.stack_top
    }

    /// Leaves mail and interrupts the CPU. Never waits. A CPU that has not come up gets none: mail that nobody was
    /// interrupted for would keep later mail from interrupting.
    pub fn post(&self, mail: Mail) {
        let Some(port) = self.port() else { return };
        // The mail is visible before the interrupt is raised: `kick` orders stores before it.
        if self.mail.fetch_or(mail.bit(), Ordering::SeqCst) & mail.bit() == 0 {
            irqchip::kick(port);
        }
    }

    /// Takes all mail.
    pub fn take_mail(&self) -> Mails {
        Mails(self.mail.swap(0, Ordering::SeqCst))
    }

    /// Returns how the interrupt controller reaches it, once it runs.
    #[inline(always)]
    pub fn port(&self) -> Option<&irqchip::Port> {
        self.port.get()
    }

    /// Reports that the CPU runs, and how the interrupt controller reaches it.
    pub fn set_online(&self, port: irqchip::Port) {
        self.port.call_once(|| port);
        if let Some(role) = self.role() {
            role.partition.set_signal(role.vcpu, irqchip::signal_value(irqchip::GUEST_SGI, &port));
        }
        self.online.store(true, Ordering::SeqCst);
    }

    /// Reports that the CPU cannot be used.
    pub fn set_failed(&self, why: irqchip::InitError) {
        self.failure.call_once(|| why);
    }

    /// Returns why the CPU cannot be used, if it has said so.
    pub fn failure(&self) -> Option<irqchip::InitError> {
        self.failure.get().copied()
    }

    /// Tells whether the CPU runs.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::SeqCst)
    }
}
