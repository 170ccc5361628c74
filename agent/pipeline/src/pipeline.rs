//! Stages 4 to 6 in one: an exchange in, its outcome out, and the series at each collection.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kerntally_model::{EndReason, Exchange, Instrument, ProcessKey, Role, Scheme, Snapshot, Time};

use crate::aggregate::{
    AttributeName, ErrorKey, Facts, Generation, Held, Measured, Methods, Own, Part, SeriesKey,
    SeriesTable, StatusKey, place,
};
use crate::attribute::{ExcludeReason, ProcessFacts, ProcessSource, Verdict};
use crate::config::Config;
use crate::detail::{Detail, detail, facts};
use crate::exemplar::{Chooser, Random};
use crate::ledger::{Ledger, Outcome, ROLES, row};
use crate::services::{OTHER, Service, Services, Standing, Whom};
use crate::tap::Tap;

/// One collection, to be answered by [`Pipeline::accepted`] once an exporter delivered it.
#[derive(Debug)]
pub struct Collection {
    /// Its number.
    pub generation: Generation,
    /// Until it is written out: a series that is measured while its value is held here is copied.
    held: Mutex<Held>,
    snapshot: OnceLock<Snapshot>,
}

impl Collection {
    /// All series. Written out when it is asked for first, which takes its time: best beside the thread that takes
    /// exchanges in.
    pub fn snapshot(&self) -> &Snapshot {
        self.snapshot.get_or_init(|| {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *held).into_snapshot()
        })
    }
}

impl AsRef<Snapshot> for Collection {
    fn as_ref(&self) -> &Snapshot {
        self.snapshot()
    }
}

/// News of a process, as stage 1 tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessNews {
    /// First exchange of the process.
    FirstSeen,
    /// It replaced its program.
    Exec,
    /// Its last thread is exiting.
    Exit,
}

/// Why a process is watched or not, and named so.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What is known about it.
    pub facts: ProcessFacts,
    /// What the rules say.
    pub verdict: Verdict,
}

/// Requests that a server process has received and not yet answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveRequests<'a> {
    /// The process.
    pub process: ProcessKey,
    /// Its port; 0 on Unix sockets.
    pub port: u16,
    /// Their method; empty if it is not known.
    pub method: &'a str,
    /// Scheme on their sockets.
    pub scheme: Scheme,
    /// How many.
    pub count: u64,
}

/// Stages 4 to 6 with all their memory. Never reads a clock, and reads about processes only through its source.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) services: Services,
    pub(crate) series: SeriesTable,
    pub(crate) methods: Methods,
    chooser: Chooser,
    idle_ns: u64,
    /// Time of the last collection, on the monotonic clock.
    pub(crate) latest_ns: u64,
    ledger: Ledger,
    cut: [u64; ROLES.len()],
    tap: Tap,
}

impl Pipeline {
    /// An empty pipeline; the first series start at `now`, which also seeds the choice of exemplars.
    pub fn new(config: &Config, source: Box<dyn ProcessSource>, now: Time) -> Self {
        Self {
            services: Services::new(config, source),
            // Two sequences of numbers that do not meet.
            series: SeriesTable::new(config.cardinality, now, Random::seeded(now.unix_ns)),
            chooser: Chooser::new(Random::seeded(!now.unix_ns)),
            methods: Methods::new(&config.known_methods),
            idle_ns: idle_ns(config),
            latest_ns: now.monotonic_ns,
            ledger: Ledger::default(),
            cut: [0; ROLES.len()],
            tap: Tap::default(),
        }
    }

    /// Takes a new configuration over. Series and the ledger stay; what was learnt about routes is kept where the
    /// configuration of routes did not change.
    pub fn reload(&mut self, config: &Config) {
        self.services.reload(config);
        self.series.set_limits(config.cardinality);
        self.methods.reload(&config.known_methods);
        self.idle_ns = idle_ns(config);
    }

