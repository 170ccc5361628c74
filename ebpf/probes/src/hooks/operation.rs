//! The socket operations of each address family, as they are seen at their return.
//!
//! `(struct socket *, struct msghdr *, size_t, [int flags])` in every kernel from 5.10 (`net/ipv4/af_inet.c`,
//! `net/unix/af_unix.c`); the iterator in the message has moved on by what was copied, and is walked back.

use kerntally_abi::{Counter, EndReason, limits::IO_SEGMENTS};

use super::{caller::MSG_PEEK, lifecycle, program};
use crate::{
    buffer::Buffer,
    counters,
    kernel::{self, layout},
    observe::{self, Call, control, direction, observe},
};

/// `struct iovec`
const IOVEC_BYTES: u64 = 16;
/// `iovec.iov_len`
const IOVEC_LEN: u32 = 8;

/// A `recvmsg` that has returned.
pub struct Received {
    /// Address of the `struct socket`.
    pub socket: u64,
    /// Address of the `struct msghdr`.
    pub message: u64,
    /// Bytes asked for.
    pub size: u64,
    /// `MSG_*`
    pub flags: u64,
    /// What came back.
    pub result: i32,
}

/// A `sendmsg` has returned.
#[inline(always)]
pub fn sent(program: u32, socket: u64, message: u64, result: i32) {
    if control().is_none() || result <= 0 {
        return;
    }
    let socket: u64 = kernel::read(socket, layout!(socket_sk));
    let call = Call {
        socket,
        direction: direction::EGRESS,
        len: result as u32,
        buffer: buffer(message, result as u64),
    };
    observe(program, &call);
}

/// A `sendpage` has returned.
#[inline(always)]
pub fn sent_page(program: u32, socket: u64, result: i32) {
    if control().is_none() || result <= 0 {
        return;
    }
    let call = Call {
        socket: kernel::read(socket, layout!(socket_sk)),
        direction: direction::EGRESS,
        len: result as u32,
        buffer: Buffer::UNKNOWN,
    };
    observe(program, &call);
}

/// A `recvmsg` has returned.
#[inline(always)]
pub fn received(program: u32, it: &Received) {
    if control().is_none() || it.result < 0 || it.flags & MSG_PEEK != 0 {
        return;
    }
    let socket: u64 = kernel::read(it.socket, layout!(socket_sk));
    if it.result == 0 {
        if it.size != 0 {
            lifecycle::received_end(program, socket);
        }
        return;
    }
    let call = Call {
        socket,
        direction: direction::INGRESS,
        len: it.result as u32,
        buffer: buffer(it.message, it.result as u64),
    };
    observe(program, &call);
}

/// A Unix socket is about to be released: its last moment.
#[inline(always)]
pub fn released(socket: u64) {
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
            counters::add(Counter::SegmentsCut, 1);
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
