// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads `[partition.NAME]`.

use septum::addr::{Ipa, PAGE_SIZE, Pa};
use septum::config::{
    BootOrder, Console, Delivery, Device, DeviceTreeAt, FaultPolicy, MAX_NAME_LEN, Memory, Restart, is_valid_name,
};
use septum::fault::policy::MAX_ATTEMPTS;
use septum::id::MAX_VCPUS;
use septum::plan::Size;
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::diagnostic::{At, Diagnostic, Span};
use super::fields::{Errors, Fields, Value, number, quantity, string, word, wrong_type};
use super::read::{cpu, flag, table};
use super::schema;
use super::system::{KernelSource, Partition};
use super::units;

/// Reads one partition; what is wrong goes to `errors`, and then there is none.
pub fn read(name: &Spanned<DeString>, value: &Value, errors: &mut Errors) -> Option<Partition> {
    let before = errors.len();
    let name = At::new(name.get_ref().to_string(), name.span());
    if !is_valid_name(&name.value) {
        errors.push(
            Diagnostic::new(format!("a partition cannot be named `{}`", name.value))
                .at(&name.span, "")
                .help(format!("a name is 1 to {MAX_NAME_LEN} of the characters a-z, 0-9, - and _")),
        );
    }
    let what = format!("partition.{}", name.value);
    let fields = Fields::new(table(value, &what, "a table: [partition.NAME]", errors)?, schema::PARTITION, errors);

    let cpus = required(&fields, "cpus", "such as `cpus = [0]`", &name, errors).and_then(|value| cpus(value, errors));
    let memory = required(&fields, "memory", "such as `memory = \"64M\"`", &name, errors)
        .and_then(|value| memory(value, errors));
    let kernel = required(&fields, "kernel", "such as `kernel = \"Image\"`", &name, errors)
        .and_then(|value| kernel(value, errors));
    let initrd = fields.get("initrd").map(|value| string(value, "initrd", "the name of a file", errors));
    let device_tree = placed(&fields, "device-tree", DeviceTreeAt::Auto, &name.span, device_tree, errors);
    let cmdline = fields.get("cmdline").map(|value| cmdline(value, errors));
    let console = placed(&fields, "console", Console::Virtual { ipa: None }, &name.span, console, errors);
    let devices = fields.get("devices").map_or(Some(Vec::new()), |value| devices(value, errors));
    let delivery = placed(&fields, "interrupts", Delivery::Virtual, &name.span, interrupts, errors);
    let on_fault = fields.get("on-fault").map_or(Some(FaultPolicy::Stop), |value| on_fault(value, errors));
    let autostart = flag(&fields, "autostart", true, errors);

    let boot = fields.get("boot").map_or(Some(BootOrder::Any), |value| {
        word(value, "boot", &[("any", BootOrder::Any), ("first", BootOrder::First)], errors)
    });
    let restart = fields.get("restart").map_or(Some(Restart::Allowed), |value| {
        let restart = word(value, "restart", &[("allowed", Restart::Allowed), ("never", Restart::Never)], errors)?;
        if restart == Restart::Never && matches!(on_fault, Some(FaultPolicy::Restart { .. })) {
            let error = Diagnostic::new("a partition that is never restarted cannot be restarted for a fault");
            let help = "write `on-fault = \"stop\"`, or leave `restart` out";
            errors.push(error.at(&value.span(), "").help(help));
        }
        Some(restart)
    });

    if errors.len() > before {
        return None;
    }
    Some(Partition {
        name,
        cpus: cpus?,
        memory: memory?,
        kernel: kernel?,
        initrd: initrd.flatten(),
        device_tree: device_tree?,
        cmdline: cmdline.flatten().unwrap_or_default(),
        console: console?,
        devices: devices?,
        delivery: delivery?,
        on_fault: on_fault?,
        autostart: autostart?,
        boot: boot?,
        restart: restart?,
    })
}

