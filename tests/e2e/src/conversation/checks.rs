//! Checks that start, stop or switch an agent while conversations go on.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use super::bench::Bench;
use super::cases::{self, Case, SECRETS};
use super::driver::RunOptions;
use super::running::Running;
use super::stream::Transport;
use super::{budgets, compat, crowd};
use crate::agent::Agent;
use crate::kernel_objects::{KernelObjects, pinned};
use crate::ledger::Ledger;
use crate::pairing;
use crate::truth::Tally;

/// One check.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Bench<'_>) -> Result<()>,
}

/// In an order in which few agents are started.
pub(super) const ALL: &[Check] = &[
    Check {
        name: "garbage-bounds-memory",
        run: garbage_bounds_memory,
    },
    Check {
        name: "disabled-counts-nothing",
        run: disabled_counts_nothing,
    },
    Check {
        name: "open-at-disable-is-named",
        run: open_at_disable,
    },
    Check {
        name: "verifier-budgets",
        run: verifier_budgets,
    },
    Check {
        name: "server-of-32-bit",
        run: compat::server,
    },
    Check {
        name: "thousands-wait-in-one-call",
        run: crowd::waits,
    },
    Check {
        name: "cycles-under-load",
        run: cycles_under_load,
    },
    Check {
        name: PAIRS,
        run: go_pairs,
    },
    Check {
        name: "sigterm-leaves-nothing",
        run: |bench| leaves_nothing(bench, Signal::TERM),
    },
    Check {
        name: "sigkill-leaves-nothing",
        run: |bench| leaves_nothing(bench, Signal::KILL),
    },
    Check {
        name: "planted-secrets",
        run: planted_secrets,
    },
];

/// Name of the check with a real client and server.
const PAIRS: &str = "go-pairs";

/// A program that a check plays is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there", .0.display())]
pub(super) struct NotThere(PathBuf);

/// What was asked for; a real client and server where their program is named.
pub(super) fn selected(options: &RunOptions) -> impl Iterator<Item = &'static Check> {
    ALL.iter()
        .filter(|check| options.selects(check.name))
        .filter(|check| check.name != PAIRS || options.pairs.is_some())
}

fn go_pairs(bench: &mut Bench<'_>) -> Result<()> {
    let (program, requests) = bench
        .options
        .pairs
        .as_ref()
        .context("no program is named")?;
    if !program.is_file() {
        return Err(NotThere(program.clone()).into());
    }
    let agent = bench.agent()?;
    pairing::play(program, &agent, *requests, bench.options.settle)?;
    bench.give_back(agent);
    Ok(())
}

fn verifier_budgets(bench: &mut Bench<'_>) -> Result<()> {
    let agent = bench.agent()?;
    let kept = budgets::keep(&agent.json(&["status"])?);
    bench.give_back(agent);
    kept
}

fn case(name: &str) -> Result<&'static Case> {
    cases::find(name).with_context(|| format!("there is no case {name}"))
}

/// Plays a case and waits until the export says the same.
fn play_and_compare(options: &RunOptions, agent: &Agent, name: &str, attempt: usize) -> Result<()> {
    for transport in Transport::ALL {
        let services =
            Running::start(options, case(name)?, *transport, attempt)?.finish_by_service()?;
        let deadline = Instant::now() + options.settle;
        loop {
            let series = agent.series()?;
            let mut differences = Vec::new();
            for (service, truth) in &services {
                let found: Vec<_> = series
                    .iter()
                    .filter(|series| series.service == *service)
                    .cloned()
                    .collect();
                differences.extend(truth.count_differences(&found));
            }
            if differences.is_empty() {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{name} number {attempt} over {}: {}; ledger: {:?}",
                transport.name(),
                differences.join("; "),
                agent.ledger()?
            );
            agent.wait_for_push();
        }
    }
    Ok(())
}

/// Waits until nothing is missing in the ledger, and it closes.
pub(super) fn ledger_settles(
    options: &RunOptions,
    agent: &Agent,
    shortfall: impl Fn(&Ledger) -> Option<&'static str>,
) -> Result<()> {
    let deadline = Instant::now() + options.settle;
    loop {
        let ledger = agent.ledger()?;
        let Some(shortfall) = shortfall(&ledger) else {
            ensure!(ledger.imbalances().is_empty(), "{ledger:?}");
            return Ok(());
        };
        ensure!(Instant::now() < deadline, "{shortfall}: {ledger:?}");
        sleep(Duration::from_millis(200));
    }
}

