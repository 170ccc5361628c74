//! Stages 4 to 6 in one: an exchange in, its outcome out, and the series at each collection.

use std::sync::Arc;

use kerntally_model::{
    EndReason, Exchange, Instrument, ProcessKey, Role, Scheme, Snapshot, Time, Workload,
};
use kerntally_wire::{Address, Authority, TargetForm};

use crate::aggregate::{
    AttributeName, AttributeSet, ErrorKey, Generation, Methods, SeriesKey, SeriesTable, StatusKey,
    Usage, Values,
};
use crate::attribute::{ExcludeReason, ProcessFacts, ProcessSource, Verdict};
use crate::config::Config;
use crate::ledger::{Ledger, Outcome, ROLES};
use crate::route::{Question, Route, RouteId, RouteUse};
use crate::services::{OTHER, Service, Services, Standing};

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

/// A service for listings.
#[derive(Clone, Debug)]
pub struct ServiceRow {
    /// The service, with the source of its name.
    pub workload: Arc<Workload>,
    /// Processes that were seen under it and still run, ascending.
    pub pids: Vec<u32>,
    /// Exchanges as a server.
    pub server_exchanges: u64,
    /// Exchanges as a client.
    pub client_exchanges: u64,
    /// Templates learnt as a server.
    pub learnt_routes: usize,
    /// Use of its limit of series.
    pub usage: Usage,
    /// The limit.
    pub series_limit: usize,
}

/// A process that is not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedRow {
    /// Its number.
    pub pid: u32,
    /// The server's port; 0 where no rule asks for it.
    pub port: u16,
    /// The side.
    pub role: Role,
    /// Why.
    pub reason: ExcludeReason,
}

/// Templates of a service.
#[derive(Clone, Debug)]
pub struct RouteRow {
    /// The service.
    pub workload: Arc<Workload>,
    /// The side.
    pub role: Role,
    /// The template with what it absorbed.
    pub route: RouteUse,
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
    services: Services,
    series: SeriesTable,
    methods: Methods,
    server_attributes: AttributeSet,
    client_attributes: AttributeSet,
    idle_ns: u64,
    ledger: Ledger,
    cut: [u64; ROLES.len()],
}

