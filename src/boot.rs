// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the first instruction to running guests: a straight list of steps, each resting on those above it. What goes
//! wrong is said on the console that can be found, and nothing is started.

mod carve;
mod console;
mod cpus;
mod salvage;
mod seeded;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ::log::{error, info, warn};

use crate::addr::{PAGE_SIZE, Pa, PaRange, Va};
use crate::arch::entry::{self, FOOTPRINT};
use crate::arch::mmu::{AddressSpace, Use};
use crate::arch::sysreg::wfi;
use crate::arch::{cache, cpu, mmu, probe, timer, vectors};
use crate::config::bundle;
use crate::devicetree::DeviceTree;
use crate::irqchip;
use crate::machine::percpu::PerCpu;
use crate::machine::stages::{self, Stage};
use crate::machine::{self, idle, log};
use crate::memory;
use crate::plan::{self, Board, Placement};
use crate::vgic::Model;

/// A reason not to boot, as a sentence.
type Refusal = String;

/// The first Rust code, on the boot CPU, with the MMU off. `tree` is what the loader passed in x0, `base` where the
/// image was loaded, `ticks` the count of the system counter at the first instruction.
pub extern "C" fn boot(tree: u64, base: u64, ticks: u64) -> ! {
    stages::note(Stage::Entry, ticks);
    if cpu::exception_level() != 2 {
        wrong_level(tree, base);
    }
    vectors::install(Model::V3);
    match start(tree, base) {
        Ok(this_cpu) => idle::enter(this_cpu),
        Err(why) => refuse(&why),
    }
}

/// Carries out the steps of boot; returns when all CPUs that are needed wait for work.
///
/// The steps with large frames stay functions of their own: inlined into one, their frames would add up to more than the
/// boot stack.
#[inline(never)]
fn start(tree: u64, base: u64) -> Result<&'static PerCpu, Refusal> {
    let own = PaRange::new(Pa::new(base), FOOTPRINT).ok_or("the load address is not possible")?;
    log::init();
    if !cpu::can_clear_e2h() {
        give_heap(own);
        salvage::any_console(tree, base);
        return Err("this CPU forces HCR_EL2.E2H to 1, which Septum does not drive".to_string());
    }
    if !own.start().is_aligned(crate::addr::BLOCK_SIZE) {
        give_heap(own);
        salvage::any_console(tree, base);
        return Err(format_args!("loaded at {}, which is not 2 MiB-aligned", own.start()).to_string());
    }
    let mut space = AddressSpace::new();
    if let Err(e) = map_self(&mut space, own) {
        give_heap(own);
        return Err(describe(&e));
    }
    give_heap(own);
    stages::reach(Stage::Mapped);
    let tree = match read_tree(&mut space, tree) {
        Ok(tree) => tree,
        Err(why) => {
            // SAFETY: nothing of what was mapped is needed any more but image, stack and heap, which stay where they are.
            unsafe { mmu::disable(own) };
            salvage::any_console(tree, base);
            return Err(why);
        }
    };
    stages::reach(Stage::Tree);
    console::find(&mut space, &tree, None);
    if timer::frequency() <= 1 {
        return Err("CNTFRQ_EL0 is 0: the board's firmware has to say how fast the system counter is".to_string());
    }
    info!("Septum {}, at {} on {}", env!("CARGO_PKG_VERSION"), own.start(), cpu::affinity());

    let bundle_range = find_bundle(&tree)?;
    space.map(bundle_range, Use::ReadOnly).map_err(|e| describe(&e))?;
    if !answers(bundle_range) {
        return Err(format_args!("the bundle (initrd at {bundle_range}): no memory answers there").to_string());
    }
    // SAFETY: the range is the loader's initrd, mapped read-only just now; nobody writes it.
    let bytes = unsafe { machine::bytes(bundle_range) };
    let bundle =
        bundle::parse(bytes).map_err(|e| format_args!("the bundle (initrd at {bundle_range}): {e}").to_string())?;
    let files_end = Pa::new(bundle_range.start().get().saturating_add(bundle.files_end()));
    let manifest = bundle.manifest;
    log::set_level(manifest.hypervisor.log);
    if let Some(wanted) = manifest.hypervisor.uart.as_deref() {
        console::find(&mut space, &tree, Some(wanted));
    }

    let mut board = Board::read(&tree, manifest.hypervisor.uart.as_deref()).map_err(|e| e.to_string())?;
    carve::map_gic(&mut space, &board)?;
    board.gic.facts = irqchip::facts(&board.gic);
    info!("board: {}; configuration for {}", board.model, manifest.platform);
    stages::reach(Stage::Board);
    let placement = Placement { hypervisor: own, bundle: bundle_range, files_end };
    let outcome = plan::build(&manifest, &board, &tree, &placement);
    stages::reach(Stage::Planned);
    for line in outcome.all_errors() {
        error!("{line}");
    }
    if !outcome.errors.is_empty() {
        return Err("the configuration cannot run on this board; nothing is started".to_string());
    }
    for refused in &outcome.refused {
        error!("partition {} is not started", refused.name);
    }
    if let Err(violations) = plan::check(&outcome.plan, &board, &placement) {
        for violation in &violations {
            error!("plan check: {violation}");
        }
        return Err("the plan failed its check; nothing is started".to_string());
    }
    for line in plan::report(&outcome.plan, &board).to_string().lines() {
        info!("{line}");
    }

    give_away(&mut space, bundle_range, &outcome.plan).map_err(|e| describe(&e))?;
    stages::reach(Stage::Checked);
    carve::carve(carve::Parts { space, board, manifest, plan: outcome.plan, bundle: bundle_range })
}

