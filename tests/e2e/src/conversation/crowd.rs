//! More threads that wait in one function of the kernel than the back end kprobe can follow.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::bench::Bench;
use super::checks::{backend, ledger_settles};
use super::compat::{REQUEST, RESPONSE};
use crate::ledger::Ledger;
use crate::load::raise_descriptors;

/// The kernel is asked to show 2,048 returns of a function at a time.
const THREADS: usize = 2_200;
/// What their threads are called: others of this process come and go.
const SERVER: &str = "crowd-server";
/// Room for a thread that does nothing.
const STACK_BYTES: usize = 64 << 10;
/// How long the threads may take until all of them wait.
const WAIT_WITHIN: Duration = Duration::from_mins(2);

/// Every exchange is tallied, or its request's receive was missed and counted.
pub(super) fn waits(bench: &mut Bench<'_>) -> Result<()> {
    let agent = bench.agent()?;
    let few = backend(&agent)? == "kprobe";
    let before = agent.ledger()?;
    converse()?;
    ledger_settles(bench.options, &agent, |ledger| {
        shortfall(&ledger.since(&before), few)
    })?;
    bench.give_back(agent);
    Ok(())
}

fn shortfall(ledger: &Ledger, few: bool) -> Option<&'static str> {
    let threads = THREADS as u64;
    let missed = ledger.blind.get("missed_returns").copied().unwrap_or(0);
    let joined = ledger.outcome_of("server", "joined_midstream");
    if ledger.outcome_of("client", "tallied") != threads {
        return Some("not every request of the client was tallied");
    }
    if ledger.outcome_of("server", "tallied") + joined != threads {
        return Some("the server's exchanges are not all accounted for");
    }
    if few && missed == 0 {
        return Some("no missed return was counted");
    }
    if joined > missed {
        return Some("more receives were missed than counted");
    }
    None
}

/// Has every thread wait for a request, then asks one after the other.
fn converse() -> Result<()> {
    raise_descriptors();
    let mut peers = Vec::new();
    for _ in 0..THREADS {
        let (client, server) = UnixStream::pair()?;
        peers.push((client, spawn(server)?));
    }
    let deadline = Instant::now() + WAIT_WITHIN;
    while asleep()? < THREADS {
        ensure!(Instant::now() < deadline, "the threads do not all wait");
        sleep(Duration::from_millis(50));
    }
    for (mut client, server) in peers {
        client.write_all(REQUEST)?;
        // Its own receive finds the response there, and room among the calls that the kernel follows.
        let served = server.join().ok().context("a server panicked")?;
        served.context("serving")?;
        let mut answer = [0; RESPONSE.len()];
        client.read_exact(&mut answer)?;
        ensure!(answer == RESPONSE);
    }
    Ok(())
}

fn spawn(mut server: UnixStream) -> Result<JoinHandle<std::io::Result<()>>> {
    let answer = move || {
        let mut request = [0; REQUEST.len()];
        server.read_exact(&mut request)?;
        server.write_all(RESPONSE)
    };
    thread::Builder::new()
        .name(SERVER.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(answer)
        .context("starting a thread")
}

/// Servers that sleep.
fn asleep() -> Result<usize> {
    let mark = format!("({SERVER}) S ");
    let mut sleeping = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else {
            continue;
        };
        sleeping += usize::from(stat.contains(&mark));
    }
    Ok(sleeping)
}
