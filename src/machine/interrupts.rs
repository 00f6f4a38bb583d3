// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts at run time: a physical interrupt becomes a list register, an access to the emulated interrupt controller
//! or console becomes its effects. What is decided is decided in `vgic` and `device`; here it is carried out.

use super::housekeeping;
use super::partition::Partition;
use super::percpu::{Local, Mail, PerCpu, Role};
use super::{Machine, direct, get};
use crate::addr::Ipa;
use crate::arch::sysreg::wfi;
use crate::arch::timer;
use crate::config::Delivery;
use crate::device::Line;
use crate::device::pl011::Effect;
use crate::exit::ExitReason;
use crate::id::{Intid, VcpuId};
use crate::idregs::{GicInterface, Profile, Shown};
use crate::irqchip;
use crate::mmio::Width;
use crate::plan::{Board, GuestGic, InterruptPlan, PartitionPlan};
use crate::vgic::{
    Control, Edit, Enabled, HwBits, HwChange, Level, Lr, Maintenance, Model, Patience, SgiRegister, Unfinished,
    VcpuMask, Vgic, VgicConfig, VgicError,
};

/// How long one vCPU waits for another of its partition, in milliseconds. The other's CPU answers an interrupt that its
/// guest cannot mask, within microseconds: only a defect makes this pass, or an emulator whose host is short of CPUs.
const PATIENCE_MILLISECONDS: u64 = 1000;
/// The most interrupts that an idle CPU serves before it looks at its other work.
const DRAIN_LIMIT: u32 = 64;

/// The hardware as `vgic` sees it, from this CPU.
pub struct Hardware {
    cpu: &'static PerCpu,
    partition: &'static Partition,
    deadline: Option<u64>,
}

impl Hardware {
    /// From the CPU that runs a vCPU.
    #[inline(always)]
    pub fn new(cpu: &'static PerCpu, role: &Role) -> Self {
        Self { cpu, partition: role.partition, deadline: None }
    }

    /// Routes an owned SPI; it is disabled meanwhile, and stays so without a target.
    fn route(&self, intid: Intid, target: Option<&PerCpu>, state: Enabled) {
        let Some(port) = self.cpu.port() else { return };
        let (word, mask) = (intid.index() / 32, 1 << (intid.get() % 32));
        irqchip::change(port, &HwBits { word, disable: mask, ..HwBits::default() });
        let Some(target) = target.and_then(PerCpu::port) else { return };
        irqchip::route(intid, target);
        if state == Enabled::Yes {
            irqchip::enable(port, word, mask);
        }
    }
}

impl crate::vgic::Machine for Hardware {
    #[inline(always)]
    fn read_lr(&mut self, index: u32) -> Lr {
        irqchip::read_lr(index)
    }

    #[inline(always)]
    fn write_lr(&mut self, index: u32, lr: Lr) {
        irqchip::write_lr(index, lr);
    }

    #[inline(always)]
    fn free_lrs(&mut self) -> u32 {
        irqchip::free_lrs()
    }

    fn control(&mut self) -> Control {
        irqchip::control()
    }

    fn eoi_count(&mut self) -> u32 {
        irqchip::eoi_count()
    }

    fn set_maintenance(&mut self, wanted: Maintenance) {
        irqchip::set_maintenance(wanted);
    }

    #[inline(always)]
    fn enable(&mut self, word: usize, mask: u32) {
        if let Some(port) = self.cpu.port() {
            irqchip::enable(port, word, mask);
        }
    }

    fn change(&mut self, change: &HwChange) {
        let Some(port) = self.cpu.port() else { return };
        match change {
            HwChange::None => {}
            HwChange::Enable { word, mask } => irqchip::enable(port, *word, *mask),
            HwChange::Bits(bits) => irqchip::change(port, bits),
            HwChange::Route { intid, vcpu, state } => {
                self.route(*intid, vcpu.and_then(|vcpu| self.partition.cpu(vcpu)), *state);
            }
            HwChange::Config { word, mask, edge } => irqchip::configure(port, *word, *mask, *edge),
        }
    }

    fn pending(&mut self, word: usize) -> u32 {
        self.cpu.port().map_or(0, |port| irqchip::pending(port, word))
    }

    #[inline(always)]
    fn active(&mut self, word: usize) -> u32 {
        self.cpu.port().map_or(0, |port| irqchip::active(port, word))
    }

    fn kick(&mut self, vcpus: VcpuMask) {
        kick(self.partition, vcpus);
    }