/// Takes what partitions use in place of the bundle out of this address space: EL2 must not fetch into caches what a guest
/// writes with its own off.
fn give_away(space: &mut AddressSpace, bundle: PaRange, plan: &plan::Plan) -> Result<(), mmu::MapError> {
    let pieces =
        plan.partitions.iter().flat_map(|partition| partition.memory.iter().filter_map(|piece| piece.pa_range()));
    let mut given: Vec<PaRange> = pieces.filter(|piece| bundle.overlaps(piece)).collect();
    if given.is_empty() {
        return Ok(());
    }
    crate::order::sort(&mut given);
    space.unmap(bundle);
    let mut at = bundle.start();
    for piece in given {
        if let Some(kept) = PaRange::between(at, piece.start()) {
            space.map(kept, Use::ReadOnly)?;
        }
        at = piece.end();
    }
    PaRange::between(at, bundle.end()).map_or(Ok(()), |kept| space.map(kept, Use::ReadOnly))
}

/// Where a secondary CPU arrives in Rust, with its MMU on.
pub extern "C" fn secondary(this_cpu: &'static PerCpu) -> ! {
    vectors::install(irqchip::model().unwrap_or(Model::V3));
    if let Some(machine) = machine::get() {
        cpus::arrive(this_cpu, machine.timer);
    }
    if this_cpu.failure().is_some() {
        // The interrupt controller that the idle loop asks is not to be touched here.
        stop();
    }
    idle::enter(this_cpu)
}

/// Hands the heap its memory: what of `own` lies behind the image.
fn give_heap(own: PaRange) {
    unsafe extern "C" {
        static __image_end: [u8; 0];
    }
    let end = (&raw const __image_end) as u64;
    if let Some(rest) = PaRange::between(Pa::new(end), own.end()) {
        if !mmu::is_on() {
            // What the loader left in caches must not come out over the heap.
            cache::clean_invalidate(Va::new(rest.start().get()), rest.size());
        }
        // SAFETY: the header asks the loader to keep these bytes behind the image free.
        unsafe { memory::init(rest) };
    }
}

/// Maps the hypervisor's image and heap, each part with its permissions, and turns the MMU on.
fn map_self(space: &mut AddressSpace, own: PaRange) -> Result<(), mmu::MapError> {
    unsafe extern "C" {
        static __text_end: [u8; 0];
        static __rodata_end: [u8; 0];
    }
    let text_end = Pa::new((&raw const __text_end) as u64);
    let rodata_end = Pa::new((&raw const __rodata_end) as u64);
    let parts = [
        (PaRange::between(own.start(), text_end), Use::Text),
        (PaRange::between(text_end, rodata_end), Use::ReadOnly),
        (PaRange::between(rodata_end, own.end()), Use::Data),
    ];
    for (range, used_for) in parts {
        if let Some(range) = range {
            space.map(range, used_for)?;
        }
    }
    let translation = space.translation();
    // SAFETY: the image, its data, this stack and the heap are mapped at their physical addresses.
    unsafe { mmu::enable(translation) };
    for guard in entry::boot_stacks().guards {
        space.unmap_page(guard);
    }
    Ok(())
}

