// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logs what an interrupt controller does, so that the log under Septum can be compared with the log on the bare machine.
//!
//! Nothing in the log depends on time or on addresses: interrupts of devices are called s0, s1 ... by their rank among those of
//! the virtio-mmio slots (which are quiet without a driver), priorities are multiples of 8 and below 0xf8, and
//! interrupts of equal urgency are not compared. So the same file of expectations fits the physical interface of a GIC
//! and the virtual one.
//!
//! It wants two CPUs and 32 virtio-mmio slots. Options: `only=NAME` runs one scene.

mod cross;
mod device;
mod private;
mod shared;
mod stage;

use crate::entry::machine;
use crate::{exception, gic, println, report, smp};
use stage::{Scene, prepare};

/// Runs the guest.
pub fn main() {
    stage::choose_spis();
    gic::init_distributor();
    gic::init_cpu();
    let cpus = smp::start_others(stage::follow);
    stage::wait_for_followers(cpus);
    println!("vgic: gic v{}, {cpus} cpus, {} spis", if gic::is_v3() { 3 } else { 2 }, stage::spi_count());

    let only = machine().options().text("only");
    let scenes = [shared::SCENES, cross::SCENES, device::SCENES, private::SCENES];
    for scene in scenes.into_iter().flatten().filter(|scene| only.is_none_or(|name| name == scene.name)) {
        run(scene);
    }
    report::done();
}

fn run(scene: &Scene) {
    if stage::spi_count() < scene.spis || machine().cpus.len() < scene.cpus {
        report::fail("vgic", scene.name, format_args!("needs {} spis and {} cpus", scene.spis, scene.cpus));
        return;
    }
    prepare();
    exception::on_irq(stage::take_and_end);
    exception::on_fiq(stage::take_fiq_and_end);
    let verdict = (scene.play)();
    stage::print(scene.name);
    match verdict {
        Ok(()) => report::ok("vgic", scene.name),
        Err(why) => report::fail("vgic", scene.name, format_args!("{why}")),
    }
}
