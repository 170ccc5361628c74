//! Keeps the account of one push, whichever way it ends.

use super::{Accepted, Exporter, PushError, PushOutcome};
use crate::{ExportMetricsServiceRequest, encode::points_in};

/// What becomes of one push: recorded once, also when the push is dropped half-way.
pub(super) struct Account<'a> {
    exporter: &'a Exporter,
    points: u64,
    pub(super) outcome: PushOutcome,
    closed: bool,
}

impl<'a> Account<'a> {
    pub(super) fn open(exporter: &'a Exporter, requests: &[ExportMetricsServiceRequest]) -> Self {
        let points = requests.iter().map(points_in).sum();
        Self {
            exporter,
            points,
            outcome: PushOutcome::default(),
            closed: false,
        }
    }

    pub(super) fn note_accepted(&mut self, points: u64, accepted: &Accepted) {
        let rejected = accepted.rejected_points.min(points);
        self.outcome.points_rejected += rejected;
        self.outcome.points_sent += points - rejected;
        if rejected > 0 || !accepted.message.is_empty() {
            let message = &accepted.message;
            tracing::warn!(rejected, %message, "the collector took the request with remarks");
        }
    }

    /// The first error is the one that is told.
    pub(super) fn stop(&mut self, error: PushError) {
        self.outcome.error.get_or_insert(error);
    }

    pub(super) fn close(mut self) -> PushOutcome {
        self.settle();
        std::mem::take(&mut self.outcome)
    }

    /// What was neither sent nor rejected by now is lost.
    fn settle(&mut self) {
        let answered = self.outcome.points_sent + self.outcome.points_rejected;
        self.outcome.points_dropped = self.points.saturating_sub(answered);
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
