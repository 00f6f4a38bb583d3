// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every scene uses: the interrupts under test, the log, the second CPU that does as it is told, and waiting.

use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::entry::machine;
use crate::gic::{EndMode, Group, Taken, Trigger};
use crate::list::List;
use crate::machine::MAX_CPUS;
use crate::sync::Lock;
use crate::{cpu, gic, println, smp, timer};

/// One thing to try.
pub struct Scene {
    /// Its name in the log.
    pub name: &'static str,
    /// How many SPIs it needs.
    pub spis: usize,
    /// How many CPUs it needs.
    pub cpus: usize,
    /// Plays it on the boot CPU; the error says what the architecture demands otherwise.
    pub play: fn() -> Result<(), &'static str>,
}

/// The priority of interrupts that a scene does not care about.
pub const USUAL: u8 = 0xa0;

static SPIS: Lock<List<u32, 32>> = Lock::new(List::new(0));

/// Chooses up to 32 SPIs that stay quiet: those of virtio-mmio slots first, then others but the console's.
pub fn choose_spis() {
    let machine = machine();
    SPIS.with(|chosen| {
        for virtio in [true, false] {
            let wanted = machine.spis.iter().filter(|spi| spi.is_virtio == virtio && spi.intid != machine.uart.intid);
            wanted.for_each(|spi| chosen.push(spi.intid));
        }
    });
}

/// Returns how many SPIs there are to play with.
pub fn spi_count() -> usize {
    SPIS.with(|chosen| chosen.len())
}

/// Returns the INTID of the SPI of that rank.
pub fn spi(rank: usize) -> u32 {
    SPIS.with(|chosen| chosen[rank])
}

/// What happened: a word, an interrupt and a number, of which the last two may be missing.
#[derive(Clone, Copy)]
struct Event {
    what: &'static str,
    intid: u32,
    value: u32,
}

const NONE: u32 = u32::MAX;

static LOGS: [Lock<List<Event, 160>>; MAX_CPUS] =
    [const { Lock::new(List::new(Event { what: "", intid: NONE, value: NONE })) }; MAX_CPUS];
static TAKEN: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.what)?;
        if self.intid != NONE {
            write!(out, " {}", Name(self.intid))?;
        }
        if self.value != NONE {
            write!(out, " {:x}", self.value)?;
        }
        Ok(())
    }
}

/// An interrupt's name in the log.
struct Name(u32);

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = machine();
        match self.0 {
            sgi @ 0..16 => write!(out, "sgi{sgi}"),
            intid if intid == machine.virtual_timer => out.write_str("vtimer"),
            intid if intid == machine.physical_timer => out.write_str("ptimer"),
            intid if intid == machine.uart.intid => out.write_str("uart"),
            intid => match SPIS.with(|chosen| chosen.iter().position(|spi| *spi == intid)) {
                Some(rank) => write!(out, "s{rank}"),
                None => write!(out, "unexpected{intid}"),
            },
        }
    }
}

/// Notes an event of an interrupt on this CPU.
pub fn note(what: &'static str, intid: u32) {
    push(Event { what, intid, value: NONE });
}

/// Notes an event with a number on this CPU.
pub fn note_value(what: &'static str, intid: u32, value: u32) {
    push(Event { what, intid, value });
}

/// Notes a word on this CPU.
pub fn say(what: &'static str) {
    push(Event { what, intid: NONE, value: NONE });
}

/// Notes the state of an interrupt as the distributor tells it: 1 pending, 2 active, 4 enabled.
pub fn note_state(intid: u32) {
    let state = u32::from(gic::is_pending(intid)) | u32::from(gic::is_active(intid)) << 1;
    note_value("state", intid, state | u32::from(gic::is_enabled(intid)) << 2);
}

fn push(event: Event) {
    LOGS[cpu::index()].with(|log| log.push(event));
}

/// Returns the INTIDs of this CPU's events called `what`, in order.
pub fn noted(what: &str) -> List<u32, 160> {
    let mut found = List::new(0);
    LOGS[cpu::index()].with(|log| {
        log.iter().filter(|event| event.what == what).for_each(|event| found.push(event.intid));
    });
    found
}

/// Puts the last `count` events of this CPU in order of their interrupts and numbers: their order is the controller's choice.
pub fn sort_last(count: usize) {
    LOGS[cpu::index()].with(|log| {
        let start = log.len().saturating_sub(count);
        log[start..].sort_unstable_by_key(|event| (event.intid, event.value));
    });
}

/// Prints and forgets the events of all CPUs.
pub fn print(scene: &str) {
    for (index, log) in LOGS.iter().enumerate() {
        let events = log.with(|log| core::mem::replace(log, List::new(Event { what: "", intid: NONE, value: NONE })));
        for line in events.chunks(8) {
            println!("vgic {scene} cpu{index}:{}", Line(line));
        }
        if events.lost != 0 {
            println!("vgic {scene} cpu{index}: {} events lost", events.lost);
        }
    }
}

struct Line<'a>(&'a [Event]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|event| write!(out, " {event};"))
    }
}

