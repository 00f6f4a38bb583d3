// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the shell prints: tables of plain data that the shell's caller has collected.

use core::fmt;

use crate::exit::{ExitReason, StopReason};
use crate::id::{CpuId, PartitionId, VcpuId};

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It has never been started.
    Off,
    /// Its images are being loaded.
    Starting,
    /// It runs.
    Running,
    /// Its vCPUs are being stopped.
    Stopping,
    /// It was stopped, for this reason.
    Stopped(StopReason),
    /// It cannot be started on this board.
    Unavailable,
}

/// A row of `list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus<'a> {
    /// Its id; Ctrl-G and this digit give it the keyboard.
    pub id: PartitionId,
    /// Its name.
    pub name: &'a str,
    /// What it is doing.
    pub state: RunState,
    /// How many of its vCPUs are on.
    pub vcpus_on: u8,
    /// How many it has.
    pub vcpu_count: u8,
    /// Its RAM in bytes.
    pub memory: u64,
    /// How often it was restarted.
    pub restarts: u32,
}

/// A row of `stats`: the exits of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuStats<'a> {
    /// Its partition's name.
    pub partition: &'a str,
    /// The vCPU.
    pub vcpu: VcpuId,
    /// The CPU it runs on.
    pub cpu: CpuId,
    /// Exits, in the order of [`ExitReason::ALL`].
    pub exits: [u64; ExitReason::COUNT],
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped(_) => "stopped",
            Self::Unavailable => "unavailable",
        })
    }
}

/// Writes the table of `list`.
///
/// # Errors
///
/// Those of `out`.
pub fn write_list<'a>(
    out: &mut dyn fmt::Write,
    rows: impl Iterator<Item = PartitionStatus<'a>> + Clone,
) -> fmt::Result {
    let width = rows.clone().map(|row| row.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, " #  {:width$}  {:11}  vCPUs  {:>8}  restarts", "name", "state", "memory")?;
    for row in rows {
        let PartitionStatus { name, state, vcpus_on, vcpu_count, restarts, .. } = row;
        let id = row.id.get();
        write!(out, "{id:2}  {name:width$}  {state:11}  {vcpus_on:>2}/{vcpu_count:<2}  ")?;
        write!(out, "{:>8}  {restarts}", Size(row.memory))?;
        match state {
            RunState::Stopped(reason) => writeln!(out, "  ({reason})")?,
            RunState::Off | RunState::Starting | RunState::Running | RunState::Stopping | RunState::Unavailable => {
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// Writes the lines of `stats`: one per vCPU, the reasons that occurred.
///
/// # Errors
///
/// Those of `out`.
pub fn write_stats<'a>(out: &mut dyn fmt::Write, rows: impl Iterator<Item = VcpuStats<'a>>) -> fmt::Result {
    for VcpuStats { partition, vcpu, cpu, exits } in rows {
        let total = exits.iter().fold(0_u64, |total, count| total.wrapping_add(*count));
        write!(out, "{partition} {vcpu} on {cpu}: {total} exits")?;
        let mut separator = ": ";
        for (reason, count) in ExitReason::ALL.into_iter().zip(exits).filter(|(_, count)| *count > 0) {
            write!(out, "{separator}{reason} {count}")?;
            separator = ", ";
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A size in the largest unit that shows it exactly.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            bytes if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => (bytes >> 30, "GiB"),
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => (bytes >> 20, "MiB"),
            bytes => (bytes >> 10, "KiB"),
        };
        // The unit is four characters with its space.
        let width = f.width().unwrap_or(0).saturating_sub(4);
        write!(f, "{value:width$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn list_is_a_table() {
        let rows = [
            PartitionStatus {
                id: PartitionId::new(0),
                name: "linux",
                state: RunState::Running,
                vcpus_on: 2,
                vcpu_count: 2,
                memory: 512 << 20,
                restarts: 0,
            },
            PartitionStatus {
                id: PartitionId::new(1),
                name: "control",
                state: RunState::Stopped(StopReason::Operator),
                vcpus_on: 0,
                vcpu_count: 1,
                memory: 3 << 19,
                restarts: 3,
            },
        ];
        let mut text = String::new();
        write_list(&mut text, rows.into_iter()).unwrap();
        assert_eq!(
            text,
            concat!(
                " #  name     state        vCPUs    memory  restarts\n",
                " 0  linux    running       2/2    512 MiB  0\n",
                " 1  control  stopped       0/1   1536 KiB  3  (operator)\n",
            )
        );
    }

    #[test]
    fn stats_names_the_reasons_that_occurred() {
        let mut exits = [0; ExitReason::COUNT];
        exits[ExitReason::Mmio.index()] = 12;
        exits[ExitReason::Irq.index()] = 3;
        let row = VcpuStats { partition: "linux", vcpu: VcpuId::new(1), cpu: CpuId::new(3), exits };
        let idle = VcpuStats { exits: [0; ExitReason::COUNT], ..row };
        let mut text = String::new();
        write_stats(&mut text, [row, idle].into_iter()).unwrap();
        assert_eq!(text, "linux vcpu1 on cpu3: 15 exits: mmio 12, irq 3\nlinux vcpu1 on cpu3: 0 exits\n");
    }
}
