// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs that really run at once: interrupts are raised, moved, disabled, cleared and taken by several threads. Each
//! interrupt that was raised is taken exactly once, wherever it was moved meanwhile.

use core::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

use super::*;
use crate::mmio::Width::{Byte, Double, Word};

const CPUS: usize = 3;
const FIRST: usize = 32;
const COUNT: usize = 12;
const ROUNDS: u64 = 4000;

/// What the threads share.
struct Shared {
    vgic: Vgic,
    kicks: [AtomicBool; CPUS],
    signals: [AtomicBool; CPUS],
    raised: [AtomicU64; COUNT],
    taken: [AtomicU64; COUNT],
    /// CPUs that have nothing more to raise.
    done: AtomicU64,
}

/// One CPU: its list registers and what its guest does.
struct Runner {
    shared: Arc<Shared>,
    me: usize,
    lrs: [Lr; 4],
    maintenance: u32,
    pauses: u64,
    seed: u64,
}

impl Machine for Runner {
    fn read_lr(&mut self, index: u32) -> Lr {
        self.lrs[index as usize]
    }

    fn write_lr(&mut self, index: u32, lr: Lr) {
        self.lrs[index as usize] = lr;
    }

    fn free_lrs(&mut self) -> u32 {
        let free = |lr: &Lr| !lr.is_valid() && lr.to_v3() >> 41 & 1 == 0;
        (0..).zip(&self.lrs).filter(|(_, lr)| free(lr)).fold(0, |all, (index, _)| all | 1 << index)
    }

    fn control(&mut self) -> Control {
        Control::new(0b11)
    }

    fn eoi_count(&mut self) -> u32 {
        0
    }

    fn set_maintenance(&mut self, wanted: Maintenance) {
        self.maintenance = wanted.bits();
    }

    fn change(&mut self, change: &HwChange) {
        assert_eq!(*change, HwChange::None, "nothing here has hardware");
    }

    fn pending(&mut self, _: usize) -> u32 {
        0
    }

    fn kick(&mut self, vcpus: VcpuMask) {
        vcpus.iter().for_each(|vcpu| self.shared.kicks[vcpu.index()].store(true, SeqCst));
    }

    fn signal(&mut self, vcpus: VcpuMask) {
        vcpus.iter().for_each(|vcpu| self.shared.signals[vcpu.index()].store(true, SeqCst));
    }

    fn active(&mut self, _: usize) -> u32 {
        0
    }

    fn pause(&mut self) -> Patience {
        self.pauses += 1;
        assert!(self.pauses < 10_000_000, "CPU {} waits for good", self.me);
        thread::yield_now();
        Patience::Left
    }
}

