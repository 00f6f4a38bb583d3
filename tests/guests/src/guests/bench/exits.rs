// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenes in which the exits are counted from outside, from QEMU's exception log (`-d int`): between two marks, each an SVC
//! whose number the log shows and that goes to EL1, so that it is no exit itself.
//!
//! `scene=exits hz=100 ticks=100 busy=1 alarm=1 print=1000`: so many ticks of the virtual timer, asleep or busy between them;
//! with `alarm` the clock's interrupt with each of them; `print` characters stand in the console's way at the first mark.

use core::arch::naked_asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::entry::machine;
use crate::random::Random;
use crate::{cpu, exception, gic, mmio, println, probe, psci, timer};

static PERIOD: AtomicU64 = AtomicU64::new(0);
static DEADLINE: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);
static ALARMS: AtomicU64 = AtomicU64::new(0);

/// The clock's interrupt (PL031, DDI 0224): mask, and clear.
const INTERRUPT_MASK: u64 = 0x10;
const INTERRUPT_CLEAR: u64 = 0x1c;
const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;

/// Plays the scene and stays, so that the hypervisor can be asked for its own count.
pub fn play() -> ! {
    let options = machine().options();
    let hertz = options.number("hz", 100).max(1);
    let ticks = options.number("ticks", 100);
    let (busy, alarm) = (options.number("busy", 0) != 0, options.number("alarm", 0) != 0);
    assert!(!alarm || machine().rtc_intid != 0, "the scene wants the clock");

    exception::on_irq(take);
    gic::enable(machine().virtual_timer);
    if alarm {
        prepare_alarm();
    }
    PERIOD.store(timer::frequency() / hertz, Ordering::Relaxed);
    DEADLINE.store(timer::now() + PERIOD.load(Ordering::Relaxed), Ordering::Relaxed);
    timer::start_virtual(DEADLINE.load(Ordering::Relaxed));
    // The count begins just behind a tick.
    wait_for(1, busy, alarm);
    for _ in 0..options.number("print", 0) / 50 {
        println!("{:.<49}", "");
    }
    mark(begin);
    wait_for(1 + ticks, busy, alarm);
    mark(end);
    timer::stop_virtual();
    println!("bench: {ticks} ticks and {} alarms", ALARMS.load(Ordering::Relaxed));
    println!("SCENE OVER");
    mark(last);
    psci::park()
}

/// Waits for a number of ticks; with `alarm` each is followed by the clock's interrupt.
fn wait_for(number: u64, busy: bool, alarm: bool) {
    while TICKS.load(Ordering::Relaxed) < number {
        let before = TICKS.load(Ordering::Relaxed);
        if busy {
            cpu::unmask_irq();
            let mut random = Random::new(1, 2);
            while TICKS.load(Ordering::Relaxed) == before {
                black_box(random.bits());
            }
        } else {
            // WFI also ends for a masked interrupt: nothing can come between the check and the sleep.
            cpu::wfi();
            cpu::unmask_irq();
            cpu::isb();
        }
        if alarm && TICKS.load(Ordering::Relaxed) != before {
            let alarms = ALARMS.load(Ordering::Relaxed);
            mmio::write32(machine().rtc.base + INTERRUPT_MASK, 1);
            // Due now; again where the second ends between the two.
            while ALARMS.load(Ordering::Relaxed) == alarms {
                mmio::write32(machine().rtc.base + MATCH, mmio::read32(machine().rtc.base + DATA));
            }
        }
        cpu::mask_irq();
    }
}

fn take() {
    let Some(taken) = gic::acknowledge(gic::usual_group()) else { return };
    if taken.intid() == machine().virtual_timer {
        let next = DEADLINE.load(Ordering::Relaxed) + PERIOD.load(Ordering::Relaxed);
        DEADLINE.store(next, Ordering::Relaxed);
        timer::start_virtual(next);
        TICKS.fetch_add(1, Ordering::Relaxed);
    } else {
        mmio::write32(machine().rtc.base + INTERRUPT_MASK, 0);
        mmio::write32(machine().rtc.base + INTERRUPT_CLEAR, 1);
        ALARMS.fetch_add(1, Ordering::Relaxed);
    }
    gic::end(gic::usual_group(), taken);
}

fn prepare_alarm() {
    mmio::write32(machine().rtc.base + INTERRUPT_MASK, 0);
    gic::route(machine().rtc_intid, cpu::index());
    gic::enable(machine().rtc_intid);
}

/// Leaves a mark in the log; the exception comes back through the probe.
fn mark(code: probe::Code) {
    cpu::dsb();
    // The mark is what comes of it.
    let _ = probe::run(code, 0, 0);
}

macro_rules! marks {
    ($($name:ident: $number:literal;)*) => {
        $(
            /// One mark.
            #[unsafe(naked)]
            unsafe extern "C" fn $name(_first: u64, _second: u64) -> u64 {
                naked_asm!(concat!("svc #", $number), "ret")
            }
        )*
    };
}

marks! {
    begin: "0xbe01";
    end: "0xbe02";
    last: "0xbe03";
}
