//! Back end sock-tracepoint: raw tracepoints `sock_send_length` and `sock_recv_length` (kernel 6.3).
//!
//! Their arguments are the socket, the result and the flags (`include/trace/events/sock.h`); the caller's
//! buffer is found in the registers it entered the kernel with.

use aya_ebpf::{
    EbpfContext as _, helpers::generated, macros::raw_tracepoint, programs::RawTracePointContext,
};

use super::{
    caller::{self, MMSGHDR_BYTES, MSG_PEEK, USER32_CS, syscall},
    lifecycle, program,
};
use crate::{
    buffer::Buffer,
    maps::{BATCHES, Batch},
    observe::{Call, control, direction, look, observe, passes_over},
};

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

/// Bytes were sent or received: which, says the link's cookie (kernel 6.10). The verifier walks one program instead of
/// two. Neither tracepoint can come in the middle of the other, as both belong to a task and preemption is off (before
/// 7.0): one scratch memory does.
#[cfg(feature = "modern")]
#[raw_tracepoint(tracepoint = "sock_send_length")]
#[inline(always)]
pub fn sock_length(context: RawTracePointContext) -> i32 {
    // SAFETY: the helper reads what the kernel keeps beside this program's context.
    let cookie = unsafe { generated::bpf_get_attach_cookie(context.as_ptr()) };
    length(&context, cookie as u8, program::SEND);
    0
}

#[inline(always)]
fn length(context: &RawTracePointContext, direction: u8, program: u32) {
    moved(program, &arguments(context, direction));
}

/// What the tracepoints tell.
pub struct Told {
    /// Address of the socket.
    pub socket: u64,
    /// Bytes that it moved, or an error.
    pub result: i32,
    /// `MSG_*`
    pub flags: u64,
    /// One of [`direction`].
    pub direction: u8,
}

impl Told {
    #[inline(always)]
    fn peeked(&self) -> bool {
        self.flags & MSG_PEEK != 0 && self.direction == direction::INGRESS
    }
}

/// What the raw tracepoint tells.
#[inline(always)]
pub fn arguments(context: &RawTracePointContext, direction: u8) -> Told {
    let arguments = context.as_ptr().cast::<u64>();
    // SAFETY: both tracepoints have three arguments.
    let (socket, result, flags) =
        unsafe { (*arguments, *arguments.add(1) as i32, *arguments.add(2)) };
    Told {
        socket,
        result,
        flags,
        direction,
    }
}

/// The socket has moved bytes, or failed.
#[inline(always)]
pub fn moved(program: u32, told: &Told) {
    if told.peeked() {
        return;
    }
    let registers = registers();
    // SAFETY: the registers are those of the current task, typed by the verifier.
    let number = unsafe { (*registers).orig_ax };
    let batched = is_batch(number);
    if told.result <= 0 {
        // What moved bytes is asked further on.
        if control().is_none() {
            return;
        }
        if batched {
            let _absent = BATCHES.remove(&task());
        }
        if told.result == 0 && told.direction == direction::INGRESS {
            lifecycle::received_end(program, told.socket);
        }
        return;
    }
    // Most calls are of sockets that nobody looks at; batches are counted all the same.
    if !batched && passes_over(told.socket, told.direction) {
        return;
    }
    let call = Call {
        socket: told.socket,
        direction: told.direction,
        len: told.result as u32,
        buffer: buffer(registers, number, told.result as u64),
    };
    if batched {
        observe(program, &call);
    } else {
        look(program, &call);
    }
}

/// The same for a call that another program has looked at: only its place in a batch matters.
#[cfg(feature = "modern")]
#[inline(always)]
pub fn pass(told: &Told) {
    let registers = registers();
    // SAFETY: the registers are those of the current task, typed by the verifier.
    let (number, second, third) =
        unsafe { ((*registers).orig_ax, (*registers).si, (*registers).dx) };
    if !is_batch(number) || told.peeked() {
        return;
    }
    if told.result > 0 {
        let _next = batch(second, third as u32);
    } else {
        let _absent = BATCHES.remove(&task());
    }
}

#[inline(always)]
fn is_batch(number: u64) -> bool {
    number == syscall::SENDMMSG || number == syscall::RECVMMSG
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
    if is_batch(number) {
        return batch(second, third as u32);
    }
    caller::buffer(number, second, third, len)
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
    caller::message(array + u64::from(index) * MMSGHDR_BYTES)
}

const _: () = assert!(core::mem::offset_of!(Registers, orig_ax) == 120);
