//! Sockets of the three families, and every system call that moves bytes over them.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{MsgFlags, MultiHeaders};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

/// Address family of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp4,
    Tcp6,
    Unix,
}

impl Transport {
    pub(crate) const ALL: &[Self] = &[Self::Tcp4, Self::Tcp6, Self::Unix];
    pub(crate) const TCP: &[Self] = &[Self::Tcp4, Self::Tcp6];
    pub(crate) const UNIX: &[Self] = &[Self::Unix];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp4 => "tcp4",
            Self::Tcp6 => "tcp6",
            Self::Unix => "unix",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|transport| transport.name() == name)
    }
}

/// The call that sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendBy {
    Send,
    Write,
    /// Segments end at these offsets.
    Writev(Vec<usize>),
    Sendmsg(Vec<usize>),
    /// Each segment is a message of its own in one call.
    Sendmmsg(Vec<usize>),
    /// This many bytes by send, the rest from a file.
    Sendfile(usize),
    /// This many bytes by send, the rest through a pipe.
    Splice(usize),
    /// On a non-blocking socket, with a wait after each refusal.
    NonBlocking,
}

/// The call that receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecvBy {
    Recv,
    Read,
    /// Sizes of the segments.
    Readv(Vec<usize>),
    Recvmsg(Vec<usize>),
    /// Sizes of the messages of one call.
    Recvmmsg(Vec<usize>),
    /// A look with `MSG_PEEK` before each receive.
    Peek,
    /// Never more than this many bytes at once.
    AtMost(usize),
    /// One byte first, then the rest: what Go's HTTP server does.
    OneByteAhead,
    /// On a non-blocking socket, tried before anything can be there.
    NonBlocking,
}

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens and says where in the file `address`.
    pub(crate) fn bind(transport: Transport, directory: &Path) -> Result<Self> {
        let (listener, address) = match transport {
            Transport::Tcp4 | Transport::Tcp6 => {
                let any = if transport == Transport::Tcp4 {
                    "127.0.0.1:0"
                } else {
                    "[::1]:0"
                };
                let listener = TcpListener::bind(any).with_context(|| format!("binding {any}"))?;
                let address = listener.local_addr()?.to_string();
                (Self::Tcp(listener), address)
            }
            Transport::Unix => {
                let path = directory.join("socket");
                let listener = UnixListener::bind(&path)
                    .with_context(|| format!("binding {}", path.display()))?;
                (Self::Unix(listener), path.display().to_string())
            }
        };
        let draft = directory.join("address.new");
        std::fs::write(&draft, address)?;
        std::fs::rename(draft, directory.join("address")).context("publishing the address")?;
        Ok(listener)
    }

    pub(crate) fn accept(&self) -> Result<Stream> {
        match self {
            Self::Tcp(listener) => Stream::from_tcp(listener.accept().context("accepting")?.0),
            Self::Unix(listener) => Ok(Stream {
                fd: listener.accept().context("accepting")?.0.into(),
            }),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Stream {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Stream {
    /// Connects to what the listener published.
    pub(crate) fn connect(transport: Transport, address: &str) -> Result<Self> {
        if transport == Transport::Unix {
            let stream = UnixStream::connect(address);
            return Ok(Self {
                fd: stream
                    .with_context(|| format!("connecting {address}"))?
                    .into(),
            });
        }
        let address: SocketAddr = address.parse().context("the published address is none")?;
        Self::from_tcp(
            TcpStream::connect(address).with_context(|| format!("connecting {address}"))?,
        )
    }

    fn from_tcp(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { fd: stream.into() })
    }

    pub(crate) fn duplicate(&self) -> Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone().context("dup")?,
        })
    }

    /// Sends everything; returns when the first and the last byte were handed over.
    pub(crate) fn send(&self, bytes: &[u8], by: &SendBy) -> Result<Span> {
        match by {
            SendBy::Sendfile(head) | SendBy::Splice(head) => {
                let (head, body) = bytes.split_at((*head).min(bytes.len()));
                let mut span = Span::default();
                span.extend(send_loop(head, |rest| self.send_once(rest))?);
                if !body.is_empty() {
                    span.extend(if matches!(by, SendBy::Splice(_)) {
                        self.send_by_splice(body)?
                    } else {
                        self.send_by_sendfile(body)?
                    });
                }
                Ok(span)
            }
            SendBy::NonBlocking => self.send_without_blocking(bytes),
            _ => send_loop(bytes, |rest| self.send_part(bytes, rest, by)),
        }
    }

    fn send_once(&self, bytes: &[u8]) -> Result<usize> {
        rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL).context("send")
    }

    fn send_part(&self, all: &[u8], rest: &[u8], by: &SendBy) -> Result<usize> {
        let whole = rest.len() == all.len();
        match by {
            SendBy::Write => rustix::io::write(&self.fd, rest).context("write"),
            SendBy::Writev(ends) if whole => {
                let segments = segments(rest, ends);
                rustix::io::writev(&self.fd, &segments).context("writev")
            }
            SendBy::Sendmsg(ends) if whole => {
                let segments = segments(rest, ends);
                let mut control = SendAncillaryBuffer::default();
                rustix::net::sendmsg(&self.fd, &segments, &mut control, SendFlags::NOSIGNAL)
                    .context("sendmsg")
            }
            SendBy::Sendmmsg(ends) if whole => {
                let segments = segments(rest, ends);
                let mut controls: Vec<_> = segments
                    .iter()
                    .map(|_| SendAncillaryBuffer::default())
                    .collect();
                let mut messages: Vec<_> = segments
                    .iter()
                    .zip(&mut controls)
                    .map(|(segment, control)| MMsgHdr::new(std::slice::from_ref(segment), control))
                    .collect();
                let sent = rustix::net::sendmmsg(&self.fd, &mut messages, SendFlags::NOSIGNAL)
                    .context("sendmmsg")?;
                Ok(messages[..sent].iter().map(MMsgHdr::bytes_sent).sum())
            }
            _ => self.send_once(rest),
        }
    }

    fn send_by_sendfile(&self, body: &[u8]) -> Result<Span> {
        let memory = rustix::fs::memfd_create("body", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = File::from(memory);
        file.write_all(body)?;
        let mut offset = 0;
        let mut span = Span::default();
        while offset < body.len() as u64 {
            let sent = rustix::fs::sendfile(&self.fd, &file, Some(&mut offset), body.len())
                .context("sendfile")?;
            ensure!(sent > 0, "sendfile sent nothing");
            span.touch();
        }
        Ok(span)
    }

    fn send_by_splice(&self, body: &[u8]) -> Result<Span> {
        let (read, write) = rustix::pipe::pipe().context("pipe")?;
        let mut span = Span::default();
        // A pipe holds 64 KiB: fill and empty it in turns.
        for chunk in body.chunks(16 * 1024) {
            let mut left = rustix::io::write(&write, chunk).context("filling the pipe")?;
            ensure!(
                left == chunk.len(),
                "the pipe took {left} of {} bytes",
                chunk.len()
            );
            while left > 0 {
                let flags = rustix::pipe::SpliceFlags::empty();
                left -= rustix::pipe::splice(&read, None, &self.fd, None, left, flags)
                    .context("splice to the socket")?;
                span.touch();
            }
        }
        Ok(span)
    }

    fn send_without_blocking(&self, bytes: &[u8]) -> Result<Span> {
        rustix::io::ioctl_fionbio(&self.fd, true)?;
        let mut span = Span::default();
        let mut sent = 0;
        while sent < bytes.len() {
            match rustix::net::send(&self.fd, &bytes[sent..], SendFlags::NOSIGNAL) {
                Ok(more) => {
                    sent += more;
                    span.touch();
                }
                Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error).context("send on a non-blocking socket"),
            }
        }
        rustix::io::ioctl_fionbio(&self.fd, false)?;
        Ok(span)
    }

    /// Receives exactly as many bytes as expected, which must be the expected ones.
    pub(crate) fn expect(&self, expected: &[u8], by: &RecvBy) -> Result<Span> {
        let (received, span) = self.receive(expected.len(), by)?;
        if received != expected {
            let at = received
                .iter()
                .zip(expected)
                .position(|(a, b)| a != b)
                .unwrap_or(0);
            bail!("byte {at} of {} differs from what was sent", expected.len());
        }
        Ok(span)
    }

    /// Receives exactly this many bytes.
    pub(crate) fn receive(&self, length: usize, by: &RecvBy) -> Result<(Vec<u8>, Span)> {
        let mut received = vec![0; length];
        let mut span = Span::default();
        let mut filled = 0;
        while filled < length {
            let more = self.receive_once(&mut received[filled..], filled == 0, by)?;
            ensure!(more > 0, "the peer closed after {filled} of {length} bytes");
            filled += more;
            span.touch();
        }
        Ok((received, span))
    }

    fn receive_once(&self, into: &mut [u8], first: bool, by: &RecvBy) -> Result<usize> {
        let length = into.len();
        match by {
            RecvBy::Read => rustix::io::read(&self.fd, into).context("read"),
            RecvBy::AtMost(most) => self.receive_some(&mut into[..length.min(*most)]),
            RecvBy::OneByteAhead if first => self.receive_some(&mut into[..1]),
            RecvBy::Recv | RecvBy::OneByteAhead => self.receive_some(into),
            RecvBy::Peek => {
                let mut look = vec![0; length];
                rustix::net::recv(&self.fd, &mut look[..], RecvFlags::PEEK).context("peek")?;
                self.receive_some(into)
            }
            RecvBy::Readv(sizes) => {
                let mut segments = segments_mut(into, sizes);
                rustix::io::readv(&self.fd, &mut segments).context("readv")
            }
            RecvBy::Recvmsg(sizes) => {
                let mut segments = segments_mut(into, sizes);
                let mut control = rustix::net::RecvAncillaryBuffer::default();
                let flags = RecvFlags::empty();
                let message = rustix::net::recvmsg(&self.fd, &mut segments, &mut control, flags);
                Ok(message.context("recvmsg")?.bytes)
            }
            RecvBy::Recvmmsg(sizes) => self.receive_by_recvmmsg(into, sizes),
            RecvBy::NonBlocking => self.receive_without_blocking(into),
        }
    }

    /// Waits for bytes without receiving, as servers with an event loop do.
    pub(crate) fn wait_readable(&self) -> Result<()> {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        rustix::event::poll(&mut polled, None).context("poll")?;
        Ok(())
    }

    /// One receive of whatever there is.
    pub(crate) fn receive_some(&self, into: &mut [u8]) -> Result<usize> {
        let (received, _) =
            rustix::net::recv(&self.fd, into, RecvFlags::empty()).context("recv")?;
        Ok(received)
    }

    /// A message may come back half full with the stream going on in the next: what came is moved together.
    fn receive_by_recvmmsg(&self, into: &mut [u8], sizes: &[usize]) -> Result<usize> {
        let starts: Vec<usize> = segments_mut(into, sizes)
            .iter()
            .scan(0, |start, segment| {
                Some(std::mem::replace(start, *start + segment.len()))
            })
            .collect();
        let mut segments: Vec<_> = segments_mut(into, sizes).into_iter().map(|s| [s]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(segments.len(), None);
        let fd = self.fd.as_raw_fd();
        let flags = MsgFlags::MSG_WAITFORONE;
        let lengths: Vec<usize> =
            nix::sys::socket::recvmmsg(fd, &mut headers, &mut segments, flags, None)
                .context("recvmmsg")?
                .map(|message| message.bytes)
                .collect();
        let mut filled = 0;
        for (start, length) in starts.into_iter().zip(lengths) {
            into.copy_within(start..start + length, filled);
            filled += length;
        }
        Ok(filled)
    }

    fn receive_without_blocking(&self, into: &mut [u8]) -> Result<usize> {
        rustix::io::ioctl_fionbio(&self.fd, true)?;
        let received = loop {
            match rustix::net::recv(&self.fd, &mut *into, RecvFlags::empty()) {
                Ok((received, _)) => break received,
                Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error).context("recv on a non-blocking socket"),
            }
        };
        rustix::io::ioctl_fionbio(&self.fd, false)?;
        Ok(received)
    }

    /// Receives until the peer closes; a reset counts as a close where it is expected.
    pub(crate) fn drain(&self) -> Result<usize> {
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        loop {
            match self.receive_some(&mut buffer)? {
                0 => return Ok(total),
                more => total += more,
            }
        }
    }

    /// Waits for the peer's close, by FIN or by reset.
    pub(crate) fn wait_closed(&self) {
        // A reset surfaces as an error here and means the same.
        self.drain().ok();
    }

    pub(crate) fn shutdown_write(&self) -> Result<()> {
        rustix::net::shutdown(&self.fd, Shutdown::Write).context("shutdown")
    }

    /// Closes with a reset instead of a FIN.
    pub(crate) fn reset(self) -> Result<()> {
        rustix::net::sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO))
            .context("SO_LINGER")?;
        drop(self);
        Ok(())
    }

    /// Receives by splice into a pipe, so that no byte passes through this process's memory.
    pub(crate) fn receive_by_splice(&self, length: usize) -> Result<Vec<u8>> {
        let (read, write) = rustix::pipe::pipe().context("pipe")?;
        let mut received = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let flags = rustix::pipe::SpliceFlags::empty();
            let more = rustix::pipe::splice(&self.fd, None, &write, None, length - filled, flags)
                .context("splice from the socket")?;
            ensure!(more > 0, "the peer closed after {filled} of {length} bytes");
            let mut taken = 0;
            while taken < more {
                taken += rustix::io::read(&read, &mut received[filled + taken..filled + more])?;
            }
            filled += more;
        }
        Ok(received)
    }
}

