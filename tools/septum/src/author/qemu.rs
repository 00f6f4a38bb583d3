// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[qemu] args`: the machine around a configuration when it runs in QEMU, such as the disk behind a device that a
//! partition is given. Boards ignore it.
//!
//! An argument may hold `{scratch:NAME:SIZE}`: a file of that size, zeroes at first, which `septum run` makes in its
//! own folder and keeps from run to run.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use toml::de::DeValue;

use super::diagnostic::{At, Diagnostic};
use super::fields::{Errors, Fields, string, wrong_type};
use super::read::table;
use super::schema;
use super::units;

const OPEN: &str = "{scratch:";

/// Reads `[qemu] args` and checks its placeholders; what is wrong goes to `errors`.
pub(super) fn read(root: &Fields, errors: &mut Errors) -> Vec<At<String>> {
    let Some(table) = root.get("qemu").and_then(|value| table(value, "qemu", "a table: [qemu]", errors)) else {
        return Vec::new();
    };
    let fields = Fields::new(table, schema::QEMU, errors);
    let Some(value) = fields.get("args") else {
        return Vec::new();
    };
    let DeValue::Array(list) = value.get_ref() else {
        let expected = "a list of strings, such as `args = [\"-rtc\", \"base=utc\"]`";
        wrong_type::<()>(value, "args", expected, errors);
        return Vec::new();
    };
    let mut args = Vec::new();
    for item in list {
        let Some(arg) = string(item, "args", "each argument as a string", errors) else {
            continue;
        };
        if let Err(help) = pieces(&arg.value) {
            errors.push(Diagnostic::new("this placeholder is not understood").at(&arg.span, "").help(help));
        }
        args.push(arg);
    }
    args
}

/// A part of an argument.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Scratch { name: &'a str, size: u64 },
}

/// Splits an argument at its placeholders; the error is the way out.
fn pieces(arg: &str) -> Result<Vec<Piece<'_>>, String> {
    const HINT: &str = "write {scratch:NAME:SIZE}, such as {scratch:disk0.img:16M}";
    let mut pieces = Vec::new();
    let mut rest = arg;
    while let Some((text, behind)) = rest.split_once(OPEN) {
        let (inside, after) = behind.split_once('}').ok_or(HINT)?;
        let (name, size) = inside.split_once(':').ok_or(HINT)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(legal) {
            return Err(format!("{HINT}; a name has letters, digits, ., - and _ only"));
        }
        pieces.push(Piece::Text(text));
        pieces.push(Piece::Scratch { name, size: units::size(size)? });
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Replaces the placeholders of arguments and makes the files they name in `dir`, which is made too when it is missing.
/// A file that is there already is kept, and grown if it is too small.
///
/// # Errors
/// A file or the folder could not be made.
pub fn expand(args: &[At<String>], dir: &Path) -> io::Result<Vec<String>> {
    args.iter().map(|arg| expand_one(&arg.value, dir)).collect()
}

fn expand_one(arg: &str, dir: &Path) -> io::Result<String> {
    let mut expanded = String::new();
    for piece in pieces(arg).map_err(io::Error::other)? {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Scratch { name, size } => {
                fs::create_dir_all(dir)?;
                let path = dir.join(name);
                let file = File::options().create(true).truncate(false).write(true).open(&path)?;
                if file.metadata()?.len() < size {
                    file.set_len(size)?;
                }
                // A comma ends an option's value for QEMU, a doubled one stands for itself.
                expanded.push_str(&path.display().to_string().replace(',', ",,"));
            }
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_files_are_made_once_and_kept() {
        let dir = std::env::temp_dir().join(format!("septum-scratch-{}", std::process::id()));
        let args = [At::new("if=none,file={scratch:disk0.img:16K},id=d0".to_owned(), 0..0)];

        let first = expand(&args, &dir).unwrap();
        fs::write(dir.join("disk0.img"), [0xa5; 16384]).unwrap();
        let second = expand(&args, &dir).unwrap();

        assert_eq!(first, second);
        assert_eq!(first, [format!("if=none,file={}/disk0.img,id=d0", dir.display())]);
        assert_eq!(fs::read(dir.join("disk0.img")).unwrap(), [0xa5; 16384]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn other_braces_are_left_alone() {
        assert_eq!(pieces("{\"driver\":\"x\"}"), Ok(vec![Piece::Text("{\"driver\":\"x\"}")]));
    }

    #[test]
    fn bad_placeholders_are_refused() {
        for arg in
            ["{scratch:a", "{scratch:a}", "{scratch:a:16}", "{scratch::1M}", "{scratch:../a:1M}", "{scratch:.a:1M}"]
        {
            assert!(pieces(arg).is_err(), "{arg}");
        }
    }
}
