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
        // SAFETY: the pointer is into this CPU's cell of the map. A program that is preempted here by
        // another one on the same CPU may lose an addition on kernels that preempt BPF programs, which is
        // why the compiler is given one read-modify-write that it can make a single instruction.
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) cell, in(reg) by);
        }
    }
}
