//! Everything changes all the time: services, routes, connections, the probe's switch, the collector. At the end
//! the agent holds what it held after its first round, and the ledger closes.
//!
//! `cargo xtask soak --minutes N` runs it for longer than the minute it takes in the gate.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kerntally_e2e::agent::Agent;
use kerntally_e2e::kernel_objects::KernelObjects;
use kerntally_e2e::load::{Client, Server, Shape};
use kerntally_e2e::rig::{Rig, say, watch_only};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");
/// Services come back under the same names, so that a second round needs nothing new.
const SERVICES: usize = 8;
/// What memory may grow by after the first round: allocators keep what they had at the busiest moment.
const MAY_GROW_BYTES: u64 = 8 * 1024 * 1024;

/// A collector that answers, or, while it is out, hangs up on everybody.
struct Collector {
    address: SocketAddr,
    out: Arc<AtomicBool>,
    pushes: Arc<AtomicU64>,
}

impl Collector {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let collector = Self {
            address: listener.local_addr()?,
            out: Arc::default(),
            pushes: Arc::default(),
        };
        let (out, pushes) = (Arc::clone(&collector.out), Arc::clone(&collector.pushes));
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (out, pushes) = (Arc::clone(&out), Arc::clone(&pushes));
                std::thread::spawn(move || {
                    // The agent hangs up when it likes, and so does a collector that is out.
                    take_pushes(&stream, &out, &pushes).ok();
                });
            }
        });
        Ok(collector)
    }
}

fn take_pushes(stream: &TcpStream, out: &AtomicBool, pushes: &AtomicU64) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || out.load(Ordering::Relaxed) {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        pushes.fetch_add(1, Ordering::Relaxed);
        let mut writer = stream;
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// What the agent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holdings {
    programs: usize,
    maps: usize,
    links: usize,
    descriptors: usize,
    resident: u64,
}

impl Holdings {
    fn of(agent: &Agent) -> Result<Self> {
        let objects = KernelObjects::of_process(agent.pid())?;
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))
            .context("listing descriptors")?
            .count();
        Ok(Self {
            programs: objects.count("prog"),
            maps: objects.count("map"),
            links: objects.count("link"),
            descriptors,
            resident: agent.resident_bytes()?,
        })
    }
}

struct Soak {
    rig: Rig,
    collector: Collector,
    exchanges: u64,
    rounds: usize,
}

impl Soak {
    /// Every service once, each with a server and a client of its own, the probe and the collector switched
    /// under it.
    fn round(&mut self) {
        for service in 0..SERVICES {
            let name = format!("soak-{service}");
            let program = Path::new(PROGRAM);
            let server = Server::start(program, &format!("{name}-server")).unwrap();
            let shape = Shape {
                connections: 20 + 10 * service,
                per_connection: [1, 7, 100, 0][service % 4],
                routes: 1 + 17 * service as u64,
                ..Shape::default()
            };
            let client = format!("{name}-client");
            let client = Client::start(program, &client, server.port, &shape).unwrap();
            std::thread::sleep(Duration::from_millis(400));
            if service % 2 == 0 {
                self.rig.agent.probes(&["disable", "--all"]).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                self.rig.agent.probes(&["enable", "--all"]).unwrap();
            }
            self.collector
                .out
                .store(service % 3 == 1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(400));
            let report = client.stop().unwrap();
            report.unharmed().unwrap();
            self.exchanges += report.answered;
            let imbalances = self.rig.agent.ledger().unwrap().imbalances();
            assert!(
                imbalances.is_empty(),
                "round {}: {imbalances:?}",
                self.rounds
            );
        }
        self.collector.out.store(false, Ordering::Relaxed);
        self.rounds += 1;
    }

    /// Waits until traffic rests, then says what is held.
    fn rest(&self) -> Holdings {
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.rig.agent.ledger().unwrap().open() > 0 {
            let ledger = self.rig.agent.ledger().unwrap();
            assert!(Instant::now() < deadline, "still open: {ledger:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        // A push and a command more or less must not make a difference.
        std::thread::sleep(Duration::from_secs(2));
        Holdings::of(&self.rig.agent).unwrap()
    }
}

fn minutes() -> u64 {
    std::env::var("KERNTALLY_SOAK_MINUTES")
        .ok()
        .and_then(|minutes| minutes.parse().ok())
        .unwrap_or(1)
}

#[test]
fn holds_at_the_end_what_it_held_at_the_start() {
    let collector = Collector::start().unwrap();
    let rig = Rig::start_with(|options| {
        watch_only(options, Path::new(PROGRAM));
        "otlp".clone_into(&mut options.export);
        let endpoint = format!("http://{}", collector.address);
        options.environment.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(),
                "http/protobuf".to_owned(),
            ),
        ]);
    })
    .unwrap();
    let mut soak = Soak {
        rig,
        collector,
        exchanges: 0,
        rounds: 0,
    };
    let deadline = Instant::now() + Duration::from_secs(60 * minutes());
    // The first rounds find every name and every route.
    soak.round();
    soak.round();
    let first = soak.rest();
    while Instant::now() < deadline {
        soak.round();
    }
    let last = soak.rest();
    let ledger = soak.rig.agent.ledger().unwrap();
    say(&format!(
        "{} rounds, {} exchanges, {} pushes taken; {first:?} became {last:?}; {:?}",
        soak.rounds,
        soak.exchanges,
        soak.collector.pushes.load(Ordering::Relaxed),
        ledger.roles
    ));
    assert!(soak.collector.pushes.load(Ordering::Relaxed) > 0);
    assert!(
        last.resident < first.resident + MAY_GROW_BYTES,
        "{first:?} became {last:?}"
    );
    let in_kernel = |held: Holdings| (held.programs, held.maps, held.links);
    assert_eq!(in_kernel(first), in_kernel(last));
    // The connection to the collector comes and goes.
    assert!(
        last.descriptors <= first.descriptors + 2,
        "{first:?} became {last:?}"
    );
    assert!(ledger.imbalances().is_empty(), "{:?}", ledger.imbalances());
    assert_eq!(ledger.open(), 0);
    let ended = soak.rig.agent.terminate().unwrap();
    assert!(ended.success(), "the agent ended with {ended}");
}
