// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the text of a configuration into a [`System`]. What needs a board or another file is judged later.

use septum::config::{Hypervisor, LogLevel, OnPanic, WhenAllOff};
use septum::id::{CpuId, MAX_CPUS};
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Diagnostic, Span};
use super::fields::{Errors, Fields, Value, boolean, number, string, word, wrong_type};
use super::partition;
use super::qemu;
use super::schema;
use super::system::System;

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it, at least one error.
pub fn read(text: &str) -> Result<System, Vec<Diagnostic>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut errors: Errors = syntax_errors(text, &syntax);
    if !errors.is_empty() {
        // What the parser guessed behind a syntax error would only be complained about for the wrong reason.
        return Err(errors);
    }
    let root = Fields::new(document.get_ref(), schema::ROOT, &mut errors);
    let platform = platform(&root, &mut errors);
    let hypervisor = hypervisor(&root, &mut errors);
    let qemu_args = qemu::read(&root, &mut errors);
    let partitions = partitions(&root, &mut errors);
    match (platform, hypervisor, partitions) {
        (Some(platform), Some((hypervisor, uart, housekeeping)), Some(partitions)) if errors.is_empty() => {
            Ok(System { platform, hypervisor, uart, housekeeping, qemu_args, partitions })
        }
        _ => Err(errors),
    }
}

/// Turns the errors of the TOML parser into ours. Of a table that is there twice the keys are not listed again.
fn syntax_errors(text: &str, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let header = |at: usize| text.get(..at).and_then(|before| before.rfind("\n[")).map_or(0, |newline| newline + 1);
    let in_header =
        |at: usize| text.get(header(at)..at).is_some_and(|line| line.starts_with('[') && !line.contains('\n'));
    let is_twice = |error: &&toml::de::Error| error.message().contains("duplicate key");
    let tables: Vec<usize> =
        errors.iter().filter(is_twice).map(place).filter(|at| in_header(*at)).map(header).collect();
    let shown = errors.iter().filter(|error| {
        let at = place(error);
        !is_twice(error) || in_header(at) || !tables.contains(&header(at))
    });
    shown.map(|error| syntax_error(text, error)).collect()
}

/// Turns an error of the TOML parser into one of ours.
fn syntax_error(text: &str, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    let at = Diagnostic::new(format!("this is no valid TOML: {}", message.lines().collect::<Vec<_>>().join(", ")))
        .at(&span, "");
    if message.contains("duplicate key") {
        let name = text.get(span.clone()).unwrap_or("it").trim_matches(['"', '\'']);
        let error = Diagnostic::new(format!("`{name}` is there twice")).at(&span, "again here");
        let first = text.get(..span.start).and_then(|before| find_key(before, name));
        let error = match &first {
            Some(first) => error.and(first, "first here"),
            None => error,
        };
        return error.help("give the second another name, or remove it");
    }
    at.help("values are strings in quotes, whole numbers, true, false, [lists] and { tables }")
}

/// Finds a key in the text before an error: alone at the start of a line, or the end of a table's header.
fn find_key(before: &str, name: &str) -> Option<Span> {
    let mut start = 0;
    let mut found = None;
    for line in before.split_inclusive('\n') {
        let code = line.trim();
        let header = code.starts_with('[') && code.trim_matches(['[', ']']).split('.').next_back() == Some(name);
        let assigned = code.split('=').next().map(str::trim) == Some(name) && code.contains('=');
        if (header || assigned)
            && let Some(at) = line.rfind(name).filter(|_| header).or_else(|| line.find(name))
        {
            found = Some(start + at..start + at + name.len());
        }
        start += line.len();
    }
    found
}

fn platform(root: &Fields, errors: &mut Errors) -> Option<At<String>> {
    const EXPECTED: &str = "the name of a folder under platform/, such as `platform = \"qemu-virt\"`";
    match root.get("platform") {
        Some(value) => string(value, "platform", EXPECTED, errors),
        None if root.is_misspelt("platform") => None,
        None => {
            let error = Diagnostic::new("`platform` is missing").at(&(0..0), "");
            errors.push(error.help(format!("begin the file with {EXPECTED}")));
            None
        }
    }
}

