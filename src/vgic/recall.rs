// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recall: what a vCPU asks of another one's list registers, which only that one may touch.
//!
//! Disabling, ending, clearing or reading an interrupt that sits in another vCPU's list register must behave as on a
//! real distributor: when the access is over, it has happened. The accessing vCPU posts its edit in its own mailbox,
//! draws a ticket from each target, kicks them and waits. Each target carries out the edits addressed to it with its
//! list registers read back, and marks the tickets done. A vCPU that waits serves others meanwhile. The wait is bounded
//! by the shell's patience; if a target is late, the access ends without it: the target re-evaluates its list registers
//! at its next exit, and an edit that cleared pending or active state there is lost.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use super::bank::update;
use super::outcome::{Edit, Operation, Recall, VcpuMask};
use crate::id::VcpuId;

/// One vCPU's part in recalls, as asker and as asked.
#[derive(Default)]
pub(super) struct Mailbox {
    /// Asked: tickets drawn.
    requested: AtomicU32,
    /// Asked: tickets done.
    done: AtomicU32,
    /// Asker: for whom the edit is; empty when there is none.
    targets: AtomicU32,
    /// Asker: operation in bits 39:32, word in 47:40, sequence in 63:48, mask in 31:0.
    edit: AtomicU64,
    /// Asker: which interrupts of the mask are pending in a target's list registers; sequence in 63:48.
    pending: AtomicU64,
    /// Asker: the same for active.
    active: AtomicU64,
    /// Asker: which interrupts of the mask nobody has taken charge of; sequence in 63:48.
    left: AtomicU64,
}

/// An edit found in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posted {
    pub edit: Edit,
    sequence: u64,
}

const SEQUENCE: u64 = 0xffff << 48;

fn pack(edit: Edit) -> u64 {
    (edit.operation as u64) << 32 | (edit.word as u64 & 0xff) << 40 | u64::from(edit.mask)
}

fn unpack(raw: u64) -> Edit {
    let operation = match raw >> 32 & 0xff {
        1 => Operation::SetEnable,
        2 => Operation::ClearEnable,
        3 => Operation::SetPending,
        4 => Operation::ClearPending,
        5 => Operation::SetActive,
        6 => Operation::ClearActive,
        _ => Operation::Review,
    };
    Edit { operation, word: (raw >> 40 & 0xff) as usize, mask: raw as u32 }
}

impl Mailbox {
    /// Forgets everything, for a partition whose vCPUs are all stopped.
    pub fn reset(&self) {
        self.targets.store(0, SeqCst);
        self.done.store(self.requested.load(SeqCst), SeqCst);
    }

    /// Asker: puts the edit up. It is addressed with [`Mailbox::address`].
    pub fn post(&self, recall: &Recall) {
        let sequence = self.edit.load(SeqCst).wrapping_add(1 << 48) & SEQUENCE;
        self.edit.store(pack(recall.edit) | sequence, SeqCst);
        self.pending.store(sequence, SeqCst);
        self.active.store(sequence, SeqCst);
        self.left.store(u64::from(recall.edit.mask) | sequence, SeqCst);
        self.targets.store(recall.targets.bits(), SeqCst);
    }

    /// Asker: takes the edit down, and returns what was pending and active in list registers, and what nobody had
    /// taken charge of.
    pub fn take_down(&self) -> (u32, u32, u32) {
        self.targets.store(0, SeqCst);
        let left = self.left.fetch_and(SEQUENCE, SeqCst) as u32;
        (self.pending.load(SeqCst) as u32, self.active.load(SeqCst) as u32, left)
    }

    /// Asked: draws a ticket, for the asker.
    pub fn draw(&self) -> u32 {
        self.requested.fetch_add(1, SeqCst).wrapping_add(1)
    }

    /// Asked: returns the last ticket drawn.
    pub fn drawn(&self) -> u32 {
        self.requested.load(SeqCst)
    }

