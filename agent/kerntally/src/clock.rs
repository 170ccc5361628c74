//! The one place that reads clocks for the stages, which are handed the time.

use std::time::{SystemTime, UNIX_EPOCH};

use kerntally_model::Time;
use rustix::time::{ClockId, clock_gettime};

/// This moment on both clocks.
pub(crate) fn now() -> Time {
    Time {
        monotonic_ns: monotonic_ns(),
        unix_ns: unix_ns(),
    }
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
