// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes with SPIs on one CPU: order, nesting, end modes, states, masks, groups.

use super::stage::{
    Scene, arm, check, end, note, note_state, note_value, noted, open, open_until, say, sort_last, spi, take, take_of,
    taken_count,
};
use crate::gic::{EndMode, Group, Taken, Trigger};
use crate::list::List;
use crate::sync::Lock;
use crate::{cpu, exception, gic, timer};

/// The scenes, in the order of the log.
pub const SCENES: &[Scene] = &[
    Scene { name: "registers", spis: 32, cpus: 1, play: registers },
    Scene { name: "order", spis: 32, cpus: 1, play: order },
    Scene { name: "nest", spis: 8, cpus: 1, play: nest },
    Scene { name: "split", spis: 3, cpus: 1, play: split_three },
    Scene { name: "split-many", spis: 7, cpus: 1, play: split_seven },
    Scene { name: "repend-active", spis: 1, cpus: 1, play: repend_active },
    Scene { name: "repend-dropped", spis: 1, cpus: 1, play: repend_dropped },
    Scene { name: "clear-pending", spis: 1, cpus: 1, play: clear_pending },
    Scene { name: "disable-pending", spis: 1, cpus: 1, play: disable_pending },
    Scene { name: "set-active", spis: 1, cpus: 1, play: set_active },
    Scene { name: "change-priority", spis: 2, cpus: 1, play: change_priority },
    Scene { name: "mask", spis: 2, cpus: 1, play: mask },
    Scene { name: "binary-point", spis: 4, cpus: 1, play: binary_point },
    Scene { name: "groups", spis: 4, cpus: 1, play: groups },
];

/// Registers read back what was written to them.
fn registers() -> Result<(), &'static str> {
    let own = cpu::index();
    let mut right = true;
    for rank in 0..32 {
        let intid = spi(rank);
        let priority = (rank as u8) << 3;
        let trigger = if rank % 3 == 0 { Trigger::Level } else { Trigger::Edge };
        let group = if rank % 5 == 0 { Group::Zero } else { Group::One };
        gic::set_priority(intid, priority);
        gic::set_trigger(intid, trigger);
        gic::set_group(intid, group);
        gic::route(intid, own);
        if rank % 2 == 0 {
            gic::enable(intid);
        }
        right &= gic::priority(intid) & 0xf8 == priority
            && gic::trigger(intid) == trigger
            && gic::group(intid) == group
            && gic::route_of(intid) == Some(own)
            && gic::is_enabled(intid) == (rank % 2 == 0);
        let bits = u32::from(gic::trigger(intid) == Trigger::Edge)
            | u32::from(gic::group(intid) == Group::One) << 1
            | u32::from(gic::is_enabled(intid)) << 2
            | u32::from(gic::route_of(intid) == Some(own)) << 3;
        note_value("reads", intid, u32::from(gic::priority(intid) & 0xf8) << 8 | bits);
    }
    for rank in 0..32 {
        gic::disable(spi(rank));
        right &= !gic::is_enabled(spi(rank));
    }
    check(right, "a register did not keep its value")
}

/// 32 interrupts pend at once and come by priority. Only 31 priorities are below the lowest mask, so two share the last.
fn order() -> Result<(), &'static str> {
    let own = cpu::index();
    for rank in 0..32 {
        arm(rank, priority_in_disorder(rank), own);
    }
    for rank in 0..32 {
        gic::pend(spi(rank));
    }
    for rank in [0, 13, 31] {
        note_state(spi(rank));
    }
    open_until(32);
    sort_last(2);
    let order = noted("take");
    let rank_of = |intid: u32| (0..32).find(|rank| spi(*rank) == intid).unwrap_or(0);
    let sorted =
        order.windows(2).all(|pair| priority_in_disorder(rank_of(pair[0])) <= priority_in_disorder(rank_of(pair[1])));
    check(order.len() == 32 && sorted, "not 32 interrupts by priority")
}

/// Returns a priority of 0 to 0xf0 in steps of 8, another one for each rank but for ranks 0 and 31.
fn priority_in_disorder(rank: usize) -> u8 {
    match rank {
        0 | 31 => 0xf0,
        _ => ((rank * 7 % 31).wrapping_sub(1) % 31 * 8) as u8,
    }
}

/// How deep the handler of [`nest`] goes.
const LEVELS: usize = 8;

