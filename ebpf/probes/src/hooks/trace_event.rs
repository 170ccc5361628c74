//! The tracepoints of the other modules through perf, for kernels that preempt raw tracepoints (7.0).
//!
//! There a task can be preempted inside a program, and until it goes on the kernel skips that program for
//! every other task of the processor. Perf's callbacks still run with preemption off (16718274ee75, "tracing:
//! perf: Have perf tracepoint callbacks always disable preemption"). They show the fields that the kernel
//! writes to its trace buffer; the agent compares their offsets with the kernel's types before it loads these.
//!
//! One thing they miss: what a softirq does while such a program is under way. So the ends of sockets are
//! hooked both ways.

use aya_ebpf::{
    EbpfContext as _, helpers::generated, macros::tracepoint, programs::TracePointContext,
};
use kerntally_abi::{process_event, trace_event as field};

use super::{
    lifecycle, program,
    sock_tracepoint::{self, Told},
    syscall, witness,
};
use crate::{kernel, observe::direction, process};

/// The field of the event at `offset`.
#[inline(always)]
fn read<T: Copy>(context: &TracePointContext, offset: u32) -> T {
    // SAFETY: the verifier knows the context's size, and callers pass offsets of fields of this type.
    unsafe { *context.as_ptr().byte_add(offset as usize).cast::<T>() }
}

/// Bytes were sent.
#[tracepoint]
#[inline(always)]
pub fn event_sock_send_length(context: TracePointContext) -> u32 {
    length(&context, direction::EGRESS, program::SEND);
    0
}

/// Bytes were received.
#[tracepoint]
#[inline(always)]
pub fn event_sock_recv_length(context: TracePointContext) -> u32 {
    length(&context, direction::INGRESS, program::RECEIVE);
    0
}

#[inline(always)]
fn length(context: &TracePointContext, direction: u8, program: u32) {
    sock_tracepoint::moved(program, &arguments(context, direction));
}

#[inline(always)]
fn arguments(context: &TracePointContext, direction: u8) -> Told {
    let flags: u32 = read(context, field::SOCK_MSG_FLAGS);
    Told {
        socket: read(context, field::SOCK_MSG_SK),
        result: read(context, field::SOCK_MSG_RET),
        flags: u64::from(flags),
        direction,
    }
}

/// Bytes were sent, as a witness.
#[tracepoint]
#[inline(always)]
pub fn event_witness_send(context: TracePointContext) -> u32 {
    witness(&context, direction::EGRESS, program::SEND_WITNESS);
    0
}

/// Bytes were received, as a witness.
#[tracepoint]
#[inline(always)]
pub fn event_witness_recv(context: TracePointContext) -> u32 {
    witness(&context, direction::INGRESS, program::RECEIVE_WITNESS);
    0
}

#[inline(always)]
fn witness(context: &TracePointContext, direction: u8, program: u32) {
    witness::moved(program, &arguments(context, direction));
}

/// A system call returns.
#[tracepoint]
#[inline(always)]
pub fn event_sys_exit(context: TracePointContext) -> u32 {
    // SAFETY: both helpers take and give pointers the verifier knows the types of.
    let registers = unsafe { generated::bpf_task_pt_regs(generated::bpf_get_current_task_btf()) };
    // Copied as bytes the pointer becomes a number to the verifier, as global functions must have it.
    let registers = kernel::read(&raw const registers as u64, 0);
    syscall::returned(registers, read(&context, field::SYS_EXIT_RET));
    0
}

/// A TCP socket changes its state.
#[tracepoint]
#[inline(always)]
pub fn event_sock_set_state(context: TracePointContext) -> u32 {
    let (old, new) = (
        read(&context, field::SET_STATE_OLD),
        read(&context, field::SET_STATE_NEW),
    );
    let socket = read(&context, field::SET_STATE_SK);
    lifecycle::state_changed(program::STATE_EVENT, socket, old, new);
    0
}

/// A TCP socket is destroyed.
#[tracepoint]
#[inline(always)]
pub fn event_destroy_sock(context: TracePointContext) -> u32 {
    lifecycle::destroyed(program::DESTROY_EVENT, read(&context, field::DESTROY_SK));
    0
}

/// A process replaces its program.
#[tracepoint]
#[inline(always)]
pub fn event_process_exec(_context: TracePointContext) -> u32 {
    process::changed(process_event::EXEC);
    0
}

/// A task exits.
#[tracepoint]
#[inline(always)]
pub fn event_process_exit(_context: TracePointContext) -> u32 {
    lifecycle::task_exits();
    0
}
