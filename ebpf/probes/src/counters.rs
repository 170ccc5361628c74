//! Named counters, one cell for each CPU.

use aya_ebpf::helpers::generated;
use kerntally_abi::{CELLS, Counter};

use crate::maps::COUNTERS;

/// Adds `by` to `counter` on this CPU.
#[inline(always)]
pub fn add(counter: Counter, by: u64) {
    add_at(counter as u32, by);
}

/// Adds `by` to the counter with this id.
#[inline(always)]
pub fn add_at(id: u32, by: u64) {
    // SAFETY: the helper has no arguments.
    let cpu = unsafe { generated::bpf_get_smp_processor_id() };
    if let Some(cell) = COUNTERS.get_ptr_mut(cpu * CELLS + id) {
        grow(cell, by);
    }
}

/// Adds `by` to a cell of a live map value, in one instruction that every kernel knows: another program may
/// preempt this one on the same CPU, or add to the same cell on another.
#[inline(always)]
pub fn grow(cell: *mut u64, by: u64) {
    // SAFETY: callers pass pointers into live map values.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) cell, in(reg) by);
    }
}
