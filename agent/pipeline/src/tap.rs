//! Exchanges as they pass, for those who watch them live. Nothing is kept while nobody does.

use std::collections::VecDeque;
use std::sync::Arc;

use kerntally_model::{Attribute, Exchange, Role, Time, Workload};
use kerntally_wire::TargetForm;

/// Exchanges that are kept for a watcher who comes back later.
const KEPT: usize = 4096;

/// Bytes of a raw path that are kept.
const PATH_BYTES: usize = 256;

/// One exchange that was tallied.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The service.
    pub workload: Arc<Workload>,
    /// The side.
    pub role: Role,
    /// Its end, in nanoseconds since the Unix epoch.
    pub end_unix_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Status code.
    pub status: Option<u16>,
    /// Attributes of the series it went to, the overflow series aside.
    pub attributes: Arc<[Attribute]>,
    /// Path as it was sent, without its query; only if that was asked for.
    pub path: Option<String>,
}

/// What passed since somebody began to watch.
#[derive(Debug, Default)]
pub struct Tap {
    is_open: bool,
    with_paths: bool,
    kept: VecDeque<Passed>,
    /// Number of the first that is kept.
    first: u64,
}

impl Tap {
    /// Begins to keep what passes; paths as they were sent only if that is asked for.
    pub fn open(&mut self, with_paths: bool) {
        self.is_open = true;
        self.with_paths = with_paths;
    }

    /// Keeps nothing any more, and forgets what was kept.
    pub fn close(&mut self) {
        self.is_open = false;
        self.with_paths = false;
        self.first += self.kept.len() as u64;
        self.kept = VecDeque::new();
    }

    /// Whether somebody watches.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Number of the next exchange.
    pub fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// What passed from a number on, and how many before were too many to be kept.
    pub fn since(&self, number: u64) -> (impl Iterator<Item = &Passed>, u64) {
        let missed = self.first.saturating_sub(number);
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        (self.kept.iter().skip(skip), missed)
    }

    /// Keeps an exchange.
    pub(crate) fn push(
        &mut self,
        exchange: &Exchange<'_>,
        workload: &Arc<Workload>,
        attributes: Arc<[Attribute]>,
        now: Time,
    ) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        let ago = now.monotonic_ns.saturating_sub(exchange.end_ns);
        self.kept.push_back(Passed {
            workload: Arc::clone(workload),
            role: exchange.role,
            end_unix_ns: now.unix_ns.saturating_sub(ago),
            duration_ns: exchange.duration_ns(),
            status: exchange.status,
            attributes,
            path: if self.with_paths {
                path(exchange)
            } else {
                None
            },
        });
    }
}

fn path(exchange: &Exchange<'_>) -> Option<String> {
    let target = TargetForm::parse(exchange.method, exchange.target.bytes);
    let path = target.path()?;
    let path = &path[..path.len().min(PATH_BYTES)];
    Some(String::from_utf8_lossy(path).into_owned())
}
