//! The kernel's structure layout as the BPF programs need it.

use kerntally_abi::{Layout, iov};

use crate::{
    btf::{Btf, BtfError},
    options::Options,
};

/// Old iterators mix their direction into the type's lowest bit.
const OLD_ITER_MASK: u32 = 0xfe;

/// Whether the tables of this kernel can allocate on demand from any context: its own allocator for BPF
/// (6.1) shows in its types.
pub(crate) fn is_modern(btf: &Btf<'_>) -> bool {
    btf.has_struct("bpf_mem_alloc")
}

/// Whether links to raw tracepoints have cookies (6.10).
pub(crate) fn has_raw_cookies(btf: &Btf<'_>) -> bool {
    btf.offset("bpf_raw_tp_link.cookie").is_ok()
}

/// Whether the trace events have their fields where the programs read them.
pub(crate) fn has_trace_events(btf: &Btf<'_>) -> bool {
    let as_expected =
        |(path, offset): &(&str, u32)| btf.offset(path).is_ok_and(|found| found == *offset);
    kerntally_abi::trace_event::FIELDS.iter().all(as_expected)
}

/// Reads every offset and value.
pub(crate) fn read(btf: &Btf<'_>, options: &Options) -> Result<Layout, BtfError> {
    let at = |path: &str| btf.offset(path);
    let either = |new: &str, old: &str| at(new).or_else(|_absent| at(old));
    let old_iter = at("iov_iter.iter_type").is_err();
    let ubuf = btf.value("ITER_UBUF");
    adjacent(&at)?;
    // Unix sockets may be a module: then their types are elsewhere, and their peers have no names.
    let has_unix = ["unix_sock.peer", "unix_sock.addr", "unix_address.len"]
        .iter()
        .all(|path| at(path).is_ok());
    let of_unix = |path: &str| at(path).ok().filter(|_| has_unix).unwrap_or_default();
    Ok(Layout {
        sock_daddr: at("sock_common.skc_daddr")?,
        sock_saddr: at("sock_common.skc_rcv_saddr")?,
        sock_dport: at("sock_common.skc_dport")?,
        sock_num: at("sock_common.skc_num")?,
        sock_family: at("sock_common.skc_family")?,
        sock_v6_daddr: at("sock_common.skc_v6_daddr")?,
        sock_v6_saddr: at("sock_common.skc_v6_rcv_saddr")?,
        sock_type: at("sock.sk_type")?,
        sock_protocol: at("sock.sk_protocol")?,
        sock_shutdown: at("sock.sk_shutdown")?,
        sock_err: at("sock.sk_err")?,
        sock_socket: at("sock.sk_socket")?,
        socket_ino: (at("socket_alloc.vfs_inode")? + at("inode.i_ino")?)
            .wrapping_sub(at("socket_alloc.socket")?),
        socket_sk: at("socket.sk")?,
        tcp_copied_seq: at("tcp_sock.copied_seq")?,
        tcp_write_seq: at("tcp_sock.write_seq")?,
        icsk_ulp_ops: at("inet_connection_sock.icsk_ulp_ops")?,
        unix_peer: of_unix("unix_sock.peer"),
        unix_addr: of_unix("unix_sock.addr"),
        unix_addr_len: of_unix("unix_address.len"),
        unix_addr_path: of_unix("unix_address.name") + of_unix("sockaddr_un.sun_path"),
        task_flags: at("task_struct.flags")?,
        task_leader: at("task_struct.group_leader")?,
        task_start: either("task_struct.start_boottime", "task_struct.real_start_time")?,
        task_comm: at("task_struct.comm")?,
        msg_iter: at("msghdr.msg_iter")?,
        iter_type: either("iov_iter.iter_type", "iov_iter.type")?,
        iter_type_mask: if old_iter { OLD_ITER_MASK } else { 0xff },
        iter_offset: at("iov_iter.iov_offset")?,
        iter_iov: either("iov_iter.__iov", "iov_iter.iov")?,
        iter_ubuf: if ubuf.is_ok() {
            at("iov_iter.ubuf")?
        } else {
            0
        },
        iov_ubuf: ubuf.map_or(iov::ABSENT, |value| {
            u32::try_from(value).unwrap_or(iov::ABSENT)
        }),
        iov_iovec: u32::try_from(btf.value("ITER_IOVEC")?).unwrap_or(iov::ABSENT),
        task_files: at("task_struct.files")?,
        files_fdt: at("files_struct.fdt")?,
        fdtable_fd: at("fdtable.fd")?,
        file_private: at("file.private_data")?,
        socket_file: at("socket.file")?,
        own_tgid: options.own_tgid,
        head_bytes: options.head_bytes,
        spare_heads: u32::from(spare_heads(options.head_slots)),
        witnessed: 0,
        abi_version: kerntally_abi::ABI_VERSION,
    })
}

/// Whether each CPU may keep one free slot to itself: at most a sixteenth of the pool.
fn spare_heads(slots: u32) -> bool {
    aya::util::nr_cpus().is_ok_and(|cpus| cpus <= slots as usize / 16)
}

/// The programs read both ends of a connection at once: `skc_addrpair` and `skc_portpair` have lain side by
/// side in every kernel so far (`include/net/sock.h`).
fn adjacent(at: &impl Fn(&'static str) -> Result<u32, BtfError>) -> Result<(), BtfError> {
    let remote = at("sock_common.skc_daddr")?;
    for (field, offset) in [
        ("sock_common.skc_rcv_saddr", 4),
        ("sock_common.skc_dport", 12),
        ("sock_common.skc_num", 14),
    ] {
        if at(field)? != remote + offset {
            return Err(BtfError::Unexpected(field));
        }
    }
    Ok(())
}