    /// Asked: marks the tickets up to this one done.
    pub fn finish(&self, ticket: u32) {
        self.done.store(ticket, SeqCst);
    }

    /// Tells whether a ticket is done.
    pub fn is_done(&self, ticket: u32) -> bool {
        self.done.load(SeqCst).wrapping_sub(ticket) as i32 >= 0
    }

    /// Tells whether there are tickets that are not done.
    pub fn is_asked(&self) -> bool {
        !self.is_done(self.drawn())
    }

    /// Asked: returns the asker's edit if it is addressed to `me`.
    pub fn read(&self, me: VcpuId) -> Option<Posted> {
        if !VcpuMask::new(self.targets.load(SeqCst)).contains(me) {
            return None;
        }
        let raw = self.edit.load(SeqCst);
        Some(Posted { edit: unpack(raw), sequence: raw & SEQUENCE })
    }

    /// Asked: tells the asker what is pending and active in the list registers.
    pub fn reply(&self, posted: &Posted, pending: u32, active: u32) {
        for (word, bits) in [(&self.pending, pending), (&self.active, active)] {
            update(word, |old| (old & SEQUENCE == posted.sequence).then_some(old | u64::from(bits)));
        }
    }

    /// Asked: takes charge of interrupts of the edit; returns those that nobody else had taken.
    pub fn take_charge(&self, posted: &Posted, mask: u32) -> u32 {
        let current = |old: u64| old & SEQUENCE == posted.sequence;
        let taken = update(&self.left, |old| current(old).then_some(old & !u64::from(mask)));
        taken.map_or(0, |old| old as u32 & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Operation; 7] = [
        Operation::Review,
        Operation::SetEnable,
        Operation::ClearEnable,
        Operation::SetPending,
        Operation::ClearPending,
        Operation::SetActive,
        Operation::ClearActive,
    ];

    fn recall(operation: Operation) -> Recall {
        Recall { targets: VcpuMask::of(VcpuId::new(3)), edit: Edit { operation, word: 31, mask: 0x8000_0001 } }
    }

    #[test]
    fn edit_arrives_as_posted_and_only_at_its_target() {
        let mailbox = Mailbox::default();
        for operation in ALL {
            mailbox.post(&recall(operation));
            assert_eq!(mailbox.read(VcpuId::new(3)).unwrap().edit, recall(operation).edit);
            assert_eq!(mailbox.read(VcpuId::new(2)), None);
        }
    }

    #[test]
    fn late_reply_to_an_earlier_edit_is_dropped() {
        let mailbox = Mailbox::default();
        mailbox.post(&recall(Operation::Review));
        let stale = mailbox.read(VcpuId::new(3)).unwrap();
        mailbox.take_down();
        mailbox.post(&recall(Operation::Review));
        mailbox.reply(&stale, 1, 1);
        assert_eq!(mailbox.take_charge(&stale, 1), 0);
        assert_eq!(mailbox.take_down(), (0, 0, 0x8000_0001));
    }

    #[test]
    fn an_interrupt_is_taken_charge_of_once() {
        let mailbox = Mailbox::default();
        mailbox.post(&recall(Operation::SetPending));
        let posted = mailbox.read(VcpuId::new(3)).unwrap();
        assert_eq!(mailbox.take_charge(&posted, 3), 1);
        assert_eq!(mailbox.take_charge(&posted, 3), 0);
        mailbox.reply(&posted, 1, 0);
        assert_eq!(mailbox.take_down(), (1, 0, 0x8000_0000));
    }

    #[test]
    fn ticket_is_done_once_finished_even_across_the_wrap() {
        let mailbox = Mailbox::default();
        mailbox.requested.store(u32::MAX, SeqCst);
        mailbox.finish(u32::MAX);
        let ticket = mailbox.draw();
        assert!(!mailbox.is_done(ticket) && mailbox.is_asked());
        mailbox.finish(mailbox.drawn());
        assert!(mailbox.is_done(ticket) && !mailbox.is_asked());
    }
}
