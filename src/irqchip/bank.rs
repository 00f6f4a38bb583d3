// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers that hold interrupts' state, 32 to a word. GICD of both versions and the SGI frame of a GICv3
//! redistributor lay them out alike.

use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::ReadWrite;

use super::PRIORITY;
use crate::addr::Pa;
use crate::id::Intid;
use crate::vgic::HwBits;

/// Where the priorities are.
const IPRIORITYR: u64 = 0x400;

register_structs! {
    /// The part of the frame that both have (Arm IHI 0048, 4.1.2; IHI 0069, 12.9).
    Registers {
        (0x0000 => _other),
        /// Group, IGROUPR<n>.
        (0x0080 => igroupr: [ReadWrite<u32>; 32]),
        /// Set-enable, ISENABLER<n>.
        (0x0100 => isenabler: [ReadWrite<u32>; 32]),
        /// Clear-enable, ICENABLER<n>.
        (0x0180 => icenabler: [ReadWrite<u32>; 32]),
        /// Set-pending, ISPENDR<n>.
        (0x0200 => ispendr: [ReadWrite<u32>; 32]),
        /// Clear-pending, ICPENDR<n>.
        (0x0280 => icpendr: [ReadWrite<u32>; 32]),
        /// Set-active, ISACTIVER<n>.
        (0x0300 => isactiver: [ReadWrite<u32>; 32]),
        /// Clear-active, ICACTIVER<n>.
        (0x0380 => icactiver: [ReadWrite<u32>; 32]),
        /// Priority, four interrupts to a word, IPRIORITYR<n>.
        (0x0400 => ipriorityr: [ReadWrite<u32>; 256]),
        (0x0800 => _targets),
        /// Configuration, sixteen interrupts to a word, ICFGR<n>.
        (0x0c00 => icfgr: [ReadWrite<u32>; 64]),
        (0x0d00 => @END),
    }
}

/// A frame of state registers.
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    base: Pa,
}

impl Bank {
    /// Names the frame at a physical address, which is mapped there.
    pub(super) const fn new(base: Pa) -> Self {
        Self { base }
    }

    /// Returns where the frame is.
    pub(super) const fn base(self) -> Pa {
        self.base
    }

    #[inline(always)]
    fn registers(&self) -> &Registers {
        // SAFETY: the drivers name only frames that boot has mapped as Device memory for good.
        unsafe { &*(self.base.get() as *const Registers) }
    }

    /// Puts a word into a known state: in `group`, disabled, not pending, not active, of the one priority.
    pub(super) fn reset(self, word: usize, group: u32) {
        let registers = self.registers();
        write(&registers.icenabler, word, u32::MAX);
        write(&registers.icpendr, word, u32::MAX);
        write(&registers.icactiver, word, u32::MAX);
        write(&registers.igroupr, word, group);
        for quad in word * 8..word * 8 + 8 {
            write(&registers.ipriorityr, quad, u32::from_le_bytes([PRIORITY; 4]));
        }
    }

    /// Returns which are enabled.
    pub(super) fn enabled(self, word: usize) -> u32 {
        self.registers().isenabler.get(word).map_or(0, Readable::get)
    }

    /// Returns which are pending.
    pub(super) fn pending(self, word: usize) -> u32 {
        self.registers().ispendr.get(word).map_or(0, Readable::get)
    }

    /// Returns which are active.
    pub(super) fn active(self, word: usize) -> u32 {
        self.registers().isactiver.get(word).map_or(0, Readable::get)
    }

    /// Returns which are in Group 1.
    pub(super) fn groups(self, word: usize) -> u32 {
        self.registers().igroupr.get(word).map_or(0, Readable::get)
    }

    /// Sets which are in Group 1.
    pub(super) fn set_groups(self, word: usize, groups: u32) {
        write(&self.registers().igroupr, word, groups);
    }

    /// Returns the priorities of four interrupts; `first` is a multiple of four.
    pub(super) fn priorities(self, first: Intid) -> u32 {
        self.registers().ipriorityr.get(first.index() / 4).map_or(0, Readable::get)
    }

    /// Sets the priority of one interrupt, by a store of one byte: its neighbours may be changed elsewhere at the time.
    pub(super) fn set_priority(self, intid: Intid, priority: u8) {
        if intid.get() < 1020 {
            let register = self.base.get() + IPRIORITYR + u64::from(intid.get());
            // SAFETY: IPRIORITYR has a byte for each of 1020 interrupts and allows byte accesses (IHI 0069, 12.9); the frame
            // is mapped as Device memory for good.
            unsafe { (register as *mut u8).write_volatile(priority) };
        }
    }

    /// Returns ICFGR of 16 interrupts; `first` is a multiple of 16.
    pub(super) fn config(self, first: Intid) -> u32 {
        self.registers().icfgr.get(first.index() / 16).map_or(0, Readable::get)
    }

    /// Enables those of `mask`.
    #[inline(always)]
    pub(super) fn enable(self, word: usize, mask: u32) {
        write(&self.registers().isenabler, word, mask);
    }

    /// Disables those of `mask`.
    pub(super) fn disable(self, word: usize, mask: u32) {
        write(&self.registers().icenabler, word, mask);
    }

    /// Changes all but what is disabled, in the order of the fields.
    pub(super) fn change(self, bits: &HwBits) {
        let registers = self.registers();
        let steps = [
            (&registers.ispendr, bits.set_pending),
            (&registers.icpendr, bits.clear_pending),
            (&registers.isactiver, bits.activate),
            (&registers.icactiver, bits.deactivate),
            (&registers.isenabler, bits.enable),
        ];
        for (register, mask) in steps {
            if mask != 0 {
                write(register, bits.word, mask);
            }
        }
    }

    /// Sets which of `mask` are edge-triggered.
    pub(super) fn configure(self, word: usize, mask: u32, edge: u32) {
        for half in 0..2 {
            let Some(register) = self.registers().icfgr.get(word * 2 + half) else { continue };
            let mut value = register.get();
            for bit in (0..16).filter(|bit| mask >> (half as u32 * 16 + bit) & 1 == 1) {
                let is_edge = edge >> (half as u32 * 16 + bit) & 1;
                value = value & !(0b10 << (bit * 2)) | (is_edge * 0b10) << (bit * 2);
            }
            register.set(value);
        }
    }
}

#[inline(always)]
fn write(registers: &[ReadWrite<u32>], index: usize, value: u32) {
    if let Some(register) = registers.get(index) {
        register.set(value);
    }
}
