// SPDX-License-Identifier: MIT OR Apache-2.0
//! The boards under `platform/`: how each is run in QEMU, where its loader puts things, and its reference device tree.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use septum::addr::{Pa, PaRange};
use septum::plan::{GicFacts, Placement, Security};
use serde::Deserialize;

use crate::paths;
use crate::qemu::{self, Version};
use crate::units::Size;

/// What the firmware may take for its image, heap, tables and stacks, in bytes: the image_size of its header.
pub const HYPERVISOR_SIZE: u64 = 2 << 20;

/// Memory behind RAM's start at which QEMU's loader puts an initrd at the most (hw/arm/boot.c).
const INITRD_LIMIT: u64 = 128 << 20;
/// Alignment of QEMU's device tree behind the initrd (hw/arm/boot.c).
const TREE_ALIGN: u64 = 2 << 20;
/// What QEMU's device tree takes at the most, in bytes.
const TREE_SIZE: u64 = 1 << 20;

/// A board: `platform/<folder>/board.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// Its folder's name, by which configurations name it.
    #[serde(skip)]
    pub folder: String,
    /// Its name for people.
    pub name: String,
    /// How many security states its GIC has as the firmware leaves it; nobody has said without this key.
    #[serde(default)]
    pub gic_security: Option<GicSecurity>,
    /// How QEMU runs it.
    pub qemu: Qemu,
    /// The machine where a command line says nothing.
    pub machine: Machine,
    /// Where its loader puts things.
    pub load: Load,
}

/// `gic-security`: GICD_CTLR.DS.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GicSecurity {
    /// DS = 1.
    OneState,
    /// DS = 0.
    TwoStates,
}

/// `[qemu]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Qemu {
    /// The program.
    pub program: String,
    /// The oldest release that models the board as needed.
    pub minimum: Version,
    /// The value of `-M`; `{gic}` stands for the GIC's version.
    pub machine: String,
    /// Further arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// A machine that QEMU can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// The GIC's version: 2 or 3.
    pub gic: u8,
    /// The CPU model.
    pub cpu: String,
    /// How many CPUs.
    pub smp: u32,
    /// How much RAM.
    pub memory: Size,
}

/// `[load]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Load {
    /// Start of RAM.
    pub ram: u64,
    /// Where `septum.img` is loaded.
    pub image: u64,
}

/// The machine as a command line changes it.
#[derive(Args, Clone, Debug, Default)]
pub struct MachineArgs {
    /// GIC version
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub gic: Option<u8>,
    /// CPU model, as `qemu-system-aarch64 -cpu help` lists them
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: Option<u32>,
    /// RAM, such as 512M or 4G
    #[arg(long, value_name = "SIZE", value_parser = whole_mebibytes)]
    pub memory: Option<Size>,
}

/// Reads a size that is a multiple of 1 MiB and more than 0; QEMU would count a bare number in MiB.
fn whole_mebibytes(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    match size.bytes() {
        0 => Err("a machine needs RAM".to_owned()),
        bytes if bytes.is_multiple_of(1 << 20) => Ok(size),
        _ => Err(format!("`{text}` is not a multiple of 1M")),
    }
}

