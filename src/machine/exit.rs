// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens at an exit. Each handler decides and returns an [`Action`]; [`act`] alone carries it out.

use super::percpu::{Local, Mail, PerCpu, Role};
use super::{Machine, direct, housekeeping, interrupts, lifecycle, panic, quick, registers, setway};
use crate::arch::vectors::Frame;
use crate::arch::{timer, vcpu};
use crate::exit::{Action, Direction, ExitReason, Injection, StopReason};
use crate::fault::{self, Admission, FaultVerdict, GuestState, Record, RecordKind};
use crate::idregs::{self, SgiGroup, Verdict};
use crate::irqchip;
use crate::mmio::{self, AbortKind, Access, ExceptionClass, SystemRegister, Transfer};
use crate::partition::{CpuOnError, Entry, Next, Power, State};
use crate::psci::{self, AffinityState, Call, ReturnCode};
use crate::vgic::SgiRegister;
use crate::{read_sysreg, write_sysreg};

const ICC_DIR_EL1: SystemRegister = SystemRegister::new(3, 0, 12, 11, 1);

/// HVC from AArch64 that depends on the partition's state.
#[inline(never)]
pub fn hypercall(frame: &mut Frame) {
    with_context(PerCpu::current(), |context| {
        let action = call(context, frame, ExitReason::Hypercall);
        act(context, action);
    });
}

/// Any other synchronous exception from a guest. Of x19 to x29 only those that the instruction moves are in the frame.
#[inline(never)]
pub extern "C" fn synchronous(frame: &mut Frame, esr: u64) {
    let this_cpu = PerCpu::current();
    // A guest that is being stopped may have lost its memory: what it tried is of no interest.
    leave_if_stopping(this_cpu);
    with_context(this_cpu, |context| {
        let action = dispatch(context, frame, esr);
        act(context, action);
    });
}

/// A physical interrupt while a guest runs, acknowledged, that the vectors have not put into a list register.
pub extern "C" fn interrupt(acknowledged: u32) {
    let this_cpu = PerCpu::current();
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { this_cpu.local() };
    interrupts::serve(this_cpu, local, irqchip::Acknowledged::new(acknowledged));
    leave_if_stopping(this_cpu);
}

/// An interrupt of the hypervisor's own group while a guest runs: an FIQ.
pub extern "C" fn own_interrupt() {
    let this_cpu = PerCpu::current();
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { this_cpu.local() };
    interrupts::serve(this_cpu, local, irqchip::acknowledge_own());
    leave_if_stopping(this_cpu);
}

/// An SError while a guest runs. The CPU is dedicated, so that it is this partition's.
pub extern "C" fn serror(_frame: &mut Frame, esr: u64) {
    with_context(PerCpu::current(), |context| {
        context.cpu.counters.count(ExitReason::SError);
        record(context, RecordKind::SError, esr, 0);
        act(context, Action::Inject(Injection::SError));
    });
}

/// EL2's own fault: a defect of the hypervisor.
pub extern "C" fn own_fault(esr: u64, elr: u64, far: u64, kind: u64) -> ! {
    panic::own_fault(esr, elr, far, kind)
}

/// What a handler works with.
struct Context {
    machine: &'static Machine,
    cpu: &'static PerCpu,
    role: &'static Role,
    local: &'static mut Local,
}

/// Runs a handler with this CPU's context. A guest runs only on a CPU that has a role in a published machine.
fn with_context(cpu: &'static PerCpu, handler: impl FnOnce(&mut Context)) {
    let (Some(machine), Some(role)) = (super::get(), cpu.role()) else { return };
    // SAFETY: an exit handler of this CPU, the only one alive.
    let local = unsafe { cpu.local() };
    handler(&mut Context { machine, cpu, role, local });
}

