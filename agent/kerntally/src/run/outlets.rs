//! Where collections go: the push, the file, the console. One delivery of each kind at a time.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kerntally_export::console::{self, Table};
use kerntally_export::encode::{Encoder, MAX_REQUEST_BYTES};
use kerntally_export::file::FileStats;
use kerntally_export::push::{ExportStats, Exporter};
use kerntally_export::resource::{self, HostRoots, Node, ResourceTemplate, read_node};
use kerntally_model::Snapshot;
use kerntally_pipeline::Collection;
use kerntally_pipeline::aggregate::Generation;
use tokio::task::JoinHandle;

use super::pulling::Pulling;
use super::pushing::Pushing;
use super::writing::Writing;
use crate::config::{Config, Console, Identity, Loaded};
use crate::failure::Failure;
use crate::output;
use crate::shared::Shared;

/// Time for the last push, and for one to a collector that did not answer the one before.
const LAST_PUSH: Duration = Duration::from_secs(5);
const LAST_PUSH_FAILING: Duration = Duration::from_secs(1);

/// Time for a push that is under way when the agent stops.
const RUNNING_PUSH: Duration = Duration::from_secs(1);

/// Points of a collection whose memory is given back as soon as it is delivered: a few megabytes and more, which
/// the C library would keep until the next one. Giving back less is not worth the page faults.
pub(super) const LARGE_COLLECTION: u64 = 1000;

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
    pushing: Pushing,
    writing: Writing,
    table: Table,
    display: Display,
    /// The reader of standard output is gone.
    closed: bool,
    /// Deliveries that were left out because the previous one was still under way.
    skipped: u64,
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
        let otlp = config.export.otlp.as_ref();
        let max_request = otlp.map_or(MAX_REQUEST_BYTES, |otlp| {
            usize::try_from(otlp.max_request.0).unwrap_or(usize::MAX)
        });
        let pushing = Pushing::open(loaded)?;
        let writing = Writing::open(config.export.file.as_deref())?;
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
            pushing,
            writing,
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
        self.pushing.finish(RUNNING_PUSH).await;
        self.writing.finish().await;
        next.pushing.take_over(&self.pushing).await;
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
        self.pushing.exporter()
    }

    /// Where it is scraped.
    pub(crate) fn pull_address(&self) -> Option<SocketAddr> {
        self.pulling.as_ref().map(|pulling| pulling.address())
    }

    pub(crate) fn display(&self) -> Display {
        self.display
    }

    pub(crate) fn export_stats(&self) -> Option<ExportStats> {
        self.pushing.stats()
    }

    pub(crate) fn file_stats(&self) -> Option<FileStats> {
        self.writing.stats()
    }

    /// Whether the reader of standard output went away: nobody waits for more.
    pub(crate) fn closed(&self) -> bool {
        self.closed || self.writing.closed()
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
        let pushes = self.pushing.start(&self.encoder, &collection);
        let writes = self.writing.start(&self.encoder, &collection, own);
        self.skipped += u64::from(!pushes) + u64::from(!writes);
    }

    /// With delta points: whether what was handed out before is still on its way. A collection would hand the
    /// next measurements out with nobody to take them; not collected, they stay in the window that runs.
    pub(crate) async fn must_wait(&mut self) -> bool {
        self.settle().await;
        self.pushing.is_delta()
            && (self.pushing.is_busy() || self.pushing.is_holding() || self.writing.is_busy())
    }

    /// Sends a batch of delta points that is kept once more.
    pub(crate) fn push_again(&mut self) {
        self.pushing.start_again();
    }

    /// The youngest collection that arrived everywhere it had to.
    pub(crate) fn accepted(&self, latest: Generation) -> Option<Generation> {
        let (pushed, written) = (self.pushing.pushed(), self.writing.written());
        match (self.pushing.exporter(), self.writing.is_wanted()) {
            // A scrape asks when it likes: it need not have come for what it shows to be right.
            (None, false) => Some(latest),
            (Some(_), false) => pushed,
            (None, true) => written,
            (Some(_), true) => pushed.zip(written).map(|(a, b)| a.min(b)),
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
        self.pushing.settle().await;
        self.writing.settle().await;
    }

    /// Waits until a delivery under way has ended, and takes that up; for ever if there is none.
    pub(crate) async fn next_finished(&mut self) {
        tokio::select! {
            () = self.pushing.next_finished() => {}
            () = self.writing.next_finished() => {}
        }
    }

    /// The last delivery: waits, but not for ever.
    pub(crate) async fn close(&mut self, collection: Collection, own: &Arc<Shared>) {
        let answered = self.pushing.finish(RUNNING_PUSH).await;
        let failing = self.export_stats().is_some_and(|stats| stats.failing);
        let patience = if answered && !failing {
            LAST_PUSH
        } else {
            LAST_PUSH_FAILING
        };
        self.writing.finish().await;
        self.push_again();
        if !self.pushing.finish(patience).await {
            tracing::warn!("the collector did not answer the last batch but one");
        }
        self.deliver(collection, own).await;
        if !self.pushing.finish(patience).await {
            tracing::warn!("the collector did not answer the last push");
        }
        self.writing.finish().await;
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
}

/// What a task under way comes to.
pub(super) async fn ended<T>(
    task: Option<&mut JoinHandle<T>>,
) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
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
            assert!(!outlets.writing.is_busy());
            assert_eq!(outlets.writing.written(), last);
        }
        let collection = pipeline.collect(crate::clock::now());
        outlets.deliver(collection, &shared).await;
        let collection = pipeline.collect(crate::clock::now());
        last = last.max(Some(collection.generation));
        outlets.close(collection, &shared).await;
        assert_eq!(outlets.writing.written(), last);
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
