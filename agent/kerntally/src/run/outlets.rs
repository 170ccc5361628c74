//! Where collections go: the push, the file, the console. One delivery of each kind at a time.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kerntally_export::ExportMetricsServiceRequest;
use kerntally_export::console::{self, Table};
use kerntally_export::encode::Encoder;
use kerntally_export::file::{FileSink, FileStats};
use kerntally_export::push::{ExportStats, Exporter, PushOutcome};
use kerntally_export::resource::{self, HostRoots, Node, ResourceTemplate, read_node};
use kerntally_model::Snapshot;
use kerntally_pipeline::Collection;
use kerntally_pipeline::aggregate::Generation;
use tokio::task::JoinHandle;

use super::pulling::Pulling;
use crate::config::{Config, Console, Identity, Loaded, Temporality};
use crate::failure::Failure;
use crate::output;
use crate::shared::Shared;

/// Time for the last push, and for one to a collector that did not answer the one before.
const LAST_PUSH: Duration = Duration::from_secs(5);
const LAST_PUSH_FAILING: Duration = Duration::from_secs(1);

/// Time for a push that is under way when the agent stops.
const RUNNING_PUSH: Duration = Duration::from_secs(1);

/// Requests to a file may be as long as they like.
const NO_LIMIT: usize = usize::MAX;

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    Nothing,
    /// Redrawn in place.
    Live,
    /// Appended at each collection.
    Plain,
    /// Rows in JSON, appended at each collection.
    Json,
}

/// Everything a collection is handed to.
#[derive(Debug)]
pub(crate) struct Outlets {
    node: Node,
    resources: ResourceTemplate,
    encoder: Arc<Encoder>,
    pulling: Option<Arc<Pulling>>,
    /// A collection on its way to be scraped.
    publishing: Option<JoinHandle<()>>,
    exporter: Option<Arc<Exporter>>,
    /// For how long a batch of delta points is sent again; `None` with cumulative ones.
    delta_hold: Option<Duration>,
    push: Option<JoinHandle<Pushed>>,
    /// Collection that the push under way, or the batch that is kept, is of.
    pushing: Generation,
    pushed: Option<Generation>,
    file: File,
    written: Option<Generation>,
    file_stats: Option<FileStats>,
    table: Table,
    display: Display,
    /// The reader of standard output is gone.
    closed: bool,
    /// Deliveries that were left out because the previous one was still under way.
    skipped: u64,
}

/// What became of a push; nothing if the collection could not be encoded.
type Pushed = Option<PushOutcome>;

/// What became of a write.
#[derive(Clone, Copy, Debug)]
enum Written {
    Whole(Generation),
    Failed,
    ClosedPipe,
}

#[derive(Debug)]
enum File {
    None,
    Idle(FileSink),
    Writing(JoinHandle<(Written, FileSink)>),
}

impl Outlets {
    /// Opens what the configuration asks for; a pull goes on where it was. Within a runtime.
    pub(crate) fn open(loaded: &Loaded, before: Option<&Self>) -> Result<Self, Failure> {
        let config = &loaded.config;
        let roots = HostRoots {
            proc: config.host.proc.clone(),
        };
        let node =
            read_node(config.resource.node.as_deref(), &roots).map_err(anyhow::Error::from)?;
        let base = config.resource.attributes.clone();
        let max_request = match &config.export.otlp {
            Some(otlp) => usize::try_from(otlp.max_request.0).unwrap_or(NO_LIMIT),
            None => NO_LIMIT,
        };
        let exporter = match &loaded.otlp {
            Some(settings) => Some(Arc::new(
                Exporter::new(settings.clone())
                    .context("export.otlp")
                    .map_err(Failure::Usage)?,
            )),
            None => None,
        };
        let file = match &config.export.file {
            Some(path) => File::Idle(
                FileSink::open(path)
                    .context("export.file")
                    .map_err(Failure::Usage)?,
            ),
            None => File::None,
        };
        let resources = ResourceTemplate::new(node.clone(), identity(config), base);
        let pulling = match config.export.prometheus.listen {
            Some(listen) => Some(pulling(listen, &resources, before)?),
            None => None,
        };
        Ok(Self {
            encoder: Arc::new(Encoder::new(resources.clone(), max_request)),
            resources,
            pulling,
            publishing: None,
            node,
            exporter,
            delta_hold: delta_hold(config),
            push: None,
            pushing: Generation::default(),
            pushed: None,
            file_stats: None,
            file,
            written: None,
            table: Table::default(),
            display: display(config.export.console),
            closed: false,
            skipped: 0,
        })
    }

