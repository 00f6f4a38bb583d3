// SPDX-License-Identifier: MIT OR Apache-2.0
//! The emulated controller against an obviously right one: random guests, devices and life cycles, compared after every
//! step in what each CPU would take next and in what registers read. Nothing is lost, nothing comes twice, and the
//! order is that of priorities (of ids where those are equal, but for hardware interrupts, which may overtake).

use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::fake::{Board, BoardConfig, IDS};
use super::*;
use crate::mmio::Width::{Byte, Double, Word};

/// One interrupt of the right controller.
#[derive(Clone, Copy, Debug, Default)]
struct Irq {
    enabled: bool,
    latch: bool,
    line: bool,
    edge: bool,
    active: bool,
    priority: u8,
    group: u32,
    target: Option<usize>,
    /// GICv2 SGIs: who they are pending from.
    sources: u8,
    /// It was once made pending by software.
    by_software: bool,
}

impl Irq {
    fn pending(&self) -> bool {
        self.latch || self.sources != 0 || self.line && !self.edge
    }
}

/// The right controller.
struct Right {
    model: Model,
    private: Vec<[Irq; 32]>,
    shared: Vec<Irq>,
    groups: u32,
    cpu_groups: Vec<u32>,
    /// Acknowledged and not ended, the most urgent last.
    running: Vec<Vec<(u8, usize)>>,
    online: Vec<bool>,
    split: bool,
}

impl Right {
    fn new(model: Model, cpus: usize, split: bool) -> Self {
        let mut private = [Irq::default(); 32];
        for sgi in &mut private[..16] {
            sgi.edge = true;
            sgi.enabled = model == Model::V2;
        }
        let target = if model == Model::V3 || cpus == 1 { Some(0) } else { None };
        Self {
            model,
            private: vec![private; cpus],
            shared: vec![Irq { target, ..Irq::default() }; IDS],
            groups: 0,
            cpu_groups: vec![0; cpus],
            running: vec![Vec::new(); cpus],
            online: vec![true; cpus],
            split,
        }
    }

    fn irq(&mut self, cpu: usize, id: usize) -> &mut Irq {
        if id < 32 { &mut self.private[cpu][id] } else { &mut self.shared[id] }
    }

    fn get(&self, cpu: usize, id: usize) -> Irq {
        if id < 32 { self.private[cpu][id] } else { self.shared[id] }
    }

    fn eligible(&self, cpu: usize, id: usize) -> bool {
        let irq = self.get(cpu, id);
        let here = id < 32 || irq.target == Some(cpu);
        let group = self.groups & self.cpu_groups[cpu] & (1 << irq.group) != 0;
        here && irq.enabled && irq.pending() && !irq.active && group
    }

    fn highest(&self, cpu: usize) -> Option<(u8, usize)> {
        let best = (0..IDS).filter(|&id| self.eligible(cpu, id)).map(|id| (self.get(cpu, id).priority, id)).min()?;
        let preempts = self.running[cpu].last().is_none_or(|&(running, _)| best.0 < running);
        preempts.then_some(best)
    }

    fn is_running(&self, id: usize, cpu: usize) -> bool {
        (0..self.running.len()).any(|other| (id >= 32 || other == cpu) && self.running[other].iter().any(|r| r.1 == id))
    }
}

/// Interrupts of the tests: two owned SPIs of each kind, the rest emulated; PPI 27 linked.
const OWNED: [(usize, Trigger); 4] =
    [(40, Trigger::Level), (41, Trigger::Edge), (70, Trigger::Level), (71, Trigger::Edge)];
const TIMER: usize = 27;
/// What the steps choose from: few enough that they meet.
const CHOICE: [usize; 16] = [1, 2, 15, 20, TIMER, 33, 34, 35, 36, 37, 40, 41, 64, 70, 71, 95];

