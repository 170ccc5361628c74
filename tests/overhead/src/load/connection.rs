//! One connection of the load: sends a request, and knows when its answer is whole.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Result, ensure};

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Unfinished,
    Whole,
    /// Whole, and the server closes the connection after it.
    WholeAndLast,
    Broken,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    pub(crate) stream: TcpStream,
    /// When the request under way was due.
    pub(crate) due: Option<Instant>,
    reading: Reading,
}

/// What has come of an answer.
#[derive(Debug, Default)]
struct Reading {
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is whole.
    left: Option<usize>,
    last: bool,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            address,
            stream,
            due: None,
            reading: Reading::default(),
        })
    }

    /// Sends a request whole: an idle connection's buffer takes it.
    pub(crate) fn ask(&mut self, request: &[u8], due: Instant) -> Result<()> {
        let written = self.stream.write(request)?;
        ensure!(written == request.len(), "a request was cut");
        self.due = Some(due);
        self.reading = Reading {
            head: std::mem::take(&mut self.reading.head),
            ..Reading::default()
        };
        self.reading.head.clear();
        Ok(())
    }

    /// Takes what has come.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> Answer {
        match self.stream.read(buffer) {
            Ok(0) => Answer::Broken,
            Ok(length) => self.reading.take(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Answer::Unfinished,
            Err(_) => Answer::Broken,
        }
    }
}

impl Reading {
    fn take(&mut self, bytes: &[u8]) -> Answer {
        let Some(left) = &mut self.left else {
            self.head.extend_from_slice(bytes);
            return self.head_ends();
        };
        *left = left.saturating_sub(bytes.len());
        self.state()
    }

    fn head_ends(&mut self) -> Answer {
        let Some(at) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Answer::Unfinished;
        };
        let (head, body) = self.head.split_at(at + 4);
        let Some(length) = content_length(head) else {
            return Answer::Broken;
        };
        self.last = head
            .windows(17)
            .any(|word| word.eq_ignore_ascii_case(b"connection: close"));
        self.left = Some(length.saturating_sub(body.len()));
        self.state()
    }

    fn state(&self) -> Answer {
        match self.left {
            Some(0) if self.last => Answer::WholeAndLast,
            Some(0) => Answer::Whole,
            _ => Answer::Unfinished,
        }
    }
}

/// Every server measured here says how long its answers are; an answer to nothing is empty.
fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let name = "content-length:";
    let line = text.split("\r\n").find(|line| {
        line.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    });
    line?[name.len()..].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_however_it_is_cut() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nfine\n";
        for cut in 1..answer.len() {
            let mut reading = Reading::default();
            assert_eq!(reading.take(&answer[..cut]), Answer::Unfinished, "{cut}");
            assert_eq!(reading.take(&answer[cut..]), Answer::Whole, "{cut}");
        }
    }

    #[test]
    fn the_last_answer_and_one_without_a_length_are_told() {
        let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Reading::default().take(last), Answer::WholeAndLast);
        let endless = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(Reading::default().take(endless), Answer::Broken);
    }
}