/// Returns a key that every partition has.
fn required<'a>(
    fields: &Fields<'a>,
    key: &str,
    example: &str,
    partition: &At<String>,
    errors: &mut Errors,
) -> Option<&'a Value<'a>> {
    let value = fields.get(key);
    if value.is_none() && !fields.is_misspelt(key) {
        errors.push(
            Diagnostic::new(format!("partition `{}` has no `{key}`", partition.value))
                .at(&partition.span, "")
                .help(format!("add it, {example}")),
        );
    }
    value
}

/// Reads an optional key and keeps its place; without the key that is the partition's name.
fn placed<'a, T>(
    fields: &Fields<'a>,
    key: &str,
    default: T,
    partition: &Span,
    read: impl Fn(&'a Value<'a>, &mut Errors) -> Option<T>,
    errors: &mut Errors,
) -> Option<At<T>> {
    match fields.get(key) {
        Some(value) => Some(At::new(read(value, errors)?, value.span())),
        None => Some(At::new(default, partition.clone())),
    }
}

fn cpus(value: &Value, errors: &mut Errors) -> Option<Vec<At<septum::id::CpuId>>> {
    const EXPECTED: &str = "a list of CPU numbers, such as `cpus = [0, 1]`";
    let DeValue::Array(list) = value.get_ref() else {
        return wrong_type(value, "cpus", EXPECTED, errors);
    };
    if list.is_empty() || list.len() > MAX_VCPUS {
        errors.push(
            Diagnostic::new(format!("a partition has 1 to {MAX_VCPUS} CPUs, this one has {}", list.len()))
                .at(&value.span(), "")
                .help(format!("write {EXPECTED}")),
        );
        return None;
    }
    let read: Vec<_> = list.iter().map(|item| cpu(item, "cpus", errors)).collect();
    read.into_iter().collect()
}

fn memory(value: &Value, errors: &mut Errors) -> Option<Vec<At<Memory>>> {
    match value.get_ref() {
        DeValue::Array(list) if list.is_empty() => {
            let error = Diagnostic::new("a partition has at least one piece of memory").at(&value.span(), "");
            errors.push(error.help("write a size, such as `memory = \"64M\"`"));
            None
        }
        DeValue::Array(list) => {
            let read: Vec<_> = list.iter().map(|piece| memory_piece(piece, errors)).collect();
            read.into_iter().collect()
        }
        _ => Some(vec![memory_piece(value, errors)?]),
    }
}

fn memory_piece(value: &Value, errors: &mut Errors) -> Option<At<Memory>> {
    let piece = match value.get_ref() {
        DeValue::Table(piece) => {
            let fields = Fields::new(piece, schema::MEMORY, errors);
            let Some(size) = fields.get("size") else {
                let error = Diagnostic::new("this piece of memory has no `size`").at(&value.span(), "");
                errors.push(error.help("add it, such as `size = \"64M\"`"));
                return None;
            };
            let size = quantity(size, "size", units::size, errors);
            let ipa = page_address(&fields, "ipa", errors);
            let pa = page_address(&fields, "pa", errors);
            Memory { size: size?.value, ipa: ipa?.map(Ipa::new), pa: pa?.map(Pa::new) }
        }
        DeValue::String(_) | DeValue::Integer(_) => {
            Memory { size: quantity(value, "memory", units::size, errors)?.value, ipa: None, pa: None }
        }
        _ => {
            let expected = "a size such as \"64M\", { size = \"64M\", ipa = \"0x4000_0000\" }, or a list of these";
            return wrong_type(value, "memory", expected, errors);
        }
    };
    Some(At::new(piece, value.span()))
}

