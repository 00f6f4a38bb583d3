// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keyboard: whose input a byte of the UART is. Ctrl-G and a key move it; QEMU's monitor (Ctrl-A), shells, editors and
//! terminals leave Ctrl-G alone.

use core::fmt;

use super::Source;
use crate::device::pl011::Full;
use crate::id::PartitionId;

/// The escape key: Ctrl-G.
pub const ESCAPE: u8 = 0x07;

/// Bytes that wait for guests to read.
const HELD_SIZE: usize = 256;

/// What a byte of the UART was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Nothing to do: half of an escape, or an unknown key behind it.
    Nothing,
    /// Input of a partition: it waits for [`Keyboard::deliver`].
    Held,
    /// Input of a partition that was dropped: too much waits.
    Dropped,
    /// A byte for the shell.
    Shell(u8),
    /// The focus has moved here.
    Focus(Source),
    /// The raw view is to be switched on or off.
    ToggleRaw,
    /// The keys are to be explained.
    Help,
}

/// The keyboard.
#[derive(Debug)]
pub struct Keyboard {
    partition_count: u8,
    focus: Source,
    is_escaped: bool,
    held: [(PartitionId, u8); HELD_SIZE],
    held_len: usize,
    dropped: u32,
    /// Partitions (bit n: id n) that lost input and were not told.
    overrun: u64,
}

impl Keyboard {
    /// Returns a keyboard whose focus is partition 0, or the hypervisor when there is none.
    pub fn new(partition_count: u8) -> Self {
        let focus = if partition_count > 0 { Source::Partition(PartitionId::new(0)) } else { Source::Hypervisor };
        Self {
            partition_count,
            focus,
            is_escaped: false,
            held: [(PartitionId::new(0), 0); HELD_SIZE],
            held_len: 0,
            dropped: 0,
            overrun: 0,
        }
    }

    /// Returns whose the keyboard is.
    pub fn focus(&self) -> Source {
        self.focus
    }

    /// Returns how many bytes were dropped since the start, because their guests do not read.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Takes a byte of the UART.
    pub fn press(&mut self, byte: u8) -> Key {
        match (core::mem::take(&mut self.is_escaped), byte) {
            (false, ESCAPE) => {
                self.is_escaped = true;
                Key::Nothing
            }
            (false, byte) | (true, byte @ ESCAPE) => self.input(byte),
            (true, digit @ b'0'..=b'9') => self.move_to(digit - b'0'),
            (true, b'n') => match self.focus {
                Source::Partition(id) if id.get() < self.partition_count.saturating_sub(1) => {
                    self.move_to(id.get() + 1)
                }
                Source::Partition(_) | Source::Hypervisor => self.move_to(0),
            },
            (true, b'h') => {
                self.focus = Source::Hypervisor;
                Key::Focus(self.focus)
            }
            (true, b'r') => Key::ToggleRaw,
            (true, b'?') => Key::Help,
            (true, _) => Key::Nothing,
        }
    }

    /// Hands what is held to the guests with `receive`, in order; what a guest cannot take yet goes on waiting
    /// and does not hold up the others. Then tells with `overrun` who has lost input.
    pub fn deliver(
        &mut self,
        mut receive: impl FnMut(PartitionId, u8) -> Result<(), Full>,
        mut overrun: impl FnMut(PartitionId),
    ) {
        let mut blocked = 0_u64;
        let mut kept = 0;
        for place in 0..self.held_len {
            let Some(&(id, byte)) = self.held.get(place) else { break };
            let bit = 1_u64.checked_shl(id.get().into()).unwrap_or(0);
            if blocked & bit == 0 && receive(id, byte).is_ok() {
                continue;
            }
            blocked |= bit;
            if let Some(slot) = self.held.get_mut(kept) {
                *slot = (id, byte);
                kept += 1;
            }
        }
        self.held_len = kept;
        let mut lost = core::mem::take(&mut self.overrun);
        while lost != 0 {
            let [id, ..] = lost.trailing_zeros().to_le_bytes();
            overrun(PartitionId::new(id));
            lost &= lost - 1;
        }
    }

    /// Drops what waits for a partition: it is restarted.
    pub fn forget(&mut self, partition: PartitionId) {
        let mut kept = 0;
        for place in 0..self.held_len {
            let Some(&entry) = self.held.get(place) else { break };
            if entry.0 != partition
                && let Some(slot) = self.held.get_mut(kept)
            {
                *slot = entry;
                kept += 1;
            }
        }
        self.held_len = kept;
    }

    fn move_to(&mut self, id: u8) -> Key {
        if id >= self.partition_count {
            return Key::Nothing;
        }
        self.focus = Source::Partition(PartitionId::new(id));
        Key::Focus(self.focus)
    }

    fn input(&mut self, byte: u8) -> Key {
        let Source::Partition(id) = self.focus else { return Key::Shell(byte) };
        match self.held.get_mut(self.held_len) {
            Some(slot) => {
                *slot = (id, byte);
                self.held_len += 1;
                Key::Held
            }
            None => {
                self.dropped = self.dropped.saturating_add(1);
                self.overrun |= 1_u64.checked_shl(id.get().into()).unwrap_or(0);
                Key::Dropped
            }
        }
    }
}

