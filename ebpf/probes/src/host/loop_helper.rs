//! Steps by `bpf_loop` (kernel 5.17): the verifier walks a step once, not once for each time it may be taken.

use aya_ebpf::helpers::generated;
use kerntally_machine::{Connection, Host as _, MAX_STEPS_LOOPED, close_step, step};

use super::Kernel;
use crate::maps::Scratch;

/// What the loop helper hands to each step.
#[repr(C)]
struct Drive {
    connection: *mut Connection,
    scratch: *mut Scratch,
    socket: u64,
    done: u64,
    program: u64,
}

type Callback = extern "C" fn(u64, *mut Drive) -> u64;

/// Takes steps until one says that it was the last; false when there were more to take.
#[inline(always)]
pub(super) fn steps(host: &Kernel, connection: *mut Connection) -> bool {
    repeat(host, connection, MAX_STEPS_LOOPED, next_step)
}

/// Takes steps of ending a connection.
#[inline(always)]
pub(super) fn close_steps(host: &Kernel, connection: *mut Connection) {
    repeat(host, connection, Kernel::CLOSE_STEPS, next_close_step);
}

#[inline(always)]
fn repeat(host: &Kernel, connection: *mut Connection, times: u32, callback: Callback) -> bool {
    let mut drive = Drive {
        connection,
        scratch: host.scratch,
        socket: host.socket,
        done: 0,
        program: u64::from(host.program),
    };
    // SAFETY: the helper calls `callback` with `drive`, on this stack, and returns before it goes.
    unsafe {
        generated::bpf_loop(times, callback as *mut _, (&raw mut drive).cast(), 0);
    }
    drive.done != 0
}

impl Drive {
    #[inline(always)]
    fn host(&self) -> Kernel {
        Kernel {
            socket: self.socket,
            scratch: self.scratch,
            program: self.program as u32,
        }
    }
}

#[inline(never)]
extern "C" fn next_step(_index: u64, drive: *mut Drive) -> u64 {
    // SAFETY: see `repeat`; the pointers in it are to live map values.
    unsafe {
        let drive = &mut *drive;
        let mut host = drive.host();
        let work = &mut (*drive.scratch).work;
        if step(&mut *drive.connection, work, &mut host) {
            return 0;
        }
        drive.done = 1;
    }
    1
}

#[inline(never)]
extern "C" fn next_close_step(_index: u64, drive: *mut Drive) -> u64 {
    // SAFETY: see `repeat`; the pointers in it are to live map values.
    unsafe {
        let drive = &mut *drive;
        let mut host = drive.host();
        let work = &mut (*drive.scratch).work;
        u64::from(!close_step(&mut *drive.connection, work, &mut host))
    }
}
