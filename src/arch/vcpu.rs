// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state in which a guest's vCPU begins, register by register, and the traps under which it runs. Nothing is
//! inherited: not from the firmware, not from the guest that ran before.

use core::arch::asm;

use super::cpu::Features;
use super::sysreg::{dsb_ish, dsb_nsh, isb};
use crate::addr::{Pa, Va};
use crate::id::{Mpidr, VcpuId, Vmid};
use crate::partition::Entry;
use crate::{read_sysreg, write_sysreg};

/// HCR_EL2 (Arm ARM, D24.2).
mod hcr {
    pub const VM: u64 = 1 << 0;
    pub const SWIO: u64 = 1 << 1;
    pub const FMO: u64 = 1 << 3;
    pub const IMO: u64 = 1 << 4;
    pub const AMO: u64 = 1 << 5;
    pub const TID3: u64 = 1 << 18;
    pub const TSC: u64 = 1 << 19;
    pub const TIDCP: u64 = 1 << 20;
    pub const TACR: u64 = 1 << 21;
    pub const TSW: u64 = 1 << 22;
    pub const RW: u64 = 1 << 31;
    pub const TLOR: u64 = 1 << 35;
    pub const TERR: u64 = 1 << 36;
    pub const APK: u64 = 1 << 40;
    pub const API: u64 = 1 << 41;
    pub const FWB: u64 = 1 << 46;
}

/// MDCR_EL2: trap the PMU, the debug ROM, OS Lock, OS Double Lock and the core's power request, trace filtering and the
/// statistical profiler; the buffers of the profiler and of trace are nobody's. Breakpoints are the guest's, since the
/// architecture has no way to say that there are none.
const MDCR_TRAPS: u64 = (1 << 5) | (1 << 6) | (1 << 10) | (1 << 11) | (1 << 14) | (1 << 17) | (1 << 19);
/// MPAM2_EL2: trap MPAM1_EL1, MPAM0_EL1 and, where the CPU can, MPAMIDR_EL1. Partition ids are the hypervisor's.
const MPAM_TRAPS: u64 = (1 << 49) | (1 << 48) | (1 << 58);
/// CPTR_EL2: RES1 bits; SVE, SME, trace and activity monitors trapped, FP and SIMD not.
const CPTR: u64 = 0x33ff | (1 << 20) | (1 << 30);
/// CNTHCTL_EL2: physical counter and physical timer are the guest's on a dedicated CPU.
const CNTHCTL: u64 = 0b11;
/// SCTLR_EL1 after reset: RES1 bits, MMU and caches off.
const SCTLR_EL1: u64 = 0x30d0_0800;
/// PSTATE at entry: EL1h, DAIF masked.
const ENTRY_PSTATE: u64 = 0x3c5;

/// What of a partition its CPUs load into their registers.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// VTTBR_EL2.
    pub vttbr: u64,
    /// VTCR_EL2.
    pub vtcr: u64,
}

impl Confinement {
    /// Confines to the stage-2 tables at `root`.
    pub const fn new(vmid: Vmid, root: Pa, vtcr: u64) -> Self {
        Self { vttbr: ((vmid.get() as u64) << 48) | root.get(), vtcr }
    }
}

