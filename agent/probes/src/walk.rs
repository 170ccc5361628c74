//! Whole tables of the BPF programs. In: a map and the program that writes its entries. Out: the entries, one by one.
//!
//! Through an iterator (`bpf_map_elem`, kernel 5.9), which reads hundreds of entries with a system call; while
//! the map commands of bpf(2) read one, the kernel skips some programs.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// `bpf(2)` commands (`include/uapi/linux/bpf.h`)
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
/// `enum bpf_attach_type`
const BPF_TRACE_ITER: u32 = 28;
/// `union bpf_iter_link_info`, as far as it is about maps.
const INFO_BYTES: u32 = 4;

/// What the kernel fills for one read: eight pages (`bpf_iter_prepare_seq`, `kernel/bpf/bpf_iter.c`).
const CHUNK: usize = 32 * 1024;

/// The `link_create` member of `union bpf_attr`.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_len: u32,
    reserved: u32,
}

/// The `iter_create` member of `union bpf_attr`.
#[repr(C)]
struct IteratorAttributes {
    link: u32,
    flags: u32,
}

/// Hands every entry of `map` to `sink`, as `program` writes it: key and value side by side, `entry` bytes in
/// all. An entry that comes or goes meanwhile may be shown or not.
pub(crate) fn walk(
    program: BorrowedFd<'_>,
    map: BorrowedFd<'_>,
    entry: usize,
    mut sink: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut file = open(program, map)?;
    let mut buffer = vec![0; CHUNK];
    let mut held = 0;
    loop {
        let read = match file.read(&mut buffer[held..]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            // Nothing to show among very many entries: the kernel wants to be asked again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        held += read;
        let whole = held - held % entry;
        buffer[..whole].chunks_exact(entry).for_each(&mut sink);
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

fn open(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<File> {
    // `union bpf_iter_link_info`
    let info = map.as_raw_fd().cast_unsigned();
    let mut attributes = LinkAttributes {
        program: program.as_raw_fd().cast_unsigned(),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        info: &raw const info as u64,
        info_len: INFO_BYTES,
        reserved: 0,
    };
    let link = bpf(BPF_LINK_CREATE, &mut attributes)?;
    let mut attributes = IteratorAttributes {
        link: link.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(BPF_ITER_CREATE, &mut attributes).map(File::from)
}

/// A command that returns a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: callers pass the attributes of the command, as the kernel defines them.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = RawFd::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
