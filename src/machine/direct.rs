// SPDX-License-Identifier: MIT OR Apache-2.0
//! Partitions whose interrupts arrive directly: carries out what `vgic::direct` decides. While a vCPU runs, its CPU's
//! interface is the guest's (IRQs go to EL1, the hypervisor's FIQs to EL2); while none runs, none of the guest's
//! interrupts is taken.

use core::sync::atomic::{AtomicBool, Ordering};

use super::partition::{DirectController, Partition};
use super::percpu::{PerCpu, Role};
use crate::addr::Ipa;
use crate::arch::sysreg::{isb, wfi};
use crate::config::Delivery;
use crate::device::Line;
use crate::exit::Direction;
use crate::id::Intid;
use crate::irqchip::{self, Port, direct as interface};
use crate::mmio::{SystemRegister, Width};
use crate::plan::{Board, GuestGic, PartitionPlan};
use crate::vgic::direct::{self, Direct, Effect, Frame, Reading};
use crate::vgic::{HwBits, Operation, SgiRegister};
use crate::{read_sysreg, write_sysreg};

const ICC_PMR_EL1: SystemRegister = SystemRegister::new(3, 0, 4, 6, 0);
const ICC_DIR_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 1);
const ICC_RPR_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 3);
const ICC_SGI1R_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 5);
const ICC_ASGI1R_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 6);
const ICC_SGI0R_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 7);
const ICC_CTLR_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 12, 4);

/// HCR_EL2.IMO: physical IRQs are taken to EL2.
const IMO: u64 = 1 << 4;

/// Makes a partition's controller, if its interrupts arrive directly.
pub fn make(plan: &PartitionPlan, board: &Board) -> Option<DirectController> {
    if plan.delivery == Delivery::Virtual {
        return None;
    }
    let owned: alloc::vec::Vec<_> = plan.owned_interrupts().collect();
    let timers = 1 << board.timer.physical.intid.get() | 1 << board.timer.virtual_.intid.get();
    let spare = plan.spare_interrupt().map(|spare| spare.intid);
    let policy = Direct::new(plan.vcpus.len(), irqchip::spi_words(), timers, &owned, spare);
    Some(DirectController { policy, one_at_a_time: spin::Mutex::new(()), line_was_high: AtomicBool::new(false) })
}

/// A vCPU begins on this CPU: the interface is its guest's from now on.
pub fn begin() {
    interface::give();
    write_sysreg!("hcr_el2", read_sysreg!("hcr_el2") & !IMO);
    isb();
}

/// A vCPU ends on this CPU.
pub fn end() {
    write_sysreg!("hcr_el2", read_sysreg!("hcr_el2") | IMO);
    interface::take_back();
    irqchip::reset_virtual_interface();
}

/// Waits for an interrupt of the guest or the hypervisor. What would be taken to EL1 wakes EL2 only while it is routed
/// here.
pub fn wait() {
    write_sysreg!("hcr_el2", read_sysreg!("hcr_el2") | IMO);
    isb();
    wfi();
    write_sysreg!("hcr_el2", read_sysreg!("hcr_el2") & !IMO);
    isb();
}

/// Returns a partition's interrupts to the state after a reset. None of its vCPUs runs.
pub fn clean(this_cpu: &PerCpu, partition: &Partition, controller: &DirectController) {
    controller.line_was_high.store(false, Ordering::SeqCst);
    controller.policy.reset(|effect| carry_out(this_cpu, partition, effect));
}

/// Makes the console's spare SPI follow its line: pending at each look while it is high, and no more when it has fallen.
/// Between two looks the pending state is the guest's to change. Where two CPUs look at once, the one whose level does
/// not hold looks again (`Pl011::settle`), so that nothing is lost; at worst one interrupt too many comes.
pub fn follow(port: &Port, controller: &DirectController, spare: Intid, line: Line) {
    let (word, mask) = (spare.index() / 32, 1 << (spare.get() % 32));
    let none = HwBits { word, ..HwBits::default() };
    let was_high = controller.line_was_high.swap(line == Line::High, Ordering::SeqCst);
    match line {
        Line::High => irqchip::change(port, &HwBits { set_pending: mask, ..none }),
        Line::Low if was_high => irqchip::change(port, &HwBits { clear_pending: mask, ..none }),
        Line::Low => {}
    }
}

/// Lets the guest's distributor and redistributors answer an access; `None` where neither is.
pub fn access(
    this_cpu: &PerCpu,
    role: &Role,
    controller: &DirectController,
    ipa: Ipa,
    width: Width,
    value: Option<u64>,
) -> Option<u64> {
    let partition = role.partition;
    let GuestGic::V3 { distributor, redistributors } = partition.plan.gic else { return None };
    let policy = &controller.policy;
    let shared = distributor.contains(ipa);
    if !shared && !redistributors.contains(ipa) {
        return None;
    }
    let start = if shared { distributor.start() } else { redistributors.start() };
    let offset = ipa.offset_from(start)?;
    let Some(value) = value else {
        let reading = match shared {
            true => policy.read_distributor(offset, width),
            false => policy.read_redistributor(offset, width),
        };
        return Some(read(this_cpu, partition, reading));
    };
    // Only vCPUs of this partition take this lock, for the few stores of one register access.
    let _one_at_a_time = controller.one_at_a_time.lock();
    let sink = |effect| carry_out(this_cpu, partition, effect);
    match shared {
        true => policy.write_distributor(offset, width, value, sink),
        false => policy.write_redistributor(offset, width, value, sink),
    }
    Some(0)
}

