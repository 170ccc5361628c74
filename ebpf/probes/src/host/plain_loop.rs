//! Steps in a loop that the verifier walks. Each is a global function, which it verifies once and on its own (kernel
//! 5.6), whatever calls it how often; the price is that a step gets numbers only (pointers need 5.13) and finds its
//! memory again.

use kerntally_machine::{Connection, Host as _, MAX_STEPS, Work, close_step, step};

use super::Kernel;
use crate::maps::{CONNECTIONS, SCRATCH};

/// What a step answers.
const MORE: u64 = 0;

/// See the other module of this name.
#[inline(always)]
pub(super) fn steps(host: &Kernel, _connection: *mut Connection) -> bool {
    let mut taken = 0;
    while taken < MAX_STEPS {
        if next_step(u64::from(host.program), host.socket) != MORE {
            return true;
        }
        taken += 1;
    }
    false
}

/// See the other module of this name.
#[inline(always)]
pub(super) fn close_steps(host: &Kernel, _connection: *mut Connection) {
    let mut taken = 0;
    while taken < Kernel::CLOSE_STEPS {
        if next_close_step(u64::from(host.program), host.socket) != MORE {
            return;
        }
        taken += 1;
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn next_step(program: u64, socket: u64) -> u64 {
    take(program, socket, step)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn next_close_step(program: u64, socket: u64) -> u64 {
    take(program, socket, close_step)
}

/// Takes one step, with the memory of the calling program and the socket's entry found again.
#[inline(always)]
fn take(
    program: u64,
    socket: u64,
    step: impl FnOnce(&mut Connection, &mut Work, &mut Kernel) -> bool,
) -> u64 {
    let (Some(scratch), Some(connection)) = (
        SCRATCH.get_ptr_mut(program as u32),
        CONNECTIONS.get_ptr_mut(&socket),
    ) else {
        return 1;
    };
    let mut host = Kernel {
        socket,
        scratch,
        program: program as u32,
    };
    // SAFETY: both point to live map values; the scratch memory is the calling program's own.
    unsafe { u64::from(!step(&mut *connection, &mut (*scratch).work, &mut host)) }
}