const LOG: [(&str, LogLevel); 4] =
    [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
const ON_PANIC: [(&str, OnPanic); 2] = [("reset", OnPanic::Reset), ("halt", OnPanic::Halt)];
const WHEN_ALL_OFF: [(&str, WhenAllOff); 2] = [("stay", WhenAllOff::Stay), ("power-off", WhenAllOff::PowerOff)];

/// Reads an optional key that is one of a few words; a wrong one is reported, and then the default goes on.
fn choice<T: Copy>(fields: &Fields, key: &str, words: &[(&str, T)], default: T, errors: &mut Errors) -> T {
    fields.get(key).and_then(|value| word(value, key, words, errors)).unwrap_or(default)
}

type HypervisorRead = (Hypervisor, Option<Span>, Option<Span>);

fn hypervisor(root: &Fields, errors: &mut Errors) -> Option<HypervisorRead> {
    let mut read = Hypervisor {
        uart: None,
        cpu: None,
        log: LogLevel::Info,
        on_panic: OnPanic::Reset,
        when_all_off: WhenAllOff::Stay,
    };
    let Some(value) = root.get("hypervisor") else {
        return Some((read, None, None));
    };
    let table = table(value, "hypervisor", "a table: [hypervisor]", errors)?;
    let fields = Fields::new(table, schema::HYPERVISOR, errors);
    if let Some(value) = fields.get("uart") {
        read.uart = string(value, "uart", "the path, alias or label of a UART, such as \"serial0\"", errors)
            .map(|uart| uart.value);
    }
    if let Some(value) = fields.get("cpu") {
        read.cpu = cpu(value, "cpu", errors).map(|cpu| cpu.value);
    }
    read.log = choice(&fields, "log", &LOG, read.log, errors);
    read.on_panic = choice(&fields, "on-panic", &ON_PANIC, read.on_panic, errors);
    read.when_all_off = choice(&fields, "when-all-off", &WHEN_ALL_OFF, read.when_all_off, errors);
    let span = |key| fields.get(key).map(|value| value.span());
    Some((read, span("uart"), span("cpu")))
}

fn partitions(root: &Fields, errors: &mut Errors) -> Option<Vec<super::system::Partition>> {
    const HELP: &str = "write at least one, such as [partition.linux] with `cpus`, `memory` and `kernel`";
    let Some(value) = root.get("partition") else {
        if root.is_misspelt("partition") {
            return None;
        }
        errors.push(Diagnostic::new("there is no partition").at(&(0..0), "").help(HELP));
        return None;
    };
    let tables = table(value, "partition", "a table for each partition: [partition.NAME]", errors)?;
    if tables.is_empty() {
        let span = root.key_span("partition").unwrap_or(0..0);
        errors.push(Diagnostic::new("there is no partition").at(&span, "").help(HELP));
        return None;
    }
    let read: Vec<_> = tables.iter().map(|(name, value)| partition::read(name, value, errors)).collect();
    read.into_iter().collect()
}

/// Reads a table.
pub(super) fn table<'a>(
    value: &'a Value<'a>,
    what: &str,
    expected: &str,
    errors: &mut Errors,
) -> Option<&'a DeTable<'a>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => wrong_type(value, what, expected, errors),
    }
}

/// Reads the number of a CPU.
pub(super) fn cpu(value: &Value, what: &str, errors: &mut Errors) -> Option<At<CpuId>> {
    let max = u32::try_from(MAX_CPUS - 1).unwrap_or(0);
    let raw = number(value, what, max, errors)?;
    Some(At::new(CpuId::new(u8::try_from(raw.value).ok()?), raw.span))
}

/// Reads an optional key that is true or false.
pub(super) fn flag(fields: &Fields, key: &str, default: bool, errors: &mut Errors) -> Option<bool> {
    fields.get(key).map_or(Some(default), |value| boolean(value, key, errors))
}
