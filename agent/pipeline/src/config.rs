//! What the pipeline is told: plain types, already parsed; where they come from is the binary's matter.

use std::sync::Arc;
use std::time::Duration;

use kerntally_model::Instrument;

use crate::aggregate::{ADVISED_BOUNDARIES, AttributeSet};
use crate::attribute::Selector;
use crate::exemplar::ExemplarConfig;
use crate::route::PatternSet;
use crate::view::View;

/// Everything that stages 4 to 6 can be told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Who is watched.
    pub discovery: Discovery,
    /// Which sides of exchanges are watched.
    pub sides: Sides,
    /// Rules for services; the first that matches wins.
    pub services: Vec<ServiceRule>,
    /// Routes of services that have no rules of their own.
    pub routes: RouteConfig,
    /// Attributes by instrument.
    pub attributes: AllowLists,
    /// Methods that are not `_OTHER`; empty means those of the semantic conventions.
    pub known_methods: Vec<String>,
    /// How statuses are told.
    pub status: StatusMode,
    /// Kind of histograms.
    pub histogram: HistogramKind,
    /// What is emitted otherwise; the first that matches wins.
    pub views: Vec<View>,
    /// What points cover.
    pub temporality: TemporalityPreference,
    /// Bounds on what is kept.
    pub cardinality: Cardinality,
    /// Exemplars of services that have no rules of their own.
    pub exemplars: ExemplarConfig,
    /// Each process is told by itself; only what has no room is one for all processes of a service.
    pub per_process: bool,
    /// Names of resource attributes taken from processes' environments beside the four standing ones.
    pub resource_allow: Vec<String>,
}

impl Config {
    /// Whether `http.server.active_requests` is emitted for any service.
    pub fn emits_active(&self) -> bool {
        let of_services = self.services.iter().filter_map(|rule| rule.allow.as_ref());
        std::iter::once(&self.attributes)
            .chain(of_services)
            .any(|lists| lists.active.is_some())
    }
}

/// Who is watched. Within a selector all keys hold, between selectors any.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Empty: everything.
    pub include: Vec<Selector>,
    /// Beats `include`.
    pub exclude: Vec<Selector>,
    /// Leave out collectors, Prometheus, exporters and mesh proxies; beats `include` too.
    pub default_exclude: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            default_exclude: true,
        }
    }
}

/// Sides of exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Requests received.
    pub server: bool,
    /// Requests sent.
    pub client: bool,
}

impl Default for Sides {
    fn default() -> Self {
        Self {
            server: true,
            client: true,
        }
    }
}

/// One item of `services`.
#[derive(Clone, Debug, Default)]
pub struct ServiceRule {
    /// Whom it is about: any of these.
    pub selectors: Vec<Selector>,
    /// `service.name`; without it the next source in the order of names gives it.
    pub name: Option<String>,
    /// `service.namespace`
    pub namespace: Option<String>,
    /// `service.version`
    pub version: Option<String>,
    /// Further resource attributes.
    pub attributes: Vec<(String, String)>,
    /// Replaces [`Config::routes`].
    pub routes: Option<RouteConfig>,
    /// Replaces [`Config::status`].
    pub status: Option<StatusMode>,
    /// Replaces [`Config::exemplars`].
    pub exemplars: Option<ExemplarConfig>,
    /// Replaces [`Config::attributes`].
    pub allow: Option<AllowLists>,
    /// Replaces [`Config::histogram`].
    pub histogram: Option<HistogramKind>,
    /// Replaces [`Cardinality::per_service`].
    pub per_service: Option<usize>,
    /// Replaces [`Cardinality::hosts_per_service`].
    pub hosts_per_service: Option<usize>,
}

/// How paths become routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// The operator's templates, asked first.
    pub patterns: PatternSet,
    /// Paths that are not tallied.
    pub ignore: PatternSet,
    /// What becomes of a path that no pattern matches.
    pub unmatched: Unmatched,
    /// Templates that may be learnt per service and role.
    pub max_per_service: usize,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            patterns: PatternSet::default(),
            ignore: PatternSet::default(),
            unmatched: Unmatched::default(),
            max_per_service: 100,
        }
    }
}

/// What becomes of a path that no pattern matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// A learnt template.
    #[default]
    Heuristic,
    /// `/**`
    Wildcard,
    /// No route attribute.
    Absent,
}

/// Attributes of the points, by instrument: what is not listed is not emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowLists {
    /// `http.server.request.duration`
    pub server: AttributeSet,
    /// `http.client.request.duration`
    pub client: AttributeSet,
    /// `http.server.active_requests`, which is emitted only when it is listed.
    pub active: Option<AttributeSet>,
}

impl Default for AllowLists {
    fn default() -> Self {
        Self {
            server: AttributeSet::default_of(Instrument::HttpServerRequestDuration),
            client: AttributeSet::default_of(Instrument::HttpClientRequestDuration),
            active: None,
        }
    }
}

impl AllowLists {
    /// The list of an instrument; `None` if it is not emitted.
    pub const fn of(&self, instrument: Instrument) -> Option<AttributeSet> {
        match instrument {
            Instrument::HttpServerRequestDuration => Some(self.server),
            Instrument::HttpClientRequestDuration => Some(self.client),
            Instrument::HttpServerActiveRequests => self.active,
        }
    }
}

/// Kind of histograms.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramKind {
    /// Of given boundaries, in place of base-2 exponential ones.
    pub is_explicit: bool,
    /// The boundaries in seconds, ascending.
    pub boundaries: Arc<[f64]>,
}

impl Default for HistogramKind {
    fn default() -> Self {
        Self {
            is_explicit: false,
            boundaries: ADVISED_BOUNDARIES.into(),
        }
    }
}

/// What points cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TemporalityPreference {
    /// Everything since the series began.
    #[default]
    Cumulative,
    /// What is new since the collection before; what goes up and down stays cumulative.
    Delta,
    /// What takes the least memory: the same as delta for the instruments that there are.
    LowMemory,
}

/// How a status is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusMode {
    /// `http.response.status_code`
    #[default]
    Code,
    /// `http.response.status_class`, in its place.
    Class,
}

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cardinality {
    /// Workloads; later ones share `_other`.
    pub services: usize,
    /// Series of one service, over all instruments.
    pub per_service: usize,
    /// Series of all services.
    pub total: usize,
    /// Server addresses of one service's clients.
    pub hosts_per_service: usize,
    /// What is unused for so long is forgotten.
    pub idle_ttl: Duration,
}

impl Default for Cardinality {
    fn default() -> Self {
        Self {
            services: 500,
            per_service: 2000,
            total: 20_000,
            hosts_per_service: 100,
            idle_ttl: Duration::from_mins(10),
        }
    }
}