    #[inline(always)]
    fn signal(&mut self, vcpus: VcpuMask) {
        for vcpu in vcpus.iter() {
            match self.partition.signal(vcpu) {
                0 => {}
                value => irqchip::signal(value),
            }
        }
    }

    fn pause(&mut self) -> Patience {
        let now = timer::now();
        let patience = timer::ticks(PATIENCE_MILLISECONDS);
        let deadline = *self.deadline.get_or_insert(now.saturating_add(patience));
        core::hint::spin_loop();
        if now < deadline { Patience::Left } else { Patience::Over }
    }
}

/// Makes the CPUs of these vCPUs look at their interrupts.
pub fn kick(partition: &Partition, vcpus: VcpuMask) {
    for cpu in vcpus.iter().filter_map(|vcpu| partition.cpu(vcpu)) {
        cpu.post(Mail::Interrupts);
    }
}

/// Makes a partition's interrupt controller; `owned` are the SPIs that have hardware behind them.
///
/// # Errors
///
/// See [`VgicError`].
pub fn make_vgic(plan: &PartitionPlan, owned: &[InterruptPlan], board: &Board) -> Result<Vgic, VgicError> {
    let cpus: alloc::vec::Vec<_> = plan.vcpus.iter().map(|vcpu| vcpu.cpu).collect();
    Vgic::new(&VgicConfig {
        model: match plan.gic {
            GuestGic::V2 { .. } => Model::V2,
            GuestGic::V3 { .. } => Model::V3,
        },
        cpus: &cpus,
        spi_words: match plan.delivery {
            Delivery::Virtual => irqchip::spi_words(),
            // Not asked: see `machine::direct`.
            Delivery::Direct => 0,
        },
        priority_bits: irqchip::priority_bits(),
        linked_ppis: 1 << board.timer.physical.intid.get() | 1 << board.timer.virtual_.intid.get(),
        interrupts: owned,
    })
}

/// Serves the most urgent interrupts that are pending while no guest runs on this CPU. Where a guest's interrupts arrive
/// directly, they wait for it.
pub fn drain(this_cpu: &'static PerCpu, local: &mut Local) {
    let takes_guests = this_cpu.delivery() == Delivery::Virtual;
    for _ in 0..DRAIN_LIMIT {
        let own = irqchip::acknowledge_own();
        if own.intid().is_some() {
            serve(this_cpu, local, own);
            continue;
        }
        if !takes_guests {
            return;
        }
        let interrupt = irqchip::acknowledge();
        if interrupt.intid().is_none() {
            return;
        }
        serve(this_cpu, local, interrupt);
    }
}

/// Serves an interrupt that was acknowledged. The vectors have put it into a list register already if it could go there
/// by the short way; what arrives here is the hypervisor's own, or waits, or nobody's.
pub fn serve(this_cpu: &'static PerCpu, local: &mut Local, interrupt: irqchip::Acknowledged) {
    let Some(intid) = interrupt.intid() else { return };
    irqchip::drop_priority(interrupt);
    let (Some(machine), role) = (get(), this_cpu.role()) else { return irqchip::deactivate(interrupt) };
    let is_kick = match this_cpu.delivery() {
        Delivery::Virtual => intid == irqchip::KICK,
        Delivery::Direct => irqchip::maintenance() == Some(intid),
    };
    if is_kick {
        irqchip::deactivate(interrupt);
        this_cpu.counters.count(ExitReason::Kick);
        return read_mail(this_cpu, local);
    }
    if intid == irqchip::GUEST_SGI {
        irqchip::deactivate(interrupt);
        this_cpu.counters.count(ExitReason::Kick);
        return take_sgi(this_cpu, local);
    }
    if intid == machine.timer {
        housekeeping::attend(this_cpu);
        return irqchip::deactivate(interrupt);
    }
    if machine.console == Some(intid) {
        housekeeping::attend(this_cpu);
        return irqchip::deactivate(interrupt);
    }
    if let Some(role) = role {
        let mut hardware = Hardware::new(this_cpu, role);
        if irqchip::maintenance() == Some(intid) {
            this_cpu.counters.count(ExitReason::Maintenance);
            local.interface.refresh(&role.partition.vgic, &mut hardware, Edit::default());
            return irqchip::deactivate(interrupt);
        }
        this_cpu.counters.count(ExitReason::Irq);
        if local.interface.take_hardware(&role.partition.vgic, &mut hardware, intid) {
            return;
        }
    }
    // Nobody's: it does not come again.
    if let Some(port) = this_cpu.port() {
        let (word, mask) = (intid.index() / 32, 1 << (intid.get() % 32));
        irqchip::change(port, &HwBits { word, disable: mask, ..HwBits::default() });
    }
    irqchip::deactivate(interrupt);
}

