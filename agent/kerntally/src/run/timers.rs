//! When the agent's loop does what.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

const SWEEP: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_secs(2);

/// The loop's own times.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) sweep: Interval,
    pub(super) collect: Interval,
    pub(super) redraw: Interval,
}

impl Timers {
    pub(super) fn new(export: Duration) -> Self {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            sweep,
            collect: ticking(export),
            redraw,
        }
    }
}

/// The first tick after one period.
pub(super) fn ticking(period: Duration) -> Interval {
    let start = tokio::time::Instant::now() + period;
    let mut interval = tokio::time::interval_at(start, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
