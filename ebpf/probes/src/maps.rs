//! Every map, with its key, its value, its writer and its bound.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, Stack},
};
use kerntally_abi::{
    CELLS, Control, ExchangeRecord, FilterKey, TallyKey, TallyValue,
    limits::{
        CALLING_TASKS, CARRY_BYTES, CONNECTIONS as CONNECTION_LIMIT, CONNECTIONS_PREALLOCATED,
        FILTER_ENTRIES, FILTER_ENTRIES_PREALLOCATED, HEAD_BYTES, HEAD_SLOTS, NEGATIVE_ENTRIES,
        PEER_NAME_BYTES, PIPELINED_REQUESTS, PROCESSES as PROCESS_LIMIT, RING_BYTES, TALLY_KEYS,
    },
};
use kerntally_machine::{Connection, NO_SLOT, Request, Work};

use crate::buffer::Buffer;

/// Allocate entries on demand where the kernel's allocator is safe in any context (6.1).
#[cfg(feature = "modern")]
const ON_DEMAND: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;
#[cfg(not(feature = "modern"))]
const ON_DEMAND: u32 = 0;

#[cfg(feature = "modern")]
const CONNECTION_ENTRIES: u32 = CONNECTION_LIMIT;
#[cfg(not(feature = "modern"))]
const CONNECTION_ENTRIES: u32 = CONNECTIONS_PREALLOCATED;
#[cfg(feature = "modern")]
const FILTER_LIMIT: u32 = FILTER_ENTRIES;
#[cfg(not(feature = "modern"))]
const FILTER_LIMIT: u32 = FILTER_ENTRIES_PREALLOCATED;
const _: u32 = CONNECTION_LIMIT + CONNECTIONS_PREALLOCATED;
const _: u32 = FILTER_ENTRIES + FILTER_ENTRIES_PREALLOCATED;

/// `BPF_NOEXIST` (`include/uapi/linux/bpf.h`): an entry that another CPU has made first stays.
pub const NO_EXIST: u64 = 1;

/// One slot of the head pool.
#[repr(C)]
pub struct HeadSlot {
    /// Room for the record of the exchange, which goes to the ring together with
    pub record: ExchangeRecord,
    /// the kept start of its request's head.
    pub head: [u8; HEAD_BYTES],
    /// The unfinished line of a head that came in pieces. When the exchange is over, it and
    pub carry: [u8; CARRY_BYTES],
    /// this are room for the peer's name, which follows the head without a gap.
    pub peer_name: [u8; PEER_NAME_BYTES - CARRY_BYTES],
}

/// Scratch memory of one program on one CPU.
#[repr(C)]
pub struct Scratch {
    /// The machine's state during one call.
    pub work: Work,
    /// The record of an exchange whose head was not kept; it is followed by more than any head is long.
    pub record: ExchangeRecord,
    /// Room to join the pieces of a head.
    pub join: [u8; 2 * HEAD_BYTES],
    /// A connection being made.
    pub fresh: Connection,
    /// The caller's buffer.
    pub buffer: Buffer,
    /// Key of the fallback tally being looked up.
    pub tally: TallyKey,
}

/// Key of a stored request.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PipelinedKey {
    /// Socket address.
    pub socket: u64,
    /// Sequence number of the request.
    pub sequence: u32,
    /// Explicit padding, zero.
    pub reserved: u32,
}

/// What is remembered of a socket that is not in the connection table.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Negative {
    /// Socket address.
    pub socket: u64,
    /// Its inode number.
    pub inode: u32,
    /// Attachment that wrote the entry.
    pub attachment: u32,
    /// Filter generation that excluded it.
    pub generation: u32,
    /// Changes of direction since it was given up.
    pub changes: u16,
    /// Direction of the newest call.
    pub direction: u8,
    /// One of [`crate::negative::kind`].
    pub kind: u8,
    /// Address family.
    pub family: u8,
    /// Explicit padding, zero.
    pub reserved: [u8; 7],
}

/// What is remembered of a process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Process {
    /// Start, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// End, nanoseconds of `CLOCK_MONOTONIC`; 0 while it runs.
    pub exit_ns: u64,
}

/// The socket operation that a task is in, where entry and return are hooked apart.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Calling {
    /// Address of the `struct socket`.
    pub socket: u64,
    /// Address of the `struct msghdr`.
    pub message: u64,
    /// Bytes asked for.
    pub size: u64,
    /// `MSG_*`
    pub flags: u32,
    /// Number of the program that waits for its return; [`Calling::NONE`] between calls.
    pub program: u32,
}

