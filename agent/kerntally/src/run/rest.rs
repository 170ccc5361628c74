//! When the loop sets its timers aside: once nothing has come out of the ring for a while, the kernel side is told to
//! wake it for the next record, and only the export interval goes on.

use std::time::Duration;

use super::agent::Agent;
use super::outlets::Display;
use crate::clock;

/// Wait between two drains while records come: latency of the table, not of the tally.
const DRAIN_BUSY: Duration = Duration::from_millis(100);

/// Once the wait has grown to this with nothing in the ring, waiting for the kernel side costs less.
const DRAIN_QUIET: Duration = Duration::from_millis(400);

/// Longest wait where something keeps the loop from resting.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// How the loop waits for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It looks again after so long.
    Awake(Duration),
    /// The kernel side wakes it.
    Resting,
}

impl Default for Pace {
    fn default() -> Self {
        Self::Awake(DRAIN_BUSY)
    }
}

impl Pace {
    /// The pace after a look that found nothing, if it is not time to rest.
    fn slower(wait: Duration, may_rest: bool) -> Option<Self> {
        if may_rest && wait >= DRAIN_QUIET {
            return None;
        }
        Some(Self::Awake((wait * 2).min(DRAIN_IDLE)))
    }

    /// How long until the next look.
    pub(super) fn wait(self) -> Option<Duration> {
        match self {
            Self::Awake(wait) => Some(wait),
            Self::Resting => None,
        }
    }
}

impl Agent {
    /// A look by timer: with nothing there, the next one comes later, or not before the kernel side asks for it.
    pub(super) fn drain_by_timer(&mut self) {
        if self.drain() > 0 {
            return;
        }
        if let Pace::Awake(wait) = self.pace {
            match Pace::slower(wait, !self.is_kept_awake()) {
                Some(pace) => self.pace = pace,
                None => self.rest(),
            }
        }
    }

    /// Back to timers.
    pub(super) fn wake(&mut self) {
        if self.is_resting() {
            self.hooks.rest(false);
            self.shared.set_resting(false);
        }
        self.pace = Pace::default();
    }

    pub(super) fn is_resting(&self) -> bool {
        self.pace == Pace::Resting
    }

    /// What is open may end in a way that only a sweep sees.
    pub(super) fn is_kept_awake(&self) -> bool {
        self.open > 0 && self.hooks.must_sweep()
    }

    fn rest(&mut self) {
        self.hooks.rest(true);
        self.pace = Pace::Resting;
        // What came before the kernel side knew has woken nobody, and neither has what was begun.
        if self.drain() > 0 {
            return;
        }
        self.publish();
        if self.is_kept_awake() {
            self.wake();
            return;
        }
        self.shared.set_resting(true);
        self.redraw();
    }

    /// The live table.
    pub(super) fn redraw(&mut self) {
        if self.outlets.display() == Display::Live {
            let snapshot = self.pipeline.peek(clock::now());
            self.outlets.show(&snapshot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_until_rest(may_rest: bool) -> Option<usize> {
        let mut pace = Pace::default();
        for looks in 1..100 {
            match Pace::slower(pace.wait()?, may_rest) {
                Some(slower) => pace = slower,
                None => return Some(looks),
            }
        }
        None
    }

    #[test]
    fn a_few_looks_that_find_nothing_lead_to_rest() {
        assert_eq!(looks_until_rest(true), Some(3));
    }

    #[test]
    fn what_keeps_the_loop_awake_leaves_it_looking_at_least_once_a_second() {
        assert_eq!(looks_until_rest(false), None);
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace = Pace::slower(pace.wait().unwrap(), false).unwrap();
        }
        assert_eq!(pace.wait(), Some(DRAIN_IDLE));
    }
}