/// Takes the SGIs that were made pending for this CPU's vCPU.
pub fn take_sgi(this_cpu: &'static PerCpu, local: &mut Local) {
    if let Some(role) = this_cpu.role() {
        local.interface.attend_sgi(&role.partition.vgic, &mut Hardware::new(this_cpu, role));
    }
}

/// Finishes what a quick access has left.
pub fn finish(this_cpu: &'static PerCpu, local: &mut Local, unfinished: Unfinished) {
    if let Some(role) = this_cpu.role() {
        role.partition.vgic.finish(&mut local.interface, &mut Hardware::new(this_cpu, role), unfinished);
    }
}

/// Does what the mail of this CPU asks for, but for the life cycle: that is looked at on the way out of every exit.
fn read_mail(this_cpu: &'static PerCpu, local: &mut Local) {
    let mail = this_cpu.take_mail();
    if mail.has(Mail::Interrupts)
        && let Some(role) = this_cpu.role()
    {
        let mut hardware = Hardware::new(this_cpu, role);
        local.interface.attend(&role.partition.vgic, &mut hardware);
    }
    if mail.has(Mail::Housekeeping) {
        housekeeping::attend(this_cpu);
    }
}

/// Waits until there is an interrupt for the guest, or one for the hypervisor.
pub fn wait(role: &Role) {
    if role.partition.direct.is_some() {
        direct::wait();
    } else if !has_pending() {
        wfi();
    }
}

/// Tells whether the guest has an interrupt in a list register.
fn has_pending() -> bool {
    let all = u32::MAX >> (32 - irqchip::list_register_count().clamp(1, 16));
    irqchip::free_lrs() & all != all
}

/// A vCPU begins on this CPU, whose virtual interface is as after a reset: [`end`] and boot leave it so.
pub fn begin(this_cpu: &'static PerCpu, role: &Role, local: &mut Local) {
    if role.partition.direct.is_some() {
        return direct::begin();
    }
    local.interface.start(&role.partition.vgic, &mut Hardware::new(this_cpu, role));
}

/// A vCPU ends on this CPU.
pub fn end(this_cpu: &'static PerCpu, role: &Role, local: &mut Local) {
    if role.partition.direct.is_some() {
        return direct::end();
    }
    local.interface.stop(&role.partition.vgic, &mut Hardware::new(this_cpu, role));
    irqchip::reset_virtual_interface();
}

/// Cleans this CPU's private interrupts of the partition when it stops.
pub fn clean_private(this_cpu: &PerCpu, partition: &Partition) {
    if partition.direct.is_some() {
        // Those of all its CPUs are cleaned when the last of them has stopped: until then the others may still raise them.
        return;
    }
    if let Some(port) = this_cpu.port() {
        irqchip::change(port, &HwBits::clean(0, partition.vgic.linked_ppis()));
    }
}

/// Returns a partition's interrupts to the state after a reset: disabled, not pending, not active, triggered as the tree
/// says, routed to its first CPU. None of its vCPUs runs.
pub fn clean_partition(machine: &Machine, this_cpu: &PerCpu, partition: &Partition) {
    let Some(port) = this_cpu.port() else { return };
    if let Some(controller) = &partition.direct {
        direct::clean(this_cpu, partition, controller);
        if let Some(console) = &partition.console {
            console.device.reset();
        }
        return;
    }
    let first = partition.plan.vcpus.first().and_then(|vcpu| machine.cpu(vcpu.cpu)).and_then(PerCpu::port);
    for (word, mask, edge) in partition.vgic.owned_words() {
        irqchip::change(port, &HwBits::clean(word, mask));
        irqchip::configure(port, word, mask, edge);
    }
    for owned in &partition.plan.interrupts {
        if let Some(target) = first {
            irqchip::route(owned.intid, target);
        }
    }
    partition.vgic.reset();
    if let Some(console) = &partition.console {
        console.device.reset();
    }
}

