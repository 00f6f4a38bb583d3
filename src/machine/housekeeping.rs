// SPDX-License-Identifier: MIT OR Apache-2.0
//! Housekeeping: one CPU drives the UART for all, prints records and the log, runs the shell, and watches stops. Whatever
//! guests do, it works at most once a millisecond and for a bounded time, so that the guest whose CPU it borrows is
//! never slowed by more than a stated share ([`REST`]).

mod shell;
mod watch;

use alloc::boxed::Box;
use alloc::vec::Vec;

use ::log::{info, warn};
use spin::Once;
use spin::mutex::SpinMutex;

use super::percpu::{Mail, PerCpu};
use super::{Machine, interrupts};
use crate::arch::timer;
use crate::console::{ByteSource, Key, Keyboard, Mux, Ring, Source, View};
use crate::device::pl011::Full;
use crate::driver::Uart;
use crate::id::PartitionId;
use crate::irqchip;
use shell::Shell;
use watch::Watch;

/// The least time between two rounds of work while there is something to print, in milliseconds.
const BUSY_MILLISECONDS: u64 = 1;
/// A round is followed by at least this many times as long as it took, so that the guest whose CPU this is keeps eight
/// ninths of it whatever the others print.
const REST: u64 = 8;
/// The longest such rest, in milliseconds: where a byte to the UART takes long, as in an emulator, output comes first.
const REST_MILLISECONDS: u64 = 10;
/// The time between two rounds while only unfinished lines wait, in milliseconds.
const IDLE_MILLISECONDS: u64 = 10;
/// How many rounds of the latter kind follow the last work.
const IDLE_ROUNDS: u32 = 30;
/// Bytes that one round prints at most.
const ROUND_BYTES: usize = 256;
/// Bytes of input that one round takes at most.
const ROUND_INPUT: usize = 32;
/// Records of one CPU that one round prints at most.
const ROUND_RECORDS: usize = 8;

/// Housekeeping's state; touched by the housekeeping CPU alone, but for a panic.
struct Desk {
    machine: &'static Machine,
    uart: Option<Uart>,
    mux: Mux,
    keyboard: Keyboard,
    shell: Shell,
    watch: Watch,
    /// Bytes that the UART had no room for.
    unsent: Ring<ROUND_BYTES>,
    names: Box<[&'static str]>,
    /// When the next round may be, in ticks.
    not_before: u64,
    idle_rounds: u32,
}

/// Set once, so that the image need not hold its empty state.
static DESK: Once<SpinMutex<Desk>> = Once::new();
/// The housekeeping CPU: the planned one, or the boot CPU where that did not come up.
static KEEPER: Once<&'static PerCpu> = Once::new();

/// Hands the console over to the housekeeping CPU. Called once, by the boot CPU.
#[inline(never)]
pub fn take_over(machine: &'static Machine, boot_cpu: &'static PerCpu, mut uart: Option<Uart>) {
    let planned = machine.cpu(machine.housekeeping).filter(|cpu| cpu.is_online());
    let keeper = KEEPER.call_once(|| planned.unwrap_or(boot_cpu));
    if planned.is_none() {
        warn!("{} keeps house, since {} did not come up", keeper.id, machine.housekeeping);
    }
    if let Some(uart) = uart.as_mut() {
        uart.enable_receive_interrupt();
    }
    let names: Vec<&'static str> = machine.names.iter().map(|name| name.as_str()).collect();
    let make = || Desk {
        machine,
        uart,
        mux: Mux::new(&names),
        keyboard: Keyboard::new(names.len() as u8),
        shell: Shell::new(),
        watch: Watch::new(names.len()),
        unsent: Ring::new(),
        names: names.into_boxed_slice(),
        not_before: 0,
        idle_rounds: IDLE_ROUNDS,
    };
    DESK.call_once(|| SpinMutex::new(make()));
    if let (Some(intid), Some(target)) = (machine.console, keeper.port()) {
        irqchip::claim(intid, target);
    }
    info!(
        "Ctrl-G moves the keyboard: a digit or n to a partition, h to the hypervisor's shell, r shows one raw, ? explains"
    );
    notify();
}

/// Asks the housekeeping CPU to look. Never waits.
pub fn notify() {
    if let Some(keeper) = KEEPER.get() {
        keeper.post(Mail::Housekeeping);
    }
}

/// Takes the UART away from housekeeping, for a panic.
pub fn seize_uart() -> Option<Uart> {
    let desk = DESK.get()?;
    // SAFETY: the caller panics and never returns to what held the lock.
    unsafe { desk.force_unlock() };
    let mut uart = desk.lock().uart.take()?;
    // Nobody reads what is typed from now on: its interrupt would never end.
    uart.disable_interrupts();
    Some(uart)
}

/// Looks after what has come up: input, mail or the timer. On the housekeeping CPU only.
pub fn attend(this_cpu: &'static PerCpu) {
    if KEEPER.get().is_none_or(|keeper| !core::ptr::eq(*keeper, this_cpu)) {
        return;
    }
    let Some(desk) = DESK.get() else { return };
    let mut desk = desk.lock();
    let desk = &mut *desk;
    desk.read_input();
    let began = timer::now();
    if began < desk.not_before {
        return timer::arm(desk.not_before);
    }
    let due = desk.round();
    let ended = timer::now();
    let rest = ended.saturating_sub(began).saturating_mul(REST);
    let rest = rest.clamp(timer::ticks(BUSY_MILLISECONDS), timer::ticks(REST_MILLISECONDS));
    desk.not_before = ended.saturating_add(rest);
    match due {
        Some(milliseconds) => timer::arm(ended.saturating_add(rest.max(timer::ticks(milliseconds)))),
        None => timer::disarm(),
    }
}

impl Desk {
    /// Takes what was typed, so that the UART's interrupt ends.
    fn read_input(&mut self) {
        for _ in 0..ROUND_INPUT {
            let Some(byte) = self.uart.as_mut().and_then(Uart::try_get) else { return };
            match self.keyboard.press(byte) {
                Key::Nothing | Key::Held | Key::Dropped => {}
                Key::Shell(byte) => self.shell.type_byte(byte, self.machine, &self.names),
                Key::Focus(source) => {
                    self.mux.set_focus(source);
                    self.shell.announce(source, &self.names);
                }
                Key::ToggleRaw => self.mux.set_view(match self.mux.view() {
                    View::Lines => View::Raw,
                    View::Raw => View::Lines,
                }),
                Key::Help => self.shell.explain_keys(&self.names),
            }
        }
    }

