//! What cases and checks work with: the options of the run, and an agent that goes from one to the next.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::driver::RunOptions;
use crate::agent::{Agent, AgentOptions};

/// The agent is started as rarely as can be: an emulated kernel takes its time to verify the programs.
#[derive(Debug)]
pub(super) struct Bench<'run> {
    pub(super) options: &'run RunOptions,
    pub(super) binary: &'run Path,
    agent: Option<Agent>,
    started: usize,
}

impl<'run> Bench<'run> {
    pub(super) fn new(options: &'run RunOptions, binary: &'run Path) -> Self {
        Self {
            options,
            binary,
            agent: None,
            started: 0,
        }
    }

    /// The agent that was given back, or a new one. It has seen what was done before. A check that fails keeps it, which
    /// ends it.
    pub(super) fn agent(&mut self) -> Result<Agent> {
        match self.agent.take() {
            Some(agent) => Ok(agent),
            None => self.start(),
        }
    }

    /// For the next check.
    pub(super) fn give_back(&mut self, agent: Agent) {
        self.agent = Some(agent);
    }

    /// Where the check of 32-bit programs puts one; the agent is told of it from the start.
    pub(super) fn other_program(&self) -> PathBuf {
        self.options.directory.join("server32")
    }

    fn start(&mut self) -> Result<Agent> {
        self.started += 1;
        let options = self.agent_options(&format!("agent-{}", self.started))?;
        Agent::start(&options)
    }

    fn agent_options(&self, name: &str) -> Result<AgentOptions> {
        let mut options = self.options.agent_options(self.binary, name)?;
        let own = std::env::current_exe().context("finding this program")?;
        let pairs = self.options.pairs.iter().map(|(program, _)| program);
        let programs: Vec<_> = [&own, &self.other_program()]
            .into_iter()
            .chain(pairs)
            .map(|program| format!("{{exe: \"{}\"}}", program.display()))
            .collect();
        options
            .sets
            .push(format!("discovery.include=[{}]", programs.join(", ")));
        Ok(options)
    }
}
