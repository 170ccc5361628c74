//! The pass over a head: a global function, which the verifier looks at once and on its own. Its loop is a plain
//! one, whose rounds cost less than calls do.

use kerntally_abi::limits::HEAD_BYTES;
use kerntally_machine::scan_head;

use super::Kernel;
use crate::maps::{HeadSlot, SCRATCH, head_slot};

const _: () = assert!(core::mem::offset_of!(HeadSlot, head) % 8 == 0);
const _: () = assert!(HEAD_BYTES % 8 == 0);

/// Looks at the head in the window of the program with this number, and keeps it in the slot, if that is one.
#[inline(never)]
#[unsafe(export_name = "scan_head")]
pub(super) extern "C" fn head(program: u64, slot: u64) -> u64 {
    // Without a slot of its own the head goes where nobody looks: with another place for it, the verifier would walk
    // every round twice.
    let (Some(scratch), Some(slot)) = (SCRATCH.get_ptr_mut(program as u32), head_slot(slot as u16))
    else {
        return 0;
    };
    // SAFETY: the slot is a live map value, and has room for all that is looked at.
    let kept = unsafe { (&raw mut (*slot).head).cast::<u64>() };
    let host = Kernel {
        socket: 0,
        scratch,
        program: program as u32,
    };
    // SAFETY: the scratch memory is the calling program's own.
    let work = unsafe { &mut (*scratch).work };
    // SAFETY: the index is below 120.
    scan_head(work, &host, |index, word| unsafe {
        *kept.add(index) = word;
    });
    1
}
