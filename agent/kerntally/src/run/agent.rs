//! The agent's loop: drains the ring, sweeps, collects, answers, and stops in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerntally_pipeline::{Collection, Pipeline};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::Launch;
use super::hooks::Hooks;
use super::learnt::LearntFile;
use super::listings::Watchers;
use super::outlets::{Display, Outlets};
use super::pressure::Pressed;
use super::report::end_metrics;
use super::rest::Pace;
use super::timers::Timers;
use crate::clock;
use crate::config::{self, Loaded};
use crate::control::Request;
use crate::control::server::{Call, Server};
use crate::failure::Failure;
use crate::health::{Health, Look};
use crate::ledger::Accounts;
use crate::procsource::ProcFiles;
use crate::shared::Shared;
use crate::watch::{self, FileWatch};

/// Shortest time between two walks over all services for their numbers of series.
const SERIES: Duration = Duration::from_secs(5);

/// Time from the first sign of a new configuration file until it is looked at.
const SETTLED: Duration = Duration::from_millis(200);

/// Calls that wait for the loop.
const CALLS: usize = 16;

/// Shortest time between two looks for exchanges that have been open for too long: each walks the whole connection
/// table.
const CUT_EVERY: Duration = Duration::from_secs(30);

/// The running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(super) launch: Launch,
    pub(super) loaded: Loaded,
    pub(super) hooks: Hooks,
    pub(super) pipeline: Pipeline,
    pub(super) outlets: Outlets,
    pub(super) learnt: LearntFile,
    pub(super) shared: Arc<Shared>,
    pub(super) started: Instant,
    /// Other users' processes cannot be read.
    pub(super) names_unreadable: bool,
    /// Whether `http1` is meant to be on.
    pub(super) wanted: bool,
    pub(super) reloads: u64,
    pub(super) reload_errors: u64,
    pub(super) lost_before: u64,
    pub(super) skipped_before: u64,
    pub(super) degraded: Vec<&'static str>,
    pub(super) watchers: Watchers,
    /// When somebody asked for exchanges as they pass.
    pub(super) tail_asked: Option<Instant>,
    pub(super) pressed: Pressed,
    series_published: Option<Instant>,
    pub(super) pace: Pace,
    /// Exchanges without an outcome when that was last looked at.
    pub(super) open: u64,
    cut: Instant,
    calls: mpsc::Receiver<Call>,
    looks: mpsc::Receiver<Look>,
    tasks: Vec<JoinHandle<()>>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Agent {
    /// Loads and attaches, and begins to listen. Within a runtime.
    pub(crate) fn start(
        launch: Launch,
        loaded: Loaded,
        names_unreadable: bool,
    ) -> Result<Self, Failure> {
        let config = &loaded.config;
        // Listening comes first: that another agent answers there is known before the kernel is touched.
        let server = Server::listen(&config.control.socket).map_err(anyhow::Error::from)?;
        let outlets = Outlets::open(&loaded, None)?;
        let mut hooks = Hooks::load(&config::probe_options(&config.hooks))?;
        let wanted = config.probes.http1;
        if wanted {
            hooks.switch(true)?;
        }
        let source = Box::new(ProcFiles::new(&config.host.proc));
        let mut pipeline = Pipeline::new(&loaded.pipeline, source, clock::now());
        let learnt = LearntFile::open(config.state.dir.as_deref(), &mut pipeline);
        let shared = Arc::new(Shared::default());
        let (sender, calls) = mpsc::channel(CALLS);
        let mut tasks = vec![tokio::spawn(server.serve(sender))];
        let (sender, looks) = mpsc::channel(CALLS);
        if let Some(listen) = config.own.listen {
            let health = Health::new(Arc::clone(&shared), sender);
            tasks.push(tokio::spawn(health.serve(listen)));
        }
        let mut agent = Self {
            launch,
            loaded,
            hooks,
            pipeline,
            outlets,
            learnt,
            shared,
            started: Instant::now(),
            names_unreadable,
            wanted,
            reloads: 0,
            reload_errors: 0,
            lost_before: 0,
            skipped_before: 0,
            degraded: Vec::new(),
            watchers: Watchers::default(),
            tail_asked: None,
            pressed: Pressed::default(),
            series_published: None,
            pace: Pace::default(),
            open: 0,
            cut: Instant::now(),
            calls,
            looks,
            tasks,
        };
        agent.publish();
        agent.start_own_metrics();
        Ok(agent)
    }

    /// Runs until a signal says stop.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let ring = watch::readable(self.hooks.ring_fd()?)?;
        let mut signals = Signals::new()?;
        let mut timers = Timers::new(self.loaded.config.export.interval.0);
        let mut file = FileWatch::new(self.loaded.file.clone());
        self.announce();
        notify(sd_notify::NotifyState::Ready);
        let mut drained = tokio::time::Instant::now();
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => drop(self.reload(&mut timers, &mut file).await),
                ready = ring.readable() => {
                    // Cleared before draining: what arrives meanwhile wakes again.
                    ready?.clear_ready();
                    self.wake();
                    self.drain();
                    drained = tokio::time::Instant::now();
                }
                () = sleep_until(drained + self.pace.wait().unwrap_or_default()), if !self.is_resting() => {
                    self.drain_by_timer();
                    drained = tokio::time::Instant::now();
                }
                _ = timers.sweep.tick(), if !self.is_resting() => {
                    self.look_around(&mut timers, &mut file).await;
                }
                _ = timers.collect.tick() => {
                    if self.is_resting() {
                        self.look_around(&mut timers, &mut file).await;
                    }
                    self.collect().await;
                    if self.is_resting() {
                        self.redraw();
                    }
                }
                _ = timers.redraw.tick(), if !self.is_resting() && self.outlets.display() == Display::Live => {
                    self.redraw();
                }
                () = file.hint(), if self.is_resting() => {
                    // Whoever writes it may be about to write more.
                    self.wake();
                    timers.sweep.reset_after(SETTLED);
                }
                () = self.outlets.next_finished() => self.publish(),
                Some(look) = self.looks.recv() => {
                    self.publish();
                    // Who asked may have gone away.
                    let _gone = look.send(());
                }
                Some((request, reply)) = self.calls.recv() => {
                    if self.is_resting() {
                        self.publish();
                    }
                    let answer = match request {
                        Request::Snapshot {} => {
                            self.would_push(reply);
                            continue;
                        }
                        Request::Reload {} => self.reload_and_tell(&mut timers, &mut file).await,
                        request => self.answer(request),
                    };
                    // The command may have gone away.
                    drop(reply.send(answer));
                }
            }
            self.shared.beat();
            if self.outlets.closed() {
                break;
            }
        }
        self.stop().await
    }

    /// Takes in what the ring holds; returns how many records that were.
    pub(super) fn drain(&mut self) -> usize {
        let count = self.hooks.drain(&mut self.pipeline, clock::now());
        if count > 0 {
            self.wake();
        }
        count
    }

    /// Takes in what the kernel side tallied itself.
    fn fold(&mut self) {
        let proc = &self.loaded.config.host.proc;
        self.hooks.fold(&mut self.pipeline, proc, clock::now());
    }

    /// The ledger after everything in the ring was taken in.
    pub(super) fn accounts(&mut self) -> Result<Accounts, kerntally_probes::LoadError> {
        self.drain();
        self.fold();
        self.hooks.accounts(&self.pipeline, true)
    }

    /// What is done once a second, or at each collection when nothing happens.
    async fn look_around(&mut self, timers: &mut Timers, file: &mut FileWatch) {
        self.sweep().await;
        if self.is_resting() && self.is_kept_awake() {
            self.wake();
        }
        if file.changed() {
            drop(self.reload(timers, file).await);
        }
    }

    async fn sweep(&mut self) {
        self.hooks.sweep();
        self.end_tail();
        if self.open > 0 && self.cut.elapsed() >= CUT_EVERY {
            self.cut = Instant::now();
            let open_max = self.loaded.config.http.open_max.0.as_nanos();
            let open_max = u64::try_from(open_max).unwrap_or(u64::MAX);
            self.hooks
                .cut(clock::now().monotonic_ns.saturating_sub(open_max));
        }
        self.outlets.settle().await;
        self.publish();
    }

    async fn collect(&mut self) {
        if self.outlets.must_wait().await {
            self.outlets.push_again();
            return;
        }
        let collection = self.take_collection();
        let generation = collection.generation;
        self.outlets.deliver(collection, &self.shared).await;
        if let Some(accepted) = self.outlets.accepted(generation) {
            self.pipeline.accepted(accepted);
        }
        self.learnt.keep(&self.pipeline).await;
    }

    fn take_collection(&mut self) -> Collection {
        self.drain();
        self.fold();
        if self.loaded.pipeline.emits_active() {
            self.hooks.show_open(&mut self.pipeline, clock::now());
        }
        let collection = self.pipeline.collect(clock::now());
        self.publish();
        if self
            .series_published
            .is_none_or(|at| at.elapsed() >= SERIES)
        {
            self.series_published = Some(Instant::now());
            self.publish_series();
        }
        collection
    }

    /// Hooks are as they are meant to be.
    pub(super) fn is_ready(&self) -> bool {
        self.hooks.attached() == self.wanted
    }

    /// Switches `http1`.
    pub(super) fn switch(&mut self, on: bool) -> Result<(), kerntally_probes::LoadError> {
        self.wanted = on;
        // What is in the ring ended before the switch.
        self.drain();
        self.hooks.switch(on)?;
        self.drain();
        self.publish();
        Ok(())
    }

    /// Detaches, takes in the rest, pushes one last time.
    async fn stop(mut self) -> Result<(), Failure> {
        notify(sd_notify::NotifyState::Stopping);
        self.shared.set_ready(false);
        let detached = self.hooks.stop();
        let collection = self.take_collection();
        self.outlets.close(collection, &self.shared).await;
        self.learnt.close(&self.pipeline).await;
        if let Some(metrics) = self.shared.replace_metrics(None) {
            end_metrics(metrics, Duration::from_secs(2)).await;
        }
        for task in &self.tasks {
            task.abort();
        }
        remove_socket(&self.loaded.config.control.socket);
        detached.map_err(Failure::from)
    }
}

/// The server task that would remove it may not be run again.
fn remove_socket(path: &PathBuf) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(%error, "cannot remove the control socket"),
    }
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
