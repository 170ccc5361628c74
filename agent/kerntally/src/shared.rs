//! What the agent's loop shows to threads beside it: its pulse, its readiness, its latest reading.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kerntally_export::ExportMetricsServiceRequest;
use kerntally_export::selfmetrics::{Reading, SelfError, SelfMetrics, SelfSource};

use crate::clock;

/// A loop that has not come round for so long is dead, unless it rests: nothing in it takes longer.
const DEAD_NS: u64 = 30_000_000_000;

/// Written by the loop, read by all.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    ready: AtomicBool,
    resting: AtomicBool,
    beat_ns: AtomicU64,
    reading: Mutex<Reading>,
    metrics: Mutex<Option<SelfMetrics>>,
}

impl Shared {
    /// The loop came round.
    pub(crate) fn beat(&self) {
        self.beat_ns
            .store(clock::now().monotonic_ns, Ordering::Relaxed);
    }

    pub(crate) fn is_alive(&self) -> bool {
        let beat = self.beat_ns.load(Ordering::Relaxed);
        clock::now().monotonic_ns.saturating_sub(beat) < DEAD_NS
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_resting(&self, resting: bool) {
        self.resting.store(resting, Ordering::Relaxed);
    }

    /// Nothing has happened for a while: the loop comes round, and its reading is renewed, at collections only.
    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Changes the latest reading.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut lock(&self.reading));
    }

    /// The agent's own instruments, once there are some; the previous ones come back.
    pub(crate) fn replace_metrics(&self, metrics: Option<SelfMetrics>) -> Option<SelfMetrics> {
        std::mem::replace(&mut *lock(&self.metrics), metrics)
    }

    fn with_metrics<T>(&self, read: impl FnOnce(&SelfMetrics) -> T) -> Option<T> {
        lock(&self.metrics).as_ref().map(read)
    }

    /// The agent's own metrics as a request, for the export file.
    pub(crate) fn metrics_request(&self) -> Option<ExportMetricsServiceRequest> {
        match self.with_metrics(SelfMetrics::request)? {
            Ok(request) => Some(request),
            Err(error) => {
                tracing::warn!(%error, "the agent's own metrics could not be read");
                None
            }
        }
    }

    /// The body of `/metrics`.
    pub(crate) fn metrics_text(&self) -> Option<Result<String, SelfError>> {
        self.with_metrics(SelfMetrics::prometheus_text)
    }
}

impl SelfSource for Shared {
    fn read(&self) -> Reading {
        lock(&self.reading).clone()
    }
}

/// A reading that was cut short by a panic elsewhere is still a reading.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
