//! Ring bytes as checked views.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kerntally_abi::{EndReason, ExchangeRecord, ProcessRecord, family};

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
}

impl ExchangeView<'_> {
    /// This end of the connection; `None` on Unix sockets.
    pub fn local(&self) -> Option<SocketAddr> {
        address(self.record.family, &self.record.local_addr, self.record.local_port)
    }

    /// The other end; `None` on Unix sockets.
    pub fn remote(&self) -> Option<SocketAddr> {
        address(self.record.family, &self.record.remote_addr, self.record.remote_port)
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
        let len = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
        String::from_utf8_lossy(&comm[..len]).into_owned()
    }
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
