//! Ring bytes as checked views.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kerntally_abi::{EndReason, ExchangeRecord, ProcessRecord, RecordHeader, family, kind};

/// One record of the ring, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A finished exchange.
    Exchange(ExchangeView<'a>),
    /// News of a process.
    Process(ProcessView),
}

/// A finished exchange as the kernel side saw it.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeView<'a> {
    /// The fixed part.
    pub record: ExchangeRecord,
    /// Checked [`ExchangeRecord::end`].
    pub end: EndReason,
    /// Kept bytes of the request head.
    pub head: &'a [u8],
    /// Name that the peer of a Unix client is bound to, as the kernel keeps it; empty if it has none.
    pub peer_name: &'a [u8],
}

impl ExchangeView<'_> {
    /// This end of the connection; `None` on Unix sockets.
    pub fn local(&self) -> Option<SocketAddr> {
        address(
            self.record.family,
            &self.record.local_addr,
            self.record.local_port,
        )
    }

    /// The other end; `None` on Unix sockets.
    pub fn remote(&self) -> Option<SocketAddr> {
        address(
            self.record.family,
            &self.record.remote_addr,
            self.record.remote_port,
        )
    }
}

/// News of a process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessView {
    /// The record.
    pub record: ProcessRecord,
}

impl ProcessView {
    /// Name of the process's main task, as the kernel has it (at most 15 bytes).
    pub fn comm(&self) -> String {
        let comm = &self.record.comm;
        let len = comm
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(comm.len());
        String::from_utf8_lossy(&comm[..len]).into_owned()
    }
}

/// Checks one item of the ring; `None` if it is none of ours.
pub(crate) fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let header: RecordHeader = read(bytes)?;
    match header.kind {
        kind::EXCHANGE => {
            let record: ExchangeRecord = read(bytes)?;
            let start = size_of::<ExchangeRecord>();
            let tail = bytes.get(start..start + header.tail_len as usize)?;
            let head_len = tail.len().checked_sub(record.peer_name_len.into())?;
            let (head, peer_name) = tail.split_at(head_len);
            let end = EndReason::from_byte(record.end)?;
            Some(Record::Exchange(ExchangeView {
                record,
                end,
                head,
                peer_name,
            }))
        }
        kind::PROCESS => Some(Record::Process(ProcessView {
            record: read(bytes)?,
        })),
        _ => None,
    }
}

/// A record type: `repr(C)`, integers only, any bits are a value.
trait Wire: Copy {}
impl Wire for RecordHeader {}
impl Wire for ExchangeRecord {}
impl Wire for ProcessRecord {}

fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: the slice is as long as `T`, for which any bits are valid; alignment is not assumed.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// IPv4-mapped addresses come out as IPv4.
fn address(family: u8, bytes: &[u8; 16], port: u16) -> Option<SocketAddr> {
    let ip = match family {
        family::INET => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        family::INET6 => IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use kerntally_abi::{flag, role};
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
    const NAME: &[u8] = b"/run/app.sock\0";

    fn exchange(tail_len: usize, peer_name_len: u8) -> ExchangeRecord {
        ExchangeRecord {
            header: RecordHeader {
                kind: kind::EXCHANGE,
                tail_len: u32::try_from(tail_len).unwrap(),
            },
            start_ns: 1,
            end_ns: 2,
            process_start_ns: 3,
            socket: 4,
            inode: 5,
            request_bytes: 6,
            response_bytes: 7,
            tgid: 8,
            sequence: 9,
            status: 200,
            flags: flag::RESPONSE_COMPLETE,
            local_port: 0,
            remote_port: 0,
            role: role::CLIENT,
            family: family::UNIX,
            end: EndReason::Framing as u8,
            version_minor: 0,
            method_len: 3,
            method: 1,
            peer_name_len,
            reserved: 0,
            local_addr: [0; 16],
            remote_addr: [0; 16],
        }
    }

    /// The bytes that the ring would hold.
    fn bytes_of(record: &ExchangeRecord, tail: &[u8]) -> Vec<u8> {
        let start = (&raw const *record).cast::<u8>();
        // SAFETY: a record spells its padding out: each of its bytes is a value.
        let fixed = unsafe { std::slice::from_raw_parts(start, size_of::<ExchangeRecord>()) };
        [fixed, tail].concat()
    }

    #[test]
    fn head_and_name_lie_one_behind_the_other() {
        let tail = [HEAD, NAME].concat();
        let bytes = bytes_of(&exchange(tail.len(), 14), &tail);
        let Some(Record::Exchange(view)) = parse(&bytes) else {
            panic!("not read");
        };
        assert_eq!((view.head, view.peer_name), (HEAD, NAME));
        assert_eq!((view.record.status, view.end), (200, EndReason::Framing));
        assert_eq!((view.local(), view.remote()), (None, None));
    }

    #[test]
    fn what_is_cut_short_is_refused_at_every_length() {
        let tail = [HEAD, NAME].concat();
        let bytes = bytes_of(&exchange(tail.len(), 14), &tail);
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_none(), "{length}");
        }
        assert!(
            parse(&bytes_of(&exchange(3, 4), b"abc")).is_none(),
            "a name longer than the tail"
        );
    }

    #[test]
    fn mapped_addresses_are_those_they_map() {
        let mut bytes = [0; 16];
        bytes[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 9]);
        let found = address(family::INET6, &bytes, 80);
        assert_eq!(found, Some(SocketAddr::from(([10, 0, 0, 9], 80))));
        bytes[..4].copy_from_slice(&[10, 0, 0, 9]);
        assert_eq!(address(family::INET, &bytes, 80), found);
        assert_eq!(address(family::UNIX, &bytes, 80), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.get_mut(..4) {
                first.copy_from_slice(&[kind, 0, 0, 0]);
            }
            if let Some(Record::Exchange(view)) = parse(&bytes) {
                prop_assert!(view.head.len() + view.peer_name.len() <= bytes.len());
            }
        }
    }
}
