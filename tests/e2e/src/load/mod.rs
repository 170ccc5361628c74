//! A load that numbers its requests: each answer carries its request's number back, so what was lost, answered
//! twice or answered by another's response is known on the service's own side.
//!
//! Server and clients are processes of `kerntally-conversations`, each one thread on epoll.

mod client;
mod server;

use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use serde::{Deserialize, Serialize};

pub use client::request;
pub use server::serve;

/// What one client does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Connections that it holds at one time, with one request under way on each.
    pub connections: usize,
    /// Requests after which a connection is closed and made anew; 0 for never.
    pub per_connection: u64,
    /// Requests in all; 0 for as many as fit until it is told to stop.
    pub requests: u64,
    /// Different paths that it asks for.
    pub routes: u64,
    /// Pause between two requests on a connection.
    pub pause: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            connections: 16,
            per_connection: 0,
            requests: 0,
            routes: 1,
            pause: Duration::ZERO,
        }
    }
}

/// What one client did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Requests written.
    pub sent: u64,
    /// Answers with the right number.
    pub answered: u64,
    /// Connections made.
    pub connections: u64,
    /// What went wrong, the first few of it.
    pub errors: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// No request failed: the service was not harmed.
    pub fn unharmed(&self) -> Result<()> {
        ensure!(
            self.errors.is_empty() && self.sent == self.answered,
            "{} sent, {} answered; {:?}",
            self.sent,
            self.answered,
            self.errors
        );
        Ok(())
    }

    /// For people.
    pub fn rate(&self) -> u64 {
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        self.answered * 1000 / millis.max(1)
    }
}

/// A process of this load; killed when dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    fn start(command: &mut Command, service: &str) -> Result<Self> {
        let child = command
            .env("OTEL_SERVICE_NAME", service)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting a part of the load")?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The server's process, listening.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Where it listens, on every address of the loopback network.
    pub port: u16,
}

impl Server {
    /// Starts one; `program` is `kerntally-conversations`.
    pub fn start(program: &Path, service: &str) -> Result<Self> {
        Self::start_by(Command::new(program), service)
    }

    /// The same, where the program is started by another one.
    pub fn start_by(mut program: Command, service: &str) -> Result<Self> {
        let port = free_port()?;
        let process = Process::start(program.args(["load-server", &port.to_string()]), service)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                Instant::now() < deadline,
                "the load's server does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { process, port })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A client's process while it runs.
#[derive(Debug)]
pub struct Client(Process);

impl Client {
    /// Starts one against a server; `program` is `kerntally-conversations`.
    pub fn start(program: &Path, service: &str, port: u16, shape: &Shape) -> Result<Self> {
        Self::start_by(Command::new(program), service, port, shape)
    }

    /// The same, where the program is started by another one.
    pub fn start_by(mut program: Command, service: &str, port: u16, shape: &Shape) -> Result<Self> {
        let shape = serde_json::to_string(shape)?;
        program.args(["load-client", &port.to_string(), &shape]);
        Process::start(&mut program, service).map(Self)
    }

    /// Tells it to stop, and waits for its report.
    pub fn stop(mut self) -> Result<Report> {
        drop(self.0.0.stdin.take());
        self.finish()
    }

    /// Waits until it has sent what it was to send.
    pub fn finish(mut self) -> Result<Report> {
        let output = self.0.0.stdout.take().context("the output is piped")?;
        let report = std::io::read_to_string(output)?;
        let status = self.0.0.wait()?;
        if !status.success() {
            bail!("the load's client ended with {status}");
        }
        serde_json::from_str(&report).context("the load's client printed no report")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

/// A listener, and an epoll instance in which it is known by `key`.
pub fn listen(address: (&str, u16), key: u64) -> Result<(TcpListener, OwnedFd)> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("listening at {}:{}", address.0, address.1))?;
    // Longer than the library's queue of connections that wait to be taken.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(key), EventFlags::IN)?;
    Ok((listener, poll))
}

/// As many descriptors as the system lets one process have.
pub fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.maximum = limit.maximum.map(|most| most.max(MOST_DESCRIPTORS));
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // What is not allowed shows when there are too few.
        setrlimit(Resource::Nofile, limit).ok();
    }
}

const MOST_DESCRIPTORS: u64 = 200_000;

/// Prints the report, as JSON.
pub fn print(report: &Report) -> Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, report)?;
    output.flush()?;
    Ok(())
}
