// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joins the physical interrupt controller to a partition's virtual one: what the exit dispatcher calls. Everything here
//! runs on the CPU of the vCPU whose [`CpuInterface`] is given, with interrupts masked.

use super::sysreg::{counter, synchronise};
use super::{Acknowledged, Interface, KICK, chip, with_driver};
use crate::id::{CpuId, Intid, VcpuId};
use crate::mmio::Width;
use crate::vgic::{
    Control, CpuInterface, Edit, Enabled, HwBits, HwChange, Level, Lr, Machine, Maintenance, Patience, SgiRegister,
    VcpuMask, Vgic,
};

/// How long a vCPU waits for another one of its partition to give list registers back, as a part of a second. It takes
/// microseconds; an emulator may not run the other CPU for longer.
const PATIENCE: u64 = 10;

/// What a physical interrupt was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqEvent {
    /// The guest's, or about its list registers: dealt with.
    Guest,
    /// Another CPU wants this one to look: the virtual interrupts have been looked after, the rest is the caller's.
    Kick,
    /// The console UART's. The caller quiets the UART before it runs a guest again.
    ConsoleUart,
    /// EL2's timer. The caller quiets it before it runs a guest again.
    HypervisorTimer,
    /// None: what was there has gone.
    Spurious,
    /// Nobody's. It has been disabled.
    Other(Intid),
}

/// The executing CPU, for the policy.
struct Hardware<'a, I: Interface> {
    gic: &'a I,
    vgic: &'a Vgic,
    cpu: CpuId,
    deadline: Option<u64>,
}

impl<'a, I: Interface> Hardware<'a, I> {
    fn new(gic: &'a I, vgic: &'a Vgic, vcpu: VcpuId) -> Self {
        Self { gic, vgic, cpu: vgic.cpu_of(vcpu).unwrap_or_default(), deadline: None }
    }
}

impl<I: Interface> Machine for Hardware<'_, I> {
    #[inline(always)]
    fn read_lr(&mut self, index: u32) -> Lr {
        self.gic.read_lr(index)
    }

    #[inline(always)]
    fn write_lr(&mut self, index: u32, lr: Lr) {
        self.gic.write_lr(index, lr);
    }

    #[inline(always)]
    fn free_lrs(&mut self) -> u32 {
        self.gic.free_lrs()
    }

    fn control(&mut self) -> Control {
        self.gic.control()
    }

    fn eoi_count(&mut self) -> u32 {
        self.gic.eoi_count()
    }

    fn set_maintenance(&mut self, wanted: Maintenance) {
        self.gic.set_maintenance(wanted);
    }

    #[inline]
    fn change(&mut self, change: &HwChange) {
        match *change {
            HwChange::None => {}
            HwChange::Enable { word, mask } => self.gic.enable(self.cpu, word, mask),
            HwChange::Bits(bits) => self.gic.change(self.cpu, &bits),
            HwChange::Config { word, mask, edge } => self.gic.configure(word, mask, edge),
            HwChange::Route { intid, vcpu, state } => {
                let (word, mask) = (intid.index() >> 5, 1 << (intid.get() & 31));
                match vcpu.and_then(|vcpu| self.vgic.cpu_of(vcpu)) {
                    None => self.gic.change(self.cpu, &HwBits { word, disable: mask, ..HwBits::default() }),
                    Some(cpu) => {
                        self.gic.route(intid, cpu);
                        if state == Enabled::Yes {
                            self.gic.enable(self.cpu, word, mask);
                        }
                    }
                }
            }
        }
    }

    fn pending(&mut self, word: usize) -> u32 {
        self.gic.pending(self.cpu, word)
    }

    fn kick(&mut self, vcpus: VcpuMask) {
        vcpus.iter().filter_map(|vcpu| self.vgic.cpu_of(vcpu)).for_each(|cpu| self.gic.kick(cpu));
    }

    fn pause(&mut self) -> Patience {
        let (now, frequency) = counter();
        let deadline = *self.deadline.get_or_insert(now.wrapping_add(frequency / PATIENCE));
        core::hint::spin_loop();
        if (deadline.wrapping_sub(now) as i64) < 0 { Patience::Over } else { Patience::Left }
    }
}