impl Calling {
    /// No call is under way.
    pub const NONE: u32 = u32::MAX;
}

/// How far a task has come in one sendmmsg or recvmmsg.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Batch {
    /// Address of the caller's array.
    pub array: u64,
    /// Index of the next message.
    pub next: u32,
    /// Messages in the array.
    pub len: u32,
}

/// Records for the agent. Written by [`crate::emit`] and [`crate::process`].
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Switches, written by the agent, which maps them: one entry.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, aya_ebpf::bindings::BPF_F_MMAPABLE);

/// Sockets that speak HTTP/1, by address.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(CONNECTION_ENTRIES, ON_DEMAND);

/// Requests beyond the two in their connection's entry.
#[map]
pub static PIPELINED: HashMap<PipelinedKey, Request> =
    HashMap::with_max_entries(PIPELINED_REQUESTS, ON_DEMAND);

/// Sockets that are not looked at, by a hash of their address: entries overwrite each other.
#[map]
pub static NEGATIVE: Array<Negative> = Array::with_max_entries(NEGATIVE_ENTRIES, 0);

/// The head pool, see [`head_slot`]; its first entry is nobody's.
#[map]
pub static HEADS: Array<HeadSlot> = Array::with_max_entries(HEAD_SLOTS + 1, 0);

/// The entry of a slot; for [`NO_SLOT`] the first one, in which anyone may write and nobody reads.
#[inline(always)]
pub fn head_slot(slot: u16) -> Option<*mut HeadSlot> {
    const _: () = assert!(NO_SLOT == u16::MAX);
    HEADS.get_ptr_mut(u32::from(slot.wrapping_add(1)))
}

/// Indices of the free slots of [`HEADS`], filled by the agent.
#[map]
pub static FREE_HEADS: Stack<u32> = Stack::with_max_entries(HEAD_SLOTS, 0);

/// The slot that was given back last on this CPU, plus 1; 0 if there is none. A pool large enough keeps one
/// for each: the list above has a lock, and its head is not in this CPU's cache.
#[map]
pub static SPARE_HEAD: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Exchanges that are being claimed at this moment, at most one for each program that runs.
#[cfg(not(feature = "modern"))]
#[map]
pub static CLAIMS: HashMap<PipelinedKey, u8> =
    HashMap::with_max_entries(kerntally_abi::limits::CLAIMS, 0);

/// Processes already announced, by thread group.
#[map]
pub static PROCESSES: LruHashMap<u32, Process> = LruHashMap::with_max_entries(PROCESS_LIMIT, 0);

/// Decisions of the agent, see [`kerntally_abi::decision`].
#[map]
pub static FILTER: HashMap<FilterKey, u32> = HashMap::with_max_entries(FILTER_LIMIT, ON_DEMAND);

/// The fallback tally, see [`crate::tally`]; the agent reads it at each collection.
#[map]
pub static TALLY: HashMap<TallyKey, TallyValue> =
    HashMap::with_max_entries(TALLY_KEYS + 2, ON_DEMAND);

/// Unix sockets in [`CONNECTIONS`], which no close hook may ever see, with their inode numbers.
#[map]
pub static UNIX_SOCKETS: HashMap<u64, u64> = HashMap::with_max_entries(4096, ON_DEMAND);

/// Progress of sendmmsg and recvmmsg, by task.
#[map]
pub static BATCHES: LruHashMap<u32, Batch> = LruHashMap::with_max_entries(1024, 0);

/// Socket operations under way, by task; of one entry where no back end needs them.
#[map]
pub static CALLS: HashMap<u32, Calling> = HashMap::with_max_entries(CALLING_TASKS, ON_DEMAND);

/// Counters: [`CELLS`] for each CPU, by [`kerntally_abi::Counter`]. The agent maps them, and makes room for the
/// machine's CPUs.
#[map]
pub static COUNTERS: Array<u64> =
    Array::with_max_entries(CELLS, aya_ebpf::bindings::BPF_F_MMAPABLE);

/// Programs that need scratch memory; each has its own, because one may interrupt another.
pub const SCRATCHES: u32 = 14;

/// Scratch memory, by program.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCHES, 0);
