//! Sockets that are not looked at: a lossy cache in front of the connection table.

use kerntally_abi::{family, limits::NEGATIVE_ENTRIES};

use crate::{
    kernel,
    maps::{NEGATIVE, Negative},
};

/// Why a socket is not looked at.
pub mod kind {
    /// It did not look like HTTP; changes of direction give it further chances.
    pub const UNKNOWN: u8 = 1;
    /// It speaks something this version never looks at, or is no stream.
    pub const FINAL: u8 = 2;
    /// A filter excludes it, until the filter changes.
    pub const EXCLUDED: u8 = 3;
}

/// Changes of direction after which every 64th is looked at; before, every power of two.
const EVERY: u16 = 64;

/// A multiplier that spreads addresses, whose low bits are all alike, over the upper bits (2^64 / phi).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn cell(socket: u64) -> Option<*mut Negative> {
    const _: () = assert!(NEGATIVE_ENTRIES.is_power_of_two());
    let index = (socket.wrapping_mul(SPREAD) >> 40) as u32 & (NEGATIVE_ENTRIES - 1);
    NEGATIVE.get_ptr_mut(index)
}

/// Whether a call on the socket can be passed over.
#[inline(always)]
pub fn passes(socket: u64, direction: u8, attachment: u32, generation: u32) -> bool {
    let Some(cell) = cell(socket) else {
        return false;
    };
    // SAFETY: the pointer is to a live element of the map; two programs may race for it, and then either
    // a look too many is taken or one too few.
    unsafe {
        if (*cell).socket != socket || (*cell).attachment != attachment {
            return false;
        }
        if (*cell).family == family::UNIX && kernel::inode(socket) as u32 != (*cell).inode {
            (*cell).socket = 0;
            return false;
        }
        if (*cell).kind == kind::FINAL {
            return true;
        }
        if (*cell).kind == kind::EXCLUDED {
            return (*cell).generation == generation;
        }
        if (*cell).direction == direction {
            return true;
        }
        (*cell).direction = direction;
        let changes = (*cell).changes.wrapping_add(1);
        (*cell).changes = changes;
        !(changes & changes.wrapping_sub(1) == 0 || changes % EVERY == 0)
    }
}

/// Whether a call on the socket has been passed over since the hooks were attached.
#[inline(always)]
pub fn knows(socket: u64, attachment: u32) -> bool {
    let Some(cell) = cell(socket) else {
        return false;
    };
    // SAFETY: the pointer is to a live element of the map; `passes` has forgotten a Unix socket's successor.
    unsafe { (*cell).socket == socket && (*cell).attachment == attachment }
}

/// Remembers that the socket is not to be looked at.
#[inline(always)]
pub fn remember(
    socket: u64,
    address_family: u8,
    direction: u8,
    attachment: u32,
    generation: u32,
    kind: u8,
) -> bool {
    let Some(cell) = cell(socket) else {
        return false;
    };
    // SAFETY: the pointer is to a live element of the map.
    unsafe {
        if (*cell).socket == socket && (*cell).attachment == attachment {
            let known = (*cell).kind;
            (*cell).kind = kind;
            (*cell).generation = generation;
            return known != kind;
        }
        (*cell).socket = socket;
        (*cell).inode = if address_family == family::UNIX {
            kernel::inode(socket) as u32
        } else {
            0
        };
        (*cell).attachment = attachment;
        (*cell).generation = generation;
        (*cell).changes = 0;
        (*cell).direction = direction;
        (*cell).kind = kind;
        (*cell).family = address_family;
    }
    true
}

/// Forgets the socket: it is new, or has become interesting.
#[inline(always)]
pub fn forget(socket: u64) {
    let Some(cell) = cell(socket) else { return };
    // SAFETY: the pointer is to a live element of the map.
    unsafe {
        if (*cell).socket == socket {
            (*cell).socket = 0;
        }
    }
}
