//! The lives of sockets and processes.

use aya_ebpf::{EbpfContext as _, macros::raw_tracepoint, programs::RawTracePointContext};
use kerntally_abi::{EndReason, process_event, role};
use kerntally_machine::{Phase, RESPONSE};

use super::program;
use crate::{
    kernel,
    maps::CONNECTIONS,
    negative,
    observe::{close_socket, close_unseen, control, forget_connection},
    process,
};

/// TCP states (`include/net/tcp_states.h`).
mod state {
    pub(super) const ESTABLISHED: u32 = 1;
    pub(super) const FIN_WAIT1: u32 = 4;
    pub(super) const CLOSE: u32 = 7;
    pub(super) const CLOSE_WAIT: u32 = 8;
    pub(super) const LAST_ACK: u32 = 9;
}

/// Both bits of `sk_shutdown` (`include/net/sock.h`).
const SHUTDOWN_MASK: u8 = 3;

#[inline(always)]
fn argument(context: &RawTracePointContext, index: usize) -> u64 {
    // SAFETY: callers pass indices of arguments the tracepoint has.
    unsafe { *context.as_ptr().cast::<u64>().add(index) }
}

/// A TCP socket changes its state: `(sk, old state, new state)` (`include/trace/events/sock.h`).
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[inline(always)]
pub fn inet_sock_set_state(context: RawTracePointContext) -> i32 {
    let (old, new) = (argument(&context, 1) as u32, argument(&context, 2) as u32);
    state_changed(program::STATE, argument(&context, 0), old, new);
    0
}

/// The TCP socket's state was `old`, and is `new`. Twice is as good as once.
#[inline(always)]
pub fn state_changed(program: u32, socket: u64, old: u32, new: u32) {
    if control().is_none() {
        return;
    }
    if new == state::ESTABLISHED {
        negative::forget(socket);
        forget_connection(socket);
        return;
    }
    let Some(connection) = CONNECTIONS.get_ptr_mut(&socket) else {
        return;
    };
    // SAFETY: the pointer is to a live element of the map.
    let connection = unsafe { &mut *connection };
    let now = kernel::now();
    let shutdown = kernel::shutdown(socket);
    let own_end = new == state::FIN_WAIT1 || new == state::LAST_ACK;
    // With unread bytes a close resets at once; out of any other state the connection has ended for good,
    // but a reader may still be at its last bytes.
    let open = old == state::ESTABLISHED || old == state::CLOSE_WAIT;
    let closed = new == state::CLOSE && open && shutdown & SHUTDOWN_MASK == SHUTDOWN_MASK;
    // A client that only stops sending still waits for its response.
    let half_closed =
        own_end && connection.role == role::CLIENT && shutdown & kernel::RCV_SHUTDOWN == 0;
    if (own_end && !half_closed) || closed {
        close_socket(program, socket, own_reason(), now);
    } else if new == state::CLOSE_WAIT || new == state::CLOSE {
        // The peer's end alone ends nothing: what it sent may still be read, and a send that is under way
        // may yet succeed. The owner's close will end it.
        if connection.peer_closed_ns == 0 {
            connection.peer_closed_ns = now;
        }
        connection.reset |= u8::from(new == state::CLOSE && kernel::error(socket) != 0);
    }
}

#[inline(always)]
fn own_reason() -> EndReason {
    if kernel::exiting() {
        EndReason::Exit
    } else {
        EndReason::LocalClose
    }
}

/// A TCP socket is destroyed: `(sk)` (`include/trace/events/tcp.h`).
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
#[inline(always)]
pub fn tcp_destroy_sock(context: RawTracePointContext) -> i32 {
    destroyed(program::DESTROY, argument(&context, 0));
    0
}

/// The TCP socket is gone. Twice is as good as once.
#[inline(always)]
pub fn destroyed(program: u32, socket: u64) {
    if control().is_none() {
        return;
    }
    close_socket(program, socket, own_reason(), kernel::now());
    forget_connection(socket);
    negative::forget(socket);
}

/// The reader met the end of the stream: a client's response that ends with the connection is whole.
#[inline(always)]
pub fn received_end(program: u32, socket: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(&socket) else {
        return;
    };
    // SAFETY: the pointer is to a live element of the map.
    let connection = unsafe { &mut *connection };
    if connection.peer_closed_ns == 0 {
        connection.peer_closed_ns = kernel::now();
    }
    if connection.role == role::CLIENT
        && connection.directions[RESPONSE].phase == Phase::UntilClose as u8
    {
        close_socket(program, socket, EndReason::PeerClose, kernel::now());
    }
}

/// A process replaces its program: `(task, old pid, binary)` (`include/trace/events/sched.h`).
#[raw_tracepoint(tracepoint = "sched_process_exec")]
#[inline(always)]
pub fn sched_process_exec(_context: RawTracePointContext) -> i32 {
    process::changed(process_event::EXEC);
    0
}

/// A task exits: `(task)` (`include/trace/events/sched.h`).
#[raw_tracepoint(tracepoint = "sched_process_exit")]
#[inline(always)]
pub fn sched_process_exit(_context: RawTracePointContext) -> i32 {
    task_exits();
    0
}

/// The current task exits.
#[inline(always)]
pub fn task_exits() {
    let both = aya_ebpf::helpers::bpf_get_current_pid_tgid();
    super::kprobe::task_ends(both as u32);
    if both >> 32 == both & 0xffff_ffff {
        process::changed(process_event::EXIT);
    }
}

/// Ends a Unix socket that is gone, or, with `cut`, what has been open for too long. Run from user space: `(address, inode number, cut)`.
#[raw_tracepoint(tracepoint = "sys_enter")]
#[inline(always)]
pub fn sweep(context: RawTracePointContext) -> i32 {
    let socket = argument(&context, 0);
    let inode = argument(&context, 1);
    if argument(&context, 2) != 0 {
        close_socket(program::SWEEP, socket, EndReason::Cut, kernel::now());
        return 1;
    }
    if kernel::inode(socket) == inode && inode != 0 {
        return 0;
    }
    let Some(connection) = CONNECTIONS.get_ptr(&socket) else {
        return 0;
    };
    // SAFETY: the pointer is to a live element of the map.
    let (known, owner) = unsafe { ((*connection).inode, (*connection).filter_tgid) };
    // The address has been given to another socket, and met again, since the agent was told of this one.
    if known != inode as u32 {
        return 0;
    }
    close_unseen(program::SWEEP, socket, owner);
    1
}
