// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens the files that a configuration names and compiles all of it into a manifest and a bundle, in memory.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use septum::config::bundle::{Sharing, Writer};
use septum::config::{self, FileRange, Kernel, Manifest};

use super::diagnostic::{At, Diagnostic};
use super::kernel::{self, Stated};
use super::system::{KernelSource, Partition, System};

/// Finds the file behind a name in the configuration, or says why not and what to do about it.
pub type Find<'a> = &'a dyn Fn(&str) -> anyhow::Result<PathBuf>;

/// A configuration and the bundle made of it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the bundle holds.
    pub manifest: Manifest,
    /// The bundle's bytes.
    pub bundle: Vec<u8>,
}

/// Compiles a configuration.
///
/// # Errors
/// Each file that is missing, cannot be read or is not what it should be.
pub fn compile(system: &System, find: Find) -> Result<Compiled, Vec<Diagnostic>> {
    let mut files = Files { find, read: HashMap::new(), writer: Writer::new(), errors: Vec::new() };
    let partitions: Vec<Option<config::Partition>> =
        system.partitions.iter().map(|partition| compile_partition(partition, &mut files)).collect();
    let (Some(partitions), []) = (partitions.into_iter().collect(), files.errors.as_slice()) else {
        return Err(files.errors);
    };
    let manifest =
        Manifest { platform: system.platform.value.clone(), hypervisor: system.hypervisor.clone(), partitions };
    match files.writer.finish(&manifest) {
        Ok(bundle) => Ok(Compiled { manifest, bundle }),
        Err(error) => {
            Err(vec![Diagnostic::new(format!("the bundle cannot be written: {error}")).at(&system.platform.span, "")])
        }
    }
}

fn compile_partition(partition: &Partition, files: &mut Files) -> Option<config::Partition> {
    // What is used in place is written to by its partition.
    files.writer.set_sharing(match partition.restart {
        config::Restart::Allowed => Sharing::Equal,
        config::Restart::Never => Sharing::Own,
    });
    let kernel = compile_kernel(&partition.kernel.value, files);
    let initrd = match &partition.initrd {
        Some(name) => files.add(name).map(Some),
        None => Some(None),
    };
    Some(config::Partition {
        name: partition.name.value.clone(),
        cpus: values(&partition.cpus),
        memory: values(&partition.memory),
        kernel: kernel?,
        initrd: initrd?,
        device_tree: partition.device_tree.value,
        cmdline: partition.cmdline.clone(),
        console: partition.console.value,
        devices: values(&partition.devices),
        delivery: partition.delivery.value,
        on_fault: partition.on_fault,
        autostart: partition.autostart,
        boot: partition.boot,
        restart: partition.restart,
    })
}

fn compile_kernel(source: &KernelSource, files: &mut Files) -> Option<Kernel> {
    let stated = match (&source.load, &source.entry) {
        (None, None) => Stated::Nothing,
        (Some(load), Some(entry)) => Stated::Raw { load: load.value, entry: entry.value },
        (Some(one), None) | (None, Some(one)) => {
            let missing = if source.load.is_some() { "entry" } else { "load" };
            let error =
                Diagnostic::new(format!("a raw binary needs both `load` and `entry`, and `{missing}` is missing"));
            files
                .errors
                .push(error.at(&one.span, "").help(format!("add `{missing}`, such as `{missing} = \"0x4028_0000\"`")));
            return None;
        }
    };
    let path = files.path(&source.file)?;
    let Files { read, writer, errors, .. } = files;
    let bytes = read.get(&path)?;
    let shown = path.file_name().map_or_else(|| source.file.value.clone(), |name| name.to_string_lossy().into_owned());
    match kernel::lower(bytes, &shown, stated, writer) {
        Ok(kernel) => Some(kernel),
        Err(wrong) => {
            let title = format!("the kernel `{}` is {}", source.file.value, wrong.what);
            errors.push(Diagnostic::new(title).at(&source.file.span, "").help(wrong.help));
            None
        }
    }
}

fn values<T: Clone>(list: &[At<T>]) -> Vec<T> {
    list.iter().map(|item| item.value.clone()).collect()
}

/// The files that were read, each once.
struct Files<'a> {
    find: Find<'a>,
    read: HashMap<PathBuf, Vec<u8>>,
    writer: Writer,
    errors: Vec<Diagnostic>,
}

impl Files<'_> {
    /// Finds and reads a file; `None` is a reported error.
    fn path(&mut self, name: &At<String>) -> Option<PathBuf> {
        let path = match (self.find)(&name.value) {
            Ok(path) => path,
            Err(error) => {
                self.report(name, &format!("{error:#}"));
                return None;
            }
        };
        if !self.read.contains_key(&path) {
            match fs::read(&path) {
                Ok(bytes) => drop(self.read.insert(path.clone(), bytes)),
                Err(error) => {
                    self.report(name, &format!("{}: {error}", path.display()));
                    return None;
                }
            }
        }
        Some(path)
    }

    /// Adds a whole file to the bundle; `None` is a reported error.
    fn add(&mut self, name: &At<String>) -> Option<FileRange> {
        let path = self.path(name)?;
        let bytes = self.read.get(&path)?;
        if bytes.is_empty() {
            let error = Diagnostic::new(format!("`{}` is empty", name.value)).at(&name.span, "");
            self.errors.push(error.help("build or copy it again, or leave the key out"));
            return None;
        }
        Some(self.writer.add(bytes))
    }

    fn report(&mut self, name: &At<String>, why: &str) {
        let error = Diagnostic::new(format!("`{}` cannot be used", name.value)).at(&name.span, "");
        self.errors.push(error.help(why));
    }
}

/// Finds a file beside the configuration, as [`Find`] does.
///
/// # Errors
/// There is no file of that name; says where it was looked for, and the nearest name there.
pub fn beside(config: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = config.parent().unwrap_or(Path::new("")).join(name);
    if path.is_file() {
        return Ok(path);
    }
    if path.is_dir() {
        anyhow::bail!("{} is a folder: name a file in it", path.display());
    }
    let names: Vec<String> = path
        .parent()
        .and_then(|folder| fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let wanted = path.file_name().and_then(|name| name.to_str()).unwrap_or(name);
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    match super::schema::nearest(wanted, &names) {
        Some(near) => anyhow::bail!("there is no file {}; did you mean `{near}`?", path.display()),
        None => anyhow::bail!("there is no file {}: files are looked for beside the configuration", path.display()),
    }
}
