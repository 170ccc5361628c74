//! What travels on the control socket: one request in JSON a line, one answer in JSON a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest request; real ones are far below.
pub(crate) const REQUEST_BYTES: usize = 8 * 1024;

/// Longest answer a client accepts.
pub(crate) const ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// What a command asks the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// The agent itself.
    Status {},
    /// Every exchange accounted for.
    Ledger {},
    /// Discovered services.
    Services {},
    /// What would be pushed now.
    Snapshot {},
    /// Series of each service against its limit.
    Series {},
    /// Route templates in use.
    Routes {},
    /// What passed since the watcher asked last.
    Traffic {
        /// Tells watchers apart.
        watcher: u64,
    },
    /// Why a process is watched or not.
    Explain {
        /// Its number.
        tgid: u32,
        /// When it started, in nanoseconds since boot.
        start_ns: u64,
        /// Ports it listens on.
        ports: Vec<u16>,
    },
    /// What passed from a number on.
    Tail {
        /// The number; none for what passes from now on.
        from: Option<u64>,
        /// With paths as they were sent.
        raw_path: bool,
        /// Of this service only.
        service: Option<String>,
        /// With this status only, or one of this class.
        status: Option<String>,
        /// Only what took longer.
        slower_ns: u64,
    },
    /// Reads the configuration again.
    Reload {},
    /// Probes and their state.
    Probes {},
    /// Switches probes.
    SwitchProbes {
        /// Which; empty means all that are built.
        names: Vec<String>,
        /// On or off.
        on: bool,
        /// After a restart too.
        #[serde(default)]
        persist: bool,
        /// For the processes of this service only.
        #[serde(default)]
        service: Option<String>,
        /// For this process only.
        #[serde(default)]
        pid: Option<u32>,
    },
}

impl Request {
    /// Reads one line.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|error| format!("expected UTF-8: {error}"))?;
        serde_json::from_str(text).map_err(|error| format!("expected a request in JSON: {error}"))
    }
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The document that was asked for.
    Ok(Value),
    /// The request makes no sense.
    Refused(String),
    /// It made sense and could not be done.
    Failed(String),
}

impl Answer {
    /// One line.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        // Documents are made of JSON values: serialising them cannot fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}
