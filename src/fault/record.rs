// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records of what guests did wrong. An exit writes a few words into its CPU's own ring and goes on; the housekeeping CPU
//! turns them into text. A guest cannot flood the log: a token bucket per vCPU admits so many and counts the rest.

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::id::{PartitionId, VcpuId};

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A load from where nothing is. The address is guest-physical.
    Read,
    /// A store to where nothing is. The address is guest-physical.
    Write,
    /// A fetch from where nothing is. The address is guest-physical.
    Fetch,
    /// A table walk to where nothing is. The address is guest-physical.
    TableWalk,
    /// An access without permission. The address is virtual.
    Permission,
    /// An external abort that the machine reported. The address is virtual.
    ExternalAbort,
    /// Any other abort. The address is virtual.
    Abort,
    /// A system register that the guest does not have; the address is its encoding in the syndrome.
    SystemRegister,
    /// An exception that EL2 does not know; the address is FAR_EL2.
    UnknownException,
    /// An SError; the address is 0.
    SError,
}

impl RecordKind {
    const ALL: [Self; 10] = [
        Self::Read,
        Self::Write,
        Self::Fetch,
        Self::TableWalk,
        Self::Permission,
        Self::ExternalAbort,
        Self::Abort,
        Self::SystemRegister,
        Self::UnknownException,
        Self::SError,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Fetch => 2,
            Self::TableWalk => 3,
            Self::Permission => 4,
            Self::ExternalAbort => 5,
            Self::Abort => 6,
            Self::SystemRegister => 7,
            Self::UnknownException => 8,
            Self::SError => 9,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Returns what was done and what became of it, with a place for the address between.
    const fn sentence(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("read of", " refused, nothing is there"),
            Self::Write => ("write to", " refused, nothing is there"),
            Self::Fetch => ("instruction fetch from", " refused, nothing is there"),
            Self::TableWalk => ("translation table walk to", " refused, nothing is there"),
            Self::Permission => ("access to virtual", " refused, not permitted"),
            Self::ExternalAbort => ("external abort at virtual", ", passed on to the guest"),
            Self::Abort => ("access to virtual", " aborted"),
            Self::SystemRegister => ("system register access", " refused, the guest has no such register"),
            Self::UnknownException => ("unknown exception at", ""),
            Self::SError => ("SError, address", ""),
        }
    }
}

/// One record: plain data, five words in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose guest.
    pub partition: PartitionId,
    /// On which vCPU.
    pub vcpu: VcpuId,
    /// What happened.
    pub kind: RecordKind,
    /// The guest's PC.
    pub pc: u64,
    /// The address; what it is depends on the kind.
    pub address: u64,
    /// ESR_EL2, low 32 bits.
    pub syndrome: u32,
    /// When, in counter ticks.
    pub time: u64,
    /// How many records the rate limiter held back before this one.
    pub suppressed: u32,
}

const WORDS: usize = 5;

impl Record {
    fn encode(&self) -> [u64; WORDS] {
        let head = u64::from(self.kind.code())
            | u64::from(self.partition.get()) << 8
            | u64::from(self.vcpu.get()) << 16
            | u64::from(self.syndrome) << 32;
        [head, self.pc, self.address, self.time, u64::from(self.suppressed)]
    }

    fn decode([head, pc, address, time, suppressed]: [u64; WORDS]) -> Option<Self> {
        let [kind, partition, vcpu, _, s0, s1, s2, s3] = head.to_le_bytes();
        Some(Self {
            partition: PartitionId::new(partition),
            vcpu: VcpuId::new(vcpu),
            kind: RecordKind::from_code(kind)?,
            pc,
            address,
            syndrome: u32::from_le_bytes([s0, s1, s2, s3]),
            time,
            suppressed: u32::try_from(suppressed).unwrap_or(u32::MAX),
        })
    }

    /// Returns something that prints the record with the partition's name.
    pub fn with_name<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        Named { record: self, name }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, who: impl fmt::Display) -> fmt::Result {
        let (did, outcome) = self.kind.sentence();
        let Self { vcpu, pc, address, syndrome, .. } = self;
        write!(f, "{who}: {vcpu} at PC {pc:#x}: {did} {address:#x}{outcome} (ESR {syndrome:#x})")?;
        match self.suppressed {
            0 => Ok(()),
            count => write!(f, "; {count} more before it not shown"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, self.partition)
    }
}

struct Named<'a> {
    record: &'a Record,
    name: &'a str,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.write(f, self.name)
    }
}

/// A ring of `N` records (a power of two). One CPU pushes, the housekeeping CPU pops; neither waits. A full ring
/// drops the new record and counts it.
#[derive(Debug)]
pub struct RecordRing<const N: usize = 32> {
    slots: [[AtomicU64; WORDS]; N],
    /// Records pushed since the start; written by the producer alone.
    head: AtomicUsize,
    /// Records popped since the start; written by the consumer alone.
    tail: AtomicUsize,
    lost: AtomicU64,
}

