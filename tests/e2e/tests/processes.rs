//! `resource.identity: process`: two processes of one service are two resources within one service.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::agent::Agent;
use kerntally_e2e::rig::{Rig, watch_only};
use kerntally_e2e::servers::free_address;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

/// A server of the service `twin`; killed when dropped.
struct Twin {
    child: Child,
    address: String,
}

impl Twin {
    fn start() -> Result<Self> {
        let address = free_address()?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let child = Command::new(PROGRAM)
            .args(["load-server", port])
            .env("OTEL_SERVICE_NAME", "twin")
            .stdin(Stdio::null())
            .spawn()
            .context("starting a server")?;
        Ok(Self { child, address })
    }

    fn ask(&self, requests: u64) -> Result<()> {
        for _ in 0..requests {
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut stream = loop {
                match std::net::TcpStream::connect(&self.address) {
                    Ok(stream) => break stream,
                    Err(_) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Err(error) => return Err(error).context("connecting to a twin"),
                }
            };
            exchange(&mut stream)?;
        }
        Ok(())
    }

    fn pid(&self) -> u64 {
        self.child.id().into()
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn exchange(stream: &mut std::net::TcpStream) -> Result<()> {
    use std::io::{Read as _, Write as _};

    stream.write_all(b"GET /a HTTP/1.1\r\nHost: twin\r\nX-Number: 1\r\n\r\n")?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    ensure!(answer[..length].starts_with(b"HTTP/1.1 200"));
    Ok(())
}

/// One resource of the service in the last push.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    instance: String,
    count: u64,
    has_ended: bool,
}

#[test]
fn two_processes_of_one_server_are_two_resources() {
    are_two_resources().unwrap();
}

fn are_two_resources() -> Result<()> {
    let rig = Rig::start_with(|options| {
        watch_only(options, PROGRAM.as_ref());
        options
            .sets
            .extend(["resource.identity=process", "cardinality.idle_ttl=4s"].map(str::to_owned));
    })?;
    let (mut first, second) = (Twin::start()?, Twin::start()?);
    first.ask(3)?;
    second.ask(5)?;
    let told = until(&rig.agent, |told| told.len() == 2)?;
    ensure!(told[&first.pid()].count == 3, "{told:?}");
    ensure!(told[&second.pid()].count == 5, "{told:?}");
    ensure!(told[&first.pid()].instance != told[&second.pid()].instance);
    let services = rig.agent.json(&["services"])?;
    let rows: Vec<_> = services["services"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|row| row["name"] == "twin")
        .collect();
    ensure!(
        rows.len() == 1 && rows[0]["series"]["live"] == 2,
        "{rows:?}"
    );
    // The series of one that ended goes idle and is forgotten; the other's lives on.
    first.child.kill()?;
    first.child.wait()?;
    let gone = first.pid();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut was_marked = false;
    loop {
        second.ask(1)?;
        let told = last_push(&rig.agent)?;
        was_marked |= told.get(&gone).is_some_and(|told| told.has_ended);
        if !told.contains_key(&gone) && told.contains_key(&second.pid()) {
            break;
        }
        ensure!(Instant::now() < deadline, "{told:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    ensure!(was_marked, "no point said that the series ended");
    rig.agent.passes(["lint"])
}

#[test]
fn a_service_with_one_resource_is_the_default() {
    is_the_default().unwrap();
}

fn is_the_default() -> Result<()> {
    let rig = Rig::start_with(|options| watch_only(options, PROGRAM.as_ref()))?;
    let (first, second) = (Twin::start()?, Twin::start()?);
    first.ask(1)?;
    second.ask(1)?;
    let told = until(&rig.agent, |told| told.values().any(|told| told.count == 2))?;
    ensure!(told.len() == 1 && told.contains_key(&0), "{told:?}");
    Ok(())
}

fn until(
    agent: &Agent,
    holds: impl Fn(&BTreeMap<u64, Told>) -> bool,
) -> Result<BTreeMap<u64, Told>> {
    let deadline = Instant::now() + Duration::from_secs(12);
    loop {
        let told = last_push(agent)?;
        if holds(&told) {
            std::thread::sleep(Duration::from_millis(1300));
            return last_push(agent);
        }
        ensure!(Instant::now() < deadline, "{told:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Resources of the service `twin` by their process; 0 without one.
fn last_push(agent: &Agent) -> Result<BTreeMap<u64, Told>> {
    let text = std::fs::read_to_string(agent.export_file()).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = whole
        .lines()
        .rfind(|line| line.contains("http.server.request.duration"));
    let Some(line) = line else {
        return Ok(BTreeMap::new());
    };
    let request: Value = serde_json::from_str(line)?;
    let mut told = BTreeMap::new();
    for resource in request["resourceMetrics"].as_array().into_iter().flatten() {
        let attribute = |name: &str| -> Value {
            let attributes = resource["resource"]["attributes"].as_array();
            let mut attributes = attributes.into_iter().flatten();
            let found = attributes.find(|attribute| attribute["key"] == name);
            found.map_or(Value::Null, |found| found["value"].clone())
        };
        if attribute("service.name")["stringValue"] != "twin" {
            continue;
        }
        let pid = attribute("process.pid")["intValue"].clone();
        let pid = pid.as_str().map_or(Ok(0), str::parse)?;
        let instance = attribute("service.instance.id")["stringValue"].clone();
        let point =
            &resource["scopeMetrics"][0]["metrics"][0]["exponentialHistogram"]["dataPoints"][0];
        let is_new = told
            .insert(
                pid,
                Told {
                    instance: instance.as_str().unwrap_or_default().to_owned(),
                    count: point["count"].as_str().map_or(Ok(0), str::parse)?,
                    has_ended: point["flags"] == 1,
                },
            )
            .is_none();
        ensure!(is_new, "two resources of one process");
    }
    Ok(told)
}
