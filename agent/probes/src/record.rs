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
