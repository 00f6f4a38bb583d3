// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does one wrong thing, says what it got, and ends.
//!
//! Options: `do=` what, `addr=` (0xff0000000) where, `then=off|reset|beat` (off).
//!
//! | `do=` | does |
//! |---|---|
//! | `none` | nothing |
//! | `read`, `write`, `exec` | an access to `addr` |
//! | `pair`, `atomic` | an access to `addr` that a hypervisor cannot decode |
//! | `walk` | an access whose translation table is at `addr` |
//! | `smc`, `hvc` | a call of no known function |
//! | `undef` | an undefined instruction |
//! | `serror` | a store past the caches that nobody waits for: an SError on real buses, an abort in QEMU |
//! | `vectors` | an exception whose vectors are at `addr`: where nothing is, it takes aborts for ever |
//! | `spin` | an endless loop with interrupts masked |
//! | `hold` | takes two ticks, then an SGI of the highest priority that it never ends, masks everything and spins |
//! | `hold-wfi` | the same, but it sleeps |
//! | `hold-active` | the same as `hold`, and claims that an interrupt of the highest priority of all is active |
//! | `end-others` | takes SGIs for ever, and ends each with the id of an SPI, 32 to `addr` in turn, that it never took |
//! | `wfi` | sleeps for ever with interrupts masked |
//! | `off` | turns its own CPU off, the last one |

use core::arch::naked_asm;

use crate::entry::machine;
use crate::gic::SgiTarget;
use crate::guests::ticker;
use crate::mmu::{self, Kind};
use crate::probe::{self, Caught, Code};
use crate::{cpu, gic, println, psci, report, timer, write_register};

/// Runs the guest.
pub fn main() {
    let options = machine().options();
    let address = options.number("addr", 0xf_f000_0000);
    let what = options.text("do").unwrap_or("none");
    println!("fault: do {what} at {address:#x}");
    let got = match what {
        "none" => Ok(0),
        "read" => touch(read, address, Kind::Device),
        "write" => touch(write, address, Kind::Device),
        "exec" => probe::execute(mmu::look_at(address, Kind::Normal) + (address & 0xfff)),
        "pair" => touch(pair, address, Kind::Device),
        "atomic" => touch(atomic, address, Kind::Uncached),
        "walk" => probe::run(read, mmu::translate_by(address), 0),
        "smc" => probe::run(call_smc, 0, 0),
        "hvc" => probe::run(call_hvc, 0, 0),
        "undef" => probe::run(undefined, 0, 0),
        "serror" => serror(address),
        "vectors" => lose_vectors(address),
        "spin" => loop {
            core::hint::spin_loop();
        },
        "hold" => hold(core::hint::spin_loop),
        "hold-wfi" => hold(cpu::wfi),
        "hold-active" => hold(claim_active),
        "end-others" => end_others(address),
        "wfi" => psci::park(),
        "off" => Ok(psci::cpu_off() as u64),
        _ => panic!("no such thing to do: {what}"),
    };
    match got {
        Ok(value) => println!("fault: {what} returned {value:#x}"),
        Err(Caught { esr, far, elr }) => println!("fault: {what} took esr {esr:#x}, far {far:#x}, elr {elr:#x}"),
    }
    report::ok("fault", what);
    match options.text("then") {
        Some("reset") => psci::system_reset(),
        Some("beat") => beat(),
        _ => report::done(),
    }
}

/// Says every second that the guest still lives.
fn beat() -> ! {
    for number in 1u64.. {
        timer::delay_us(1_000_000);
        println!("fault: alive {number}");
    }
    psci::park()
}

/// Shows that interrupts come, and then does all that a guest can against one that makes it leave: an active interrupt of
/// the highest priority, everything masked in the interrupt controller's CPU interface and in PSTATE.
fn hold(wait: fn()) -> ! {
    const SGI: u32 = 1;
    ticker::start(timer::ticks(1000));
    ticker::wait_for(2);
    timer::stop_virtual();
    gic::set_priority(SGI, 0);
    gic::enable(SGI);
    gic::send_sgi(SGI, SgiTarget::Own);
    while gic::acknowledge(gic::usual_group()).is_none() {}
    println!("fault: holds after {} ticks", ticker::beats());
    gic::set_mask(0);
    if gic::is_v3() {
        write_register!("s3_0_c12_c12_7", 0u64); // ICC_IGRPEN1_EL1
    }
    cpu::mask_all();
    loop {
        wait();
    }
}

/// Ends its own interrupts by the ids of others: ICC_EOIR1_EL1, which a guest with direct interrupts has itself.
fn end_others(last: u64) -> ! {
    const SGI: u32 = 1;
    gic::init_distributor();
    gic::init_cpu();
    gic::enable(SGI);
    println!("fault: ends interrupts that it never took");
    for round in 0u64.. {
        gic::send_sgi(SGI, SgiTarget::Own);
        while gic::acknowledge(gic::usual_group()).is_none() {}
        write_register!("s3_0_c12_c12_1", 32 + round % (last - 31)); // ICC_EOIR1_EL1
        gic::clear_active(SGI);
        if round % 100_000 == 0 {
            println!("fault: alive {round}");
        }
    }
    psci::park()
}

fn claim_active() {
    write_register!("s3_0_c12_c9_0", 1u64); // ICC_AP1R0_EL1
}

fn touch(code: Code, address: u64, kind: Kind) -> Result<u64, Caught> {
    probe::run(code, mmu::look_at(address, kind) + (address & 0xfff), 0x5e97_0a11)
}

/// Stores where nobody answers, and lets an SError in while it waits.
fn serror(address: u64) -> Result<u64, Caught> {
    let window = mmu::look_at(address, Kind::Uncached);
    probe::run(store_and_wait, window + (address & 0xfff), 0)
}

/// Takes an exception whose vectors are at `address`.
fn lose_vectors(address: u64) -> Result<u64, Caught> {
    let vectors = mmu::look_at(address, Kind::Normal) + (address & 0xfff);
    write_register!("vbar_el1", vectors);
    cpu::isb();
    probe::run(undefined, 0, 0)
}

macro_rules! code {
    ($($name:ident: $($line:literal),*;)*) => {
        $(
            #[unsafe(naked)]
            unsafe extern "C" fn $name(_address: u64, _value: u64) -> u64 {
                naked_asm!($($line,)* "ret")
            }
        )*
    };
}

code! {
    read: "ldr x0, [x0]";
    write: "str x1, [x0]", "mov x0, #0";
    pair: "ldp x0, x1, [x0]";
    atomic: "1: ldxr x2, [x0]", "stxr w3, x1, [x0]", "mov x0, x2";
    undefined: "udf #0";
    call_smc: "ldr x0, =0xc700fffe", "smc #0";
    call_hvc: "ldr x0, =0xc700fffe", "hvc #0";
    store_and_wait: "str x1, [x0]", "dsb sy", "msr daifclr, #4", "isb", "msr daifset, #4", "mov x0, #0";
}
