// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first instructions of each CPU: the arm64 Image header, self-relocation, and the way of a secondary CPU from its
//! reset into Rust with the MMU on.

use core::arch::global_asm;

use crate::addr::{PAGE_SIZE, Pa, Va};

/// Bytes that the header asks the loader to keep free from the image's start: the image and the hypervisor's heap.
pub const FOOTPRINT: u64 = 2 << 20;

/// Size of the boot CPU's stack in bytes, which serves its exits too; secondary CPUs have theirs on the heap.
pub const BOOT_STACK: usize = 24 << 10;
/// Size in bytes of the stack on which a CPU reports a fault of its own.
pub const EMERGENCY_STACK: usize = 8 << 10;

// The header is that of Documentation/arch/arm64/booting in the Linux kernel. Flags: little endian, 4 KiB pages,
// anywhere in memory.
global_asm!(
    r#"
    .section .head, "ax"
    .global _head
_head:
    b       boot_entry
    .long   0
    .quad   0                   // text_offset
    .quad   {footprint}         // image_size
    .quad   0xa                 // flags
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

    .section .text.entry, "ax"
boot_entry:
    msr     daifset, #0xf
    mov     x19, x0                     // device tree
    adrp    x20, _head                  // load address, 4 KiB-aligned by the boot protocol
    mov     x21, xzr
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    1f
    mrs     x21, cntpct_el0             // when boot began
    bl      enter_el2_state
1:
    // What the loader left in caches must not come out over what is written below with caches off, nor be read in its
    // place once they are on: the image, data and BSS. The heap is first written with caches on.
    mov     x0, x20
    adrp    x1, __image_end
    bl      clean_invalidate
    // Relative relocations, packed (SHT_RELR): an even entry is the address of a word, an odd one a bitmap of the 63 words
    // behind the last one. To each of these words the load address is added.
    adrp    x0, __relr_start
    add     x0, x0, :lo12:__relr_start
    adrp    x1, __relr_end
    add     x1, x1, :lo12:__relr_end
2:  cmp     x0, x1
    b.hs    4f
    ldr     x3, [x0], #8
    tbnz    x3, #0, 3f
    add     x2, x20, x3
    ldr     x5, [x2]
    add     x5, x5, x20
    str     x5, [x2], #8
    b       2b
3:  mov     x4, x2
    add     x2, x2, #(63 * 8)
31: lsr     x3, x3, #1
    cbz     x3, 2b
    tbz     x3, #0, 32f
    ldr     x5, [x4]
    add     x5, x5, x20
    str     x5, [x4]
32: add     x4, x4, #8
    b       31b
4:
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
5:  cmp     x0, x1
    b.hs    6f
    stp     xzr, xzr, [x0]
    stp     xzr, xzr, [x0, #16]
    stp     xzr, xzr, [x0, #32]
    stp     xzr, xzr, [x0, #48]
    add     x0, x0, #64
    b       5b
6:
    // Nothing was written to the text, which ends on a page.
    adrp    x0, __text_end
    adrp    x1, __image_end
    bl      clean_invalidate
    adrp    x0, boot_stack
    add     x0, x0, :lo12:boot_stack
    mov     x1, #{boot_stack_size}
    add     sp, x0, x1
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    mov     x2, x21
    b       {boot}

// Puts EL2 into the state that everything below relies on; E2H first, since other layouts depend on it. Interrupts
// target EL2 from now on: a CPU that waits here in WFI need not wake up for those of EL1.
enter_el2_state:
    movz    x0, #0x8000, lsl #16        // HCR_EL2: RW, AMO, IMO, FMO
    movk    x0, #0x0038
    msr     hcr_el2, x0
    isb
    movz    x0, #0x30c5, lsl #16        // SCTLR_EL2: RES1 bits only, MMU and caches off
    movk    x0, #0x0830
    msr     sctlr_el2, x0
    mov     x0, #0x33ff                 // CPTR_EL2: FP not trapped, SVE and SME trapped
    msr     cptr_el2, x0
    msr     tpidr_el2, xzr              // no per-CPU data yet: the vectors look at it
    msr     cnthp_ctl_el2, xzr          // a timer that the loader left on must not fire
    isb
    msr     spsel, #1
    ret

// Cleans and invalidates [x0, x1) by line to the point of coherency. Clobbers x2 to x4.
clean_invalidate:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4
    mov     x3, #4
    lsl     x3, x3, x2                  // bytes of the smallest line
    sub     x4, x3, #1
    bic     x0, x0, x4
7:  .rept   8                           // up to seven lines more than asked for
    dc      civac, x0
    add     x0, x0, x3
    .endr
    cmp     x0, x1
    b.lo    7b
    dsb     sy
    isb
    ret

// A secondary CPU arrives with the MMU off. It finds itself in the table of CPUs by its affinity.
    .global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    9f
    bl      enter_el2_state
    mrs     x0, mpidr_el1
    ldr     x1, =0xff00ffffff
    and     x0, x0, x1
    orr     x0, x0, #{taken}
    adrp    x1, {table}
    add     x1, x1, :lo12:{table}
    mov     x2, #{table_length}
8:  ldr     x3, [x1]
    cmp     x3, x0
    b.eq    10f
    add     x1, x1, #{table_stride}
    subs    x2, x2, #1
    b.ne    8b
9:  wfi                                 // not a CPU that was called
    b       9b
10: ldp     x4, x5, [x1, #8]            // stack top, per-CPU data
    ldp     x6, x7, [x1, #24]           // TTBR0_EL2, TCR_EL2
    ldp     x8, x9, [x1, #40]           // MAIR_EL2, SCTLR_EL2
    cbz     x4, 9b
    msr     ttbr0_el2, x6
    msr     tcr_el2, x7
    msr     mair_el2, x8
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x9
    isb
    mov     sp, x4
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x5
    b       {secondary}

    .section .bss
    .balign 4096
    .global boot_emergency_guard
boot_emergency_guard:
    .skip   4096
    .skip   {emergency_stack_size}
    .global boot_stack_guard
boot_stack_guard:
    .skip   4096
boot_stack:
    .skip   {boot_stack_size}
"#,
    footprint = const FOOTPRINT,
    boot_stack_size = const BOOT_STACK,
    emergency_stack_size = const EMERGENCY_STACK,
    boot = sym crate::boot::boot,
    secondary = sym crate::boot::secondary,
    taken = const super::secondary::TAKEN,
    table = sym super::secondary::TABLE,
    table_length = const crate::id::MAX_CPUS,
    table_stride = const core::mem::size_of::<super::secondary::Slot>(),
);

/// The boot CPU's stacks, which grow downwards.
pub struct BootStacks {
    /// Pages to be made inaccessible, one below each stack.
    pub guards: [Pa; 2],
    /// Where its stack begins.
    pub stack_top: Va,
    /// Where its emergency stack begins.
    pub emergency_top: Va,
}

/// Returns where the boot CPU's stacks are.
pub fn boot_stacks() -> BootStacks {
    unsafe extern "C" {
        static boot_emergency_guard: [u8; 0];
        static boot_stack_guard: [u8; 0];
    }
    let lower = (&raw const boot_emergency_guard) as u64;
    let upper = (&raw const boot_stack_guard) as u64;
    BootStacks {
        guards: [Pa::new(lower), Pa::new(upper)],
        stack_top: Va::new(upper + PAGE_SIZE + BOOT_STACK as u64),
        emergency_top: Va::new(upper),
    }
}

/// Returns where the image was loaded.
pub fn image_start() -> Pa {
    unsafe extern "C" {
        static __image_start: [u8; 0];
    }
    Pa::new((&raw const __image_start) as u64)
}
