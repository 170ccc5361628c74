//! An agent with nothing to do sleeps until its next export, and misses nothing that comes meanwhile.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kerntally_e2e::agent::AgentOptions;
use kerntally_e2e::plain::{ask_tcp, ask_unix, serve_tcp, serve_unix};
use kerntally_e2e::rig::{Rig, watch_only};
use kerntally_e2e::truth::Role;

const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Wake-ups within [`WINDOW`] that are still rest: anybody's first request on this machine is one.
const FEW: u64 = 2;
const WINDOW: Duration = Duration::from_secs(3);

/// Watches this process, and exports at its end only.
fn rig() -> Result<Rig> {
    rig_with(|_| {})
}

fn rig_with(change: impl FnOnce(&mut AgentOptions)) -> Result<Rig> {
    Rig::start_with(|options| {
        change(options);
        watch_only(options, &std::env::current_exe().unwrap_or_default());
        "1h".clone_into(&mut options.interval);
    })
}

/// How often its threads have gone to sleep.
fn sleeps(rig: &Rig) -> Result<u64> {
    let mut sleeps = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", rig.agent.pid()))? {
        // A thread may end between the listing and the reading.
        let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sleeps += count.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
    }
    Ok(sleeps)
}

/// Waits until it rests; returns how often it had slept by then.
fn at_rest(rig: &Rig) -> Result<u64> {
    let mut before = sleeps(rig)?;
    for _ in 0..20 {
        std::thread::sleep(WINDOW);
        let now = sleeps(rig)?;
        if now.saturating_sub(before) <= FEW {
            return Ok(now);
        }
        before = now;
    }
    anyhow::bail!("the agent never came to rest")
}

/// Waits for something without asking the agent, which would wake it.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(12);
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn a_resting_agent_is_woken_by_what_it_counts_and_loses_none() {
    woken_and_none_lost().unwrap();
}

fn woken_and_none_lost() -> Result<()> {
    let mut rig = rig()?;
    let address = serve_tcp()?;
    let mut asked = 0;
    // The first request announces its process, which wakes on its own account.
    for burst in [1, 1, 1, 50] {
        let slept = at_rest(&rig)?;
        for _ in 0..burst {
            ensure!(ask_tcp(&address, REQUEST)? == 200);
            asked += 1;
        }
        until("nothing woke the agent", || Ok(sleeps(&rig)? > slept + FEW))?;
    }
    let status = rig.agent.terminate()?;
    ensure!(status.success(), "{status}");
    let mut counted = [0; 2];
    for series in rig.agent.series()? {
        counted[usize::from(series.role == Role::Client)] += series.count;
    }
    ensure!(counted == [asked; 2], "{counted:?} of {asked}");
    Ok(())
}

#[test]
fn what_ends_unseen_on_a_unix_socket_is_ended_after_a_rest() {
    ends_unseen().unwrap();
}

fn ends_unseen() -> Result<()> {
    let rig = rig()?;
    let status = rig.agent.json(&["status"])?;
    let sees_ends = ["fexit", "kprobe"].contains(&status["backend"]["name"].as_str().unwrap_or(""));
    let directory = rig.directory("sockets")?;
    let warm = directory.join("warm").display().to_string();
    serve_unix(&warm)?;
    ensure!(ask_unix(&warm, REQUEST)? == 200);
    let path = directory.join("silent");
    let listener = UnixListener::bind(&path)?;
    let slept = at_rest(&rig)?;
    let mut client = UnixStream::connect(&path)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(REQUEST.as_bytes())?;
    let length = server.read(&mut [0; 1024])?;
    ensure!(length == REQUEST.len(), "the request came in pieces");
    if !sees_ends {
        // Its commands come over Unix sockets, which may be at the addresses of those that are gone: not asked before.
        until("nothing woke the agent", || Ok(sleeps(&rig)? > slept + FEW))?;
    }
    drop((client, server));
    until("what was open stays open", || {
        Ok(rig.agent.ledger()?.open() == 0)
    })?;
    let ledger = rig.agent.ledger()?;
    let differences = ledger.differences_from(2);
    ensure!(differences.is_empty(), "{differences:?}");
    at_rest(&rig)?;
    Ok(())
}

#[test]
fn a_changed_configuration_is_put_in_force_during_a_rest() {
    put_in_force().unwrap();
}

fn put_in_force() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("kerntally.yaml");
    std::fs::write(&file, "status: code\n")?;
    let rig = rig_with(|options| {
        let variable = "KERNTALLY_CONFIG".to_owned();
        let environment = &mut options.environment;
        environment.push((variable, file.display().to_string()));
    })?;
    at_rest(&rig)?;
    let next = directory.path().join("next");
    std::fs::write(&next, "status: class\n")?;
    std::fs::rename(&next, &file)?;
    until("the configuration was not reloaded", || {
        Ok(rig.agent.json(&["status"])?["config"]["reloads"] == 1)
    })?;
    at_rest(&rig)?;
    Ok(())
}
