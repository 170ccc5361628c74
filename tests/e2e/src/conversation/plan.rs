//! Scripted conversations: turns of requests and responses, how each is cut, and the calls that move them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::peer::Peer;
use super::stream::{RecvBy, SendBy, Span, Stream};
use crate::truth::{Key, Role};

/// Bytes that travel in a send and a receive of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// The sender waits this long before it.
    pub(crate) pause: Duration,
}

/// One request with its response.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) status: u16,
    pub(crate) http_1_0: bool,
    pub(crate) request: Vec<Part>,
    pub(crate) response: Vec<Part>,
}

impl Turn {
    /// A request without a body and a response with a short one.
    pub(crate) fn new(method: &str, path: &str, status: u16) -> Self {
        let body = if method == "HEAD" || status == 204 || status == 304 {
            ""
        } else {
            "fine\n"
        };
        let mut response = format!(
            "HTTP/1.1 {status} Word\r\nContent-Length: {}\r\n",
            body.len()
        );
        if status == 204 {
            response = format!("HTTP/1.1 {status} Word\r\n");
        }
        Self {
            method: method.to_owned(),
            route: route_of(path, status),
            status,
            http_1_0: false,
            request: vec![part(format!(
                "{method} {path} HTTP/1.1\r\nHost: peer.test\r\n\r\n"
            ))],
            response: vec![part(format!("{response}\r\n{body}"))],
        }
    }

    pub(crate) fn with_request(mut self, parts: Vec<Part>) -> Self {
        self.request = parts;
        self
    }

    pub(crate) fn with_response(mut self, parts: Vec<Part>) -> Self {
        self.response = parts;
        self
    }

    pub(crate) fn with_route(mut self, route: &str) -> Self {
        route.clone_into(&mut self.route);
        self
    }

    /// The same with the request in two sends.
    pub(crate) fn request_cut_at(mut self, at: usize) -> Self {
        self.request = cut(&joined(&self.request), at);
        self
    }

    /// The same with the response in two sends.
    pub(crate) fn response_cut_at(mut self, at: usize) -> Self {
        self.response = cut(&joined(&self.response), at);
        self
    }

    pub(crate) fn key(&self, role: Role) -> Key {
        let key = Key::answered(role, &self.method, &self.route, self.status);
        if self.http_1_0 {
            key.version_1_0()
        } else {
            key
        }
    }
}

/// Turns whose requests are under way at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) turns: Vec<Turn>,
    /// All requests leave in one send.
    pub(crate) requests_at_once: bool,
    /// All responses leave in one send.
    pub(crate) responses_at_once: bool,
    /// The server reads and answers one request before it reads the next.
    pub(crate) in_turn: bool,
    /// The client waits this long before it.
    pub(crate) idle_before: Duration,
}

impl Batch {
    pub(crate) fn one(turn: Turn) -> Self {
        Self {
            turns: vec![turn],
            requests_at_once: false,
            responses_at_once: false,
            in_turn: false,
            idle_before: Duration::ZERO,
        }
    }
}

/// A conversation over one or more connections.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Each connection's batches.
    pub(crate) connections: Vec<Vec<Batch>>,
    /// A sender waits after each part until the other side has received it.
    pub(crate) lockstep: bool,
    /// The server ends each connection, as a response without framing needs it.
    pub(crate) server_closes: bool,
    pub(crate) request_send: SendBy,
    pub(crate) request_recv: RecvBy,
    pub(crate) response_send: SendBy,
    pub(crate) response_recv: RecvBy,
    /// The client stops reading for this long after the first bytes of a response.
    pub(crate) reader_stops: Duration,
    /// The turns take place, but no agent can count them.
    pub(crate) uncounted: bool,
}

impl Plan {
    /// Turns one after another on one connection, each part in a send of its own.
    pub(crate) fn of_turns(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::of_batches(turns.into_iter().map(Batch::one).collect())
    }

    pub(crate) fn of_batches(batches: Vec<Batch>) -> Self {
        Self::of_connections(vec![batches])
    }

    pub(crate) fn of_connections(connections: Vec<Vec<Batch>>) -> Self {
        Self {
            connections,
            lockstep: true,
            server_closes: false,
            request_send: SendBy::Send,
            request_recv: RecvBy::Recv,
            response_send: SendBy::Send,
            response_recv: RecvBy::Recv,
            reader_stops: Duration::ZERO,
            uncounted: false,
        }
    }

    pub(crate) fn server_closes(mut self) -> Self {
        self.server_closes = true;
        self
    }

    pub(crate) fn requests(mut self, send: SendBy, recv: RecvBy) -> Self {
        (self.request_send, self.request_recv) = (send, recv);
        self
    }

    pub(crate) fn responses(mut self, send: SendBy, recv: RecvBy) -> Self {
        (self.response_send, self.response_recv) = (send, recv);
        self
    }

    pub(crate) fn without_lockstep(mut self) -> Self {
        self.lockstep = false;
        self
    }

    pub(crate) fn play_server(&self, peer: &mut Peer) -> Result<()> {
        let listener = peer.listen()?;
        for batches in &self.connections {
            let stream = listener.accept()?;
            self.serve(peer, &stream, batches)?;
            if !self.server_closes {
                stream.drain()?;
            }
        }
        Ok(())
    }

    pub(crate) fn play_client(&self, peer: &mut Peer) -> Result<()> {
        for batches in &self.connections {
            let stream = peer.connect()?;
            self.request(peer, &stream, batches)?;
            if self.server_closes {
                stream.drain()?;
            }
        }
        Ok(())
    }

