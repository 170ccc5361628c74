//! Back end kprobe: entry and return of the same functions as fexit.
//!
//! The return knows the result only, so what the entry was given waits under the task. A send that is tried
//! again, or a receive that only peeks, is told by its result and its flags, at the return.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use kerntally_abi::Counter;

use super::{
    operation::{self, Received},
    program,
};
use crate::{
    counters,
    maps::{CALLS, Calling},
    observe::control,
};

macro_rules! enter {
    ($name:ident, $function:literal, $program:expr) => {
        #[doc = concat!("At the entry of `", $function, "`.")]
        #[kprobe]
        #[inline(always)]
        pub fn $name(context: ProbeContext) -> u32 {
            entered(&context, $program);
            0
        }
    };
}

macro_rules! send {
    ($entry:ident, $name:ident, $function:literal, $program:expr) => {
        enter!($entry, $function, $program);

        #[doc = concat!("At the return of `", $function, "`.")]
        #[kretprobe]
        #[inline(always)]
        pub fn $name(context: RetProbeContext) -> u32 {
            if let Some(call) = left($program) {
                operation::sent($program, call.socket, call.message, context.ret());
            }
            0
        }
    };
}

macro_rules! receive {
    ($entry:ident, $name:ident, $function:literal, $program:expr) => {
        enter!($entry, $function, $program);

        #[doc = concat!("At the return of `", $function, "`.")]
        #[kretprobe]
        #[inline(always)]
        pub fn $name(context: RetProbeContext) -> u32 {
            if let Some(call) = left($program) {
                let received = Received {
                    socket: call.socket,
                    message: call.message,
                    size: call.size,
                    flags: u64::from(call.flags),
                    result: context.ret(),
                };
                operation::received($program, &received);
            }
            0
        }
    };
}

macro_rules! send_page {
    ($entry:ident, $name:ident, $function:literal, $program:expr) => {
        enter!($entry, $function, $program);

        #[doc = concat!("At the return of `", $function, "` (before 6.5).")]
        #[kretprobe]
        #[inline(always)]
        pub fn $name(context: RetProbeContext) -> u32 {
            if let Some(call) = left($program) {
                operation::sent_page($program, call.socket, context.ret());
            }
            0
        }
    };
}

send!(
    kprobe_inet_sendmsg,
    kretprobe_inet_sendmsg,
    "inet_sendmsg",
    program::SEND
);
send!(
    kprobe_inet6_sendmsg,
    kretprobe_inet6_sendmsg,
    "inet6_sendmsg",
    program::SEND6
);
send!(
    kprobe_unix_stream_sendmsg,
    kretprobe_unix_stream_sendmsg,
    "unix_stream_sendmsg",
    program::UNIX_SEND
);
receive!(
    kprobe_inet_recvmsg,
    kretprobe_inet_recvmsg,
    "inet_recvmsg",
    program::RECEIVE
);
receive!(
    kprobe_inet6_recvmsg,
    kretprobe_inet6_recvmsg,
    "inet6_recvmsg",
    program::RECEIVE6
);
receive!(
    kprobe_unix_stream_recvmsg,
    kretprobe_unix_stream_recvmsg,
    "unix_stream_recvmsg",
    program::UNIX_RECEIVE
);
send_page!(
    kprobe_inet_sendpage,
    kretprobe_inet_sendpage,
    "inet_sendpage",
    program::SEND_PAGE
);
send_page!(
    kprobe_unix_stream_sendpage,
    kretprobe_unix_stream_sendpage,
    "unix_stream_sendpage",
    program::UNIX_SEND_PAGE
);

/// At the entry of `unix_release`.
#[kprobe]
#[inline(always)]
pub fn kprobe_unix_release(context: ProbeContext) -> u32 {
    operation::released(context.arg(0).unwrap_or(0));
    0
}

#[inline(always)]
fn task() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

#[inline(always)]
fn entered(context: &ProbeContext, program: u32) {
    if control().is_none() {
        return;
    }
    let argument = |index| context.arg(index).unwrap_or(0u64);
    let call = Calling {
        socket: argument(0),
        message: argument(1),
        size: argument(2),
        flags: argument(3) as u32,
        program,
    };
    let Some(known) = CALLS.get_ptr_mut(&task()) else {
        if CALLS.insert(&task(), &call, 0).is_err() {
            counters::add(Counter::CallsNotKept, 1);
        }
        return;
    };
    // SAFETY: the pointer is to a live element of the map, which only this task writes.
    unsafe {
        note_missed((*known).program, program);
        *known = call;
    }
}

/// A task is in one operation at a time: what is still under way when the next begins has returned unseen.
/// Only `sendpage` may go through `sendmsg` where the protocol has none of its own.
#[inline(always)]
fn note_missed(left: u32, next: u32) {
    let inside = (left == program::SEND_PAGE || left == program::UNIX_SEND_PAGE) && left != next;
    if left != Calling::NONE && !inside {
        counters::add(Counter::MissedReturns, 1);
    }
}

/// The call that `program` sees return. Without an entry it began before the hooks were there.
#[inline(always)]
fn left(program: u32) -> Option<Calling> {
    let known = CALLS.get_ptr_mut(&task())?;
    // SAFETY: the pointer is to a live element of the map, which only this task writes.
    unsafe {
        if (*known).program != program {
            return None;
        }
        (*known).program = Calling::NONE;
        Some(*known)
    }
}

/// The current task exits.
#[inline(always)]
pub fn task_ends(task: u32) {
    if let Some(known) = CALLS.get_ptr(&task) {
        // SAFETY: the pointer is to a live element of the map, which only this task writes.
        note_missed(unsafe { (*known).program }, Calling::NONE);
        // It is there.
        let _removed = CALLS.remove(&task);
    }
}
