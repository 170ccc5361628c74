//! A server and a client that make the same exchange again and again, as a web server and wrk would: a head of
//! about 130 bytes, an answer of about 250, on connections that stay.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use crate::clock::nanos_of;

/// Connections, one request under way on each.
const CONNECTIONS: usize = 16;
const LISTENER: u64 = u64::MAX;
/// Exchanges in a row: their records take less than half of the ring.
const BURST: u64 = 1000;
/// Longer than records lie in the ring.
const REST: Duration = Duration::from_millis(500);

const REQUEST: &[u8] =
    b"GET /ok HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: kerntally-overhead/0.1\r\n\
    Accept: */*\r\nAccept-Encoding: gzip\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 28 Nov 2026 00:00:00 GMT\r\n\
    Content-Type: application/octet-stream\r\nContent-Length: 5\r\n\
    Last-Modified: Sat, 28 Nov 2026 00:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"6af1c2a8-5\"\r\n\
    Accept-Ranges: bytes\r\n\r\n";
const BODY: &[u8] = b"fine\n";

/// The server's process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    port: u16,
}

/// Connections of one measurement.
#[derive(Debug)]
pub(crate) struct Connections(Vec<TcpStream>);

/// What a number of exchanges took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) elapsed: u64,
    pub(crate) server: u64,
    pub(crate) client: u64,
    pub(crate) agent: u64,
}

impl Server {
    /// Starts this program once more, as the server.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut process = Command::new(program)
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server")?;
        let mut output = process.stdout.take().context("the output is piped")?;
        let mut port = [0; 2];
        output.read_exact(&mut port).context("reading the port")?;
        let port = u16::from_be_bytes(port);
        Ok(Self { process, port })
    }

    /// Opens the connections of a measurement.
    pub(crate) fn connect(&self) -> Result<Connections> {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        Ok(Connections(streams))
    }

    /// Makes so many exchanges under the clocks. Between short bursts everything rests, so that the agent takes in
    /// each exchange as it does where there is a core for it; what it does of them then counts too.
    pub(crate) fn measure(
        &self,
        connections: &mut Connections,
        exchanges: u64,
        agent: Option<u32>,
    ) -> Result<Cost> {
        let rest = |agent: Option<u32>| agent.map_or(Ok(0), rested);
        let idle = rest(agent)?;
        let mut cost = Cost::default();
        let mut left = exchanges;
        while left > 0 {
            let burst = left.min(BURST);
            left -= burst;
            let before = self.clocks(agent)?;
            let begun = Instant::now();
            connections.exchange(burst)?;
            cost.elapsed += u64::try_from(begun.elapsed().as_nanos())?;
            let after = self.clocks(agent)?;
            cost.server += after[0] - before[0];
            cost.client += after[1] - before[1];
            cost.agent += after[2] - before[2] + rest(agent)?.saturating_sub(idle);
        }
        Ok(cost)
    }

    fn clocks(&self, agent: Option<u32>) -> Result<[u64; 3]> {
        let agent = agent.map_or(Ok(0), nanos_of)?;
        Ok([
            nanos_of(self.process.id())?,
            nanos_of(std::process::id())?,
            agent,
        ])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is as good.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What the agent takes in a while without traffic: its timers, and what lies in its ring still.
fn rested(agent: u32) -> Result<u64> {
    let before = nanos_of(agent)?;
    std::thread::sleep(REST);
    Ok(nanos_of(agent)? - before)
}

impl Connections {
    /// Sends one request on each connection, then takes the answers, until there were that many.
    pub(crate) fn exchange(&mut self, exchanges: u64) -> Result<()> {
        let Self(connections) = self;
        let mut left = exchanges;
        while left > 0 {
            let count = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(connections.len());
            for connection in &mut connections[..count] {
                connection.write_all(REQUEST)?;
            }
            for connection in &mut connections[..count] {
                let mut answer = [0; 1024];
                let mut length = 0;
                while length < HEAD.len() + BODY.len() {
                    let more = connection.read(&mut answer[length..])?;
                    ensure!(more > 0, "the server closed a connection");
                    length += more;
                }
            }
            left -= count as u64;
        }
        Ok(())
    }
}

/// Answers on a port that it writes to standard output, until it is killed.
pub(crate) fn serve() -> Result<()> {
    let (listener, poll) = kerntally_e2e::load::listen(("127.0.0.1", 0), LISTENER)?;
    let port = listener.local_addr()?.port();
    let mut output = std::io::stdout();
    output.write_all(&port.to_be_bytes())?;
    output.flush()?;
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events: Vec<Event> = Vec::with_capacity(64);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let slot = &mut connections[usize::try_from(event.data.u64())?];
            let open = slot.as_mut().is_some_and(|stream| answer(stream).is_ok());
            if !open {
                *slot = None;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &impl std::os::fd::AsFd,
    connections: &mut Vec<Option<TcpStream>>,
) -> Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let slot = usize::try_from(stream.as_raw_fd())?;
        epoll::add(
            poll,
            &stream,
            EventData::new_u64(slot as u64),
            EventFlags::IN,
        )?;
        connections.resize_with(connections.len().max(slot + 1), || None);
        connections[slot] = Some(stream);
    }
    Ok(())
}

/// Answers what is there, and looks for another request after each answer, as web servers do.
fn answer(stream: &mut TcpStream) -> Result<()> {
    let mut request = [0; 1024];
    loop {
        match stream.read(&mut request) {
            Ok(length) if request[..length].ends_with(b"\r\n\r\n") => {}
            Ok(_) => bail!("the end, or no whole request"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let written = stream.write_vectored(&[IoSlice::new(HEAD), IoSlice::new(BODY)])?;
        ensure!(written == HEAD.len() + BODY.len(), "the answer was cut");
    }
}