/// Reads the address of a page, or "auto"; the outer `None` is an error.
#[expect(clippy::option_option, reason = "an error, no address, an address")]
fn page_address(fields: &Fields, key: &str, errors: &mut Errors) -> Option<Option<u64>> {
    let Some(value) = fields.get(key) else {
        return Some(None);
    };
    if value.get_ref().as_str() == Some("auto") {
        return Some(None);
    }
    let address = quantity(value, key, units::address, errors)?;
    if address.value.is_multiple_of(PAGE_SIZE) {
        return Some(Some(address.value));
    }
    let below = address.value - address.value % PAGE_SIZE;
    let mut help = format!("write \"{}\"", units::show_address(below));
    if let Some(above) = below.checked_add(PAGE_SIZE) {
        help += &format!(" or \"{}\"", units::show_address(above));
    }
    errors.push(
        Diagnostic::new(format!("`{key}` is not a multiple of {}", Size(PAGE_SIZE))).at(&address.span, "").help(help),
    );
    None
}

fn kernel(value: &Value, errors: &mut Errors) -> Option<At<KernelSource>> {
    const EXPECTED: &str =
        "the name of a file, or { file = \"control.bin\", load = \"0x4028_0000\", entry = \"0x4028_0000\" }";
    let source = match value.get_ref() {
        DeValue::Table(source) => {
            let fields = Fields::new(source, schema::KERNEL, errors);
            let Some(file) = fields.get("file") else {
                let error = Diagnostic::new("this kernel has no `file`").at(&value.span(), "");
                errors.push(error.help(format!("write {EXPECTED}")));
                return None;
            };
            let file = string(file, "file", "the name of a file", errors);
            let mut address = |key| match fields.get(key) {
                Some(value) => {
                    let read = quantity(value, key, units::address, errors)?;
                    Some(Some(At::new(Ipa::new(read.value), read.span)))
                }
                None => Some(None),
            };
            let (load, entry) = (address("load"), address("entry"));
            KernelSource { file: file?, load: load?, entry: entry? }
        }
        _ => KernelSource { file: string(value, "kernel", EXPECTED, errors)?, load: None, entry: None },
    };
    Some(At::new(source, value.span()))
}

fn device_tree(value: &Value, errors: &mut Errors) -> Option<DeviceTreeAt> {
    if let DeValue::Table(place) = value.get_ref() {
        let fields = Fields::new(place, schema::DEVICE_TREE, errors);
        let Some(at) = fields.get("at") else {
            let error = Diagnostic::new("`device-tree` has no address").at(&value.span(), "");
            errors.push(error.help("write { at = \"0x4800_0000\" }, or leave `device-tree` out"));
            return None;
        };
        let address = quantity(at, "at", units::address, errors)?;
        if !address.value.is_multiple_of(8) {
            let help = format!("write \"{}\"", units::show_address(address.value & !7));
            errors.push(Diagnostic::new("a device tree's address is a multiple of 8").at(&address.span, "").help(help));
            return None;
        }
        return Some(DeviceTreeAt::At(Ipa::new(address.value)));
    }
    if let DeValue::String(_) = value.get_ref() {
        return word(value, "device-tree", &[("auto", DeviceTreeAt::Auto), ("none", DeviceTreeAt::None)], errors);
    }
    wrong_type(value, "device-tree", "\"auto\", \"none\" or { at = \"0x4800_0000\" }", errors)
}

fn cmdline(value: &Value, errors: &mut Errors) -> Option<String> {
    let text = string(value, "cmdline", "the command line as a string", errors)?;
    if text.value.contains('\0') {
        let error = Diagnostic::new("a command line cannot have a NUL character").at(&text.span, "");
        errors.push(error.help("remove it"));
        return None;
    }
    Some(text.value)
}

fn console(value: &Value, errors: &mut Errors) -> Option<Console> {
    if let DeValue::Table(place) = value.get_ref() {
        let fields = Fields::new(place, schema::CONSOLE, errors);
        let ipa = page_address(&fields, "ipa", errors)?;
        if fields.get("ipa").is_none() {
            let error = Diagnostic::new("`console` has no address").at(&value.span(), "");
            errors.push(error.help("write { ipa = \"0x900_0000\" }, or leave `console` out"));
            return None;
        }
        return Some(Console::Virtual { ipa: ipa.map(Ipa::new) });
    }
    if let DeValue::String(_) = value.get_ref() {
        return word(value, "console", &[("virtual", Console::Virtual { ipa: None }), ("none", Console::None)], errors);
    }
    wrong_type(value, "console", "\"virtual\", \"none\" or { ipa = \"0x900_0000\" }", errors)
}