#[derive(Clone, Debug)]
enum Step {
    Bits { cpu: usize, of: usize, register: u64, id: usize },
    Storm { cpu: usize, word: usize },
    Priority { cpu: usize, of: usize, id: usize, priority: u8 },
    Group { cpu: usize, of: usize, id: usize, group: u32 },
    Route { cpu: usize, id: usize, target: usize },
    Config { cpu: usize, id: usize, edge: bool },
    Sgi { cpu: usize, id: usize, targets: u32 },
    Line { cpu: usize, id: usize, high: bool, own: bool },
    Groups { cpu: usize, groups: u32 },
    CpuGroups { cpu: usize, groups: u32 },
    Acknowledge { cpu: usize },
    End { cpu: usize },
    Deactivate { cpu: usize, id: usize },
    Power { cpu: usize },
    Read { cpu: usize, of: usize, word: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let cpu = 0..4usize;
    let id = proptest::sample::select(CHOICE.to_vec());
    prop_oneof![
        9 => (cpu.clone(), cpu.clone(), 2..8u64, id.clone())
            .prop_map(|(cpu, of, register, id)| Step::Bits { cpu, of, register, id }),
        6 => (cpu.clone(), id.clone()).prop_map(|(cpu, id)| Step::Bits { cpu, of: cpu, register: 4, id }),
        4 => (cpu.clone(), id.clone()).prop_map(|(cpu, id)| Step::Bits { cpu, of: cpu, register: 2, id }),
        1 => (cpu.clone(), 1..3usize).prop_map(|(cpu, word)| Step::Storm { cpu, word }),
        3 => (cpu.clone(), cpu.clone(), id.clone(), 0..6u8)
            .prop_map(|(cpu, of, id, p)| Step::Priority { cpu, of, id, priority: p << 5 }),
        1 => (cpu.clone(), cpu.clone(), id.clone(), 0..2u32)
            .prop_map(|(cpu, of, id, group)| Step::Group { cpu, of, id, group }),
        4 => (cpu.clone(), id.clone(), 0..5usize).prop_map(|(cpu, id, target)| Step::Route { cpu, id, target }),
        1 => (cpu.clone(), id.clone(), any::<bool>()).prop_map(|(cpu, id, edge)| Step::Config { cpu, id, edge }),
        4 => (cpu.clone(), 0..3usize, 0..16u32).prop_map(|(cpu, id, targets)| Step::Sgi { cpu, id, targets }),
        6 => (cpu.clone(), id.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(cpu, id, high, own)| Step::Line { cpu, id, high, own }),
        1 => (cpu.clone(), prop_oneof![3 => Just(3u32), 1 => 0..4u32]).prop_map(|(cpu, groups)| Step::Groups { cpu, groups }),
        2 => (cpu.clone(), prop_oneof![3 => Just(3u32), 1 => 0..4u32])
            .prop_map(|(cpu, groups)| Step::CpuGroups { cpu, groups }),
        10 => cpu.clone().prop_map(|cpu| Step::Acknowledge { cpu }),
        8 => cpu.clone().prop_map(|cpu| Step::End { cpu }),
        4 => (cpu.clone(), id).prop_map(|(cpu, id)| Step::Deactivate { cpu, id }),
        1 => cpu.clone().prop_map(|cpu| Step::Power { cpu }),
        3 => (cpu.clone(), cpu, 0..3usize).prop_map(|(cpu, of, word)| Step::Read { cpu, of, word }),
    ]
}

/// Both controllers, driven alike.
struct Pair {
    board: Board,
    right: Right,
}

impl Pair {
    fn new(model: Model, cpus: usize, lrs: usize, split: bool) -> Self {
        let board = Board::new(BoardConfig { model, cpus, lrs, owned: OWNED.to_vec(), linked_ppis: 1 << TIMER });
        let mut right = Right::new(model, cpus, split);
        for (id, trigger) in OWNED {
            right.shared[id].edge = trigger == Trigger::Edge;
        }
        let mut pair = Self { board, right };
        for cpu in 0..cpus {
            pair.power_on(cpu);
        }
        pair.run(&Step::Groups { cpu: 0, groups: 3 });
        pair
    }

    fn power_on(&mut self, cpu: usize) {
        self.board.cpus[cpu].borrow_mut().split_eoi = self.right.split;
        self.run(&Step::CpuGroups { cpu, groups: 3 });
    }

    fn cpus(&self) -> usize {
        self.right.online.len()
    }

