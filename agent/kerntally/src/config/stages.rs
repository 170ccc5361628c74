//! What each stage is told of the configuration, in the stage's own types.

use kerntally_export::endpoint::{
    Compression as OtlpCompression, Endpoint, EndpointKind, Headers, OtlpSettings,
    Protocol as OtlpProtocol, TlsSettings,
};
use kerntally_pipeline::attribute::Selector as PipelineSelector;
use kerntally_pipeline::config as pipeline;
use kerntally_pipeline::exemplar;
use kerntally_pipeline::route::PatternSet;
use kerntally_probes::{Backend as HookBackend, BackendChoice, Options};
use kerntally_wire::{TraceFormat, TraceFormats};

use super::emission;
use super::node::Step;
use super::schema::{
    Backend, Compression, Config, ExemplarFilter, ExemplarPolicy, Exemplars, Hooks, Identity, Otlp,
    Protocol, Routes, Selector, ServiceRule, Side, Status, TraceHeader, Unmatched,
};

/// A stage refused a value.
#[derive(Debug)]
pub(crate) struct StageError {
    pub(crate) path: Vec<Step>,
    pub(crate) message: String,
}

impl StageError {
    pub(super) fn new(path: Vec<Step>, message: &impl ToString) -> Self {
        Self {
            path,
            message: message.to_string(),
        }
    }
}

pub(super) fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

/// Stage 1. Ranges have been checked; what would not fit anyway is clamped.
pub(crate) fn probe_options(hooks: &Hooks) -> Options {
    let backend = match hooks.backend {
        Backend::Fexit => BackendChoice::Only(HookBackend::Fexit),
        Backend::SockTracepoint => BackendChoice::Only(HookBackend::SockTracepoint),
        Backend::Kprobe => BackendChoice::Only(HookBackend::Kprobe),
        Backend::Syscall => BackendChoice::Only(HookBackend::Syscall),
        Backend::Auto => BackendChoice::Auto,
    };
    Options {
        backend,
        ring_bytes: u32::try_from(hooks.ring.0).unwrap_or(u32::MAX),
        head_bytes: u32::try_from(hooks.head.0).unwrap_or(u32::MAX),
        head_slots: hooks.head_slots,
        tally_keys: hooks.tally_keys,
        connections: hooks.connections,
        ..Options::default()
    }
}

/// Stages 4 to 6.
pub(crate) fn pipeline(config: &Config) -> Result<pipeline::Config, StageError> {
    let attributes = emission::allow_lists(
        &[key("attributes")],
        &config.attributes,
        pipeline::AllowLists::default(),
    )?;
    Ok(pipeline::Config {
        discovery: pipeline::Discovery {
            include: selectors("include", &config.discovery.include)?,
            exclude: selectors("exclude", &config.discovery.exclude)?,
            default_exclude: config.discovery.default_exclude,
        },
        sides: pipeline::Sides {
            server: config.sides.contains(&Side::Server),
            client: config.sides.contains(&Side::Client),
        },
        services: services(config, attributes)?,
        routes: routes(&[key("routes")], &config.routes)?,
        attributes,
        per_process: config.resource.identity == Identity::Process,
        histogram: emission::histogram(&config.histogram),
        views: emission::views(&config.views)?,
        temporality: emission::temporality(config.export.temporality),
        known_methods: config.http.known_methods.clone(),
        status: status(config.status),
        cardinality: pipeline::Cardinality {
            services: config.cardinality.services as usize,
            per_service: config.cardinality.per_service as usize,
            total: config.cardinality.total as usize,
            hosts_per_service: config.cardinality.hosts_per_service as usize,
            idle_ttl: config.cardinality.idle_ttl.0,
        },
        exemplars: exemplars(&config.exemplars),
        resource_allow: config.resource.allow.clone(),
    })
}

/// Stage 7's push; `None` when there is none.
pub(crate) fn otlp(
    otlp: Option<&Otlp>,
    endpoint_verbatim: bool,
) -> Result<Option<OtlpSettings>, StageError> {
    let Some(otlp) = otlp else { return Ok(None) };
    let at = |name: &str| vec![key("export"), key("otlp"), key(name)];
    let protocol = match otlp.protocol {
        Protocol::Grpc => OtlpProtocol::Grpc,
        Protocol::HttpProtobuf => OtlpProtocol::HttpProtobuf,
        Protocol::HttpJson => OtlpProtocol::HttpJson,
    };
    let kind = if endpoint_verbatim {
        EndpointKind::Metrics
    } else {
        EndpointKind::Base
    };
    let endpoint = Endpoint::parse(&otlp.endpoint, kind, Some(protocol), otlp.tls.insecure)
        .map_err(|error| StageError::new(at("endpoint"), &error))?;
    let pairs = otlp
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = Headers::new(pairs).map_err(|error| StageError::new(at("headers"), &error))?;
    Ok(Some(OtlpSettings {
        endpoint,
        compression: match otlp.compression {
            Compression::Gzip => OtlpCompression::Gzip,
            Compression::None => OtlpCompression::None,
        },
        timeout: otlp.timeout.0,
        headers,
        tls: TlsSettings {
            ca: otlp.tls.ca.clone(),
            cert: otlp.tls.cert.clone(),
            key: otlp.tls.key.clone(),
            insecure: otlp.tls.insecure,
        },
    }))
}