    pub(crate) fn serve(&self, peer: &mut Peer, stream: &Stream, batches: &[Batch]) -> Result<()> {
        for batch in batches {
            if batch.in_turn {
                self.serve_in_turn(peer, stream, &batch.turns)?;
                continue;
            }
            let mut begins = Vec::new();
            for parts in wire(&batch.turns, batch.requests_at_once, |turn| &turn.request) {
                begins.push(
                    self.receive(peer, stream, &parts, &self.request_recv)?
                        .first(),
                );
            }
            let mut ends = Vec::new();
            for parts in wire(&batch.turns, batch.responses_at_once, |turn| &turn.response) {
                ends.push(
                    self.transmit(peer, stream, &parts, &self.response_send)?
                        .last(),
                );
            }
            let mut earlier: Option<Instant> = None;
            for (index, turn) in batch.turns.iter().enumerate() {
                let (begin, end) = (at(&begins, index), at(&ends, index));
                let begin = earlier.map_or(begin, |earlier| begin.max(earlier));
                self.count(peer, turn.key(Role::Server), begin, end);
                earlier = Some(end);
            }
        }
        Ok(())
    }

    fn serve_in_turn(&self, peer: &mut Peer, stream: &Stream, turns: &[Turn]) -> Result<()> {
        for turn in turns {
            let begin = stream
                .expect(&joined(&turn.request), &self.request_recv)?
                .first();
            let end = stream
                .send(&joined(&turn.response), &self.response_send)?
                .last();
            peer.count_since(turn.key(Role::Server), begin, end);
        }
        if self.lockstep {
            // The whole batch was one part on the client's side.
            peer.tell()?;
            for _ in turns {
                peer.hear()?;
            }
        }
        Ok(())
    }

    pub(crate) fn request(
        &self,
        peer: &mut Peer,
        stream: &Stream,
        batches: &[Batch],
    ) -> Result<()> {
        for batch in batches {
            std::thread::sleep(batch.idle_before);
            let mut begins = Vec::new();
            for parts in wire(&batch.turns, batch.requests_at_once, |turn| &turn.request) {
                begins.push(
                    self.transmit(peer, stream, &parts, &self.request_send)?
                        .first(),
                );
            }
            let mut ends = Vec::new();
            for parts in wire(&batch.turns, batch.responses_at_once, |turn| &turn.response) {
                ends.push(self.receive_slowly(peer, stream, &parts)?.last());
            }
            for (index, turn) in batch.turns.iter().enumerate() {
                self.count(
                    peer,
                    turn.key(Role::Client),
                    at(&begins, index),
                    at(&ends, index),
                );
            }
        }
        Ok(())
    }

    fn count(&self, peer: &mut Peer, key: Key, begin: Instant, end: Instant) {
        if !self.uncounted {
            peer.count_since(key, begin, end);
        }
    }

    fn transmit(&self, peer: &Peer, stream: &Stream, parts: &[Part], by: &SendBy) -> Result<Span> {
        let mut span = Span::default();
        for part in parts {
            std::thread::sleep(part.pause);
            span.extend(stream.send(&part.bytes, by)?);
            if self.lockstep {
                peer.hear()?;
            }
        }
        Ok(span)
    }

    fn receive(&self, peer: &Peer, stream: &Stream, parts: &[Part], by: &RecvBy) -> Result<Span> {
        if !self.lockstep {
            return stream.expect(&joined(parts), by);
        }
        let mut span = Span::default();
        for part in parts {
            span.extend(stream.expect(&part.bytes, by)?);
            peer.tell()?;
        }
        Ok(span)
    }

    fn receive_slowly(&self, peer: &Peer, stream: &Stream, parts: &[Part]) -> Result<Span> {
        if self.reader_stops.is_zero() {
            return self.receive(peer, stream, parts, &self.response_recv);
        }
        let bytes = joined(parts);
        let (first, rest) = bytes.split_at(bytes.len().min(1000));
        let mut span = stream.expect(first, &self.response_recv)?;
        std::thread::sleep(self.reader_stops);
        span.extend(stream.expect(rest, &self.response_recv)?);
        Ok(span)
    }
}

/// What travels, transfer by transfer: each turn's parts, or those of all turns in one part.
fn wire(turns: &[Turn], at_once: bool, side: impl Fn(&Turn) -> &Vec<Part>) -> Vec<Vec<Part>> {
    if !at_once {
        return turns.iter().map(|turn| side(turn).clone()).collect();
    }
    let bytes = turns.iter().flat_map(|turn| joined(side(turn))).collect();
    vec![vec![Part {
        bytes,
        pause: Duration::ZERO,
    }]]
}

fn at(times: &[Instant], index: usize) -> Instant {
    times
        .get(index)
        .or_else(|| times.last())
        .copied()
        .unwrap_or_else(Instant::now)
}

pub(crate) fn part(bytes: impl Into<Vec<u8>>) -> Part {
    Part {
        bytes: bytes.into(),
        pause: Duration::ZERO,
    }
}

pub(crate) fn part_after(pause: Duration, bytes: impl Into<Vec<u8>>) -> Part {
    Part {
        bytes: bytes.into(),
        pause,
    }
}

pub(crate) fn joined(parts: &[Part]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| part.bytes.iter().copied())
        .collect()
}

fn cut(bytes: &[u8], at: usize) -> Vec<Part> {
    vec![part(&bytes[..at]), part(&bytes[at..])]
}

/// One byte in each part.
pub(crate) fn bytewise(bytes: &[u8]) -> Vec<Part> {
    bytes.iter().map(|byte| part([*byte])).collect()
}

/// The template that the path of a request gets: one that was refused mints none.
pub(crate) fn route_of(path: &str, status: u16) -> String {
    let path = path.split('?').next().unwrap_or(path);
    if (400..500).contains(&status) {
        "/**".to_owned()
    } else {
        path.to_owned()
    }
}
