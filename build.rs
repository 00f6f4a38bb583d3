// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands the firmware's linker script and options to the linker, for the bare-metal target only.

fn main() {
    let script = "src/arch/image.ld";
    println!("cargo:rerun-if-changed={script}");
    let bare_metal = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    if bare_metal {
        println!("cargo:rustc-link-arg-bin=septum-firmware=-T{root}/{script}");
        // A relocation takes a bit instead of 24 bytes, and functions with the same instructions are one.
        println!("cargo:rustc-link-arg-bin=septum-firmware=-zpack-relative-relocs");
        println!("cargo:rustc-link-arg-bin=septum-firmware=--icf=all");
        // Cortex-A53 up to r0p4 may compute a wrong address with ADRP at the end of a page; the linker moves it.
        println!("cargo:rustc-link-arg-bin=septum-firmware=--fix-cortex-a53-843419");
    }
}
