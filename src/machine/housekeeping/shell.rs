// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operator's shell: carries out what `console::parse` understood. Each command is a bounded piece of work; what
//! takes longer goes on elsewhere and is reported by the log.

use core::fmt::Write;

use ::log::{error, info};

use super::Machine;
use crate::console::{
    Command, Edited, LineEditor, PROMPT, PartitionStatus, Ring, RingWriter, RunState, Source, VcpuStats, parse,
    write_help, write_keys, write_list, write_stats,
};
use crate::exit::StopReason;
use crate::id::PartitionId;
use crate::machine::lifecycle::{self, StartError};
use crate::machine::partition::Partition;
use crate::machine::{audit, log};
use crate::partition::{Next, Power, State};

/// Bytes of a command's answer that are kept until they are printed.
const OUTPUT: usize = 8 << 10;

/// The shell.
pub struct Shell {
    editor: LineEditor,
    output: Ring<OUTPUT>,
    /// What was printed last ended no line: the prompt and what is typed behind it.
    in_line: bool,
    /// The log has interrupted that line, which is to be shown again behind it.
    interrupted: bool,
}

impl Shell {
    /// Makes a shell that waits for a line.
    pub fn new() -> Self {
        Self { editor: LineEditor::new(), output: Ring::new(), in_line: false, interrupted: false }
    }

    /// Returns the next byte to print: its own output first, then the log, whose lines come between the prompt's.
    pub fn next_byte(&mut self) -> Option<u8> {
        if let Some(byte) = self.output.pop() {
            self.in_line = byte != b'\n';
            return Some(byte);
        }
        if self.in_line && log::with_text(|text| text.has_more()) {
            (self.in_line, self.interrupted) = (false, true);
            return Some(b'\n');
        }
        if let Some(byte) = log::with_text(log::Text::next_byte) {
            return Some(byte);
        }
        if core::mem::take(&mut self.interrupted) {
            let _ = write!(RingWriter(&self.output), "{PROMPT}{}", self.editor.line());
            return self.next_byte();
        }
        None
    }

    /// Takes a typed byte.
    pub fn type_byte(&mut self, byte: u8, machine: &'static Machine, names: &[&str]) {
        let mut out = RingWriter(&self.output);
        if self.editor.feed(byte, &mut out) == Edited::Pending {
            return;
        }
        // The answer may be cut short when the ring is full; nothing depends on it.
        let _ = match parse(self.editor.line(), names) {
            Ok(Some(command)) => carry_out(command, machine, names, &mut out),
            Ok(None) => Ok(()),
            Err(error) => writeln!(out, "{error}"),
        };
        let _ = out.write_str(PROMPT);
    }

    /// Says who has the keyboard now.
    pub fn announce(&mut self, source: Source, names: &[&str]) {
        let mut out = RingWriter(&self.output);
        let _ = match source {
            Source::Partition(id) => {
                writeln!(out, "keyboard: {} (Ctrl-G ? shows the keys)", names.get(id.index()).copied().unwrap_or("?"))
            }
            Source::Hypervisor => write!(out, "keyboard: the hypervisor's shell; `help` shows the commands\n{PROMPT}"),
        };
    }

    /// Explains the escape key.
    pub fn explain_keys(&mut self, names: &[&str]) {
        let _ = write_keys(&mut RingWriter(&self.output), names);
    }
}

fn carry_out(command: Command, machine: &'static Machine, names: &[&str], out: &mut dyn Write) -> core::fmt::Result {
    let name = |id: PartitionId| names.get(id.index()).copied().unwrap_or("?");
    match command {
        Command::List => write_list(out, (0..names.len()).map(|index| status(machine, index, names))),
        Command::Stats(wanted) => write_stats(out, stats(machine, wanted)),
        Command::Help(topic) => write_help(out, topic),
        Command::Log => {
            log::with_text(log::Text::rewind);
            Ok(())
        }
        Command::Audit => audit_now(machine),
        Command::Reset => {
            if let Some(firmware) = machine.firmware {
                firmware.system_reset();
            }
            writeln!(out, "this board has no firmware that resets it")
        }
        Command::Stop(id) | Command::Start(id) | Command::Restart(id) => match machine.partition(id) {
            None => writeln!(out, "{} was refused at boot; `log` says why", name(id)),
            Some(partition) => change(command, machine, partition, out),
        },
    }
}