    fn word(&self, word: usize) -> u64 {
        4 * word as u64
    }

    /// Does a step on both if the rules of the architecture, and those that this design states, allow it.
    fn run(&mut self, step: &Step) {
        let cpus = self.cpus();
        let (Step::Bits { cpu, .. }
        | Step::Storm { cpu, .. }
        | Step::Priority { cpu, .. }
        | Step::Group { cpu, .. }
        | Step::Route { cpu, .. }
        | Step::Config { cpu, .. }
        | Step::Sgi { cpu, .. }
        | Step::Line { cpu, .. }
        | Step::Groups { cpu, .. }
        | Step::CpuGroups { cpu, .. }
        | Step::Acknowledge { cpu }
        | Step::End { cpu }
        | Step::Deactivate { cpu, .. }
        | Step::Power { cpu }
        | Step::Read { cpu, .. }) = *step;
        let cpu = cpu % cpus;
        if !self.right.online[cpu] && !matches!(step, Step::Power { .. } | Step::Line { own: false, .. }) {
            return;
        }
        match *step {
            Step::Bits { of, register, id, .. } => self.bits(cpu, self.whose(cpu, of, id), register, id),
            Step::Storm { word, .. } => self.storm(cpu, word),
            Step::Priority { of, id, priority, .. } => {
                let of = self.whose(cpu, of, id);
                if !self.right.get(of, id).active {
                    self.right.irq(of, id).priority = priority;
                    self.board.write_any(cpu, of, 0x400 + id as u64, Byte, id < 32, priority.into());
                }
            }
            Step::Group { of, id, group, .. } => {
                let of = self.whose(cpu, of, id);
                if !self.right.get(of, id).active {
                    self.right.irq(of, id).group = group;
                    let offset = 0x80 + self.word(id / 32);
                    let old = self.board.read_any(cpu, of, offset, Word, id < 32);
                    let value = old & !(1 << (id % 32)) | u64::from(group) << (id % 32);
                    self.board.write_any(cpu, of, offset, Word, id < 32, value);
                }
            }
            Step::Route { id, target, .. } => self.route(cpu, id, target),
            Step::Config { id, edge, .. } => {
                let irq = self.right.get(cpu, id);
                if id >= 32 && !irq.enabled && !irq.pending() && !irq.active && !irq.line {
                    self.right.irq(cpu, id).edge = edge;
                    let offset = 0xc00 + 4 * (id as u64 / 16);
                    let shift = 2 * (id % 16) + 1;
                    let old = self.board.read(cpu, offset, Word);
                    self.board.write(cpu, offset, Word, old & !(1 << shift) | u64::from(edge) << shift);
                }
            }
            Step::Sgi { id, targets, .. } => self.sgi(cpu, id, targets),
            Step::Line { id, high, own, .. } => self.line(cpu, id, high, own),
            Step::Groups { groups, .. } => {
                self.right.groups = groups;
                self.board.write(cpu, 0, Word, groups.into());
            }
            Step::CpuGroups { groups, .. } => {
                self.right.cpu_groups[cpu] = groups;
                self.board.cpus[cpu].borrow_mut().groups = groups;
            }
            Step::Acknowledge { .. } => self.acknowledge(cpu),
            Step::End { .. } => {
                if let Some((_, id)) = self.right.running[cpu].pop() {
                    if !self.right.split {
                        self.right.irq(cpu, id).active = false;
                    }
                    self.board.end(cpu, id);
                }
            }
            Step::Deactivate { id, .. } => {
                if self.right.split && !self.right.is_running(id, cpu) {
                    self.right.irq(cpu, id).active = false;
                    self.board.deactivate(cpu, id);
                }
            }
            Step::Power { .. } => self.power(cpu),
            Step::Read { of, word, .. } => self.read(cpu, if word == 0 { self.whose(cpu, of, 0) } else { cpu }, word),
        }
        self.board.settle();
        self.compare();
    }

    /// Returns whose interrupt an access means.
    fn whose(&self, cpu: usize, of: usize, id: usize) -> usize {
        if id < 32 && self.right.model == Model::V3 { of % self.cpus() } else { cpu }
    }

