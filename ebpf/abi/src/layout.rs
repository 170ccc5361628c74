//! What the loader tells the BPF programs: where kernel structures keep their fields, and switches.

use core::mem::size_of;

/// Values of [`Layout::iov_ubuf`] and its neighbours where a kernel lacks the kind.
pub mod iov {
    /// No iterator has this kind.
    pub const ABSENT: u32 = u32::MAX;
}

/// Offsets in bytes and enum values of the running kernel, read from its BTF.
///
/// Frozen before the programs load, so that the verifier takes every field as a constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// `sock_common.skc_daddr`
    pub sock_daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub sock_saddr: u32,
    /// `sock_common.skc_dport`, network order
    pub sock_dport: u32,
    /// `sock_common.skc_num`, host order
    pub sock_num: u32,
    /// `sock_common.skc_family`
    pub sock_family: u32,
    /// `sock_common.skc_v6_daddr`
    pub sock_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub sock_v6_saddr: u32,
    /// `sock.sk_type`
    pub sock_type: u32,
    /// `sock.sk_protocol`
    pub sock_protocol: u32,
    /// `sock.sk_shutdown`
    pub sock_shutdown: u32,
    /// `sock.sk_err`
    pub sock_err: u32,
    /// `sock.sk_socket`
    pub sock_socket: u32,
    /// From a `struct socket` to its inode's number: `socket_alloc.vfs_inode` + `inode.i_ino`
    pub socket_ino: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `tcp_sock.copied_seq`
    pub tcp_copied_seq: u32,
    /// `tcp_sock.write_seq`
    pub tcp_write_seq: u32,
    /// `inet_connection_sock.icsk_ulp_ops`
    pub icsk_ulp_ops: u32,
    /// `unix_sock.peer`, or 0 if the kernel's types have no Unix sockets
    pub unix_peer: u32,
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_address.len`
    pub unix_addr_len: u32,
    /// `unix_address.name` + `sockaddr_un.sun_path`
    pub unix_addr_path: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.group_leader`
    pub task_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `msghdr.msg_iter`
    pub msg_iter: u32,
    /// `iov_iter.type` or `iter_type`
    pub iter_type: u32,
    /// Bits of that field that hold the kind: all of a byte, or a mask of the older bit set
    pub iter_type_mask: u32,
    /// `iov_iter.iov_offset`
    pub iter_offset: u32,
    /// `iov_iter.iov` or `__iov`
    pub iter_iov: u32,
    /// `iov_iter.ubuf`
    pub iter_ubuf: u32,
    /// Value of the kind `ITER_UBUF`, or [`iov::ABSENT`]
    pub iov_ubuf: u32,
    /// Value of the kind `ITER_IOVEC`
    pub iov_iovec: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.fd`
    pub fdtable_fd: u32,
    /// `file.private_data`
    pub file_private: u32,
    /// `socket.file`
    pub socket_file: u32,
    /// Thread group of the agent
    pub own_tgid: u32,
    /// Bytes of a head that are kept
    pub head_bytes: u32,
    /// 1 if the pool of heads is so large that each CPU may keep a free slot
    pub spare_heads: u32,
    /// 1 if tracepoints take what the kernel skips of programs after functions
    pub witnessed: u32,
    /// Version of the contract the loader was built against
    pub abi_version: u32,
}

/// Switches that change while the programs run: the only entry of their map.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Control {
    /// When the hooks were attached, in nanoseconds of `CLOCK_MONOTONIC`.
    pub attached_ns: u64,
    /// 1 while exchanges are tallied.
    pub enabled: u32,
    /// Counts attachments: what an earlier one remembered is void.
    pub attachment: u32,
    /// Counts changes of the filter.
    pub filter_generation: u32,
    /// What wakes a reader that has no timer running: bits of [`resting`].
    pub resting: u32,
}

/// Bits of [`Control::resting`].
pub mod resting {
    /// The first record does.
    pub const RECORDS: u32 = 1;
    /// So does the first call on a Unix socket that speaks HTTP, whose end only a look at it may show.
    pub const UNIX: u32 = 2;
}

const _: () = assert!(size_of::<Layout>() == 43 * 4);
const _: () = assert!(size_of::<Control>() == 24);
