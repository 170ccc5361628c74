//! Real servers and clients: exported counts equal what was sent, on both sides, and durations lie within the
//! promised tolerance.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::mix::{self, Kind, Sent};
use kerntally_e2e::rig::{Rig, send_from_process, skip};
use kerntally_e2e::servers::{self, Server, Starter};
use kerntally_e2e::truth::{Key, Role, Tally, Tolerance};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");
const ROUNDS: usize = 20;

#[test]
fn nginx() {
    counts_equal("nginx");
}

#[test]
fn apache() {
    counts_equal("apache");
}

#[test]
fn python_http_server() {
    counts_equal("python");
}

#[test]
fn gunicorn() {
    counts_equal("gunicorn");
}

#[test]
fn uvicorn() {
    counts_equal("uvicorn");
}

#[test]
fn node() {
    counts_equal("node");
}

#[test]
fn java() {
    counts_equal("java");
}

#[test]
fn go() {
    counts_equal("go");
}

/// The proxy is a server to the client and a client to what stands behind it.
#[test]
fn haproxy_before_nginx() {
    let directory = tempfile::tempdir().unwrap();
    let behind = directory.path().join("nginx");
    std::fs::create_dir_all(&behind).unwrap();
    let server = match servers::nginx(&behind) {
        Ok(server) => server,
        Err(error) => return skip("haproxy_before_nginx", &format!("{error:#}")),
    };
    let proxy = match servers::haproxy(directory.path(), &server) {
        Ok(proxy) => proxy,
        Err(error) => return skip("haproxy_before_nginx", &format!("{error:#}")),
    };
    within_three_attempts(|attempt| {
        let rig = Rig::start()?;
        let client = format!("counting-client-haproxy-{attempt}");
        let sent = send_from_process(
            Path::new(PROGRAM),
            &client,
            &proxy.address,
            &proxy.mix,
            ROUNDS,
        )?;
        let mut through = mix::server_truth(&proxy.mix, &sent);
        through.absorb(&between_truth(&proxy.mix, &sent));
        let truths = BTreeMap::from([
            (client, mix::client_truth(&proxy.mix, &sent)),
            ("haproxy".to_owned(), through),
            ("nginx".to_owned(), mix::server_truth(&proxy.mix, &sent)),
        ]);
        rig.counts_equal(&truths)?;
        rig.duration_differences(&truths, Tolerance::PROMISED)
    });
}

/// The client side of a proxy: no longer than its own client waited.
fn between_truth(mix: &[Kind], sent: &[Sent]) -> Tally {
    let mut tally = Tally::default();
    for one in sent {
        let kind = &mix[one.kind];
        let key = Key::answered(Role::Client, &kind.method, &kind.route, kind.status);
        tally.add_between(key, kind.sleeps, one.took);
    }
    tally
}

fn counts_equal(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let start = starter(name);
    let server = match start(directory.path()) {
        Ok(server) => server,
        Err(error) => return skip(name, &format!("{error:#}")),
    };
    within_three_attempts(|attempt| {
        let rig = Rig::start()?;
        let client = format!("counting-client-{name}-{attempt}");
        let logged_before = logged(&server).len();
        let sent = send_from_process(
            Path::new(PROGRAM),
            &client,
            &server.address,
            &server.mix,
            ROUNDS,
        )?;
        let truths = BTreeMap::from([
            (client, mix::client_truth(&server.mix, &sent)),
            (
                server.service.to_owned(),
                mix::server_truth(&server.mix, &sent),
            ),
        ]);
        rig.counts_equal(&truths)?;
        let mut differences = rig.duration_differences(&truths, Tolerance::PROMISED)?;
        if server.access_log.is_some() {
            let own = own_truth(&server, &logged(&server)[logged_before..])?;
            let own = BTreeMap::from([(server.service.to_owned(), own)]);
            differences.extend(rig.duration_differences(&own, Tolerance::PROMISED)?);
        }
        Ok(differences)
    });
}

fn starter(name: &str) -> Starter {
    servers::ALL.iter().find(|(of, _)| *of == name).unwrap().1
}

/// Counts must be right at once. Durations are compared with clocks of other processes, which a busy machine can
/// hold up: they must be right in one of three attempts.
fn within_three_attempts(attempt: impl Fn(usize) -> Result<Vec<String>>) {
    let mut differences = Vec::new();
    for number in 0..3 {
        differences = attempt(number).unwrap_or_else(|error| panic!("{error:#}"));
        if differences.is_empty() {
            return;
        }
    }
    panic!("durations: {}", differences.join("; "));
}

/// Lines of a server's own log: method, path, status, microseconds.
fn logged(server: &Server) -> Vec<String> {
    let Some(log) = &server.access_log else {
        return Vec::new();
    };
    // Written when a request is over, which may be after the client has its answer.
    std::thread::sleep(Duration::from_millis(100));
    std::fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn own_truth(server: &Server, lines: &[String]) -> Result<Tally> {
    let mut tally = Tally::default();
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        let [method, path, status, micros] = words[..] else {
            anyhow::bail!("unexpected line {line:?} in the access log");
        };
        let status: u16 = status.parse()?;
        let kind = server
            .mix
            .iter()
            .find(|kind| kind.method == method && kind.path == path)
            .with_context(|| format!("{path} in the access log was not sent"))?;
        ensure!(
            kind.status == status,
            "{line:?} in the access log: expected {}",
            kind.status
        );
        let key = Key::answered(Role::Server, method, &kind.route, status);
        tally.add(key, Duration::from_micros(micros.parse()?));
    }
    Ok(tally)
}