fn change(
    command: Command,
    machine: &'static Machine,
    partition: &Partition,
    out: &mut dyn Write,
) -> core::fmt::Result {
    let name = &partition.plan.name;
    let restart = matches!(command, Command::Restart(_));
    if restart && let Some(path) = partition.unstoppable_master() {
        return writeln!(out, "{name} cannot be restarted: {}", StartError::UnstoppableMaster(path));
    }
    let next = if restart { Next::Restart } else { Next::Off };
    if !matches!(command, Command::Start(_)) && lifecycle::stop(machine, partition, next, StopReason::Operator) {
        return Ok(());
    }
    if matches!(command, Command::Stop(_)) {
        return writeln!(out, "{name} does not run");
    }
    match lifecycle::start(machine, partition) {
        Ok(()) => Ok(()),
        Err(why) => writeln!(out, "{name} is not started: {why}"),
    }
}

/// Compares the hardware with the plan; the verdict is a line of the log.
fn audit_now(machine: &Machine) -> core::fmt::Result {
    let mut findings = 0_u32;
    let audited = audit::audit(machine, machine.console, &mut |finding| {
        findings += 1;
        if findings <= 8 {
            error!("audit: {finding}");
        }
    });
    let (leaves, interrupts) = (audited.leaves, audited.interrupts);
    match findings {
        0 => info!("audit: {leaves} mappings and {interrupts} enabled interrupts are as planned"),
        _ => error!("audit: FAILED with {findings} findings in {leaves} mappings and {interrupts} interrupts"),
    }
    Ok(())
}

fn status<'a>(machine: &Machine, index: usize, names: &[&'a str]) -> PartitionStatus<'a> {
    let id = PartitionId::new(index as u8);
    let name = names.get(index).copied().unwrap_or("?");
    let Some(partition) = machine.partition(id) else {
        let state = RunState::Unavailable;
        return PartitionStatus { id, name, state, vcpus_on: 0, vcpu_count: 0, memory: 0, restarts: 0 };
    };
    let state = match (partition.life.state(), partition.last_stop()) {
        (State::Off, None) => RunState::Off,
        (State::Off, Some(reason)) => RunState::Stopped(reason),
        (State::Preparing, _) => RunState::Starting,
        (State::Running, _) => RunState::Running,
        (State::Stopping(_), _) => RunState::Stopping,
    };
    let on = partition.plan.vcpus.iter().filter(|vcpu| partition.life.power(vcpu.id) == Some(Power::On)).count();
    PartitionStatus {
        id,
        name,
        state,
        vcpus_on: on as u8,
        vcpu_count: partition.plan.vcpus.len() as u8,
        memory: partition.plan.memory.iter().map(|piece| piece.size).sum(),
        restarts: partition.restarts(),
    }
}

fn stats(machine: &Machine, wanted: Option<PartitionId>) -> impl Iterator<Item = VcpuStats<'_>> {
    let chosen = machine.partitions.iter().filter(move |partition| wanted.is_none_or(|id| id == partition.plan.id));
    chosen.flat_map(move |partition| {
        partition.plan.vcpus.iter().filter_map(move |vcpu| {
            let cpu = machine.cpu(vcpu.cpu)?;
            let (partition, exits) = (partition.plan.name.as_str(), cpu.counters.snapshot());
            Some(VcpuStats { partition, vcpu: vcpu.id, cpu: vcpu.cpu, exits })
        })
    })
}
