// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the loader's jump to `guest_main`: the Image header, relocation, the MMU, and the start of further CPUs.
//!
//! The loader follows the arm64 boot protocol: x0 holds the device tree, MMU off, interrupts masked, EL1 or EL2. A guest
//! entered at EL2 (the bare machine with `virtualization=on`) drops to EL1 and stays there.

use core::arch::global_asm;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::{Machine, Region};
use crate::sync::Once;
use crate::tree::{Tree, total_size};
use crate::{console, cpu, exception, mmu, psci, smp};

/// Bytes of stack of each CPU; guest.ld says the same.
const STACK_SIZE: usize = 0x8000;

global_asm!(
    r#"
    .section .head, "ax"
    .global image_header
image_header:                           // Documentation/arch/arm64/booting.rst of Linux
    b       boot
    nop
    .quad   0                           // text_offset
    .quad   __image_size
    .quad   0xa                         // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

boot:
    mrs     x20, cntpct_el0             // how long the machine took to get here
    msr     daifset, #0xf
    mov     x19, x0
    bl      drop_to_el1

    // Relocate: the image is linked at 0 and runs where it was put.
    adr     x1, image_header
    adrp    x2, __rela_start
    add     x2, x2, :lo12:__rela_start
    adrp    x3, __rela_end
    add     x3, x3, :lo12:__rela_end
1:  cmp     x2, x3
    b.hs    2f
    ldp     x4, x5, [x2], #16
    ldr     x6, [x2], #8
    cmp     w5, #1027                   // R_AARCH64_RELATIVE, the only kind there is
    b.ne    1b
    add     x6, x6, x1
    str     x6, [x1, x4]
    b       1b

2:  adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
3:  cmp     x1, x2
    b.hs    4f
    stp     xzr, xzr, [x1], #16
    b       3b

4:  adrp    x1, __stacks
    add     x1, x1, :lo12:__stacks
    mov     x2, #{stack_size}
    add     sp, x1, x2
    mov     x0, x19
    bl      {map}

    // What was written with the MMU off is in memory: no older cache line may hide it.
    adr     x1, image_header
    adrp    x2, __image_end
    add     x2, x2, :lo12:__image_end
    mrs     x3, ctr_el0
    ubfx    x3, x3, #16, #4
    mov     x4, #4
    lsl     x3, x4, x3
5:  dc      ivac, x1
    add     x1, x1, x3
    cmp     x1, x2
    b.lo    5b
    dsb     sy
    bl      enable_mmu
    mov     x0, x20
    bl      {main}
    b       .

// CPU_ON brings a CPU here; x0 is its number in the tree.
    .global secondary_start
secondary_start:
    msr     daifset, #0xf
    mov     x19, x0
    bl      drop_to_el1
    bl      enable_mmu                  // before the first use of memory, which was written through caches
    adrp    x1, __stacks
    add     x1, x1, :lo12:__stacks
    mov     x2, #{stack_size}
    add     x3, x19, #1
    madd    x1, x3, x2, x1
    mov     sp, x1
    mov     x0, x19
    bl      {secondary}
    b       .

drop_to_el1:                            // changes x9 and x10
    mrs     x9, currentel
    cmp     x9, #8
    b.ne    2f
    mov     x9, #0xa0000000             // HCR_EL2.RW and HCD: there is nobody to call
    msr     hcr_el2, x9
    isb
    mov     x9, #0x33ff                 // CPTR_EL2: trap nothing
    msr     cptr_el2, x9
    mov     x9, #3                      // CNTHCTL_EL2: EL1 has the physical counter and timer
    msr     cnthctl_el2, x9
    msr     cntvoff_el2, xzr
    msr     hstr_el2, xzr
    mrs     x9, midr_el1
    msr     vpidr_el2, x9
    mrs     x9, mpidr_el1
    msr     vmpidr_el2, x9
    mrs     x9, id_aa64pfr0_el1
    ubfx    x9, x9, #24, #4
    cbz     x9, 1f
    mrs     x9, S3_4_C12_C9_5           // ICC_SRE_EL2: SRE and Enable
    mov     x10, #9
    orr     x9, x9, x10
    msr     S3_4_C12_C9_5, x9
    isb
1:  mov     x9, #0x3c5                  // EL1h, DAIF masked
    msr     spsr_el2, x9
    msr     elr_el2, x30
    eret
2:  ret

enable_mmu:                             // changes x9 to x11
    ldr     x9, ={mair}
    msr     mair_el1, x9
    ldr     x9, ={tcr}
    mrs     x10, id_aa64mmfr0_el1       // TCR_EL1.IPS = PARange, 48 bits at most
    and     x10, x10, #0xf
    cmp     x10, #5
    mov     x11, #5
    csel    x10, x10, x11, ls
    orr     x9, x9, x10, lsl #32
    msr     tcr_el1, x9
    adrp    x9, {tables}
    add     x9, x9, :lo12:{tables}
    msr     ttbr0_el1, x9
    msr     ttbr1_el1, xzr
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x9, ={sctlr}
    msr     sctlr_el1, x9
    isb
    ret
    .ltorg
"#,
    stack_size = const STACK_SIZE,
    map = sym map,
    main = sym main,
    secondary = sym secondary,
    tables = sym mmu::TABLES,
    mair = const mmu::MAIR,
    tcr = const mmu::TCR,
    sctlr = const mmu::SCTLR,
);