fn dispatch(context: &mut Context, frame: &mut Frame, esr: u64) -> Action {
    let counters = &context.cpu.counters;
    match ExceptionClass::of(esr) {
        ExceptionClass::DataAbort => any_data_abort(context, frame, esr),
        ExceptionClass::SystemRegister => trapped_register(context, frame, esr),
        ExceptionClass::Smc64 => match call(context, frame, ExitReason::Smc) {
            // A trapped SMC is at the instruction itself (HCR_EL2.TSC).
            Action::Resume => Action::Advance,
            other => other,
        },
        ExceptionClass::Wfx => {
            counters.count(ExitReason::Wfx);
            Action::Advance
        }
        ExceptionClass::InstructionAbort => instruction_abort(context, esr),
        ExceptionClass::SError => {
            counters.count(ExitReason::SError);
            Action::Inject(Injection::SError)
        }
        _ => {
            counters.count(ExitReason::Other);
            record(context, RecordKind::UnknownException, esr, read_sysreg!("far_el2"));
            Action::Inject(Injection::Undefined)
        }
    }
}

/// PSCI and SMCCC calls.
fn call(context: &mut Context, frame: &mut Frame, reason: ExitReason) -> Action {
    let decoded = psci::decode(frame.get(0), frame.get(1), frame.get(2), frame.get(3));
    let known = if decoded == Call::Unknown { ExitReason::UnknownCall } else { reason };
    context.cpu.counters.count(known);
    let life = &context.role.partition.life;
    let answer = match decoded {
        Call::Answer(value) => value,
        Call::Unknown => ReturnCode::NotSupported.to_register(),
        Call::CpuOn { target, entry, context: argument } => {
            cpu_on(context, target, Entry { pc: entry, context: argument }).to_register()
        }
        Call::AffinityInfo { target, level } => affinity_info(context, target, level),
        Call::Suspend => {
            interrupts::wait(context.role);
            ReturnCode::Success.to_register()
        }
        Call::CpuOff => {
            lifecycle::leave(context.cpu, context.role, context.local);
            life.cpu_off(context.role.vcpu);
            leave(context.cpu);
        }
        Call::SystemOff => return Action::Stop(StopReason::SystemOff),
        Call::SystemReset => return Action::Restart(StopReason::SystemReset),
    };
    frame.set(0, answer);
    Action::Resume
}

fn cpu_on(context: &Context, target: crate::id::Mpidr, entry: Entry) -> ReturnCode {
    let partition = context.role.partition;
    let in_ram = |memory: &crate::plan::MemoryPlan| memory.ipa_range().is_some_and(|range| range.contains(entry.pc));
    let Some(vcpu) = target.to_vcpu() else { return ReturnCode::InvalidParameters };
    let Some(planned) = partition.plan.vcpus.get(vcpu.index()) else { return ReturnCode::InvalidParameters };
    if !partition.plan.memory.iter().any(in_ram) {
        return ReturnCode::InvalidAddress;
    }
    match partition.life.cpu_on(vcpu, entry) {
        Ok(()) => {
            if let Some(cpu) = context.machine.cpu(planned.cpu) {
                cpu.post(Mail::Lifecycle);
            }
            ReturnCode::Success
        }
        Err(CpuOnError::NoSuchVcpu) => ReturnCode::InvalidParameters,
        Err(CpuOnError::AlreadyOn) => ReturnCode::AlreadyOn,
        Err(CpuOnError::OnPending) => ReturnCode::OnPending,
        Err(CpuOnError::NotRunning) => ReturnCode::Denied,
    }
}

/// AFFINITY_INFO: of the vCPUs that agree with `target` from `level` upwards, on if one is on.
fn affinity_info(context: &Context, target: crate::id::Mpidr, level: u8) -> u64 {
    let partition = context.role.partition;
    let mask = psci::affinity_mask(level);
    let mut found = None;
    for vcpu in &partition.plan.vcpus {
        if (crate::id::Mpidr::of_vcpu(vcpu.id).get() ^ target.get()) & mask != 0 {
            continue;
        }
        let state = match partition.life.power(vcpu.id) {
            Some(Power::On) => return AffinityState::On.to_register(),
            Some(Power::OnPending) => AffinityState::OnPending,
            _ => AffinityState::Off,
        };
        if found != Some(AffinityState::OnPending) {
            found = Some(state);
        }
    }
    found.map_or(ReturnCode::InvalidParameters.to_register(), AffinityState::to_register)
}