/// Takes a physical interrupt out of a running guest. The short way is that of a guest's own interrupt into a free list
/// register; it writes no memory and takes no lock.
#[inline]
pub fn handle_irq(vgic: &Vgic, cpu: &mut CpuInterface) -> IrqEvent {
    with_driver!(gic => {
        let acknowledged = gic.acknowledge();
        if let Some(lr) = cpu.hardware_lr(vgic, acknowledged.intid()) {
            let free = gic.free_lrs();
            if free != 0 {
                gic.write_lr(free.trailing_zeros(), lr);
                gic.drop_priority(acknowledged);
                return IrqEvent::Guest;
            }
        }
        handle_slow(gic, vgic, cpu, acknowledged)
    })
}

/// Takes a physical interrupt on a CPU whose vCPU is off: an interrupt of the partition's waits in the distributor.
pub fn handle_irq_while_off(vgic: &Vgic, cpu: &mut CpuInterface) -> IrqEvent {
    with_driver!(gic => {
        let acknowledged = gic.acknowledge();
        handle_slow(gic, vgic, cpu, acknowledged)
    })
}

/// Takes a physical interrupt on a CPU that has no vCPU.
pub fn handle_irq_without_vcpu() -> IrqEvent {
    with_driver!(gic => {
        let acknowledged = gic.acknowledge();
        own_event(gic, CpuId::default(), acknowledged)
    })
}

#[inline(never)]
fn handle_slow<I: Interface>(gic: &I, vgic: &Vgic, cpu: &mut CpuInterface, acknowledged: Acknowledged) -> IrqEvent {
    let intid = acknowledged.intid();
    let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
    if intid == chip().own.maintenance {
        // Its cause goes first, so that it does not fire again.
        cpu.refresh(vgic, &mut hardware, Edit::default());
        synchronise();
        gic.drop_priority(acknowledged);
        gic.deactivate(acknowledged);
        return IrqEvent::Guest;
    }
    if vgic.owns(intid) || intid.is_ppi() && vgic.linked_ppis() >> intid.get() & 1 == 1 {
        gic.drop_priority(acknowledged);
        cpu.take_hardware(vgic, &mut hardware, intid);
        return IrqEvent::Guest;
    }
    let event = own_event(gic, hardware.cpu, acknowledged);
    if event == IrqEvent::Kick {
        cpu.attend(vgic, &mut hardware);
    }
    event
}

/// Ends an interrupt that is no guest's, and says what it is.
fn own_event<I: Interface>(gic: &I, cpu: CpuId, acknowledged: Acknowledged) -> IrqEvent {
    let intid = acknowledged.intid();
    if intid.get() >= 1020 {
        return IrqEvent::Spurious;
    }
    let own = &chip().own;
    let event = if intid == KICK {
        IrqEvent::Kick
    } else if intid == own.timer {
        IrqEvent::HypervisorTimer
    } else if own.console.is_some_and(|(console, _)| console == intid) {
        IrqEvent::ConsoleUart
    } else {
        let bits = HwBits { word: intid.index() >> 5, disable: 1 << (intid.get() & 31), ..HwBits::default() };
        gic.change(cpu, &bits);
        IrqEvent::Other(intid)
    };
    gic.drop_priority(acknowledged);
    gic.deactivate(acknowledged);
    event
}

/// Writes a register of the emulated distributor; `offset` counts from GICD's base.
pub fn write_distributor(vgic: &Vgic, cpu: &mut CpuInterface, offset: u64, width: Width, value: u64) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.write_distributor(cpu, &mut hardware, offset, width, value);
    });
}

/// Reads a register of the emulated distributor.
pub fn read_distributor(vgic: &Vgic, cpu: &mut CpuInterface, offset: u64, width: Width) -> u64 {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.read_distributor(cpu, &mut hardware, offset, width)
    })
}

