//! What aya does not have: `BPF_PROG_RUN`, which runs a loaded raw tracepoint program once, now; links to raw
//! tracepoints with a cookie; and how many runs of a program the kernel has skipped.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::bpf_prog_info;

/// `bpf(2)` command (`include/uapi/linux/bpf.h`).
const BPF_PROG_RUN: libc::c_int = 10;

/// `bpf(2)` command
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// `bpf(2)` command
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;

/// The `raw_tracepoint` member of `union bpf_attr`, with the cookie that kernel 6.10 added (68ca5d4eebb8, "bpf: support
/// BPF cookie in raw tracepoint (`raw_tp`, `tp_btf`) programs").
#[repr(C)]
struct RawTracepointAttributes {
    name: u64,
    program: u32,
    reserved: u32,
    cookie: u64,
}

/// The `info` member of `union bpf_attr`.
#[repr(C)]
struct InfoAttributes {
    program: u32,
    info_size: u32,
    info: u64,
}

/// The `test` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// Runs `program` with up to twelve arguments; returns what it returned. Needs kernel 5.10.
pub(crate) fn run(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<u32> {
    let mut attributes = Attributes {
        program: program.as_raw_fd().cast_unsigned(),
        context_size_in: u32::try_from(size_of_val(arguments)).unwrap_or(0),
        context_in: arguments.as_ptr() as u64,
        ..Attributes::default()
    };
    // SAFETY: the attributes are as the kernel defines them, and the arguments outlive the call.
    unsafe { bpf(BPF_PROG_RUN, &mut attributes) }?;
    Ok(attributes.result)
}

/// Attaches `program` to a raw tracepoint for as long as the link lives; it finds `cookie` with
/// `bpf_get_attach_cookie`. Needs kernel 6.10.
pub(crate) fn attach_raw_tracepoint(
    program: BorrowedFd<'_>,
    name: &str,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let mut attributes = RawTracepointAttributes {
        name: name.as_ptr() as u64,
        program: program.as_raw_fd().cast_unsigned(),
        reserved: 0,
        cookie,
    };
    // SAFETY: the attributes are as the kernel defines them, and the name outlives the call.
    let link = unsafe { bpf(BPF_RAW_TRACEPOINT_OPEN, &mut attributes) }?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Runs of `program` that the kernel skipped since it was loaded; 0 on kernels that do not count them (before
/// 5.12).
pub(crate) fn skipped(program: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: integers and arrays of integers, of which zeroes are a value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attributes = InfoAttributes {
        program: program.as_raw_fd().cast_unsigned(),
        info_size: u32::try_from(size_of::<bpf_prog_info>()).unwrap_or(0),
        info: &raw mut info as u64,
    };
    // SAFETY: the attributes are as the kernel defines them, and `info` is as long as they say.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info.recursion_misses)
}

/// Gives the kernel a command, and returns its answer: a descriptor, or nothing that matters.
///
/// # Safety
///
/// The attributes must be as the kernel defines them for this command, and what they point to as they say.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<i32> {
    let attributes = &raw mut *attributes;
    // SAFETY: the caller vouches for the attributes, whose length is told.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<A>()) };
    match i32::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}
