// SPDX-License-Identifier: MIT OR Apache-2.0
//! A board for the tests: a physical distributor that only this partition uses, and for each CPU a virtual CPU interface
//! that does with list registers what the architecture says (Arm IHI 0069, 6 and 12.4).

use core::cell::{Cell, RefCell};
use std::vec;
use std::vec::Vec;

use super::*;

/// Interrupt ids of the tests end here: two words of SPIs.
pub const IDS: usize = 96;

/// A physical interrupt.
#[derive(Clone, Copy, Default)]
pub struct Physical {
    pub enabled: bool,
    pub latch: bool,
    pub line: bool,
    pub active: bool,
    pub edge: bool,
    /// The CPU an SPI goes to.
    pub cpu: usize,
}

impl Physical {
    pub fn pending(&self) -> bool {
        self.latch || self.line && !self.edge
    }
}

/// A CPU.
pub struct Cpu {
    pub lrs: Vec<Lr>,
    pub maintenance: u32,
    pub eoi_count: u32,
    /// ICC_IGRPEN0 and ICC_IGRPEN1.
    pub groups: u32,
    pub split_eoi: bool,
    /// Active priorities, the highest last.
    pub running: Vec<u8>,
    pub private: [Physical; 32],
    pub online: bool,
}

/// The board.
pub struct Board {
    pub vgic: Vgic,
    pub interfaces: Vec<RefCell<CpuInterface>>,
    pub cpus: Vec<RefCell<Cpu>>,
    pub spis: RefCell<Vec<Physical>>,
    pub owned: Vec<usize>,
    kicked: Cell<u32>,
    signalled: Cell<u32>,
    pauses: Cell<u32>,
}

/// One CPU of the board, as the policy sees it.
pub struct Port<'a>(pub &'a Board, pub usize);

pub struct BoardConfig {
    pub model: Model,
    pub cpus: usize,
    pub lrs: usize,
    pub owned: Vec<(usize, Trigger)>,
    pub linked_ppis: u32,
}

impl Board {
    pub fn new(config: BoardConfig) -> Self {
        let cpus: Vec<CpuId> = (0..config.cpus as u8).map(CpuId::new).collect();
        let interrupts: Vec<InterruptPlan> =
            config.owned.iter().map(|&(id, trigger)| InterruptPlan { intid: Intid::new(id as u32), trigger }).collect();
        let vgic = Vgic::new(&VgicConfig {
            model: config.model,
            cpus: &cpus,
            spi_words: IDS / 32 - 1,
            priority_bits: 5,
            linked_ppis: config.linked_ppis,
            interrupts: &interrupts,
        })
        .unwrap();
        let mut spis = vec![Physical::default(); IDS];
        for &(id, trigger) in &config.owned {
            spis[id].edge = trigger == Trigger::Edge;
        }
        let board = Self {
            vgic,
            interfaces: (0..config.cpus)
                .map(|n| RefCell::new(CpuInterface::new(VcpuId::new(n as u8), config.lrs as u32)))
                .collect(),
            cpus: (0..config.cpus)
                .map(|_| {
                    RefCell::new(Cpu {
                        lrs: vec![Lr::EMPTY; config.lrs],
                        maintenance: 0,
                        eoi_count: 0,
                        groups: 0,
                        split_eoi: false,
                        running: Vec::new(),
                        private: [Physical::default(); 32],
                        online: false,
                    })
                })
                .collect(),
            spis: RefCell::new(spis),
            owned: config.owned.iter().map(|&(id, _)| id).collect(),
            kicked: Cell::new(0),
            signalled: Cell::new(0),
            pauses: Cell::new(0),
        };
        (0..config.cpus).for_each(|cpu| board.start(cpu));
        board
    }

    pub fn start(&self, cpu: usize) {
        {
            let mut state = self.cpus[cpu].borrow_mut();
            state.lrs.fill(Lr::EMPTY);
            state.groups = 0;
            state.split_eoi = false;
            state.running.clear();
            state.online = true;
        }
        self.interfaces[cpu].borrow_mut().start(&self.vgic, &mut Port(self, cpu));
    }

    pub fn stop(&self, cpu: usize) {
        self.interfaces[cpu].borrow_mut().stop(&self.vgic, &mut Port(self, cpu));
        let mut state = self.cpus[cpu].borrow_mut();
        assert!(state.lrs.iter().all(|lr| !lr.is_valid()), "a stopped vCPU has something in a list register");
        state.online = false;
    }

    fn physical<R>(&self, cpu: usize, id: usize, change: impl FnOnce(&mut Physical) -> R) -> R {
        if id < 32 {
            change(&mut self.cpus[cpu].borrow_mut().private[id])
        } else {
            change(&mut self.spis.borrow_mut()[id])
        }
    }

