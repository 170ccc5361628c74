//! What the checks work with: the options of the run, and an agent that goes from one to the next.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::driver::RunOptions;
use crate::agent::{Agent, AgentOptions};

/// The agent of the checks is started once: an emulated kernel takes half a minute to verify its programs.
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

    /// The agent that another check gave back, or a new one. It has seen what that check did. A check that fails keeps
    /// it, which ends it.
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
        let options = self.agent_options(&format!("agent-checks-{}", self.started))?;
        Agent::start(&options)
    }

    fn agent_options(&self, name: &str) -> Result<AgentOptions> {
        let mut options = self.options.agent_options(self.binary, name)?;
        options.sets.push(format!(
            "discovery.include=[{{exe: \"{}\"}}, {{exe: \"{}\"}}]",
            std::env::current_exe()?.display(),
            self.other_program().display()
        ));
        Ok(options)
    }
}
