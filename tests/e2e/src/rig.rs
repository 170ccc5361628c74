//! What the tests with real programs share: an agent in a directory of its own, a counting client in a process
//! of its own, and the wait until the export says what was sent.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::agent::{self, Agent, AgentOptions};
use crate::ledger::Ledger;
use crate::mix::{Kind, Sent};
use crate::truth::{Tally, Tolerance};

/// How long the export may take to show what happened.
const SETTLE: Duration = Duration::from_secs(12);

/// An agent with what it writes; both are gone when it is dropped.
#[derive(Debug)]
pub struct Rig {
    /// The agent.
    pub agent: Agent,
    directory: tempfile::TempDir,
}

impl Rig {
    /// Starts an agent.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| {})
    }

    /// Starts an agent with changed options.
    pub fn start_with(change: impl FnOnce(&mut AgentOptions)) -> Result<Self> {
        let directory = tempfile::tempdir().context("creating a directory")?;
        let mut options = AgentOptions::new(&agent::binary()?, &directory.path().join("agent"));
        change(&mut options);
        Ok(Self {
            agent: Agent::start(&options)?,
            directory,
        })
    }

    /// Takes in an agent that was started otherwise.
    pub fn of(agent: Agent) -> Result<Self> {
        let directory = tempfile::tempdir().context("creating a directory")?;
        Ok(Self { agent, directory })
    }

    /// Where servers may keep their files.
    pub fn directory(&self, name: &str) -> Result<std::path::PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Waits until each service's counts equal the truth, and looks again a little later: what is counted twice
    /// or late shows then.
    pub fn counts_equal(&self, truths: &BTreeMap<String, Tally>) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        while !self.count_differences(truths)?.is_empty() {
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(Duration::from_millis(1300));
        let differences = self.count_differences(truths)?;
        ensure!(
            differences.is_empty(),
            "{}; ledger: {:?}",
            differences.join("; "),
            self.agent.ledger()?
        );
        let imbalances = self.agent.ledger()?.imbalances();
        ensure!(imbalances.is_empty(), "{}", imbalances.join("; "));
        Ok(())
    }

    /// Waits until the ledger accounts for this many exchanges on both sides, none of them open.
    pub fn accounts_for(&self, sent: u64) -> Result<Ledger> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let ledger = self.agent.ledger()?;
            let differences = ledger.differences_from(sent);
            if differences.is_empty() {
                return Ok(ledger);
            }
            ensure!(
                Instant::now() < deadline,
                "{}; blind: {:?}",
                differences.join("; "),
                ledger.blind
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn count_differences(&self, truths: &BTreeMap<String, Tally>) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for (service, truth) in truths {
            let found = truth.count_differences(&self.agent.series_of(service)?);
            differences.extend(found.into_iter().map(|what| format!("[{service}] {what}")));
        }
        Ok(differences)
    }

    /// Every sum, minimum, maximum and bucket outside the truth.
    pub fn duration_differences(
        &self,
        truths: &BTreeMap<String, Tally>,
        tolerance: Tolerance,
    ) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for (service, truth) in truths {
            let found = truth.duration_differences(&self.agent.series_of(service)?, tolerance);
            differences.extend(found.into_iter().map(|what| format!("[{service}] {what}")));
        }
        Ok(differences)
    }
}

/// Only processes of this program are watched: what else goes on on the machine stays out of the count.
pub fn watch_only(options: &mut AgentOptions, program: &Path) {
    let include = format!("discovery.include=[{{exe: \"{}\"}}]", program.display());
    options.sets.push(include);
}

/// Sends a mix from a process of its own, named `service`; `program` is `kerntally-conversations`.
pub fn send_from_process(
    program: &Path,
    service: &str,
    address: &str,
    mix: &[Kind],
    rounds: usize,
) -> Result<Vec<Sent>> {
    let mut child = Command::new(program)
        .args(["send", address, &rounds.to_string(), "3"])
        .env("OTEL_SERVICE_NAME", service)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the counting client")?;
    let mut input = child.stdin.take().context("the input is piped")?;
    input.write_all(&serde_json::to_vec(mix)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "the counting client: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("the counting client printed no JSON")
}

/// Says on the real standard output why a test does not run; the harness would keep it to itself.
pub fn skip(name: &str, reason: &str) {
    say(&format!("\nskipped: {name}: {reason}"));
}

/// Prints past the harness, which would keep it to itself.
pub fn say(line: &str) {
    // A closed standard output leaves nobody to tell.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Whether everything is to be run that the gate leaves out.
pub fn runs_everything() -> bool {
    std::env::var("KERNTALLY_E2E_ALL").is_ok_and(|value| value == "1")
}
