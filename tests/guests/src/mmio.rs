// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device registers. Each access is one plain load or store: the compiler must not choose a form with write-back, which a
//! hypervisor cannot decode.

use core::arch::asm;

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $load:literal, $store:literal) => {
        /// Reads a register.
        #[inline(always)]
        pub fn $read(address: u64) -> $type {
            let value: u64;
            // SAFETY: guests read registers of devices that their tree gives them.
            unsafe { asm!($load, value = out(reg) value, address = in(reg) address, options(nostack, preserves_flags)) };
            value as $type
        }

        /// Writes a register.
        #[inline(always)]
        pub fn $write(address: u64, value: $type) {
            // SAFETY: guests write registers of devices that their tree gives them; none of those reaches memory.
            unsafe {
                asm!($store, value = in(reg) u64::from(value), address = in(reg) address, options(nostack, preserves_flags));
            }
        }
    };
}

access!(read8, write8, u8, "ldrb {value:w}, [{address}]", "strb {value:w}, [{address}]");
access!(read32, write32, u32, "ldr {value:w}, [{address}]", "str {value:w}, [{address}]");
access!(read64, write64, u64, "ldr {value:x}, [{address}]", "str {value:x}, [{address}]");
