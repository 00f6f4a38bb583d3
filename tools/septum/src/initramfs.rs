// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo Linux's initrd: Debian's static busybox, the virtio modules of Debian's kernel and the scripts of
//! `tools/septum/initramfs`, as an uncompressed newc archive. The same input gives the same bytes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::{assets, paths};

/// Directories of the archive, parents first.
const DIRECTORIES: [&str; 7] = ["bin", "dev", "proc", "sys", "tmp", "lib", "lib/modules"];
/// What the kernel needs in /dev before devtmpfs is mounted: its name, major and minor number.
const CONSOLE: (&str, u32, u32) = ("dev/console", 5, 1);

/// Packs `target/septum/initrd.cpio` and returns its path; its date stays when its bytes do.
///
/// # Errors
/// When what `make setup` fetches is missing, or a file cannot be read or written.
pub fn build() -> Result<PathBuf> {
    let debian = assets::debian()?;
    let busybox = debian.join("busybox");
    let modules = debian.join("modules");
    if !busybox.is_file() || !modules.is_dir() {
        bail!("{} or {} is missing: `make setup` fetches them", busybox.display(), modules.display());
    }
    let scripts = paths::root().join("tools/septum/initramfs");
    let archive = pack(&read(&busybox)?, &directory(&scripts)?, &directory(&modules)?)?;
    let path = paths::output()?.join("initrd.cpio");
    if fs::read(&path).ok().as_deref() != Some(&archive) {
        paths::write_whole(&path, &archive)?;
    }
    Ok(path)
}

/// A file's name and bytes.
type Named = (String, Vec<u8>);

/// Packs the archive: `init` of the scripts to /init, the others to /bin, the modules to /lib/modules.
fn pack(busybox: &[u8], scripts: &[Named], modules: &[Named]) -> Result<Vec<u8>> {
    let mut entries: Vec<(Builder, &[u8])> = Vec::new();
    for name in DIRECTORIES {
        entries.push((entry(name, ModeFileType::Directory, 0o755).nlink(2), &[]));
    }
    let (name, major, minor) = CONSOLE;
    entries.push((entry(name, ModeFileType::Char, 0o600).rdev_major(major).rdev_minor(minor), &[]));
    entries.push((entry("bin/busybox", ModeFileType::Regular, 0o755), busybox));
    entries.push((entry("bin/sh", ModeFileType::Symlink, 0o777), b"busybox"));
    for (name, bytes) in scripts {
        let path = if name == "init" { name.clone() } else { format!("bin/{name}") };
        entries.push((entry(&path, ModeFileType::Regular, 0o755), bytes));
    }
    for (name, bytes) in modules {
        entries.push((entry(&format!("lib/modules/{name}"), ModeFileType::Regular, 0o644), bytes));
    }
    let mut archive = Vec::new();
    for (number, (builder, bytes)) in (1..).zip(entries) {
        let mut writer = builder.ino(number).write(&mut archive, u32::try_from(bytes.len())?);
        writer.write_all(bytes)?;
        writer.finish()?;
    }
    trailer(&mut archive)?;
    Ok(archive)
}

/// Begins an entry that belongs to root and dates from the epoch.
fn entry(name: &str, kind: ModeFileType, mode: u32) -> Builder {
    Builder::new(name).mode(mode).set_mode_file_type(kind)
}

/// Reads the plain files of a directory, sorted by name.
fn directory(path: &Path) -> Result<Vec<Named>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().into_string().ok().context("a file name that is no UTF-8")?;
            files.push((name, read(&entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