fn devices(value: &Value, errors: &mut Errors) -> Option<Vec<At<Device>>> {
    let DeValue::Array(list) = value.get_ref() else {
        return wrong_type(value, "devices", "a list, such as `devices = [\"rtc\"]`", errors);
    };
    let read: Vec<_> = list.iter().map(|item| device(item, errors)).collect();
    read.into_iter().collect()
}

fn device(value: &Value, errors: &mut Errors) -> Option<At<Device>> {
    const EXPECTED: &str = "a path, an alias or a label, or { node = \"/path\", unsafe-dma = true }";
    let (node, unsafe_dma) = match value.get_ref() {
        DeValue::Table(device) => {
            let fields = Fields::new(device, schema::DEVICE, errors);
            let Some(node) = fields.get("node") else {
                let error = Diagnostic::new("this device has no `node`").at(&value.span(), "");
                errors.push(error.help(format!("write {EXPECTED}")));
                return None;
            };
            (string(node, "node", "a path, an alias or a label", errors)?, flag(&fields, "unsafe-dma", false, errors)?)
        }
        _ => (string(value, "devices", EXPECTED, errors)?, false),
    };
    if node.value.is_empty() {
        let error = Diagnostic::new("a device cannot be named by nothing").at(&node.span, "");
        errors.push(error.help(format!("write {EXPECTED}")));
        return None;
    }
    Some(At::new(Device { node: node.value, unsafe_dma }, value.span()))
}

fn interrupts(value: &Value, errors: &mut Errors) -> Option<Delivery> {
    word(value, "interrupts", &[("virtual", Delivery::Virtual), ("direct", Delivery::Direct)], errors)
}

fn on_fault(value: &Value, errors: &mut Errors) -> Option<FaultPolicy> {
    const RESTART: &str = "{ action = \"restart\", attempts = 3, within = \"60s\" }";
    let DeValue::Table(policy) = value.get_ref() else {
        if value.get_ref().as_str() == Some("restart") {
            let error = Diagnostic::new("a restart needs a limit").at(&value.span(), "");
            errors.push(error.help(format!("write {RESTART}")));
            return None;
        }
        let DeValue::String(_) = value.get_ref() else {
            return wrong_type(value, "on-fault", &format!("\"stop\" or {RESTART}"), errors);
        };
        return word(value, "on-fault", &[("stop", FaultPolicy::Stop)], errors);
    };
    let fields = Fields::new(policy, schema::ON_FAULT, errors);
    if fields.get("action").and_then(|value| value.get_ref().as_str()) == Some("stop") {
        let error = Diagnostic::new("a stop has no limits").at(&value.span(), "");
        errors.push(error.help("write `on-fault = \"stop\"`"));
        return None;
    }
    let mut get = |key| {
        let found = fields.get(key);
        if found.is_none() {
            let error = Diagnostic::new(format!("`on-fault` has no `{key}`")).at(&value.span(), "");
            errors.push(error.help(format!("write {RESTART}")));
        }
        found
    };
    let max_attempts = u32::try_from(MAX_ATTEMPTS).unwrap_or(u32::MAX);
    let (action, attempts, within) = (get("action"), get("attempts"), get("within"));
    let action = action.and_then(|value| word(value, "action", &[("restart", ())], errors));
    let attempts = attempts.and_then(|value| number(value, "attempts", max_attempts, errors));
    let within = within.and_then(|value| quantity(value, "within", units::time_ms, errors));
    let ((), attempts, within) = (action?, attempts?, within?);
    if attempts.value == 0 {
        let error = Diagnostic::new("`attempts` is 0, so that there is no restart").at(&attempts.span, "");
        errors.push(error.help("write `on-fault = \"stop\"`"));
        return None;
    }
    Some(FaultPolicy::Restart { attempts: attempts.value, within_ms: within.value })
}
