//! What the registers of a system call tell, x86-64: which call it is, and where its caller's bytes lie.

use aya_ebpf::helpers::generated;

use crate::{buffer::Buffer, kernel::Plain};

/// `MSG_PEEK` (`include/linux/socket.h`)
pub const MSG_PEEK: u64 = 2;
/// Code segment of 32-bit user programs (`__USER32_CS`, `arch/x86/include/asm/segment.h`).
pub const USER32_CS: u64 = 0x23;

/// System calls that move bytes (`arch/x86/entry/syscalls/syscall_64.tbl`).
pub mod syscall {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDFILE: u64 = 40;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const SPLICE: u64 = 275;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
}

/// `user_msghdr.msg_iov`, with `msg_iovlen` behind it (`include/linux/socket.h`).
pub const MSGHDR_IOV: u64 = 16;
/// `struct mmsghdr`: a message header and the length that came out, padded.
pub const MMSGHDR_BYTES: u64 = 64;
/// `mmsghdr.msg_len`
pub const MMSGHDR_LEN: u64 = 56;

/// The buffer of call `number` with these arguments, of which `len` bytes passed; unknown where the arguments
/// do not tell.
#[inline(always)]
pub fn buffer(number: u64, second: u64, third: u64, len: u64) -> Buffer {
    match number {
        syscall::READ | syscall::WRITE | syscall::SENDTO | syscall::RECVFROM => {
            Buffer::single(second, len)
        }
        syscall::READV | syscall::WRITEV | syscall::PREADV2 | syscall::PWRITEV2 => {
            Buffer::pieces(second, third, false)
        }
        syscall::SENDMSG | syscall::RECVMSG => message(second),
        _ => Buffer::UNKNOWN,
    }
}

/// The pieces of a `struct user_msghdr`.
#[inline(always)]
pub fn message(header: u64) -> Buffer {
    let [pieces, count]: [u64; 2] = user(header + MSGHDR_IOV);
    if pieces == 0 || count == 0 {
        return Buffer::UNKNOWN;
    }
    Buffer::pieces(pieces, count, false)
}

/// Reads a `T` from user memory; zeroes where it cannot be read.
#[inline(always)]
pub fn user<T: Plain>(address: u64) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let target = value.as_mut_ptr().cast();
    // SAFETY: the helper checks the source, and writes the whole value: zeroes where it fails.
    unsafe {
        generated::bpf_probe_read_user(target, size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}
