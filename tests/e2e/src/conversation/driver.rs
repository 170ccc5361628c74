//! Plays the cases, waits for the export and passes judgement, one line a case.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Scale;
use super::bench::Bench;
use super::budgets::NotTold;
use super::cases::{self, Case, When};
use super::checks::{self, NotThere};
use super::judge::{judge_alone, judge_together};
use super::running::{Played, Running, full_name};
use super::stream::Transport;
use crate::agent::{Agent, AgentOptions};
use crate::truth::{Role, Tally, Tolerance};

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The `kerntally` binary; `None` plays the cases among themselves and compares the two sides.
    pub agent: Option<PathBuf>,
    /// `hooks.backend`.
    pub backend: Option<String>,
    /// Only cases whose name contains one of these; empty takes all.
    pub filters: Vec<String>,
    /// Of cases that are played over IPv4 too, only `keep-alive` over IPv6: the kernel's path is the same.
    pub spare_ipv6: bool,
    /// How long and how large.
    pub scale: Scale,
    /// Where everything is written.
    pub directory: PathBuf,
    /// How far durations may be off.
    pub tolerance: Tolerance,
    /// How long the export may take to show what happened.
    pub settle: Duration,
    /// The Go client and server to play too, and how many requests.
    pub pairs: Option<(PathBuf, u64)>,
}

impl RunOptions {
    pub(super) fn selects(&self, name: &str) -> bool {
        self.filters.is_empty()
            || self
                .filters
                .iter()
                .any(|filter| name.contains(filter.as_str()))
    }

    pub(super) fn agent_options(&self, binary: &Path, name: &str) -> Result<AgentOptions> {
        let mut options = AgentOptions::new(binary, &self.directory.join(name));
        if self.backend.is_some() {
            options.backend.clone_from(&self.backend);
        }
        let own = std::env::current_exe().context("finding this program")?;
        options.sets.push(format!(
            "discovery.include=[{{exe: \"{}\"}}]",
            own.display()
        ));
        options.sets.push("log.level=info".to_owned());
        // Each side of each case is a service of its own.
        options.sets.push("cardinality.services=5000".to_owned());
        options.sets.push("cardinality.total=100000".to_owned());
        // A slow guest takes longer than the default from the first case to the judgement.
        options.sets.push("cardinality.idle_ttl=2h".to_owned());
        options.ready_within = self.settle * 10;
        // Hundreds of services are written each time, which takes an emulated processor a good part of a second.
        options.interval = format!("{}ms", self.settle.as_millis() / 8);
        Ok(options)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases in a named blind spot of the back end.
    pub blind: usize,
}

/// What takes longer by itself is worth a line to whoever wonders where a guest's time goes.
const LONG: Duration = Duration::from_secs(2);

/// Takes each case's name and what became of it.
pub(super) type Judge<'a> = dyn FnMut(&str, &Outcome) + 'a;

/// What became of one case.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    /// Counted right, but durations are off.
    Late(String),
    Blind(String),
}

/// Names of all cases, one for each transport it is played over.
pub fn list() -> Vec<String> {
    let played = cases::all().flat_map(|case| {
        case.transports
            .iter()
            .map(move |transport| full_name(case, *transport))
    });
    played
        .chain(checks::ALL.iter().map(|check| check.name.to_owned()))
        .collect()
}

/// Runs everything selected; prints one line a case and the verdict last.
pub fn run(options: &RunOptions) -> Result<Verdict> {
    std::fs::create_dir_all(&options.directory).context("creating the directory")?;
    let mut verdict = Verdict::default();
    let mut judge = |name: &str, outcome: &Outcome| report(&mut verdict, name, outcome);
    match &options.agent {
        None => play_among_themselves(options, &mut judge)?,
        Some(binary) => {
            let mut bench = Bench::new(options, binary);
            with_one_agent(options, &mut bench, &mut judge)?;
            for check in checks::selected(options) {
                let begun = Instant::now();
                let outcome = match (check.run)(&mut bench) {
                    Ok(()) => Outcome::Passed,
                    Err(error) if error.is::<NotTold>() || error.is::<NotThere>() => {
                        Outcome::Blind(error.to_string())
                    }
                    Err(error) => Outcome::Failed(format!("{error:#}")),
                };
                say_if_long(check.name, begun);
                judge(check.name, &outcome);
            }
        }
    }
    say(&format!(
        "verdict: {} passed, {} failed",
        verdict.passed, verdict.failed
    ));
    Ok(verdict)
}

fn say_if_long(name: &str, begun: Instant) {
    let took = begun.elapsed();
    if took > LONG {
        say(&format!("long: {name} {:.1} s", took.as_secs_f32()));
    }
}

fn report(verdict: &mut Verdict, name: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Passed => {
            verdict.passed += 1;
            say(&format!("case {name} pass"));
        }
        Outcome::Failed(reason) => {
            verdict.failed += 1;
            say(&format!("case {name} fail {reason}"));
        }
        Outcome::Late(reason) => {
            verdict.failed += 1;
            say(&format!("case {name} fail durations: {reason}"));
        }
        Outcome::Blind(reason) => {
            verdict.blind += 1;
            say(&format!("case {name} blind {reason}"));
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the lines on standard output are what this program is for"
)]
pub(super) fn say(line: &str) {
    println!("{line}");
}

