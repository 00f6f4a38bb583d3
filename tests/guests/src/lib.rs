// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bare-metal guests for the tests, and the small runtime that they share.
//!
//! A guest is an arm64 Image that runs unmodified in two places: at EL1 on the bare machine (`qemu-system-aarch64
//! -kernel`) and in a partition of Septum. It learns everything from the device tree in x0: no address is compiled in.
//! It shares no code with the hypervisor, so that a mistake there is not repeated here.
//!
//! On the console a guest says `TEST <guest> <name> ok` or `TEST <guest> <name> FAIL <why>` for each claim and
//! `DONE <count>` at its end, where the count is the number of `TEST` lines before it. A guest that prints no `DONE` has failed.
//!
//! The guests are the modules of [`guests`]; each has a binary of the same name. Only the readers of the device tree
//! and of the options exist on the PC, where they have unit tests.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod list;
pub mod machine;
pub mod options;
pub mod random;
pub mod tree;

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod exception;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod guests;
#[cfg(target_os = "none")]
pub mod mmio;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod pattern;
#[cfg(target_os = "none")]
pub mod probe;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod sync;
#[cfg(target_os = "none")]
pub mod timer;

/// Makes a function of the library the guest that a binary is: `guest!(heartbeat)`. On the PC `main` is empty.
#[macro_export]
macro_rules! guest {
    ($name:ident) => {
        /// Runs the guest on the boot CPU; the runtime calls it once.
        // SAFETY: no other item of the binary has this name.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn guest_main() {
            $crate::guests::$name::main();
        }

        #[cfg(not(target_os = "none"))]
        fn main() {}
    };
}