/// Interrupts nest deeper than there are list registers.
fn nest() -> Result<(), &'static str> {
    exception::on_irq(nest_deeper);
    for level in 0..LEVELS {
        arm(level, 0x80 - (level as u8) * 0x10, cpu::index());
    }
    gic::pend(spi(0));
    open_until(LEVELS);
    let (taken, ended) = (noted("take"), noted("end"));
    let mirrored = taken.iter().eq(ended.iter().rev());
    check(taken.len() == LEVELS && mirrored, "not nested to the end")
}

/// Takes an interrupt, pends a more urgent one and lets it in before the end.
fn nest_deeper() {
    let Some(taken) = take() else { return };
    let depth = taken_count();
    if depth < LEVELS {
        gic::pend(spi(depth));
        open_until_inside(depth + 1);
    }
    note_value("back", taken.intid(), u32::from(gic::running_priority().unwrap_or(0xff)));
    note("end", taken.intid());
    end(taken);
}

/// Lets IRQs in inside a handler until `count` interrupts have been taken.
fn open_until_inside(count: usize) {
    let limit = timer::after_ms(1000);
    cpu::unmask_irq();
    while taken_count() < count && timer::now() < limit {}
    cpu::mask_irq();
}

static HELD: Lock<List<Taken, 16>> = Lock::new(List::new(Taken(0)));

/// Takes an interrupt, drops its priority and keeps it active.
pub fn take_and_hold() {
    if let Some(taken) = take() {
        end(taken);
        HELD.with(|held| held.push(taken));
    }
}

/// Deactivates the held interrupt that was taken as number `index`.
pub fn deactivate_held(index: usize) {
    match HELD.with(|held| held.get(index).copied()) {
        Some(taken) => {
            note("deactivate", taken.intid());
            gic::deactivate(taken);
        }
        None => say("nothing to deactivate"),
    }
}

/// Forgets the held interrupts of an earlier scene.
pub fn hold_nothing() {
    HELD.with(List::clear);
}

fn split_three() -> Result<(), &'static str> {
    split(&[2, 0, 1])
}

fn split_seven() -> Result<(), &'static str> {
    split(&[3, 6, 0, 5, 1, 4, 2])
}

/// With EOImode 1, interrupts are dropped as they come and deactivated in another order.
fn split(order: &[usize]) -> Result<(), &'static str> {
    hold_nothing();
    exception::on_irq(take_and_hold);
    gic::set_end_mode(EndMode::Split);
    for rank in 0..order.len() {
        arm(rank, 0x40 + (rank as u8) * 8, cpu::index());
        gic::pend(spi(rank));
    }
    open_until(order.len());
    let mut right = true;
    (0..order.len()).for_each(|rank| note_state(spi(rank)));
    for (step, index) in order.iter().enumerate() {
        deactivate_held(*index);
        let active = (0..order.len()).filter(|rank| gic::is_active(spi(*rank))).count();
        note_value("active", spi(*index), active as u32);
        right &= active == order.len() - 1 - step;
    }
    // Each can come again.
    (0..order.len()).for_each(|rank| gic::pend(spi(rank)));
    open_until(2 * order.len());
    (0..order.len()).for_each(|index| deactivate_held(order.len() + index));
    check(right && taken_count() == 2 * order.len(), "an interrupt was lost or stayed active")
}

/// An interrupt that pends again while active comes again after its end.
fn repend_active() -> Result<(), &'static str> {
    exception::on_irq(repend_inside);
    arm(0, 0x60, cpu::index());
    gic::pend(spi(0));
    open_until(3);
    note_state(spi(0));
    check(taken_count() == 3, "not taken three times")
}

fn repend_inside() {
    let Some(taken) = take() else { return };
    if taken_count() < 3 {
        gic::pend(taken.intid());
        note_state(taken.intid());
    }
    end(taken);
}

/// An interrupt that pends again after its priority drop waits for its deactivation.
fn repend_dropped() -> Result<(), &'static str> {
    hold_nothing();
    exception::on_irq(take_and_hold);
    gic::set_end_mode(EndMode::Split);
    arm(0, 0x60, cpu::index());
    gic::pend(spi(0));
    open_until(1);
    gic::pend(spi(0));
    note_state(spi(0));
    open();
    let waited = taken_count() == 1;
    say(if waited { "waits" } else { "does not wait" });
    deactivate_held(0);
    open_until(2);
    deactivate_held(1);
    note_state(spi(0));
    check(waited && taken_count() == 2, "taken while active, or never")
}

/// A pending state that is taken back does not come.
fn clear_pending() -> Result<(), &'static str> {
    arm(0, 0x60, cpu::index());
    gic::pend(spi(0));
    note_state(spi(0));
    gic::unpend(spi(0));
    note_state(spi(0));
    open();
    check(taken_count() == 0, "taken though not pending")
}