/// When the first and the last call of a transfer returned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Span {
    pub(crate) fn touch(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    pub(crate) fn extend(&mut self, later: Self) {
        self.first = self.first.or(later.first);
        self.last = later.last.or(self.last);
    }

    pub(crate) fn first(&self) -> Instant {
        self.first.unwrap_or_else(Instant::now)
    }

    pub(crate) fn last(&self) -> Instant {
        self.last.unwrap_or_else(Instant::now)
    }
}

fn send_loop(bytes: &[u8], once: impl Fn(&[u8]) -> Result<usize>) -> Result<Span> {
    let mut span = Span::default();
    let mut sent = 0;
    while sent < bytes.len() {
        sent += once(&bytes[sent..])?;
        span.touch();
    }
    Ok(span)
}

fn segments<'a>(bytes: &'a [u8], ends: &[usize]) -> Vec<IoSlice<'a>> {
    let mut found = Vec::new();
    let mut start = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        let end = end.clamp(start, bytes.len());
        if end > start {
            found.push(IoSlice::new(&bytes[start..end]));
        }
        start = end;
    }
    found
}

fn segments_mut<'a>(bytes: &'a mut [u8], sizes: &[usize]) -> Vec<IoSliceMut<'a>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().copied().chain([usize::MAX]) {
        if rest.is_empty() {
            break;
        }
        let (segment, after) = rest.split_at_mut(size.min(rest.len()));
        found.push(IoSliceMut::new(segment));
        rest = after;
    }
    found
}