    /// Does one round of work. Returns in how many milliseconds the next one is due, if one is.
    fn round(&mut self) -> Option<u64> {
        self.print_records();
        self.watch.look(self.machine, &mut self.keyboard);
        let touched = self.deliver_input();
        let pumped = self.print();
        for id in 0..self.names.len() as u8 {
            let bit = 1_u64.checked_shl(u32::from(id)).unwrap_or(0);
            if (touched | pumped.drained) & bit != 0
                && let Some(partition) = self.machine.partition(PartitionId::new(id))
            {
                interrupts::settle_console(partition);
            }
        }
        let busy = pumped.unfinished
            || pumped.sent > 0
            || pumped.drained != 0
            || !self.unsent.is_empty()
            || self.watch.is_waiting();
        if busy {
            self.idle_rounds = 0;
            return Some(BUSY_MILLISECONDS);
        }
        self.idle_rounds += 1;
        if self.idle_rounds < IDLE_ROUNDS {
            return Some(IDLE_MILLISECONDS);
        }
        self.watch.when_quiet(self.machine);
        None
    }

    /// Turns records of refused accesses into lines of the log.
    fn print_records(&mut self) {
        for cpu in &self.machine.cpus {
            for _ in 0..ROUND_RECORDS {
                let Some(record) = cpu.records.pop() else { break };
                let name = self.names.get(record.partition.index()).copied().unwrap_or("?");
                warn!("{}", record.with_name(name));
            }
            let lost = cpu.records.take_lost();
            if lost > 0 {
                warn!("{}: {lost} records were lost", cpu.id);
            }
        }
    }

    /// Hands typed bytes to the guests; returns whose consoles were touched, one bit each.
    fn deliver_input(&mut self) -> u64 {
        let machine = self.machine;
        let console = |id| machine.partition(id).and_then(|partition| partition.console.as_ref());
        let mut touched = 0;
        let mut touch = |id: PartitionId| touched |= 1_u64.checked_shl(u32::from(id.get())).unwrap_or(0);
        let mut overrun = 0_u64;
        self.keyboard.deliver(
            |id, byte| {
                touch(id);
                // A partition without a console swallows what is typed.
                console(id).map_or(Ok::<(), Full>(()), |console| console.device.receive(byte))
            },
            |id| overrun |= 1_u64.checked_shl(u32::from(id.get())).unwrap_or(0),
        );
        for id in (0..64).filter(|id| overrun >> id & 1 == 1) {
            if let Some(console) = console(PartitionId::new(id)) {
                console.device.overrun();
            }
        }
        touched
    }

    /// Prints at most a round's bytes.
    fn print(&mut self) -> crate::console::Pumped {
        self.flush();
        let Self { machine, mux, shell, unsent, .. } = self;
        let room = ROUND_BYTES - unsent.len();
        let take = |source| match source {
            Source::Partition(id) => machine.partition(id)?.console.as_ref()?.device.output().take(),
            Source::Hypervisor => shell.next_byte(),
        };
        let pumped = mux.pump(take, room, |byte| {
            unsent.push(byte);
        });
        self.flush();
        pumped
    }

    /// Gives the UART what it has room for. Without a UART all is dropped.
    fn flush(&mut self) {
        let Some(uart) = self.uart.as_mut() else {
            self.unsent.clear();
            return;
        };
        while let Some(byte) = self.unsent.peek() {
            if !uart.try_put(byte) {
                return;
            }
            self.unsent.pop();
        }
    }
}