/// Writes a register of the emulated redistributors; `offset` counts from the first one's base. GICv3 only.
pub fn write_redistributor(vgic: &Vgic, cpu: &mut CpuInterface, offset: u64, width: Width, value: u64) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.write_redistributor(cpu, &mut hardware, offset, width, value);
    });
}

/// Reads a register of the emulated redistributors. GICv3 only.
pub fn read_redistributor(vgic: &Vgic, cpu: &mut CpuInterface, offset: u64, width: Width) -> u64 {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.read_redistributor(cpu, &mut hardware, offset, width)
    })
}

/// Carries out a trapped write to ICC_SGI1R_EL1, ICC_ASGI1R_EL1 or ICC_SGI0R_EL1. GICv3 only.
pub fn send_sgi(vgic: &Vgic, cpu: &mut CpuInterface, register: SgiRegister, value: u64) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.send_sgi(cpu, &mut hardware, register, value);
    });
}

/// Carries out a trapped write to ICC_DIR_EL1 (GICv3) or GICC_DIR (GICv2, in the second page of GICC, which is best left
/// unmapped so that it traps).
pub fn deactivate(vgic: &Vgic, cpu: &mut CpuInterface, value: u64) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.deactivate(cpu, &mut hardware, Intid::new(value as u32 & 0x3ff));
    });
}

/// Sets the line of an emulated device of the partition, from an exit of one of its own vCPUs.
pub fn set_line(vgic: &Vgic, cpu: &mut CpuInterface, intid: Intid, level: Level) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        vgic.set_own_line(cpu, &mut hardware, intid, level);
    });
}

/// Sets the line of an emulated device of any partition, from any CPU: atomic, and kicks whom it concerns.
pub fn set_line_from_outside(vgic: &Vgic, intid: Intid, level: Level) {
    let kicks = vgic.set_line(intid, level);
    kicks.iter().filter_map(|vcpu| vgic.cpu_of(vcpu)).for_each(super::kick);
}

/// Looks after the virtual interrupts as a kick does, for a CPU that learns otherwise that there is something.
pub fn refresh(vgic: &Vgic, cpu: &mut CpuInterface) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        cpu.refresh(vgic, &mut hardware, Edit::default());
    });
}

/// Makes the interface of a vCPU of the executing CPU, off at first.
pub fn interface(vcpu: VcpuId) -> CpuInterface {
    CpuInterface::new(vcpu, super::lr_count())
}

/// Begins a vCPU on the executing CPU: its CPU interface is as after a reset, and interrupts reach it from now on.
pub fn start(vgic: &Vgic, cpu: &mut CpuInterface) {
    with_driver!(gic => {
        gic.reset_interface();
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        cpu.start(vgic, &mut hardware);
    });
    synchronise();
}

/// Ends a vCPU on the executing CPU: what its list registers held goes back to the distributor, and its physical PPIs
/// are disabled.
pub fn stop(vgic: &Vgic, cpu: &mut CpuInterface) {
    with_driver!(gic => {
        let mut hardware = Hardware::new(gic, vgic, cpu.vcpu());
        cpu.stop(vgic, &mut hardware);
        gic.reset_interface();
    });
}

/// Returns a partition's interrupts to the state of a reset, virtually and physically: its SPIs disabled, not pending, not
/// active, triggered as the device tree says, routed to vCPU 0's CPU. Before the first start and before each restart,
/// on any CPU, with all vCPUs stopped. Private interrupts are cleaned by each vCPU's [`start`].
pub fn clean(vgic: &Vgic) {
    vgic.reset();
    let first = vgic.cpu_of(VcpuId::new(0)).unwrap_or_default();
    with_driver!(gic => {
        for (word, mask, edge) in vgic.owned_words() {
            gic.change(first, &HwBits::clean(word, mask));
            gic.configure(word, mask, edge);
            (0..32).filter(|bit| mask >> bit & 1 == 1).for_each(|bit| {
                gic.route(Intid::new((word as u32) << 5 | bit), first);
            });
        }
    });
}