    /// Opens what a changed configuration asks for in place of what is open. What is under way is finished, or
    /// goes on from where it is.
    pub(crate) async fn reopen(&mut self, loaded: &Loaded) -> Result<(), Failure> {
        let mut next = Self::open(loaded, Some(self))?;
        self.await_push(RUNNING_PUSH).await;
        self.finish_write().await;
        if let (Some(exporter), Some(before)) = (&next.exporter, &self.exporter) {
            exporter.take_over(before, next.delta_hold.is_some()).await;
            next.pushing = self.pushing;
        }
        *self = next;
        Ok(())
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// What writes pushes, whether there are any or not.
    pub(crate) fn encoder(&self) -> Arc<Encoder> {
        Arc::clone(&self.encoder)
    }

    pub(crate) fn exporter(&self) -> Option<&Arc<Exporter>> {
        self.exporter.as_ref()
    }

    /// Where it is scraped.
    pub(crate) fn pull_address(&self) -> Option<SocketAddr> {
        self.pulling.as_ref().map(|pulling| pulling.address())
    }

    pub(crate) fn display(&self) -> Display {
        self.display
    }

    pub(crate) fn export_stats(&self) -> Option<ExportStats> {
        self.exporter.as_ref().map(|exporter| exporter.stats())
    }

    pub(crate) fn file_stats(&self) -> Option<FileStats> {
        match &self.file {
            File::None => None,
            File::Idle(sink) => Some(sink.stats().clone()),
            File::Writing(_) => self.file_stats.clone(),
        }
    }

    /// Whether the reader of standard output went away: nobody waits for more.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Hands a collection out; the agent's own metrics go to the file too, as they are pushed by themselves.
    /// What takes long is done beside the loop.
    pub(crate) async fn deliver(&mut self, collection: Collection, own: &Arc<Shared>) {
        self.settle().await;
        if matches!(self.display, Display::Plain | Display::Json) {
            self.show(collection.snapshot());
        }
        let collection = Arc::new(collection);
        self.publish(&collection);
        self.start_push(&collection);
        self.start_write(&collection, own);
    }

    /// With delta points: whether what was handed out before is still on its way. A collection would hand the
    /// next measurements out with nobody to take them; not collected, they stay in the window that runs.
    pub(crate) async fn must_wait(&mut self) -> bool {
        self.settle().await;
        self.delta_hold.is_some()
            && (self.push.is_some() || self.is_holding() || matches!(self.file, File::Writing(_)))
    }

    /// Sends a batch of delta points that is kept once more.
    pub(crate) fn push_again(&mut self) {
        let Some(exporter) = self.exporter.clone() else {
            return;
        };
        if self.push.is_none() && self.delta_hold.is_some() && self.is_holding() {
            self.push = Some(tokio::spawn(
                async move { Some(exporter.push_again().await) },
            ));
        }
    }

    fn is_holding(&self) -> bool {
        self.exporter
            .as_ref()
            .is_some_and(|exporter| exporter.is_holding())
    }

    /// The youngest collection that arrived everywhere it had to.
    pub(crate) fn accepted(&self, latest: Generation) -> Option<Generation> {
        match (&self.exporter, &self.file) {
            // A scrape asks when it likes: it need not have come for what it shows to be right.
            (None, File::None) => Some(latest),
            (Some(_), File::None) => self.pushed,
            (None, _) => self.written,
            (Some(_), _) => self.pushed.zip(self.written).map(|(a, b)| a.min(b)),
        }
    }

    /// Draws the table, or appends it.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let rows = self.table.rows(snapshot);
        let text = match self.display {
            Display::Nothing => return,
            Display::Json => console::json_lines(&rows),
            Display::Plain => console::render(&rows),
            Display::Live => live(&console::render(&rows), output::terminal_size()),
        };
        if text.is_empty() {
            return;
        }
        match output::draw(&text) {
            Ok(()) => {}
            Err(Failure::ClosedPipe) => self.closed = true,
            Err(error) => {
                tracing::warn!(%error, "standard output cannot be written, the table ends");
                self.display = Display::Nothing;
            }
        }
    }

    /// Takes up what has finished meanwhile.
    pub(crate) async fn settle(&mut self) {
        if self.push.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(push) = self.push.take()
        {
            self.take_push(push.await);
        }
        if matches!(&self.file, File::Writing(writing) if writing.is_finished()) {
            self.finish_write().await;
        }
    }