/// Name of the back end that the agent uses.
pub(super) fn backend(agent: &Agent) -> Result<String> {
    let status = agent.json(&["status"])?;
    let name = status["backend"]["name"].as_str();
    Ok(name.context("the status names the back end")?.to_owned())
}

fn ledger_closes(agent: &Agent) -> Result<()> {
    let imbalances = agent.ledger()?.imbalances();
    ensure!(imbalances.is_empty(), "{}", imbalances.join("; "));
    Ok(())
}

fn planted_secrets(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let mut agent_options = options.agent_options(bench.binary, "secrets-agent")?;
    agent_options.sets.push("log.level=trace".to_owned());
    let mut agent = Agent::start(&agent_options)?;
    play_and_compare(options, &agent, "secrets", 0)?;
    for command in [["ledger"].as_slice(), &["status"], &["probes", "list"]] {
        for format in ["text", "json"] {
            let output = agent.command(command.iter().copied().chain(["-o", format]))?;
            let text = [output.stdout, output.stderr].concat();
            find_secret(&text, &format!("the output of {}", command.join(" ")))?;
        }
    }
    agent.terminate()?;
    for entry in std::fs::read_dir(&agent_options.directory)? {
        let path = entry?.path();
        if path.is_file() {
            find_secret(&std::fs::read(&path)?, &path.display().to_string())?;
        }
    }
    Ok(())
}

/// Endless heads, megabyte lines and binary, again and again: the agent grows no more after the first rounds.
fn garbage_bounds_memory(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let mut agent = bench.agent()?;
    let round = |number: usize| -> Result<()> {
        for name in [
            "endless-head",
            "known-method-with-megabyte-line",
            "binary",
            "text-lines",
        ] {
            Running::start(options, case(name)?, Transport::Tcp4, number)?.finish_by_service()?;
        }
        Ok(())
    };
    (20..25).try_for_each(round)?;
    let before = agent.resident_bytes()?;
    (25..40).try_for_each(round)?;
    let after = agent.resident_bytes()?;
    ensure!(
        after < before + GARBAGE_MAY_COST_BYTES,
        "{before} bytes resident after five rounds, {after} after twenty"
    );
    ensure!(agent.is_running(), "the agent died: {}", agent.log_tail());
    ledger_closes(&agent)?;
    bench.give_back(agent);
    Ok(())
}

/// Each round is a service of its own, with its series: far less than one of the megabyte lines.
const GARBAGE_MAY_COST_BYTES: u64 = 8 * 1024 * 1024;

fn find_secret(bytes: &[u8], place: &str) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    match SECRETS.iter().find(|secret| text.contains(**secret)) {
        Some(secret) => bail!("{secret} stands in {place}"),
        None => Ok(()),
    }
}

fn start_load(options: &RunOptions, attempt: usize) -> Result<Vec<Running>> {
    let mut loads = Vec::new();
    for transport in Transport::ALL {
        let load = Running::start(options, case("load")?, *transport, attempt)?;
        load.wait_for("running")?;
        loads.push(load);
    }
    Ok(loads)
}

/// Ends the load; any error that the services had is one here.
fn end_load(loads: Vec<Running>) -> Result<u64> {
    let mut total = 0;
    for load in loads {
        load.mark("stop")?;
        total += load
            .finish_by_service()?
            .values()
            .map(Tally::total)
            .sum::<u64>();
    }
    Ok(total)
}

/// The agent is ended under load.
fn leaves_nothing(bench: &mut Bench<'_>, signal: Signal) -> Result<()> {
    let options = bench.options;
    let attempt = if signal == Signal::TERM { 1 } else { 2 };
    let pinned_before = pinned();
    let mut agent = bench.agent()?;
    let loads = start_load(options, attempt)?;
    sleep(Duration::from_millis(500));
    let objects = KernelObjects::of_process(agent.pid())?;
    for kind in ["prog", "map", "link"] {
        ensure!(
            objects.count(kind) > 0,
            "the agent holds no {kind} while it runs"
        );
    }
    agent.signal(signal)?;
    let status = agent.wait_end(Duration::from_secs(30))?;
    ensure!(
        signal == Signal::KILL || status.success(),
        "the agent ended with {status}"
    );
    // Maps go when the programs that used them are freed, after a grace period that a busy machine draws out.
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let left = objects.left()?;
        if left.is_empty() {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "left behind in the kernel: {left:?}"
        );
        sleep(Duration::from_millis(100));
    }
    let pinned_after = pinned();
    ensure!(
        pinned_after == pinned_before,
        "pins differ: {pinned_before:?}, {pinned_after:?}"
    );
    sleep(Duration::from_millis(500));
    ensure!(end_load(loads)? > 0, "the load did nothing");
    Ok(())
}

