//! The processes of one case: started, waited for, and what each of them counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::cases::{Act, Case, Ledgers};
use super::driver::RunOptions;
use super::stream::Transport;
use super::{Scale, peer};
use crate::export::Series;
use crate::truth::Tally;

/// How long one case may take.
const CASE_LIMIT: Duration = Duration::from_mins(5);

/// A case that was played.
#[derive(Clone, Debug)]
pub(super) struct Played {
    pub(super) case: &'static Case,
    pub(super) transport: Transport,
    /// Number of the attempt, part of the services' names.
    attempt: usize,
    pub(super) sides: BTreeMap<String, Tally>,
}

impl Played {
    pub(super) fn name(&self) -> String {
        full_name(self.case, self.transport)
    }

    fn service(&self, side: &str) -> String {
        service_name(self.case, self.transport, side, self.attempt)
    }

    pub(super) fn count_differences(&self, series: &[Series]) -> Vec<String> {
        self.compare(series, |truth, of_service| {
            truth.count_differences(of_service)
        })
    }

    /// Exchanges of this side that are not exported.
    pub(super) fn missing(&self, side: &str, series: &[Series]) -> u64 {
        let service = self.service(side);
        let of_service = series.iter().filter(|series| series.service == service);
        let exported: u64 = of_service.map(|series| series.count).sum();
        let sent = self.sides.get(side).map_or(0, Tally::total);
        sent.saturating_sub(exported)
    }

    pub(super) fn compare(
        &self,
        series: &[Series],
        with: impl Fn(&Tally, &[Series]) -> Vec<String>,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        for (side, truth) in &self.sides {
            let service = self.service(side);
            let of_service: Vec<_> = series
                .iter()
                .filter(|series| series.service == service)
                .cloned()
                .collect();
            differences.extend(
                with(truth, &of_service)
                    .into_iter()
                    .map(|what| format!("[{side}] {what}")),
            );
        }
        differences
    }
}

/// The processes of one case while they run.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) case: &'static Case,
    pub(super) transport: Transport,
    attempt: usize,
    directory: PathBuf,
    peers: Vec<(String, Child)>,
}

impl Running {
    pub(super) fn start(
        options: &RunOptions,
        case: &'static Case,
        transport: Transport,
        attempt: usize,
    ) -> Result<Self> {
        let name = service_name(case, transport, "play", attempt);
        let directory = options.directory.join(name);
        // What an earlier play left behind would be taken for this one's.
        std::fs::create_dir(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let (server_in, client_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (client_in, server_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut pipes = vec![(client_in, client_out), (server_in, server_out)];
        let mut running = Self {
            case,
            transport,
            attempt,
            directory,
            peers: Vec::new(),
        };
        for side in case.sides() {
            let (input, output) = match pipes.pop() {
                Some((input, output)) => (Stdio::from(input), Stdio::from(output)),
                None => (Stdio::null(), Stdio::null()),
            };
            running.spawn(side, &options.scale, input, output)?;
        }
        Ok(running)
    }

    fn spawn(&mut self, side: &str, scale: &Scale, input: Stdio, output: Stdio) -> Result<()> {
        let log = std::fs::File::create(self.directory.join(format!("{side}.log")))?;
        let child = Command::new(std::env::current_exe().context("finding this program")?)
            .args(["peer", self.case.name, side, self.transport.name()])
            .arg(&self.directory)
            .arg(serde_json::to_string(scale)?)
            .env(
                "OTEL_SERVICE_NAME",
                service_name(self.case, self.transport, side, self.attempt),
            )
            .stdin(input)
            .stdout(output)
            .stderr(log)
            .spawn()
            .context("starting a peer")?;
        self.peers.push((side.to_owned(), child));
        Ok(())
    }

    pub(super) fn wait_for(&self, mark: &str) -> Result<()> {
        let path = self.directory.join(mark);
        let deadline = Instant::now() + CASE_LIMIT;
        while !path.exists() {
            if Instant::now() > deadline {
                bail!(
                    "{} did not get as far as {mark}: {}",
                    self.case.name,
                    self.logs()
                );
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(super) fn mark(&self, name: &str) -> Result<()> {
        std::fs::write(self.directory.join(name), "").context("marking")
    }

    pub(super) fn agent_is_ready(&self) -> Result<()> {
        self.mark("agent-ready")
    }

    pub(super) fn finish(mut self) -> Result<Played> {
        let deadline = Instant::now() + CASE_LIMIT;
        let mut sides = BTreeMap::new();
        let mut peers = std::mem::take(&mut self.peers);
        for (side, child) in &mut peers {
            let done = self.directory.join(format!("{side}.done"));
            let status = loop {
                if done.exists() {
                    break None;
                }
                if let Some(status) = child.try_wait()? {
                    break Some(status);
                }
                if Instant::now() > deadline {
                    child.kill()?;
                    child.wait()?;
                    bail!(
                        "the {side} did not end within {CASE_LIMIT:?}: {}",
                        self.logs()
                    );
                }
                sleep(Duration::from_millis(2));
            };
            if let Some(status) = status.filter(|status| !status.success())
                && !self.case.dies.contains(&side.as_str())
            {
                bail!("the {side} ended with {status}: {}", self.logs());
            }
            sides.insert(side.clone(), peer::counted(&self.directory, side)?);
        }
        for (_, mut child) in peers {
            // It lingers for a while yet; how it ends then no longer matters.
            std::thread::spawn(move || child.wait());
        }
        if sides.values().all(Tally::is_empty) && self.case.ledgers == Ledgers::AllTallied {
            bail!("no exchange took place");
        }
        Ok(Played {
            case: self.case,
            transport: self.transport,
            attempt: self.attempt,
            sides,
        })
    }

    /// Ends the conversation and returns each side's count with its service's name.
    pub(super) fn finish_by_service(self) -> Result<BTreeMap<String, Tally>> {
        let played = self.finish()?;
        Ok(played
            .sides
            .iter()
            .map(|(side, tally)| (played.service(side), tally.clone()))
            .collect())
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for side in self.case.sides() {
            let log = std::fs::read_to_string(self.directory.join(format!("{side}.log")));
            for line in log.unwrap_or_default().lines().take(8) {
                text.extend(["[", side, "] ", line.trim(), " "]);
            }
        }
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in &mut self.peers {
            // Already ended is as good.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Case {
    pub(super) fn sides(&self) -> Vec<&'static str> {
        match &self.act {
            Act::Plan(_) => vec!["server", "client"],
            Act::Peers(peers) => peers.iter().map(|(side, _)| *side).collect(),
        }
    }
}

pub(super) fn full_name(case: &Case, transport: Transport) -> String {
    format!("{}/{}", case.name, transport.name())
}

fn service_name(case: &Case, transport: Transport, side: &str, attempt: usize) -> String {
    let again = if attempt == 0 {
        String::new()
    } else {
        format!(".{attempt}")
    };
    format!("{}.{}.{side}{again}", case.name, transport.name())
}
