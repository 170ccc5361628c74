//! Keeps the account of one push, whichever way it ends.

use super::{Accepted, Exporter, PushError, PushOutcome};

/// What becomes of one push: recorded once, also when the push is dropped half-way.
pub(super) struct Account<'a> {
    exporter: &'a Exporter,
    /// Points that are neither answered nor given up.
    open: u64,
    /// What stays open is kept for another push.
    keeps: bool,
    pub(super) outcome: PushOutcome,
    closed: bool,
}

impl<'a> Account<'a> {
    pub(super) fn open(exporter: &'a Exporter, points: u64, keeps: bool) -> Self {
        Self {
            exporter,
            open: points,
            keeps,
            outcome: PushOutcome::default(),
            closed: false,
        }
    }

    pub(super) fn note_accepted(&mut self, points: u64, accepted: &Accepted) {
        let rejected = accepted.rejected_points.min(points);
        self.open = self.open.saturating_sub(points);
        self.outcome.points_rejected += rejected;
        self.outcome.points_sent += points - rejected;
        if rejected > 0 || !accepted.message.is_empty() {
            self.exporter.note_remark(rejected, &accepted.message);
        }
    }

    /// Points that no later push will hold.
    pub(super) fn note_dropped(&mut self, points: u64) {
        self.open = self.open.saturating_sub(points);
        self.outcome.points_dropped += points;
    }

    /// The first error is the one that is told.
    pub(super) fn stop(&mut self, error: PushError) {
        self.outcome.error.get_or_insert(error);
    }

    /// Whether points are neither answered nor given up.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    pub(super) fn close(mut self) -> PushOutcome {
        self.settle();
        std::mem::take(&mut self.outcome)
    }

    /// What was not answered by now is lost, unless it is kept.
    fn settle(&mut self) {
        if self.keeps {
            self.outcome.points_held = self.open;
        } else {
            self.note_dropped(self.open);
        }
        self.closed = true;
        self.exporter.record(&self.outcome);
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.stop(PushError::GivenUp);
            self.settle();
        }
    }
}
