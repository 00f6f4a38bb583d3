// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the emulated PL011.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const TXIM: u64 = 0x20;
const RXIM: u64 = 0x10;
const RTIM: u64 = 0x40;

fn word(uart: &Pl011, offset: u64) -> u64 {
    uart.read(offset, Width::Word)
}

fn set(uart: &Pl011, offset: u64, value: u64) -> Effect {
    uart.write(offset, Width::Word, value)
}

/// A UART set up as Linux does: FIFOs on, 8 bits, triggers at half, enabled.
fn enabled() -> Pl011 {
    let uart = Pl011::new();
    set(&uart, UARTLCR_H, 0x70);
    set(&uart, UARTCR, 0x301);
    uart
}

fn drain(uart: &Pl011, count: usize) -> Vec<u8> {
    (0..count).filter_map(|_| uart.output().take()).collect()
}

#[test]
fn reset_values_are_the_manuals() {
    let uart = Pl011::new();
    assert_eq!(word(&uart, UARTCR), 0x300);
    assert_eq!(word(&uart, UARTIFLS), 0x12);
    assert_eq!(word(&uart, UARTFR) & 0xf8, 0x90);
    for offset in [UARTRSR, UARTILPR, UARTIBRD, UARTFBRD, UARTLCR_H, UARTIMSC, UARTRIS, UARTMIS, UARTDMACR] {
        assert_eq!(word(&uart, offset), 0, "{offset:#x}");
    }
}

