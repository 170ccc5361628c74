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

    /// Duration of HTTP server requests.
    pub const HTTP_SERVER_REQUEST_DURATION: &str = "http.server.request.duration";
    /// Duration of HTTP client requests.
    pub const HTTP_CLIENT_REQUEST_DURATION: &str = "http.client.request.duration";
    /// Number of active HTTP server requests.
    pub const HTTP_SERVER_ACTIVE_REQUESTS: &str = "http.server.active_requests";

    /// An instrument as the conventions declare it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Declaration {
        /// Name.
        pub name: &'static str,
        /// Unit, as UCUM writes it.
        pub unit: &'static str,
        /// Description.
        pub description: &'static str,
    }

    /// The declaration of an instrument.
    pub const fn declaration(instrument: Instrument) -> Declaration {
        match instrument {
            Instrument::HttpServerRequestDuration => Declaration {
                name: HTTP_SERVER_REQUEST_DURATION,
                unit: "s",
                description: "Duration of HTTP server requests.",
            },
            Instrument::HttpClientRequestDuration => Declaration {
                name: HTTP_CLIENT_REQUEST_DURATION,
                unit: "s",
                description: "Duration of HTTP client requests.",
            },
            Instrument::HttpServerActiveRequests => Declaration {
                name: HTTP_SERVER_ACTIVE_REQUESTS,
                unit: "{request}",
                description: "Number of active HTTP server requests.",
            },
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
