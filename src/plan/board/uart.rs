// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor's console.

use alloc::string::ToString;

use super::{BoardError, Gic, Uart};
use crate::devicetree::{DeviceTree, Node, RegEntry, gic_interrupt};
use crate::id::{Intid, Trigger};

/// Reads the console that was asked for, or that /chosen names. That none is named, or one that cannot be reached, is
/// no error: the hypervisor then runs without.
pub(super) fn read(tree: &DeviceTree, gic: &Gic, asked: Option<&str>) -> Result<Option<Uart>, BoardError> {
    let Some(reference) = asked else {
        let node = tree.stdout().map(|(node, _)| node);
        return Ok(node.and_then(|node| uart(node, gic)));
    };
    let node = tree.find(reference).map_err(|error| BoardError::NoConsole { why: error.to_string() })?;
    match uart(node, gic) {
        Some(uart) => Ok(Some(uart)),
        None => Err(BoardError::ConsoleWithoutRegisters { path: node.path() }),
    }
}

fn uart(node: Node<'_>, gic: &Gic) -> Option<Uart> {
    let entries = node.reg().unwrap_or_default();
    Some(Uart {
        path: node.path(),
        registers: entries.iter().find_map(RegEntry::range)?,
        compatible: node.compatible().map(ToString::to_string).collect(),
        interrupt: interrupt(node, gic),
    })
}

fn interrupt(node: Node<'_>, gic: &Gic) -> Option<(Intid, Trigger)> {
    let interrupts = node.interrupts().unwrap_or_default();
    let first = interrupts.first()?;
    if first.controller.path() != gic.path {
        return None;
    }
    gic_interrupt(first.cells())
}
