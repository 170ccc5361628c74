//! What takes one atomic step: a CPU's spare slot, and the right to finish an exchange.

use super::Kernel;
#[cfg(feature = "modern")]
use crate::kernel::layout;
#[cfg(not(feature = "modern"))]
use crate::maps::{CLAIMS, NO_EXIST};

/// Puts `slot` (plus 1, or 0 for none) in the place of this CPU's spare one, which it returns; where no CPU
/// keeps one, it comes back itself. One atomic step: another program may preempt this one.
#[cfg(feature = "modern")]
#[inline(always)]
pub(super) fn exchange_spare(slot: u64) -> u64 {
    if layout!(spare_heads) == 0 {
        return slot;
    }
    let Some(spare) = crate::maps::SPARE_HEAD.get_ptr_mut(0) else {
        return slot;
    };
    let mut value = slot;
    // SAFETY: the pointer is to a live map value, aligned. The instruction needs kernel 5.12.
    unsafe {
        core::arch::asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) value, in(reg) spare);
    }
    value
}

/// Kernels before 5.12 have no such instruction: no CPU keeps one.
#[cfg(not(feature = "modern"))]
#[inline(always)]
pub(super) fn exchange_spare(slot: u64) -> u64 {
    slot
}

#[cfg(feature = "modern")]
#[inline(always)]
pub(super) fn claim(_host: &Kernel, answered: *mut u32, sequence: u32) -> bool {
    let mut found = u64::from(sequence);
    let next = u64::from(sequence.wrapping_add(1));
    // SAFETY: the pointer is into a map value, aligned, and lives as long as this run. The target has no
    // 32-bit atomic types, so the instruction (kernel 5.12) is spelled out.
    unsafe {
        core::arch::asm!(
            "w0 = cmpxchg32_32(r1 + 0, w0, w2)",
            in("r1") answered,
            in("r2") next,
            inout("r0") found,
        );
    }
    found as u32 == sequence
}

/// Kernels before 5.12 have no compare-and-swap: who makes the entry for the exchange decides alone.
#[cfg(not(feature = "modern"))]
#[inline(always)]
pub(super) fn claim(host: &Kernel, answered: *mut u32, sequence: u32) -> bool {
    let key = host.key(sequence);
    let entered = CLAIMS.insert(&key, &0, NO_EXIST).is_ok();
    // Not entered, and not there either: no room, and then two runs within the same nanoseconds may both win.
    if !entered && CLAIMS.get_ptr(&key).is_some() {
        return false;
    }
    // SAFETY: the pointer is into a map value, aligned, and lives as long as this run.
    let first = unsafe { core::ptr::read_volatile(answered) } == sequence;
    if first {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(answered, sequence.wrapping_add(1)) };
    }
    if entered {
        let _absent = CLAIMS.remove(&key);
    }
    first
}
