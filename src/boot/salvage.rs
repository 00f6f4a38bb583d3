// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds some console when there is no tree that can be read, so that even then there is a sentence to see. Memory is
//! searched for a device tree; a damaged one is searched for the name of a node that looks like a PL011, whose own
//! identification registers must agree. All of it runs with the MMU off, where every address can be tried: a read that
//! faults is answered by `arch::probe`.

use crate::addr::{Pa, PaRange};
use crate::arch::probe;
use crate::devicetree::DeviceTree;
use crate::driver::Uart;
use crate::machine::{bytes, log};

use super::console;

/// The first four bytes of a device tree, as a little-endian word.
const MAGIC: u32 = 0xd00d_feed_u32.swap_bytes();
/// How far around the image a tree is looked for.
const REACH: u64 = 256 << 20;
/// Trees lie at multiples of this.
const STEP: u64 = 2 << 20;
/// How much of a damaged tree is looked at.
const DAMAGED_LIMIT: u64 = 64 << 10;

/// Finds a console when `tree` (as passed in x0) could not be read.
pub fn any_console(tree: u64, base: u64) {
    let found = if is_tree(tree) { Some(tree) } else { search(base) };
    let Some(address) = found else { return };
    let Some(range) = PaRange::new(Pa::new(address), DAMAGED_LIMIT) else { return };
    // SAFETY: the MMU is off and `is_tree` has read its first word: it is RAM.
    let blob = unsafe { bytes(range) };
    let intact = DeviceTree::extent(blob).ok().and_then(|extent| PaRange::new(Pa::new(address), extent));
    // SAFETY: as above; the header says how long the tree is.
    let intact = intact.and_then(|range| DeviceTree::parse(unsafe { bytes(range) }).ok());
    if !intact.is_some_and(|tree| console::find_without_mmu(&tree)) {
        damaged(blob);
    }
}

/// Finds a console for a CPU at the wrong exception level, with its MMU off.
pub fn console_without_mmu(tree: u64) {
    if tree == 0 || tree & 7 != 0 || tree < 0x1000 {
        return;
    }
    // SAFETY: the boot protocol says that x0 is a device tree; the MMU is off, so that every address can be read.
    let header = PaRange::new(Pa::new(tree), 40).map(|range| unsafe { bytes(range) });
    let Some(Ok(extent)) = header.map(DeviceTree::extent) else { return };
    // SAFETY: as above; the header says how long the tree is.
    let blob = PaRange::new(Pa::new(tree), extent).map(|range| unsafe { bytes(range) });
    if let Some(Ok(tree)) = blob.map(DeviceTree::parse) {
        console::find_without_mmu(&tree);
    }
}

fn is_tree(address: u64) -> bool {
    address >= 0x1000 && address & 7 == 0 && probe::read(Pa::new(address)) == Some(MAGIC)
}

fn search(base: u64) -> Option<u64> {
    let first = base.saturating_sub(REACH);
    let count = 2 * REACH / STEP;
    (0..count).map(|step| first + step * STEP).find(|address| is_tree(*address))
}

/// Looks for "pl011@<address>" and the like in what is left of a tree.
fn damaged(blob: &[u8]) {
    for name in [&b"pl011@"[..], b"serial@", b"uart@"] {
        for (at, window) in blob.windows(name.len()).enumerate() {
            if window != name {
                continue;
            }
            let Some(rest) = blob.get(at + name.len()..) else { continue };
            let Some(base) = hexadecimal(rest) else { continue };
            if is_pl011(base) && take_over(base) {
                return;
            }
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take(16).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let text = core::str::from_utf8(bytes.get(..digits)?).ok()?;
    u64::from_str_radix(text, 16).ok().filter(|address| *address != 0 && address & 0xfff == 0)
}

/// Reads PeriphID0 and 1 and PCellID (DDI 0183, 3.3.14).
fn is_pl011(base: u64) -> bool {
    let identity = [(0xfe0, 0x11), (0xff0, 0x0d), (0xff4, 0xf0), (0xff8, 0x05), (0xffc, 0xb1)];
    identity
        .iter()
        .all(|(offset, expected)| probe::read(Pa::new(base + offset)).is_some_and(|value| value & 0xff == *expected))
}

fn take_over(base: u64) -> bool {
    let Some(range) = PaRange::new(Pa::new(base), 0x1000) else { return false };
    // SAFETY: its identification registers say that it is a PL011; nothing else drives it.
    let Some(uart) = (unsafe { Uart::probe(core::iter::once("arm,pl011"), range) }) else { return false };
    log::set_uart(uart);
    true
}
