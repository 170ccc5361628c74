//! Asks by number, on many connections, and checks that the answer has the number.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::server::head_end;
use super::{Report, Shape};

/// Ports on one address of the loopback network that connections are spread over at most.
const PER_ADDRESS: usize = 20_000;
/// Errors that are kept word by word.
const KEPT: usize = 5;
/// How long an answer may take: a stopped agent must not hold it up.
const PATIENCE: Duration = Duration::from_secs(30);

struct Connection {
    stream: TcpStream,
    /// The request under way.
    number: Option<u64>,
    pending: Vec<u8>,
    asked: u64,
}

struct Load {
    shape: Shape,
    port: u16,
    poll: OwnedFd,
    connections: Vec<Option<Connection>>,
    /// Connections that pause, with the time at which they go on.
    resting: VecDeque<(Instant, usize)>,
    told: Arc<AtomicBool>,
    report: Report,
    failed: u64,
    last_answer: Instant,
}

/// Sends what `shape` says, until it is done or standard input ends.
pub fn request(port: u16, shape: &Shape) -> Result<Report> {
    super::raise_descriptors();
    let told = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&told);
    std::thread::spawn(move || {
        // Whatever ends it, there is nobody left to say more.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        flag.store(true, Ordering::Relaxed);
    });
    let begun = Instant::now();
    let mut load = Load {
        shape: shape.clone(),
        port,
        poll: epoll::create(CreateFlags::CLOEXEC)?,
        connections: (0..shape.connections).map(|_| None).collect(),
        resting: VecDeque::new(),
        told,
        report: Report::default(),
        failed: 0,
        last_answer: begun,
    };
    load.run()?;
    load.report.took = begun.elapsed();
    if load.failed > 0 {
        load.report.errors.push(format!("{} in all", load.failed));
    }
    Ok(load.report)
}

impl Load {
    fn run(&mut self) -> Result<()> {
        // All connections first, so that they are there at one time.
        for slot in 0..self.connections.len() {
            self.connect(slot);
        }
        for slot in 0..self.connections.len() {
            self.ask(slot);
        }
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        while self.under_way() {
            events.clear();
            match epoll::wait(&self.poll, spare_capacity(&mut events), Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting"),
            }
            for event in &events {
                let slot = usize::try_from(event.data.u64())?;
                self.receive(slot);
            }
            let now = Instant::now();
            while self.resting.front().is_some_and(|(until, _)| *until <= now) {
                if let Some((_, slot)) = self.resting.pop_front() {
                    self.ask(slot);
                }
            }
            if now.duration_since(self.last_answer) > PATIENCE {
                self.fail("no answer any more".to_owned());
                return Ok(());
            }
        }
        Ok(())
    }

    fn more(&self) -> bool {
        let wanted = self.shape.requests == 0 || self.report.sent < self.shape.requests;
        wanted && !self.told.load(Ordering::Relaxed)
    }

    fn under_way(&self) -> bool {
        self.report.answered + self.failed < self.report.sent || (self.more() && self.failed == 0)
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        if self.report.errors.len() < KEPT {
            self.report.errors.push(what);
        }
    }

    fn connect(&mut self, slot: usize) {
        let address = format!("127.0.0.{}:{}", 1 + slot / PER_ADDRESS, self.port);
        let opened = TcpStream::connect(&address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &self.poll,
                &stream,
                EventData::new_u64(slot as u64),
                EventFlags::IN,
            )?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                self.report.connections += 1;
                self.connections[slot] = Some(Connection {
                    stream,
                    number: None,
                    pending: Vec::new(),
                    asked: 0,
                });
            }
            Err(error) => self.fail(format!("connecting {address}: {error}")),
        }
    }

    fn ask(&mut self, slot: usize) {
        if !self.more() {
            return;
        }
        let renew = self.connections[slot].as_ref().is_some_and(|connection| {
            self.shape.per_connection > 0 && connection.asked >= self.shape.per_connection
        });
        if renew {
            self.connections[slot] = None;
            self.connect(slot);
        }
        let number = self.report.sent;
        let route = number % self.shape.routes.max(1);
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let request = format!(
            "GET /load/route{} HTTP/1.1\r\nHost: load.test\r\nX-Number: {number}\r\n\r\n",
            letters(route)
        );
        match connection.stream.write_all(request.as_bytes()) {
            Ok(()) => {
                connection.number = Some(number);
                connection.asked += 1;
                self.report.sent += 1;
            }
            Err(error) => {
                self.fail(format!("sending {number}: {error}"));
            }
        }
    }

    fn receive(&mut self, slot: usize) {
        match self.connections[slot].as_mut().map(Connection::answer) {
            Some(Ok(Some(true))) => {
                self.report.answered += 1;
                self.last_answer = Instant::now();
                if self.shape.pause.is_zero() {
                    self.ask(slot);
                } else {
                    self.resting
                        .push_back((self.last_answer + self.shape.pause, slot));
                }
            }
            Some(Ok(Some(false))) => self.fail("an answer with another's number".to_owned()),
            Some(Err(error)) => {
                self.connections[slot] = None;
                self.fail(error);
            }
            Some(Ok(None)) | None => {}
        }
    }
}

impl Connection {
    /// Whether a whole answer has come, and it is the right one.
    fn answer(&mut self) -> Result<Option<bool>, String> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(format!("closed while {:?} was asked", self.number)),
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(format!("receiving {:?}: {error}", self.number)),
        }
        let Some(end) = head_end(&self.pending) else {
            return Ok(None);
        };
        let expected = self
            .number
            .map(|number| number.to_string())
            .unwrap_or_default();
        let body = &self.pending[end..];
        if body.len() < expected.len() {
            return Ok(None);
        }
        let right = body == expected.as_bytes() && self.number.take().is_some();
        self.pending.clear();
        Ok(Some(right))
    }
}

/// A number in letters, which no heuristic takes for an identifier.
fn letters(mut number: u64) -> String {
    let mut text = String::new();
    loop {
        let digit = u8::try_from(number % 26).unwrap_or(0);
        text.insert(0, char::from(b'a' + digit));
        number /= 26;
        if number == 0 {
            return text;
        }
    }
}