/// Returns how the registers of a frame are reached.
fn port<'a>(this_cpu: &'a PerCpu, partition: &Partition, frame: Frame) -> Option<&'a Port> {
    match frame {
        Frame::Distributor => this_cpu.port(),
        Frame::Redistributor(vcpu) => partition.cpu(vcpu)?.port(),
    }
}

fn read(this_cpu: &PerCpu, partition: &Partition, reading: Reading) -> u64 {
    let of = |frame| port(this_cpu, partition, frame);
    match reading {
        Reading::Value(value) => value,
        Reading::Bits { frame, operation, word, mask } => {
            let bits = of(frame).map_or(0, |port| match operation {
                Operation::SetActive | Operation::ClearActive => irqchip::active(port, word),
                Operation::Review
                | Operation::SetEnable
                | Operation::ClearEnable
                | Operation::SetPending
                | Operation::ClearPending => irqchip::pending(port, word),
            });
            u64::from(bits & mask)
        }
        Reading::Priorities { frame, first, lane, mask } => {
            of(frame).map_or(0, |port| Reading::priorities(interface::priorities(port, first), lane, mask))
        }
        Reading::Config { first, mask } => {
            this_cpu.port().map_or(0, |port| u64::from(interface::config(port, first) & mask))
        }
    }
}

fn carry_out(this_cpu: &PerCpu, partition: &Partition, effect: Effect) {
    let of = |frame| port(this_cpu, partition, frame);
    match effect {
        Effect::Bits { frame, operation, word, mask } => {
            let none = HwBits { word, ..HwBits::default() };
            let bits = match operation {
                Operation::Review => none,
                Operation::SetEnable => HwBits { enable: mask, ..none },
                Operation::ClearEnable => HwBits { disable: mask, ..none },
                Operation::SetPending => HwBits { set_pending: mask, ..none },
                Operation::ClearPending => HwBits { clear_pending: mask, ..none },
                Operation::SetActive => HwBits { activate: mask, ..none },
                Operation::ClearActive => HwBits { deactivate: mask, ..none },
            };
            if let Some(port) = of(frame) {
                irqchip::change(port, &bits);
            }
        }
        Effect::Priority { frame, intid, priority } => {
            if let Some(port) = of(frame) {
                interface::set_priority(port, intid, priority);
            }
        }
        Effect::Config { word, mask, edge } => {
            if let Some(port) = this_cpu.port() {
                irqchip::configure(port, word, mask, edge);
            }
        }
        Effect::Route { intid, vcpu } => {
            if let Some(target) = partition.cpu(vcpu).and_then(PerCpu::port) {
                irqchip::route(intid, target);
            }
        }
    }
}

/// Carries out a trapped access to the CPU interface, and returns what a read gives. `None` where the register is not one
/// of those that trap for direct delivery.
pub fn system_register(
    role: &Role,
    controller: &DirectController,
    name: SystemRegister,
    direction: Direction,
    value: u64,
) -> Option<u64> {
    let is_read = direction == Direction::Read;
    let send = |register| {
        if let Some(sgi) = controller.policy.sgi(role.vcpu, register, value) {
            let cpus = sgi.targets.iter().filter_map(|vcpu| role.partition.cpu(vcpu));
            cpus.for_each(|cpu| interface::send(sgi.intid, cpu.mpidr));
            isb();
        }
    };
    match name {
        ICC_PMR_EL1 if is_read => return Some(u64::from(direct::seen_priority(interface::mask() as u8))),
        ICC_PMR_EL1 => interface::set_mask(u64::from(direct::physical_priority(value as u8))),
        ICC_RPR_EL1 if is_read => return Some(direct::seen_running_priority(interface::running_priority())),
        ICC_CTLR_EL1 if is_read => return Some(direct::seen_control(interface::control())),
        ICC_CTLR_EL1 => interface::set_control(direct::physical_control(interface::control(), value)),
        ICC_DIR_EL1 if !is_read => {
            let intid = Intid::new((value & 0xff_ffff) as u32);
            // Where the end of an interrupt deactivates it too, a write to ICC_DIR_EL1 is not to be made.
            if controller.policy.owns(intid) && direct::splits_eoi(interface::control()) {
                interface::deactivate(intid);
            }
        }
        ICC_SGI1R_EL1 if !is_read => send(SgiRegister::Sgi1),
        ICC_ASGI1R_EL1 if !is_read => send(SgiRegister::Asgi1),
        ICC_SGI0R_EL1 if !is_read => send(SgiRegister::Sgi0),
        _ => return None,
    }
    Some(0)
}