fn any_data_abort(context: &mut Context, frame: &mut Frame, esr: u64) -> Action {
    let (far, hpfar) = (read_sysreg!("far_el2"), read_sysreg!("hpfar_el2"));
    match mmio::decode(esr, far, hpfar) {
        Ok(access) => {
            let Context { cpu, role, local, .. } = context;
            if emulate(cpu, role, local, frame, access) {
                context.cpu.counters.count(ExitReason::Mmio);
                return Action::Advance;
            }
            context.cpu.counters.count(ExitReason::DataAbort);
            let kind = if access.direction() == Direction::Read { RecordKind::Read } else { RecordKind::Write };
            record(context, kind, esr, access.ipa.get());
            fault::refuse(&access, esr, far)
        }
        Err(kind) => {
            context.cpu.counters.count(ExitReason::DataAbort);
            abort(context, kind, esr, far)
        }
    }
}

fn instruction_abort(context: &mut Context, esr: u64) -> Action {
    context.cpu.counters.count(ExitReason::InstructionAbort);
    let (far, hpfar) = (read_sysreg!("far_el2"), read_sysreg!("hpfar_el2"));
    abort(context, mmio::decode_fetch(esr, far, hpfar), esr, far)
}

/// An abort that no device can answer.
fn abort(context: &mut Context, kind: AbortKind, esr: u64, far: u64) -> Action {
    let (name, address) = match kind {
        AbortKind::NoSyndrome { ipa } if mmio::abort_direction(esr) == Direction::Read => (RecordKind::Read, ipa.get()),
        AbortKind::NoSyndrome { ipa } => (RecordKind::Write, ipa.get()),
        AbortKind::CacheMaintenance { ipa } => (RecordKind::Write, ipa.get()),
        AbortKind::Fetch { ipa } => (RecordKind::Fetch, ipa.get()),
        AbortKind::TableWalk { ipa } => (RecordKind::TableWalk, ipa.get()),
        AbortKind::Permission => (RecordKind::Permission, far),
        AbortKind::External => (RecordKind::ExternalAbort, far),
        AbortKind::Alignment | AbortKind::Atomic | AbortKind::Other { .. } => (RecordKind::Abort, far),
    };
    let state = guest_state(context);
    let action = fault::answer(kind, esr, far, &state);
    if action != Action::Advance {
        record(context, name, esr, address);
    }
    action
}

fn guest_state(context: &Context) -> GuestState {
    GuestState {
        pc: read_sysreg!("elr_el2"),
        spsr: read_sysreg!("spsr_el2"),
        vbar: read_sysreg!("vbar_el1"),
        sctlr: read_sysreg!("sctlr_el1"),
        implemented: context.machine.features.pstate,
    }
}

/// Lets an emulated device answer an access. `false` where none is.
fn emulate(cpu: &'static PerCpu, role: &Role, local: &mut Local, frame: &mut Frame, access: Access) -> bool {
    let value = match access.transfer {
        Transfer::Read { .. } => None,
        Transfer::Write { register } => Some(access.stored(frame.get(register.get()))),
    };
    let Some(answer) = interrupts::access(cpu, role, local, access.ipa, access.width, value) else {
        return false;
    };
    if let Transfer::Read { register, .. } = access.transfer {
        frame.set(register.get(), access.loaded(answer));
    }
    true
}

