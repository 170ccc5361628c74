//! Back end fexit: after the socket operations of each address family.

use aya_ebpf::{EbpfContext as _, macros::fexit, programs::FExitContext};

#[cfg(feature = "modern")]
use super::witness::mark;
use super::{
    operation::{self, Received},
    program,
};

/// Kernels before 6.1 have no tracepoints that could take over.
#[cfg(not(feature = "modern"))]
#[inline(always)]
fn mark(_program: u32) -> bool {
    true
}

macro_rules! send {
    ($name:ident, $function:literal, $program:expr) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        #[inline(always)]
        pub fn $name(context: FExitContext) -> i32 {
            if !mark($program) {
                return 0;
            }
            let (socket, message) = (argument(&context, 0), argument(&context, 1));
            operation::sent($program, socket, message, argument(&context, 3) as i32);
            0
        }
    };
}

macro_rules! receive {
    ($name:ident, $function:literal, $program:expr) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        #[inline(always)]
        pub fn $name(context: FExitContext) -> i32 {
            if !mark($program) {
                return 0;
            }
            let call = Received {
                socket: argument(&context, 0),
                message: argument(&context, 1),
                size: argument(&context, 2),
                flags: argument(&context, 3),
                result: argument(&context, 4) as i32,
            };
            operation::received($program, &call);
            0
        }
    };
}

macro_rules! send_page {
    ($name:ident, $function:literal, $program:expr) => {
        #[doc = concat!("After `", $function, "`, which sends what lies in the page cache (before 6.5).")]
        #[fexit(function = $function)]
        #[inline(always)]
        pub fn $name(context: FExitContext) -> i32 {
            let result = argument(&context, 5) as i32;
            operation::sent_page($program, argument(&context, 0), result);
            0
        }
    };
}

send!(fexit_inet_sendmsg, "inet_sendmsg", program::SEND);
send!(fexit_inet6_sendmsg, "inet6_sendmsg", program::SEND6);
send!(
    fexit_unix_stream_sendmsg,
    "unix_stream_sendmsg",
    program::UNIX_SEND
);
receive!(fexit_inet_recvmsg, "inet_recvmsg", program::RECEIVE);
receive!(fexit_inet6_recvmsg, "inet6_recvmsg", program::RECEIVE6);
receive!(
    fexit_unix_stream_recvmsg,
    "unix_stream_recvmsg",
    program::UNIX_RECEIVE
);
send_page!(fexit_inet_sendpage, "inet_sendpage", program::SEND_PAGE);
send_page!(
    fexit_unix_stream_sendpage,
    "unix_stream_sendpage",
    program::UNIX_SEND_PAGE
);

/// Before `unix_release`: the socket's last moment.
#[aya_ebpf::macros::fentry(function = "unix_release")]
#[inline(always)]
pub fn fentry_unix_release(context: aya_ebpf::programs::FEntryContext) -> i32 {
    // SAFETY: the only argument is a `struct socket *`.
    let socket = unsafe { *context.as_ptr().cast::<u64>() };
    operation::released(socket);
    0
}

#[inline(always)]
fn argument(context: &FExitContext, index: usize) -> u64 {
    // SAFETY: callers pass indices of arguments the function has; the result follows the last.
    unsafe { *context.as_ptr().cast::<u64>().add(index) }
}
