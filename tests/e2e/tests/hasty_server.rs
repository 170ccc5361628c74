//! A server that has answered and closed before its client's hook runs: the client's first send is seen when the end of
//! the stream is there already, as on a busy machine whose other processor was faster.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::rig::{Rig, watch_only};

const ROUNDS: u64 = 10;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfine\n";
/// After so long the answer and the end of the stream have arrived.
const ARRIVED: Duration = Duration::from_millis(20);

#[test]
fn the_end_that_came_before_the_first_request_was_seen_is_no_loss() {
    counts_every_client().unwrap();
}

fn counts_every_client() -> Result<()> {
    let rig = Rig::start_with(|options| {
        watch_only(options, &std::env::current_exe().unwrap_or_default());
        // What such a server does is no exchange of its own.
        options.sets.push("sides=[client]".to_owned());
    })?;
    let listener = TcpListener::bind("127.0.0.1:0").context("binding a port")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client sees what goes wrong.
            answer_at_once(stream).ok();
        }
    });
    for _ in 0..ROUNDS {
        ask_late(TcpStream::connect(address)?)?;
    }
    let deadline = Instant::now() + Duration::from_secs(12);
    loop {
        let ledger = rig.agent.ledger()?;
        if ledger.outcome_of("client", "tallied") == ROUNDS {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{ledger:?}");
        sleep(Duration::from_millis(100));
    }
}

fn answer_at_once(mut stream: TcpStream) -> Result<()> {
    stream.write_all(ANSWER)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The first receive takes a part of the answer, the second the rest and the end behind it.
fn ask_late(mut stream: TcpStream) -> Result<()> {
    sleep(ARRIVED);
    stream.write_all(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut answer = [0; 512];
    stream.read_exact(&mut answer[..32])?;
    let rest = stream.read(&mut answer[32..])?;
    ensure!(answer[..32 + rest] == *ANSWER, "another answer");
    ensure!(stream.read(&mut answer)? == 0, "more than the answer");
    Ok(())
}
