// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor's log: a ring of text. Until the machine runs, the boot CPU prints it at once; then the housekeeping
//! CPU prints it among the guests' lines. Only these two ever log, so that no exit waits for a UART.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::mutex::SpinMutex;

use crate::arch::mmu;
use crate::config::LogLevel;
use crate::driver::Uart;

/// Bytes of text that are kept.
pub const CAPACITY: usize = 8 << 10;

/// The text, and how much of it was printed; both count from the first byte ever written.
pub struct Text {
    bytes: [u8; CAPACITY],
    written: usize,
    printed: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; CAPACITY], written: 0, printed: 0 }
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.written % CAPACITY) {
            *slot = byte;
        }
        self.written = self.written.wrapping_add(1);
    }

    /// Takes the next byte that was not printed; what was overwritten meanwhile is skipped.
    pub fn next_byte(&mut self) -> Option<u8> {
        self.printed = self.printed.max(self.written.saturating_sub(CAPACITY));
        if self.printed >= self.written {
            return None;
        }
        let byte = self.bytes.get(self.printed % CAPACITY).copied();
        self.printed += 1;
        byte
    }

    /// Tells whether there is a byte that was not printed.
    pub fn has_more(&self) -> bool {
        self.printed < self.written
    }

    /// Lets all that is kept be printed again: the shell's `log`.
    pub fn rewind(&mut self) {
        self.printed = self.written.saturating_sub(CAPACITY);
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// The console until the housekeeping CPU takes it over, and the log.
struct State {
    text: Text,
    uart: Option<Uart>,
}

static STATE: SpinMutex<State> = SpinMutex::new(State { text: Text::new(), uart: None });
static BOOTING: AtomicBool = AtomicBool::new(true);

/// Runs `f` on the state. With the MMU off there is one CPU, and no lock is taken: exclusives need not work there.
fn with_state<R>(f: impl FnOnce(&mut State) -> R) -> R {
    if mmu::is_on() {
        f(&mut STATE.lock())
    } else {
        // SAFETY: only the boot CPU runs while the MMU is off, and it does not nest.
        f(unsafe { &mut *STATE.as_mut_ptr() })
    }
}

struct Logger;

impl ::log::Log for Logger {
    fn enabled(&self, _: &::log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &::log::Record<'_>) {
        if record.level() > ::log::max_level() {
            return;
        }
        with_state(|state| {
            let _ = match record.level() {
                ::log::Level::Error => writeln!(state.text, "error: {}", record.args()),
                ::log::Level::Warn => writeln!(state.text, "warning: {}", record.args()),
                _ => writeln!(state.text, "{}", record.args()),
            };
            if BOOTING.load(Ordering::Relaxed) {
                print_all(state, "[septum] ");
            }
        });
    }

    fn flush(&self) {}
}

/// Prints what was not printed yet, at once.
fn print_all(state: &mut State, prefix: &str) {
    let State { text, uart: Some(uart) } = state else { return };
    let mut line_start = true;
    while let Some(byte) = text.next_byte() {
        if line_start {
            prefix.bytes().for_each(|byte| uart.put(byte));
        }
        line_start = byte == b'\n';
        if line_start {
            uart.put(b'\r');
        }
        uart.put(byte);
    }
}

/// Begins logging. Called once, by the boot CPU.
pub fn init() {
    static LOGGER: Logger = Logger;
    // SAFETY: only the boot CPU runs and nobody logs yet; the racy form needs no atomics, which the MMU's being off
    // could make unreliable.
    let _ = unsafe { ::log::set_logger_racy(&LOGGER) };
    // SAFETY: as above.
    unsafe { ::log::set_max_level_racy(::log::LevelFilter::Info) };
}

/// Sets the least severity that is printed.
pub fn set_level(level: LogLevel) {
    ::log::set_max_level(match level {
        LogLevel::Error => ::log::LevelFilter::Error,
        LogLevel::Warn => ::log::LevelFilter::Warn,
        LogLevel::Info => ::log::LevelFilter::Info,
        LogLevel::Debug => ::log::LevelFilter::Debug,
    });
}

/// Gives the boot CPU a console; what was logged before comes out now.
pub fn set_uart(mut uart: Uart) {
    // Whoever used the UART before, a reset may have come in the middle of a line.
    uart.put(b'\r');
    uart.put(b'\n');
    with_state(|state| {
        state.uart = Some(uart);
        print_all(state, "[septum] ");
    });
}

/// Ends the time of booting: the housekeeping CPU takes the console over.
pub fn hand_over() -> Option<Uart> {
    BOOTING.store(false, Ordering::SeqCst);
    with_state(|state| state.uart.take())
}

/// Runs `f` on the log's text. For the housekeeping CPU.
pub fn with_text<R>(f: impl FnOnce(&mut Text) -> R) -> R {
    with_state(|state| f(&mut state.text))
}

/// Returns the log's text and the boot console without waiting for whoever holds them: for a panic, after which nobody
/// goes on.
///
/// # Safety
///
/// The caller never returns to what it interrupted, and no other CPU logs any more.
pub unsafe fn seize() {
    // SAFETY: as the caller ensures; a holder that was interrupted does not go on.
    unsafe { STATE.force_unlock() };
    BOOTING.store(true, Ordering::SeqCst);
}
