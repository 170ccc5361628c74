//! A Go client and server, which write and read on different goroutines and threads: over many exchanges no
//! pairing may slip.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::agent::Agent;
use crate::export::Series;
use crate::ledger::Ledger;
use crate::servers::free_address;
use crate::truth::Role;

/// Counts by role, method and status: what was shed from the detail of a few keeps these.
type Counts = BTreeMap<(Role, String, Option<u16>), u64>;

/// Connections of the client.
const CONNECTIONS: u64 = 32;
/// How long the server may take to listen; an emulated machine is slow.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends `requests` with the program `pairs-go` beside a running agent, whose export has `settle` to say the
/// same; anything else is an error that says what.
pub fn play(program: &Path, agent: &Agent, requests: u64, settle: Duration) -> Result<()> {
    let before = agent.ledger()?;
    let address = free_address()?;
    let _server = serve(program, &address)?;
    let output = Command::new(program)
        .args(["request", &address, &requests.to_string()])
        .arg(CONNECTIONS.to_string())
        .env("GOMAXPROCS", "2")
        .env("OTEL_SERVICE_NAME", "pairs-client")
        .stderr(Stdio::inherit())
        .output()
        .context("starting the Go client")?;
    let status = output.status;
    ensure!(status.success(), "the Go client ended with {status}");
    let truth = truth(&String::from_utf8(output.stdout)?)?;
    let both_sides = 2 * (requests / CONNECTIONS * CONNECTIONS);
    ensure!(
        truth.values().sum::<u64>() == both_sides,
        "the Go client sent {truth:?}"
    );
    compare(agent, &before, &truth, settle)
}

fn serve(program: &Path, address: &str) -> Result<Ended> {
    let server = Command::new(program)
        .args(["serve", address])
        .env("GOMAXPROCS", "2")
        .env("OTEL_SERVICE_NAME", "pairs-server")
        .spawn()
        .context("starting the Go server")?;
    let server = Ended(server);
    let deadline = Instant::now() + LISTENS_WITHIN;
    while TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < deadline, "the Go server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

fn truth(printed: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in printed.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [method, _, status, count] = words[..] else {
            bail!("unexpected line {line:?}")
        };
        for role in [Role::Server, Role::Client] {
            let key = (role, method.to_owned(), Some(status.parse()?));
            counts.insert(key, count.parse()?);
        }
    }
    Ok(counts)
}

/// Of so many exchanges one may be unreadable, by name: a hook cannot wait for a page that is not mapped at that moment.
/// No more than this was ever seen, in a guest.
const UNREADABLE_IN: u64 = 100_000;

/// Every exchange is exported, or named: a combination that was never sent would be a slipped pairing.
fn compare(agent: &Agent, before: &Ledger, truth: &Counts, settle: Duration) -> Result<()> {
    let deadline = Instant::now() + settle;
    loop {
        let found = counts(&agent.series()?)?;
        let ledger = agent.ledger()?;
        let mut differences = ledger.imbalances();
        differences.extend(missing(&found, truth, &ledger.since(before)));
        if differences.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{}; ledger: {ledger:?}",
            differences.join("; ")
        );
        agent.wait_for_push();
    }
}

fn missing(found: &Counts, truth: &Counts, ledger: &Ledger) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, count) in found {
        let sent = truth.get(key).copied().unwrap_or(0);
        if *count > sent {
            differences.push(format!("{key:?}: {sent} sent, {count} exported"));
        }
    }
    for (role, name) in [(Role::Server, "server"), (Role::Client, "client")] {
        let total = |counts: &Counts| -> u64 {
            counts
                .iter()
                .filter(|((of, ..), _)| *of == role)
                .map(|(_, count)| count)
                .sum()
        };
        let (sent, exported) = (total(truth), total(found));
        let full = ledger.outcome_of(name, "ring_full");
        let unreadable = ledger.outcome_of(name, "buffer_unreadable");
        if exported + full + unreadable != sent || unreadable > sent / UNREADABLE_IN {
            differences.push(format!(
                "{name}: {sent} sent, {exported} exported, {full} ring_full, {unreadable} buffer_unreadable"
            ));
        }
    }
    differences
}

fn counts(series: &[Series]) -> Result<Counts> {
    let mut counts = Counts::new();
    for one in series
        .iter()
        .filter(|one| one.service.starts_with("pairs-"))
    {
        let right = (one.service == "pairs-server") == (one.role == Role::Server);
        ensure!(right, "the wrong side of an exchange: {one:?}");
        *counts
            .entry((one.role, one.method.clone(), one.status))
            .or_insert(0) += one.count;
    }
    Ok(counts)
}