fn selectors(list: &str, selectors: &[Selector]) -> Result<Vec<PipelineSelector>, StageError> {
    let at = |index| vec![key("discovery"), key(list), Step::Index(index)];
    selectors
        .iter()
        .enumerate()
        .map(|(index, selector)| parse_selector(selector, at(index)))
        .collect()
}

fn parse_selector(selector: &Selector, path: Vec<Step>) -> Result<PipelineSelector, StageError> {
    PipelineSelector::parse(selector.conditions()).map_err(|error| StageError::new(path, &error))
}

fn services(
    config: &Config,
    attributes: pipeline::AllowLists,
) -> Result<Vec<pipeline::ServiceRule>, StageError> {
    let rules = config.services.iter().enumerate();
    rules
        .map(|(index, rule)| service(index, rule, config, attributes))
        .collect()
}

fn service(
    index: usize,
    rule: &ServiceRule,
    general: &Config,
    attributes: pipeline::AllowLists,
) -> Result<pipeline::ServiceRule, StageError> {
    let at = |name: &str| vec![key("services"), Step::Index(index), key(name)];
    let own_routes = if rule.routes.is_empty() {
        None
    } else {
        Some(routes(&at("routes"), &rule.routes.over(&general.routes))?)
    };
    let own_lists = rule.attributes.as_ref();
    let allow = own_lists
        .map(|lists| emission::allow_lists(&at("attributes"), lists, attributes))
        .transpose()?;
    let limit = |limit: Option<u32>| limit.map(|limit| limit as usize);
    Ok(pipeline::ServiceRule {
        selectors: vec![parse_selector(&rule.r#match, at("match"))?],
        name: rule.name.clone(),
        namespace: rule.namespace.clone(),
        version: rule.version.clone(),
        attributes: Vec::new(),
        routes: own_routes,
        status: rule.status.map(status),
        exemplars: (!rule.exemplars.is_empty())
            .then(|| exemplars(&rule.exemplars.over(&general.exemplars))),
        allow,
        histogram: (!rule.histogram.is_empty())
            .then(|| emission::histogram(&rule.histogram.over(&general.histogram))),
        per_service: limit(rule.cardinality.per_service),
        hosts_per_service: limit(rule.cardinality.hosts_per_service),
    })
}

fn routes(path: &[Step], routes: &Routes) -> Result<pipeline::RouteConfig, StageError> {
    let patterns = |list: &str, patterns: &[String]| {
        PatternSet::parse(patterns.iter().map(String::as_str)).map_err(|error| {
            let steps = path.iter().cloned().chain([key(list)]);
            StageError::new(steps.collect(), &error)
        })
    };
    Ok(pipeline::RouteConfig {
        patterns: patterns("patterns", &routes.patterns)?,
        ignore: patterns("ignore", &routes.ignore)?,
        unmatched: match routes.unmatched {
            Unmatched::Heuristic => pipeline::Unmatched::Heuristic,
            Unmatched::Wildcard => pipeline::Unmatched::Wildcard,
            Unmatched::Absent => pipeline::Unmatched::Absent,
        },
        max_per_service: routes.max_per_service as usize,
    })
}

fn exemplars(exemplars: &Exemplars) -> exemplar::ExemplarConfig {
    exemplar::ExemplarConfig {
        filter: match exemplars.filter {
            ExemplarFilter::TraceBased => exemplar::ExemplarFilter::TraceBased,
            ExemplarFilter::AlwaysOn => exemplar::ExemplarFilter::AlwaysOn,
            ExemplarFilter::AlwaysOff => exemplar::ExemplarFilter::AlwaysOff,
        },
        policy: match exemplars.policy {
            ExemplarPolicy::Tail => exemplar::ExemplarPolicy::Tail,
            ExemplarPolicy::Uniform => exemplar::ExemplarPolicy::Uniform,
            ExemplarPolicy::Budget => exemplar::ExemplarPolicy::Budget,
        },
        per_series: exemplars.per_series as usize,
        formats: TraceFormats::new(exemplars.headers.iter().map(|header| match header {
            TraceHeader::TraceContext => TraceFormat::TraceContext,
            TraceHeader::B3 => TraceFormat::B3,
            TraceHeader::B3Multi => TraceFormat::B3Multi,
            TraceHeader::Datadog => TraceFormat::Datadog,
            TraceHeader::Jaeger => TraceFormat::Jaeger,
            TraceHeader::Xray => TraceFormat::Xray,
            TraceHeader::Gcp => TraceFormat::Gcp,
            TraceHeader::Ottrace => TraceFormat::OpenTracing,
        })),
        budget: exemplar::ExemplarBudget {
            healthy: exemplars.budget.healthy,
            max_error_rate: exemplars.budget.max_error_rate,
        },
    }
}

fn status(status: Status) -> pipeline::StatusMode {
    match status {
        Status::Code => pipeline::StatusMode::Code,
        Status::Class => pipeline::StatusMode::Class,
    }
}