    pub fn get_physical(&self, cpu: usize, id: usize) -> Physical {
        self.physical(cpu, id, |irq| *irq)
    }

    /// A device's wire.
    pub fn set_wire(&self, cpu: usize, id: usize, high: bool) {
        self.physical(cpu, id, |irq| {
            if high && !irq.line && irq.edge {
                irq.latch = true;
            }
            irq.line = high;
        });
    }

    pub fn linked(&self, id: usize) -> bool {
        if id < 32 { self.vgic.linked_ppis() >> id & 1 == 1 } else { self.owned.contains(&id) }
    }

    pub fn write(&self, cpu: usize, offset: u64, width: Width, value: u64) {
        let mut interface = self.interfaces[cpu].borrow_mut();
        self.vgic.write_distributor(&mut interface, &mut Port(self, cpu), offset, width, value);
    }

    pub fn read(&self, cpu: usize, offset: u64, width: Width) -> u64 {
        let mut interface = self.interfaces[cpu].borrow_mut();
        self.vgic.read_distributor(&mut interface, &mut Port(self, cpu), offset, width)
    }

    pub fn write_redistributor(&self, cpu: usize, offset: u64, width: Width, value: u64) {
        let mut interface = self.interfaces[cpu].borrow_mut();
        self.vgic.write_redistributor(&mut interface, &mut Port(self, cpu), offset, width, value);
    }

    pub fn read_redistributor(&self, cpu: usize, offset: u64, width: Width) -> u64 {
        let mut interface = self.interfaces[cpu].borrow_mut();
        self.vgic.read_redistributor(&mut interface, &mut Port(self, cpu), offset, width)
    }

    /// Writes a register of the part of the map that both frames have, where the model has it for this interrupt word.
    pub fn write_any(&self, cpu: usize, of: usize, offset: u64, width: Width, private: bool, value: u64) {
        if private && self.vgic.model() == Model::V3 {
            self.write_redistributor(cpu, of as u64 * 0x2_0000 + 0x1_0000 + offset, width, value);
        } else {
            self.write(cpu, offset, width, value);
        }
    }

    pub fn read_any(&self, cpu: usize, of: usize, offset: u64, width: Width, private: bool) -> u64 {
        if private && self.vgic.model() == Model::V3 {
            self.read_redistributor(cpu, of as u64 * 0x2_0000 + 0x1_0000 + offset, width)
        } else {
            self.read(cpu, offset, width)
        }
    }

    /// The virtual interface's highest pending interrupt that the guest would take now.
    pub fn highest(&self, cpu: usize) -> Option<(usize, Lr)> {
        let state = self.cpus[cpu].borrow();
        let ready = state
            .lrs
            .iter()
            .enumerate()
            .filter(|(_, lr)| lr.is_pending() && !lr.is_active() && state.groups >> lr.group() & 1 == 1);
        let (index, lr) = ready.min_by_key(|(index, lr)| (lr.priority(), *index))?;
        let preempts = state.running.last().is_none_or(|&running| lr.priority() < running);
        preempts.then_some((index, *lr))
    }

    pub fn acknowledge(&self, cpu: usize) -> Option<Lr> {
        let (index, lr) = self.highest(cpu)?;
        let mut state = self.cpus[cpu].borrow_mut();
        state.lrs[index] = lr.not_pending().active();
        state.running.push(lr.priority());
        Some(lr)
    }

    pub fn end(&self, cpu: usize, id: usize) {
        let mut state = self.cpus[cpu].borrow_mut();
        if state.running.pop().is_none() {
            return;
        }
        let found = state.lrs.iter().position(|lr| lr.is_active() && lr.intid().index() == id);
        match found {
            None => state.eoi_count += 1,
            Some(_) if state.split_eoi => {}
            Some(index) => {
                let lr = state.lrs[index];
                state.lrs[index] = lr.not_active();
                drop(state);
                if lr.is_hardware() {
                    assert!(!lr.is_pending(), "a hardware interrupt is pending and active in a list register");
                    self.physical(cpu, id, |irq| irq.active = false);
                }
            }
        }
    }

    pub fn deactivate(&self, cpu: usize, id: usize) {
        let mut interface = self.interfaces[cpu].borrow_mut();
        self.vgic.deactivate(&mut interface, &mut Port(self, cpu), Intid::new(id as u32));
    }

