//! The agent's loop: drains the ring, sweeps, collects, answers, and stops in order.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerntally_export::selfmetrics::{
    RoleReading, SelfIdentity, SelfMetrics, SelfSource, ServiceSeries,
};
use kerntally_pipeline::{Collection, Pipeline, ROLES};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use super::Launch;
use super::hooks::Hooks;
use super::outlets::{Display, Outlets};
use crate::config::{self, Loaded};
use crate::control::server::{Call, Server};
use crate::failure::Failure;
use crate::ledger::{Accounts, role_name};
use crate::procsource::ProcFiles;
use crate::shared::Shared;
use crate::watch::FileWatch;
use crate::{clock, health, output};

/// Longest wait between two drains while traffic flows: latency of the table, not of the tally.
const DRAIN_BUSY: Duration = Duration::from_millis(100);

/// The same when nothing happens.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

const SWEEP: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_secs(2);

/// Calls that wait for the loop.
const CALLS: usize = 16;

/// The running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    launch: Launch,
    pub(super) loaded: Loaded,
    pub(super) hooks: Hooks,
    pub(super) pipeline: Pipeline,
    pub(super) outlets: Outlets,
    shared: Arc<Shared>,
    pub(super) started: Instant,
    /// Other users' processes cannot be read.
    names_unreadable: bool,
    /// Whether `http1` is meant to be on.
    pub(super) wanted: bool,
    pub(super) reloads: u64,
    pub(super) reload_errors: u64,
    lost_before: u64,
    pub(super) degraded: Vec<&'static str>,
    drain_wait: Duration,
    calls: mpsc::Receiver<Call>,
    tasks: Vec<JoinHandle<()>>,
}

