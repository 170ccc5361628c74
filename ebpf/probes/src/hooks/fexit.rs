//! Back end fexit: after the socket operations of each address family.
//!
//! `(struct socket *, struct msghdr *, size_t, [int flags])` in every kernel from 5.10 (`net/ipv4/af_inet.c`,
//! `net/unix/af_unix.c`); the iterator in the message has moved on by what was copied, and is walked back.

use aya_ebpf::{EbpfContext as _, macros::fexit, programs::FExitContext};
use kerntally_abi::{EndReason, limits::IO_SEGMENTS};

use super::{program, sock_tracepoint::MSG_PEEK};
use crate::{
    buffer::Buffer,
    kernel::{self, layout},
    observe::{self, Call, control, direction, observe},
};

/// `struct iovec`
const IOVEC_BYTES: u64 = 16;
/// `iovec.iov_len`
const IOVEC_LEN: u32 = 8;

macro_rules! send {
    ($name:ident, $function:literal, $program:expr) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        #[inline(always)]
        pub fn $name(context: FExitContext) -> i32 {
            sent(&context, 3, $program);
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
            received(&context, $program);
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
            if control().is_none() || result <= 0 {
                return 0;
            }
            let call = Call {
                socket: socket(&context),
                direction: direction::EGRESS,
                len: result as u32,
                buffer: Buffer::UNKNOWN,
            };
            observe($program, &call);
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
    let socket: u64 = kernel::read(socket, layout!(socket_sk));
    if socket != 0 && control().is_some() {
        let reason = if kernel::exiting() {
            EndReason::Exit
        } else {
            EndReason::LocalClose
        };
        observe::close_socket(program::RELEASE, socket, reason, kernel::now());
        observe::forget_connection(socket);
        crate::negative::forget(socket);
    }
    0
}

#[inline(always)]
fn argument(context: &FExitContext, index: usize) -> u64 {
    // SAFETY: callers pass indices of arguments the function has; the result follows the last.
    unsafe { *context.as_ptr().cast::<u64>().add(index) }
}

#[inline(always)]
fn socket(context: &FExitContext) -> u64 {
    kernel::read(argument(context, 0), layout!(socket_sk))
}

#[inline(always)]
fn sent(context: &FExitContext, result: usize, program: u32) {
    let result = argument(context, result) as i32;
    if control().is_none() || result <= 0 {
        return;
    }
    let socket = socket(context);
    let buffer = buffer(argument(context, 1), result as u64);
    let call = Call {
        socket,
        direction: direction::EGRESS,
        len: result as u32,
        buffer,
    };
    observe(program, &call);
}

#[inline(always)]
fn received(context: &FExitContext, program: u32) {
    let result = argument(context, 4) as i32;
    if control().is_none() || result < 0 || argument(context, 3) & MSG_PEEK != 0 {
        return;
    }
    let socket = socket(context);
    if result == 0 {
        if argument(context, 2) != 0 {
            super::lifecycle::received_end(program, socket);
        }
        return;
    }
    let buffer = buffer(argument(context, 1), result as u64);
    let call = Call {
        socket,
        direction: direction::INGRESS,
        len: result as u32,
        buffer,
    };
    observe(program, &call);
}

/// Where the `len` bytes that passed lie; unknown unless they are in user memory.
#[inline(always)]
fn buffer(message: u64, len: u64) -> Buffer {
    let iter = message + u64::from(layout!(msg_iter));
    let kind = u32::from(kernel::read::<u8>(iter, layout!(iter_type))) & layout!(iter_type_mask);
    let offset: u64 = kernel::read(iter, layout!(iter_offset));
    if kind == layout!(iov_ubuf) {
        let base: u64 = kernel::read(iter, layout!(iter_ubuf));
        return Buffer::single(base.wrapping_add(offset).wrapping_sub(len), len);
    }
    if kind != layout!(iov_iovec) {
        return Buffer::UNKNOWN;
    }
    walk_back(kernel::read(iter, layout!(iter_iov)), offset, len)
}

/// From where the iterator stands, `offset` bytes into the piece at `piece`, back by `len` bytes.
#[inline(always)]
fn walk_back(piece: u64, offset: u64, len: u64) -> Buffer {
    let mut piece = piece;
    let mut behind = offset;
    let mut count = 1;
    while behind < len {
        if count > IO_SEGMENTS as u64 {
            crate::counters::add(kerntally_abi::Counter::SegmentsCut, 1);
            return Buffer::UNKNOWN;
        }
        piece -= IOVEC_BYTES;
        let size: u64 = kernel::read(piece, IOVEC_LEN);
        behind += size;
        count += 1;
    }
    let mut buffer = Buffer::pieces(piece, count, true);
    buffer.skip = behind - len;
    buffer
}