    fn wants_maintenance(&self, cpu: usize) -> bool {
        let state = self.cpus[cpu].borrow();
        let has = |bit: u32| state.maintenance >> bit & 1 == 1;
        let ended = state.lrs.iter().any(|lr| !lr.is_valid() && !lr.is_hardware() && lr.to_v3() >> 41 & 1 == 1);
        let pending = state.lrs.iter().any(|lr| lr.is_pending() && !lr.is_active());
        ended
            || has(2) && state.eoi_count != 0
            || has(3) && !pending
            || has(4) && state.groups & 1 == 1
            || has(5) && state.groups & 1 == 0
            || has(6) && state.groups & 2 == 2
            || has(7) && state.groups & 2 == 0
    }

    /// Kicks from a CPU that is none of the partition's.
    pub fn kick_from_outside(&self, vcpus: VcpuMask) {
        self.kicked.set(self.kicked.get() | vcpus.bits());
    }

    /// Serves kicks to CPUs that are not at EL2 already.
    fn serve_kicks(&self) -> bool {
        let mut served = false;
        for cpu in 0..self.cpus.len() {
            let asked = |asked: &Cell<u32>| asked.get() >> cpu & 1 == 1;
            if !asked(&self.kicked) && !asked(&self.signalled) {
                continue;
            }
            if let Ok(mut interface) = self.interfaces[cpu].try_borrow_mut() {
                if asked(&self.signalled) {
                    self.signalled.set(self.signalled.get() & !(1 << cpu));
                    interface.attend_sgi(&self.vgic, &mut Port(self, cpu));
                }
                if asked(&self.kicked) {
                    self.kicked.set(self.kicked.get() & !(1 << cpu));
                    interface.attend(&self.vgic, &mut Port(self, cpu));
                }
                served = true;
            }
        }
        served
    }

    /// Delivers one physical interrupt to each CPU that has one.
    fn serve_hardware(&self) -> bool {
        let mut served = false;
        for cpu in 0..self.cpus.len() {
            let ready = |irq: Physical| irq.enabled && irq.pending() && !irq.active;
            let private = (0..32).find(|&id| ready(self.get_physical(cpu, id)));
            let shared =
                (32..IDS).find(|&id| self.get_physical(cpu, id).cpu == cpu && ready(self.get_physical(cpu, id)));
            let Some(id) = private.or(shared) else { continue };
            self.physical(cpu, id, |irq| {
                irq.active = true;
                irq.latch = false;
            });
            let intid = Intid::new(id as u32);
            let mut interface = self.interfaces[cpu].borrow_mut();
            let mut port = Port(self, cpu);
            match (interface.hardware_lr(&self.vgic, intid), port.free_lrs()) {
                (Some(lr), free) if free != 0 => port.write_lr(free.trailing_zeros(), lr),
                _ => assert!(interface.take_hardware(&self.vgic, &mut port, intid)),
            }
            served = true;
        }
        served
    }

    /// Lets everything happen that needs no guest: kicks, hardware interrupts, maintenance.
    pub fn settle(&self) {
        for _ in 0..10_000 {
            let kicks = self.serve_kicks();
            let hardware = self.serve_hardware();
            let mut maintenance = false;
            for cpu in 0..self.cpus.len() {
                if self.cpus[cpu].borrow().online && self.wants_maintenance(cpu) {
                    let mut interface = self.interfaces[cpu].borrow_mut();
                    interface.refresh(&self.vgic, &mut Port(self, cpu), Edit::default());
                    maintenance = true;
                }
            }
            if !kicks && !hardware && !maintenance {
                return self.check();
            }
        }
        panic!("the interrupt controller does not come to rest");
    }

    /// What must always hold at rest.
    fn check(&self) {
        for id in 0..IDS {
            let cpus = if id < 32 { self.cpus.len() } else { 1 };
            for cpu in 0..cpus {
                let here = |lr: &&Lr| lr.is_valid() && lr.intid().index() == id;
                let holders: Vec<Lr> = (0..self.cpus.len())
                    .filter(|&other| id >= 32 || other == cpu)
                    .flat_map(|other| self.cpus[other].borrow().lrs.iter().filter(here).copied().collect::<Vec<_>>())
                    .collect();
                assert!(holders.len() <= 1, "interrupt {id} is in {} list registers", holders.len());
                let me = VcpuId::new(cpu as u8);
                let bank = self.vgic.bank(me, id / 32).unwrap();
                let is_linked = self.linked(id);
                for lr in &holders {
                    assert_eq!(lr.is_hardware(), is_linked, "interrupt {id} in the wrong kind of list register");
                }
                if is_linked {
                    let held = bank.latch.load(SeqCst) | bank.active.load(SeqCst);
                    let expected = !holders.is_empty() || held >> (id % 32) & 1 == 1;
                    let physical = self.get_physical(cpu, id);
                    assert_eq!(physical.active, expected, "physical active state of interrupt {id}");
                }
            }
        }
    }
}

