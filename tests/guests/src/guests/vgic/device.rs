// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes with a level line that a device drives: the transmit interrupt of the console's PL011.
//!
//! Whatever was printed has raised the UART's transmit status; the mask register decides whether the line is high.

use super::stage::{Scene, check, end, note_state, open, open_until, say, take, taken_count};
use crate::entry::machine;
use crate::gic::Trigger;
use crate::{cpu, exception, gic, mmio};

/// The scenes, in the order of the log.
pub const SCENES: &[Scene] = &[
    Scene { name: "level", spis: 0, cpus: 1, play: level },
    Scene { name: "level-disabled", spis: 0, cpus: 1, play: level_disabled },
    Scene { name: "level-drop", spis: 0, cpus: 1, play: level_drop },
    Scene { name: "level-clear", spis: 0, cpus: 1, play: level_clear },
    Scene { name: "level-soft", spis: 0, cpus: 1, play: level_soft },
];

const INTERRUPT_MASK: u64 = 0x38;
const TRANSMIT: u32 = 1 << 5;
/// How often the handler sees the line high before it masks it at the device.
const TIMES: usize = 3;

/// Raises or drops the line.
fn set_line(high: bool) {
    mmio::write32(machine().uart.registers.base + INTERRUPT_MASK, if high { TRANSMIT } else { 0 });
    cpu::dsb();
}

fn arm_uart() -> u32 {
    let intid = machine().uart.intid;
    set_line(false);
    gic::disable(intid);
    gic::unpend(intid);
    gic::clear_active(intid);
    gic::set_trigger(intid, Trigger::Level);
    gic::set_group(intid, gic::usual_group());
    gic::set_priority(intid, 0x60);
    gic::route(intid, cpu::index());
    gic::enable(intid);
    exception::on_irq(take_level);
    intid
}

/// Ends the interrupt; the third time it masks it at the device before.
fn take_level() {
    let Some(taken) = take() else { return };
    note_state(taken.intid());
    if taken_count() >= TIMES {
        set_line(false);
        note_state(taken.intid());
    }
    end(taken);
}

/// A high line interrupts again and again until the device drops it.
fn level() -> Result<(), &'static str> {
    let intid = arm_uart();
    note_state(intid);
    cpu::unmask_irq();
    set_line(true);
    open_until(TIMES);
    note_state(intid);
    gic::disable(intid);
    check(taken_count() == TIMES, "did not come again, or did not stop")
}

/// A high line is pending while disabled, and comes when enabled.
fn level_disabled() -> Result<(), &'static str> {
    let intid = arm_uart();
    gic::disable(intid);
    set_line(true);
    note_state(intid);
    open();
    let waited = taken_count() == 0;
    gic::enable(intid);
    open_until(TIMES);
    note_state(intid);
    gic::disable(intid);
    check(waited && taken_count() == TIMES, "taken while disabled, or never")
}

/// A line that drops before the interrupt was taken leaves nothing behind.
fn level_drop() -> Result<(), &'static str> {
    let intid = arm_uart();
    set_line(true);
    note_state(intid);
    set_line(false);
    note_state(intid);
    open();
    gic::disable(intid);
    check(taken_count() == 0, "taken though the line had dropped")
}

/// Clearing the pending state does not lower the line.
fn level_clear() -> Result<(), &'static str> {
    let intid = arm_uart();
    set_line(true);
    gic::unpend(intid);
    note_state(intid);
    open_until(TIMES);
    gic::disable(intid);
    check(taken_count() == TIMES, "the line was forgotten")
}

/// A level interrupt that software pends comes once without its line, and pends on when the line falls.
fn level_soft() -> Result<(), &'static str> {
    let intid = arm_uart();
    gic::pend(intid);
    note_state(intid);
    open_until(1);
    let once = taken_count() == 1;
    note_state(intid);
    set_line(true);
    gic::pend(intid);
    set_line(false);
    say("line low");
    note_state(intid);
    open_until(2);
    note_state(intid);
    gic::disable(intid);
    check(once && taken_count() == 2, "not once each")
}
