//! Go writes and reads on different goroutines and threads: over many exchanges no pairing may slip.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kerntally_e2e::export::Series;
use kerntally_e2e::install;
use kerntally_e2e::ledger::Ledger;
use kerntally_e2e::rig::{Rig, runs_everything, skip};
use kerntally_e2e::servers::free_address;
use kerntally_e2e::truth::Role;

/// Counts by role, method and status: what was shed from the detail of a few keeps these.
type Counts = BTreeMap<(Role, String, Option<u16>), u64>;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn no_pairing_slips() {
    let programs = match install::go_programs() {
        Ok(programs) => programs,
        Err(error) => return skip("no_pairing_slips", &format!("{error:#}")),
    };
    let requests = if runs_everything() {
        10_000_000
    } else {
        300_000
    };
    let program = programs.join("pairs-go");
    let address = free_address().unwrap();
    let rig = Rig::start().unwrap();
    let server = Command::new(&program)
        .args(["serve", &address])
        .env("GOMAXPROCS", "2")
        .env("OTEL_SERVICE_NAME", "pairs-server")
        .spawn()
        .unwrap();
    let _server = Ended(server);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < deadline, "the Go server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = Command::new(&program)
        .args(["request", &address, &requests.to_string(), "4"])
        .env("GOMAXPROCS", "2")
        .env("OTEL_SERVICE_NAME", "pairs-client")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "the Go client ended with {}",
        output.status
    );
    let truth = truth(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(truth.values().sum::<u64>(), 2 * (requests / 4 * 4));
    compare(&rig, &truth);
}

fn truth(printed: &str) -> Counts {
    let mut counts = Counts::new();
    for line in printed.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [method, _, status, count] = words[..] else {
            panic!("unexpected line {line:?}")
        };
        for role in [Role::Server, Role::Client] {
            let key = (role, method.to_owned(), Some(status.parse().unwrap()));
            counts.insert(key, count.parse().unwrap());
        }
    }
    counts
}

/// Every exchange is exported, or named: a combination that was never sent would be a slipped pairing.
fn compare(rig: &Rig, truth: &Counts) {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let found = counts(&rig.agent.series().unwrap());
        let ledger = rig.agent.ledger().unwrap();
        let differences = differences(&found, truth, &ledger);
        if differences.is_empty() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{}; ledger: {ledger:?}",
            differences.join("; ")
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn differences(found: &Counts, truth: &Counts, ledger: &Ledger) -> Vec<String> {
    let mut differences = ledger.imbalances();
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
        let named = ledger.outcome_of(name, "ring_full");
        if exported + named != sent {
            differences.push(format!(
                "{name}: {sent} sent, {exported} exported, {named} ring_full"
            ));
        }
    }
    differences
}

fn counts(series: &[Series]) -> Counts {
    let mut counts = Counts::new();
    for one in series
        .iter()
        .filter(|one| one.service.starts_with("pairs-"))
    {
        assert_eq!(
            one.service == "pairs-server",
            one.role == Role::Server,
            "{one:?}"
        );
        *counts
            .entry((one.role, one.method.clone(), one.status))
            .or_insert(0) += one.count;
    }
    counts
}
