//! Processes: announced once, at their first request, so that the agent reads `/proc` while it can.

use aya_ebpf::helpers::generated;
use kerntally_abi::{Counter, ProcessRecord, RecordHeader, kind, process_event};

use crate::{
    counters,
    emit::FORCE_WAKEUP,
    kernel,
    maps::{PROCESSES, Process, RING},
};

/// Announces the current process unless that was done before; returns its start.
#[inline(always)]
pub fn announce(tgid: u32) -> u64 {
    if let Some(known) = PROCESSES.get_ptr(&tgid) {
        // SAFETY: the pointer is to a live element of the map.
        let known = unsafe { *known };
        if known.exit_ns == 0 {
            return known.start_ns;
        }
    }
    let task = kernel::task();
    let process = Process {
        start_ns: kernel::group_start(task),
        exit_ns: 0,
    };
    // A full table only means that the process is announced again.
    let _full = PROCESSES.insert(&tgid, &process, 0);
    report(tgid, process.start_ns, process_event::FIRST_SEEN, task);
    process.start_ns
}

/// Start of an announced process, 0 if it is not known any more.
#[inline(always)]
pub fn start_of(tgid: u32) -> u64 {
    match PROCESSES.get_ptr(&tgid) {
        // SAFETY: the pointer is to a live element of the map.
        Some(process) => unsafe { (*process).start_ns },
        None => 0,
    }
}

/// When an announced process exited, 0 if it did not.
#[inline(always)]
pub fn exit_of(tgid: u32) -> u64 {
    match PROCESSES.get_ptr(&tgid) {
        // SAFETY: the pointer is to a live element of the map.
        Some(process) => unsafe { (*process).exit_ns },
        None => 0,
    }
}

/// Tells the agent that an announced process has replaced its program, or is exiting.
#[inline(always)]
pub fn changed(event: u32) {
    let (tgid, _thread) = kernel::caller();
    let Some(process) = PROCESSES.get_ptr_mut(&tgid) else {
        return;
    };
    // SAFETY: the pointer is to a live element of the map.
    let start_ns = unsafe {
        if event == process_event::EXIT {
            (*process).exit_ns = kernel::now();
        }
        (*process).start_ns
    };
    report(tgid, start_ns, event, kernel::task());
}

#[inline(always)]
fn report(tgid: u32, start_ns: u64, event: u32, task: u64) {
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: `RING` is a ring buffer map and the size a constant.
    let place =
        unsafe { generated::bpf_ringbuf_reserve(ring, size_of::<ProcessRecord>() as u64, 0) };
    if place.is_null() {
        counters::add(Counter::ProcessRecordLost, 1);
        return;
    }
    let record = place.cast::<ProcessRecord>();
    // SAFETY: the reservation is as large as the record, ours alone, and submitted once.
    unsafe {
        (*record).header = RecordHeader {
            kind: kind::PROCESS,
            tail_len: 0,
        };
        (*record).start_ns = start_ns;
        (*record).tgid = tgid;
        (*record).event = event;
        kernel::group_name(task, &raw mut (*record).comm);
        generated::bpf_ringbuf_submit(place, FORCE_WAKEUP);
    }
}