    fn bits(&mut self, cpu: usize, of: usize, register: u64, id: usize) {
        let linked = self.board.linked(id);
        let running = self.right.is_running(id, of);
        let split = self.right.split;
        let v2_sgi = self.right.model == Model::V2 && id < 16;
        let offline = !self.right.online[of];
        let irq = self.right.irq(of, id);
        match register {
            2 => irq.enabled = true,
            3 if !v2_sgi => irq.enabled = false,
            4 if v2_sgi => {}
            // Private interrupts of a vCPU that is off have no hardware to be pending in.
            4 | 5 if linked && id < 32 && offline => return,
            // That it was taken may be noticed late (see the module).
            4 if linked && !irq.edge && irq.line => return,
            4 => (irq.latch, irq.by_software) = (true, true),
            5 if !v2_sgi => irq.latch = false,
            6 if linked && id < 32 && offline => return,
            6 => irq.active = true,
            // An interrupt that is being handled is ended, not cleared.
            7 if running && !split => return,
            7 if linked && id < 32 && offline => return,
            7 => irq.active = false,
            _ => {}
        }
        let offset = register * 0x80 + 4 * (id as u64 / 32);
        self.board.write_any(cpu, of, offset, Word, id < 32, 1 << (id % 32));
    }

    /// Everything of a word enabled, to `cpu`, and pending at once.
    fn storm(&mut self, cpu: usize, word: usize) {
        for id in 32 * word..32 * word + 32 {
            self.route(cpu, id, cpu);
            self.right.shared[id].enabled = true;
            self.right.shared[id].latch = true;
            self.right.shared[id].by_software = true;
        }
        let offset = self.word(word);
        self.board.write(cpu, 0x100 + offset, Word, 0xffff_ffff);
        self.board.settle();
        self.board.write(cpu, 0x200 + offset, Word, 0xffff_ffff);
    }

    fn route(&mut self, cpu: usize, id: usize, target: usize) {
        if id < 32 {
            return;
        }
        let target = (target < self.cpus()).then_some(target);
        match self.right.model {
            Model::V3 => {
                self.right.shared[id].target = target;
                let affinity = target.map_or(0x1234, |target| target as u64);
                self.board.write(cpu, 0x6000 + 8 * id as u64, Double, affinity);
            }
            Model::V2 => {
                if self.cpus() > 1 {
                    self.right.shared[id].target = target;
                }
                let mask = target.map_or(0, |target| 1 << target);
                self.board.write(cpu, 0x800 + id as u64, Byte, mask);
            }
        }
    }

    fn sgi(&mut self, cpu: usize, id: usize, targets: u32) {
        for target in (0..self.cpus()).filter(|target| targets >> target & 1 == 1) {
            let irq = self.right.irq(target, id);
            match self.board.vgic.model() {
                Model::V2 => irq.sources |= 1 << cpu,
                Model::V3 => irq.latch |= irq.group == 1,
            }
        }
        match self.right.model {
            Model::V2 => self.board.write(cpu, 0xf00, Word, u64::from(targets) << 16 | id as u64),
            Model::V3 => {
                let mut interface = self.board.interfaces[cpu].borrow_mut();
                let value = (id as u64) << 24 | u64::from(targets);
                let mut port = super::fake::Port(&self.board, cpu);
                self.board.vgic.send_sgi(&mut interface, &mut port, SgiRegister::Sgi1, value);
            }
        }
    }

    fn line(&mut self, cpu: usize, id: usize, high: bool, own: bool) {
        let linked = self.board.linked(id);
        if id < 32 && id != TIMER {
            return;
        }
        let irq = self.right.get(cpu, id);
        // A wire that rises or falls while its interrupt waits in a list register is noticed late (see the module).
        if linked && irq.enabled && irq.pending() && irq.line != high && (irq.edge || !high || irq.latch) {
            return;
        }
        // So is that the guest has taken what software made pending, once the line is high as well.
        if linked && !irq.edge && high && irq.by_software {
            return;
        }
        let irq = self.right.irq(cpu, id);
        if high && !irq.line && irq.edge {
            irq.latch = true;
        }
        irq.line = high;
        let level = if high { Level::High } else { Level::Low };
        let intid = Intid::new(id as u32);
        if linked {
            self.board.set_wire(cpu, id, high);
        } else if own {
            let mut interface = self.board.interfaces[cpu].borrow_mut();
            let mut port = super::fake::Port(&self.board, cpu);
            self.board.vgic.set_own_line(&mut interface, &mut port, intid, level);
        } else {
            let kicks = self.board.vgic.set_line(intid, level);
            self.board.kick_from_outside(kicks);
        }
    }