    /// Tallies an exchange and writes its outcome to the ledger. On [`Outcome::Excluded`] and
    /// [`Outcome::Unidentified`] the caller tells the kernel to leave the process's further sockets alone.
    pub fn on_exchange(&mut self, exchange: &Exchange<'_>, now: Time) -> Outcome {
        let outcome = self.tally(exchange, None, now);
        self.ledger.add(exchange.role, outcome, 1);
        if exchange.end_reason == EndReason::Cut {
            self.cut[row(exchange.role)] += 1;
        }
        outcome
    }

    /// Tallies exchanges that were counted elsewhere. `alike` is what they have in common; its head was not kept,
    /// and its times mean nothing. Returns what became of them; the ledger is left to the caller, who knows how
    /// many exchanges they are.
    pub fn on_part(&mut self, alike: &Exchange<'_>, part: &Part<'_>, now: Time) -> Outcome {
        self.tally(alike, Some(part), now)
    }

    /// Tallies exchanges of which only the side is known: in the overflow series of `_other`, whose attributes
    /// claim nothing. The ledger is left to the caller.
    pub fn on_unknown_part(&mut self, role: Role, part: &Part<'_>, now: Time) -> Outcome {
        let instrument = duration_of(role);
        let Some(service) = self.services.service_mut(OTHER) else {
            return Outcome::RecordInvalid;
        };
        let Some(stream) = stream(service, &mut self.series, OTHER, instrument) else {
            return Outcome::DroppedByView;
        };
        service.last_used_ns = now.monotonic_ns;
        service.exchanges[row(role)] += part.count;
        // No room for a series of its own: the overflow series it is.
        let key = SeriesKey::overflow(stream);
        self.series
            .record(key, 0, Measured::Part(part), now, Default::default);
        Outcome::TalliedWithoutService
    }