impl Machine for Port<'_> {
    fn read_lr(&mut self, index: u32) -> Lr {
        self.0.cpus[self.1].borrow().lrs[index as usize]
    }

    fn write_lr(&mut self, index: u32, lr: Lr) {
        if lr.is_valid() {
            assert!(lr.intid().get() < 1020, "{lr:?} names no interrupt");
            assert!(!(lr.is_hardware() && lr.is_pending() && lr.is_active()), "{lr:?} is not allowed");
            let others = self.0.cpus[self.1].borrow();
            let clash =
                |(other, old): (usize, &Lr)| other != index as usize && old.is_valid() && old.intid() == lr.intid();
            // A refresh may pass through a state with two while it moves things; the check at rest is the strict one.
            let _ = others.lrs.iter().enumerate().any(clash);
        }
        self.0.cpus[self.1].borrow_mut().lrs[index as usize] = lr;
    }

    fn free_lrs(&mut self) -> u32 {
        let state = self.0.cpus[self.1].borrow();
        let free = |lr: &Lr| !lr.is_valid() && (lr.is_hardware() || lr.to_v3() >> 41 & 1 == 0);
        state.lrs.iter().enumerate().filter(|(_, lr)| free(lr)).fold(0, |all, (index, _)| all | 1 << index)
    }

    fn control(&mut self) -> Control {
        let state = self.0.cpus[self.1].borrow();
        Control::new(state.groups | u32::from(state.split_eoi) << 9)
    }

    fn eoi_count(&mut self) -> u32 {
        self.0.cpus[self.1].borrow().eoi_count
    }

    fn set_maintenance(&mut self, wanted: Maintenance) {
        let mut state = self.0.cpus[self.1].borrow_mut();
        state.maintenance = wanted.bits();
        state.eoi_count = 0;
    }

    fn change(&mut self, change: &HwChange) {
        let each = |word: usize, mask: u32, apply: &dyn Fn(&mut Physical)| {
            for bit in outcome::bits(mask) {
                let id = 32 * word + bit as usize;
                assert!(self.0.linked(id), "interrupt {id} is not the partition's to change");
                self.0.physical(self.1, id, |irq| apply(irq));
            }
        };
        match *change {
            HwChange::None => {}
            HwChange::Enable { word, mask } => each(word, mask, &|irq| irq.enabled = true),
            HwChange::Bits(bits) => {
                each(bits.word, bits.disable, &|irq| irq.enabled = false);
                each(bits.word, bits.set_pending, &|irq| irq.latch = true);
                each(bits.word, bits.clear_pending, &|irq| irq.latch = false);
                each(bits.word, bits.activate, &|irq| irq.active = true);
                each(bits.word, bits.deactivate, &|irq| irq.active = false);
                each(bits.word, bits.enable, &|irq| irq.enabled = true);
            }
            HwChange::Route { intid, vcpu, state } => {
                each(intid.index() / 32, 1 << (intid.get() % 32), &|irq| match vcpu {
                    None => irq.enabled = false,
                    Some(vcpu) => {
                        irq.cpu = vcpu.index();
                        irq.enabled |= state == Enabled::Yes;
                    }
                })
            }
            HwChange::Config { word, mask, edge } => {
                for bit in outcome::bits(mask) {
                    each(word, 1 << bit, &|irq| irq.edge = edge >> bit & 1 == 1);
                }
            }
        }
    }

    fn pending(&mut self, word: usize) -> u32 {
        (0..32).filter(|&bit| self.0.get_physical(self.1, 32 * word + bit).pending()).fold(0, |all, bit| all | 1 << bit)
    }

    fn kick(&mut self, vcpus: VcpuMask) {
        assert!(!vcpus.contains(VcpuId::new(self.1 as u8)), "a CPU kicks itself");
        self.0.kicked.set(self.0.kicked.get() | vcpus.bits());
    }

    fn signal(&mut self, vcpus: VcpuMask) {
        assert!(!vcpus.contains(VcpuId::new(self.1 as u8)), "a CPU signals itself");
        self.0.signalled.set(self.0.signalled.get() | vcpus.bits());
    }

    fn active(&mut self, word: usize) -> u32 {
        (0..32).filter(|&bit| self.0.get_physical(self.1, 32 * word + bit).active).fold(0, |all, bit| all | 1 << bit)
    }

    fn pause(&mut self) -> Patience {
        self.0.pauses.set(self.0.pauses.get() + 1);
        assert!(self.0.serve_kicks(), "a CPU waits for one that was not kicked");
        Patience::Left
    }
}