    /// Waits until a delivery under way has ended, and takes that up; for ever if there is none.
    pub(crate) async fn next_finished(&mut self) {
        let writing = match &mut self.file {
            File::Writing(writing) => Some(writing),
            File::None | File::Idle(_) => None,
        };
        // No waiting past this point: what has ended is taken up, or not yet looked at.
        tokio::select! {
            pushed = ended(self.push.as_mut()) => {
                self.push = None;
                self.take_push(pushed);
            }
            written = ended(writing) => self.take_write(written),
        }
    }

    /// The last delivery: waits, but not for ever.
    pub(crate) async fn close(&mut self, collection: Collection, own: &Arc<Shared>) {
        let answered = self.await_push(RUNNING_PUSH).await;
        let failing = self.export_stats().is_some_and(|stats| stats.failing);
        let patience = if answered && !failing {
            LAST_PUSH
        } else {
            LAST_PUSH_FAILING
        };
        self.finish_write().await;
        self.push_again();
        if self.push.is_some() && !self.await_push(patience).await {
            tracing::warn!("the collector did not answer the last batch but one");
        }
        self.deliver(collection, own).await;
        if !self.await_push(patience).await {
            tracing::warn!("the collector did not answer the last push");
        }
        self.finish_write().await;
    }

    fn publish(&mut self, collection: &Arc<Collection>) {
        let Some(pulling) = &self.pulling else {
            return;
        };
        // They must not overtake each other.
        let is_running = |publishing: &JoinHandle<()>| !publishing.is_finished();
        if self.publishing.as_ref().is_some_and(is_running) {
            self.skipped += 1;
            return;
        }
        self.publishing = Some(pulling.publish(self.resources.clone(), collection));
    }

    fn start_push(&mut self, collection: &Arc<Collection>) {
        let Some(exporter) = self.exporter.clone() else {
            return;
        };
        if self.push.is_some() {
            self.skipped += 1;
            return;
        }
        let (encoder, collection) = (Arc::clone(&self.encoder), Arc::clone(collection));
        let hold = self.delta_hold;
        self.pushing = collection.generation;
        self.push = Some(tokio::spawn(async move {
            let payloads =
                tokio::task::spawn_blocking(move || encoder.payloads(collection.snapshot())).await;
            match (payloads, hold) {
                (Ok(payloads), None) => Some(exporter.push(&payloads).await),
                (Ok(payloads), Some(hold)) => Some(exporter.push_once(payloads, hold).await),
                (Err(error), _) => {
                    tracing::error!(%error, "encoding a collection ended abnormally");
                    None
                }
            }
        }));
    }

    fn start_write(&mut self, collection: &Arc<Collection>, own: &Arc<Shared>) {
        match std::mem::replace(&mut self.file, File::None) {
            File::Idle(mut sink) => {
                self.file_stats = Some(sink.stats().clone());
                let encoder = Arc::clone(&self.encoder);
                let (collection, own) = (Arc::clone(collection), Arc::clone(own));
                self.file = File::Writing(tokio::task::spawn_blocking(move || {
                    let requests = encoder.encode(collection.snapshot());
                    let own = own.metrics_request();
                    (
                        write(&mut sink, collection.generation, &requests, own),
                        sink,
                    )
                }));
            }
            File::Writing(writing) => {
                self.skipped += 1;
                self.file = File::Writing(writing);
            }
            File::None => {}
        }
    }

    /// Waits for the push under way; whether it ended by itself.
    async fn await_push(&mut self, patience: Duration) -> bool {
        let Some(mut push) = self.push.take() else {
            return true;
        };
        match tokio::time::timeout(patience, &mut push).await {
            Ok(finished) => {
                self.take_push(finished);
                true
            }
            Err(_elapsed) => {
                push.abort();
                false
            }
        }
    }

