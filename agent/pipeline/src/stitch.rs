//! Stage 3: a record of the ring in, an [`Exchange`] out.
//!
//! The kernel side pairs requests with their responses, pipelined ones included, and sends one record per
//! exchange; so for HTTP/1 this stage only reads the kept head. What the kernel cannot pair (streams of
//! HTTP/2) gets its pairing here.

use std::net::SocketAddr;

use kerntally_abi::{ExchangeRecord, Method, TallyKey, flag, role};
use kerntally_model::{
    EndReason, Exchange, HttpVersion, ProcessKey, Role, Scheme, SocketKey, Target,
};
use kerntally_wire::{RequestHead, Version};

/// A record of the ring, checked as far as stage 1 checks it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The fixed part.
    pub record: &'a ExchangeRecord,
    /// Why the exchange ended.
    pub end: kerntally_abi::EndReason,
    /// This end of the connection; `None` on Unix sockets.
    pub local: Option<SocketAddr>,
    /// The other end; `None` on Unix sockets.
    pub remote: Option<SocketAddr>,
    /// Kept bytes of the request head; empty if none were kept.
    pub head: &'a [u8],
    /// Name that the peer of a Unix client is bound to; empty if it has none, or is not one.
    pub peer_name: &'a [u8],
}

/// Reads the head of a record; a head that cannot be read makes a degraded exchange, never a lost one.
pub fn exchange<'a>(input: &Input<'a>) -> Exchange<'a> {
    let record = input.record;
    let not_kept = record.flags & flag::HEAD_NOT_KEPT != 0;
    let head = if not_kept {
        None
    } else {
        RequestHead::parse(input.head).ok()
    };
    let version = match head.map(|head| head.version) {
        Some(Version::Known(version)) => version,
        _ if record.version_minor == 0 => HttpVersion::Http10,
        _ => HttpVersion::Http11,
    };
    Exchange {
        role: if record.role == role::CLIENT {
            Role::Client
        } else {
            Role::Server
        },
        process: ProcessKey {
            tgid: record.tgid,
            start_ns: record.process_start_ns,
        },
        socket: SocketKey {
            pointer: record.socket,
            inode: record.inode,
        },
        method: head.map_or(Method::from_byte(record.method).text(), |head| head.method),
        target: head.map_or(
            Target {
                bytes: &[],
                cut: true,
            },
            |head| Target {
                bytes: head.target,
                cut: head.target_cut,
            },
        ),
        version,
        scheme: Scheme::Http,
        peer: input.remote,
        local: input.local,
        peer_name: (!input.peer_name.is_empty()).then_some(input.peer_name),
        host: head.and_then(|head| head.host()),
        status: (record.status != 0).then_some(record.status),
        start_ns: record.start_ns,
        end_ns: record.end_ns.max(record.start_ns),
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        head: input.head,
        end_reason: end_reason(input.end),
        // Bytes that no hook saw may have been the rest: nothing says that the response was cut short.
        complete: record.flags & (flag::RESPONSE_COMPLETE | flag::UNSEEN_BYTES) != 0,
        degraded: head.is_none(),
    }
}

/// What exchanges of the kernel side's fallback tally have in common, as one of them: without head, address
/// and times, which nobody kept.
pub fn tallied(key: &TallyKey) -> Exchange<'static> {
    let server = SocketAddr::from(([0, 0, 0, 0], key.server_port));
    Exchange {
        role: if key.role == role::CLIENT {
            Role::Client
        } else {
            Role::Server
        },
        process: ProcessKey {
            tgid: key.tgid,
            start_ns: key.process_start_ns,
        },
        socket: SocketKey {
            pointer: 0,
            inode: 0,
        },
        method: Method::from_byte(key.method).text(),
        target: Target {
            bytes: &[],
            cut: true,
        },
        version: if key.version_minor == 0 {
            HttpVersion::Http10
        } else {
            HttpVersion::Http11
        },
        scheme: Scheme::Http,
        peer: (key.role == role::CLIENT).then_some(server),
        local: (key.role == role::SERVER).then_some(server),
        peer_name: None,
        host: None,
        status: (key.status != 0).then_some(key.status),
        start_ns: 0,
        end_ns: 0,
        request_bytes: 0,
        response_bytes: 0,
        head: &[],
        end_reason: kerntally_abi::EndReason::from_byte(key.end)
            .map_or(EndReason::Framing, end_reason),
        complete: key.complete != 0,
        degraded: true,
    }
}

