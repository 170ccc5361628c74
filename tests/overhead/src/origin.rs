//! A server for large numbers: answers what `?status=` asks for, on as many connections as there are.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

const LISTENER: u64 = u64::MAX;

/// A process that serves; killed when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Origin {
    /// Starts one under a service's name.
    pub(crate) fn start(program: &Path, service: &str) -> Result<Self> {
        let mut process = Command::new(program)
            .arg("origin")
            .env("OTEL_SERVICE_NAME", service)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a server")?;
        let mut port = [0; 2];
        let mut output = process.stdout.take().context("the output is piped")?;
        output.read_exact(&mut port).context("reading the port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::from_be_bytes(port)));
        Ok(Self { process, address })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Already ended is as good.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Serves on a port that it writes to standard output, until it is killed.
pub(crate) fn serve() -> Result<()> {
    kerntally_e2e::load::raise_descriptors();
    let (listener, poll) = kerntally_e2e::load::listen(("127.0.0.1", 0), LISTENER)?;
    let mut output = std::io::stdout();
    output.write_all(&listener.local_addr()?.port().to_be_bytes())?;
    output.flush()?;
    let mut streams = HashMap::new();
    let mut events: Vec<Event> = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                accept(&listener, &poll, &mut streams)?;
            } else if streams.get_mut(&key).is_some_and(|stream| !answer(stream)) {
                streams.remove(&key);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &impl AsFd,
    streams: &mut HashMap<u64, TcpStream>,
) -> Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = u64::try_from(stream.as_raw_fd())?;
        epoll::add(poll, &stream, EventData::new_u64(key), EventFlags::IN)?;
        streams.insert(key, stream);
    }
    Ok(())
}

/// Requests of the load come whole, one at a time; false at the end of the connection.
fn answer(stream: &mut TcpStream) -> bool {
    let mut request = [0; 1024];
    match stream.read(&mut request) {
        Ok(0) => false,
        Ok(length) => {
            let status = status(&request[..length]);
            let empty = status == 204 || status == 304;
            let body = if empty { "" } else { "fine\n" };
            let answer = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).is_ok()
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn status(request: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(request);
    let digits = text
        .split_once("?status=")
        .and_then(|(_, rest)| rest.get(..3));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_asked_for_is_answered() {
        assert_eq!(status(b"GET /gg?status=503 HTTP/1.1\r\n\r\n"), 503);
        assert_eq!(status(b"GET /gg HTTP/1.1\r\n\r\n"), 200);
    }
}
