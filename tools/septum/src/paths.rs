// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are: the checkout, what is built in it, and what set-up keeps for all checkouts.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// Returns the top of the checkout that the tool was built from.
pub fn root() -> &'static Path {
    const HERE: &str = env!("CARGO_MANIFEST_DIR");
    let here = Path::new(HERE);
    here.ancestors().nth(2).unwrap_or(here)
}

/// Returns cargo's target directory.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => root().join("target"),
    }
}

/// Returns the directory for what the tool makes, `target/septum`, after creating it.
///
/// # Errors
/// When it cannot be created.
pub fn output() -> Result<PathBuf> {
    let directory = target().join("septum");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Returns the directory in which `make setup` keeps what all checkouts share: `$XDG_CACHE_HOME/septum`, or
/// `~/.cache/septum`.
///
/// # Errors
/// When neither variable is set.
pub fn cache() -> Result<PathBuf> {
    if let Some(directory) = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(directory).join("septum"));
    }
    let home = env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set: where is the cache?")?;
    Ok(PathBuf::from(home).join(".cache/septum"))
}

/// Returns a name beside `path` for what is not finished yet; no other thread or process gets the same.
pub fn partial(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{}.part", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

/// Writes a file under another name first and renames it, so that nobody sees half of it.
///
/// # Errors
/// When the directory or the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let partial = partial(path);
    fs::write(&partial, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
