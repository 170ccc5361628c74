//! The way out: a finished exchange becomes a record on the ring, with the kept start of its head.

use aya_ebpf::helpers::generated;
use kerntally_abi::{
    Counter, ExchangeRecord, RecordHeader, family, flag, kind,
    limits::{HEAD_BYTES, HEAD_CLASSES, RING_WAKE_BYTES},
    role,
};
use kerntally_machine::{Connection, Ended, NO_SLOT, Request, request_flag};

use crate::{
    counters,
    kernel::{self, layout},
    maps::{HEADS, RING},
    process,
};

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`, `BPF_RB_AVAIL_DATA` (`include/uapi/linux/bpf.h`)
pub const NO_WAKEUP: u64 = 1;
/// See [`NO_WAKEUP`].
pub const FORCE_WAKEUP: u64 = 2;
const AVAILABLE: u64 = 0;

/// Size of the fixed part.
const FIXED: u64 = size_of::<ExchangeRecord>() as u64;

/// Hands over one exchange, or counts that the ring had no room.
#[inline(always)]
pub fn exchange(socket: u64, connection: &Connection, request: &Request, ended: &Ended) {
    let server = connection.role == role::SERVER;
    let limit = layout!(head_bytes);
    let kept = if request.slot == NO_SLOT {
        0
    } else if u32::from(request.head_len) > limit {
        limit
    } else {
        u32::from(request.head_len)
    };
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: `RING` is a ring buffer map, and each size is a constant.
    let place = unsafe {
        if kept <= HEAD_CLASSES[0] as u32 {
            generated::bpf_ringbuf_reserve(ring, FIXED + HEAD_CLASSES[0] as u64, 0)
        } else if kept <= HEAD_CLASSES[1] as u32 {
            generated::bpf_ringbuf_reserve(ring, FIXED + HEAD_CLASSES[1] as u64, 0)
        } else if kept <= HEAD_CLASSES[2] as u32 {
            generated::bpf_ringbuf_reserve(ring, FIXED + HEAD_CLASSES[2] as u64, 0)
        } else {
            generated::bpf_ringbuf_reserve(ring, FIXED + HEAD_CLASSES[3] as u64, 0)
        }
    };
    if place.is_null() {
        counters::add(if server { Counter::RingFullServer } else { Counter::RingFullClient }, 1);
        return;
    }
    let record = place.cast::<ExchangeRecord>();
    // SAFETY: the reservation is larger than the fixed part and ours alone until submitted.
    unsafe { fill(record, socket, connection, request, ended, kept) };
    copy_head(place.cast(), request.slot, kept);
    counters::add(if server { Counter::EmittedServer } else { Counter::EmittedClient }, 1);
    // SAFETY: `RING` is a ring buffer map, `place` a reservation in it that is submitted once.
    unsafe {
        let waiting = generated::bpf_ringbuf_query(ring, AVAILABLE);
        let size = FIXED + HEAD_BYTES as u64;
        let crossed = waiting >= RING_WAKE_BYTES && waiting < RING_WAKE_BYTES + size;
        generated::bpf_ringbuf_submit(place, if crossed { FORCE_WAKEUP } else { NO_WAKEUP });
    }
}

/// Copies the kept head behind the fixed part. The class was chosen by the same length, but the verifier
/// does not remember that: each class has its own bound.
#[inline(always)]
fn copy_head(place: *mut u8, slot: u16, kept: u32) {
    if kept == 0 {
        return;
    }
    let Some(slot) = HEADS.get_ptr(u32::from(slot)) else { return };
    // SAFETY: the slot is a live element of the map; each copy is bounded by the class it lies in.
    unsafe {
        let source = (&raw const (*slot).head).cast();
        let target = place.add(FIXED as usize).cast();
        if kept <= HEAD_CLASSES[0] as u32 {
            generated::bpf_probe_read_kernel(target, HEAD_CLASSES[0] as u32, source);
        } else if kept <= HEAD_CLASSES[1] as u32 {
            generated::bpf_probe_read_kernel(target, HEAD_CLASSES[1] as u32, source);
        } else if kept <= HEAD_CLASSES[2] as u32 {
            generated::bpf_probe_read_kernel(target, HEAD_CLASSES[2] as u32, source);
        } else {
            generated::bpf_probe_read_kernel(target, HEAD_CLASSES[3] as u32, source);
        }
    }
}

/// Writes every field of the fixed part.
#[inline(always)]
unsafe fn fill(
    record: *mut ExchangeRecord,
    socket: u64,
    connection: &Connection,
    request: &Request,
    ended: &Ended,
    kept: u32,
) {
    let unix = connection.family == family::UNIX;
    // SAFETY: the caller passes a place for a whole record.
    unsafe {
        (*record).header = RecordHeader { kind: kind::EXCHANGE, tail_len: kept };
        (*record).start_ns = request.start_ns;
        (*record).end_ns =
            if ended.end_ns > request.start_ns { ended.end_ns } else { request.start_ns };
        (*record).process_start_ns = process::start_of(request.tgid);
        (*record).socket = socket;
        (*record).inode = u64::from(connection.inode);
        (*record).request_bytes = request.bytes;
        (*record).response_bytes = ended.response_bytes;
        (*record).tgid = request.tgid;
        (*record).sequence = request.sequence;
        (*record).status = ended.status;
        (*record).flags = flags(request, ended);
        (*record).local_port = if unix { 0 } else { kernel::local_port(socket) };
        (*record).remote_port = if unix { 0 } else { kernel::remote_port(socket) };
        (*record).role = connection.role;
        (*record).family = connection.family;
        (*record).end = ended.reason;
        (*record).version_minor = u8::from(request.flags & request_flag::VERSION_1_0 == 0);
        (*record).method_len = if request.slot == NO_SLOT { 0 } else { request.method_len };
        (*record).reserved = [0; 3];
    }
    // SAFETY: as above.
    let (local, remote) =
        unsafe { (&raw mut (*record).local_addr, &raw mut (*record).remote_addr) };
    addresses(connection.family, socket, local.cast(), remote.cast());
}

/// Copies both addresses, as two words each.
#[inline(always)]
fn addresses(kind: u8, socket: u64, local: *mut u64, remote: *mut u64) {
    let (mut ours, mut theirs) = ([0u64; 2], [0u64; 2]);
    if kind == family::INET6 {
        ours = kernel::read(socket, layout!(sock_v6_saddr)).unwrap_or(ours);
        theirs = kernel::read(socket, layout!(sock_v6_daddr)).unwrap_or(theirs);
    } else if kind == family::INET {
        ours[0] = u64::from(kernel::read::<u32>(socket, layout!(sock_saddr)).unwrap_or(0));
        theirs[0] = u64::from(kernel::read::<u32>(socket, layout!(sock_daddr)).unwrap_or(0));
    }
    // SAFETY: both point to 16 bytes of a record, 8-byte aligned.
    unsafe {
        local.write(ours[0]);
        local.add(1).write(ours[1]);
        remote.write(theirs[0]);
        remote.add(1).write(theirs[1]);
    }
}

#[inline(always)]
fn flags(request: &Request, ended: &Ended) -> u16 {
    let mut flags = 0;
    if request.flags & request_flag::HEAD_CUT != 0 {
        flags |= flag::HEAD_CUT;
    }
    if request.slot == NO_SLOT {
        flags |= flag::HEAD_NOT_KEPT;
    }
    if ended.complete != 0 {
        flags |= flag::RESPONSE_COMPLETE;
    }
    if request.flags & request_flag::PIPELINED != 0 {
        flags |= flag::PIPELINED;
    }
    if ended.unseen != 0 {
        flags |= flag::UNSEEN_BYTES;
    }
    flags
}
