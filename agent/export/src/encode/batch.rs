//! The requests of one snapshot on their way to the push: encoded one after the other, as they are asked for.

use std::sync::Arc;

use kerntally_model::Snapshot;
use tokio::sync::{mpsc, oneshot};

use super::{Encoder, Payload};

/// Requests that are ready before they are asked for: the next one is encoded while one is on its way.
const AHEAD: usize = 1;

/// Everything of one snapshot, in payloads. Of a large one only a few exist at a time.
#[derive(Debug)]
pub struct Batch {
    points: u64,
    payloads: mpsc::Receiver<Payload>,
}

impl Batch {
    /// Encodes beside the caller, and no faster than payloads are taken. Within a runtime.
    pub async fn encode<S>(encoder: Arc<Encoder>, snapshot: Arc<S>) -> Self
    where
        S: AsRef<Snapshot> + Send + Sync + 'static,
    {
        let (sender, payloads) = mpsc::channel(AHEAD);
        let (count, counted) = oneshot::channel();
        // Ends by itself: what it sends is taken, or refused once the batch is dropped.
        drop(tokio::task::spawn_blocking(move || {
            // It may have to be written out first.
            let snapshot = (*snapshot).as_ref();
            if count.send(snapshot.points()).is_err() {
                return;
            }
            let limit = encoder.max_request_bytes;
            encoder.each(snapshot, limit, &mut |request| {
                drop(sender.blocking_send((&request).into()));
            });
        }));
        Self {
            points: counted.await.unwrap_or(0),
            payloads,
        }
    }

    /// Data points of the whole snapshot.
    pub fn points(&self) -> u64 {
        self.points
    }

    pub(crate) async fn next(&mut self) -> Option<Payload> {
        self.payloads.recv().await
    }

    /// All that has not been taken yet, at once.
    pub(crate) async fn rest(mut self) -> Vec<Payload> {
        let mut rest = Vec::new();
        while let Some(payload) = self.next().await {
            rest.push(payload);
        }
        rest
    }
}

#[cfg(test)]
impl From<Vec<Payload>> for Batch {
    fn from(ready: Vec<Payload>) -> Self {
        let points = ready.iter().map(|payload| payload.points).sum();
        let (sender, payloads) = mpsc::channel(ready.len().max(1));
        for payload in ready {
            // There is room for each.
            drop(sender.try_send(payload));
        }
        Self { points, payloads }
    }
}

#[cfg(test)]
impl Batch {
    /// As if its snapshot had so many points.
    pub(crate) fn of(mut self, points: u64) -> Self {
        self.points = points;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{snapshot, template};

    #[tokio::test]
    async fn is_what_encoding_all_at_once_gives() {
        let encoder = Arc::new(Encoder::new(template(), 800));
        let expected = encoder.payloads(&snapshot());
        assert!(expected.len() > AHEAD + 1);
        let batch = Batch::encode(encoder, Arc::new(snapshot())).await;
        assert_eq!(batch.points(), snapshot().points());
        assert_eq!(batch.rest().await, expected);
    }
}