#[test]
fn it_identifies_itself_as_r1p5() {
    let uart = Pl011::new();
    let ids: Vec<u64> = (0..8).map(|index| word(&uart, 0xfe0 + 4 * index)).collect();
    assert_eq!(ids, [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn output_works_before_anything_is_enabled() {
    let uart = Pl011::new();
    assert_eq!(uart.write(UARTDR, Width::Byte, 0x141), Effect::Output);
    assert_eq!(set(&uart, UARTDR, 0x42), Effect::None);
    // An early console waits for BUSY after each byte.
    assert_eq!(word(&uart, UARTFR) & u64::from(FR_BUSY | FR_TXFF), 0);
    assert_eq!(drain(&uart, 9), b"AB");
    assert_eq!(set(&uart, UARTDR, 0x43), Effect::Output);
}

#[test]
fn a_ring_that_fills_shows_as_a_fifo_that_fills() {
    let uart = enabled();
    for _ in 0..OUTPUT_SIZE - DEPTH {
        set(&uart, UARTDR, 0x2e);
    }
    assert_eq!(word(&uart, UARTFR) & u64::from(FR_TXFE | FR_BUSY), u64::from(FR_TXFE));
    set(&uart, UARTDR, 0x2e);
    assert_eq!(word(&uart, UARTFR) & u64::from(FR_TXFE | FR_BUSY | FR_TXFF), u64::from(FR_BUSY));
    for _ in 1..DEPTH {
        set(&uart, UARTDR, 0x2e);
    }
    assert_eq!(word(&uart, UARTFR) & u64::from(FR_TXFF), u64::from(FR_TXFF));
    assert_eq!(uart.output_lost(), 0);
    set(&uart, UARTDR, 0x2e);
    assert_eq!(uart.output_lost(), 1);
    drain(&uart, 1);
    assert_eq!(word(&uart, UARTFR) & u64::from(FR_TXFF), 0);
}

#[test]
fn the_transmit_interrupt_waits_for_a_first_byte() {
    let uart = enabled();
    set(&uart, UARTIMSC, TXIM);
    assert_eq!(uart.line(), Line::Low);
    set(&uart, UARTDR, 0x2e);
    assert_eq!(uart.line(), Line::High);
    set(&uart, UARTICR, TXIM);
    assert_eq!(uart.line(), Line::Low);
    // Draining below the trigger is no new transition.
    drain(&uart, 1);
    assert_eq!(uart.line(), Line::Low);
}

#[test]
fn the_transmit_interrupt_comes_when_a_full_fifo_has_drained_to_its_trigger() {
    let uart = enabled();
    set(&uart, UARTIMSC, TXIM);
    while word(&uart, UARTFR) & u64::from(FR_TXFF) == 0 {
        set(&uart, UARTDR, 0x2e);
    }
    assert_eq!(uart.line(), Line::Low);
    // Clearing it above the trigger does not lose the transition to come.
    set(&uart, UARTICR, TXIM);
    drain(&uart, DEPTH / 2 - 1);
    assert_eq!(uart.line(), Line::Low);
    drain(&uart, 1);
    assert_eq!(uart.line(), Line::High);
    // Linux now writes half a FIFO without asking.
    for _ in 0..DEPTH / 2 {
        set(&uart, UARTDR, 0x2e);
    }
    assert_eq!(uart.output_lost(), 0);
    assert_eq!(uart.line(), Line::Low);
}

#[test]
fn the_receive_interrupt_follows_the_level() {
    let uart = enabled();
    set(&uart, UARTIMSC, RXIM);
    for byte in 0..15 {
        uart.receive(byte).unwrap();
    }
    assert_eq!(uart.line(), Line::Low);
    uart.receive(15).unwrap();
    assert_eq!(uart.line(), Line::High);
    assert_eq!(word(&uart, UARTDR), 0);
    assert_eq!(uart.line(), Line::Low);
}

#[test]
fn a_single_waiting_byte_raises_the_timeout_until_it_is_read() {
    let uart = enabled();
    set(&uart, UARTIMSC, RXIM | RTIM);
    uart.receive(0x61).unwrap();
    assert_eq!(word(&uart, UARTMIS), RTIM);
    assert_eq!(word(&uart, UARTDR), 0x61);
    assert_eq!(uart.line(), Line::Low);
    assert_eq!(word(&uart, UARTDR), 0);
}

#[test]
fn a_cleared_timeout_stays_clear_until_another_byte_arrives() {
    let uart = enabled();
    set(&uart, UARTIMSC, RTIM);
    uart.receive(0x61).unwrap();
    set(&uart, UARTICR, 0x7ff);
    assert_eq!(uart.line(), Line::Low);
    uart.receive(0x62).unwrap();
    assert_eq!(uart.line(), Line::High);
}

#[test]
fn without_fifos_every_byte_triggers() {
    let uart = Pl011::new();
    set(&uart, UARTIMSC, RXIM);
    uart.receive(1).unwrap();
    assert_eq!(uart.line(), Line::High);
    assert_ne!(word(&uart, UARTFR) & u64::from(FR_RXFF), 0);
    set(&uart, UARTIMSC, TXIM);
    set(&uart, UARTDR, 0);
    assert_eq!(uart.line(), Line::High);
}

#[test]
fn a_full_receive_fifo_refuses_and_an_overrun_is_told() {
    let uart = enabled();
    for byte in 0..32 {
        assert_eq!(uart.receive(byte), Ok(()));
    }
    assert_ne!(word(&uart, UARTFR) & u64::from(FR_RXFF), 0);
    assert_eq!(uart.receive(32), Err(Full));
    assert_eq!(word(&uart, UARTRIS) & u64::from(INT_OE), 0);
    uart.overrun();
    assert_ne!(word(&uart, UARTRIS) & u64::from(INT_OE), 0);
    assert_eq!(word(&uart, UARTRSR), 8);
    set(&uart, UARTRSR, 0);
    assert_eq!(word(&uart, UARTRSR), 0);
    assert_eq!(word(&uart, UARTDR), 0x800);
    assert_eq!(word(&uart, UARTDR), 1);
    set(&uart, UARTICR, INT_OE.into());
    assert_eq!(word(&uart, UARTRIS) & u64::from(INT_OE), 0);
}

#[test]
fn triggers_are_eighths_of_the_fifo() {
    for (select, bytes) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (5, 16), (7, 16)] {
        assert_eq!(trigger(select), bytes);
        let uart = enabled();
        set(&uart, UARTIFLS, u64::from(select) << 3);
        set(&uart, UARTIMSC, RXIM);
        for _ in 1..bytes {
            uart.receive(0).unwrap();
        }
        assert_eq!(uart.line(), Line::Low);
        uart.receive(0).unwrap();
        assert_eq!(uart.line(), Line::High);
    }
}

#[test]
fn loopback_returns_bytes_and_modem_lines_and_sends_nothing() {
    let uart = enabled();
    set(&uart, UARTCR, 0x301 | u64::from(CR_LBE | CR_RTS | CR_OUT2));
    assert_eq!(word(&uart, UARTFR) & 0x107, u64::from(FR_CTS | FR_RI));
    set(&uart, UARTDR, 0x55);
    assert_eq!(word(&uart, UARTDR), 0x55);
    assert_eq!(drain(&uart, 1), []);
}

#[test]
fn a_register_keeps_the_bits_it_has() {
    let uart = Pl011::new();
    let table = [
        (UARTILPR, 0xff),
        (UARTIBRD, 0xffff),
        (UARTFBRD, 0x3f),
        (UARTLCR_H, 0xff),
        (UARTCR, 0xff87),
        (UARTIFLS, 0x3f),
        (UARTIMSC, 0x7ff),
        (UARTDMACR, 7),
    ];
    for (offset, mask) in table {
        set(&uart, offset, u64::MAX);
        assert_eq!(word(&uart, offset), mask);
        assert_eq!(uart.read(offset, Width::Byte), mask & 0xff);
        assert_eq!(uart.read(offset, Width::Half), mask & 0xffff);
        assert_eq!(uart.read(offset, Width::Double), 0);
        assert_eq!(uart.read(offset + 1, Width::Byte), 0);
        uart.write(offset, Width::Double, 0);
        assert_eq!(word(&uart, offset), mask);
        uart.write(offset, Width::Byte, 0xa5a5);
        assert_eq!(word(&uart, offset), 0xa5 & mask);
    }
}

#[test]
fn identification_and_status_are_read_only() {
    let uart = Pl011::new();
    for offset in [UARTFR, UARTRIS, UARTMIS, 0xfe0, 0xff0, 0x80, 0x1000, u64::MAX] {
        let before = word(&uart, offset);
        set(&uart, offset, u64::MAX);
        assert_eq!(word(&uart, offset), before);
    }
}

#[test]
fn reset_keeps_output_and_drops_input() {
    let uart = enabled();
    set(&uart, UARTIMSC, 0x7ff);
    set(&uart, UARTDR, 0x41);
    uart.receive(1).unwrap();
    uart.overrun();
    uart.reset();
    assert_eq!((word(&uart, UARTCR), word(&uart, UARTRIS), word(&uart, UARTDR)), (0x300, 0, 0));
    assert_eq!(drain(&uart, 2), b"A");
    assert_eq!(uart.line(), Line::Low);
}

#[test]
fn settling_ends_with_the_level_that_holds() {
    let uart = enabled();
    set(&uart, UARTIMSC, RTIM);
    let mut applied = Vec::new();
    uart.settle(|line| {
        // A byte arrives between the look and the application.
        if applied.is_empty() {
            uart.receive(1).unwrap();
        }
        applied.push(line);
    });
    assert_eq!(applied, [Line::Low, Line::High]);
}

#[test]
fn housekeeping_and_guest_agree_on_every_byte_without_a_lock() {
    const COUNT: usize = 20_000;
    let uart = enabled();
    set(&uart, UARTIMSC, TXIM | RTIM);
    let mut echoed = Vec::new();
    std::thread::scope(|scope| {
        // The guest echoes its input.
        scope.spawn(|| {
            for _ in 0..COUNT {
                while word(&uart, UARTFR) & u64::from(FR_RXFE) != 0 {
                    std::thread::yield_now();
                }
                let byte = word(&uart, UARTDR);
                while word(&uart, UARTFR) & u64::from(FR_TXFF) != 0 {
                    std::thread::yield_now();
                }
                set(&uart, UARTDR, byte);
            }
        });
        let mut input = (0..=255).cycle().take(COUNT).peekable();
        while echoed.len() < COUNT {
            input.next_if(|&byte| uart.receive(byte).is_ok());
            match uart.output().take() {
                Some(byte) => echoed.push(byte),
                None => std::thread::yield_now(),
            }
        }
    });
    assert!(echoed.iter().copied().eq((0..=255).cycle().take(COUNT)));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, usize, u64),
    Receive(u8),
    Drain(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![4 => (0u64..0x14).prop_map(|index| index * 4), 1 => 0u64..0x1100, 1 => any::<u64>()];
    prop_oneof![
        (offset.clone(), 0usize..4).prop_map(|(offset, width)| Step::Read(offset, width)),
        (offset, 0usize..4, any::<u64>()).prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        any::<u8>().prop_map(Step::Receive),
        (0usize..100).prop_map(Step::Drain),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_accesses_breaks_the_registers(steps in prop::collection::vec(steps(), 0..200)) {
        let uart = Pl011::new();
        for step in steps {
            match step {
                Step::Read(offset, width) => {
                    let width = Width::ALL[width];
                    prop_assert_eq!(uart.read(offset, width) & !width.mask(), 0);
                }
                Step::Write(offset, width, value) => { uart.write(offset, Width::ALL[width], value); }
                Step::Receive(byte) => { let _ = uart.receive(byte); }
                Step::Drain(count) => { drain(&uart, count); }
            }
            let high = word(&uart, UARTRIS) & word(&uart, UARTIMSC) != 0;
            prop_assert_eq!(uart.line() == Line::High, high);
            prop_assert_eq!(word(&uart, UARTMIS) != 0, high);
            let flags = word(&uart, UARTFR);
            prop_assert!(flags & u64::from(FR_TXFE) == 0 || flags & u64::from(FR_TXFF | FR_BUSY) == 0);
            prop_assert!(flags & u64::from(FR_RXFE) == 0 || flags & u64::from(FR_RXFF) == 0);
        }
    }
}