    /// Replaces what is known of requests that are open, for `http.server.active_requests`; best right before a
    /// collection.
    pub fn set_active(&mut self, active: &[ActiveRequests<'_>], now: Time) {
        self.series.close_open();
        for requests in active.iter().filter(|requests| requests.count > 0) {
            let standing = self
                .services
                .standing(requests.process, requests.port, Role::Server);
            if let Standing::Watch(slot) = standing {
                self.record_active(slot, requests, now);
            }
        }
    }

    /// Where exchanges can be watched as they pass.
    pub fn tap(&mut self) -> &mut Tap {
        &mut self.tap
    }

    /// Takes news of a process in; best before the exchanges that follow it in the ring.
    pub fn on_process(&mut self, process: ProcessKey, news: ProcessNews, comm: &str) {
        match news {
            ProcessNews::FirstSeen => self.services.processes().announce(process, comm),
            ProcessNews::Exec => {
                self.services.processes().announce(process, comm);
                self.services.undecide(process);
            }
            ProcessNews::Exit => self.services.exited(process, comm),
        }
    }

    /// Leaves a service or a process out until it is switched on again, or takes it in; false if too many are left out
    /// already. On true the caller has the kernel ask again.
    pub fn switch(&mut self, whom: Whom, on: bool) -> bool {
        self.services.switch(whom, on)
    }

    /// Who is left out by hand.
    pub fn switched_off(&self) -> impl Iterator<Item = &Whom> {
        self.services.switched_off()
    }

    /// Writes outcomes to the ledger that the pipeline cannot know of.
    pub fn add_outcome(&mut self, role: Role, outcome: Outcome, exchanges: u64) {
        self.ledger.add(role, outcome, exchanges);
    }

    /// Forgets what is idle and takes all series out. What delta series hold is in this collection and in no other:
    /// it is the caller's from now on.
    pub fn collect(&mut self, now: Time) -> Collection {
        for stream in self.services.take_outdated() {
            self.series.retire(stream);
        }
        self.latest_ns = now.monotonic_ns;
        let generation = self.series.begin_collection(now);
        let used_before_ns = now.monotonic_ns.saturating_sub(self.idle_ns);
        for slot in self
            .services
            .expire(used_before_ns, self.series.references())
        {
            self.series.forget(slot);
        }
        let series = &self.series;
        for stream in self
            .services
            .take_unused(|stream| series.has_series(stream))
        {
            self.series.retire(stream);
        }
        let services = &self.services;
        let held = self.series.take(now, |slot| {
            let service = services.service(slot);
            service.map(|service| Arc::clone(&service.workload))
        });
        Collection {
            generation,
            held: Mutex::new(held),
            snapshot: OnceLock::new(),
        }
    }

    /// All series as they are now; changes nothing.
    pub fn peek(&self, now: Time) -> Snapshot {
        let workload = |slot| {
            self.services
                .service(slot)
                .map(|service| Arc::clone(&service.workload))
        };
        self.series.snapshot(now, workload)
    }

    /// A collection was delivered: series that it said to have ended are forgotten. Call it with the last
    /// delivered one; without it no idle series is ever ended.
    pub fn accepted(&mut self, generation: Generation) {
        self.series.accepted(generation);
    }

    /// Outcomes so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Exchanges that were tallied before they were over, because they were open for too long.
    pub fn cut(&self, role: Role) -> u64 {
        self.cut[row(role)]
    }

    /// Number of live series, overflow series included.
    pub fn series_len(&self) -> usize {
        self.series.len()
    }

    /// What the rules say about a process, a server's port and a side.
    pub fn explain(&mut self, process: ProcessKey, port: u16, role: Role) -> Explanation {
        let verdict = self.services.verdict(process, port, role);
        Explanation {
            facts: self.services.processes().facts(process).clone(),
            verdict,
        }
    }

    /// `counted` are exchanges that were counted elsewhere; without them it is this one.
    fn tally(&mut self, exchange: &Exchange<'_>, counted: Option<&Part<'_>>, now: Time) -> Outcome {
        if exchange.end_reason == EndReason::Detached {
            return Outcome::ProbeWasOff;
        }
        let port = exchange.server_port();
        let standing = self
            .services
            .standing(exchange.process, port, exchange.role);
        let slot = match standing {
            Standing::Watch(slot) => slot,
            Standing::Exclude(ExcludeReason::Unidentified) => return Outcome::Unidentified,
            Standing::Exclude(_) => return Outcome::Excluded,
        };
        if let Err(outcome) = self.record(slot, exchange, counted, now) {
            return outcome;
        }
        match (slot, exchange.degraded) {
            (OTHER, _) => Outcome::TalliedWithoutService,
            (_, true) => Outcome::TalliedDegraded,
            (_, false) => Outcome::Tallied,
        }
    }

    /// Counts an exchange in its series, or says what becomes of it instead.
    fn record(
        &mut self,
        slot: u32,
        exchange: &Exchange<'_>,
        counted: Option<&Part<'_>>,
        now: Time,
    ) -> Result<(), Outcome> {
        let instrument = duration_of(exchange.role);
        let service = self
            .services
            .service_mut(slot)
            .ok_or(Outcome::RecordInvalid)?;
        let stream = stream_of(
            service,
            &mut self.series,
            slot,
            instrument,
            exchange.process,
        );
        let stream = stream.ok_or(Outcome::DroppedByView)?;
        let recipe = service.recipes[place(instrument)]
            .as_deref()
            .ok_or(Outcome::DroppedByView)?;
        let (listed, facts) = (recipe.listed, facts(exchange, recipe));
        let detail = detail(service, exchange, listed, now).ok_or(Outcome::IgnoredRoute)?;
        let measured = match counted {
            Some(part) => Measured::Part(part),
            None => self.chooser.measurement(service, exchange, now),
        };
        service.last_used_ns = now.monotonic_ns;
        service.exchanges[row(exchange.role)] += measured.exchanges();
        let method = listed
            .contains(AttributeName::RequestMethod)
            .then(|| self.methods.id(exchange.method));
        let key = SeriesKey {
            route: detail.route,
            address: detail.address,
            port: detail.port,
            method: method.map_or(0, |method| method + 1),
            ..SeriesKey::new(stream, &facts)
        };
        let (service, methods) = (&*service, &self.methods);
        let describe = || {
            let values = detail.values(service, exchange.role, &facts, method, methods);
            let recipe = service.recipes[place(instrument)].as_deref();
            recipe.map_or_else(Default::default, |recipe| values.into_attributes(recipe))
        };
        let per_service = service.settings.per_service;
        self.series
            .record(key, per_service, measured, now, describe);
        if self.tap.is_open() && counted.is_none() {
            self.tap.push(exchange, &service.workload, describe(), now);
        }
        Ok(())
    }

    fn record_active(&mut self, slot: u32, requests: &ActiveRequests<'_>, now: Time) {
        let instrument = Instrument::HttpServerActiveRequests;
        let Some(service) = self.services.service_mut(slot) else {
            return;
        };
        let stream = stream_of(
            service,
            &mut self.series,
            slot,
            instrument,
            requests.process,
        );
        let recipe = service.recipes[place(instrument)].as_deref();
        let (Some(stream), Some(recipe)) = (stream, recipe) else {
            return;
        };
        service.last_used_ns = now.monotonic_ns;
        let listed = recipe.listed;
        let scheme = listed.contains(AttributeName::Scheme);
        let facts = Facts {
            status: StatusKey::Absent,
            error: ErrorKey::Absent,
            version: None,
            scheme: scheme.then_some(requests.scheme),
        };
        let method = listed
            .contains(AttributeName::RequestMethod)
            .then(|| self.methods.id(requests.method));
        let key = SeriesKey {
            method: method.map_or(0, |method| method + 1),
            ..SeriesKey::new(stream, &facts)
        };
        let describe = || {
            Detail::default()
                .values(service, Role::Server, &facts, method, &self.methods)
                .into_attributes(recipe)
        };
        let count = i64::try_from(requests.count).unwrap_or(i64::MAX);
        self.series.record(
            key,
            service.settings.per_service,
            Measured::Open(count),
            now,
            describe,
        );
    }
}

/// Stream of a process's instrument: the service's, unless each process has its own. Where there is no room for a
/// series of a process that has none yet, the service's it is too: its overflow series takes what comes.
fn stream_of(
    service: &mut Service,
    series: &mut SeriesTable,
    slot: u32,
    instrument: Instrument,
    process: ProcessKey,
) -> Option<u32> {
    let shared = stream(service, series, slot, instrument)?;
    let place = place(instrument);
    let recipe = service.recipes[place].as_ref()?;
    if !recipe.per_process {
        return Some(shared);
    }
    let own = service.own_streams.get(&process);
    if let Some(own) = own.and_then(|streams| streams[place]) {
        return Some(own);
    }
    if !series.has_room(slot, service.settings.per_service) {
        return Some(shared);
    }
    let own = series.open(slot, Some(Own { process, shared }), recipe);
    service.own_streams.entry(process).or_default()[place] = Some(own);
    Some(own)
}

/// Stream of a service's instrument, opened at its first measurement; `None` if the instrument is not emitted.
fn stream(
    service: &mut Service,
    series: &mut SeriesTable,
    slot: u32,
    instrument: Instrument,
) -> Option<u32> {
    let place = place(instrument);
    if let Some(stream) = service.streams[place] {
        return Some(stream);
    }
    for stream in service.outdated.drain(..) {
        series.retire(stream);
    }
    let recipe = service.recipes[place].as_ref()?;
    service.streams[place] = Some(series.open(slot, None, recipe));
    service.streams[place]
}

const fn duration_of(role: Role) -> Instrument {
    match role {
        Role::Server => Instrument::HttpServerRequestDuration,
        Role::Client => Instrument::HttpClientRequestDuration,
    }
}

fn idle_ns(config: &Config) -> u64 {
    u64::try_from(config.cardinality.idle_ttl.as_nanos()).unwrap_or(u64::MAX)
}
