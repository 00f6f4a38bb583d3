// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes in which one CPU changes an interrupt that is pending or active on another, which cannot see it: it masks IRQs.

use super::shared::{hold_nothing, take_and_hold};
use super::stage::{
    Scene, arm, begin, check, followers, note_state, note_value, open, open_until, spi, taken_count, tell, wait_done,
};
use crate::gic::EndMode;
use crate::list::List;
use crate::sync::Lock;
use crate::{cpu, exception, gic, timer};

/// The scenes, in the order of the log.
pub const SCENES: &[Scene] = &[
    Scene { name: "cross-pend", spis: 4, cpus: 2, play: pend },
    Scene { name: "cross-disable", spis: 1, cpus: 2, play: disable },
    Scene { name: "cross-clear", spis: 1, cpus: 2, play: clear },
    Scene { name: "cross-retarget", spis: 1, cpus: 2, play: retarget },
    Scene { name: "cross-retarget-many", spis: 8, cpus: 2, play: retarget_many },
    Scene { name: "cross-active", spis: 1, cpus: 2, play: active },
    Scene { name: "cross-priority", spis: 2, cpus: 2, play: priority },
];

/// What the other CPU had taken when it last looked.
static SEEN: Lock<List<usize, 16>> = Lock::new(List::new(0));

fn other() -> usize {
    followers().next().unwrap_or(0)
}

/// Lets the other CPU take what it has, and returns how many it has taken in the scene.
fn let_other_in() -> usize {
    SEEN.with(List::clear);
    tell(other(), || {
        open();
        SEEN.with(|seen| seen.push(taken_count()));
    });
    SEEN.with(|seen| seen[0])
}

/// Waits so long that what was sent to the other CPU has arrived there.
fn settle() {
    timer::delay_us(1000);
}

/// Interrupts that one CPU pends come at the other.
fn pend() -> Result<(), &'static str> {
    (0..4).for_each(|rank| arm(rank, 0x40 + (rank as u8) * 8, other()));
    begin(other(), || open_until(4));
    for rank in 0..4 {
        gic::pend(spi(rank));
        settle();
    }
    wait_done(other());
    open();
    let others = let_other_in();
    check(others == 4 && taken_count() == 0, "not all came at the other CPU")
}

/// An interrupt that pends at another CPU and is disabled does not come there, until it is enabled.
fn disable() -> Result<(), &'static str> {
    arm(0, 0x60, other());
    gic::pend(spi(0));
    settle();
    gic::disable(spi(0));
    note_state(spi(0));
    let first = let_other_in();
    note_value("taken", spi(0), first as u32);
    gic::enable(spi(0));
    settle();
    let second = let_other_in();
    note_value("taken", spi(0), second as u32);
    note_state(spi(0));
    check(first == 0 && second == 1, "taken while disabled, or never")
}

/// A pending state that is taken back does not come at the other CPU.
fn clear() -> Result<(), &'static str> {
    arm(0, 0x60, other());
    gic::pend(spi(0));
    settle();
    note_state(spi(0));
    gic::unpend(spi(0));
    note_state(spi(0));
    let taken = let_other_in();
    note_value("taken", spi(0), taken as u32);
    check(taken == 0, "taken though not pending")
}

/// A pending interrupt goes where it is routed now.
fn retarget() -> Result<(), &'static str> {
    arm(0, 0x60, other());
    gic::pend(spi(0));
    settle();
    gic::route(spi(0), cpu::index());
    settle();
    note_state(spi(0));
    let others = let_other_in();
    note_value("other took", spi(0), others as u32);
    open_until(1);
    note_state(spi(0));
    check(others == 0 && taken_count() == 1, "taken at the CPU that it was routed away from, or never")
}

/// Eight pending interrupts, more than list registers, move to another CPU, by priority.
fn retarget_many() -> Result<(), &'static str> {
    for rank in 0..8 {
        arm(rank, 0x40 + (rank as u8) * 8, other());
        gic::pend(spi(rank));
    }
    settle();
    (0..8).for_each(|rank| gic::route(spi(rank), cpu::index()));
    settle();
    let others = let_other_in();
    open_until(8);
    check(others == 0 && taken_count() == 8, "not all moved")
}

/// The active state that another CPU holds can be seen and taken back; then the interrupt can come again.
fn active() -> Result<(), &'static str> {
    hold_nothing();
    exception::on_irq(take_and_hold);
    tell(other(), || gic::set_end_mode(EndMode::Split));
    arm(0, 0x60, other());
    gic::pend(spi(0));
    settle();
    let first = let_other_in();
    note_state(spi(0));
    gic::pend(spi(0));
    note_state(spi(0));
    let second = let_other_in();
    gic::clear_active(spi(0));
    note_state(spi(0));
    settle();
    let third = let_other_in();
    note_state(spi(0));
    gic::clear_active(spi(0));
    note_state(spi(0));
    note_value("taken", spi(0), (first << 8 | second << 4 | third) as u32);
    check((first, second, third) == (1, 1, 2), "taken while active, or not after that")
}

/// Interrupts pending at another CPU take their new priorities.
fn priority() -> Result<(), &'static str> {
    arm(0, 0x60, other());
    arm(1, 0x70, other());
    gic::pend(spi(0));
    gic::pend(spi(1));
    settle();
    gic::set_priority(spi(1), 0x50);
    settle();
    check(let_other_in() == 2, "not both were taken")
}
