//! What is remembered of one socket: the value of the connection table.

use core::mem::size_of;

/// A head slot index that means none.
pub const NO_SLOT: u16 = u16::MAX;

/// Index of the direction that carries requests in [`Connection::directions`].
pub const REQUEST: usize = 0;
/// Index of the direction that carries responses.
pub const RESPONSE: usize = 1;
/// Directions of a connection.
pub const DIRECTIONS: usize = 2;

/// Where one direction of a connection stands in its current message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Before the first byte of a message.
    Start = 0,
    /// Inside a method.
    Method = 1,
    /// Inside a request line, after the method.
    Line = 2,
    /// In header fields.
    Fields = 3,
    /// In the value of `Content-Length`.
    Length = 4,
    /// In the value of `Transfer-Encoding`.
    Coding = 5,
    /// In a body of known length.
    Body = 6,
    /// In the size of a chunk.
    ChunkSize = 7,
    /// In what follows a chunk's size on its line.
    ChunkExtension = 8,
    /// In a chunk's data and the line end after it.
    ChunkData = 9,
    /// At the start of a trailer line.
    Trailer = 10,
    /// Inside a trailer line.
    TrailerLine = 11,
    /// In a body that ends with the connection, or with the next request.
    UntilClose = 12,
    /// Out of step: waits for a call that begins like a head.
    Lost = 13,
    /// A response came before the hook of its request had run: it waits for it.
    Held = 14,
    /// The connection no longer speaks HTTP/1.
    Done = 15,
    /// The head of a response came before the hook of its request had run, and nothing behind it: whether a
    /// body follows is for the request's method to say.
    Headed = 16,
}

/// Bits of [`Direction::bits`].
///
/// `EARLY` and `SURPLUS` are used on responses only, `TOO_LONG` and `RECOGNISED` on requests only; they share
/// bits.
pub mod bits {
    /// The head has a `Content-Length`.
    pub const HAS_LENGTH: u8 = 1;
    /// The head's last transfer coding is `chunked`.
    pub const CHUNKED: u8 = 2;
    /// The response began while no request waited: on clients its request's hook may yet run, otherwise
    /// it is nobody's.
    pub const EARLY: u8 = 4;
    /// Bytes of the message went past the hooks.
    pub const UNSEEN: u8 = 8;
    /// The request line was recognised.
    pub const RECOGNISED: u8 = 16;
    /// More bytes came while the response waited for the hook of its request.
    pub const SURPLUS: u8 = 16;
    /// The request already waits for its response although its head is not complete.
    pub const PUSHED: u8 = 128;
    /// An unknown method's request line is longer than what is kept.
    pub const TOO_LONG: u8 = 1 << 2;
    /// The position in `Direction::position` is valid.
    pub const POSITIONED: u8 = 32;
    /// An unfinished line waits in the slot's carry.
    pub const PARTIAL: u8 = 64;
}

/// Bits of [`Request::flags`].
pub mod request_flag {
    /// The entry is in use.
    pub const LIVE: u8 = 1;
    /// HTTP/1.0.
    pub const VERSION_1_0: u8 = 2;
    /// An earlier request on the connection was unanswered when this one came.
    pub const PIPELINED: u8 = 4;
    /// It already has its outcome; its response is consumed in silence.
    pub const SILENT: u8 = 8;
    /// The head was longer than what is kept.
    pub const HEAD_CUT: u8 = 16;
}

/// One direction of a connection.
///
/// Fields that are zeroed together do not lie side by side: the compiler would join the stores to a call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Direction {
    /// Bytes of the body or chunk still to come; inside a head, the value being read.
    pub remaining: u64,
    /// Requests: when the first byte passed. Responses: when the newest byte passed. Nanoseconds.
    pub time_ns: u64,
    /// Bytes of the current message so far.
    pub bytes: u64,
    /// The socket's own count of the bytes that passed, after the newest call (TCP only).
    pub position: u32,
    /// Bytes of the current head so far, saturating.
    pub head_len: u16,
    /// Slot that holds the kept head and the carry, or [`NO_SLOT`].
    pub slot: u16,
    /// Status of the response being read; 0 before its status line.
    pub status: u16,
    /// A [`Phase`].
    pub phase: u8,
    /// Bytes of an unfinished line in the slot's carry.
    pub carry_len: u8,
    /// [`bits`].
    pub bits: u8,
    /// Length of the method of the request being read; for responses, leading line ends skipped.
    pub method_len: u8,
    /// A `kerntally_abi::Method`: that of the request being read.
    pub method: u8,
    /// Leading empty-line bytes skipped.
    pub leading: u8,
}

/// A request that waits for its response.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Request {
    /// When its first byte passed, or the response before it ended, whichever is later. Nanoseconds.
    pub start_ns: u64,
    /// Bytes of head and body, as far as known from the head.
    pub bytes: u64,
    /// Thread group behind its first byte.
    pub tgid: u32,
    /// Its position on the connection, from 0.
    pub sequence: u32,
    /// Where it began in the socket's own count of bytes sent; where that is not to be had, the thread that sent it.
    pub position: u32,
    /// Slot that holds its head, or [`NO_SLOT`].
    pub slot: u16,
    /// Bytes of its head, saturating.
    pub head_len: u16,
    /// Length of its method.
    pub method_len: u8,
    /// A `kerntally_abi::Method`.
    pub method: u8,
    /// [`request_flag`].
    pub flags: u8,
    /// Explicit padding, zero.
    pub reserved: [u8; 5],
}

