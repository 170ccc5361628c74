//! `BPF_PROG_RUN`, which aya does not have: runs a loaded raw tracepoint program once, now.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `bpf(2)` command (`include/uapi/linux/bpf.h`).
const BPF_PROG_RUN: libc::c_int = 10;

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
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_RUN,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(attributes.result)
    }
}