fn trapped_register(context: &mut Context, frame: &mut Frame, esr: u64) -> Action {
    let access = mmio::decode_system_access(esr);
    let written = frame.get(access.register.get());
    let is_read = access.direction == Direction::Read;
    let Context { machine, cpu, role, local } = context;
    if let Some(controller) = &role.partition.direct
        && let Some(answer) = direct::system_register(role, controller, access.name, access.direction, written)
    {
        cpu.counters.count(ExitReason::SysReg);
        if is_read {
            frame.set(access.register.get(), answer);
        }
        return Action::Advance;
    }
    if access.name == ICC_DIR_EL1 && !is_read {
        cpu.counters.count(ExitReason::SysReg);
        interrupts::deactivate(cpu, role, local, written);
        return Action::Advance;
    }
    if idregs::is_id_register(access.name) && is_read {
        cpu.counters.count(ExitReason::SysReg);
        let real = registers::id_register(access.name.crm() as u8, access.name.op2() as u8);
        let profile = interrupts::profile(machine, role.partition);
        frame.set(access.register.get(), idregs::read(access.name, real, &profile));
        return Action::Advance;
    }
    let verdict = idregs::trapped_register(access.name, access.direction);
    cpu.counters.count(match verdict {
        Verdict::Sgi(_) => ExitReason::Sgi,
        _ => ExitReason::SysReg,
    });
    let value = match verdict {
        Verdict::Value(value) => value,
        Verdict::Ignore => 0,
        Verdict::Sgi(group) => {
            let register = match group {
                SgiGroup::Group0 => SgiRegister::Sgi0,
                SgiGroup::Group1 => SgiRegister::Sgi1,
                SgiGroup::OtherGroup1 => SgiRegister::Asgi1,
            };
            interrupts::sgi(cpu, role, local, register, written);
            0
        }
        Verdict::Maintain => return setway::step(role.partition, local),
        Verdict::Undefined => {
            record(context, RecordKind::SystemRegister, esr, esr & 0x1ff_ffff);
            return Action::Inject(Injection::Undefined);
        }
    };
    if is_read {
        frame.set(access.register.get(), value);
    }
    Action::Advance
}

/// Carries out what an exit ended in.
fn act(context: &mut Context, action: Action) {
    match action {
        Action::Resume => {}
        Action::Advance => quick::advance(read_sysreg!("esr_el2")),
        Action::Inject(injection) => inject(context, injection),
        Action::Stop(StopReason::SystemOff) => end(context, Next::Off, StopReason::SystemOff),
        // The guest cannot go on: its partition's on-fault decides.
        Action::Stop(reason) => {
            let verdict = context.role.partition.faults.lock().fault(timer::now());
            let next = if verdict == FaultVerdict::Restart { Next::Restart } else { Next::Off };
            end(context, next, reason);
        }
        Action::Restart(reason) => end(context, Next::Restart, reason),
    }
    leave_if_stopping(context.cpu);
}

fn end(context: &mut Context, next: Next, reason: StopReason) {
    let stopped = lifecycle::stop(context.machine, context.role.partition, next, reason);
    // Another stop won: this vCPU leaves by that one.
    if stopped || matches!(context.role.partition.life.state(), State::Stopping(_)) {
        leave(context.cpu);
    }
}

/// Lets the guest take an exception at EL1 as the architecture says.
fn inject(context: &mut Context, injection: Injection) {
    let Some(entry) = fault::inject::enter(injection, &guest_state(context)) else {
        const VSE: u64 = 1 << 8;
        return write_sysreg!("hcr_el2", read_sysreg!("hcr_el2") | VSE);
    };
    write_sysreg!("elr_el1", entry.elr_el1);
    write_sysreg!("spsr_el1", entry.spsr_el1);
    write_sysreg!("esr_el1", entry.esr_el1);
    if let Some(far) = entry.far_el1 {
        write_sysreg!("far_el1", far);
    }
    write_sysreg!("elr_el2", entry.pc);
    write_sysreg!("spsr_el2", entry.pstate);
}

/// Leaves a record for the housekeeping CPU, unless this CPU leaves too many.
fn record(context: &mut Context, kind: RecordKind, esr: u64, address: u64) {
    let time = timer::now();
    let Admission::Admit { suppressed } = context.local.records.admit(time) else { return };
    context.cpu.records.push(&Record {
        partition: context.role.partition.plan.id,
        vcpu: context.role.vcpu,
        kind,
        pc: read_sysreg!("elr_el2"),
        address,
        syndrome: esr as u32,
        time,
        suppressed,
    });
    housekeeping::notify();
}

/// Leaves the guest if its partition is being stopped.
fn leave_if_stopping(this_cpu: &'static PerCpu) {
    let stopping = this_cpu.role().is_some_and(|role| matches!(role.partition.life.state(), State::Stopping(_)));
    if stopping {
        leave(this_cpu);
    }
}

/// Drops the exit that is being handled and idles. No lock is held in an exit handler at its end.
fn leave(this_cpu: &'static PerCpu) -> ! {
    // SAFETY: this CPU's own stack; the handler ends here.
    unsafe { vcpu::leave(this_cpu.stack_top()) }
}
