//! Back end sock-tracepoint: raw tracepoints `sock_send_length` and `sock_recv_length` (kernel 6.3).
//!
//! Their arguments are the socket, the result and the flags (`include/trace/events/sock.h`); the caller's
//! buffer is found in the registers it entered the kernel with.

use aya_ebpf::{
    EbpfContext as _, helpers::generated, macros::raw_tracepoint, programs::RawTracePointContext,
};

use super::program;
use crate::{
    buffer::Buffer,
    maps::{BATCHES, Batch},
    observe::{Call, control, direction, observe},
};

/// `MSG_PEEK` (`include/linux/socket.h`)
pub const MSG_PEEK: u64 = 2;
/// Code segment of 32-bit user programs (`__USER32_CS`, `arch/x86/include/asm/segment.h`).
const USER32_CS: u64 = 0x23;

/// Registers of the caller, x86-64 (`arch/x86/include/asm/ptrace.h`).
#[repr(C)]
struct Registers {
    _saved: [u64; 7],
    _r10: u64,
    _r9: u64,
    _r8: u64,
    _ax: u64,
    _cx: u64,
    dx: u64,
    si: u64,
    _di: u64,
    orig_ax: u64,
    _ip: u64,
    cs: u64,
}

/// System calls that move bytes, x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`).
mod syscall {
    pub(super) const READ: u64 = 0;
    pub(super) const WRITE: u64 = 1;
    pub(super) const READV: u64 = 19;
    pub(super) const WRITEV: u64 = 20;
    pub(super) const SENDTO: u64 = 44;
    pub(super) const RECVFROM: u64 = 45;
    pub(super) const SENDMSG: u64 = 46;
    pub(super) const RECVMSG: u64 = 47;
    pub(super) const RECVMMSG: u64 = 299;
    pub(super) const SENDMMSG: u64 = 307;
    pub(super) const PREADV2: u64 = 327;
    pub(super) const PWRITEV2: u64 = 328;
}

/// `struct user_msghdr`: where the pieces are (`include/linux/socket.h`).
const MSGHDR_IOV: u32 = 16;
const MSGHDR_IOVLEN: u32 = 24;
/// `struct mmsghdr`: a message header and the length that came out, padded.
const MMSGHDR_BYTES: u64 = 64;

/// Bytes were sent.
#[raw_tracepoint(tracepoint = "sock_send_length")]
#[inline(always)]
pub fn sock_send_length(context: RawTracePointContext) -> i32 {
    length(&context, direction::EGRESS, program::SEND);
    0
}

/// Bytes were received.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
#[inline(always)]
pub fn sock_recv_length(context: RawTracePointContext) -> i32 {
    length(&context, direction::INGRESS, program::RECEIVE);
    0
}

#[inline(always)]
fn length(context: &RawTracePointContext, direction: u8, program: u32) {
    if control().is_none() {
        return;
    }
    let arguments = context.as_ptr().cast::<u64>();
    // SAFETY: both tracepoints have three arguments.
    let (socket, result, flags) =
        unsafe { (*arguments, *arguments.add(1) as i32, *arguments.add(2)) };
    if flags & MSG_PEEK != 0 && direction == direction::INGRESS {
        return;
    }
    let registers = registers();
    // SAFETY: the registers are those of the current task, typed by the verifier.
    let number = unsafe { (*registers).orig_ax };
    let batched = number == syscall::SENDMMSG || number == syscall::RECVMMSG;
    if result <= 0 {
        if batched {
            let _absent = BATCHES.remove(&task());
        }
        if result == 0 && direction == direction::INGRESS {
            crate::hooks::lifecycle::received_end(program, socket);
        }
        return;
    }
    let buffer = buffer(registers, number, result as u64);
    observe(
        program,
        &Call {
            socket,
            direction,
            len: result as u32,
            buffer,
        },
    );
}

#[inline(always)]
fn task() -> u32 {
    aya_ebpf::helpers::bpf_get_current_pid_tgid() as u32
}

#[inline(always)]
fn registers() -> *const Registers {
    // SAFETY: both helpers take and give pointers the verifier knows the types of.
    unsafe {
        let task = generated::bpf_get_current_task_btf();
        generated::bpf_task_pt_regs(task) as *const Registers
    }
}

/// The caller's buffer, unknown where the registers do not tell.
#[inline(always)]
fn buffer(registers: *const Registers, number: u64, len: u64) -> Buffer {
    // SAFETY: the registers are those of the current task, typed by the verifier.
    let (second, third, code) = unsafe { ((*registers).si, (*registers).dx, (*registers).cs) };
    if code == USER32_CS {
        return Buffer::UNKNOWN;
    }
    match number {
        syscall::READ | syscall::WRITE | syscall::SENDTO | syscall::RECVFROM => {
            Buffer::single(second, len)
        }
        syscall::READV | syscall::WRITEV | syscall::PREADV2 | syscall::PWRITEV2 => {
            Buffer::pieces(second, third, false)
        }
        syscall::SENDMSG | syscall::RECVMSG => message(second),
        syscall::SENDMMSG | syscall::RECVMMSG => batch(second, third as u32),
        _ => Buffer::UNKNOWN,
    }
}

/// The pieces of a `struct user_msghdr`.
#[inline(always)]
fn message(header: u64) -> Buffer {
    let pieces = user_word(header + u64::from(MSGHDR_IOV));
    let count = user_word(header + u64::from(MSGHDR_IOVLEN));
    if pieces == 0 || count == 0 {
        return Buffer::UNKNOWN;
    }
    Buffer::pieces(pieces, count, false)
}

/// All messages of a batch come with the same registers: which one this is, is counted per task.
#[inline(always)]
fn batch(array: u64, len: u32) -> Buffer {
    let task = task();
    let mut index = 0;
    if let Some(known) = BATCHES.get_ptr(&task) {
        // SAFETY: the pointer is to a live element of the map.
        let known = unsafe { *known };
        if known.array == array && known.len == len && known.next < len {
            index = known.next;
        }
    }
    if index + 1 >= len {
        let _absent = BATCHES.remove(&task);
    } else {
        let _full = BATCHES.insert(
            &task,
            &Batch {
                array,
                next: index + 1,
                len,
            },
            0,
        );
    }
    message(array + u64::from(index) * MMSGHDR_BYTES)
}

/// A word of user memory, 0 if it cannot be read.
#[inline(always)]
fn user_word(address: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: the helper checks the source and writes the eight bytes of `word`.
    let failed =
        unsafe { generated::bpf_probe_read_user((&raw mut word).cast(), 8, address as *const _) };
    if failed == 0 { word } else { 0 }
}

const _: () = assert!(core::mem::offset_of!(Registers, orig_ax) == 120);