    fn acknowledge(&mut self, cpu: usize) {
        let Some(lr) = self.board.acknowledge(cpu) else { return };
        let id = lr.intid().index();
        let irq = self.right.irq(cpu, id);
        if irq.sources != 0 {
            assert_eq!(irq.sources >> lr.source() & 1, 1, "SGI {id} comes from {}, who did not send it", lr.source());
            irq.sources &= !(1 << lr.source());
        }
        irq.latch = false;
        irq.active = true;
        let priority = irq.priority;
        self.right.running[cpu].push((priority, id));
    }

    fn power(&mut self, cpu: usize) {
        if self.right.online[cpu] {
            self.board.stop(cpu);
            self.right.online[cpu] = false;
            self.right.running[cpu].clear();
            self.right.cpu_groups[cpu] = 0;
        } else {
            self.board.start(cpu);
            self.right.online[cpu] = true;
            self.power_on(cpu);
        }
    }

    fn read(&mut self, cpu: usize, of: usize, word: usize) {
        let fold = |field: &dyn Fn(Irq) -> bool| {
            (0..32).fold(0, |all, bit| all | u64::from(field(self.right.get(of, 32 * word + bit))) << bit)
        };
        let offset = self.word(word);
        let expected = [(2, fold(&|irq| irq.enabled)), (4, fold(&|irq| irq.pending())), (6, fold(&|irq| irq.active))];
        for (register, expected) in expected {
            for register in [register, register + 1] {
                let value = self.board.read_any(cpu, of, register * 0x80 + offset, Word, word == 0);
                // The wires of a vCPU that is off are not looked at.
                let unseen = if word == 0 && !self.right.online[of] { 1 << TIMER } else { 0 };
                assert_eq!(
                    value & !unseen,
                    expected & !unseen,
                    "register {register} of word {word}, {value:#x} for {expected:#x}"
                );
            }
        }
    }

    fn compare(&self) {
        for cpu in (0..self.cpus()).filter(|&cpu| self.right.online[cpu]) {
            let right = self.right.highest(cpu);
            let ours = self.board.highest(cpu).map(|(_, lr)| (lr.priority(), lr.intid().index()));
            if right == ours {
                continue;
            }
            let (Some(right), Some(ours)) = (right, ours) else {
                panic!("CPU {cpu} takes {ours:?} next, not {right:?}");
            };
            let peers = (0..IDS).filter(|&id| self.right.get(cpu, id).priority == right.0);
            let overtaken = peers.filter(|&id| self.right.eligible(cpu, id)).any(|id| self.board.linked(id));
            assert!(
                overtaken && ours.0 == right.0 && self.right.eligible(cpu, ours.1),
                "CPU {cpu} takes {ours:?} next, not {right:?}"
            );
        }
    }
}

fn play(model: Model, cpus: usize, lrs: usize, split: bool, steps: &[Step]) {
    let mut pair = Pair::new(model, cpus, lrs, split);
    for step in steps {
        pair.run(step);
    }
    for cpu in 0..cpus {
        for word in 0..3 {
            if pair.right.online[cpu] {
                pair.read(cpu, cpu, word);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn gicv3_behaves_like_the_right_controller(
        cpus in 1..4usize, lrs in 1..6usize, split: bool, steps in prop::collection::vec(step(), 1..150),
    ) {
        play(Model::V3, cpus, lrs, split, &steps);
    }

    #[test]
    fn gicv2_behaves_like_the_right_controller(
        cpus in 1..4usize, lrs in 1..6usize, split: bool, steps in prop::collection::vec(step(), 1..150),
    ) {
        play(Model::V2, cpus, lrs, split, &steps);
    }
}
