//! What the kernel skips of back end fexit where it preempts its programs: the tracepoints behind the same
//! functions (kernel 6.3), which it does not skip.
//!
//! A program of fexit leaves a mark with its task, which the tracepoint finds and takes away; a call without one is
//! the tracepoint's own.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};

use super::{
    program,
    sock_tracepoint::{self, Told},
};
use crate::{
    kernel::layout,
    maps::{CALLS, Calling},
    observe::direction,
};

/// Leaves the mark of `program`, if anyone looks for it; false if there was no room, and the call is left to the
/// tracepoint.
#[inline(always)]
pub fn mark(program: u32) -> bool {
    if layout!(witnessed) == 0 {
        return true;
    }
    let task = bpf_get_current_pid_tgid() as u32;
    if let Some(known) = CALLS.get_ptr_mut(&task) {
        // SAFETY: the pointer is to a live element of the map, which only this task writes.
        unsafe { (*known).program = program };
        return true;
    }
    let call = Calling {
        socket: 0,
        message: 0,
        size: 0,
        flags: 0,
        program,
    };
    CALLS.insert(&task, &call, 0).is_ok()
}

/// Takes the mark away; whether there was one.
#[inline(always)]
fn was_marked() -> bool {
    let task = bpf_get_current_pid_tgid() as u32;
    let Some(known) = CALLS.get_ptr_mut(&task) else {
        return false;
    };
    // SAFETY: the pointer is to a live element of the map, which only this task writes.
    unsafe {
        let marked = (*known).program != Calling::NONE;
        (*known).program = Calling::NONE;
        marked
    }
}

/// The socket has moved bytes, or failed.
#[inline(always)]
pub fn moved(program: u32, told: &Told) {
    if was_marked() {
        sock_tracepoint::pass(told);
    } else {
        sock_tracepoint::moved(program, told);
    }
}

/// Bytes were sent.
#[raw_tracepoint(tracepoint = "sock_send_length")]
#[inline(always)]
pub fn witness_send_length(context: RawTracePointContext) -> i32 {
    length(&context, direction::EGRESS, program::SEND_WITNESS);
    0
}

/// Bytes were received.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
#[inline(always)]
pub fn witness_recv_length(context: RawTracePointContext) -> i32 {
    length(&context, direction::INGRESS, program::RECEIVE_WITNESS);
    0
}

#[inline(always)]
fn length(context: &RawTracePointContext, direction: u8, program: u32) {
    let told = sock_tracepoint::arguments(context, direction);
    moved(program, &told);
}