/// Loads EL2's registers that confine this CPU's guest. No guest runs on this CPU meanwhile.
pub fn confine(features: &Features, confinement: Confinement, vcpu: VcpuId) {
    let optional = [
        (features.pauth, hcr::API | hcr::APK),
        (features.forced_write_back, hcr::FWB),
        (features.ras, hcr::TERR),
        (features.lor, hcr::TLOR),
    ];
    let always = hcr::VM | hcr::SWIO | hcr::FMO | hcr::IMO | hcr::AMO | hcr::RW;
    let traps = hcr::TID3 | hcr::TSC | hcr::TIDCP | hcr::TACR | hcr::TSW;
    let extra = optional.iter().filter(|(has, _)| *has).fold(0, |bits, (_, bit)| bits | bit);
    write_sysreg!("hcr_el2", always | traps | extra);
    isb();
    write_sysreg!("cptr_el2", CPTR);
    write_sysreg!("hstr_el2", 0);
    write_sysreg!("hacr_el2", 0);
    let counters = if features.pmu { (read_sysreg!("pmcr_el0") >> 11) & 0x1f } else { 0 };
    write_sysreg!("mdcr_el2", MDCR_TRAPS | counters);
    if features.hcx {
        write_sysreg!("s3_4_c1_c2_2", 0); // HCRX_EL2
    }
    if features.fgt {
        // HFGRTR, HFGWTR, HFGITR, HDFGRTR, HDFGWTR: only the traps of bits that trap when 0.
        write_sysreg!("s3_4_c1_c1_4", 0);
        write_sysreg!("s3_4_c1_c1_5", 0);
        write_sysreg!("s3_4_c1_c1_6", 0);
        write_sysreg!("s3_4_c3_c1_4", 0);
        write_sysreg!("s3_4_c3_c1_5", 0);
    }
    if features.fgt2 {
        // HDFGRTR2, HDFGWTR2, HFGRTR2, HFGWTR2, HFGITR2: likewise.
        write_sysreg!("s3_4_c3_c1_0", 0);
        write_sysreg!("s3_4_c3_c1_1", 0);
        write_sysreg!("s3_4_c3_c1_2", 0);
        write_sysreg!("s3_4_c3_c1_3", 0);
        write_sysreg!("s3_4_c3_c1_7", 0);
    }
    if features.mpam {
        write_sysreg!("s3_4_c10_c5_0", MPAM_TRAPS);
    }
    if features.ras {
        // VSESR_EL2 and VDISR_EL2: the syndrome of an injected SError, and one that the guest before has deferred.
        write_sysreg!("s3_4_c5_c2_3", 0);
        write_sysreg!("s3_4_c12_c1_1", 0);
    }
    // What a guest may write of the CPU's own controls (IMPLEMENTATION DEFINED; 0 is nothing on Arm's CPUs).
    write_sysreg!("actlr_el2", 0);
    write_sysreg!("vpidr_el2", read_sysreg!("midr_el1"));
    write_sysreg!("vmpidr_el2", Mpidr::of_vcpu(vcpu).get() | (1 << 31));
    write_sysreg!("vtcr_el2", confinement.vtcr);
    write_sysreg!("vttbr_el2", confinement.vttbr);
    write_sysreg!("cnthctl_el2", CNTHCTL);
    write_sysreg!("cntvoff_el2", 0);
    if features.counter_offset {
        write_sysreg!("s3_4_c14_c0_6", 0); // CNTPOFF_EL2
    }
    isb();
    // A vCPU begins with an empty TLB, whatever ran here under this VMID before, and before the hypervisor.
    // SAFETY: invalidation makes this CPU walk the tables again, nothing else.
    unsafe { asm!("tlbi vmalls12e1", options(nostack)) };
    dsb_nsh();
    isb();
}

/// Gives this CPU's EL1 and EL0 the state of a CPU after reset.
pub fn reset(features: &Features) {
    write_sysreg!("cntv_ctl_el0", 0);
    write_sysreg!("cntv_cval_el0", 0);
    write_sysreg!("cntp_ctl_el0", 0);
    write_sysreg!("cntp_cval_el0", 0);
    write_sysreg!("cntkctl_el1", 0);
    write_sysreg!("sctlr_el1", SCTLR_EL1);
    write_sysreg!("actlr_el1", 0);
    write_sysreg!("cpacr_el1", 0);
    write_sysreg!("ttbr0_el1", 0);
    write_sysreg!("ttbr1_el1", 0);
    write_sysreg!("tcr_el1", 0);
    write_sysreg!("mair_el1", 0);
    write_sysreg!("amair_el1", 0);
    write_sysreg!("vbar_el1", 0);
    write_sysreg!("contextidr_el1", 0);
    write_sysreg!("tpidr_el0", 0);
    write_sysreg!("tpidrro_el0", 0);
    write_sysreg!("tpidr_el1", 0);
    write_sysreg!("sp_el0", 0);
    write_sysreg!("sp_el1", 0);
    write_sysreg!("elr_el1", 0);
    write_sysreg!("spsr_el1", 0);
    write_sysreg!("esr_el1", 0);
    write_sysreg!("far_el1", 0);
    write_sysreg!("afsr0_el1", 0);
    write_sysreg!("afsr1_el1", 0);
    write_sysreg!("par_el1", 0);
    write_sysreg!("csselr_el1", 0);
    write_sysreg!("mdscr_el1", 0);
    write_sysreg!("mdccint_el1", 0);
    write_sysreg!("oslar_el1", 0);
    write_sysreg!("osdlr_el1", 0);
    write_sysreg!("dbgclaimclr_el1", 0xff);
    if features.pauth {
        clear_pauth_keys();
    }
    clear_debug(features);
    clear_fp();
    isb();
}

