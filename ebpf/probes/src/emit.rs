//! The way out: a finished exchange becomes a record on the ring, with the kept start of its head.

use aya_ebpf::helpers::generated;
use kerntally_abi::{
    Counter, ExchangeRecord, RecordHeader, family, flag, kind,
    limits::{HEAD_BYTES, PEER_NAME_BYTES, RING_WAKE_BYTES},
    resting, role,
};
use kerntally_machine::{Connection, Ended, NO_SLOT, Request, request_flag};

use crate::{
    counters,
    kernel::{self, bounded, layout},
    maps::{CONTROL, HeadSlot, RING, SCRATCH, Scratch, head_slot},
    process, tally,
};

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`, `BPF_RB_AVAIL_DATA` (`include/uapi/linux/bpf.h`)
pub const NO_WAKEUP: u64 = 1;
/// See [`NO_WAKEUP`].
pub const FORCE_WAKEUP: u64 = 2;
const AVAILABLE: u64 = 0;
/// Largest kept head, in the form the verifier can follow.
const KEPT_MASK: u32 = HEAD_BYTES as u32 - 1;
const NAME_MASK: u32 = PEER_NAME_BYTES as u32 - 1;

/// Hands over one exchange; where the ring has no room, it goes to the fallback tally.
///
/// The record is written in front of the kept head and copied to the ring with it in one piece: a reservation
/// would need a constant size (before 5.19), and a branch for each.
#[inline(always)]
pub fn exchange(
    socket: u64,
    program: u32,
    scratch: *mut Scratch,
    connection: &Connection,
    request: &Request,
    ended: &Ended,
) {
    let slot = u64::from(request.slot);
    // SAFETY: the pointer is to a live map value, and nothing else uses this room at the same time.
    let record = unsafe { &mut *place(slot, scratch) };
    record.header = RecordHeader {
        kind: kind::EXCHANGE,
        tail_len: kept(request),
    };
    barrier();
    fill(record, socket, connection, request, ended);
    barrier();
    hand_over(u64::from(program), slot);
}

/// Where the record of a request with this slot is put together: before the head in the slot, which is the
/// request's own, or in scratch memory, if it has none.
#[inline(always)]
fn place(slot: u64, scratch: *mut Scratch) -> *mut ExchangeRecord {
    match own_slot(slot) {
        // SAFETY: the slot is a live element of the map.
        Some(slot) => unsafe { &raw mut (*slot).record },
        // SAFETY: callers pass a pointer to this program's own map value.
        None => unsafe { &raw mut (*scratch).record },
    }
}

/// The slot of a request that has one.
#[inline(always)]
fn own_slot(slot: u64) -> Option<*mut HeadSlot> {
    let slot = slot as u16;
    if slot == NO_SLOT {
        return None;
    }
    head_slot(slot)
}

/// Bytes of the kept head that go with the record.
#[inline(always)]
fn kept(request: &Request) -> u32 {
    if request.slot == NO_SLOT {
        return 0;
    }
    let len = u32::from(request.head_len);
    let limit = layout!(head_bytes);
    // The whole slot is 1,024 bytes long, which the mask would turn into none.
    let limit = if limit > KEPT_MASK { KEPT_MASK } else { limit };
    if len > limit { limit } else { len }
}

/// Hands over the record that [`exchange`] put together for the program with this number: a global function,
/// which the verifier looks at once and on its own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn hand_over(program: u64, slot: u64) -> u64 {
    let record = match own_slot(slot) {
        // SAFETY: the slot is a live element of the map.
        Some(slot) => unsafe { &raw mut (*slot).record },
        None => match SCRATCH.get_ptr_mut(program as u32) {
            // SAFETY: the scratch memory is the calling program's own.
            Some(scratch) => unsafe { &raw mut (*scratch).record },
            None => return 0,
        },
    };
    // SAFETY: as in `exchange`.
    let (kept, role) = unsafe { ((*record).header.tail_len, (*record).role) };
    let kept = bounded(kept, KEPT_MASK);
    let name = bounded(add_peer_name(record, kept), NAME_MASK);
    let ring = (&raw const RING).cast_mut().cast();
    let size = size_of::<ExchangeRecord>() as u64 + u64::from(kept) + u64::from(name);
    // SAFETY: `RING` is a ring buffer map; what follows the record in its map value makes it longer than
    // `size`.
    let failed = unsafe {
        let waiting = generated::bpf_ringbuf_query(ring, AVAILABLE);
        let crossed = waiting >= RING_WAKE_BYTES && waiting < RING_WAKE_BYTES + size;
        let wake = if crossed { FORCE_WAKEUP } else { NO_WAKEUP };
        generated::bpf_ringbuf_output(ring, record.cast(), size, wake)
    };
    let first = if failed == 0 {
        Counter::EmittedServer
    } else if tallied(program, record) {
        Counter::FallbackServer
    } else {
        Counter::RingFullServer
    };
    // The client's counter follows the server's.
    counters::add_at(first as u32 + u32::from(role), 1);
    wake(resting::RECORDS);
    1
}

/// Wakes a reader that rests, by a record that it never sees. It set the switch before it looked at the ring for the
/// last time: either it saw what was put there before this, or this sees the switch.
#[inline(always)]
pub fn wake(for_what: u32) {
    let Some(control) = CONTROL.get_ptr(0) else {
        return;
    };
    // SAFETY: the pointer is to a live map value; volatile, because it must be read here and not before.
    let resting = unsafe { (&raw const (*control).resting).read_volatile() };
    if resting & for_what == 0 {
        return;
    }
    let ring = (&raw const RING).cast_mut().cast();
    // SAFETY: `RING` is a ring buffer map and the size a constant; what is reserved is given back once. A ring
    // without room has woken its reader.
    unsafe {
        let place = generated::bpf_ringbuf_reserve(ring, 8, 0);
        if !place.is_null() {
            generated::bpf_ringbuf_discard(place, FORCE_WAKEUP);
        }
    }
}

/// Adds the exchange to the fallback tally; false if there was no way.
#[inline(always)]
fn tallied(program: u64, record: *const ExchangeRecord) -> bool {
    match SCRATCH.get_ptr_mut(program as u32) {
        Some(scratch) => tally::add(record, scratch),
        None => false,
    }
}

/// Puts the name of a Unix client's peer behind the kept head; returns its length. Where no `Host` says who was asked,
/// this is the server's address, and only the kernel knows it by the time that the exchange is over.
#[inline(always)]
fn add_peer_name(place: *mut ExchangeRecord, kept: u32) -> u32 {
    // SAFETY: as in `exchange`.
    let record = unsafe { &mut *place };
    if record.family != family::UNIX || record.role != role::CLIENT || kept == 0 {
        return 0;
    }
    // A socket that has lost its file is not asked: its memory may be another's.
    if kernel::inode(record.socket) != record.inode {
        return 0;
    }
    let (from, len) = kernel::peer_name(record.socket);
    if len == 0 || len > NAME_MASK {
        return 0;
    }
    let len = bounded(len, NAME_MASK);
    // SAFETY: head and room for the name lie behind the record and are longer than both masks together.
    let failed = unsafe {
        let behind = place.add(1).cast::<u8>().add(kept as usize);
        generated::bpf_probe_read_kernel(behind.cast(), len, from as *const _)
    };
    if failed != 0 {
        return 0;
    }
    record.peer_name_len = len as u8;
    record.header.tail_len = kept + len;
    len
}

const _: () = assert!(Counter::EmittedClient as u32 == Counter::EmittedServer as u32 + 1);
const _: () = assert!(Counter::FallbackClient as u32 == Counter::FallbackServer as u32 + 1);
const _: () = assert!(Counter::RingFullClient as u32 == Counter::RingFullServer as u32 + 1);
const _: () = assert!(role::SERVER == 0 && role::CLIENT == 1);

/// Makes the compiler read again from memory what it needs from here on, so that the verifier sees all
/// ways to this point end in the same state.
#[inline(always)]
fn barrier() {
    // SAFETY: no instructions.
    unsafe { core::arch::asm!("") };
}

/// Writes every field of the fixed part.
#[inline(always)]
fn fill(
    record: &mut ExchangeRecord,
    socket: u64,
    connection: &Connection,
    request: &Request,
    ended: &Ended,
) {
    record.start_ns = request.start_ns;
    record.end_ns = if ended.end_ns > request.start_ns {
        ended.end_ns
    } else {
        request.start_ns
    };
    barrier();
    record.process_start_ns = if request.tgid == connection.filter_tgid {
        connection.process_start_ns
    } else {
        process::start_of(request.tgid)
    };
    barrier();
    record.socket = socket;
    record.inode = u64::from(connection.inode);
    record.request_bytes = request.bytes;
    record.response_bytes = ended.response_bytes;
    record.tgid = request.tgid;
    record.sequence = request.sequence;
    record.status = ended.status;
    record.flags = flags(request, ended);
    barrier();
    record.role = connection.role;
    record.family = connection.family;
    record.end = ended.reason;
    record.version_minor = u8::from(request.flags & request_flag::VERSION_1_0 == 0);
    record.method_len = if request.slot == NO_SLOT {
        0
    } else {
        request.method_len
    };
    record.method = request.method;
    record.peer_name_len = 0;
    barrier();
    ends(record, connection, socket);
}

/// Writes both ends of the connection.
#[inline(always)]
fn ends(record: &mut ExchangeRecord, connection: &Connection, socket: u64) {
    let kind = connection.family;
    let [addresses, ports] = connection.ends;
    record.remote_port = u16::from_be((ports >> 32) as u16);
    record.local_port = (ports >> 48) as u16;
    let (local, remote) = (&raw mut record.local_addr, &raw mut record.remote_addr);
    barrier();
    if kind == family::INET6 {
        let [low, high] = kernel::read::<[u64; 2]>(socket, layout!(sock_v6_saddr));
        write_address(local.cast(), low, high);
        let [low, high] = kernel::read::<[u64; 2]>(socket, layout!(sock_v6_daddr));
        write_address(remote.cast(), low, high);
    } else {
        write_address(remote.cast(), addresses & u64::from(u32::MAX), 0);
        write_address(local.cast(), addresses >> 32, 0);
    }
}

/// Writes an address as two words.
#[inline(always)]
fn write_address(address: *mut u64, low: u64, high: u64) {
    // SAFETY: callers pass 16 bytes of a record, 8-byte aligned.
    unsafe { address.write(low) };
    // SAFETY: as above.
    unsafe { address.add(1).write(high) };
}

/// One bit each, without branches.
#[inline(always)]
fn flags(request: &Request, ended: &Ended) -> u16 {
    const fn bit(set: bool, bit: u16) -> u16 {
        set as u16 * bit
    }
    bit(request.flags & request_flag::HEAD_CUT != 0, flag::HEAD_CUT)
        | bit(request.slot == NO_SLOT, flag::HEAD_NOT_KEPT)
        | bit(ended.complete != 0, flag::RESPONSE_COMPLETE)
        | bit(
            request.flags & request_flag::PIPELINED != 0,
            flag::PIPELINED,
        )
        | bit(ended.unseen != 0, flag::UNSEEN_BYTES)
}
