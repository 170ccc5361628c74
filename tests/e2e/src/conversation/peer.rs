//! One process of a conversation: its sockets, its lockstep with the other side, and its own count.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::Scale;
use super::stream::{Listener, Stream, Transport};
use crate::truth::{Group, Key, Tally};

/// How long a peer waits for another before it gives up: an agent on an emulated processor takes minutes to start.
const PATIENCE: Duration = Duration::from_mins(12);
/// How often it looks at first, and at last: many peers wait while the agent starts on the same processor.
const LOOKS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(100)];

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) side: String,
    pub(crate) transport: Transport,
    pub(crate) directory: PathBuf,
    pub(crate) scale: Scale,
    counted: Tally,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: Key,
    group: Group,
}

impl Peer {
    pub(crate) fn new(side: &str, transport: Transport, directory: &Path, scale: Scale) -> Self {
        Self {
            side: side.to_owned(),
            transport,
            directory: directory.to_owned(),
            scale,
            counted: Tally::default(),
        }
    }

    pub(crate) fn listen(&self) -> Result<Listener> {
        Listener::bind(self.transport, &self.directory)
    }

    pub(crate) fn connect(&self) -> Result<Stream> {
        let address = self.wait_for("address")?;
        Stream::connect(self.transport, &address)
    }

    /// Notes an exchange that this side took part in.
    pub(crate) fn count(&mut self, key: Key, took: Duration) {
        self.counted.add(key, took);
    }

    /// Notes an exchange of which only the longest possible duration is known.
    pub(crate) fn count_up_to(&mut self, key: Key, at_most: Duration) {
        self.counted.add_between(key, Duration::ZERO, at_most);
    }

    /// Notes an exchange from the moment its first byte was there.
    pub(crate) fn count_since(&mut self, key: Key, begin: Instant, end: Instant) {
        self.count(key, end.saturating_duration_since(begin));
    }

    /// Writes what was counted so far; the rest of the conversation starts from nothing.
    pub(crate) fn save(&mut self) -> Result<()> {
        let path = self.directory.join(format!("{}.counted", self.side));
        let mut text = String::new();
        for (key, group) in self.counted.groups() {
            text += &serde_json::to_string(&Line {
                key: key.clone(),
                group: *group,
            })?;
            text.push('\n');
        }
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(text.as_bytes())
            .context("writing the count")?;
        self.counted = Tally::default();
        Ok(())
    }

    /// Tells the other side to go on.
    #[expect(
        clippy::unused_self,
        reason = "reads as what it is: this side tells the other"
    )]
    pub(crate) fn tell(&self) -> Result<()> {
        std::io::stdout()
            .write_all(b".")
            .context("telling the other side")?;
        std::io::stdout().flush().context("telling the other side")
    }

    /// Waits until the other side says to go on.
    #[expect(
        clippy::unused_self,
        reason = "reads as what it is: this side hears the other"
    )]
    pub(crate) fn hear(&self) -> Result<()> {
        let mut byte = [0];
        std::io::stdin()
            .read_exact(&mut byte)
            .context("the other side is gone")
    }

    /// Waits for a file in the conversation's directory and reads it.
    pub(crate) fn wait_for(&self, name: &str) -> Result<String> {
        let path = self.directory.join(name);
        let deadline = Instant::now() + PATIENCE;
        let [mut pause, longest] = LOOKS;
        while Instant::now() < deadline {
            if let Ok(text) = std::fs::read_to_string(&path) {
                return Ok(text);
            }
            std::thread::sleep(pause);
            pause = (pause * 5 / 4).min(longest);
        }
        bail!("{name} did not appear")
    }

    /// Leaves a mark that others wait for.
    pub(crate) fn mark(&self, name: &str) -> Result<()> {
        std::fs::write(self.directory.join(name), "").with_context(|| format!("marking {name}"))
    }

    pub(crate) fn is_marked(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    /// Dies on the spot, as by the out-of-memory killer.
    pub(crate) fn die(&mut self) -> Result<()> {
        self.save()?;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        bail!("still alive after SIGKILL")
    }
}

/// What the peer of this side counted.
pub(crate) fn counted(directory: &Path, side: &str) -> Result<Tally> {
    let path = directory.join(format!("{side}.counted"));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("the {side} left no count in {}", path.display()))?;
    let mut tally = Tally::default();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).context("a count is no JSON")?;
        tally.merge(line.key, line.group);
    }
    Ok(tally)
}
