//! Stages 4 to 6 in one: an exchange in, its outcome out, and the series at each collection.

use std::sync::Arc;

use kerntally_model::{EndReason, Exchange, Instrument, ProcessKey, Role, Snapshot, Time};

use crate::aggregate::{AttributeName, AttributeSet, Generation, Methods, SeriesTable, Values};
use crate::attribute::{ProcessFacts, ProcessSource, Verdict};
use crate::config::Config;
use crate::detail::{described, detail};
use crate::exemplar::{Chooser, Random};
use crate::ledger::{Ledger, Outcome, ROLES, row};
use crate::services::{OTHER, Services, Standing};

/// One collection, to be answered by [`Pipeline::accepted`] once an exporter delivered it.
#[derive(Clone, Debug)]
pub struct Collection {
    /// All series.
    pub snapshot: Snapshot,
    /// Its number.
    pub generation: Generation,
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

/// Stages 4 to 6 with all their memory. Never reads a clock, and reads about processes only through its source.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) services: Services,
    pub(crate) series: SeriesTable,
    methods: Methods,
    chooser: Chooser,
    server_attributes: AttributeSet,
    client_attributes: AttributeSet,
    idle_ns: u64,
    ledger: Ledger,
    cut: [u64; ROLES.len()],
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
            server_attributes: config.server_attributes,
            client_attributes: config.client_attributes,
            idle_ns: idle_ns(config),
            ledger: Ledger::default(),
            cut: [0; ROLES.len()],
        }
    }

    /// Takes a new configuration over. Series and the ledger stay; what was learnt about routes is kept where the
    /// configuration of routes did not change.
    pub fn reload(&mut self, config: &Config) {
        self.services.reload(config);
        self.series.set_limits(config.cardinality);
        self.methods.reload(&config.known_methods);
        self.server_attributes = config.server_attributes;
        self.client_attributes = config.client_attributes;
        self.idle_ns = idle_ns(config);
    }

    /// Tallies an exchange and writes its outcome to the ledger. On [`Outcome::Excluded`] the caller tells the
    /// kernel to leave the process's further sockets alone.
    pub fn on_exchange(&mut self, exchange: &Exchange<'_>, now: Time) -> Outcome {
        let outcome = self.tally(exchange, now);
        self.ledger.add(exchange.role, outcome, 1);
        if exchange.end_reason == EndReason::Cut {
            self.cut[row(exchange.role)] += 1;
        }
        outcome
    }

    /// Takes news of a process in; best before the exchanges that follow it in the ring.
    pub fn on_process(&mut self, process: ProcessKey, news: ProcessNews, comm: &str) {
        match news {
            ProcessNews::FirstSeen => self.services.processes().announce(process, comm),
            ProcessNews::Exec => {
                self.services.processes().announce(process, comm);
                self.services.undecide(process);
            }
            ProcessNews::Exit => self.services.processes().exited(process, comm),
        }
    }

    /// Writes outcomes to the ledger that the pipeline cannot know of.
    pub fn add_outcome(&mut self, role: Role, outcome: Outcome, exchanges: u64) {
        self.ledger.add(role, outcome, exchanges);
    }

    /// Forgets what is idle and takes all series out, with the exemplars since the last time.
    pub fn collect(&mut self, now: Time) -> Collection {
        let generation = self.series.begin_collection(now);
        let used_before_ns = now.monotonic_ns.saturating_sub(self.idle_ns);
        for slot in self
            .services
            .expire(used_before_ns, self.series.references())
        {
            self.series.forget(slot);
        }
        let snapshot = self.peek(now);
        self.series.clear_exemplars();
        Collection {
            snapshot,
            generation,
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

    fn tally(&mut self, exchange: &Exchange<'_>, now: Time) -> Outcome {
        if exchange.end_reason == EndReason::Detached {
            return Outcome::ProbeWasOff;
        }
        let port = exchange.server_port();
        let standing = self
            .services
            .standing(exchange.process, port, exchange.role);
        let Standing::Watch(slot) = standing else {
            return Outcome::Excluded;
        };
        if let Err(outcome) = self.record(slot, exchange, now) {
            return outcome;
        }
        match (slot, exchange.degraded) {
            (OTHER, _) => Outcome::TalliedWithoutService,
            (_, true) => Outcome::TalliedDegraded,
            (_, false) => Outcome::Tallied,
        }
    }

    /// Counts an exchange in its series, or says what becomes of it instead.
    fn record(&mut self, slot: u32, exchange: &Exchange<'_>, now: Time) -> Result<(), Outcome> {
        let (instrument, listed) = self.emitted_for(exchange.role);
        let service = self
            .services
            .service_mut(slot)
            .ok_or(Outcome::RecordInvalid)?;
        let (per_service, mode) = (service.settings.per_service, service.settings.status);
        let detail = detail(service, exchange, listed, now).ok_or(Outcome::IgnoredRoute)?;
        let (mut key, values) = described(exchange, listed, mode, &detail);
        let method = listed.contains(AttributeName::RequestMethod);
        let method = method.then(|| self.methods.id(exchange.method));
        (key.workload, key.instrument) = (slot, instrument);
        key.method = method.map_or(0, |method| method + 1);
        let measured = self.chooser.measurement(service, exchange, now);
        let methods = &self.methods;
        let describe = || {
            let method = method.map(|method| methods.name(method));
            let route = detail.route.map(|(_, template)| template);
            let address = detail.address.map(|(_, address)| address);
            Values {
                method,
                route,
                address,
                ..values
            }
            .into_attributes(instrument)
        };
        self.series
            .record(key, per_service, measured, now, describe);
        service.last_used_ns = now.monotonic_ns;
        service.exchanges[row(exchange.role)] += 1;
        Ok(())
    }

    fn emitted_for(&self, role: Role) -> (Instrument, AttributeSet) {
        match role {
            Role::Server => (
                Instrument::HttpServerRequestDuration,
                self.server_attributes,
            ),
            Role::Client => (
                Instrument::HttpClientRequestDuration,
                self.client_attributes,
            ),
        }
    }
}

fn idle_ns(config: &Config) -> u64 {
    u64::try_from(config.cardinality.idle_ttl.as_nanos()).unwrap_or(u64::MAX)
}