unsafe extern "C" {
    static image_header: u8;
    static __image_end: u8;
}

unsafe extern "Rust" {
    /// The guest's own main; every binary has one, by `guest!`.
    safe fn guest_main();
}

static MACHINE: Once<Machine> = Once::new(Machine::EMPTY);

/// Returns the machine that the tree describes.
pub fn machine() -> &'static Machine {
    MACHINE.get()
}

/// Reads the tree and builds the translation tables; runs with the MMU off.
extern "C" fn map(blob: u64) {
    let image = Region { base: (&raw const image_header) as u64, size: 0 };
    let image = Region { size: (&raw const __image_end) as u64 - image.base, ..image };
    let tree = read_tree(blob);
    MACHINE.set_with(|machine| {
        if let Some((tree, range)) = &tree {
            machine.read(tree, *range, image);
        }
    });
    mmu::build(machine());
}

/// Finds the tree at `blob`; without one there is no console to complain on either.
fn read_tree(blob: u64) -> Option<(Tree<'static>, Region)> {
    if blob == 0 || blob & 7 != 0 {
        return None;
    }
    // SAFETY: the loader's x0 points to a device tree, whose header has 40 bytes; nobody writes it while the guest runs.
    let header = unsafe { slice::from_raw_parts(blob as *const u8, 8) };
    let size = total_size(header)?;
    // SAFETY: the header says how long the tree is.
    let bytes = unsafe { slice::from_raw_parts(blob as *const u8, size) };
    Some((Tree::new(bytes)?, Region { base: blob, size: size as u64 }))
}

static START_TIME: AtomicU64 = AtomicU64::new(0);

/// Returns the physical counter as the guest's first instruction read it.
pub fn start_time() -> u64 {
    START_TIME.load(Ordering::Relaxed)
}

/// Runs the guest on the boot CPU, which began at `start_time`.
extern "C" fn main(start_time: u64) -> ! {
    START_TIME.store(start_time, Ordering::Relaxed);
    let boot_cpu = machine().cpus.iter().position(|mpidr| *mpidr == cpu::affinity()).unwrap_or(0);
    cpu::attach(boot_cpu);
    exception::install_vectors();
    console::open(machine());
    guest_main();
    psci::system_off()
}

/// Runs what [`smp::start`] asked for on a further CPU.
extern "C" fn secondary(index: usize) -> ! {
    cpu::attach(index);
    exception::install_vectors();
    smp::run_job(index)
}
