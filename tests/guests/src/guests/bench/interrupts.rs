// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows from a trigger to the first instruction of its handler, on this CPU and on another.

use core::arch::{asm, global_asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use super::row;
use crate::entry::machine;
use crate::gic::SgiTarget;
use crate::machine::Conduit;
use crate::{cpu, exception, gic, mmio, psci, report, smp, timer, write_register};

const PING: u32 = 1;
const PONG: u32 = 2;
/// How many SPIs are pending in the row that wants them.
const PENDING: usize = 16;

/// Runs the rows.
pub fn run() {
    gic::enable(PING);
    gic::enable(PONG);
    gic::enable(machine().virtual_timer);
    row("sgi-self", sgi_self);
    row("vtimer-irq-busy", || virtual_timer(spin));
    row("vtimer-irq-wfi", || virtual_timer(sleep));
    behind_pending();
    if machine().rtc_intid != 0 {
        row("spi-device", clock_alarm);
    }
    if machine().cpus.len() > 1 {
        row("cpu-on-call", || turn_on().0);
        row("cpu-on-first-insn", || turn_on().1);
        row("ipi-pingpong", ping_pong);
    }
}

// The vectors of a row: an IRQ reads the counter into x21 with its first instruction and goes on at x24, IRQs masked.
// Everything else goes to the usual vectors.
global_asm!(
    r#"
    .section .text.bench_vectors, "ax"
    .balign 2048
    .global bench_vectors
bench_vectors:
    .irp    offset, 0x000, 0x080, 0x100, 0x180, 0x200
    .balign 128
    b       vectors + \offset
    .endr
    .balign 128
    mrs     x21, cntvct_el0
    msr     elr_el1, x24
    mrs     x22, spsr_el1
    orr     x22, x22, #0x80
    msr     spsr_el1, x22
    eret
    .irp    offset, 0x300, 0x380, 0x400, 0x480, 0x500, 0x580, 0x600, 0x680, 0x700, 0x780
    .balign 128
    b       vectors + \offset
    .endr
"#
);

unsafe extern "C" {
    static bench_vectors: u8;
}

/// Counter before the trigger and in the handler.
#[repr(C)]
struct Times {
    before: u64,
    handler: u64,
}

/// What triggers and waits: two arguments, the times.
type Trigger = unsafe extern "C" fn(u64, u64) -> Times;

/// Runs `trigger` with the vectors of a row and takes the interrupt that came.
fn measure(trigger: Trigger, first: u64, second: u64) -> Times {
    write_register!("vbar_el1", (&raw const bench_vectors) as u64);
    cpu::isb();
    // SAFETY: the trigger unmasks IRQs until one comes through the vectors above, which use the registers that it has saved.
    let times = unsafe { trigger(first, second) };
    exception::install_vectors();
    times
}

fn finish() {
    if let Some(taken) = gic::acknowledge(gic::usual_group()) {
        gic::end(gic::usual_group(), taken);
    }
}

fn sgi_self() -> u64 {
    let times = if gic::is_v3() {
        let list = 1 << (cpu::affinity() & 0xf);
        let groups = (cpu::affinity() >> 8 & 0xff) << 16 | (cpu::affinity() >> 16 & 0xff) << 32;
        measure(trigger_sgi_v3, groups | u64::from(PING) << 24 | list, 0)
    } else {
        measure(trigger_store, gic::distributor() + 0xf00, 2 << 24 | u64::from(PING))
    };
    finish();
    times.handler - times.before
}

fn virtual_timer(wait: Trigger) -> u64 {
    let deadline = timer::now() + timer::ticks(20);
    timer::start_virtual(deadline);
    let times = measure(wait, 0, 0);
    timer::stop_virtual();
    finish();
    times.handler - deadline
}

/// The timer while as many SPIs are pending as [`PENDING`] says, enabled and too low in priority to be taken: more than
/// the list registers of a hypervisor hold. The timer comes through, by its priority, in every round.
fn behind_pending() {
    let quiet = || machine().spis.iter().filter(|spi| spi.is_virtio).take(PENDING);
    if quiet().count() < PENDING {
        return;
    }
    let timer = machine().virtual_timer;
    let usual = gic::priority(timer);
    gic::set_mask(0xc0);
    gic::set_priority(timer, 0x80);
    for spi in quiet() {
        gic::set_priority(spi.intid, 0xe0);
        gic::route(spi.intid, cpu::index());
        gic::enable(spi.intid);
        gic::pend(spi.intid);
    }
    row("vtimer-irq-16-pending", || virtual_timer(spin));
    let pending = quiet().filter(|spi| gic::is_pending(spi.intid)).count();
    report::equal("bench", "spis-stay-pending", pending, PENDING);
    for spi in quiet() {
        gic::disable(spi.intid);
        gic::unpend(spi.intid);
    }
    gic::set_priority(timer, usual);
    gic::set_mask(0xff);
}

/// The interrupt of a real device that is the guest's own: a PL031 (DDI 0224) whose alarm is due now raises its line when
/// it is unmasked.
fn clock_alarm() -> u64 {
    const DATA: u64 = 0x00;
    const MATCH: u64 = 0x04;
    const INTERRUPT_MASK: u64 = 0x10;
    const INTERRUPT_CLEAR: u64 = 0x1c;
    let (clock, intid) = (machine().rtc.base, machine().rtc_intid);
    gic::route(intid, cpu::index());
    gic::enable(intid);
    mmio::write32(clock + INTERRUPT_MASK, 0);
    mmio::write32(clock + MATCH, mmio::read32(clock + DATA));
    let times = measure(trigger_store, clock + INTERRUPT_MASK, 1);
    mmio::write32(clock + INTERRUPT_MASK, 0);
    mmio::write32(clock + INTERRUPT_CLEAR, 1);
    finish();
    gic::disable(intid);
    times.handler - times.before
}

macro_rules! triggers {
    ($($name:ident: $event:literal, $wait:literal;)*) => {
        $(
            /// Unmasks IRQs, triggers one and waits for it.
            #[unsafe(naked)]
            unsafe extern "C" fn $name(_first: u64, _second: u64) -> Times {
                naked_asm!(
                    "stp x19, x20, [sp, #-48]!",
                    "stp x21, x22, [sp, #16]",
                    "str x24, [sp, #32]",
                    "adr x24, 2f",
                    "msr daifclr, #2",
                    "isb",
                    "mrs x19, cntvct_el0",
                    $event,
                    concat!("1: ", $wait),
                    "b 1b",
                    "2: mov x0, x19",
                    "mov x1, x21",
                    "ldr x24, [sp, #32]",
                    "ldp x21, x22, [sp, #16]",
                    "ldp x19, x20, [sp], #48",
                    "ret",
                )
            }
        )*
    };
}

triggers! {
    spin: "", "nop";
    sleep: "", "wfi";
    trigger_store: "str w1, [x0]", "nop";
    trigger_sgi_v3: "msr S3_0_C12_C11_5, x0", "isb";
}

/// Where a CPU that has been turned on leaves the time, and how it is to turn itself off.
#[repr(C)]
struct Arrival {
    time: AtomicU64,
    by_smc: AtomicU64,
}

static ARRIVAL: Arrival = Arrival { time: AtomicU64::new(0), by_smc: AtomicU64::new(0) };

/// Returns the ticks of CPU_ON, and those to the first instruction of the CPU that it turned on.
fn turn_on() -> (u64, u64) {
    let mpidr = machine().cpus[1];
    let arrival = (&raw const ARRIVAL) as u64;
    ARRIVAL.time.store(0, Ordering::Relaxed);
    ARRIVAL.by_smc.store((machine().conduit == Conduit::Smc).into(), Ordering::Relaxed);
    cpu::flush_cache(arrival, size_of::<Arrival>() as u64);
    let before = timer::now();
    let result = psci::cpu_on(mpidr, first_instruction as *const () as u64, arrival);
    let after = timer::now();
    // Asleep this CPU does not count while the other comes up.
    sleep_until(after + timer::ticks(100));
    while psci::affinity_info(mpidr) != 1 {}
    cpu::flush_cache(arrival, size_of::<Arrival>() as u64);
    assert!(result == psci::SUCCESS, "CPU_ON returned {result}");
    (after - before, ARRIVAL.time.load(Ordering::Relaxed) - before)
}

/// Sleeps; the timer's interrupt is taken, since one that stays pending would end the next sleep at once.
fn sleep_until(deadline: u64) {
    timer::start_virtual(deadline);
    while timer::now() < deadline {
        cpu::wfi();
    }
    timer::stop_virtual();
    finish();
}

/// Notes the time and turns the CPU off; runs with the MMU off.
#[unsafe(naked)]
unsafe extern "C" fn first_instruction() {
    naked_asm!(
        "mrs x1, cntvct_el0",
        "str x1, [x0]",
        "ldr x2, [x0, #8]",
        "dsb sy",
        "movz x0, #0x8400, lsl #16",
        "add x0, x0, #2",
        "cbnz x2, 1f",
        "hvc #0",
        "b .",
        "1: smc #0",
        "b .",
    )
}

/// Returns the ticks from an SGI to another CPU to its answer; both sleep while they wait.
fn ping_pong() -> u64 {
    if psci::affinity_info(machine().cpus[1]) == 1 {
        assert!(smp::start(1, answer).is_ok(), "the second cpu does not start");
        // It is asleep by then.
        sleep_until(timer::now() + timer::ticks(1000));
    }
    let before = timer::now();
    gic::send_sgi(PING, SgiTarget::Cpu(1));
    wait_and_take();
    timer::now() - before
}

/// Answers each SGI with one.
fn answer(_index: usize) {
    gic::init_cpu();
    gic::enable(PING);
    loop {
        wait_and_take();
        gic::send_sgi(PONG, SgiTarget::Cpu(0));
    }
}

/// Sleeps until an interrupt is pending, takes and ends it.
fn wait_and_take() {
    loop {
        // SAFETY: WFI waits; IRQs are masked, so that the interrupt is taken below.
        unsafe { asm!("wfi", options(nostack)) };
        if let Some(taken) = gic::acknowledge(gic::usual_group()) {
            gic::end(gic::usual_group(), taken);
            return;
        }
    }
}
