//! What travels on the ring, and the keys of the maps that both sides touch.

use core::mem::{offset_of, size_of};

/// Kinds of record, in [`RecordHeader::kind`].
pub mod kind {
    /// An [`ExchangeRecord`](super::ExchangeRecord) and the kept bytes of the request head.
    pub const EXCHANGE: u32 = 1;
    /// A [`ProcessRecord`](super::ProcessRecord).
    pub const PROCESS: u32 = 2;
}

/// Which side of an exchange a socket is.
pub mod role {
    /// The request was received on the socket.
    pub const SERVER: u8 = 0;
    /// The request was sent on the socket.
    pub const CLIENT: u8 = 1;
}

/// Which way bytes passed, from the caller's point of view.
pub mod direction {
    /// Received.
    pub const INGRESS: u8 = 0;
    /// Sent.
    pub const EGRESS: u8 = 1;
}

/// Address families of sockets.
pub mod family {
    /// Unix stream socket: no addresses in the record, at most the peer's name.
    pub const UNIX: u8 = 1;
    /// IPv4: the first four bytes of an address count.
    pub const INET: u8 = 2;
    /// IPv6.
    pub const INET6: u8 = 10;
}

/// Bits of [`ExchangeRecord::flags`].
pub mod flag {
    /// The head was longer than what is kept.
    pub const HEAD_CUT: u16 = 1;
    /// No slot was free: target and headers are unknown.
    pub const HEAD_NOT_KEPT: u16 = 2;
    /// The response was complete by its framing when the exchange ended.
    pub const RESPONSE_COMPLETE: u16 = 4;
    /// The request shared its connection with an earlier one that was still unanswered.
    pub const PIPELINED: u16 = 8;
    /// Some bytes of the response went past the hooks; the end is that of the last one seen.
    pub const UNSEEN_BYTES: u16 = 16;
}

/// What `/proc` should be asked about a process, in [`ProcessRecord::event`].
pub mod process_event {
    /// First request head of this process.
    pub const FIRST_SEEN: u32 = 1;
    /// The process replaced its program.
    pub const EXEC: u32 = 2;
    /// The last thread of the process is exiting.
    pub const EXIT: u32 = 3;
}

/// Values of the filter map, keyed by [`FilterKey`]; a missing entry means undecided, which is watched.
pub mod decision {
    /// Watch.
    pub const WATCH: u32 = 1;
    /// Do not look at the socket again until the filter's generation changes.
    pub const EXCLUDE: u32 = 2;
}

/// Why an exchange ended, in [`ExchangeRecord::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// The response ended where its framing says, or by a status that ends it (101, CONNECT with 2xx).
    Framing = 1,
    /// The next request arrived on the connection.
    NextRequest = 2,
    /// This side closed or shut down the socket.
    LocalClose = 3,
    /// The peer closed first.
    PeerClose = 4,
    /// The connection was reset.
    Reset = 5,
    /// The process exited.
    Exit = 6,
    /// The response was still running after the longest time an exchange may stay open.
    Cut = 7,
    /// The probe was switched off.
    Detached = 8,
}

impl EndReason {
    /// Parses the byte of a record; `None` for a value this version does not know.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Framing,
            2 => Self::NextRequest,
            3 => Self::LocalClose,
            4 => Self::PeerClose,
            5 => Self::Reset,
            6 => Self::Exit,
            7 => Self::Cut,
            8 => Self::Detached,
            _ => return None,
        })
    }
}

/// Start of every record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordHeader {
    /// One of [`kind`].
    pub kind: u32,
    /// Bytes that follow the fixed part and are meaningful: the kept head, and the peer's name behind it.
    pub tail_len: u32,
}

/// One finished exchange. The kept head follows, and on Unix clients the name that the peer is bound to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExchangeRecord {
    /// Kind and length of what follows.
    pub header: RecordHeader,
    /// When the first byte of the request passed, in nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When the last byte of the response passed, in nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// Start of the process, in nanoseconds of `CLOCK_BOOTTIME`.
    pub process_start_ns: u64,
    /// Kernel address of the socket: an identity together with `inode`, never shown.
    pub socket: u64,
    /// Inode number of the socket.
    pub inode: u64,
    /// Bytes of the request, head and body.
    pub request_bytes: u64,
    /// Bytes of the response, head and body.
    pub response_bytes: u64,
    /// Thread group that owns the exchange.
    pub tgid: u32,
    /// Position of the request on its connection, from 0.
    pub sequence: u32,
    /// Status code of the final response; 0 if there was none.
    pub status: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Local port, 0 on Unix sockets.
    pub local_port: u16,
    /// Remote port, 0 on Unix sockets.
    pub remote_port: u16,
    /// One of [`role`].
    pub role: u8,
    /// One of [`family`].
    pub family: u8,
    /// An [`EndReason`].
    pub end: u8,
    /// Minor version of the request line: 0 or 1.
    pub version_minor: u8,
    /// Length of the method at the start of the kept head, 0 if no head was kept.
    pub method_len: u8,
    /// A [`Method`](crate::Method), known also where no head was kept.
    pub method: u8,
    /// Length of the peer's name, at the end of the tail: `sun_path` as the kernel keeps it, a leading zero byte for
    /// an abstract name. 0 if it has none, and on all but Unix clients.
    pub peer_name_len: u8,
    /// Explicit padding, zero.
    pub reserved: u8,
    /// Local address in network order, IPv4 in the first four bytes.
    pub local_addr: [u8; 16],
    /// Remote address in network order, IPv4 in the first four bytes.
    pub remote_addr: [u8; 16],
}

/// Something about a process that the agent should know at once.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProcessRecord {
    /// Kind; the tail is empty.
    pub header: RecordHeader,
    /// Start of the process, in nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group.
    pub tgid: u32,
    /// One of [`process_event`].
    pub event: u32,
    /// Name of the thread group leader's task, NUL-padded.
    pub comm: [u8; 16],
}

/// What the agent can have changed in a table.
pub mod change {
    /// Enters a decision: a [`FilterKey`](super::FilterKey) and its [`decision`](super::decision).
    pub const DECIDE: u64 = 0;
    /// Takes a decision out.
    pub const FORGET_DECISION: u64 = 1;
    /// Takes a [`TallyKey`](crate::TallyKey) out of the fallback tally.
    pub const FORGET_TALLY: u64 = 2;
}

/// Key of the filter map: who is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FilterKey {
    /// Thread group.
    pub tgid: u32,
    /// The server's port, on either side; 0 on Unix sockets.
    pub port: u16,
    /// One of [`role`].
    pub role: u8,
    /// Explicit padding, zero.
    pub reserved: u8,
}

const _: () = assert!(size_of::<RecordHeader>() == 8);
const _: () = assert!(size_of::<ExchangeRecord>() == 120);
const _: () = assert!(offset_of!(ExchangeRecord, tgid) == 64);
const _: () = assert!(offset_of!(ExchangeRecord, local_addr) == 88);
const _: () = assert!(size_of::<ProcessRecord>() == 40);
const _: () = assert!(size_of::<FilterKey>() == 8);
