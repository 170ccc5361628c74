//! A small server in this process and a client that says every byte of its head itself.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Serves on a port of its own until the process ends: 500 below `/fail`, 404 below `/missing`, else 200, and one
/// request a connection.
pub fn serve_tcp() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("binding a port")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

/// The same on a Unix socket: at a path, or by an abstract name where it begins with `@`.
pub fn serve_unix(name: &str) -> Result<()> {
    let listener = match name.strip_prefix('@') {
        Some(name) => UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixListener::bind(Path::new(name)),
    };
    let listener = listener.with_context(|| format!("binding {name}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream);
        }
    });
    Ok(())
}

/// Sends one request over TCP and returns the status of its answer.
pub fn ask_tcp(address: &str, request: &str) -> Result<u16> {
    ask(TcpStream::connect(address).context("connecting")?, request)
}

/// Sends one request over a Unix socket and returns the status of its answer.
pub fn ask_unix(name: &str, request: &str) -> Result<u16> {
    let stream = match name.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(Path::new(name)),
    };
    ask(
        stream.with_context(|| format!("connecting to {name}"))?,
        request,
    )
}

fn ask(mut stream: impl Read + Write, request: &str) -> Result<u16> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("no status line")?;
    status.parse().context("no status")
}

/// Nobody is left to tell of what a client did wrong: it sees it.
fn answer(mut stream: impl Read + Write) {
    answer_one(&mut stream).ok();
}

fn answer_one(stream: &mut (impl Read + Write)) -> Result<()> {
    let mut reader = BufReader::new(&mut *stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("no target")?.to_owned();
    let mut body = 0;
    loop {
        let mut header = String::new();
        ensure!(reader.read_line(&mut header)? > 0, "the head ends early");
        match header.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                body = value.trim().parse()?;
            }
            None if header.trim_end().is_empty() => break,
            Some(_) => {}
            None => bail!("no header: {header}"),
        }
    }
    reader.read_exact(&mut vec![0; body])?;
    let status = match path.as_str() {
        path if path.starts_with("/fail") => "500 Internal Server Error",
        path if path.starts_with("/missing") => "404 Not Found",
        _ => "200 OK",
    };
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfine\n");
    stream.write_all(text.as_bytes())?;
    Ok(())
}