fn end_reason(end: kerntally_abi::EndReason) -> EndReason {
    match end {
        kerntally_abi::EndReason::Framing => EndReason::Framing,
        kerntally_abi::EndReason::NextRequest => EndReason::NextRequest,
        kerntally_abi::EndReason::LocalClose => EndReason::LocalClose,
        kerntally_abi::EndReason::PeerClose => EndReason::PeerClose,
        kerntally_abi::EndReason::Reset => EndReason::Reset,
        kerntally_abi::EndReason::Exit => EndReason::Exit,
        kerntally_abi::EndReason::Cut => EndReason::Cut,
        kerntally_abi::EndReason::Detached => EndReason::Detached,
    }
}

#[cfg(test)]
mod tests {
    use kerntally_abi::{RecordHeader, kind};

    use super::*;

    fn record() -> ExchangeRecord {
        ExchangeRecord {
            header: RecordHeader {
                kind: kind::EXCHANGE,
                tail_len: 0,
            },
            start_ns: 100,
            end_ns: 90,
            process_start_ns: 1,
            socket: 2,
            inode: 3,
            request_bytes: 4,
            response_bytes: 5,
            tgid: 6,
            sequence: 0,
            status: 0,
            flags: 0,
            local_port: 0,
            remote_port: 0,
            role: role::CLIENT,
            family: kerntally_abi::family::UNIX,
            end: 1,
            version_minor: 0,
            method_len: 0,
            method: 0,
            peer_name_len: 0,
            reserved: 0,
            local_addr: [0; 16],
            remote_addr: [0; 16],
        }
    }

    fn read<'a>(record: &'a ExchangeRecord, head: &'a [u8]) -> Exchange<'a> {
        let end = kerntally_abi::EndReason::Framing;
        exchange(&Input {
            record,
            end,
            local: None,
            remote: None,
            head,
            peer_name: b"",
        })
    }

    #[test]
    fn a_cut_head_is_read_as_far_as_it_goes() {
        let record = record();
        let cut = read(&record, b"GET /a/long/pa");
        assert_eq!(
            (cut.method, cut.target.bytes, cut.target.cut),
            ("GET", &b"/a/long/pa"[..], true)
        );
        assert!(!cut.degraded);
        assert_eq!(
            cut.version,
            HttpVersion::Http10,
            "the kernel side knows the version"
        );
        let cut = read(&record, b"GET /a HTTP/1.1\r\nHost: b\r\nCoo");
        assert_eq!(
            (cut.version, cut.host, cut.target.cut),
            (HttpVersion::Http11, Some(&b"b"[..]), false)
        );
    }

    #[test]
    fn what_cannot_be_read_is_degraded() {
        let not_kept = ExchangeRecord {
            flags: flag::HEAD_NOT_KEPT,
            ..record()
        };
        for (record, head) in [
            (record(), &b"\x16\x03\x01"[..]),
            (record(), b""),
            (not_kept, b"GET / HTTP/1.1\r\n\r\n"),
        ] {
            let found = read(&record, head);
            assert!(found.degraded && found.target.cut);
            assert_eq!((found.method, found.host), ("", None));
        }
    }

    #[test]
    fn durations_are_never_negative_and_statuses_never_invented() {
        let record = record();
        let found = read(&record, b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(
            (found.duration_ns(), found.status, found.complete),
            (0, None, false)
        );
        let unseen = ExchangeRecord {
            flags: flag::UNSEEN_BYTES,
            status: 204,
            ..record
        };
        let found = read(&unseen, b"");
        assert_eq!((found.status, found.complete), (Some(204), true));
    }
}
