//! Named counters, one cell per CPU.

use kerntally_abi::Counter;

use crate::maps::COUNTERS;

/// Adds `by` to `counter` on this CPU.
#[inline(always)]
pub fn add(counter: Counter, by: u64) {
    add_at(counter as u32, by);
}

/// Adds `by` to the counter with this id.
#[inline(always)]
pub fn add_at(id: u32, by: u64) {
    if let Some(cell) = COUNTERS.get_ptr_mut(id) {
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