impl<const N: usize> RecordRing<N> {
    /// Returns an empty ring.
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two(), "the counters wrap, so the ring must divide their range") };
        Self {
            slots: [const { [const { AtomicU64::new(0) }; WORDS] }; N],
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Appends a record, or counts it as lost. The producer's CPU alone may call it.
    pub fn push(&self, record: &Record) {
        let head = self.head.load(Ordering::Relaxed);
        let used = head.wrapping_sub(self.tail.load(Ordering::Acquire));
        let slot = self.slots.get(head % N).filter(|_| used < N);
        let Some(slot) = slot else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for (place, word) in slot.iter().zip(record.encode()) {
            place.store(word, Ordering::Relaxed);
        }
        // The record is visible before the count that announces it.
        self.head.store(head.wrapping_add(1), Ordering::Release);
    }

    /// Takes the oldest record. The consumer's CPU alone may call it.
    pub fn pop(&self) -> Option<Record> {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail == self.head.load(Ordering::Acquire) {
            return None;
        }
        let slot = self.slots.get(tail % N)?;
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(slot) {
            *word = place.load(Ordering::Relaxed);
        }
        // The record is read before its slot is free.
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
        Record::decode(words)
    }

    /// Returns how many records were lost since the last call.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl<const N: usize> Default for RecordRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a record may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes; so many were held back since the last one.
    Admit {
        /// For [`Record::suppressed`].
        suppressed: u32,
    },
    /// No; it is counted.
    Suppress,
}

/// A token bucket: bursts of so many records, then one per interval. Belongs to one CPU.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    burst: u32,
    ticks_per_token: u64,
    tokens: u32,
    refilled: u64,
    suppressed: u32,
}

impl RateLimiter {
    /// Returns a full bucket. An interval of 0 ticks counts as 1.
    pub fn new(burst: u32, ticks_per_token: u64) -> Self {
        Self { burst, ticks_per_token: ticks_per_token.max(1), tokens: burst, refilled: 0, suppressed: 0 }
    }

    /// Decides about one record at `now` in counter ticks.
    pub fn admit(&mut self, now: u64) -> Admission {
        let earned = now.saturating_sub(self.refilled) / self.ticks_per_token;
        if earned > 0 {
            let room = u64::from(self.burst.saturating_sub(self.tokens));
            self.refilled = if earned >= room {
                now
            } else {
                self.refilled.saturating_add(earned.saturating_mul(self.ticks_per_token))
            };
            self.tokens = self.tokens.saturating_add(u32::try_from(earned.min(room)).unwrap_or(u32::MAX));
        }
        match self.tokens.checked_sub(1) {
            Some(tokens) => {
                self.tokens = tokens;
                Admission::Admit { suppressed: core::mem::take(&mut self.suppressed) }
            }
            None => {
                self.suppressed = self.suppressed.saturating_add(1);
                Admission::Suppress
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    fn record(address: u64) -> Record {
        Record {
            partition: PartitionId::new(2),
            vcpu: VcpuId::new(1),
            kind: RecordKind::Write,
            pc: 0xffff_8000_0800_1234,
            address,
            syndrome: 0x9380_0047,
            time: 7,
            suppressed: 0,
        }
    }

    #[test]
    fn text_names_partition_pc_and_address() {
        assert_eq!(
            format!("{}", record(0x800_0000).with_name("linux")),
            "linux: vcpu1 at PC 0xffff800008001234: write to 0x8000000 refused, nothing is there (ESR 0x93800047)"
        );
        let held_back = Record { suppressed: 12, ..record(0) };
        assert!(format!("{held_back}").starts_with("partition 2: vcpu1"));
        assert!(format!("{held_back}").ends_with("; 12 more before it not shown"));
    }

    #[test]
    fn every_kind_round_trips_through_the_ring() {
        let ring = RecordRing::<16>::new();
        for kind in RecordKind::ALL {
            let record = Record { kind, suppressed: 3, ..record(u64::MAX) };
            ring.push(&record);
            assert_eq!(ring.pop(), Some(record));
        }
        assert_eq!(RecordKind::from_code(12), None);
    }

    #[test]
    fn a_full_ring_keeps_the_old_and_counts_the_new() {
        let ring = RecordRing::<4>::new();
        for address in 0..6 {
            ring.push(&record(address));
        }
        assert_eq!(ring.take_lost(), 2);
        assert_eq!(ring.take_lost(), 0);
        for address in 0..4 {
            assert_eq!(ring.pop().unwrap().address, address);
        }
        assert_eq!(ring.pop(), None);
    }

    #[test]
    fn two_threads_lose_nothing_but_what_is_counted() {
        let ring = RecordRing::<8>::new();
        let mut seen = 0;
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| (0..20_000).for_each(|address| ring.push(&record(address))));
            let mut last = None;
            loop {
                let done = producer.is_finished();
                while let Some(record) = ring.pop() {
                    assert!(last < Some(record.address) && record.pc == 0xffff_8000_0800_1234);
                    last = Some(record.address);
                    seen += 1;
                }
                if done {
                    break;
                }
            }
        });
        assert_eq!(seen + ring.take_lost(), 20_000);
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let mut limiter = RateLimiter::new(2, 10);
        assert_eq!(limiter.admit(100), Admission::Admit { suppressed: 0 });
        assert_eq!(limiter.admit(100), Admission::Admit { suppressed: 0 });
        assert_eq!(limiter.admit(109), Admission::Suppress);
        assert_eq!(limiter.admit(110), Admission::Admit { suppressed: 1 });
        assert_eq!(limiter.admit(119), Admission::Suppress);
        assert_eq!(limiter.admit(200), Admission::Admit { suppressed: 1 });
        assert_eq!(limiter.admit(200), Admission::Admit { suppressed: 0 });
        assert_eq!(limiter.admit(200), Admission::Suppress);
    }

    proptest! {
        #[test]
        fn no_flood_passes_more_than_burst_and_rate(
            burst in 0u32..8, interval in 0u64..20, steps in prop::collection::vec(0u64..5, 1..300)
        ) {
            let mut limiter = RateLimiter::new(burst, interval);
            let mut now = 0;
            let mut passed = 0;
            for step in &steps {
                now += step;
                passed += u64::from(limiter.admit(now) != Admission::Suppress);
            }
            prop_assert!(passed <= u64::from(burst) + now / interval.max(1));
        }
    }
}
