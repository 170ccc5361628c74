//! Answers every request with its number.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// What has come of a request that is not whole yet.
    pending: Vec<u8>,
}

/// Serves until it is killed.
pub fn serve(port: u16) -> Result<()> {
    super::raise_descriptors();
    let (listener, poll) = super::listen(("0.0.0.0", port), LISTENER)?;
    let mut connections = HashMap::new();
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("waiting"),
        }
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    accept(&poll, stream, &mut connections)?;
                }
            } else if connections
                .get_mut(&key)
                .is_some_and(|connection| !connection.answer())
            {
                connections.remove(&key);
            }
        }
    }
}

fn accept(
    poll: &impl std::os::fd::AsFd,
    stream: TcpStream,
    connections: &mut HashMap<u64, Connection>,
) -> Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let key = u64::try_from(stream.as_raw_fd())?;
    epoll::add(poll, &stream, EventData::new_u64(key), EventFlags::IN)?;
    connections.insert(
        key,
        Connection {
            stream,
            pending: Vec::new(),
        },
    );
    Ok(())
}

impl Connection {
    /// Reads what is there and answers what is whole; false at the end of the connection.
    fn answer(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
        while let Some(end) = head_end(&self.pending) {
            let number = number(&self.pending[..end]);
            self.pending.drain(..end);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}",
                number.len()
            );
            if self.stream.write_all(answer.as_bytes()).is_err() {
                return false;
            }
        }
        true
    }
}

pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

/// The last word of a head's last header.
fn number(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let word = text.trim_end().rsplit(' ').next().unwrap_or_default();
    word.to_owned()
}
