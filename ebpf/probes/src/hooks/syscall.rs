//! Back end syscall: the raw tracepoint `sys_exit`, whose registers still hold the arguments of the call.
//!
//! It runs after every system call of the machine, so most leave at once. The socket is found by the caller's
//! descriptor, in the table of the process.

use aya_ebpf::{EbpfContext as _, macros::raw_tracepoint, programs::RawTracePointContext};
use kerntally_abi::{Counter, limits::BATCH_MESSAGES};

use super::{
    caller::{self, MMSGHDR_BYTES, MMSGHDR_LEN, MSG_PEEK, MSGHDR_IOV, USER32_CS, syscall},
    lifecycle, program,
};
use crate::{
    buffer::Buffer,
    counters,
    kernel::{self, layout, read},
    observe::{Call, control, direction, look, observe, passes_over},
};

/// Registers of the caller, x86-64 (`arch/x86/include/asm/ptrace.h`).
mod register {
    pub(super) const BX: u32 = 40;
    pub(super) const R10: u32 = 56;
    /// The third argument; the second and the first lie behind it.
    pub(super) const DX: u32 = 96;
    /// The second argument, and the first.
    pub(super) const SI: u32 = 104;
    /// The number of the call; behind it the instruction and its segment.
    pub(super) const ORIG_AX: u32 = 120;
}

/// System calls of 32-bit programs that move bytes (`arch/x86/entry/syscalls/syscall_32.tbl`).
mod compat {
    pub(super) const READ: u64 = 3;
    pub(super) const WRITE: u64 = 4;
    pub(super) const SOCKETCALL: u64 = 102;
    pub(super) const READV: u64 = 145;
    pub(super) const WRITEV: u64 = 146;
    pub(super) const RECVMMSG: u64 = 337;
    pub(super) const SENDMMSG: u64 = 345;
    pub(super) const SENDTO: u64 = 369;
    pub(super) const RECVMSG: u64 = 372;
    /// `SYS_SEND`, the first of the operations of `socketcall` that move bytes (`include/uapi/linux/net.h`).
    pub(super) const SYS_SEND: u64 = 9;
}

/// The call that returns.
struct Returning {
    registers: u64,
    number: u64,
    first: u64,
    second: u64,
    third: u64,
}

/// A system call returns: `(registers, result)` (`include/trace/events/syscalls.h`).
#[raw_tracepoint(tracepoint = "sys_exit")]
#[inline(always)]
pub fn sys_exit(context: RawTracePointContext) -> i32 {
    let arguments = context.as_ptr().cast::<u64>();
    // SAFETY: the tracepoint has two arguments.
    let (registers, result) = unsafe { (*arguments, *arguments.add(1)) };
    returned(registers, result);
    0
}

/// A system call has returned `result`; `registers` is the address of its caller's.
#[inline(always)]
pub fn returned(registers: u64, result: u64) {
    if (result as i64) < 0 || control().is_none() {
        return;
    }
    let [number, _instruction, code]: [u64; 3] = read(registers, register::ORIG_AX);
    if code == USER32_CS {
        count_compat(number, registers, result);
    } else if number == syscall::SENDMMSG || number == syscall::RECVMMSG {
        messages_passed(number, registers, result);
    } else if moves_bytes(number) {
        bytes_passed(number, registers, result);
    }
}

/// The first test of every system call on the machine.
#[inline(always)]
fn moves_bytes(number: u64) -> bool {
    const LOW: u64 = 1 << syscall::READ
        | 1 << syscall::WRITE
        | 1 << syscall::READV
        | 1 << syscall::WRITEV
        | 1 << syscall::SENDFILE
        | 1 << syscall::SENDTO
        | 1 << syscall::RECVFROM
        | 1 << syscall::SENDMSG
        | 1 << syscall::RECVMSG;
    if number < 64 {
        return LOW >> number & 1 != 0;
    }
    number == syscall::SPLICE || number == syscall::PREADV2 || number == syscall::PWRITEV2
}

#[inline(always)]
fn receives(number: u64) -> bool {
    number == syscall::READ
        || number == syscall::RECVFROM
        || number == syscall::READV
        || number == syscall::RECVMSG
        || number == syscall::PREADV2
}

impl Returning {
    #[inline(always)]
    fn read(number: u64, registers: u64) -> Self {
        let [third, second, first]: [u64; 3] = read(registers, register::DX);
        Self {
            registers,
            number,
            first,
            second,
            third,
        }
    }
}

/// A call that moves bytes returns. A global function of numbers only, as those below: the verifier looks at
/// it once, and the stack of the program itself stays small.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn bytes_passed(number: u64, registers: u64, result: u64) -> u64 {
    let call = &Returning::read(number, registers);
    let mut socket = socket_of(call.first);
    let mut direction = if receives(number) {
        direction::INGRESS
    } else {
        direction::EGRESS
    };
    if number == syscall::SPLICE {
        // One end is a pipe. Out of the socket, or into the one named third.
        direction = direction::INGRESS;
        if socket == 0 {
            socket = socket_of(call.third);
            direction = direction::EGRESS;
        }
    }
    if socket == 0 || peeks(call) {
        return 0;
    }
    if result == 0 {
        let asked = match number {
            syscall::READ | syscall::RECVFROM => call.third != 0,
            _ => true,
        };
        if direction == direction::INGRESS && asked {
            lifecycle::received_end(program::RECEIVE, socket);
        }
        return 0;
    }
    let call = Call {
        socket,
        direction,
        len: result as u32,
        buffer: caller::buffer(number, call.second, call.third, result),
    };
    observe(program::RECEIVE, &call);
    0
}

