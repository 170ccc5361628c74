//! The file as an outlet: a collection in, its lines appended beside the loop, one collection at a time.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use kerntally_export::ExportMetricsServiceRequest;
use kerntally_export::encode::Encoder;
use kerntally_export::file::{FileSink, FileStats, LINE_REQUEST_BYTES};
use kerntally_pipeline::Collection;
use kerntally_pipeline::aggregate::Generation;
use tokio::task::{JoinError, JoinHandle};

use super::outlets::{LARGE_COLLECTION, ended};
use crate::failure::Failure;
use crate::shared::Shared;

/// A file, or none.
#[derive(Debug)]
pub(super) struct Writing {
    file: File,
    /// The youngest collection that was written whole.
    written: Option<Generation>,
    /// As the write under way found them.
    stats: Option<FileStats>,
    /// The reader of standard output is gone.
    closed: bool,
}

#[derive(Debug)]
enum File {
    None,
    Idle(FileSink),
    Busy(JoinHandle<(Written, FileSink)>),
}

/// What became of a write.
#[derive(Clone, Copy, Debug)]
enum Written {
    Whole(Generation),
    Failed,
    ClosedPipe,
}

impl Writing {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file = match path {
            Some(path) => File::Idle(
                FileSink::open(path)
                    .context("export.file")
                    .map_err(Failure::Usage)?,
            ),
            None => File::None,
        };
        Ok(Self {
            file,
            written: None,
            stats: None,
            closed: false,
        })
    }

    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self.file, File::None)
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.file, File::Busy(_))
    }

    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    pub(super) fn written(&self) -> Option<Generation> {
        self.written
    }

    pub(super) fn stats(&self) -> Option<FileStats> {
        match &self.file {
            File::None => None,
            File::Idle(sink) => Some(sink.stats().clone()),
            File::Busy(_) => self.stats.clone(),
        }
    }

    /// Begins to write; whether it could, or had no need to.
    pub(super) fn start(
        &mut self,
        encoder: &Arc<Encoder>,
        collection: &Arc<Collection>,
        own: &Arc<Shared>,
    ) -> bool {
        let mut sink = match std::mem::replace(&mut self.file, File::None) {
            File::Idle(sink) => sink,
            File::None => return true,
            busy @ File::Busy(_) => {
                self.file = busy;
                return false;
            }
        };
        self.stats = Some(sink.stats().clone());
        let (encoder, collection) = (Arc::clone(encoder), Arc::clone(collection));
        let own = Arc::clone(own);
        self.file = File::Busy(tokio::task::spawn_blocking(move || {
            let written = write(&mut sink, &encoder, &collection, own.metrics_request());
            let is_large = collection.snapshot().points() >= LARGE_COLLECTION;
            drop(collection);
            if is_large {
                kerntally_probes::return_free_memory();
            }
            (written, sink)
        }));
        true
    }

    /// Takes up a write that has ended.
    pub(super) async fn settle(&mut self) {
        if matches!(&self.file, File::Busy(writing) if writing.is_finished()) {
            self.finish().await;
        }
    }

    /// Waits for the write under way, if there is one.
    pub(super) async fn finish(&mut self) {
        if self.is_busy() {
            self.next_finished().await;
        }
    }

    /// Waits until a write under way has ended, and takes that up; for ever if there is none.
    pub(super) async fn next_finished(&mut self) {
        let busy = match &mut self.file {
            File::Busy(writing) => Some(writing),
            File::None | File::Idle(_) => None,
        };
        // No waiting past this point: what has ended is taken up, or not yet looked at.
        let finished = ended(busy).await;
        self.take(finished);
    }

    fn take(&mut self, finished: Result<(Written, FileSink), JoinError>) {
        self.file = File::None;
        match finished {
            Ok((written, sink)) => {
                match written {
                    Written::Whole(generation) => self.written = Some(generation),
                    Written::Failed => {}
                    Written::ClosedPipe => self.closed = true,
                }
                self.file = File::Idle(sink);
            }
            Err(error) => tracing::error!(%error, "writing the export file ended abnormally"),
        }
    }
}

/// The sink keeps count of what could not be written; only the first of a row of failures is logged.
fn write(
    sink: &mut FileSink,
    encoder: &Encoder,
    collection: &Collection,
    own: Option<ExportMetricsServiceRequest>,
) -> Written {
    let failing = sink.stats().failing;
    // The agent's own first: a file then always ends with what the services did.
    let mut result = own.map_or(Ok(()), |own| sink.append(&[own]));
    let snapshot = collection.snapshot();
    encoder.each(snapshot, LINE_REQUEST_BYTES, &mut |request| match result {
        Ok(()) => result = sink.append(&[request]),
        Err(_) => sink.pass_over(),
    });
    match result {
        Ok(()) => {
            if failing {
                let dropped = sink.stats().dropped;
                tracing::warn!(dropped, "the export file can be written again");
            }
            Written::Whole(collection.generation)
        }
        Err(error) if error.is_closed_pipe() => Written::ClosedPipe,
        Err(error) => {
            if !failing {
                let error = anyhow::Error::from(error);
                tracing::warn!("the export file cannot be written: {error:#}");
            }
            Written::Failed
        }
    }
}