impl Board {
    /// Reads the board of that folder.
    ///
    /// # Errors
    /// When there is none, with those there are, or when its `board.toml` is not well-formed.
    pub fn load(folder: &str) -> Result<Self> {
        let all = Self::folders()?;
        ensure!(
            all.iter().any(|name| name == folder),
            "there is no platform `{folder}`: the folders under platform/ are {}",
            all.join(", ")
        );
        let path = paths::root().join("platform").join(folder).join("board.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut board: Self = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        board.folder = folder.to_owned();
        Ok(board)
    }

    /// Lists the folders that have a `board.toml`, sorted.
    ///
    /// # Errors
    /// When `platform/` cannot be read.
    pub fn folders() -> Result<Vec<String>> {
        let directory = paths::root().join("platform");
        let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join("board.toml").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Returns what is known of its GIC beside the device tree.
    pub fn gic_facts(&self) -> GicFacts {
        let security = match self.gic_security {
            None => Security::Unknown,
            Some(GicSecurity::OneState) => Security::One,
            Some(GicSecurity::TwoStates) => Security::Two,
        };
        GicFacts { security, ..GicFacts::UNKNOWN }
    }

    /// Returns the board's machine with what a command line changes.
    pub fn machine(&self, args: &MachineArgs) -> Machine {
        Machine {
            gic: args.gic.unwrap_or(self.machine.gic),
            cpu: args.cpu.clone().unwrap_or_else(|| self.machine.cpu.clone()),
            smp: args.smp.unwrap_or(self.machine.smp),
            memory: args.memory.unwrap_or(self.machine.memory),
        }
    }

    /// Returns QEMU's arguments that make the machine; nothing of what it boots.
    pub fn machine_arguments(&self, machine: &Machine) -> Vec<String> {
        let mut arguments = vec![
            "-M".to_owned(),
            self.qemu.machine.replace("{gic}", &machine.gic.to_string()),
            "-cpu".to_owned(),
            machine.cpu.clone(),
            "-smp".to_owned(),
            machine.smp.to_string(),
            "-m".to_owned(),
            machine.memory.to_string(),
            "-nodefaults".to_owned(),
            "-display".to_owned(),
            "none".to_owned(),
        ];
        arguments.extend(self.qemu.arguments.iter().cloned());
        arguments
    }

    /// Predicts where the loader puts the hypervisor and a bundle of `bundle_size` bytes.
    ///
    /// QEMU's rule for an initrd: half of RAM or 128 MiB behind its start, whichever is less, and not below the image.
    ///
    /// # Errors
    /// When RAM is too small for either.
    pub fn placement(&self, machine: &Machine, bundle_size: u64, files_size: u64) -> Result<Placement> {
        let image_end = self.load.image.saturating_add(HYPERVISOR_SIZE);
        let bundle = (self.load.ram + (machine.memory.bytes() / 2).min(INITRD_LIMIT)).max(image_end);
        // The loader's tree goes behind the bundle and must fit as well.
        let tree = bundle.checked_add(bundle_size).and_then(|end| end.checked_next_multiple_of(TREE_ALIGN));
        let end = tree.and_then(|tree| tree.checked_add(TREE_SIZE));
        let memory_end = self.load.ram.saturating_add(machine.memory.bytes());
        ensure!(
            end.is_some_and(|end| end <= memory_end),
            "a bundle of {bundle_size} bytes does not fit behind {bundle:#x} in {} of RAM: give the machine more with --memory",
            machine.memory
        );
        let range = |start, size| PaRange::new(Pa::new(start), size).context("an empty range, or one past 64 bits");
        Ok(Placement {
            hypervisor: range(self.load.image, HYPERVISOR_SIZE)?,
            bundle: range(bundle, bundle_size.max(1))?,
            files_end: Pa::new(bundle.saturating_add(files_size)),
        })
    }
}

/// Returns the device tree that QEMU makes for the machine, from `target/septum` when it was asked before.
///
/// # Errors
/// When QEMU is missing, too old, or refuses the machine; with its own words.
pub fn reference_tree(board: &Board, machine: &Machine) -> Result<Vec<u8>> {
    let version = qemu::require(board)?;
    let arguments = board.machine_arguments(machine);
    let mut key = DefaultHasher::new();
    (&arguments, &version.to_string(), &board.qemu.program).hash(&mut key);
    let path: PathBuf = paths::output()?.join("trees").join(format!("{}-{:016x}.dtb", board.folder, key.finish()));
    if let Ok(tree) = fs::read(&path) {
        return Ok(tree);
    }
    let partial = paths::partial(&path);
    fs::create_dir_all(path.parent().unwrap_or(paths::root()))?;
    let output = Command::new(&board.qemu.program)
        .args(&arguments)
        .arg("-M")
        .arg(format!("dumpdtb={}", partial.display().to_string().replace(',', ",,")))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", board.qemu.program))?;
    if !output.status.success() || !partial.is_file() {
        bail!("QEMU refuses the machine: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let tree = fs::read(&partial)?;
    fs::rename(&partial, &path)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(memory: &str, bundle_size: u64) -> Result<(u64, u64)> {
        let board = Board::load("qemu-virt")?;
        let args = MachineArgs { memory: Some(memory.parse().unwrap()), ..MachineArgs::default() };
        let placement = board.placement(&board.machine(&args), bundle_size, bundle_size)?;
        Ok((placement.hypervisor.start().get(), placement.bundle.start().get()))
    }

    #[test]
    fn the_bundle_is_placed_by_qemus_rule() {
        for (memory, bundle) in [
            ("64M", 0x4200_0000),
            ("255M", 0x47f8_0000),
            ("256M", 0x4800_0000),
            ("257M", 0x4800_0000),
            ("8G", 0x4800_0000),
        ] {
            assert_eq!(placed(memory, 4096).unwrap(), (0x4020_0000, bundle), "{memory}");
        }
    }

    #[test]
    fn a_bundle_that_leaves_no_room_for_the_tree_is_refused() {
        let largest = (128 - 2) << 20;
        assert!(placed("256M", largest).is_ok());
        assert!(placed("256M", largest + 1).is_err());
        assert!(placed("256M", u64::MAX).is_err());
    }

    #[test]
    fn an_unknown_platform_is_an_error_that_lists_those_there_are() {
        let error = Board::load("qemu-vrit").unwrap_err().to_string();
        assert!(error.contains("qemu-virt"), "{error}");
        assert!(Board::load("../platform/qemu-virt").is_err());
    }

    #[test]
    fn ram_is_a_whole_number_of_mebibytes() {
        assert_eq!(whole_mebibytes("1M").unwrap().bytes(), 1 << 20);
        for refused in ["0", "1048577", "1K", "M", ""] {
            assert!(whole_mebibytes(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_reference_tree_is_one_for_the_machine() {
        let board = Board::load("qemu-virt").unwrap();
        let machine = board.machine(&MachineArgs { smp: Some(3), ..MachineArgs::default() });
        let tree = reference_tree(&board, &machine).unwrap();
        assert_eq!(tree.first_chunk(), Some(&0xd00d_feed_u32.to_be_bytes()));
        assert_eq!(tree, reference_tree(&board, &machine).unwrap(), "from the cache");
        let nonsense = Machine { cpu: "nonsense".to_owned(), ..machine };
        let error = reference_tree(&board, &nonsense).unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
    }
}