    fn take_push(&mut self, finished: Result<Pushed, tokio::task::JoinError>) {
        match finished {
            // A delta batch that was refused or is too old is over as well.
            Ok(Some(outcome))
                if outcome.accepted()
                    || (self.delta_hold.is_some() && outcome.points_held == 0) =>
            {
                self.pushed = Some(self.pushing);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a push ended abnormally"),
        }
    }

    async fn finish_write(&mut self) {
        let writing = match std::mem::replace(&mut self.file, File::None) {
            File::Writing(writing) => writing,
            other => {
                self.file = other;
                return;
            }
        };
        let written = writing.await;
        self.take_write(written);
    }

    fn take_write(&mut self, finished: Result<(Written, FileSink), tokio::task::JoinError>) {
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

/// What a task under way comes to.
async fn ended<T>(task: Option<&mut JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// The sink keeps count of what could not be written; only the first of a row of failures is logged.
fn write(
    sink: &mut FileSink,
    generation: Generation,
    requests: &[ExportMetricsServiceRequest],
    own: Option<ExportMetricsServiceRequest>,
) -> Written {
    let failing = sink.stats().failing;
    // The agent's own first: a file then always ends with what the services did.
    let own = own.map_or(Ok(()), |own| sink.append(&[own]));
    let result = own.and_then(|()| sink.append(requests));
    match result {
        Ok(()) => {
            if failing {
                let dropped = sink.stats().dropped;
                tracing::warn!(dropped, "the export file can be written again");
            }
            Written::Whole(generation)
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

/// The table in place of the one before: home, as many lines as fit, then clear what is left below.
fn live(table: &str, (columns, lines): (usize, usize)) -> String {
    let room = lines.saturating_sub(2).max(1);
    let total = table.lines().count();
    let mut text = String::from("\x1b[H");
    for line in table.lines().take(room) {
        text.extend(line.chars().take(columns));
        text.push_str("\x1b[K\n");
    }
    if total == 0 {
        text.push_str("no traffic yet\x1b[K\n");
    } else if total > room {
        text.push_str(&(total - room).to_string());
        text.push_str(" more\x1b[K");
    }
    text + "\x1b[J"
}

fn pulling(
    listen: SocketAddr,
    resources: &ResourceTemplate,
    before: Option<&Outlets>,
) -> Result<Arc<Pulling>, Failure> {
    let same = before
        .and_then(|before| before.pulling.as_ref())
        .filter(|pulling| pulling.address() == listen);
    match same {
        Some(pulling) => Ok(Arc::clone(pulling)),
        None => Pulling::listen(listen, resources.clone()).map(Arc::new),
    }
}

fn identity(config: &Config) -> resource::Identity {
    match config.resource.identity {
        Identity::None => resource::Identity::None,
        Identity::Node | Identity::Process => resource::Identity::Node,
    }
}

fn delta_hold(config: &Config) -> Option<Duration> {
    match config.export.temporality {
        Temporality::Cumulative => None,
        Temporality::Delta | Temporality::LowMemory => Some(config.export.delta_hold.0),
    }
}

fn display(console: Console) -> Display {
    let terminal = std::io::stdout().is_terminal();
    match (console, terminal) {
        (Console::Off, _) | (Console::Auto, false) => Display::Nothing,
        (Console::Auto | Console::Table, true) => Display::Live,
        (Console::Table, false) => Display::Plain,
        (Console::Json, _) => Display::Json,
    }
}

#[cfg(test)]
mod tests {
    use kerntally_pipeline::Pipeline;

    use super::*;
    use crate::config::{self, Setting, Sources};
    use crate::procsource::ProcFiles;

    fn setting(key: &str, value: &str) -> Setting {
        Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            flag: "--set".to_owned(),
        }
    }

    #[tokio::test]
    async fn the_last_delivery_is_written_whether_one_was_under_way_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.json");
        let settings = vec![
            setting("export.otlp", "null"),
            setting("export.file", path.to_str().unwrap()),
        ];
        let loaded = config::load(&Sources {
            settings,
            ..Sources::default()
        })
        .unwrap();
        let source = Box::new(ProcFiles::new(dir.path()));
        let mut pipeline = Pipeline::new(&loaded.pipeline, source, crate::clock::now());
        let mut outlets = Outlets::open(&loaded, None).unwrap();
        let shared = Arc::new(Shared::default());
        let mut last = None;
        for _ in 0..3 {
            let collection = pipeline.collect(crate::clock::now());
            last = Some(collection.generation);
            outlets.close(collection, &shared).await;
            assert!(matches!(outlets.file, File::Idle(_)));
            assert_eq!(outlets.written, last);
        }
        let collection = pipeline.collect(crate::clock::now());
        outlets.deliver(collection, &shared).await;
        let collection = pipeline.collect(crate::clock::now());
        last = last.max(Some(collection.generation));
        outlets.close(collection, &shared).await;
        assert_eq!(outlets.written, last);
        assert_eq!(outlets.skipped(), 0);
    }

    #[test]
    fn the_live_table_fits_the_terminal() {
        let table = "HEAD\nlonger than the terminal\nthird\nfourth\n";
        let text = live(table, (10, 4));
        assert_eq!(
            text,
            "\x1b[HHEAD\x1b[K\nlonger tha\x1b[K\n2 more\x1b[K\x1b[J"
        );
        assert_eq!(live("a\n", (80, 24)), "\x1b[Ha\x1b[K\n\x1b[J");
        assert!(live("", (80, 24)).contains("no traffic yet"));
    }
}
