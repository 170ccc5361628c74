//! At any rate, with a small ring and a reader that stands still, what was sent is what is counted.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::path::Path;
use std::time::Duration;

use kerntally_e2e::load::{Client, Report, Server, Shape};
use kerntally_e2e::rig::{Rig, runs_everything, say, watch_only};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

fn rig(sets: &[&str]) -> Rig {
    Rig::start_with(|options| {
        watch_only(options, Path::new(PROGRAM));
        options.sets.extend(sets.iter().map(ToString::to_string));
    })
    .unwrap()
}

fn shape(requests: u64) -> Shape {
    Shape {
        connections: 64,
        requests,
        ..Shape::default()
    }
}

fn play(shape: &Shape) -> Report {
    let program = Path::new(PROGRAM);
    let server = Server::start(program, "load-server").unwrap();
    let client = Client::start(program, "load-client", server.port, shape).unwrap();
    let report = client.finish().unwrap();
    report.unharmed().unwrap();
    report
}

#[test]
fn everything_is_counted_at_full_rate() {
    let rig = rig(&[]);
    let requests = if runs_everything() {
        3_000_000
    } else {
        200_000
    };
    let report = play(&shape(requests));
    all_or_degraded(&rig, &report, "everything_is_counted_at_full_rate");
}

#[test]
fn everything_is_counted_on_new_connections() {
    let rig = rig(&[]);
    let requests = if runs_everything() { 500_000 } else { 30_000 };
    let report = play(&Shape {
        per_connection: 1,
        ..shape(requests)
    });
    all_or_degraded(&rig, &report, "everything_is_counted_on_new_connections");
}

/// Every exchange is counted in a series: a full ring costs detail only.
fn all_or_degraded(rig: &Rig, report: &Report, test: &str) {
    let mut ledger = rig.agent.ledger().unwrap();
    for _ in 0..100 {
        if ledger.open() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        ledger = rig.agent.ledger().unwrap();
    }
    assert!(ledger.imbalances().is_empty(), "{:?}", ledger.imbalances());
    for role in ["server", "client"] {
        let counted = ledger.counted_of(role);
        assert_eq!(counted, report.answered, "{role}: {ledger:?}");
    }
    say(&format!(
        "{test}: {} exchanges a side at {} a second, {} counted in all, {} degraded",
        report.answered,
        report.rate(),
        ledger.counted_of("server") + ledger.counted_of("client"),
        ledger.outcome("tallied_degraded"),
    ));
    let differences = ledger.differences_from(report.answered);
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn a_small_ring_costs_detail_and_no_count() {
    let rig = rig(&["hooks.ring=64KiB"]);
    let requests = if runs_everything() {
        2_000_000
    } else {
        200_000
    };
    let report = play(&shape(requests));
    all_or_degraded(&rig, &report, "a_small_ring_costs_detail_and_no_count");
}

#[test]
fn a_reader_that_stands_still_costs_detail_and_no_count() {
    let rig = rig(&["hooks.ring=64KiB"]);
    let stopped = Duration::from_secs(if runs_everything() { 10 } else { 2 });
    let program = Path::new(PROGRAM);
    let server = Server::start(program, "load-server").unwrap();
    let client = Client::start(program, "load-client", server.port, &shape(0)).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    rig.agent.signal(Signal::STOP).unwrap();
    std::thread::sleep(stopped);
    rig.agent.signal(Signal::CONT).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let report = client.stop().unwrap();
    report.unharmed().unwrap();
    all_or_degraded(
        &rig,
        &report,
        "a_reader_that_stands_still_costs_detail_and_no_count",
    );
}