/// One socket that speaks HTTP/1.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Connection {
    /// Requests and responses.
    pub directions: [Direction; DIRECTIONS],
    /// The first requests that wait; further ones lie in a map of their own.
    pub embedded: [Request; 2],
    /// When the peer closed its side, 0 if it did not. Nanoseconds.
    pub peer_closed_ns: u64,
    /// When the newest finished response ended. Nanoseconds.
    pub previous_end_ns: u64,
    /// Start of the process that the filter was last asked about, nanoseconds of `CLOCK_BOOTTIME`.
    pub process_start_ns: u64,
    /// IPv4 addresses and ports of both ends, as the kernel keeps them; zeroes on Unix sockets.
    pub ends: [u64; 2],
    /// Inode number of the socket, its identity together with its address.
    pub inode: u32,
    /// Bytes that had been sent, by the socket's own count, when an early response was received; where that is not to be
    /// had, the thread that received it.
    pub early_position: u32,
    /// Sequence number of the next request to arrive.
    pub arrived: u32,
    /// Sequence number of the next request to be answered.
    pub answered: u32,
    /// Thread group that the filter was last asked about.
    pub filter_tgid: u32,
    /// Generation of the filter when it was asked.
    pub filter_generation: u32,
    /// 1 once the peer has reset the connection.
    pub reset: u8,
    /// 1 if a call took too many steps: the next one begins with giving up what waits.
    pub given_up: u8,
    /// 1 for a direction that has to begin anew: the other one, which must not touch it, was out of step.
    pub stale: [u8; DIRECTIONS],
    /// One of `kerntally_abi::role`.
    pub role: u8,
    /// One of `kerntally_abi::family`.
    pub family: u8,
    /// 1 once a request was recognised on the socket.
    pub in_step: u8,
    /// 1 where the socket's own byte positions can be used.
    pub positioned: u8,
    /// The server's port, on either side; 0 on Unix sockets.
    pub server_port: u16,
    /// Where the value of `Content-Length` began in the newest response read in one pass; 0 if it had none.
    pub length_at: u16,
    /// Bytes from the end of that value to the end of the head.
    pub length_rest: u16,
    /// 1 if calls on the socket had been seen before it was taken for one that speaks HTTP: it began earlier.
    pub joined: u8,
    /// Explicit padding, zero.
    pub padding: u8,
}

const _: () = assert!(size_of::<Direction>() == 40);
const _: () = assert!(size_of::<Request>() == 40);
const _: () = assert!(size_of::<Connection>() == 240);

impl Direction {
    /// A direction before its first message.
    pub const EMPTY: Self = Self {
        remaining: 0,
        time_ns: 0,
        bytes: 0,
        position: 0,
        head_len: 0,
        slot: NO_SLOT,
        status: 0,
        phase: Phase::Start as u8,
        carry_len: 0,
        bits: 0,
        method_len: 0,
        method: 0,
        leading: 0,
    };

    /// Whether a head is being read.
    #[inline(always)]
    pub const fn in_head(&self) -> bool {
        self.phase >= Phase::Method as u8 && self.phase <= Phase::Coding as u8
    }
}

impl Request {
    /// An entry that is not in use.
    pub const EMPTY: Self = Self {
        start_ns: 0,
        bytes: 0,
        tgid: 0,
        sequence: 0,
        position: 0,
        slot: NO_SLOT,
        head_len: 0,
        method_len: 0,
        method: 0,
        flags: 0,
        reserved: [0; 5],
    };
}

impl Request {
    /// Copies field by field: as a whole it would become a call to a loop, which the BPF target has not
    /// got and the verifier would have to walk.
    #[inline(always)]
    pub fn assign(&mut self, other: &Self) {
        self.start_ns = other.start_ns;
        self.bytes = other.bytes;
        self.tgid = other.tgid;
        self.sequence = other.sequence;
        self.position = other.position;
        self.slot = other.slot;
        self.head_len = other.head_len;
        self.method_len = other.method_len;
        self.method = other.method;
        self.flags = other.flags;
    }
}

impl Connection {
    /// A socket before its first message.
    pub const EMPTY: Self = Self {
        directions: [Direction::EMPTY; DIRECTIONS],
        embedded: [Request::EMPTY; 2],
        peer_closed_ns: 0,
        previous_end_ns: 0,
        process_start_ns: 0,
        ends: [0; 2],
        inode: 0,
        early_position: 0,
        arrived: 0,
        answered: 0,
        filter_tgid: 0,
        filter_generation: 0,
        reset: 0,
        given_up: 0,
        stale: [0; DIRECTIONS],
        role: 0,
        family: 0,
        in_step: 0,
        positioned: 0,
        server_port: 0,
        length_at: 0,
        length_rest: 0,
        joined: 0,
        padding: 0,
    };

    /// Requests that wait for the end of their response.
    #[inline(always)]
    pub const fn waiting(&self) -> u32 {
        self.arrived.wrapping_sub(self.answered)
    }

    /// When the request that waits longest began, if it is one of the embedded.
    pub const fn oldest_ns(&self) -> Option<u64> {
        let cell = &self.embedded[(self.answered & 1) as usize];
        let waits = cell.flags & request_flag::LIVE != 0 && cell.sequence == self.answered;
        if waits { Some(cell.start_ns) } else { None }
    }
}