fn selected(options: &RunOptions) -> Vec<(&'static Case, Transport)> {
    cases::all()
        .flat_map(|case| {
            case.transports
                .iter()
                .map(move |transport| (case, *transport))
        })
        .filter(|(case, transport)| options.selects(&full_name(case, *transport)))
        .filter(|(case, transport)| !options.spare_ipv6 || !spared(case, *transport))
        .collect()
}

fn spared(case: &Case, transport: Transport) -> bool {
    let over_both = case.transports.contains(&Transport::Tcp4);
    transport == Transport::Tcp6 && over_both && case.name != "keep-alive"
}

/// Without an agent: both sides of a conversation must have counted the same.
fn play_among_themselves(options: &RunOptions, judge: &mut Judge<'_>) -> Result<()> {
    let slow = start_slow(options, &selected(options));
    let mut played = Vec::new();
    for (case, transport) in selected(options).into_iter().filter(|(case, _)| !case.slow) {
        let running = Running::start(options, case, transport, 0)?;
        running.agent_is_ready()?;
        played.push((full_name(case, transport), running.finish()));
    }
    for (name, thread) in slow {
        played.push((name, join(thread)));
    }
    for (name, played) in played {
        let outcome = match played {
            Err(error) => Outcome::Failed(format!("{error:#}")),
            Ok(played) => sides_agree(&played),
        };
        judge(&name, &outcome);
    }
    Ok(())
}

fn sides_agree(played: &Played) -> Outcome {
    let mut by_role = [Tally::default(), Tally::default()];
    for tally in played.sides.values() {
        for (key, group) in tally.groups() {
            by_role[usize::from(key.role == Role::Client)].merge(key.clone(), *group);
        }
    }
    let [server, client] = by_role.map(|tally| tally.as_seen_by_both());
    if !played.case.asymmetric && server != client {
        return Outcome::Failed(format!("server counted {server:?}, client {client:?}"));
    }
    Outcome::Passed
}

fn start_slow(
    options: &RunOptions,
    selected: &[(&'static Case, Transport)],
) -> Vec<(String, JoinHandle<Result<Played>>)> {
    let options = Arc::new(options.clone());
    let mut threads = Vec::new();
    for (case, transport) in selected.iter().copied().filter(|(case, _)| case.slow) {
        let options = Arc::clone(&options);
        let play = move || Running::start(&options, case, transport, 0)?.finish();
        threads.push((full_name(case, transport), std::thread::spawn(play)));
    }
    threads
}

fn join(thread: JoinHandle<Result<Played>>) -> Result<Played> {
    match thread.join() {
        Ok(played) => played,
        Err(_) => bail!("the thread that played it panicked"),
    }
}

fn with_one_agent(
    options: &RunOptions,
    bench: &mut Bench<'_>,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let selected = selected(options);
    if selected.is_empty() {
        return Ok(());
    }
    let mut early = Vec::new();
    for (case, transport) in of_kind(&selected, When::BeforeTheAgent) {
        early.push(Running::start(options, case, transport, 0)?);
    }
    for running in &early {
        running.wait_for("before-done")?;
    }
    let mut agent = bench.agent()?;
    let before = agent.ledger()?;
    let mut played = Vec::new();
    for running in early {
        running.agent_is_ready()?;
        played.push((full_name(running.case, running.transport), running.finish()));
    }
    let slow = start_slow(options, &selected);
    for (case, transport) in of_kind(&selected, When::Beside).filter(|(case, _)| !case.slow) {
        let begun = Instant::now();
        let one = Running::start(options, case, transport, 0).and_then(Running::finish);
        let name = full_name(case, transport);
        say_if_long(&name, begun);
        played.push((name, one));
    }
    for (name, thread) in slow {
        played.push((name, join(thread)));
    }
    judge_together(options, &agent, &before, played, judge)?;
    let alone: Vec<_> = of_kind(&selected, When::Alone).collect();
    for plays in alone.chunk_by(|(one, _), (other, _)| one.name == other.name) {
        play_alone(options, &agent, plays, judge);
    }
    // The checks have another: this one has hundreds of services to write at each export.
    let ended = match agent.terminate() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{status} on SIGTERM: {}", agent.log_tail())),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    judge("agent-ends-cleanly", &ended);
    Ok(())
}

/// One case over all its transports.
fn play_alone(
    options: &RunOptions,
    agent: &Agent,
    plays: &[(&'static Case, Transport)],
    judge: &mut Judge<'_>,
) {
    let Some((case, _)) = plays.first() else {
        return;
    };
    let transports: Vec<_> = plays.iter().map(|(_, transport)| *transport).collect();
    let outcomes = judge_alone(options, agent, case, &transports)
        .unwrap_or_else(|error| vec![Outcome::Failed(format!("{error:#}")); plays.len()]);
    for (transport, outcome) in transports.iter().zip(outcomes) {
        judge(&full_name(case, *transport), &outcome);
    }
}

fn of_kind(
    selected: &[(&'static Case, Transport)],
    when: When,
) -> impl Iterator<Item = (&'static Case, Transport)> {
    selected
        .iter()
        .copied()
        .filter(move |(case, _)| case.when == when)
}
