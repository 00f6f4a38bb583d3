// SPDX-License-Identifier: MIT OR Apache-2.0
//! The images that the tests boot. Each is built once per run, by whichever test asks first; a lock file keeps two runs
//! in one checkout apart.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use septum_tool::assets::Asset;
use septum_tool::firmware::{self, TARGET};
use septum_tool::flatten::flatten;
use septum_tool::paths;

/// A bug that a build of the firmware for tests has on purpose: the tests of isolation must notice it. Each is a cargo
/// feature of the package `septum` that no other build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeededBug {
    /// One page of the hypervisor's memory is mapped into each partition.
    LeakedPage,
    /// The distributor does not ask whose an SPI is.
    UnfilteredSpi,
}

impl SeededBug {
    /// Returns the feature's name.
    pub fn feature(self) -> &'static str {
        match self {
            Self::LeakedPage => "seeded-bug-leaked-page",
            Self::UnfilteredSpi => "seeded-bug-unfiltered-spi",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Image {
    Firmware,
    Seeded(SeededBug),
    Asset(String),
}

/// Returns `septum.img`.
///
/// # Panics
/// It does not build.
pub fn firmware() -> PathBuf {
    once(Image::Firmware, firmware::build_firmware)
}

/// Returns the firmware with a bug.
///
/// # Panics
/// It does not build.
pub fn firmware_with(bug: SeededBug) -> PathBuf {
    once(Image::Seeded(bug), || build_seeded(bug))
}

/// Returns what a configuration would call `name`: `guest:NAME`, `guest-elf:NAME`, `debian:vmlinuz` or `debian:initrd`.
///
/// # Panics
/// It does not build, or was not fetched: `make setup` does that.
pub fn asset(name: &str) -> PathBuf {
    once(Image::Asset(name.to_owned()), || Asset::parse(name, Path::new("/"))?.path())
}

/// Runs `build` with no other build at the same time: the bare-metal builds share one target directory.
///
/// # Errors
/// Those of `build`, and when the lock file cannot be made.
pub fn alone<T>(build: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = paths::output()?.join("tests.lock");
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    lock.lock().context("cannot lock")?;
    build()
}

/// What was built; `None` when it failed: it is not tried again.
type Built = HashMap<Image, Option<PathBuf>>;

fn once(image: Image, build: impl FnOnce() -> Result<PathBuf>) -> PathBuf {
    static BUILT: Mutex<Option<Built>> = Mutex::new(None);
    // A poisoned lock is another test's failed build, which is noted.
    let mut guard = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = guard.get_or_insert_default();
    if let Some(known) = built.get(&image) {
        return known.clone().unwrap_or_else(|| panic!("{image:?} did not build, see the first test that needed it"));
    }
    let result = alone(build);
    built.insert(image.clone(), result.as_ref().ok().cloned());
    drop(guard);
    result.unwrap_or_else(|error| panic!("{image:?}: {error:#}"))
}

fn build_seeded(bug: SeededBug) -> Result<PathBuf> {
    let target = paths::target().join("firmware");
    let status = Command::new(paths::root().join("tools/setup/bare-metal-cargo"))
        .args(["build", "--quiet", "--release", "--package", "septum", "--bin", "septum-firmware"])
        .args(["--features", bug.feature(), "--target-dir"])
        .arg(&target)
        .current_dir(paths::root())
        .status()
        .context("cannot run tools/setup/bare-metal-cargo")?;
    ensure!(status.success(), "the firmware does not build with {}", bug.feature());
    let image = flatten(&fs::read(target.join(TARGET).join("release/septum-firmware"))?)?;
    let path = paths::output()?.join(format!("septum-{}.img", bug.feature()));
    paths::write_whole(&path, &image)?;
    Ok(path)
}