/// Explains the keys, with the partitions' names in the order of their ids.
///
/// # Errors
///
/// Those of `out`.
pub fn write_keys(out: &mut dyn fmt::Write, names: &[&str]) -> fmt::Result {
    writeln!(out, "Ctrl-G, then")?;
    for (digit, name) in names.iter().take(10).enumerate() {
        writeln!(out, "  {digit}       keyboard to {name}")?;
    }
    writeln!(out, "  n       keyboard to the next partition")?;
    writeln!(out, "  h       keyboard to the hypervisor's shell")?;
    writeln!(out, "  r       show the partition in focus alone and raw, or all again")?;
    writeln!(out, "  Ctrl-G  send a Ctrl-G")?;
    writeln!(out, "  ?       this list")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    const P0: PartitionId = PartitionId::new(0);
    const P1: PartitionId = PartitionId::new(1);

    fn delivered(keyboard: &mut Keyboard) -> Vec<(PartitionId, u8)> {
        let mut got = Vec::new();
        keyboard.deliver(
            |id, byte| {
                got.push((id, byte));
                Ok(())
            },
            |_| {},
        );
        got
    }

    fn escape(keyboard: &mut Keyboard, key: u8) -> Key {
        assert_eq!(keyboard.press(ESCAPE), Key::Nothing);
        keyboard.press(key)
    }

    #[test]
    fn keys_go_to_the_focus() {
        let mut keyboard = Keyboard::new(2);
        assert_eq!(keyboard.press(b'a'), Key::Held);
        assert_eq!(escape(&mut keyboard, b'1'), Key::Focus(Source::Partition(P1)));
        keyboard.press(b'b');
        assert_eq!(escape(&mut keyboard, b'h'), Key::Focus(Source::Hypervisor));
        assert_eq!(keyboard.press(b'c'), Key::Shell(b'c'));
        assert_eq!(delivered(&mut keyboard), [(P0, b'a'), (P1, b'b')]);
    }

    #[test]
    fn next_goes_round_the_partitions() {
        let mut keyboard = Keyboard::new(2);
        assert_eq!(escape(&mut keyboard, b'n'), Key::Focus(Source::Partition(P1)));
        assert_eq!(escape(&mut keyboard, b'n'), Key::Focus(Source::Partition(P0)));
        escape(&mut keyboard, b'h');
        assert_eq!(escape(&mut keyboard, b'n'), Key::Focus(Source::Partition(P0)));
    }

    #[test]
    fn a_partition_that_is_not_there_gets_no_focus() {
        let mut keyboard = Keyboard::new(2);
        assert_eq!(escape(&mut keyboard, b'2'), Key::Nothing);
        assert_eq!(keyboard.focus(), Source::Partition(P0));
        let mut alone = Keyboard::new(0);
        assert_eq!(escape(&mut alone, b'n'), Key::Nothing);
        assert_eq!(alone.press(b'x'), Key::Shell(b'x'));
    }

    #[test]
    fn the_escape_key_twice_sends_it() {
        let mut keyboard = Keyboard::new(1);
        assert_eq!(escape(&mut keyboard, ESCAPE), Key::Held);
        assert_eq!(delivered(&mut keyboard), [(P0, ESCAPE)]);
        assert_eq!(keyboard.press(b'h'), Key::Held);
    }

    #[test]
    fn the_other_keys_are_known() {
        let mut keyboard = Keyboard::new(1);
        assert_eq!(escape(&mut keyboard, b'r'), Key::ToggleRaw);
        assert_eq!(escape(&mut keyboard, b'?'), Key::Help);
        assert_eq!(escape(&mut keyboard, b'z'), Key::Nothing);
    }

    #[test]
    fn a_guest_that_does_not_read_holds_up_no_other_and_loses_no_order() {
        let mut keyboard = Keyboard::new(2);
        for byte in *b"ab" {
            keyboard.press(byte);
        }
        escape(&mut keyboard, b'1');
        keyboard.press(b'c');
        let mut got = Vec::new();
        keyboard.deliver(
            |id, byte| {
                if id == P0 {
                    return Err(Full);
                }
                got.push(byte);
                Ok(())
            },
            |_| {},
        );
        assert_eq!(got, b"c");
        assert_eq!(delivered(&mut keyboard), [(P0, b'a'), (P0, b'b')]);
    }

    #[test]
    fn what_cannot_be_held_is_counted_and_told_once() {
        let mut keyboard = Keyboard::new(2);
        for _ in 0..HELD_SIZE {
            assert_eq!(keyboard.press(b'a'), Key::Held);
        }
        assert_eq!(keyboard.press(b'a'), Key::Dropped);
        assert_eq!(keyboard.dropped(), 1);
        let mut told = Vec::new();
        keyboard.deliver(|_, _| Err(Full), |id| told.push(id));
        keyboard.deliver(|_, _| Err(Full), |id| told.push(id));
        assert_eq!(told, [P0]);
        keyboard.forget(P1);
        assert_eq!(keyboard.press(b'a'), Key::Dropped);
        keyboard.forget(P0);
        assert_eq!(keyboard.press(b'a'), Key::Held);
    }

    #[test]
    fn help_names_the_partitions() {
        let mut text = String::new();
        write_keys(&mut text, &["linux", "control"]).unwrap();
        assert!(text.contains("0       keyboard to linux\n") && text.contains("1       keyboard to control\n"));
    }

    proptest! {
        #[test]
        fn every_byte_is_delivered_in_order_or_counted(bytes in prop::collection::vec(0x20u8..0x7f, 0..400)) {
            let mut keyboard = Keyboard::new(1);
            for &byte in &bytes {
                keyboard.press(byte);
            }
            let got: Vec<u8> = delivered(&mut keyboard).into_iter().map(|(_, byte)| byte).collect();
            prop_assert_eq!(&got[..], &bytes[..got.len()]);
            prop_assert_eq!(got.len() + usize::try_from(keyboard.dropped()).unwrap(), bytes.len());
        }
    }
}