fn clear_pauth_keys() {
    // APIAKey, APIBKey, APDAKey, APDBKey and APGAKey, low and high.
    write_sysreg!("s3_0_c2_c1_0", 0);
    write_sysreg!("s3_0_c2_c1_1", 0);
    write_sysreg!("s3_0_c2_c1_2", 0);
    write_sysreg!("s3_0_c2_c1_3", 0);
    write_sysreg!("s3_0_c2_c2_0", 0);
    write_sysreg!("s3_0_c2_c2_1", 0);
    write_sysreg!("s3_0_c2_c2_2", 0);
    write_sysreg!("s3_0_c2_c2_3", 0);
    write_sysreg!("s3_0_c2_c3_0", 0);
    write_sysreg!("s3_0_c2_c3_1", 0);
}

/// Clears the control registers of all breakpoints and watchpoints that this CPU has.
fn clear_debug(features: &Features) {
    macro_rules! clear {
        ($count:expr, $kind:literal: $($index:literal)*) => {
            $(if $index < $count {
                write_sysreg!(concat!($kind, stringify!($index), "_el1"), 0);
            })*
        };
    }
    macro_rules! write_sysreg {
        ($name:expr, $value:expr) => {
            // SAFETY: the ID registers say that this CPU has the register; 0 disables it.
            unsafe { asm!(concat!("msr ", $name, ", xzr"), options(nomem, nostack)) }
        };
    }
    clear!(features.breakpoints, "dbgbcr": 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    clear!(features.watchpoints, "dbgwcr": 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
}

/// Clears the FP and SIMD registers; EL2 is built without FP and never touches them otherwise.
fn clear_fp() {
    macro_rules! clear {
        ($($index:literal)*) => {
            // SAFETY: CPTR_EL2 lets EL2 use FP, and no Rust code of this target keeps anything in these registers.
            unsafe {
                asm!(
                    ".arch_extension fp",
                    ".arch_extension simd",
                    $(concat!("movi v", stringify!($index), ".2d, #0"),)*
                    "msr fpcr, xzr",
                    "msr fpsr, xzr",
                    options(nomem, nostack)
                );
            }
        };
    }
    clear!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
}

/// Enters a vCPU at its first instruction.
///
/// # Safety
///
/// `confine` and `reset` were called on this CPU for this vCPU, its stage 2 is complete, and `stack_top` is the top of
/// this CPU's stack, of which nothing is needed any more.
pub unsafe fn enter(entry: Entry, stack_top: Va) -> ! {
    unsafe extern "C" {
        fn enter_guest(x0: u64, stack_top: u64) -> !;
    }
    write_sysreg!("elr_el2", entry.pc.get());
    write_sysreg!("spsr_el2", ENTRY_PSTATE);
    isb();
    // SAFETY: the caller ensures that the vCPU may begin and that the stack is free.
    unsafe { enter_guest(entry.context, stack_top.get()) }
}

/// Leaves whatever exit is being handled and idles.
///
/// # Safety
///
/// `stack_top` is the top of this CPU's stack; nothing on it is needed any more, and no lock is held.
pub unsafe fn leave(stack_top: Va) -> ! {
    unsafe extern "C" {
        fn leave_guest(stack_top: u64) -> !;
    }
    // SAFETY: as the caller ensures.
    unsafe { leave_guest(stack_top.get()) }
}

/// Drops all translations of a VMID on all CPUs, stage 1 and stage 2. No vCPU of it runs.
pub fn invalidate_vmid(confinement: Confinement) {
    let before = read_sysreg!("vttbr_el2");
    write_sysreg!("vttbr_el2", confinement.vttbr);
    isb();
    for _ in 0..2 {
        // Twice: on some CPUs a broadcast invalidation may complete before writes by old translations are observed.
        // SAFETY: invalidation makes CPUs walk the tables again, nothing else.
        unsafe { asm!("tlbi vmalls12e1is", options(nostack)) };
        dsb_ish();
    }
    write_sysreg!("vttbr_el2", before);
    isb();
}