impl Runner {
    fn random(&mut self, below: u64) -> u64 {
        // xorshift64
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    /// What happens at the guest's boundary: kicks and maintenance.
    fn at_boundary(&mut self, interface: &mut CpuInterface) {
        let shared = self.shared.clone();
        if shared.signals[self.me].swap(false, SeqCst) {
            interface.attend_sgi(&shared.vgic, self);
        }
        if shared.kicks[self.me].swap(false, SeqCst) {
            interface.attend(&shared.vgic, self);
        }
        for _ in 0..100 {
            let ended = self.lrs.iter().any(|lr| !lr.is_valid() && lr.to_v3() >> 41 & 1 == 1);
            let none_pending = !self.lrs.iter().any(|lr| lr.is_pending() && !lr.is_active());
            let wants_more = self.maintenance >> 3 & 1 == 1 && none_pending;
            if !(ended || wants_more) {
                return;
            }
            interface.refresh(&shared.vgic, self, Edit::default());
        }
    }

    /// Takes and ends the most urgent pending interrupt.
    fn take(&mut self, interface: &mut CpuInterface) {
        let ready = self.lrs.iter_mut().filter(|lr| lr.is_pending() && !lr.is_active());
        let Some(slot) = ready.min_by_key(|lr| lr.rank()) else { return };
        *slot = slot.not_pending().active();
        let id = slot.intid();
        let index = id.index() - FIRST;
        let taken = self.shared.taken[index].fetch_add(1, SeqCst) + 1;
        assert!(taken <= self.shared.raised[index].load(SeqCst), "interrupt {id} came twice");
        if self.random(3) == 0 {
            self.at_boundary(interface);
        }
        for lr in self.lrs.iter_mut().filter(|lr| lr.is_active() && lr.intid() == id) {
            *lr = lr.not_active();
        }
    }

    fn write(&mut self, interface: &mut CpuInterface, offset: u64, width: Width, value: u64) {
        let shared = self.shared.clone();
        shared.vgic.write_distributor(interface, self, offset, width, value);
    }

    /// Raises an interrupt if the last time was taken.
    fn raise(&mut self, interface: &mut CpuInterface, index: usize) {
        let (raised, taken) = (&self.shared.raised[index], &self.shared.taken[index]);
        let now = raised.load(SeqCst);
        // One thread in charge of each, so that nobody raises in between.
        if index % CPUS != self.me || taken.load(SeqCst) != now || now >= ROUNDS {
            return;
        }
        raised.store(now + 1, SeqCst);
        self.write(interface, 0x204, Word, 1 << index);
    }

    /// Clears an interrupt that was raised; if it has not been taken by then, it never is.
    fn clear(&mut self, interface: &mut CpuInterface, index: usize) {
        if index % CPUS != self.me {
            return;
        }
        self.write(interface, 0x284, Word, 1 << index);
        let (raised, taken) = (&self.shared.raised[index], &self.shared.taken[index]);
        raised.store(taken.load(SeqCst), SeqCst);
    }

    fn step(&mut self, interface: &mut CpuInterface) {
        let index = self.random(COUNT as u64) as usize;
        match self.random(13) {
            12 => self.clear(interface, index),
            0..4 => self.raise(interface, index),
            4 => self.write(interface, 0x184, Word, 1 << index),
            5 | 6 => self.write(interface, 0x104, Word, 1 << index),
            7 => {
                let target = self.random(CPUS as u64);
                self.write(interface, 0x6000 + 8 * (FIRST + index) as u64, Double, target);
            }
            8 => {
                let priority = self.random(4) << 6;
                self.write(interface, 0x400 + (FIRST + index) as u64, Byte, priority);
            }
            9 => {
                let shared = self.shared.clone();
                let pending = shared.vgic.read_distributor(interface, self, 0x204, Word);
                assert_eq!(pending >> COUNT, 0);
            }
            _ => self.take(interface),
        }
        self.at_boundary(interface);
    }

    fn run(mut self) {
        let shared = self.shared.clone();
        let mut interface = CpuInterface::new(VcpuId::new(self.me as u8), 4);
        interface.start(&shared.vgic, &mut self);
        let all_raised = || shared.raised.iter().all(|raised| raised.load(SeqCst) == ROUNDS);
        while !all_raised() {
            self.step(&mut interface);
        }
        // What is left is let through.
        self.write(&mut interface, 0x104, Word, (1 << COUNT) - 1);
        shared.done.fetch_add(1, SeqCst);
        let all_taken = || shared.taken.iter().all(|taken| taken.load(SeqCst) == ROUNDS);
        let mut rounds = 0u64;
        while !all_taken() || shared.done.load(SeqCst) < CPUS as u64 {
            self.at_boundary(&mut interface);
            self.take(&mut interface);
            rounds += 1;
            assert!(rounds < 10_000_000, "an interrupt was lost: {:?}", shared.taken);
            thread::yield_now();
        }
        interface.stop(&shared.vgic, &mut self);
    }
}

#[test]
fn each_interrupt_raised_is_taken_once_while_vcpus_interfere() {
    let cpus: Vec<CpuId> = (0..CPUS as u8).map(CpuId::new).collect();
    let vgic = Vgic::new(&VgicConfig {
        model: Model::V3,
        cpus: &cpus,
        spi_words: 1,
        priority_bits: 5,
        linked_ppis: 0,
        interrupts: &[],
    })
    .unwrap();
    // Edge-triggered, all groups on.
    vgic.distributor_write(VcpuId::new(0), 0xc08, Word, u64::MAX, |_| {});
    vgic.distributor_write(VcpuId::new(0), 0, Word, 3, |_| {});
    let shared = Arc::new(Shared {
        vgic,
        kicks: [const { AtomicBool::new(false) }; CPUS],
        signals: [const { AtomicBool::new(false) }; CPUS],
        raised: [const { AtomicU64::new(0) }; COUNT],
        taken: [const { AtomicU64::new(0) }; COUNT],
        done: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..CPUS)
        .map(|me| {
            let seed = 0x9e37_79b9_7f4a_7c15 ^ (me as u64 + 1);
            let shared = shared.clone();
            let runner = Runner { shared, me, lrs: [Lr::EMPTY; 4], maintenance: 0, pauses: 0, seed };
            thread::spawn(move || runner.run())
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
