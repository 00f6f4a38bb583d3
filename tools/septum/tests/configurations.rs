// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configurations: each one in `tests/bad` gets the message beside it, and each shipped one plans on every machine that it
//! is said to run on.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use septum_tool::assets::Asset;
use septum_tool::author::{self, Colour, Report};
use septum_tool::pack::{Packed, Target};
use septum_tool::platform::MachineArgs;

mod kernels;

/// Does what `septum check` does, with the files of [`kernels`] for those of `make setup`; on a GICv2 where the file's name
/// says so.
fn check(path: &Path) -> Result<()> {
    let gic = path.file_stem().and_then(|name| name.to_str()?.ends_with("-on-gicv2").then_some(2));
    plan(&pack(path)?, &MachineArgs { gic, ..MachineArgs::default() })
}

fn plan(packed: &Packed, machine: &MachineArgs) -> Result<()> {
    packed.plan(&Target::machine(packed, &packed.board.machine(machine))?)?;
    Ok(())
}

fn pack(path: &Path) -> Result<Packed> {
    let beside = kernels::write().join("here");
    Packed::read_with(path, &|name| match name {
        "debian:vmlinuz" => author::beside(&beside, "debian-Image"),
        "debian:initrd" => author::beside(&beside, "initrd.cpio"),
        "guest:heartbeat" => author::beside(&beside, "Image"),
        _ => match Asset::parse(name, &beside)? {
            Asset::File(_) => author::beside(&beside, name),
            asset => asset.path(),
        },
    })
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn every_bad_configuration_gets_its_message() {
    let here = Path::new("tests/bad");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join(here));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut accepted = Vec::new();
    for path in toml_files(here) {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        match check(&path) {
            Ok(()) => accepted.push(name.to_owned()),
            Err(error) => {
                let report = error.downcast::<Report>().unwrap_or_else(|error| panic!("{name}: {error:#}"));
                let message = report.render(Colour::Never).replace(&kernels::write().display().to_string(), "FOLDER");
                settings.bind(|| insta::assert_snapshot!(name, message));
            }
        }
    }
    assert!(accepted.is_empty(), "nothing is wrong with {accepted:?}");
}

#[test]
fn bad_configuration_ends_the_command_and_leaves_no_file() {
    for command in ["check", "build"] {
        for name in ["key-twice", "cpu-twice", "file-missing"] {
            let config = format!("tests/bad/{name}.toml");
            let output = Command::new(env!("CARGO_BIN_EXE_septum"))
                .args([command, &config])
                .env("CARGO_TARGET_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/untouched"))
                .output()
                .expect("the command runs");
            assert_eq!(output.status.code(), Some(1), "{command} {name}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("--> {config}:")), "{command} {name}");
            assert!(!Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/untouched/septum/qemu-virt")).exists());
        }
    }
}

#[test]
fn shipped_configurations_plan_on_every_machine() {
    for path in toml_files(Path::new("../../configs/qemu-virt")) {
        let packed = pack(&path).unwrap_or_else(|error| panic!("{error:#}"));
        // A GICv2 cannot deliver interrupts directly.
        let is_direct = fs::read_to_string(&path).expect("a file").contains("\"direct\"");
        for gic in if is_direct { 3..=3 } else { 2..=3 } {
            for smp in [4, 8] {
                for memory in ["1G", "2G", "4G", "8G"] {
                    let size = Some(memory.parse().expect("a size"));
                    let args = MachineArgs { gic: Some(gic), smp: Some(smp), memory: size, ..MachineArgs::default() };
                    if let Err(error) = plan(&packed, &args) {
                        panic!("GICv{gic}, {smp} CPUs, {memory}:\n{error:#}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_key_is_documented() {
    let page = fs::read_to_string("../../docs/configuration.md").expect("docs/configuration.md");
    for table in author::schema::ALL {
        let heading = match table.name {
            name @ ("[hypervisor]" | "[qemu]" | "[partition.NAME]") => format!("## `{name}`"),
            "the top level" => "## The top level".to_owned(),
            name => format!("### `{name}`"),
        };
        let start = page.find(&heading).unwrap_or_else(|| panic!("there is no section `{heading}`"));
        let body = &page[start + heading.len()..];
        let section = &body[..body.find("\n## ").unwrap_or(body.len())];
        for key in table.keys {
            assert!(section.contains(&format!("`{key}`")), "`{key}` is missing in `{heading}`");
        }
    }
}

/// Splits an example into its statements: a line that begins at the margin begins one, unless it closes a bracket.
fn statements(example: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for line in example.lines().filter(|line| !line.is_empty()) {
        match statements.last_mut() {
            Some(last) if line.starts_with([' ', ']', '}']) => *last += &format!("\n{line}"),
            _ => statements.push(line.to_owned()),
        }
    }
    statements
}

#[test]
fn documented_examples_are_read() {
    let page = fs::read_to_string("../../docs/configuration.md").expect("docs/configuration.md");
    let mut count = 0;
    for example in page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let (header, body) = match example.split_once('\n') {
            Some((header, body)) if header.starts_with('[') => (header, body),
            _ => ("[partition.linux]", example),
        };
        for statement in statements(body) {
            let key = statement.split('=').next().unwrap_or_default().trim();
            let mut text =
                if key == "platform" { format!("{statement}\n") } else { "platform = \"qemu-virt\"\n".into() };
            text += "[partition.linux]\n";
            for (name, value) in [("cpus", "[0]"), ("memory", "\"64M\""), ("kernel", "\"Image\"")] {
                if name != key {
                    text += &format!("{name} = {value}\n");
                }
            }
            if header != "[partition.linux]" {
                text += &format!("{header}\n");
            }
            if key != "platform" {
                text += &statement;
            }
            if let Err(errors) = author::read(&text) {
                panic!("{}", Report::new(Path::new("docs/configuration.md"), &text, errors));
            }
            count += 1;
        }
    }
    assert!(count > 20, "only {count} examples were found");
}
