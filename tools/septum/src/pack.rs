// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a configuration's path to a bundle that fits its board: what `check`, `build` and `run` share. Nothing is written
//! before everything is known to be right.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use septum::config::bundle;
use septum::devicetree::DeviceTree;
use septum::plan::{self, Placement, Plan};

use crate::assets::Asset;
use crate::author::{self, Compiled, Diagnostic, Find, Report, System};
use crate::paths;
use crate::platform::{self, Board, Machine, MachineArgs};
use crate::units::Size;

/// The configuration that is taken when none is named.
pub const DEFAULT: &str = "configs/qemu-virt/default.toml";

/// A configuration that was read, with its bundle in memory.
#[derive(Debug)]
pub struct Packed {
    /// Where it came from.
    pub path: PathBuf,
    /// The configuration, with places.
    pub system: System,
    /// The manifest and the bundle.
    pub compiled: Compiled,
    /// Its platform.
    pub board: Board,
    text: String,
}

impl Packed {
    /// Reads a configuration and the files it names; guests of this project are built.
    ///
    /// # Errors
    /// A [`Report`] with all that is wrong, or the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &|name| find(path, name))
    }

    /// Reads a configuration, and the files it names where `find` says.
    ///
    /// # Errors
    /// As [`Packed::read`].
    pub fn read_with(path: &Path, find: Find) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let report = |errors| Report::new(path, &text, errors);
        let system = author::read(&text).map_err(report)?;
        let platform = &system.platform;
        let board = Board::load(&platform.value).map_err(|error| {
            Diagnostic::new("this platform cannot be used").at(&platform.span, "").help(format!("{error:#}"))
        });
        match (board, author::compile(&system, find)) {
            (Ok(board), Ok(compiled)) => Ok(Self { path: path.to_owned(), system, compiled, board, text }),
            (board, compiled) => {
                let errors = board.err().into_iter().chain(compiled.err().into_iter().flatten()).collect();
                Err(report(errors).into())
            }
        }
    }

    /// Plans it on a board and has the plan checked.
    ///
    /// # Errors
    /// A [`Report`] with all that the planner refuses.
    pub fn plan(&self, target: &Target) -> Result<(plan::Board, Plan)> {
        author::judge(&self.system, &self.compiled.manifest, &target.tree, &target.placement, self.board.gic_facts())
            .map_err(|errors| self.report(errors).into())
    }

    /// Joins errors with the configuration's text.
    pub fn report(&self, errors: Vec<Diagnostic>) -> Report {
        Report::new(&self.path, &self.text, errors)
    }

    /// Returns the folder for what is made of this configuration: `target/septum/<platform>/<name>`.
    ///
    /// # Errors
    /// The target directory cannot be made.
    pub fn folder(&self) -> Result<PathBuf> {
        let name = self.path.file_stem().context("a configuration has a name")?;
        Ok(paths::output()?.join(&self.board.folder).join(name))
    }

    /// Writes the bundle into [`Packed::folder`], whole or not at all, and returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self) -> Result<PathBuf> {
        let path = self.folder()?.join("bundle");
        paths::write_whole(&path, &self.compiled.bundle)?;
        Ok(path)
    }

    /// Returns the arguments of `[qemu]`, its scratch files made in [`Packed::folder`].
    ///
    /// # Errors
    /// A scratch file cannot be made.
    pub fn qemu_args(&self) -> Result<Vec<String>> {
        author::qemu::expand(&self.system.qemu_args, &self.folder()?).context("cannot make a scratch file")
    }
}

/// What a configuration is planned on.
#[derive(Debug)]
pub struct Target {
    /// The board's device tree.
    pub tree: DeviceTree,
    /// Where its loader puts things.
    pub placement: Placement,
}

impl Target {
    /// Takes the tree that QEMU makes for a machine.
    ///
    /// # Errors
    /// QEMU is missing or refuses the machine; the bundle does not fit in its RAM.
    pub fn machine(packed: &Packed, machine: &Machine) -> Result<Self> {
        let tree = platform::reference_tree(&packed.board, machine)?;
        Self::new(packed, machine, &tree)
    }

    /// Takes a tree that was saved from a running board; where the loader puts things follows from the RAM in it.
    ///
    /// # Errors
    /// The file cannot be read or is no device tree; the bundle does not fit in its RAM.
    pub fn saved(packed: &Packed, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read the device tree {}", path.display()))?;
        let mut machine = packed.board.machine(&MachineArgs::default());
        let tree = parse(&bytes).with_context(|| format!("in {}", path.display()))?;
        let ram = tree
            .memory()
            .into_iter()
            .find(|bank| bank.start().get() <= packed.board.load.image && packed.board.load.image < bank.end().get());
        if let Some(bank) = ram {
            machine.memory = Size::new(bank.end().get().saturating_sub(packed.board.load.ram));
        }
        Self::new(packed, &machine, &bytes).with_context(|| format!("in {}", path.display()))
    }

    fn new(packed: &Packed, machine: &Machine, tree: &[u8]) -> Result<Self> {
        let bundle_size = packed.compiled.bundle.len() as u64;
        let files_size = bundle::parse(&packed.compiled.bundle)?.files_end();
        Ok(Self { tree: parse(tree)?, placement: packed.board.placement(machine, bundle_size, files_size)? })
    }
}

fn parse(bytes: &[u8]) -> Result<DeviceTree> {
    DeviceTree::parse(bytes).map_err(|error| anyhow::anyhow!("the device tree cannot be used: {error}"))
}

/// What `septum run` boots.
#[derive(Debug)]
pub struct Bootable {
    /// The platform.
    pub board: Board,
    /// The machine that it was planned for.
    pub machine: Machine,
    /// The bundle, to be handed over as the initrd.
    pub bundle: PathBuf,
    /// The configuration's own arguments for QEMU.
    pub qemu_args: Vec<String>,
}

/// Reads a configuration, plans it for the machine that the command line names, and writes its bundle.
///
/// # Errors
/// A [`Report`] with all that is wrong; nothing is written then.
pub fn bundle(config: &Path, args: &MachineArgs) -> Result<Bootable> {
    let packed = Packed::read(config)?;
    let machine = packed.board.machine(args);
    packed.plan(&Target::machine(&packed, &machine)?)?;
    let (bundle, qemu_args) = (packed.write()?, packed.qemu_args()?);
    Ok(Bootable { board: packed.board, machine, bundle, qemu_args })
}

/// Finds the file that a configuration names: an asset, or a file beside it.
fn find(config: &Path, name: &str) -> Result<PathBuf> {
    match Asset::parse(name, config.parent().unwrap_or(Path::new("")))? {
        Asset::File(_) => author::beside(config, name),
        asset => asset.path(),
    }
}