fn disabled_counts_nothing(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let agent = bench.agent()?;
    play_and_compare(options, &agent, "keep-alive", 11)?;
    agent.probes(&["disable", "--all"])?;
    agent.wait_unlinked(Duration::from_millis(1500))?;
    let before = agent.ledger()?;
    for transport in Transport::ALL {
        Running::start(options, case("keep-alive")?, *transport, 12)?.finish_by_service()?;
    }
    // Two exports.
    sleep(options.settle / 4);
    let after = agent.ledger()?;
    ensure!(
        after.seen() == before.seen(),
        "{} seen while disabled",
        after.seen() - before.seen()
    );
    let counted = agent
        .series()?
        .into_iter()
        .find(|series| series.service.ends_with(".12"));
    ensure!(counted.is_none(), "exported while disabled: {counted:?}");
    agent.probes(&["enable", "--all"])?;
    play_and_compare(options, &agent, "keep-alive", 13)?;
    ledger_closes(&agent)?;
    bench.give_back(agent);
    Ok(())
}

fn open_at_disable(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let agent = bench.agent()?;
    ledger_settles(options, &agent, |ledger| {
        (ledger.open() > 0).then_some("exchanges of before are still open")
    })?;
    let before = agent.ledger()?.outcome("probe_was_off");
    let slow = Running::start(options, case("pause-before-response")?, Transport::Tcp4, 11)?;
    let deadline = Instant::now() + options.scale.pause;
    while agent.ledger()?.open() < 2 {
        ensure!(
            Instant::now() < deadline,
            "the open exchanges did not show in the ledger"
        );
        sleep(Duration::from_millis(50));
    }
    agent.probes(&["disable", "--all"])?;
    sleep(Duration::from_millis(200));
    agent.probes(&["enable", "--all"])?;
    slow.finish_by_service()?;
    let deadline = Instant::now() + options.settle;
    loop {
        let ledger = agent.ledger()?;
        if ledger.outcome("probe_was_off") - before == 2 {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "expected 2 probe_was_off in the ledger, over {before}: {ledger:?}"
        );
        sleep(Duration::from_millis(200));
    }
    play_and_compare(options, &agent, "keep-alive", 14)?;
    ledger_closes(&agent)?;
    bench.give_back(agent);
    Ok(())
}

/// An emulated kernel that verifies everything again for each cycle is let off after so many, and so long.
const FEWEST_CYCLES: usize = 3;
const CYCLES_LIMIT: Duration = Duration::from_mins(1);

fn cycles_under_load(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let mut agent = bench.agent()?;
    let count = |agent: &Agent| -> Result<[usize; 3]> {
        let objects = KernelObjects::of_process(agent.pid())?;
        Ok(["prog", "map", "link"].map(|kind| objects.count(kind)))
    };
    let before = count(&agent)?;
    let loads = start_load(options, 3)?;
    let started = Instant::now();
    for cycle in 0..options.scale.cycles {
        if cycle >= FEWEST_CYCLES && started.elapsed() > CYCLES_LIMIT {
            break;
        }
        agent
            .probes(&["disable", "--all"])
            .with_context(|| format!("cycle {cycle}"))?;
        agent
            .probes(&["enable", "--all"])
            .with_context(|| format!("cycle {cycle}"))?;
        ensure!(
            agent.is_running(),
            "the agent died in cycle {cycle}: {}",
            agent.log_tail()
        );
    }
    ensure!(end_load(loads)? > 0, "the load did nothing");
    let after = count(&agent)?;
    ensure!(
        after == before,
        "programs, maps, links: {before:?} before, {after:?} after"
    );
    play_and_compare(options, &agent, "keep-alive", 15)?;
    ledger_closes(&agent)?;
    bench.give_back(agent);
    Ok(())
}