/// Reads the loader's device tree into the heap.
#[inline(never)]
fn read_tree(space: &mut AddressSpace, address: u64) -> Result<DeviceTree, Refusal> {
    const HEADER: u64 = 40;
    let header = PaRange::new(Pa::new(address), HEADER).filter(|_| address != 0);
    let header = header.ok_or("the boot loader passed no device tree (x0 is 0)")?;
    if address & 7 != 0 || address < PAGE_SIZE {
        return Err(format_args!("x0 is {address:#x}, which is no device tree; ATAGs are not supported").to_string());
    }
    space.map(header, Use::ReadOnly).map_err(|e| describe(&e))?;
    if !answers(header) {
        return Err(format_args!("x0 is {address:#x}, which is no device tree: no memory answers there").to_string());
    }
    // SAFETY: mapped read-only just now; nobody writes it.
    let extent = DeviceTree::extent(unsafe { machine::bytes(header) });
    let extent = extent.map_err(|e| format_args!("the device tree at {address:#x}: {e}").to_string())?;
    let whole = PaRange::new(Pa::new(address), extent.max(HEADER)).ok_or("the device tree passes the end of memory")?;
    space.map(whole, Use::ReadOnly).map_err(|e| describe(&e))?;
    if !answers(whole) {
        return Err(format_args!("the device tree at {address:#x} passes the end of memory").to_string());
    }
    // SAFETY: as above.
    let parsed = DeviceTree::parse(unsafe { machine::bytes(whole) });
    // The heap has a copy. Where the loader's was may become a guest's RAM, which EL2 must not fetch into caches while
    // that guest has its own off.
    space.unmap(whole);
    parsed.map_err(|e| format_args!("the device tree at {address:#x}: {e}").to_string())
}

/// Tells whether memory answers at both ends of a mapped range; what a loader says may be wrong.
fn answers(range: PaRange) -> bool {
    let last = Pa::new(range.end().get() - 1);
    [range.start(), last].into_iter().all(|at| probe::read(at.align_down(4)).is_some())
}

fn find_bundle(tree: &DeviceTree) -> Result<PaRange, Refusal> {
    tree.initrd().ok_or_else(|| {
        "no bundle: the boot loader passed no initrd (/chosen has no linux,initrd-start); `septum build` makes it"
            .to_string()
    })
}

fn describe(error: &mmu::MapError) -> Refusal {
    match error {
        mmu::MapError::OutOfTables => "no memory is left for the hypervisor's own tables".to_string(),
        mmu::MapError::Conflict(pa) => format_args!("address {pa} cannot be mapped for the hypervisor").to_string(),
    }
}

/// Entered at EL1 or EL3: says so where the tree names a console, with the MMU off, and stops.
fn wrong_level(tree: u64, base: u64) -> ! {
    if let Some(own) = PaRange::new(Pa::new(base), FOOTPRINT) {
        give_heap(own);
    }
    log::init();
    salvage::console_without_mmu(tree);
    let level = cpu::exception_level();
    let hint = match level {
        1 => "let the boot loader start it at EL2 (QEMU virt: -M virt,virtualization=on)",
        _ => "it needs firmware that drops to EL2, or the flat image instead of an ELF file",
    };
    error!("Septum was entered at EL{level} and runs at EL2 only: {hint}");
    stop()
}

fn refuse(why: &dyn fmt::Display) -> ! {
    error!("{why}");
    error!("Septum stops here.");
    stop()
}

fn stop() -> ! {
    loop {
        wfi();
    }
}

/// Leaks a value: what boot builds lives as long as the machine.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Tells which CPUs a plan needs: each vCPU's and the housekeeping one.
fn needed_cpus(plan: &plan::Plan) -> Vec<crate::id::CpuId> {
    let mut cpus: Vec<_> = plan.partitions.iter().flat_map(|p| p.vcpus.iter().map(|v| v.cpu)).collect();
    cpus.push(plan.housekeeping);
    crate::order::sort(&mut cpus);
    cpus.dedup();
    if cpus.is_empty() {
        warn!("no CPU is needed");
    }
    cpus
}
