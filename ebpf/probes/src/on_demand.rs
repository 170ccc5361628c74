//! What the agent asks for: programs that no hook runs. In: the agent's arguments. Out: whole tables, and
//! changed entries.
//!
//! The map commands of bpf(2) would do the same, but while one is under way the kernel skips every program of
//! kprobes and of perf's tracepoints on that processor (`bpf_disable_instrumentation`, `include/linux/bpf.h`),
//! and where it preempts, that can be long.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _, helpers::generated, macros::raw_tracepoint, programs::RawTracePointContext,
};
use kerntally_abi::{FilterKey, TallyKey, TallyValue, change};
use kerntally_machine::{Connection, Request};

use crate::maps::{FILTER, PipelinedKey, Process, TALLY};

/// What an iterator over the elements of a map is given: `struct bpf_iter__bpf_map_elem`
/// (`kernel/bpf/map_iter.c`, kernel 5.9).
#[repr(C)]
pub struct Element {
    meta: *const Meta,
    _map: *const c_void,
    /// Absent at the end.
    key: *const c_void,
    /// Absent at the end.
    value: *const c_void,
}

/// `struct bpf_iter_meta` (`include/linux/bpf.h`)
#[repr(C)]
struct Meta {
    sequence: *mut aya_ebpf::bindings::seq_file,
}

macro_rules! walk {
    ($name:ident, $key:ty, $value:ty) => {
        #[doc = concat!("Writes each entry: `", stringify!($key), "` and `", stringify!($value), "`.")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "iter/bpf_map_elem")]
        pub extern "C" fn $name(element: *const Element) -> i32 {
            write_out(
                element,
                size_of::<$key>() as u32,
                size_of::<$value>() as u32,
            )
        }
    };
}

walk!(walk_connections, u64, Connection);
walk!(walk_pipelined, PipelinedKey, Request);
walk!(walk_tally, TallyKey, TallyValue);
walk!(walk_unix_sockets, u64, u64);
walk!(walk_processes, u32, Process);

/// What does not fit is shown again to the next read, whole (`bpf_seq_read`, `kernel/bpf/bpf_iter.c`).
#[inline(always)]
fn write_out(element: *const Element, key_bytes: u32, value_bytes: u32) -> i32 {
    // SAFETY: the kernel passes a live element, whose key and value are as long as the map's; the verifier
    // holds the lengths against the map's when the iterator is made.
    unsafe {
        let (key, value) = ((*element).key, (*element).value);
        if key.is_null() || value.is_null() {
            return 0;
        }
        let sequence = (*(*element).meta).sequence;
        let _full = generated::bpf_seq_write(sequence, key, key_bytes);
        let _full = generated::bpf_seq_write(sequence, value, value_bytes);
    }
    0
}

/// Changes one entry: `(what, three words of key, value)`; returns 1 if that was done.
#[raw_tracepoint(tracepoint = "sys_enter")]
#[inline(always)]
pub fn change_entry(context: RawTracePointContext) -> i32 {
    let arguments = context.as_ptr().cast::<u64>();
    // SAFETY: the agent passes five arguments.
    let (what, words, value) = unsafe {
        (
            *arguments,
            [*arguments.add(1), *arguments.add(2), *arguments.add(3)],
            *arguments.add(4) as u32,
        )
    };
    // SAFETY: keys are made of integers, and no longer than the words.
    let (filter, tally) = unsafe {
        (
            &*(&raw const words).cast::<FilterKey>(),
            &*(&raw const words).cast::<TallyKey>(),
        )
    };
    let done = match what {
        change::DECIDE => FILTER.insert(filter, &value, 0).is_ok(),
        change::FORGET_DECISION => FILTER.remove(filter).is_ok(),
        change::FORGET_TALLY => TALLY.remove(tally).is_ok(),
        _ => false,
    };
    i32::from(done)
}
