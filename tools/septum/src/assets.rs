// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a configuration may name as an image: a file beside it, what `make setup` fetched (`debian:`), or a guest of
//! `tests/guests` (`guest:`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{firmware, initramfs, paths};

/// The package of the bare-metal guests, one binary for each.
const GUESTS: &str = "septum-guests";

/// An image that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asset {
    /// `debian:vmlinuz`: Debian's unmodified arm64 kernel.
    DebianKernel,
    /// `debian:initrd`: busybox and `tools/septum/initramfs`.
    DebianInitrd,
    /// `guest:NAME`: a bare-metal guest as an arm64 `Image`.
    Guest(String),
    /// `guest-elf:NAME`: the same as an ELF file.
    GuestElf(String),
    /// A file.
    File(PathBuf),
}

impl Asset {
    /// Reads a reference; a plain file is relative to `base`, the configuration's folder.
    ///
    /// # Errors
    /// When it has a prefix (a word and a colon) that is not known; the sentence lists those there are.
    pub fn parse(reference: &str, base: &Path) -> Result<Self> {
        match reference.split_once(':') {
            Some(("debian", "vmlinuz")) => Ok(Self::DebianKernel),
            Some(("debian", "initrd")) => Ok(Self::DebianInitrd),
            Some(("guest", name)) => Ok(Self::Guest(guest_name(name)?)),
            Some(("guest-elf", name)) => Ok(Self::GuestElf(guest_name(name)?)),
            Some((prefix, _)) if prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                anyhow::bail!(
                    "`{reference}` is not known: there are debian:vmlinuz, debian:initrd, guest:NAME, guest-elf:NAME \
                     and plain files (write ./{reference} for a file of that name)"
                )
            }
            _ => Ok(Self::File(base.join(reference))),
        }
    }

    /// Makes the image if need be and returns its path. Guests are compiled, the initrd is packed.
    ///
    /// # Errors
    /// When a file is missing, with the way to get it, or a guest does not compile.
    pub fn path(&self) -> Result<PathBuf> {
        match self {
            Self::DebianKernel => {
                let path = debian()?.join("vmlinuz");
                ensure!(path.is_file(), "{} is missing: `make setup` fetches it", path.display());
                Ok(path)
            }
            Self::DebianInitrd => initramfs::build(),
            Self::Guest(name) => firmware::build_flat(GUESTS, name, &format!("guest-{name}.img"))
                .with_context(|| format!("in making guest:{name}")),
            Self::GuestElf(name) => {
                firmware::build(GUESTS, name).with_context(|| format!("in making guest-elf:{name}"))
            }
            Self::File(path) => {
                ensure!(path.exists(), "{} does not exist", path.display());
                ensure!(path.is_file(), "{} is not a file", path.display());
                Ok(path.clone())
            }
        }
    }
}

/// Returns the folder into which `make setup` puts Debian's kernel, its modules and busybox.
///
/// # Errors
/// When the cache has no place.
pub fn debian() -> Result<PathBuf> {
    Ok(paths::cache()?.join("debian-arm64"))
}

/// Checks that a guest's name is one of a binary of the guests' package.
fn guest_name(name: &str) -> Result<String> {
    let directory = paths::root().join("tests/guests/src/bin");
    let path = |ending: &str| directory.join(format!("{name}{ending}"));
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain && (path(".rs").is_file() || path("").is_dir()) {
        return Ok(name.to_owned());
    }
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    anyhow::bail!("there is no guest `{name}`: tests/guests has {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_apart() {
        let base = Path::new("/configs");
        let parse = |text| Asset::parse(text, base);
        assert_eq!(parse("debian:vmlinuz").unwrap(), Asset::DebianKernel);
        assert_eq!(parse("debian:initrd").unwrap(), Asset::DebianInitrd);
        assert_eq!(parse("control.elf").unwrap(), Asset::File("/configs/control.elf".into()));
        assert_eq!(parse("/a/b.img").unwrap(), Asset::File("/a/b.img".into()));
        assert_eq!(parse("./a:b").unwrap(), Asset::File("/configs/./a:b".into()));
        assert!(parse("debian:linux").unwrap_err().to_string().contains("debian:vmlinuz"));
        assert!(parse("guest:../../etc").unwrap_err().to_string().contains("there is no guest"));
        assert!(parse("guest:").is_err());
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let missing = Asset::parse("missing.bin", Path::new("/nowhere")).unwrap();
        assert_eq!(missing.path().unwrap_err().to_string(), "/nowhere/missing.bin does not exist");
        let folder = Asset::parse(".", Path::new("/")).unwrap();
        assert!(folder.path().unwrap_err().to_string().contains("is not a file"));
    }
}
