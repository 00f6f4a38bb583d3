// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical memory of the hypervisor: what is left of its 2 MiB behind the image is one heap, from which stacks, tables
//! and everything that boot builds are taken. After boot nothing is allocated any more.

use alloc::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use spin::Mutex;

use crate::addr::{PAGE_SIZE, Pa, PaRange, Va};
use crate::arch::mmu;
use crate::stage2::Tables;

/// The heap, and a way to it while the MMU is off.
struct Memory {
    /// Serialises CPUs once the MMU is on.
    lock: Mutex<()>,
    heap: UnsafeCell<Heap<22>>,
}

// SAFETY: `with` gives access to one CPU at a time.
unsafe impl Sync for Memory {}

#[global_allocator]
static MEMORY: Memory = Memory { lock: Mutex::new(()), heap: UnsafeCell::new(Heap::empty()) };

impl Memory {
    fn with<R>(&self, f: impl FnOnce(&mut Heap<22>) -> R) -> R {
        // With the MMU off there is one CPU only, and exclusives need not work on real hardware.
        let _guard = mmu::is_on().then(|| self.lock.lock());
        // SAFETY: the lock is held, or only the boot CPU runs.
        f(unsafe { &mut *self.heap.get() })
    }
}

// SAFETY: the heap hands out disjoint blocks of the range it was given, of the layout asked for.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.with(|heap| heap.alloc(layout)).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller of `dealloc` guarantees that `block` came from `alloc` with this layout.
            self.with(|heap| unsafe { heap.dealloc(block, layout) });
        }
    }
}

/// Hands the heap its memory.
///
/// # Safety
///
/// Called once, before the first allocation; the range is RAM that nothing else uses.
pub unsafe fn init(range: PaRange) {
    let (start, end) = (range.start().get() as usize, range.end().get() as usize);
    // SAFETY: the caller gives the range up to the heap.
    MEMORY.with(|heap| unsafe { heap.add_to_heap(start, end) });
}

/// Returns bytes in use and bytes in all.
pub fn usage() -> (u64, u64) {
    MEMORY.with(|heap| (heap.stats_alloc_actual() as u64, heap.stats_total_bytes() as u64))
}

/// Takes `count` zeroed pages, aligned to `align` pages, for good.
pub fn pages(count: u64, align: u64) -> Option<Pa> {
    let layout = Layout::from_size_align((count * PAGE_SIZE) as usize, (align * PAGE_SIZE) as usize).ok()?;
    // SAFETY: the layout is not of size 0.
    let block = unsafe { alloc::alloc::alloc_zeroed(layout) };
    // The heap is mapped at its physical address.
    NonNull::new(block).map(|block| Pa::new(block.as_ptr() as u64))
}

/// Stage-2 tables out of the heap.
pub struct HeapTables;

impl HeapTables {
    fn entry(table: Pa, index: usize) -> *mut u64 {
        // The heap is mapped at its physical address; an index is below 512.
        (table.get() + (index as u64 % 512) * 8) as *mut u64
    }
}

impl Tables for HeapTables {
    fn allocate(&mut self) -> Option<Pa> {
        pages(1, 1)
    }

    fn get(&self, table: Pa, index: usize) -> u64 {
        // SAFETY: tables come from `pages` only, so the entry lies in a live page of the heap.
        unsafe { Self::entry(table, index).read_volatile() }
    }

    fn set(&mut self, table: Pa, index: usize, entry: u64) {
        // SAFETY: as in `get`; tables are built by the boot CPU alone.
        unsafe { Self::entry(table, index).write_volatile(entry) };
    }
}

/// Returns the hypervisor's own address of a physical one in its identity-mapped image and heap.
pub fn identity(pa: Pa) -> Va {
    Va::new(pa.get())
}
