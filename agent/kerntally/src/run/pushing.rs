//! The push as an outlet: a collection in, its requests sent beside the loop, one collection at a time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kerntally_export::encode::{Batch, Encoder};
use kerntally_export::push::{ExportStats, Exporter, PushOutcome};
use kerntally_pipeline::Collection;
use kerntally_pipeline::aggregate::Generation;
use tokio::task::{JoinError, JoinHandle};

use super::outlets::{LARGE_COLLECTION, ended};
use crate::config::{Config, Loaded, Temporality};
use crate::failure::Failure;

/// A collector to push to, or none.
#[derive(Debug)]
pub(super) struct Pushing {
    exporter: Option<Arc<Exporter>>,
    /// For how long a batch of delta points is sent again; `None` with cumulative ones.
    delta_hold: Option<Duration>,
    push: Option<JoinHandle<PushOutcome>>,
    /// Collection that the push, or the batch that is kept, is of.
    under_way: Generation,
    /// The youngest collection that was accepted.
    pushed: Option<Generation>,
}

impl Pushing {
    /// Within a runtime.
    pub(super) fn open(loaded: &Loaded) -> Result<Self, Failure> {
        let exporter = match &loaded.otlp {
            Some(settings) => Some(Arc::new(
                Exporter::new(settings.clone())
                    .context("export.otlp")
                    .map_err(Failure::Usage)?,
            )),
            None => None,
        };
        Ok(Self {
            exporter,
            delta_hold: delta_hold(&loaded.config),
            push: None,
            under_way: Generation::default(),
            pushed: None,
        })
    }

    /// Goes on with the totals of another, whose push has ended, and with the batch that it keeps.
    pub(super) async fn take_over(&mut self, before: &Self) {
        if let (Some(exporter), Some(theirs)) = (&self.exporter, &before.exporter) {
            exporter.take_over(theirs, self.delta_hold.is_some()).await;
            self.under_way = before.under_way;
        }
    }

    pub(super) fn exporter(&self) -> Option<&Arc<Exporter>> {
        self.exporter.as_ref()
    }

    pub(super) fn stats(&self) -> Option<ExportStats> {
        self.exporter.as_ref().map(|exporter| exporter.stats())
    }

    pub(super) fn pushed(&self) -> Option<Generation> {
        self.pushed
    }

    pub(super) fn is_delta(&self) -> bool {
        self.delta_hold.is_some()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.push.is_some()
    }

    /// Whether a batch of delta points is kept.
    pub(super) fn is_holding(&self) -> bool {
        self.exporter
            .as_ref()
            .is_some_and(|exporter| exporter.is_holding())
    }

    /// Begins to push; whether it could, or had no need to.
    pub(super) fn start(&mut self, encoder: &Arc<Encoder>, collection: &Arc<Collection>) -> bool {
        let Some(exporter) = self.exporter.clone() else {
            return true;
        };
        if self.is_busy() {
            return false;
        }
        let (encoder, collection) = (Arc::clone(encoder), Arc::clone(collection));
        let hold = self.delta_hold;
        self.under_way = collection.generation;
        self.push = Some(tokio::spawn(async move {
            let batch = Batch::encode(encoder, collection).await;
            let is_large = batch.points() >= LARGE_COLLECTION;
            let outcome = match hold {
                None => exporter.push(batch).await,
                Some(hold) => exporter.push_once(batch, hold).await,
            };
            if is_large {
                // Nobody waits for it.
                drop(tokio::task::spawn_blocking(
                    kerntally_probes::return_free_memory,
                ));
            }
            outcome
        }));
        true
    }

    /// Sends a batch of delta points that is kept once more.
    pub(super) fn start_again(&mut self) {
        let Some(exporter) = self.exporter.clone() else {
            return;
        };
        if !self.is_busy() && self.is_delta() && self.is_holding() {
            self.push = Some(tokio::spawn(async move { exporter.push_again().await }));
        }
    }

    /// Takes up a push that has ended.
    pub(super) async fn settle(&mut self) {
        if self.push.as_ref().is_some_and(JoinHandle::is_finished) {
            self.next_finished().await;
        }
    }

    /// Waits until a push under way has ended, and takes that up; for ever if there is none.
    pub(super) async fn next_finished(&mut self) {
        // No waiting past this point: what has ended is taken up, or not yet looked at.
        let finished = ended(self.push.as_mut()).await;
        self.push = None;
        self.take(finished);
    }

    /// Waits for the push under way, and gives it up after `patience`; whether it ended by itself.
    pub(super) async fn finish(&mut self, patience: Duration) -> bool {
        if !self.is_busy() {
            return true;
        }
        if tokio::time::timeout(patience, self.next_finished())
            .await
            .is_ok()
        {
            return true;
        }
        if let Some(push) = self.push.take() {
            push.abort();
        }
        false
    }

    fn take(&mut self, finished: Result<PushOutcome, JoinError>) {
        match finished {
            // A delta batch that was refused or is too old is over as well.
            Ok(outcome) if outcome.accepted() || (self.is_delta() && outcome.points_held == 0) => {
                self.pushed = Some(self.under_way);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a push ended abnormally"),
        }
    }
}

fn delta_hold(config: &Config) -> Option<Duration> {
    match config.export.temporality {
        Temporality::Cumulative => None,
        Temporality::Delta | Temporality::LowMemory => Some(config.export.delta_hold.0),
    }
}
