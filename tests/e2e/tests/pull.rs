//! What is scraped from the agent holds the same counts as what was sent.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kerntally_e2e::mix;
use kerntally_e2e::rig::{Rig, send_from_process};
use kerntally_e2e::servers::{self, free_address};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

#[test]
fn a_scrape_shows_every_exchange() {
    shows_every_exchange().unwrap();
}

fn shows_every_exchange() -> Result<()> {
    let address = free_address()?;
    let mut rig = Rig::start_with(|options| {
        "prometheus".clone_into(&mut options.export);
        options
            .sets
            .push(format!("export.prometheus.listen={address}"));
    })?;
    let mut server = servers::python(&rig.directory("server")?)?;
    let program = Path::new(PROGRAM);
    let sent = send_from_process(program, "scraped-client", &server.address, &server.mix, 2)?;
    let counts = [
        (
            "scraped-client",
            "client",
            mix::client_truth(&server.mix, &sent).total(),
        ),
        (
            server.service,
            "server",
            mix::server_truth(&server.mix, &sent).total(),
        ),
    ];
    let deadline = Instant::now() + Duration::from_secs(12);
    loop {
        let page = scrape(&address)?;
        let found = counts.map(|(service, role, _)| counted(&page, service, role));
        if found == counts.map(|(_, _, count)| count) {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{found:?} of {counts:?} in {page}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    server.stop();
    let status = rig.agent.terminate()?;
    ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

/// Adds up what the series of one service count.
fn counted(page: &str, service: &str, role: &str) -> u64 {
    let name = format!("http_{role}_request_duration_seconds_count{{job=\"{service}\",");
    let lines = page.lines().filter(|line| line.starts_with(&name));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

fn scrape(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.starts_with("HTTP/1.0 200"), "{page}");
    ensure!(page.ends_with("# EOF\n"), "{page}");
    Ok(page)
}