struct Timers {
    sweep: Interval,
    collect: Interval,
    redraw: Interval,
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
        let outlets = Outlets::open(&loaded)?;
        let mut hooks = Hooks::load(&config::probe_options(&config.hooks))?;
        let wanted = config.probes.http1;
        if wanted {
            hooks.switch(true)?;
        }
        let source = Box::new(ProcFiles::new(&config.host.proc));
        let pipeline = Pipeline::new(&loaded.pipeline, source, clock::now());
        let shared = Arc::new(Shared::default());
        let (sender, calls) = mpsc::channel(CALLS);
        let mut tasks = vec![tokio::spawn(server.serve(sender))];
        if let Some(listen) = config.own.listen {
            tasks.push(tokio::spawn(health::serve(listen, Arc::clone(&shared))));
        }
        let mut agent = Self {
            launch,
            loaded,
            hooks,
            pipeline,
            outlets,
            shared,
            started: Instant::now(),
            names_unreadable,
            wanted,
            reloads: 0,
            reload_errors: 0,
            lost_before: 0,
            degraded: Vec::new(),
            drain_wait: DRAIN_BUSY,
            calls,
            tasks,
        };
        agent.publish();
        agent.start_own_metrics();
        Ok(agent)
    }

    /// Runs until a signal says stop.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let ring = wakeups(self.hooks.ring_fd()?)?;
        let mut signals = Signals::new()?;
        let mut timers = Timers::new(self.loaded.config.export.interval.0);
        let mut file = FileWatch::new(self.loaded.file.clone());
        self.announce();
        let mut drained = tokio::time::Instant::now();
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => self.reload(&mut timers, &mut file),
                ready = ring.readable() => {
                    // Cleared before draining: what arrives meanwhile wakes again.
                    ready?.clear_ready();
                    self.drain();
                    drained = tokio::time::Instant::now();
                }
                () = sleep_until(drained + self.drain_wait) => {
                    self.drain();
                    drained = tokio::time::Instant::now();
                }
                _ = timers.sweep.tick() => {
                    self.sweep().await;
                    if file.changed() {
                        self.reload(&mut timers, &mut file);
                    }
                }
                _ = timers.collect.tick() => self.collect().await,
                _ = timers.redraw.tick(), if self.outlets.display() == Display::Live => {
                    let snapshot = self.pipeline.peek(clock::now());
                    self.outlets.show(&snapshot);
                }
                Some((request, reply)) = self.calls.recv() => {
                    let answer = self.answer(request);
                    // The command may have gone away.
                    drop(reply.send(answer));
                }
            }
            self.shared.beat();
        }
        self.stop().await
    }

    /// Takes in what the ring holds.
    pub(super) fn drain(&mut self) {
        let count = self.hooks.drain(&mut self.pipeline, clock::now());
        self.drain_wait = match count {
            0 => (self.drain_wait * 2).min(DRAIN_IDLE),
            _ => DRAIN_BUSY,
        };
    }

    /// The ledger after everything in the ring was taken in.
    pub(super) fn accounts(&mut self) -> Result<Accounts, kerntally_probes::LoadError> {
        self.drain();
        self.hooks.accounts(&self.pipeline, true)
    }

    async fn sweep(&mut self) {
        self.hooks.sweep();
        self.outlets.settle().await;
        self.publish();
    }

    async fn collect(&mut self) {
        let collection = self.take_collection();
        let own = self.own_request();
        self.outlets.deliver(&collection, own).await;
        if let Some(accepted) = self.outlets.accepted(collection.generation) {
            self.pipeline.accepted(accepted);
        }
    }

    fn take_collection(&mut self) -> Collection {
        self.drain();
        let collection = self.pipeline.collect(clock::now());
        self.publish();
        self.publish_series();
        collection
    }

    fn own_request(&self) -> Option<kerntally_export::ExportMetricsServiceRequest> {
        match self.shared.with_metrics(SelfMetrics::request)? {
            Ok(request) => Some(request),
            Err(error) => {
                tracing::warn!(%error, "the agent's own metrics could not be read");
                None
            }
        }
    }

    /// Shows the latest state to the threads beside the loop.
    fn publish(&mut self) {
        self.shared.beat();
        self.shared.set_ready(self.is_ready());
        let accounts = match self.hooks.accounts(&self.pipeline, false) {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::error!(%error, "the kernel's counters cannot be read");
                return;
            }
        };
        self.degraded = self.degradations(&accounts);
        let roles = ROLES
            .iter()
            .zip(&accounts.roles)
            .map(|(role, account)| RoleReading {
                role: role_name(*role),
                seen: account.seen,
                open: account.open,
                cut: self.pipeline.cut(*role),
                outcomes: account.outcomes.clone(),
            })
            .collect();
        self.shared.update(|reading| {
            reading.roles = roles;
            reading.blind = accounts.blind.into_iter().collect();
            reading.degraded.clone_from(&self.degraded);
            reading.backend = Some(self.hooks.backend().name());
            reading.export = self.outlets.export_stats();
            reading.file = self.outlets.file_stats();
            reading.config_reloads = self.reloads;
            reading.config_reload_errors = self.reload_errors;
        });
    }

    /// Walks all services: at collections only.
    fn publish_series(&self) {
        let series = self
            .pipeline
            .services()
            .into_iter()
            .map(|row| ServiceSeries {
                service: row.workload.name.clone(),
                live: row.usage.series as u64,
                limit: row.series_limit as u64,
            })
            .collect();
        self.shared.update(|reading| reading.series = series);
    }

    fn degradations(&mut self, accounts: &Accounts) -> Vec<&'static str> {
        let lost: u64 = accounts.roles.iter().map(|account| account.lost()).sum();
        let reasons = [
            ("names_unreadable", self.names_unreadable),
            ("probe_off", !self.hooks.attached()),
            (
                "export_failing",
                self.outlets
                    .export_stats()
                    .is_some_and(|stats| stats.failing),
            ),
            (
                "file_failing",
                self.outlets
                    .file_stats()
                    .is_some_and(|stats| stats.last_error.is_some()),
            ),
            ("exchanges_lost", lost > self.lost_before),
        ];
        self.lost_before = lost;
        reasons
            .into_iter()
            .filter(|(_, holds)| *holds)
            .map(|(reason, _)| reason)
            .collect()
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

    fn start_own_metrics(&self) {
        let identity = SelfIdentity {
            service_name: self
                .loaded
                .own_service_name
                .clone()
                .unwrap_or_else(|| kerntally_export::resource::AGENT_NAME.to_owned()),
            node: self.outlets.node().clone(),
            base: self
                .loaded
                .config
                .resource
                .attributes
                .clone()
                .into_iter()
                .collect(),
        };
        let interval = self.loaded.config.export.interval.0;
        let push = self
            .outlets
            .exporter()
            .map(|exporter| (exporter.as_ref(), interval));
        let source: Arc<dyn SelfSource> = Arc::<Shared>::clone(&self.shared);
        let metrics = match SelfMetrics::new(&identity, &source, push) {
            Ok(metrics) => Some(metrics),
            Err(error) => {
                tracing::warn!(%error, "the agent's own metrics are not available");
                None
            }
        };
        if let Some(previous) = self.shared.replace_metrics(metrics) {
            tokio::spawn(end_metrics(previous, Duration::from_secs(5)));
        }
    }

    /// Puts a changed configuration in force, or leaves the old one.
    fn reload(&mut self, timers: &mut Timers, file: &mut FileWatch) {
        let outcome = self
            .launch
            .load()
            .and_then(|loaded| self.apply(loaded, timers));
        match outcome {
            Ok(()) => {
                self.reloads += 1;
                tracing::info!("configuration reloaded");
            }
            Err(error) => {
                self.reload_errors += 1;
                tracing::error!("configuration not reloaded, the old one stays in force: {error}");
            }
        }
        *file = FileWatch::new(self.loaded.file.clone());
        self.publish();
    }

    fn apply(&mut self, loaded: Loaded, timers: &mut Timers) -> Result<(), Failure> {
        let (old, new) = (&self.loaded.config, &loaded.config);
        let fixed = [
            ("hooks", old.hooks != new.hooks),
            ("control", old.control != new.control),
            ("self", old.own != new.own),
            ("host", old.host != new.host),
            ("log", old.log != new.log),
        ];
        for (section, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("changes of `{section}` take effect at the next start");
        }
        let export_changed = old.export != new.export || old.resource != new.resource;
        let interval_changed = old.export.interval != new.export.interval;
        let switch = (old.probes != new.probes).then_some(new.probes.http1);
        if export_changed {
            self.outlets = Outlets::open(&loaded)?;
        }
        self.loaded = loaded;
        self.pipeline.reload(&self.loaded.pipeline);
        self.hooks.renew_filter()?;
        if export_changed {
            self.start_own_metrics();
        }
        if interval_changed {
            timers.collect = ticking(self.loaded.config.export.interval.0);
        }
        if let Some(on) = switch {
            self.switch(on)?;
        }
        for warning in &self.loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// One sentence about what runs, what it cannot see, and where its measurements go.
    fn announce(&self) {
        let backend = self.hooks.backend();
        let tallying = if self.hooks.attached() {
            "tallying HTTP/1"
        } else {
            "loaded, probe http1 off,"
        };
        output::note(&format!(
            "kerntally {}: {tallying} through {} hooks, which cannot see everything ({}); {}",
            env!("CARGO_PKG_VERSION"),
            backend.name(),
            backend.blind_spots().join("; "),
            self.destinations(),
        ));
        for (refused, reason) in self.hooks.refused() {
            tracing::info!(
                backend = refused.name(),
                reason,
                "back end refused by the kernel"
            );
        }
        notify(sd_notify::NotifyState::Ready);
    }

    fn destinations(&self) -> String {
        let mut places = Vec::new();
        if let Some(exporter) = self.outlets.exporter() {
            places.push(format!("to {}", exporter.endpoint()));
        }
        if let Some(path) = &self.loaded.config.export.file {
            places.push(match path.to_str() {
                Some("-") => "to standard output".to_owned(),
                _ => format!("to {}", path.display()),
            });
        }
        if self.outlets.display() != Display::Nothing {
            places.push("to this console".to_owned());
        }
        match places.is_empty() {
            true => "measurements go nowhere but the control socket".to_owned(),
            false => format!(
                "measurements go {} every {}",
                places.join(" and "),
                self.loaded.config.export.interval
            ),
        }
    }

    /// Detaches, takes in the rest, pushes one last time.
    async fn stop(mut self) -> Result<(), Failure> {
        notify(sd_notify::NotifyState::Stopping);
        self.shared.set_ready(false);
        let detached = self.hooks.stop();
        let collection = self.take_collection();
        let own = self.own_request();
        let metrics = self.shared.replace_metrics(None);
        self.outlets.close(&collection, own).await;
        if let Some(metrics) = metrics {
            end_metrics(metrics, Duration::from_secs(2)).await;
        }
        for task in &self.tasks {
            task.abort();
        }
        remove_socket(&self.loaded.config.control.socket);
        detached.map_err(Failure::from)
    }
}

/// Pushes the agent's own metrics one last time; a collector that does not answer is not waited for.
async fn end_metrics(metrics: SelfMetrics, patience: Duration) {
    match tokio::time::timeout(patience, metrics.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "the agent's own metrics were not pushed at the end")
        }
        Err(_elapsed) => tracing::debug!("the agent's own metrics were not pushed in time"),
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

#[expect(
    deprecated,
    reason = "its successor is unsafe, for what an owned descriptor cannot break"
)]
fn wakeups(ring: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(ring, Interest::READABLE)
}

/// The first tick after one period.
fn ticking(period: Duration) -> Interval {
    let start = tokio::time::Instant::now() + period;
    let mut interval = tokio::time::interval_at(start, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Timers {
    fn new(export: Duration) -> Self {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            sweep,
            collect: ticking(export),
            redraw,
        }
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
