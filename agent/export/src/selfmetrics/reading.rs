//! What the binary tells about the agent itself, all of it taken at one moment.

use std::fmt;

use crate::{file::FileStats, push::ExportStats};

/// The agent, asked how it is. Called at every collection and every scrape, on threads of the SDK.
pub trait SelfSource: Send + Sync + 'static {
    /// Everything at one moment, so that sums hold across instruments.
    fn read(&self) -> Reading;
}

impl fmt::Debug for dyn SelfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelfSource")
    }
}

/// The ledger of one role. `seen` is the sum of the outcomes and `open`.
#[derive(Clone, Debug, Default)]
pub struct RoleReading {
    /// `server` or `client`.
    pub role: &'static str,
    /// Exchanges seen.
    pub seen: u64,
    /// Of these without an outcome yet.
    pub open: u64,
    /// Exchanges tallied while still open; outside of the equation.
    pub cut: u64,
    /// Exchanges by outcome.
    pub outcomes: Vec<(&'static str, u64)>,
}

/// Series of one service.
#[derive(Clone, Debug)]
pub struct ServiceSeries {
    /// `service.name`
    pub service: String,
    /// Live series.
    pub live: u64,
    /// How many it may have.
    pub limit: u64,
}

/// The agent at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The ledger.
    pub roles: Vec<RoleReading>,
    /// What cannot be counted in exchanges, by reason.
    pub blind: Vec<(&'static str, u64)>,
    /// Series by service.
    pub series: Vec<ServiceSeries>,
    /// What works less than fully at this moment, by reason.
    pub degraded: Vec<&'static str>,
    /// The back end in use, once there is one.
    pub backend: Option<&'static str>,
    /// The push, if there is one.
    pub export: Option<ExportStats>,
    /// The export file, if there is one.
    pub file: Option<FileStats>,
    /// Reloads of the configuration that were put in force.
    pub config_reloads: u64,
    /// Reloads that were refused.
    pub config_reload_errors: u64,
}
