//! Byte-level conversations between processes of this program, held against what the agent exports.
//!
//! Every case plays in a directory of its own, with one process a side; a process names itself to the agent
//! by `OTEL_SERVICE_NAME`, so that each side of each case is a service of its own in the export.

mod bench;
mod budgets;
mod cases;
mod checks;
mod compat;
mod crowd;
mod driver;
mod judge;
mod peer;
mod plan;
mod running;
mod stream;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub use driver::{RunOptions, Verdict, list, run};

/// How long and how large the conversations are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// Pause between a head and its body.
    pub pause: Duration,
    /// Time between two events of a stream of four.
    pub event_gap: Duration,
    /// How long a reader stops.
    pub reader_stop: Duration,
    /// Size of the upload that the agent joins.
    pub upload_bytes: usize,
    /// Requests on a connection after that upload.
    pub requests_after_upload: usize,
    /// Connections in the cases that reuse sockets.
    pub short_connections: usize,
    /// Disable and enable cycles.
    pub cycles: usize,
    /// How long a peer stays after its part: a process that is gone has no environment to be named by.
    pub linger: Duration,
}

impl Scale {
    /// What is promised: nothing shortened.
    pub fn full() -> Self {
        Self {
            pause: Duration::from_secs(3),
            event_gap: Duration::from_secs(5),
            reader_stop: Duration::from_secs(5),
            upload_bytes: 100_000_000,
            requests_after_upload: 1000,
            short_connections: 3000,
            cycles: 100,
            linger: Duration::from_millis(1500),
        }
    }

    /// For guests under software emulation: still longer than the agent's one-second sweep.
    pub fn quick() -> Self {
        Self {
            pause: Duration::from_secs(3),
            event_gap: Duration::from_millis(2500),
            reader_stop: Duration::from_secs(3),
            upload_bytes: 10_000_000,
            requests_after_upload: 1000,
            short_connections: 500,
            cycles: 10,
            // Beside other tests an agent on an emulated processor may stand still for seconds.
            linger: Duration::from_secs(12),
        }
    }
}

/// Plays one side of one case in this process.
pub fn play(case: &str, side: &str, transport: &str, directory: &Path, scale: Scale) -> Result<()> {
    let case = cases::find(case).with_context(|| format!("there is no case {case}"))?;
    let transport = stream::Transport::named(transport)
        .with_context(|| format!("there is no transport {transport}"))?;
    let mut peer = peer::Peer::new(side, transport, directory, scale);
    case.play(&mut peer)
        .with_context(|| format!("{side} of {}", case.name))?;
    peer.save()?;
    peer.mark(&format!("{side}.done"))?;
    std::thread::sleep(peer.scale.linger);
    Ok(())
}
