// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the console UART in the tree and takes it over.

use crate::addr::PaRange;
use crate::arch::mmu::{AddressSpace, Use};
use crate::devicetree::{DeviceTree, Node};
use crate::driver::Uart;
use crate::machine::log;

/// Takes over the UART that `wanted` names (path, alias or label), or /chosen's stdout-path. What was logged before
/// comes out there. Without one the machine runs silently.
pub fn find(space: &mut AddressSpace, tree: &DeviceTree, wanted: Option<&str>) -> bool {
    let Some((node, registers)) = locate(tree, wanted) else { return false };
    if space.map(registers, Use::Device).is_err() {
        return false;
    }
    take_over(node, registers)
}

/// The same while the MMU is off.
pub fn find_without_mmu(tree: &DeviceTree) -> bool {
    locate(tree, None).is_some_and(|(node, registers)| take_over(node, registers))
}

fn locate<'a>(tree: &'a DeviceTree, wanted: Option<&str>) -> Option<(Node<'a>, PaRange)> {
    let node = match wanted {
        Some(reference) => tree.find(reference).ok()?,
        None => tree.stdout()?.0,
    };
    let entry = *node.reg().ok()?.first()?;
    Some((node, PaRange::new(entry.address, entry.size)?))
}

fn take_over(node: Node<'_>, registers: PaRange) -> bool {
    // SAFETY: the tree says that the device is there; it was mapped, or the MMU is off; nobody else drives it.
    let Some(uart) = (unsafe { Uart::probe(node.compatible(), registers) }) else { return false };
    log::set_uart(uart);
    true
}
