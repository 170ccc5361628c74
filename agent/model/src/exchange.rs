//! The seam between stages 3 to 6: one request with its response, as one side saw it.

use std::net::SocketAddr;

/// Which side of the exchange the observed process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It received the request.
    Server,
    /// It sent the request.
    Client,
}

/// A process, told apart from later ones with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id, as the initial pid namespace numbers it.
    pub tgid: u32,
    /// Start time in nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub start_ns: u64,
}

/// A socket, told apart from later ones at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Kernel address; an identity only, never shown.
    pub pointer: u64,
    /// Inode number.
    pub inode: u64,
}

/// The request target as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its bytes, query string included: stages after routing must not keep them.
    pub bytes: &'a [u8],
    /// The line was longer than what is kept, or no head was kept at all.
    pub cut: bool,
}

/// Version in the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Scheme of the bytes on the socket, never taken from a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// Seen inside a TLS library.
    Https,
}

/// Why the exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The response ended where its framing says.
    Framing,
    /// The next request arrived.
    NextRequest,
    /// This side closed or shut down the socket first.
    LocalClose,
    /// The peer closed first.
    PeerClose,
    /// The connection was reset.
    Reset,
    /// The process exited.
    Exit,
    /// It was open for longer than an exchange may stay open.
    Cut,
    /// The probe was switched off.
    Detached,
}

/// One request and its response, or what there was of it. Borrows from the record it was read from.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// Side that was observed.
    pub role: Role,
    /// Process that owns it: on servers the one that received the first byte, on clients that sent it.
    pub process: ProcessKey,
    /// Socket it passed on.
    pub socket: SocketKey,
    /// Method as sent; empty when no head was kept.
    pub method: &'a str,
    /// Request target as sent.
    pub target: Target<'a>,
    /// Version of the request line.
    pub version: HttpVersion,
    /// Scheme on the socket.
    pub scheme: Scheme,
    /// The other end; `None` on Unix sockets.
    pub peer: Option<SocketAddr>,
    /// This end; `None` on Unix sockets.
    pub local: Option<SocketAddr>,
    /// Name of the other end of a Unix client's connection: a path, or a zero byte and an abstract name.
    pub peer_name: Option<&'a [u8]>,
    /// Value of the `Host` header, if it was within the kept head.
    pub host: Option<&'a [u8]>,
    /// Status code of the final response.
    pub status: Option<u16>,
    /// First byte of the request, in nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Last byte of the response, in nanoseconds of `CLOCK_MONOTONIC`; never before `start_ns`.
    pub end_ns: u64,
    /// Bytes of the request, head and body.
    pub request_bytes: u64,
    /// Bytes of the response, head and body.
    pub response_bytes: u64,
    /// Kept part of the request head, request line included.
    pub head: &'a [u8],
    /// Why it ended.
    pub end_reason: EndReason,
    /// The response was whole.
    pub complete: bool,
    /// Detail is missing (no head was kept): it counts without route and without exemplar.
    pub degraded: bool,
}

impl Exchange<'_> {
    /// Duration in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// The server's port, on whichever side this is; 0 on Unix sockets.
    pub fn server_port(&self) -> u16 {
        let address = match self.role {
            Role::Server => self.local,
            Role::Client => self.peer,
        };
        address.map_or(0, |address| address.port())
    }
}