#[inline(always)]
fn peeks(call: &Returning) -> bool {
    let flags = match call.number {
        syscall::RECVMSG => call.third,
        syscall::RECVFROM => read(call.registers, register::R10),
        _ => 0,
    };
    flags & MSG_PEEK != 0
}

/// The socket that a descriptor of the current process stands for, 0 if it is none.
///
/// What kind of file it is, is told by the pointers back: from the socket to its file, and from the protocol's
/// part to the socket.
#[inline(always)]
fn socket_of(descriptor: u64) -> u64 {
    let files: u64 = read(kernel::task(), layout!(task_files));
    let table: u64 = read(files, layout!(files_fdt));
    let slots: u64 = read(table, layout!(fdtable_fd));
    let file: u64 = read(slots + (descriptor & 0xffff_ffff) * 8, 0);
    let socket: u64 = read(file, layout!(file_private));
    if socket == 0 || read::<u64>(socket, layout!(socket_file)) != file {
        return 0;
    }
    let protocol: u64 = read(socket, layout!(socket_sk));
    if read::<u64>(protocol, layout!(sock_socket)) != socket {
        return 0;
    }
    protocol
}

/// A sendmmsg or recvmmsg returns how many messages it moved: they are taken one by one.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn messages_passed(number: u64, registers: u64, result: u64) -> u64 {
    let [array, descriptor]: [u64; 2] = read(registers, register::SI);
    let socket = socket_of(descriptor);
    // Batches of datagrams are common, and nothing here is for them.
    if !kernel::is_stream(socket) {
        return 0;
    }
    let mut direction = u64::from(direction::EGRESS);
    if number == syscall::RECVMMSG {
        direction = u64::from(direction::INGRESS);
        if read::<u64>(registers, register::R10) & MSG_PEEK != 0 {
            return 0;
        }
    }
    if passed_over(socket, direction) != 0 {
        return 0;
    }
    let count = result as u32;
    let mut behind = 0;
    let mut index = 0;
    while index < BATCH_MESSAGES && index < count {
        behind += message_len(array, index);
        index += 1;
    }
    let mut len = 1;
    let mut index = 0;
    while index < BATCH_MESSAGES && index < count && len != 0 {
        len = message_len(array, index);
        behind -= len;
        let header = array + u64::from(index) * MMSGHDR_BYTES;
        take_message(socket, header, len << 8 | direction, behind);
        index += 1;
    }
    // A receive of nothing is the end of the stream.
    if len == 0 && direction == u64::from(direction::INGRESS) {
        lifecycle::received_end(program::RECEIVE, socket);
    } else if count > BATCH_MESSAGES {
        counters::add(Counter::MessagesCut, u64::from(count - BATCH_MESSAGES));
    }
    0
}

#[inline(always)]
fn message_len(array: u64, index: u32) -> u64 {
    let len: u32 = caller::user(array + u64::from(index) * MMSGHDR_BYTES + MMSGHDR_LEN);
    u64::from(len)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn passed_over(socket: u64, direction: u64) -> u64 {
    u64::from(passes_over(socket, direction as u8))
}

/// One message. `moved` is the length, and the direction in its lowest byte.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn take_message(socket: u64, header: u64, moved: u64, behind: u64) -> u64 {
    if moved >> 8 == 0 {
        return 0;
    }
    let [pieces, count]: [u64; 2] = caller::user(header + MSGHDR_IOV);
    let mut buffer = Buffer::pieces(pieces, count, false);
    // Not zero: the compiler would make a call of clearing two words.
    buffer.base = 1;
    buffer.behind = behind;
    let call = Call {
        socket,
        direction: moved as u8,
        len: (moved >> 8) as u32,
        buffer,
    };
    look(program::RECEIVE, &call);
    0
}

/// 32-bit programs pass their arguments otherwise, and in structures of their own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn count_compat(number: u64, registers: u64, result: u64) -> u64 {
    let direct = match number {
        compat::READ | compat::WRITE | compat::READV | compat::WRITEV => true,
        compat::RECVMMSG | compat::SENDMMSG | compat::SENDTO..=compat::RECVMSG => true,
        _ => false,
    };
    if result == 0 || !(direct || number == compat::SOCKETCALL) {
        return 0;
    }
    let first: u64 = read(registers, register::BX);
    let on_socket = if direct {
        socket_of(first) != 0
    } else {
        first >= compat::SYS_SEND
    };
    if on_socket {
        counters::add(Counter::CompatCalls, 1);
    }
    0
}
