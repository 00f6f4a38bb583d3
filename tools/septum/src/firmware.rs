// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds for the bare-metal target: the firmware `septum.img` and the guests of `tests/guests`. Which Rust can do that
//! here is known to `tools/setup/bare-metal-cargo` alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::flatten::{flatten, image_header};
use crate::paths;
use crate::platform::HYPERVISOR_SIZE;

/// The bare-metal target: no FP or SIMD, so that they stay the guests'.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// Builds a binary for the bare-metal target and returns the ELF file's path. Cargo's progress goes to standard error.
///
/// # Errors
/// When it does not compile, or no Rust here can build for the target.
pub fn build(package: &str, binary: &str) -> Result<PathBuf> {
    let target = paths::target().join("firmware");
    let elf = target.join(TARGET).join("release").join(binary);
    let mut cargo = Command::new(paths::root().join("tools/setup/bare-metal-cargo"));
    cargo.arg("build");
    if elf.is_file() {
        // Mostly nothing is to be done; warnings and errors are shown still.
        cargo.arg("--quiet");
    } else {
        eprintln!("building {binary} for {TARGET}; the first time takes a minute or two");
    }
    let status = cargo
        .args(["--release", "--package", package, "--bin", binary, "--target-dir"])
        .arg(&target)
        .current_dir(paths::root())
        .status()
        .context("cannot run tools/setup/bare-metal-cargo")?;
    ensure!(status.success(), "building {binary} of {package} for {TARGET} failed");
    Ok(elf)
}

/// Builds a binary and flattens it to `target/septum/<name>`; returns that path.
///
/// # Errors
/// Those of [`build`] and [`flatten`].
pub fn build_flat(package: &str, binary: &str, name: &str) -> Result<PathBuf> {
    let elf = build(package, binary)?;
    let file = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let image = flatten(&file).with_context(|| format!("{} is not bootable", elf.display()))?;
    let path = paths::output()?.join(name);
    // The date stays when the bytes do, so that what is made from it does too.
    if fs::read(&path).ok().as_deref() != Some(&image) {
        paths::write_whole(&path, &image)?;
    }
    Ok(path)
}

/// Builds `target/septum/septum.img`, the same bytes for every board and configuration; returns its path.
///
/// # Errors
/// Those of [`build_flat`], and when the image wants more memory than plans leave it.
pub fn build_firmware() -> Result<PathBuf> {
    let path = build_flat("septum", "septum-firmware", "septum.img")?;
    let size = image_header(&fs::read(&path)?).context("septum.img has lost its header")?.image_size;
    ensure!(
        size <= HYPERVISOR_SIZE,
        "septum.img wants {size:#x} bytes, plans made on the PC leave it {HYPERVISOR_SIZE:#x}"
    );
    Ok(path)
}
