//! Who is watched: the agent's decision about a process, a server port and a role.

use kerntally_abi::{FilterKey, decision, family, role};

use crate::{kernel, maps::FILTER};

/// Whether the socket's exchanges are not to be tallied; what is undecided is tallied.
#[inline(always)]
pub fn excludes(port: u16, side: u8, tgid: u32) -> bool {
    let key = FilterKey {
        tgid,
        port,
        role: side,
        reserved: 0,
    };
    match FILTER.get_ptr(&key) {
        // SAFETY: the pointer is to a live element of the map.
        Some(found) => unsafe { *found == decision::EXCLUDE },
        None => false,
    }
}

/// The server's port, on either side of a connection; 0 on Unix sockets.
#[inline(always)]
pub fn server_port(socket: u64, address_family: u8, side: u8) -> u16 {
    if address_family == family::UNIX {
        0
    } else if side == role::SERVER {
        kernel::local_port(socket)
    } else {
        kernel::remote_port(socket)
    }
}
