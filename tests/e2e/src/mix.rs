//! A known mix of methods, paths, statuses and delays, and the client that sends it and counts.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::truth::{Key, Role, Tally};

/// A kind of request that a server under test knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// Method.
    pub method: String,
    /// Path as it is sent.
    pub path: String,
    /// Template that it belongs to.
    pub route: String,
    /// Status that the server answers.
    pub status: u16,
    /// The handler sleeps at least this long.
    pub sleeps: Duration,
}

/// A kind that needs no more words than these.
pub fn kind(method: &str, path: &str, route: &str, status: u16, sleeps_ms: u64) -> Kind {
    Kind {
        method: method.to_owned(),
        path: path.to_owned(),
        route: route.to_owned(),
        status,
        sleeps: Duration::from_millis(sleeps_ms),
    }
}

/// What the programs in `tests/apps` serve.
pub fn of_apps() -> Vec<Kind> {
    vec![
        kind("GET", "/ok", "/ok", 200, 0),
        kind("GET", "/items/17", "/items/{id}", 200, 0),
        kind("POST", "/orders", "/orders", 201, 0),
        kind("GET", "/slow", "/slow", 200, 20),
        kind("DELETE", "/items/18", "/items/{id}", 204, 0),
        kind("GET", "/missing", "/**", 404, 0),
        kind("HEAD", "/ok", "/ok", 200, 0),
        kind("PUT", "/items/4711", "/items/{id}", 200, 0),
        kind("GET", "/busy", "/busy", 503, 40),
        kind("GET", "/fail", "/fail", 500, 0),
        kind("GET", "/stream", "/stream", 200, 15),
        kind("GET", "/ok?q=a", "/ok", 200, 0),
    ]
}

/// One exchange as the client saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Index of its kind in the mix.
    pub kind: usize,
    /// From the request's first byte to the response's last.
    pub took: Duration,
}

/// Sends the mix `rounds` times over keep-alive connections and checks every status.
pub fn send(address: &str, mix: &[Kind], rounds: usize, connections: usize) -> Result<Vec<Sent>> {
    let mut clients: Vec<Option<Client>> = (0..connections).map(|_| None).collect();
    let mut sent = Vec::new();
    for round in 0..rounds {
        for (index, kind) in mix.iter().enumerate() {
            let slot = (round * mix.len() + index) % connections;
            let mut client = match clients[slot].take() {
                Some(client) => client,
                None => Client::connect(address)?,
            };
            let (took, keeps) = client
                .exchange(kind)
                .with_context(|| format!("{} {}", kind.method, kind.path))?;
            sent.push(Sent { kind: index, took });
            if keeps {
                clients[slot] = Some(client);
            }
        }
    }
    Ok(sent)
}

/// What the server's service must export for it: its own part lies between the sleep and what the client saw.
pub fn server_truth(mix: &[Kind], sent: &[Sent]) -> Tally {
    let mut tally = Tally::default();
    for one in sent {
        let kind = &mix[one.kind];
        let key = Key::answered(Role::Server, &kind.method, &kind.route, kind.status);
        tally.add_between(key, kind.sleeps, one.took);
    }
    tally
}

/// What the client's service must export for it.
pub fn client_truth(mix: &[Kind], sent: &[Sent]) -> Tally {
    let mut tally = Tally::default();
    for one in sent {
        let kind = &mix[one.kind];
        tally.add(
            Key::answered(Role::Client, &kind.method, &kind.route, kind.status),
            one.took,
        );
    }
    tally
}

struct Client {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Client {
    fn connect(address: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connecting {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self {
            reader: BufReader::with_capacity(64 * 1024, stream),
            host: address.to_owned(),
        })
    }

    /// How long it took, and whether the connection may be used again.
    fn exchange(&mut self, kind: &Kind) -> Result<(Duration, bool)> {
        let body = if kind.method == "POST" {
            "an order of some length\n"
        } else {
            ""
        };
        let length = if body.is_empty() && kind.method != "PUT" {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kerntally-e2e\r\n{length}\r\n{body}",
            kind.method, kind.path, self.host
        );
        let before = Instant::now();
        self.reader
            .get_mut()
            .write_all(request.as_bytes())
            .context("sending")?;
        let (status, headers) = self.head()?;
        let closes = self.body(&kind.method, status, &headers)?;
        let took = before.elapsed();
        ensure!(
            status == kind.status,
            "status {status}, expected {}",
            kind.status
        );
        Ok((took, !closes))
    }

    fn head(&mut self) -> Result<(u16, BTreeMap<String, String>)> {
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("header {line:?}"))?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_ascii_lowercase());
        }
        Ok((
            status.with_context(|| format!("status line {line:?}"))?,
            headers,
        ))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("receiving")? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads the body away; whether the connection ends with it.
    fn body(
        &mut self,
        method: &str,
        status: u16,
        headers: &BTreeMap<String, String>,
    ) -> Result<bool> {
        let closes = headers
            .get("connection")
            .is_some_and(|value| value == "close");
        if method == "HEAD" || status == 204 || status == 304 {
            return Ok(closes);
        }
        if headers
            .get("transfer-encoding")
            .is_some_and(|value| value == "chunked")
        {
            self.chunks()?;
            return Ok(closes);
        }
        if let Some(length) = headers.get("content-length") {
            self.skip(length.parse().context("content length")?)?;
            return Ok(closes);
        }
        std::io::copy(&mut self.reader, &mut std::io::sink()).context("receiving")?;
        Ok(true)
    }

    fn chunks(&mut self) -> Result<()> {
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(&line, 16).with_context(|| format!("chunk {line:?}"))?;
            self.skip(size)?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        let mut body = (&mut self.reader).take(length);
        let copied = std::io::copy(&mut body, &mut std::io::sink()).context("receiving")?;
        ensure!(
            copied == length,
            "the body ended after {copied} of {length} bytes"
        );
        Ok(())
    }
}
