//! Names of OpenTelemetry's semantic conventions 1.44.0 that this agent emits, verbatim.

/// Schema that every name here belongs to; set on resources and scopes.
/// <https://opentelemetry.io/docs/specs/otel/schemas/>
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Name of the instrumentation scope of everything said about watched services.
pub const SCOPE_NAME: &str = "kerntally/http";

/// Instruments about HTTP.
/// <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>
pub mod metric {
    use kerntally_model::Instrument;

    use super::attribute;

    /// Duration of HTTP server requests.
    pub const HTTP_SERVER_REQUEST_DURATION: &str = "http.server.request.duration";
    /// Duration of HTTP client requests.
    pub const HTTP_CLIENT_REQUEST_DURATION: &str = "http.client.request.duration";
    /// Number of active HTTP server requests.
    pub const HTTP_SERVER_ACTIVE_REQUESTS: &str = "http.server.active_requests";

    /// Kind of an instrument.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        /// A distribution.
        Histogram,
        /// A number that goes up and down.
        UpDownCounter,
    }

    /// What the conventions ask of an attribute.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Level {
        /// `required`
        Required,
        /// `conditionally required`; the condition.
        Conditional(&'static str),
        /// `recommended`
        Recommended,
        /// `opt-in`: there only if the configuration lists it.
        OptIn,
    }

    /// An instrument as the conventions declare it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Declaration {
        /// Name.
        pub name: &'static str,
        /// Kind.
        pub kind: Kind,
        /// Unit, as UCUM writes it.
        pub unit: &'static str,
        /// Description.
        pub description: &'static str,
        /// Attributes it may have.
        pub attributes: &'static [(&'static str, Level)],
    }

    /// Every instrument about HTTP.
    pub const ALL: [Instrument; 3] = [
        Instrument::HttpServerRequestDuration,
        Instrument::HttpClientRequestDuration,
        Instrument::HttpServerActiveRequests,
    ];

    const IF_RECEIVED: Level = Level::Conditional("if one was sent or received");
    const IF_ERROR: Level = Level::Conditional("if the request ended with an error");

    const SERVER_DURATION: Declaration = Declaration {
        name: HTTP_SERVER_REQUEST_DURATION,
        kind: Kind::Histogram,
        unit: "s",
        description: "Duration of HTTP server requests.",
        attributes: &[
            (attribute::HTTP_REQUEST_METHOD, Level::Required),
            (attribute::URL_SCHEME, Level::Required),
            (
                attribute::HTTP_ROUTE,
                Level::Conditional("if there is a template"),
            ),
            (attribute::HTTP_RESPONSE_STATUS_CODE, IF_RECEIVED),
            (attribute::ERROR_TYPE, IF_ERROR),
            (attribute::NETWORK_PROTOCOL_VERSION, Level::Recommended),
        ],
    };

    const CLIENT_DURATION: Declaration = Declaration {
        name: HTTP_CLIENT_REQUEST_DURATION,
        kind: Kind::Histogram,
        unit: "s",
        description: "Duration of HTTP client requests.",
        attributes: &[
            (attribute::HTTP_REQUEST_METHOD, Level::Required),
            (attribute::SERVER_ADDRESS, Level::Required),
            (attribute::SERVER_PORT, Level::Required),
            (attribute::HTTP_RESPONSE_STATUS_CODE, IF_RECEIVED),
            (attribute::ERROR_TYPE, IF_ERROR),
            (attribute::NETWORK_PROTOCOL_VERSION, Level::Recommended),
            (attribute::URL_SCHEME, Level::OptIn),
            (attribute::URL_TEMPLATE, Level::OptIn),
        ],
    };

    const SERVER_ACTIVE: Declaration = Declaration {
        name: HTTP_SERVER_ACTIVE_REQUESTS,
        kind: Kind::UpDownCounter,
        unit: "{request}",
        description: "Number of active HTTP server requests.",
        attributes: &[
            (attribute::HTTP_REQUEST_METHOD, Level::Required),
            (attribute::URL_SCHEME, Level::Required),
        ],
    };

    /// The declaration of an instrument.
    pub const fn declaration(instrument: Instrument) -> Declaration {
        match instrument {
            Instrument::HttpServerRequestDuration => SERVER_DURATION,
            Instrument::HttpClientRequestDuration => CLIENT_DURATION,
            Instrument::HttpServerActiveRequests => SERVER_ACTIVE,
        }
    }
}

/// Attributes of points.
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/>
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/>
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/network/>
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/server/>
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/>
pub mod attribute {
    /// Method; what is unknown is `_OTHER`.
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// Status code, an integer.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// Template of the path, on servers.
    pub const HTTP_ROUTE: &str = "http.route";
    /// What went wrong; absent on success.
    pub const ERROR_TYPE: &str = "error.type";
    /// Version of the protocol on the wire.
    pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
    /// Host that a client addressed.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Port that a client addressed.
    pub const SERVER_PORT: &str = "server.port";
    /// Scheme of the bytes on the socket.
    pub const URL_SCHEME: &str = "url.scheme";
    /// Template of the path, on clients.
    pub const URL_TEMPLATE: &str = "url.template";
    /// Class of the status code, such as `5xx`, in its place with `status: class`; of no convention.
    pub const HTTP_RESPONSE_STATUS_CLASS: &str = "http.response.status_class";
    /// Marks the series that takes what is past a limit.
    /// <https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute>
    pub const OTEL_METRIC_OVERFLOW: &str = "otel.metric.overflow";
}

/// Attributes of resources.
/// <https://opentelemetry.io/docs/specs/semconv/resource/>
pub mod resource {
    /// Every name that says which service it is starts so.
    pub const SERVICE_PREFIX: &str = "service.";
    /// Name of the service.
    pub const SERVICE_NAME: &str = "service.name";
    /// Namespace of the service.
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    /// Version of the service.
    pub const SERVICE_VERSION: &str = "service.version";
    /// What tells two writers of the same service apart.
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
    /// Deployment environment.
    pub const DEPLOYMENT_ENVIRONMENT_NAME: &str = "deployment.environment.name";
    /// Number of the process.
    pub const PROCESS_PID: &str = "process.pid";
    /// Name of the host.
    pub const HOST_NAME: &str = "host.name";
    /// Who made the telemetry; `opentelemetry` is reserved for its own SDKs.
    pub const TELEMETRY_SDK_NAME: &str = "telemetry.sdk.name";
    /// Language of what made the telemetry.
    pub const TELEMETRY_SDK_LANGUAGE: &str = "telemetry.sdk.language";
    /// Version of what made the telemetry.
    pub const TELEMETRY_SDK_VERSION: &str = "telemetry.sdk.version";
    /// Distribution that made the telemetry.
    pub const TELEMETRY_DISTRO_NAME: &str = "telemetry.distro.name";
    /// Version of the distribution that made the telemetry.
    pub const TELEMETRY_DISTRO_VERSION: &str = "telemetry.distro.version";
}
