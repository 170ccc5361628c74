//! Inside the guest: the same exchanges without an agent, and with one on each back end it accepts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use kerntally_e2e::agent::{Agent, AgentOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pair::{Cost, Server};
use crate::programs::{self, Held};

/// What is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// The kerntally binary
    #[arg(long)]
    agent: PathBuf,
    /// Back ends; without it, each that the agent says is usable
    #[arg(long, value_delimiter = ',')]
    backend: Vec<String>,
    /// Exchanges of one measurement
    #[arg(long, default_value_t = 10_000)]
    exchanges: u64,
    /// Exchanges before it
    #[arg(long, default_value_t = 1_000)]
    warm: u64,
    /// Only what the gate holds: no statistics, and no watched client
    #[arg(long)]
    short: bool,
}

/// One measurement, as the guest prints it after `count `.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Kernel release.
    pub(crate) kernel: String,
    /// Back end; none without an agent.
    pub(crate) backend: Option<String>,
    pub(crate) arrangement: Arrangement,
    pub(crate) exchanges: u64,
    /// Instructions of the whole machine until the last answer, its kernel threads included.
    pub(crate) elapsed: u64,
    /// Of the server's process, the client's, and, until its ring was empty, the agent's.
    pub(crate) server: u64,
    pub(crate) client: u64,
    pub(crate) agent: u64,
    /// Name, runs and instructions of each program, where statistics were on.
    pub(crate) programs: Vec<(String, u64, u64)>,
    /// Name and verified instructions of every program that is loaded, where the kernel tells.
    pub(crate) verified: Vec<(String, u64)>,
    /// Kernel memory of all maps.
    pub(crate) map_bytes: u64,
}

/// Who is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrangement {
    /// There is no agent.
    Off,
    /// The server is watched, the client excluded.
    Server,
    /// Server and client are watched.
    Both,
    /// As `Server`, with the kernel's own statistics on, which cost some themselves.
    Statistics,
}

/// Measurements of the same thing in a row; one more without an agent ends the run.
const REPEATS: usize = 2;

/// Measures, and prints a line for each measurement and a case for each back end.
pub(crate) fn run(choice: &Choice) -> Result<()> {
    let mut bench = Bench {
        choice,
        server: Server::start(&std::env::current_exe()?)?,
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    };
    // The kernel has work of its own after a boot, and the caches of its allocators are empty.
    std::thread::sleep(Duration::from_secs(20));
    bench.server.connect()?.exchange(choice.exchanges)?;
    for _ in 0..REPEATS {
        bench.off()?;
    }
    println!("case off pass");
    for backend in backends(choice)? {
        match bench.backend(&backend) {
            Ok(()) => println!("case {backend} pass"),
            Err(error) => println!("case {backend} fail {error:#}"),
        }
    }
    bench.off()
}

/// Those asked for, else those that the agent can use on this kernel.
fn backends(choice: &Choice) -> Result<Vec<String>> {
    if !choice.backend.is_empty() {
        return Ok(choice.backend.clone());
    }
    let output = Command::new(&choice.agent)
        .args(["check", "-o", "json"])
        .output()?;
    let answer: Value = serde_json::from_slice(&output.stdout).context("check printed no JSON")?;
    let listed = answer["backends"]
        .as_array()
        .context("check lists no back ends")?;
    let usable = listed.iter().filter(|backend| backend["usable"] == true);
    let names = usable.filter_map(|backend| backend["name"].as_str().map(str::to_owned));
    Ok(names.collect())
}

struct Bench<'run> {
    choice: &'run Choice,
    server: Server,
    kernel: String,
}

impl Bench<'_> {
    fn off(&mut self) -> Result<()> {
        let mut connections = self.server.connect()?;
        connections.exchange(self.choice.warm)?;
        let cost = self
            .server
            .measure(&mut connections, self.choice.exchanges, None)?;
        let nothing = Held::default();
        self.tell(None, Arrangement::Off, cost, &nothing, &nothing)
    }

    fn backend(&mut self, backend: &str) -> Result<()> {
        let client = std::process::id();
        let exclude = format!("discovery.exclude=[{{pid: {client}}}]");
        let agent = self.agent(backend, &[exclude])?;
        for _ in 0..REPEATS {
            self.on(backend, &agent, Arrangement::Server)?;
        }
        if self.choice.short {
            return Ok(());
        }
        programs::statistics(true)?;
        let counted = self.on(backend, &agent, Arrangement::Statistics);
        programs::statistics(false)?;
        counted?;
        drop(agent);
        let agent = self.agent(backend, &[])?;
        self.on(backend, &agent, Arrangement::Both)
    }

    fn agent(&self, backend: &str, sets: &[String]) -> Result<Agent> {
        let directory = Path::new("/tmp").join(backend);
        let mut options = AgentOptions::new(&self.choice.agent, &directory);
        options.backend = Some(backend.to_owned());
        // No export falls into what is measured.
        "1h".clone_into(&mut options.interval);
        options.sets = sets.to_vec();
        options.ready_within = Duration::from_mins(3);
        let agent = Agent::start(&options)?;
        // What it reads of the processes that are there is no part of an exchange.
        std::thread::sleep(Duration::from_millis(500));
        Ok(agent)
    }

    fn on(&mut self, backend: &str, agent: &Agent, arrangement: Arrangement) -> Result<()> {
        let Choice {
            warm, exchanges, ..
        } = *self.choice;
        let earlier = agent.ledger()?;
        let mut connections = self.server.connect()?;
        connections.exchange(warm)?;
        // The agent learns from the first records whom to leave out.
        std::thread::sleep(Duration::from_secs(1));
        let before = Held::by(agent.pid())?;
        let cost = self
            .server
            .measure(&mut connections, exchanges, Some(agent.pid()))?;
        let held = Held::by(agent.pid())?;
        std::thread::sleep(Duration::from_millis(1500));
        let ledger = agent.ledger()?;
        let counted =
            ledger.outcome_of("server", "tallied") - earlier.outcome_of("server", "tallied");
        ensure!(
            counted == warm + exchanges,
            "{counted} of {} exchanges counted: {:?}",
            warm + exchanges,
            ledger.growth_since(&earlier)
        );
        self.tell(Some(backend), arrangement, cost, &before, &held)
    }

    fn tell(
        &self,
        backend: Option<&str>,
        arrangement: Arrangement,
        cost: Cost,
        before: &Held,
        held: &Held,
    ) -> Result<()> {
        let programs = held.since(before).into_iter();
        let line = Line {
            kernel: self.kernel.clone(),
            backend: backend.map(str::to_owned),
            arrangement,
            exchanges: self.choice.exchanges,
            elapsed: cost.elapsed,
            server: cost.server,
            client: cost.client,
            agent: cost.agent,
            programs: programs
                .map(|program| (program.name, program.runs, program.nanos))
                .collect(),
            verified: held
                .programs
                .values()
                .filter(|program| program.verified > 0)
                .map(|program| (program.name.clone(), program.verified))
                .collect(),
            map_bytes: held.map_bytes,
        };
        println!("count {}", serde_json::to_string(&line)?);
        Ok(())
    }
}