/// Brings the interrupts under test and the interfaces of all CPUs to a known state.
pub fn prepare() {
    for rank in 0..spi_count() {
        let intid = spi(rank);
        gic::disable(intid);
        gic::unpend(intid);
        gic::clear_active(intid);
        gic::set_priority(intid, USUAL);
        gic::set_group(intid, gic::usual_group());
        gic::set_trigger(intid, Trigger::Edge);
        gic::route(intid, cpu::index());
    }
    prepare_cpu();
    for index in followers() {
        tell(index, prepare_cpu);
    }
}

fn prepare_cpu() {
    TAKEN[cpu::index()].store(0, Ordering::Relaxed);
    timer::stop_virtual();
    timer::stop_physical();
    for intid in (0..16).chain([machine().virtual_timer, machine().physical_timer]) {
        gic::unpend(intid);
        gic::clear_active(intid);
        gic::set_priority(intid, USUAL);
        gic::enable(intid);
    }
    gic::set_mask(0xff);
    gic::set_end_mode(EndMode::Together);
    gic::set_preemption_bits(Group::Zero, 5);
    gic::set_preemption_bits(Group::One, 5);
    gic::use_both_groups(false);
}

/// Gives an SPI a priority and a CPU and enables it.
pub fn arm(rank: usize, priority: u8, index: usize) {
    gic::set_priority(spi(rank), priority);
    gic::route(spi(rank), index);
    gic::enable(spi(rank));
}

/// Takes one interrupt of the usual group and notes it with the running priority.
pub fn take() -> Option<Taken> {
    take_of("take", gic::usual_group())
}

/// Takes one interrupt of `group` and notes it as `what`.
pub fn take_of(what: &'static str, group: Group) -> Option<Taken> {
    let taken = gic::acknowledge(group)?;
    let running = u32::from(gic::running_priority().unwrap_or(0xff));
    note_value(what, taken.intid(), running | taken.source() << 8);
    TAKEN[cpu::index()].fetch_add(1, Ordering::Relaxed);
    Some(taken)
}

/// Ends an interrupt of the usual group.
pub fn end(taken: Taken) {
    gic::end(gic::usual_group(), taken);
}

/// Handles an IRQ: takes and ends it.
pub fn take_and_end() {
    if let Some(taken) = take() {
        end(taken);
    }
}

/// Handles a FIQ: takes and ends an interrupt of Group 0.
pub fn take_fiq_and_end() {
    if let Some(taken) = take_of("fiq", Group::Zero) {
        gic::end(Group::Zero, taken);
    }
}

/// Returns how many interrupts this CPU has taken in the scene.
pub fn taken_count() -> usize {
    TAKEN[cpu::index()].load(Ordering::Relaxed)
}

/// Lets IRQs in until this CPU has taken `count` of them in the scene, for a second at most, and a moment longer.
pub fn open_until(count: usize) {
    let end = timer::after_ms(1000);
    cpu::unmask_irq();
    while taken_count() < count && timer::now() < end {
        spin_loop();
    }
    timer::delay_us(300);
    cpu::mask_irq();
}

/// Lets IRQs in for a moment in which none is expected, or few.
pub fn open() {
    cpu::unmask_irq();
    timer::delay_us(2000);
    cpu::mask_irq();
}

static ORDERS: [AtomicPtr<()>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
static READY: AtomicUsize = AtomicUsize::new(1);

/// Runs on the other CPUs: does what [`tell`] says, with IRQs masked.
pub fn follow(index: usize) {
    gic::init_cpu();
    READY.fetch_add(1, Ordering::Release);
    loop {
        let order = ORDERS[index].load(Ordering::Acquire);
        if order.is_null() {
            spin_loop();
            continue;
        }
        // SAFETY: only `begin` stores here, and it stores a `fn()`.
        let order: fn() = unsafe { core::mem::transmute(order) };
        order();
        ORDERS[index].store(core::ptr::null_mut(), Ordering::Release);
    }
}

/// Waits until `cpus` CPUs are ready.
pub fn wait_for_followers(cpus: usize) {
    assert!(smp::wait_for(&READY, cpus, 5000), "a cpu did not come up");
}

/// Returns the numbers of the other CPUs.
pub fn followers() -> impl Iterator<Item = usize> {
    let own = cpu::index();
    (0..machine().cpus.len()).filter(move |index| *index != own)
}

/// Has CPU `index` run `order` and waits for it.
pub fn tell(index: usize, order: fn()) {
    begin(index, order);
    wait_done(index);
}

/// Has CPU `index` run `order`.
pub fn begin(index: usize, order: fn()) {
    ORDERS[index].store(order as *mut (), Ordering::Release);
}

/// Waits until CPU `index` has done what it was told.
pub fn wait_done(index: usize) {
    let end = timer::after_ms(10_000);
    while !ORDERS[index].load(Ordering::Acquire).is_null() {
        assert!(timer::now() < end, "cpu {index} is stuck");
        spin_loop();
    }
}

/// Returns an error when a claim does not hold.
pub fn check(holds: bool, claim: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(claim) }
}
