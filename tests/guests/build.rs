// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the guests by their own script when they are built for the bare-metal target.
use std::env;

fn main() {
    println!("cargo:rerun-if-changed=guest.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's folder");
        println!("cargo:rustc-link-arg-bins=-T{folder}/guest.ld");
        // There is no loader that could make pages read-only after relocation.
        println!("cargo:rustc-link-arg-bins=-znorelro");
    }
}