/// A pending interrupt that is disabled waits until it is enabled.
fn disable_pending() -> Result<(), &'static str> {
    arm(0, 0x60, cpu::index());
    gic::pend(spi(0));
    gic::disable(spi(0));
    note_state(spi(0));
    open();
    let waited = taken_count() == 0;
    say(if waited { "waits" } else { "does not wait" });
    gic::enable(spi(0));
    open_until(1);
    note_state(spi(0));
    check(waited && taken_count() == 1, "taken while disabled, or never")
}

/// An interrupt that is made active by the distributor does not come until that is taken back.
fn set_active() -> Result<(), &'static str> {
    arm(0, 0x60, cpu::index());
    gic::activate(spi(0));
    note_state(spi(0));
    gic::pend(spi(0));
    note_state(spi(0));
    open();
    let waited = taken_count() == 0;
    say(if waited { "waits" } else { "does not wait" });
    gic::clear_active(spi(0));
    note_state(spi(0));
    open_until(1);
    note_state(spi(0));
    check(waited && taken_count() == 1, "taken while active, or never")
}

/// A pending interrupt takes its new priority.
fn change_priority() -> Result<(), &'static str> {
    arm(0, 0x60, cpu::index());
    arm(1, 0x70, cpu::index());
    gic::pend(spi(0));
    gic::pend(spi(1));
    gic::set_priority(spi(1), 0x50);
    open_until(2);
    check(noted("take").iter().eq([spi(1), spi(0)].iter()), "the old priority decided")
}

/// The priority mask holds back what is not more urgent than it.
fn mask() -> Result<(), &'static str> {
    arm(0, 0x40, cpu::index());
    arm(1, 0x80, cpu::index());
    gic::pend(spi(0));
    gic::pend(spi(1));
    for priority in [0x00, 0x40, 0x48, 0x80, 0x88] {
        gic::set_mask(priority);
        open();
        note_value("mask", spi(0), u32::from(priority) << 8 | taken_count() as u32);
    }
    gic::set_mask(0xff);
    check(taken_count() == 2, "not both were taken")
}

/// Only the bits above the binary point decide over preemption; all bits decide what comes first.
fn binary_point() -> Result<(), &'static str> {
    let own = cpu::index();
    gic::set_preemption_bits(gic::usual_group(), 2);
    exception::on_irq(pend_three_inside);
    arm(0, 0x70, own); // taken first
    arm(1, 0x60, own); // more urgent, but of the same two bits: waits
    arm(2, 0x50, own); // the same, and before s1
    arm(3, 0x30, own); // preempts
    gic::pend(spi(0));
    open_until(4);
    let order = noted("take");
    check(order.iter().eq([0, 3, 2, 1].map(spi).iter()), "not in the order of group and sub-priority")
}

fn pend_three_inside() {
    let Some(taken) = take() else { return };
    if taken.intid() == spi(0) {
        (1..4).for_each(|rank| gic::pend(spi(rank)));
        cpu::unmask_irq();
        timer::delay_us(2000);
        cpu::mask_irq();
    }
    note_value("end", taken.intid(), u32::from(gic::running_priority().unwrap_or(0xff)));
    end(taken);
}

/// Group 0 comes as FIQ, Group 1 as IRQ, each through its own registers.
fn groups() -> Result<(), &'static str> {
    let own = cpu::index();
    gic::use_both_groups(true);
    exception::on_irq(take_group1);
    exception::on_fiq(take_group0);
    for (rank, group) in [(0, Group::Zero), (1, Group::One), (2, Group::Zero), (3, Group::One)] {
        arm(rank, 0x40 + (rank as u8) * 0x10, own);
        gic::set_group(spi(rank), group);
    }
    // The most urgent is of Group 0, so the last two of Group 1 come after it.
    (0..4).for_each(|rank| gic::pend(spi(rank)));
    say("irq open");
    open();
    say("fiq open");
    cpu::unmask_fiq();
    timer::delay_us(2000);
    say("both open");
    open_until(4);
    cpu::mask_interrupts();
    gic::use_both_groups(false);
    let (fiqs, irqs) = (noted("fiq"), noted("irq"));
    let right = fiqs.iter().eq([spi(0), spi(2)].iter()) && irqs.iter().eq([spi(1), spi(3)].iter());
    check(right, "an interrupt came as the wrong exception, or not at all")
}

fn take_group0() {
    if let Some(taken) = take_of("fiq", Group::Zero) {
        gic::end(Group::Zero, taken);
    }
}

fn take_group1() {
    if let Some(taken) = take_of("irq", Group::One) {
        gic::end(Group::One, taken);
    }
}
