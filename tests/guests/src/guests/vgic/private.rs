// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes with interrupts of one CPU: SGIs in all target modes, and the timers' PPIs.

use super::stage::{
    Scene, begin, check, followers, note_state, note_value, noted, open, open_until, sort_last, taken_count, tell,
    wait_done,
};
use crate::entry::machine;
use crate::gic::SgiTarget;
use crate::{cpu, exception, gic, mmio, timer};

/// The scenes, in the order of the log.
pub const SCENES: &[Scene] = &[
    Scene { name: "sgi-self", spis: 0, cpus: 1, play: sgi_self },
    Scene { name: "sgi-one", spis: 0, cpus: 2, play: sgi_one },
    Scene { name: "sgi-others", spis: 0, cpus: 2, play: sgi_others },
    Scene { name: "sgi-sources", spis: 0, cpus: 2, play: sgi_sources },
    Scene { name: "sgi-order", spis: 0, cpus: 1, play: sgi_order },
    Scene { name: "sgi-state", spis: 0, cpus: 1, play: sgi_state },
    Scene { name: "timers", spis: 0, cpus: 1, play: timers },
    Scene { name: "timers-other", spis: 0, cpus: 2, play: timers_other },
    Scene { name: "timer-disabled", spis: 0, cpus: 1, play: timer_disabled },
    Scene { name: "ppi-soft", spis: 0, cpus: 1, play: ppi_soft },
];

fn other() -> usize {
    followers().next().unwrap_or(0)
}

/// A CPU interrupts itself, by the mode for that and by its own number.
fn sgi_self() -> Result<(), &'static str> {
    gic::send_sgi(1, SgiTarget::Own);
    gic::send_sgi(2, SgiTarget::Cpu(cpu::index()));
    open_until(2);
    sort_last(2);
    check(taken_count() == 2, "not both came")
}

/// A CPU interrupts each other CPU, and is interrupted by it.
fn sgi_one() -> Result<(), &'static str> {
    for index in followers() {
        begin(index, || open_until(1));
        gic::send_sgi(3, SgiTarget::Cpu(index));
        wait_done(index);
    }
    tell(other(), || gic::send_sgi(4, SgiTarget::Cpu(0)));
    open_until(1);
    check(taken_count() == 1, "no answer came")
}

/// The mode for all others reaches these and not the sender.
fn sgi_others() -> Result<(), &'static str> {
    followers().for_each(|index| begin(index, || open_until(1)));
    gic::send_sgi(5, SgiTarget::Others);
    followers().for_each(wait_done);
    open();
    check(taken_count() == 0, "the sender interrupted itself")
}

/// On GICv2 the same SGI of two senders comes twice, and IAR tells them apart; on GICv3 it comes once.
fn sgi_sources() -> Result<(), &'static str> {
    tell(other(), || gic::send_sgi(6, SgiTarget::Cpu(0)));
    gic::send_sgi(6, SgiTarget::Own);
    timer::delay_us(1000);
    note_state(6);
    let expected = if gic::is_v3() { 1 } else { 2 };
    open_until(expected);
    sort_last(taken_count());
    note_state(6);
    check(taken_count() == expected, "senders were lost or doubled")
}

/// Sixteen SGIs at once come by priority.
fn sgi_order() -> Result<(), &'static str> {
    for sgi in 0..16u32 {
        gic::set_priority(sgi, 0x20 + (sgi * 7 % 16) as u8 * 8);
        note_value("priority", sgi, (gic::priority(sgi) & 0xf8).into());
    }
    (0..16).for_each(|sgi| gic::send_sgi(sgi, SgiTarget::Own));
    open_until(16);
    let order = noted("take");
    let sorted = order.windows(2).all(|pair| gic::priority(pair[0]) < gic::priority(pair[1]));
    check(order.len() == 16 && sorted, "not 16 SGIs by priority")
}

/// An SGI can be pended and taken back by register: GICD_SPENDSGIR of GICv2, GICR_ISPENDR0 of GICv3.
fn sgi_state() -> Result<(), &'static str> {
    const SPENDSGIR: u64 = 0xf20;
    const CPENDSGIR: u64 = 0xf10;
    let own = 1u8 << gic::own_interface();
    let pend = |sgi: u32| match gic::is_v3() {
        true => gic::pend(sgi),
        false => mmio::write8(gic::distributor() + SPENDSGIR + u64::from(sgi), own),
    };
    let unpend = |sgi: u32| match gic::is_v3() {
        true => gic::unpend(sgi),
        false => mmio::write8(gic::distributor() + CPENDSGIR + u64::from(sgi), own),
    };
    pend(7);
    note_state(7);
    unpend(7);
    note_state(7);
    open();
    let none = taken_count() == 0;
    pend(8);
    open_until(1);
    note_state(8);
    check(none && taken_count() == 1, "taken though not pending, or never")
}

/// Handles a timer's interrupt: stops the timers, so that the line drops before the end.
fn take_timer() {
    let Some(taken) = super::stage::take() else { return };
    if taken.intid() == machine().virtual_timer {
        timer::stop_virtual();
    } else {
        timer::stop_physical();
    }
    super::stage::end(taken);
}

fn fire_both() {
    timer::start_virtual(timer::now() + timer::ticks(500));
    open_until(1);
    timer::start_physical(timer::ticks(500));
    open_until(2);
    note_state(machine().virtual_timer);
    note_state(machine().physical_timer);
}

/// Both timers interrupt, once each.
fn timers() -> Result<(), &'static str> {
    exception::on_irq(take_timer);
    fire_both();
    check(taken_count() == 2, "not both timers came once")
}

/// The timers of another CPU interrupt that one.
fn timers_other() -> Result<(), &'static str> {
    exception::on_irq(take_timer);
    tell(other(), fire_both);
    check(taken_count() == 0, "another CPU's timer came here")
}

/// A timer that has expired pends while its interrupt is disabled, and comes when it is enabled.
fn timer_disabled() -> Result<(), &'static str> {
    exception::on_irq(take_timer);
    let intid = machine().virtual_timer;
    gic::disable(intid);
    timer::start_virtual(timer::now());
    timer::delay_us(1000);
    note_state(intid);
    open();
    let waited = taken_count() == 0;
    gic::enable(intid);
    open_until(1);
    note_state(intid);
    gic::disable(intid);
    timer::start_virtual(timer::now());
    timer::delay_us(1000);
    timer::stop_virtual();
    note_state(intid);
    gic::enable(intid);
    open();
    check(waited && taken_count() == 1, "taken while disabled, never, or after the timer stopped")
}

/// A timer's interrupt that software pends comes once.
fn ppi_soft() -> Result<(), &'static str> {
    exception::on_irq(take_timer);
    let intid = machine().virtual_timer;
    gic::pend(intid);
    note_state(intid);
    open_until(1);
    note_state(intid);
    check(taken_count() == 1, "not once")
}
