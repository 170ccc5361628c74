//! The configuration as users write it: every key with its type and its default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attributes;
use super::scalar::{Glob, Size, Span, Switch};

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub(crate) enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+ }
    };
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident : $kind:ty = $default:expr),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: $kind),+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }
    };
}

choice! {
    /// What becomes of workloads that push their own HTTP metrics.
    Instrumented { #[default] Skip = "skip", Count = "count" }
}
choice! {
    /// Which side of an exchange is watched.
    Side { #[default] Server = "server", Client = "client" }
}
choice! {
    /// How socket data is seen.
    Backend {
        #[default] Auto = "auto", Fexit = "fexit", SockTracepoint = "sock-tracepoint",
        Kprobe = "kprobe", Syscall = "syscall",
    }
}
choice! {
    /// What a path without a pattern becomes.
    Unmatched { #[default] Heuristic = "heuristic", Wildcard = "wildcard", Absent = "absent" }
}
choice! {
    /// Status codes, or only their class.
    Status { #[default] Code = "code", Class = "class" }
}
choice! {
    /// Kind of histogram.
    HistogramType { #[default] Exponential = "exponential", Explicit = "explicit" }
}
choice! {
    /// What a view turns an instrument into.
    ViewAggregation { #[default] Exponential = "exponential", Explicit = "explicit", Drop = "drop" }
}
choice! {
    /// Which requests may become exemplars.
    ExemplarFilter {
        #[default] TraceBased = "trace_based", AlwaysOn = "always_on", AlwaysOff = "always_off",
    }
}
choice! {
    /// Which of them are kept.
    ExemplarPolicy { #[default] Tail = "tail", Uniform = "uniform", Budget = "budget" }
}
choice! {
    /// Trace header formats.
    TraceHeader {
        #[default] TraceContext = "tracecontext", B3 = "b3", B3Multi = "b3multi",
        Datadog = "datadog", Jaeger = "jaeger", Xray = "xray", Gcp = "gcp", Ottrace = "ottrace",
    }
}
choice! {
    /// What makes two streams of one service different.
    Identity { #[default] Node = "node", Process = "process", None = "none" }
}
choice! {
    /// How values relate to earlier ones.
    Temporality { #[default] Cumulative = "cumulative", Delta = "delta", LowMemory = "lowmemory" }
}
choice! {
    /// OTLP transport.
    Protocol {
        #[default] Grpc = "grpc", HttpProtobuf = "http/protobuf", HttpJson = "http/json",
    }
}
choice! {
    /// Compression of pushes.
    Compression { #[default] Gzip = "gzip", None = "none" }
}
choice! {
    /// What standard output shows.
    Console { #[default] Auto = "auto", Table = "table", Json = "json", Off = "off" }
}
choice! {
    /// Where Kubernetes names come from.
    KubernetesSource { #[default] Api = "api", Kubelet = "kubelet" }
}
choice! {
    /// Least severe message that is logged.
    LogLevel {
        Error = "error", #[default] Warn = "warn", Info = "info", Debug = "debug",
        Trace = "trace", Off = "off",
    }
}
choice! {
    /// Form of log lines.
    LogFormat { #[default] Text = "text", Json = "json" }
}

/// Names processes: all keys given must hold; values are globs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exe: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cmdline: Option<Glob>,
    /// The server's port, on either side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) k8s_namespace: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) k8s_pod: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) k8s_owner: Option<Glob>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) k8s_label: BTreeMap<String, Glob>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) k8s_annotation: BTreeMap<String, Glob>,
}

impl Selector {
    /// Keys that this version cannot evaluate.
    pub(crate) fn not_built(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let options = [
            ("container", self.container.is_some()),
            ("k8s_namespace", self.k8s_namespace.is_some()),
            ("k8s_pod", self.k8s_pod.is_some()),
            ("k8s_owner", self.k8s_owner.is_some()),
            ("k8s_label", !self.k8s_label.is_empty()),
            ("k8s_annotation", !self.k8s_annotation.is_empty()),
        ];
        keys.extend(
            options
                .iter()
                .filter(|(_, given)| *given)
                .map(|(key, _)| *key),
        );
        keys
    }

    /// Keys with their globs, as the pipeline takes them.
    pub(crate) fn conditions(&self) -> Vec<(&'static str, &str)> {
        let keys = [
            ("exe", &self.exe),
            ("cmdline", &self.cmdline),
            ("port", &self.port),
            ("pid", &self.pid),
            ("unit", &self.unit),
            ("cgroup", &self.cgroup),
        ];
        keys.into_iter()
            .filter_map(|(key, glob)| glob.as_ref().map(|glob| (key, glob.0.as_str())))
            .collect()
    }

    /// No key is given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

section! {
    /// Who is watched.
    Discovery {
        /// Empty: everything.
        include: Vec<Selector> = Vec::new(),
        /// Beats `include`.
        exclude: Vec<Selector> = Vec::new(),
        /// Leaves out collectors, Prometheus, exporters, mesh proxies and kube-system.
        default_exclude: bool = true,
        instrumented: Instrumented = Instrumented::Skip,
    }
}

section! {
    /// The kernel side.
    Hooks {
        backend: Backend = Backend::Auto,
        /// One agent per kernel.
        exclusive: bool = true,
        /// Ring buffer between kernel and agent.
        ring: Size = Size::mib(2),
        /// Bytes of a request head that are kept.
        head: Size = Size::kib(1),
        /// Heads kept at one time.
        head_slots: u32 = 2048,
        /// Sockets followed at one time; null takes 131072, or 28672 before kernel 6.1.
        connections: Option<u32> = None,
        /// Keys of the tally that takes over when the ring is full.
        tally_keys: u32 = 512,
    }
}

section! {
    /// Switches of the probes.
    Probes {
        http1: bool = true,
        http2: bool = true,
        #[serde(rename = "tls-openssl")] tls_openssl: bool = true,
        #[serde(rename = "tls-gnutls")] tls_gnutls: bool = true,
        #[serde(rename = "tls-go")] tls_go: bool = true,
    }
}

impl Probes {
    /// Sets the switch of a probe; false if there is none of that name.
    pub(crate) fn switch(&mut self, name: &str, on: bool) -> bool {
        let switch = match name {
            "http1" => &mut self.http1,
            "http2" => &mut self.http2,
            "tls-openssl" => &mut self.tls_openssl,
            "tls-gnutls" => &mut self.tls_gnutls,
            "tls-go" => &mut self.tls_go,
            _ => return false,
        };
        *switch = on;
        true
    }
}

section! {
    /// HTTP itself.
    Http {
        /// An exchange open for longer is tallied as it stands.
        open_max: Span = Span::from_secs(3600),
        /// Methods besides the registered ones that are not `_OTHER`; empty keeps the registered ones.
        known_methods: Vec<String> = Vec::new(),
    }
}

section! {
    /// Route templates.
    Routes {
        /// Such as `/users/{id}` and `/files/{path...}`.
        patterns: Vec<String> = Vec::new(),
        /// Exchanges on these are not exported.
        ignore: Vec<String> = Vec::new(),
        unmatched: Unmatched = Unmatched::Heuristic,
        max_per_service: u32 = 100,
    }
}

section! {
    /// Kind of histogram.
    Histogram {
        r#type: HistogramType = HistogramType::Exponential,
        boundaries: Option<Vec<f64>> = None,
    }
}

section! {
    /// Limits on series.
    Cardinality {
        services: u32 = 500,
        per_service: u32 = 2000,
        total: u32 = 20_000,
        hosts_per_service: u32 = 100,
        idle_ttl: Span = Span::from_secs(600),
    }
}

section! {
    /// Links from measurements to traces.
    Exemplars {
        filter: ExemplarFilter = ExemplarFilter::TraceBased,
        policy: ExemplarPolicy = ExemplarPolicy::Tail,
        per_series: u32 = 4,
        headers: Vec<TraceHeader> = vec![
            TraceHeader::TraceContext, TraceHeader::B3, TraceHeader::B3Multi,
            TraceHeader::Datadog, TraceHeader::Jaeger, TraceHeader::Xray, TraceHeader::Gcp,
            TraceHeader::Ottrace,
        ],
        budget: ExemplarBudget = ExemplarBudget::default(),
    }
}

section! {
    /// Shares of the budget policy.
    ExemplarBudget {
        healthy: f64 = 0.01,
        max_error_rate: f64 = 0.05,
    }
}

/// Names services and overrides settings for them; the first match wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ServiceRule {
    pub(crate) r#match: Selector,
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) routes: RouteOverrides,
    pub(crate) cardinality: CardinalityOverrides,
    pub(crate) status: Option<Status>,
    pub(crate) attributes: Option<BTreeMap<String, Vec<String>>>,
    pub(crate) exemplars: ExemplarOverrides,
    pub(crate) histogram: HistogramOverrides,
}

section! {
    /// What one service has instead of `routes`; what is not given stays.
    RouteOverrides {
        patterns: Option<Vec<String>> = None,
        ignore: Option<Vec<String>> = None,
        unmatched: Option<Unmatched> = None,
        max_per_service: Option<u32> = None,
    }
}

section! {
    /// What one service has instead of `histogram`; what is not given stays.
    HistogramOverrides {
        r#type: Option<HistogramType> = None,
        boundaries: Option<Vec<f64>> = None,
    }
}

impl HistogramOverrides {
    /// Nothing is overridden.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The histograms of the service.
    pub(crate) fn over(&self, histogram: &Histogram) -> Histogram {
        Histogram {
            r#type: self.r#type.unwrap_or(histogram.r#type),
            boundaries: self
                .boundaries
                .clone()
                .or_else(|| histogram.boundaries.clone()),
        }
    }
}

section! {
    /// What one service has instead of `cardinality`; what is not given stays.
    CardinalityOverrides {
        per_service: Option<u32> = None,
        hosts_per_service: Option<u32> = None,
    }
}

section! {
    /// What one service has instead of `exemplars`; what is not given stays.
    ExemplarOverrides {
        filter: Option<ExemplarFilter> = None,
        policy: Option<ExemplarPolicy> = None,
        per_series: Option<u32> = None,
        headers: Option<Vec<TraceHeader>> = None,
        budget: ExemplarBudgetOverrides = ExemplarBudgetOverrides::default(),
    }
}

section! {
    /// What one service has instead of `exemplars.budget`; what is not given stays.
    ExemplarBudgetOverrides {
        healthy: Option<f64> = None,
        max_error_rate: Option<f64> = None,
    }
}

impl ExemplarOverrides {
    /// Nothing is overridden.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The exemplars of the service.
    pub(crate) fn over(&self, exemplars: &Exemplars) -> Exemplars {
        let budget = &exemplars.budget;
        Exemplars {
            filter: self.filter.unwrap_or(exemplars.filter),
            policy: self.policy.unwrap_or(exemplars.policy),
            per_series: self.per_series.unwrap_or(exemplars.per_series),
            headers: self
                .headers
                .clone()
                .unwrap_or_else(|| exemplars.headers.clone()),
            budget: ExemplarBudget {
                healthy: self.budget.healthy.unwrap_or(budget.healthy),
                max_error_rate: self.budget.max_error_rate.unwrap_or(budget.max_error_rate),
            },
        }
    }
}

impl RouteOverrides {
    /// Nothing is overridden.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The routes of the service.
    pub(crate) fn over(&self, routes: &Routes) -> Routes {
        Routes {
            patterns: self
                .patterns
                .clone()
                .unwrap_or_else(|| routes.patterns.clone()),
            ignore: self.ignore.clone().unwrap_or_else(|| routes.ignore.clone()),
            unmatched: self.unmatched.unwrap_or(routes.unmatched),
            max_per_service: self.max_per_service.unwrap_or(routes.max_per_service),
        }
    }
}

/// Renames and reshapes an instrument.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct View {
    pub(crate) r#match: ViewSelector,
    pub(crate) name: Option<String>,
    pub(crate) unit: Option<String>,
    pub(crate) attributes: ViewAttributes,
    pub(crate) aggregation: Option<ViewAggregation>,
}

/// What a view applies to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ViewSelector {
    pub(crate) instrument: Option<String>,
    pub(crate) service: Option<String>,
}

/// What a view does to attributes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ViewAttributes {
    pub(crate) drop: Vec<String>,
    pub(crate) rename: BTreeMap<String, String>,
}

section! {
    /// Resource attributes.
    Resource {
        identity: Identity = Identity::Node,
        /// Identity of this node; null: found out.
        node: Option<String> = None,
        /// Under every service.
        attributes: BTreeMap<String, String> = BTreeMap::new(),
        /// Keys taken from a process's own `OTEL_RESOURCE_ATTRIBUTES` besides the standard four.
        allow: Vec<String> = Vec::new(),
    }
}

section! {
    /// Where measurements go.
    Export {
        interval: Span = Span::from_secs(15),
        temporality: Temporality = Temporality::Cumulative,
        /// A delta batch unanswered this long is dropped and counted.
        delta_hold: Span = Span::from_secs(600),
        /// null: no push.
        otlp: Option<Otlp> = Some(Otlp::default()),
        /// OTLP file, one request in JSON a line, each below 1 MiB.
        file: Option<PathBuf> = None,
        console: Console = Console::Auto,
        prometheus: Prometheus = Prometheus::default(),
    }
}

section! {
    /// The push.
    Otlp {
        endpoint: String = "http://localhost:4317".to_owned(),
        protocol: Protocol = Protocol::Grpc,
        compression: Compression = Compression::Gzip,
        timeout: Span = Span::from_secs(10),
        headers: BTreeMap<String, String> = BTreeMap::new(),
        max_request: Size = Size::mib(3),
        tls: Tls = Tls::default(),
    }
}

section! {
    /// Keys of the push.
    Tls {
        ca: Option<PathBuf> = None,
        cert: Option<PathBuf> = None,
        key: Option<PathBuf> = None,
        insecure: bool = false,
    }
}

section! {
    /// The pull.
    Prometheus {
        listen: Option<SocketAddr> = None,
    }
}

section! {
    /// Limits of the agent itself.
    Limits {
        /// Cores; 0.05 is 50 millicores.
        cpu: Option<f64> = None,
        memory: Option<Size> = None,
    }
}

section! {
    /// Kubernetes names.
    Kubernetes {
        enabled: Switch = Switch::Auto,
        source: KubernetesSource = KubernetesSource::Api,
        node: Option<String> = None,
        kubeconfig: Option<PathBuf> = None,
    }
}

section! {
    /// The agent's own health and metrics over HTTP.
    SelfServer {
        /// null turns it off.
        listen: Option<SocketAddr> = Some(SocketAddr::from(([127, 0, 0, 1], 9469))),
    }
}

section! {
    /// The control socket.
    Control {
        socket: PathBuf = PathBuf::from("/run/kerntally/control.sock"),
    }
}

section! {
    /// What outlives the agent.
    State {
        /// null: in memory.
        dir: Option<PathBuf> = None,
    }
}

section! {
    /// Log lines.
    Log {
        level: LogLevel = LogLevel::Warn,
        format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// Where the host's file systems are mounted.
    Host {
        proc: PathBuf = PathBuf::from("/proc"),
        sys: PathBuf = PathBuf::from("/sys"),
    }
}

section! {
    /// The whole configuration.
    Config {
        discovery: Discovery = Discovery::default(),
        sides: Vec<Side> = vec![Side::Server, Side::Client],
        hooks: Hooks = Hooks::default(),
        probes: Probes = Probes::default(),
        http: Http = Http::default(),
        services: Vec<ServiceRule> = Vec::new(),
        routes: Routes = Routes::default(),
        /// Allow-list per instrument.
        attributes: BTreeMap<String, Vec<String>> = attributes::defaults(),
        status: Status = Status::Code,
        histogram: Histogram = Histogram::default(),
        views: Vec<View> = Vec::new(),
        cardinality: Cardinality = Cardinality::default(),
        exemplars: Exemplars = Exemplars::default(),
        resource: Resource = Resource::default(),
        export: Export = Export::default(),
        limits: Limits = Limits::default(),
        kubernetes: Kubernetes = Kubernetes::default(),
        #[serde(rename = "self")] own: SelfServer = SelfServer::default(),
        control: Control = Control::default(),
        state: State = State::default(),
        log: Log = Log::default(),
        host: Host = Host::default(),
    }
}
