//! Every bound the kernel side lives within, each with its reason.

/// Bytes of a request head that are kept, in one slot of the head pool.
///
/// A request line, `Host` and the trace headers of ordinary clients fit; heads of browsers with large
/// cookies are cut here, which costs detail, never a count.
pub const HEAD_BYTES: usize = 1024;

/// Room for the name of a Unix client's peer: `sun_path` has 108 bytes, and the verifier wants a power of two.
pub const PEER_NAME_BYTES: usize = 128;

/// Bytes of an unfinished line carried from one receive or send to the next.
///
/// Longer than `transfer-encoding: gzip, chunked` and than ` HTTP/1.1\r\n`, the longest things that must be
/// recognised across a cut.
pub const CARRY_BYTES: usize = 64;

/// Slots in the head pool: requests that wait for their response at one time with their head kept.
pub const HEAD_SLOTS: u32 = 2048;

/// Exchanges that can be claimed at one moment on kernels without compare-and-swap: more than a machine has
/// processors, mostly.
pub const CLAIMS: u32 = 1024;

/// Sockets in the connection table on kernels that allocate entries on demand (6.1 and later).
pub const CONNECTIONS: u32 = 131_072;

/// Sockets in the connection table on kernels that preallocate it.
pub const CONNECTIONS_PREALLOCATED: u32 = 28_672;

/// Requests of one socket whose bookkeeping lies in its own table entry: one being answered and one more,
/// which a hook that runs late can make look pipelined.
pub const EMBEDDED_REQUESTS: u32 = 2;

/// Further pipelined requests, of all sockets together.
pub const PIPELINED_REQUESTS: u32 = 4096;

/// Entries of the lossy cache of sockets that do not speak HTTP/1; 32 B each, 512 KiB in all.
pub const NEGATIVE_ENTRIES: u32 = 16_384;

/// Processes whose announcement is remembered.
pub const PROCESSES: u32 = 4096;

/// Filter decisions (process, server port, role) that the agent has written.
pub const FILTER_ENTRIES: u32 = 16_384;

/// The same on kernels that preallocate their tables.
pub const FILTER_ENTRIES_PREALLOCATED: u32 = 4096;

/// Ring size in bytes unless configured: some 6,000 exchanges, a tenth of a second at 60,000 a second.
pub const RING_BYTES: u32 = 2 * 1024 * 1024;

/// Keys of the fallback tally; 1 MiB of distributions. One each for what finds no key comes on top.
pub const TALLY_KEYS: u32 = 512;

/// Unread bytes in the ring from which a record wakes the reader; below, its timer does.
pub const RING_WAKE_BYTES: u64 = 256 * 1024;

/// Longest method accepted, in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES: usize = 24;

/// Empty lines tolerated before a request line (RFC 9112, section 2.2 asks for at least one).
pub const LEADING_CRLF: usize = 2;

/// Segments of one scatter-gather call that are looked at; heads rarely span more than four.
pub const IO_SEGMENTS: usize = 16;

/// Messages of one sendmmsg or recvmmsg that are looked at, where one hook sees the whole call. Programs batch
/// datagrams; streams hardly ever.
pub const BATCH_MESSAGES: u32 = 64;

/// Tasks of which a call under way is remembered, where entry and return are hooked apart: each keeps its
/// entry as long as it lives, 100 B.
pub const CALLING_TASKS: u32 = 16_384;

/// Calls of one function whose return the kernel is asked to show at a time, 64 B each: threads that wait in a
/// receive. It takes at most 4096.
pub const RETURNS_UNDER_WAY: u32 = 2048;

const _: () = assert!(RING_BYTES.is_power_of_two());
const _: () = assert!(RING_WAKE_BYTES * 4 < RING_BYTES as u64 * 2);
