// SPDX-License-Identifier: MIT OR Apache-2.0
//! The instructions that touch an address: x0 is the address, x1 a value; x0 returns what was read.

use core::arch::naked_asm;

use crate::probe::Code;
use crate::read_register;

macro_rules! code {
    ($($name:ident: $($line:literal),*;)*) => {
        $(
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name(_address: u64, _value: u64) -> u64 {
                naked_asm!(".arch_extension fp", ".arch_extension simd", ".arch_extension lse", $($line,)* "ret")
            }
        )*
    };
}

code! {
    load8: "ldrb w0, [x0]";
    load16: "ldrh w0, [x0]";
    load32: "ldr w0, [x0]";
    load64: "ldr x0, [x0]";
    load_signed: "ldrsb x0, [x0]";
    load_pair: "ldp x2, x3, [x0]", "orr x0, x2, x3";
    load_write_back: "ldr x2, [x0], #8", "mov x0, x2";
    load_acquire: "ldar x0, [x0]";
    load_exclusive: "ldxr x2, [x0]", "clrex", "mov x0, x2";
    load_vector: "ldr q0, [x0]", "umov x2, v0.d[0]", "umov x3, v0.d[1]", "orr x0, x2, x3";
    load_vectors: "ld1 {{v0.16b, v1.16b}}, [x0]", "orr v0.16b, v0.16b, v1.16b", "umov x0, v0.d[0]";
    load_unaligned: "ldur x0, [x0, #3]";

    store8: "strb w1, [x0]";
    store16: "strh w1, [x0]";
    store32: "str w1, [x0]";
    store64: "str x1, [x0]";
    store_pair: "stp x1, x1, [x0]";
    store_write_back: "str x1, [x0, #8]!";
    store_release: "stlr x1, [x0]";
    store_exclusive: "ldxr x2, [x0]", "stxr w3, x1, [x0]";
    store_vector: "dup v0.2d, x1", "str q0, [x0]";
    store_unaligned: "stur x1, [x0, #5]";

    zero_block: "dc zva, x0";
    clean: "dc cvac, x0";
    clean_unification: "dc cvau, x0";
    clean_invalidate: "dc civac, x0";
    invalidate: "dc ivac, x0";
    invalidate_code: "ic ivau, x0";
    prefetch: "prfm pldl1keep, [x0]";
    translate_read: "at s1e1r, x0", "isb", "mrs x0, par_el1";
    translate_write: "at s1e1w, x0", "isb", "mrs x0, par_el1";

    atomic_add: "ldadd x1, x2, [x0]", "mov x0, x2";
    atomic_swap: "swp x1, x2, [x0]", "mov x0, x2";
    atomic_compare: "mov x2, x1", "cas x2, x1, [x0]", "mov x0, x2";
}

/// Instructions that return what is at the address.
pub const READS: [(&str, Code); 12] = [
    ("ldrb", load8),
    ("ldrh", load16),
    ("ldr w", load32),
    ("ldr x", load64),
    ("ldrsb", load_signed),
    ("ldp", load_pair),
    ("ldr post-index", load_write_back),
    ("ldar", load_acquire),
    ("ldxr", load_exclusive),
    ("ldr q", load_vector),
    ("ld1", load_vectors),
    ("ldur", load_unaligned),
];

/// Instructions that store the value.
pub const WRITES: [(&str, Code); 10] = [
    ("strb", store8),
    ("strh", store16),
    ("str w", store32),
    ("str x", store64),
    ("stp", store_pair),
    ("str pre-index", store_write_back),
    ("stlr", store_release),
    ("stxr", store_exclusive),
    ("str q", store_vector),
    ("stur", store_unaligned),
];

/// Instructions on caches and translations.
pub const MAINTENANCE: [Code; 9] = [
    clean,
    clean_unification,
    clean_invalidate,
    invalidate,
    zero_block,
    invalidate_code,
    prefetch,
    translate_read,
    translate_write,
];

/// Atomic instructions (FEAT_LSE); undefined where they are missing.
pub const ATOMICS: [(&str, Code); 3] = [("ldadd", atomic_add), ("swp", atomic_swap), ("cas", atomic_compare)];

/// Loads and stores of 1, 2, 4 and 8 bytes.
pub const WIDTHS: [(u64, Code, Code); 4] =
    [(1, load8, store8), (2, load16, store16), (4, load32, store32), (8, load64, store64)];

/// Tells whether the CPU has the atomic instructions.
pub fn has_atomics() -> bool {
    read_register!("id_aa64isar0_el1") >> 20 & 0xf >= 2
}
