//! Reads of kernel structures, at offsets the loader took from the kernel's BTF.

use aya_ebpf::helpers::generated;
use kerntally_abi::Layout;

/// Offsets and constants, frozen before load. Never read but through [`layout!`].
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout {
    sock_daddr: 0,
    sock_saddr: 0,
    sock_dport: 0,
    sock_num: 0,
    sock_family: 0,
    sock_v6_daddr: 0,
    sock_v6_saddr: 0,
    sock_type: 0,
    sock_protocol: 0,
    sock_shutdown: 0,
    sock_err: 0,
    sock_socket: 0,
    socket_ino: 0,
    socket_sk: 0,
    tcp_copied_seq: 0,
    tcp_write_seq: 0,
    icsk_ulp_ops: 0,
    unix_peer: 0,
    unix_addr: 0,
    unix_addr_len: 0,
    unix_addr_path: 0,
    task_flags: 0,
    task_leader: 0,
    task_start: 0,
    task_comm: 0,
    msg_iter: 0,
    iter_type: 0,
    iter_type_mask: 0,
    iter_offset: 0,
    iter_iov: 0,
    iter_ubuf: 0,
    iov_ubuf: 0,
    iov_iovec: 0,
    task_files: 0,
    files_fdt: 0,
    fdtable_fd: 0,
    file_private: 0,
    socket_file: 0,
    own_tgid: 0,
    head_bytes: 0,
    spare_heads: 0,
    witnessed: 0,
    abi_version: kerntally_abi::ABI_VERSION,
};

/// A field of [`LAYOUT`], as the verifier's constant.
macro_rules! layout {
    ($field:ident) => {
        // SAFETY: a static's field is always readable; volatile, because the loader writes what the
        // compiler believes to be zero.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::LAYOUT.$field) }
    };
}
pub(crate) use layout;

/// `type` of stream sockets (`include/linux/net.h`).
const SOCK_STREAM: u16 = 1;
/// `IPPROTO_TCP`
const IPPROTO_TCP: u16 = 6;
/// `PF_EXITING` (`include/linux/sched.h`)
const PF_EXITING: u32 = 4;

/// A type of which zeroes, and any other bits, are a value.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for i32 {}
impl Plain for u64 {}
impl Plain for [u64; 2] {}
impl Plain for [u64; 3] {}

/// Reads a `T` at `offset` from a kernel address; zeroes where it cannot be read.
///
/// No `Option`: the payload of a `None` is undefined, the compiler keeps it all the same, and verifiers
/// before 6.3 refuse to see it read.
#[inline(always)]
pub fn read<T: Plain>(base: u64, offset: u32) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let target = value.as_mut_ptr().cast();
    // SAFETY: the helper checks the address, and writes the whole value: zeroes where it fails.
    unsafe {
        generated::bpf_probe_read_kernel(
            target,
            size_of::<T>() as u32,
            (base + u64::from(offset)) as *const _,
        );
        value.assume_init()
    }
}

/// Address family of a socket.
#[inline(always)]
pub fn family(socket: u64) -> u16 {
    read(socket, layout!(sock_family))
}

/// Whether it is a stream socket.
#[inline(always)]
pub fn is_stream(socket: u64) -> bool {
    read::<u16>(socket, layout!(sock_type)) == SOCK_STREAM
}

/// Whether the socket's own byte positions are those of the caller's bytes: plain TCP, no kernel TLS.
#[inline(always)]
pub fn is_positioned(socket: u64) -> bool {
    read::<u16>(socket, layout!(sock_protocol)) == IPPROTO_TCP
        && read::<u64>(socket, layout!(icsk_ulp_ops)) == 0
}

/// IPv4 addresses and ports of both ends, as they lie: within 16 bytes of each other, the loader has made sure.
#[inline(always)]
pub fn ends(socket: u64) -> [u64; 2] {
    read(socket, layout!(sock_daddr))
}

/// Bytes received from the socket so far, modulo 2^32.
#[inline(always)]
pub fn received_position(socket: u64) -> u32 {
    read(socket, layout!(tcp_copied_seq))
}

/// Bytes sent to the socket so far, modulo 2^32.
#[inline(always)]
pub fn sent_position(socket: u64) -> u32 {
    read(socket, layout!(tcp_write_seq))
}

/// Inode number of the socket, 0 once it has lost its file.
#[inline(always)]
pub fn inode(socket: u64) -> u64 {
    let file: u64 = read(socket, layout!(sock_socket));
    if file == 0 {
        return 0;
    }
    read(file, layout!(socket_ino))
}

/// Bit of `sk_shutdown`: no more is to come (`include/net/sock.h`).
pub const RCV_SHUTDOWN: u8 = 1;

/// `sk_shutdown`
#[inline(always)]
pub fn shutdown(socket: u64) -> u8 {
    read(socket, layout!(sock_shutdown))
}

/// `sk_err`
#[inline(always)]
pub fn error(socket: u64) -> i32 {
    read(socket, layout!(sock_err))
}

/// Local port, host order.
#[inline(always)]
pub fn local_port(socket: u64) -> u16 {
    read(socket, layout!(sock_num))
}

/// Remote port, host order.
#[inline(always)]
pub fn remote_port(socket: u64) -> u16 {
    u16::from_be(read(socket, layout!(sock_dport)))
}

/// Where the name lies that the peer of a Unix socket is bound to, and its length; zeroes if it has none.
#[inline(always)]
pub fn peer_name(socket: u64) -> (u64, u32) {
    let peer: u64 = read(socket, layout!(unix_peer));
    if layout!(unix_peer) == 0 || peer == 0 {
        return (0, 0);
    }
    let address: u64 = read(peer, layout!(unix_addr));
    if address == 0 {
        return (0, 0);
    }
    // The family's two bytes are counted too.
    let len = read::<u32>(address, layout!(unix_addr_len)).saturating_sub(2);
    (address + u64::from(layout!(unix_addr_path)), len)
}

/// The current task.
#[inline(always)]
pub fn task() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { generated::bpf_get_current_task() }
}

/// Whether the current task is exiting.
#[inline(always)]
pub fn exiting() -> bool {
    read::<u32>(task(), layout!(task_flags)) & PF_EXITING != 0
}

/// Start of a task's thread group, nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn group_start(task: u64) -> u64 {
    let leader: u64 = read(task, layout!(task_leader));
    if leader == 0 {
        return 0;
    }
    read(leader, layout!(task_start))
}

/// Copies the name of a task's thread group leader.
#[inline(always)]
pub fn group_name(task: u64, into: *mut [u8; 16]) {
    let leader: u64 = read(task, layout!(task_leader));
    let from = leader + u64::from(layout!(task_comm));
    // SAFETY: callers pass 16 bytes of their own; the helper checks the source.
    unsafe { generated::bpf_probe_read_kernel(into.cast(), 16, from as *const _) };
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes no arguments.
    unsafe { generated::bpf_ktime_get_ns() }
}

/// Thread group and thread of the current task.
#[inline(always)]
pub fn caller() -> (u32, u32) {
    let both = aya_ebpf::helpers::bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// `value & mask`, in a form that the compiler cannot prove redundant and drop: the verifier needs to see
/// it. `mask` must be one less than a power of two.
#[inline(always)]
pub fn bounded(value: u32, mask: u32) -> u32 {
    let mut bounded = u64::from(value);
    // SAFETY: pure arithmetic on a register.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) bounded, in(reg) u64::from(mask), options(pure, nomem, nostack));
    }
    bounded as u32
}