impl Pipeline {
    /// An empty pipeline; the first series start at `now`.
    pub fn new(config: &Config, source: Box<dyn ProcessSource>, now: Time) -> Self {
        Self {
            services: Services::new(config, source),
            series: SeriesTable::new(config.cardinality, now),
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

    /// Forgets what is idle and takes all series out.
    pub fn collect(&mut self, now: Time) -> Collection {
        let generation = self.series.begin_collection(now);
        let used_before_ns = now.monotonic_ns.saturating_sub(self.idle_ns);
        for slot in self
            .services
            .expire(used_before_ns, self.series.references())
        {
            self.series.forget(slot);
        }
        Collection {
            snapshot: self.peek(now),
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

    /// Services that were seen, by name.
    pub fn services(&self) -> Vec<ServiceRow> {
        let mut rows: Vec<ServiceRow> = self
            .services
            .iter()
            .filter(|(slot, service)| *slot != OTHER || service.exchanges != [0; 2])
            .map(|(slot, service)| self.service_row(slot, service))
            .collect();
        rows.sort_by(|a, b| a.workload.name.cmp(&b.workload.name));
        rows
    }

    /// Processes that were seen and are not watched, by number.
    pub fn excluded(&self) -> Vec<ExcludedRow> {
        let mut rows: Vec<ExcludedRow> = self
            .services
            .standings()
            .filter_map(|(process, port, role, standing)| match standing {
                Standing::Exclude(reason) => Some(ExcludedRow {
                    pid: process.tgid,
                    port,
                    role,
                    reason,
                }),
                Standing::Watch(_) => None,
            })
            .collect();
        rows.sort_by_key(|row| (row.pid, row.port, row.role));
        rows
    }

    /// Templates in use, by service and template.
    pub fn routes(&self) -> Vec<RouteRow> {
        let mut rows = Vec::new();
        for (_, service) in self.services.iter() {
            for (role, routes) in [
                (Role::Server, &service.server_routes),
                (Role::Client, &service.client_routes),
            ] {
                let workload = &service.workload;
                rows.extend(routes.uses().into_iter().map(|route| RouteRow {
                    workload: Arc::clone(workload),
                    role,
                    route,
                }));
            }
        }
        rows.sort_by(|a, b| {
            (&a.workload.name, a.role, &a.route.template).cmp(&(
                &b.workload.name,
                b.role,
                &b.route.template,
            ))
        });
        rows
    }

    fn service_row(&self, slot: u32, service: &Service) -> ServiceRow {
        let mut pids: Vec<u32> = self
            .services
            .standings()
            .filter(|(_, _, _, standing)| *standing == Standing::Watch(slot))
            .map(|(process, _, _, _)| process.tgid)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        ServiceRow {
            workload: Arc::clone(&service.workload),
            pids,
            server_exchanges: service.exchanges[row(Role::Server)],
            client_exchanges: service.exchanges[row(Role::Client)],
            learnt_routes: service.server_routes.learnt_len(),
            usage: self.series.usage(slot),
            series_limit: service.settings.per_service,
        }
    }

    fn tally(&mut self, exchange: &Exchange<'_>, now: Time) -> Outcome {
        if exchange.end_reason == EndReason::Detached {
            return Outcome::ProbeWasOff;
        }
        let port = exchange.server_port();
        let slot = match self
            .services
            .standing(exchange.process, port, exchange.role)
        {
            Standing::Exclude(_) => return Outcome::Excluded,
            Standing::Watch(slot) => slot,
        };
        let Some(service) = self.services.service_mut(slot) else {
            return Outcome::RecordInvalid;
        };
        service.last_used_ns = now.monotonic_ns;
        let (instrument, listed) = match exchange.role {
            Role::Server => (
                Instrument::HttpServerRequestDuration,
                self.server_attributes,
            ),
            Role::Client => (
                Instrument::HttpClientRequestDuration,
                self.client_attributes,
            ),
        };
        let (per_service, mode) = (service.settings.per_service, service.settings.status);
        let Some(detail) = detail(service, exchange, listed, now) else {
            return Outcome::IgnoredRoute;
        };
        let method = listed
            .contains(AttributeName::RequestMethod)
            .then(|| self.methods.id(exchange.method));
        let (mut key, values) = described(exchange, listed, mode, &detail);
        (key.workload, key.instrument) = (slot, instrument);
        key.method = method.map_or(0, |method| method + 1);
        let methods = &self.methods;
        self.series
            .record(key, per_service, exchange.duration_ns(), now, || {
                let method = method.map(|method| methods.name(method));
                let route = detail.route.map(|(_, template)| Arc::clone(template));
                let address = detail.address.map(|(_, address)| Arc::clone(address));
                Values {
                    method,
                    route,
                    address,
                    ..values
                }
                .into_attributes(instrument)
            });
        service.exchanges[row(exchange.role)] += 1;
        match (slot, exchange.degraded) {
            (OTHER, _) => Outcome::TalliedWithoutService,
            (_, true) => Outcome::TalliedDegraded,
            (_, false) => Outcome::Tallied,
        }
    }
}

/// What had to be interned.
struct Detail<'a> {
    route: Option<(RouteId, &'a Arc<str>)>,
    address: Option<(u32, &'a Arc<str>)>,
    port: Option<u16>,
}

/// Routes an exchange and interns its server address; `None` if its route is ignored.
fn detail<'a>(
    service: &'a mut Service,
    exchange: &Exchange<'_>,
    listed: AttributeSet,
    now: Time,
) -> Option<Detail<'a>> {
    let mut detail = Detail {
        route: None,
        address: None,
        port: None,
    };
    if exchange.degraded {
        return Some(detail);
    }
    let target = TargetForm::parse(exchange.method, exchange.target.bytes);
    let question = Question {
        target,
        target_cut: exchange.target.cut,
        status: exchange.status,
        now_ns: now.monotonic_ns,
    };
    let (routes, name) = match exchange.role {
        Role::Server => (&mut service.server_routes, AttributeName::Route),
        Role::Client => (&mut service.client_routes, AttributeName::UrlTemplate),
    };
    if routes.ignores(&question) {
        return None;
    }
    if listed.contains(name)
        && let Route::Template(id, template) = routes.route(&question)
    {
        detail.route = Some((id, template));
    }
    let wants_address = listed.contains(AttributeName::ServerAddress);
    let wants_port = listed.contains(AttributeName::ServerPort);
    if (wants_address || wants_port)
        && let Some((address, port)) = server_address(exchange, &target)
    {
        if wants_address {
            let limit = service.settings.hosts;
            detail.address = Some(
                service
                    .hosts
                    .intern(address.as_str(), limit, now.monotonic_ns),
            );
        }
        detail.port = wants_port.then_some(port);
    }
    Some(detail)
}

/// Host and port that a client asked for: of the target, of `Host`, else of the connection.
fn server_address(exchange: &Exchange<'_>, target: &TargetForm<'_>) -> Option<(Address, u16)> {
    let named = target
        .authority()
        .or(exchange.host)
        .and_then(|bytes| Authority::parse(bytes).ok());
    if let Some(authority) = named {
        let default = match exchange.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        return Some((authority.address, authority.port.unwrap_or(default)));
    }
    exchange
        .peer
        .map(|peer| (Address::from_ip(peer.ip()), peer.port()))
}

/// Key and values of the series, without what the caller adds.
fn described(
    exchange: &Exchange<'_>,
    listed: AttributeSet,
    mode: crate::config::StatusMode,
    detail: &Detail<'_>,
) -> (SeriesKey, Values) {
    let status = if listed.contains(AttributeName::StatusCode) {
        StatusKey::of(exchange.status, mode)
    } else {
        StatusKey::Absent
    };
    let error = if listed.contains(AttributeName::ErrorType) {
        ErrorKey::of(exchange, mode)
    } else {
        ErrorKey::Absent
    };
    let version = listed
        .contains(AttributeName::ProtocolVersion)
        .then_some(exchange.version);
    let scheme = listed
        .contains(AttributeName::Scheme)
        .then_some(exchange.scheme);
    let port = detail.port;
    let key = SeriesKey {
        workload: OTHER,
        instrument: Instrument::HttpServerRequestDuration,
        overflow: false,
        method: 0,
        route: detail.route.map_or(0, |(id, _)| id.0),
        address: detail.address.map_or(0, |(id, _)| id),
        port,
        status,
        error,
        version,
        scheme,
    };
    let values = Values {
        method: None,
        route: None,
        address: None,
        port,
        status,
        error,
        version,
        scheme,
    };
    (key, values)
}

fn idle_ns(config: &Config) -> u64 {
    u64::try_from(config.cardinality.idle_ttl.as_nanos()).unwrap_or(u64::MAX)
}

fn row(role: Role) -> usize {
    match role {
        Role::Server => 0,
        Role::Client => 1,
    }
}