/// Lets an emulated device answer an access; `value` is what a write stores. `None` where no device is.
pub fn access(
    this_cpu: &'static PerCpu,
    role: &Role,
    local: &mut Local,
    ipa: Ipa,
    width: Width,
    value: Option<u64>,
) -> Option<u64> {
    if let Some(controller) = &role.partition.direct {
        let answer = direct::access(this_cpu, role, controller, ipa, width, value);
        if answer.is_some() {
            // The guest may have taken back what its console's line made pending.
            settle_direct(this_cpu, role.partition);
            return answer;
        }
    }
    let mut hardware = Hardware::new(this_cpu, role);
    let (interface, vgic) = (&mut local.interface, &role.partition.vgic);
    if let Some(offset) = role.distributor.offset(ipa) {
        return Some(match value {
            None => vgic.read_distributor(interface, &mut hardware, offset, width),
            Some(value) => {
                vgic.write_distributor(interface, &mut hardware, offset, width, value);
                0
            }
        });
    }
    if let Some(offset) = role.redistributors.offset(ipa) {
        return Some(match value {
            None => vgic.read_redistributor(interface, &mut hardware, offset, width),
            Some(value) => {
                vgic.write_redistributor(interface, &mut hardware, offset, width, value);
                0
            }
        });
    }
    let partition = role.partition;
    if let GuestGic::V2 { cpu_interface, .. } = partition.plan.gic
        && cpu_interface.contains(ipa)
    {
        // The half of GICC that is not mapped to GICV: GICC_DIR is all there is, and it is only written.
        let at_register = ipa.offset_from(cpu_interface.start())? == cpu_interface.size() / 2 && width == Width::Word;
        if let Some(value) = value.filter(|_| at_register) {
            vgic.deactivate(interface, &mut hardware, Intid::new((value & 0x3ff) as u32));
        }
        return Some(0);
    }
    let planned = partition.plan.console.filter(|console| console.range.contains(ipa))?;
    let console = partition.console.as_ref()?;
    let offset = ipa.offset_from(planned.range.start())?;
    let mut effect = Effect::None;
    let answer = {
        // Only vCPUs of this partition take this lock, for the few instructions of one register access.
        let _one_at_a_time = console.registers.lock();
        match value {
            None => console.device.read(offset, width),
            Some(value) => {
                effect = console.device.write(offset, width, value);
                0
            }
        }
    };
    match partition.direct {
        Some(_) => settle_direct(this_cpu, partition),
        None => console.device.settle(|line| vgic.set_own_line(interface, &mut hardware, planned.intid, level(line))),
    }
    if effect == Effect::Output {
        housekeeping::notify();
    }
    Some(answer)
}

/// Raises or lowers the line of a partition's console from the housekeeping CPU.
pub fn settle_console(partition: &Partition) {
    let (Some(console), Some(planned)) = (&partition.console, partition.plan.console) else { return };
    if partition.direct.is_some() {
        if let Some(cpu) = partition.cpu(VcpuId::new(0)) {
            settle_direct(cpu, partition);
        }
        return;
    }
    console.device.settle(|line| kick(partition, partition.vgic.set_line(planned.intid, level(line))));
}

/// Makes the console's spare interrupt follow its line.
fn settle_direct(cpu: &PerCpu, partition: &Partition) {
    let of_plan = (&partition.console, &partition.direct, partition.plan.spare_interrupt());
    if let ((Some(console), Some(controller), Some(spare)), Some(port)) = (of_plan, cpu.port()) {
        console.device.settle(|line| direct::follow(port, controller, spare.intid, line));
    }
}

const fn level(line: Line) -> Level {
    match line {
        Line::Low => Level::Low,
        Line::High => Level::High,
    }
}

/// Sends the SGIs that a guest asked for by a system register.
pub fn sgi(this_cpu: &'static PerCpu, role: &Role, local: &mut Local, register: SgiRegister, value: u64) {
    let mut hardware = Hardware::new(this_cpu, role);
    role.partition.vgic.send_sgi(&mut local.interface, &mut hardware, register, value);
}

/// Carries out a trapped write to ICC_DIR_EL1.
pub fn deactivate(this_cpu: &'static PerCpu, role: &Role, local: &mut Local, value: u64) {
    let mut hardware = Hardware::new(this_cpu, role);
    let intid = Intid::new((value & 0xff_ffff) as u32);
    role.partition.vgic.deactivate(&mut local.interface, &mut hardware, intid);
}

/// Returns what the ID registers of a partition depend on.
pub fn profile(machine: &Machine, partition: &Partition) -> Profile {
    Profile {
        ipa_bits: partition.stage2.geometry().ipa_bits,
        gic: match partition.plan.gic {
            GuestGic::V2 { .. } => GicInterface::Memory,
            GuestGic::V3 { .. } => GicInterface::SystemRegisters,
        },
        pauth: if machine.features.pauth { Shown::Yes } else { Shown::No },
    }
}
