//! The suites, one a file; each gives figures, some curves.

pub(crate) mod idle;
pub(crate) mod kernel;
pub(crate) mod overhead;
pub(crate) mod pipeline;
pub(crate) mod rounds;
pub(crate) mod run;
pub(crate) mod scale;

use std::path::PathBuf;

use anyhow::Result;
use kerntally_e2e::agent::{Agent, AgentOptions};
use serde::Serialize;
use tempfile::TempDir;

use crate::figure::Figure;

/// How long and how often.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    /// The kerntally binary.
    pub(crate) agent: PathBuf,
    /// Rounds of off, off and on.
    pub(crate) pairs: usize,
    /// Milliseconds of one slice of a round.
    pub(crate) slice_millis: u64,
    /// Milliseconds of a run of its own.
    pub(crate) run_millis: u64,
    /// Whether only to see that it works.
    pub(crate) quick: bool,
}

/// What a suite found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Found {
    pub(crate) figures: Vec<Figure>,
    pub(crate) curves: Vec<Curve>,
    /// What could not be measured, and why; and what to know of what was.
    pub(crate) notes: Vec<String>,
}

/// One amount over a size.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// What grows.
    pub(crate) size: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
    /// Of growth over all points, and over the last two.
    pub(crate) exponent: Option<f64>,
    pub(crate) last_exponent: Option<f64>,
}

/// A running agent with its directory; both are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) agent: Agent,
    _directory: TempDir,
}

impl Watcher {
    /// Starts an agent as users would, except that it pushes nowhere.
    pub(crate) fn start(extent: &Extent, sets: &[String], backend: Option<&str>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut options = AgentOptions::new(&extent.agent, directory.path());
        "15s".clone_into(&mut options.interval);
        options.sets = sets.to_vec();
        options.backend = backend.map(str::to_owned).or(options.backend);
        let agent = Agent::start(&options)?;
        Ok(Self {
            agent,
            _directory: directory,
        })
    }
}

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}
