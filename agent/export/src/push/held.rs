//! The delta batch that waits for its answer.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::encode::Payload;

/// Requests that were collected once and must arrive as they are, or be counted as lost.
#[derive(Debug)]
pub(super) struct Held {
    payloads: VecDeque<Payload>,
    /// Until when they are sent again; `None` is for ever.
    until: Option<Instant>,
}

impl Held {
    pub(super) fn new(payloads: Vec<Payload>, hold: Duration) -> Self {
        Self {
            payloads: payloads.into(),
            until: Instant::now().checked_add(hold),
        }
    }

    pub(super) fn points(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.points).sum()
    }

    pub(super) fn next(&self) -> Option<Payload> {
        self.payloads.front().cloned()
    }

    /// The first was answered.
    pub(super) fn advance(&mut self) {
        self.payloads.pop_front();
    }

    pub(super) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}
