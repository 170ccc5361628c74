//! What the semantic conventions 1.44.0 say about instruments of HTTP and RPC.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>
//! <https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/>

/// Kind of data of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measures {
    /// How long it took: a histogram of seconds.
    Durations,
    /// How large it was: a histogram of bytes.
    Sizes,
    /// How many there are: a sum that goes up and down.
    Level,
}

/// Which side measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// Type of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Integer,
    Boolean,
}

/// How much an attribute is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Always there.
    Required,
    /// There when there is something to say.
    Listed,
    /// In the conventions, and left out by default.
    OptIn,
}

/// An attribute an instrument can have.
pub(super) type Listed = (&'static str, Need, Form);

/// An instrument.
#[derive(Debug)]
pub(super) struct Convention {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) measures: Measures,
    pub(super) side: Side,
    /// `http` attributes, rather than those of RPC.
    pub(super) is_http: bool,
    pub(super) attributes: &'static [Listed],
}

use Form::{Boolean, Integer, Text};
use Measures::{Durations, Level, Sizes};
use Need::{Listed as Can, OptIn, Required};
use Side::{Client, Server};

/// Marks an overflow series.
pub(super) const OVERFLOW: &str = "otel.metric.overflow";

const HTTP_SERVER: &[Listed] = &[
    ("http.request.method", Required, Text),
    ("url.scheme", Required, Text),
    ("error.type", Can, Text),
    ("http.response.status_code", Can, Integer),
    ("http.response.status_class", Can, Text),
    ("http.route", Can, Text),
    ("network.protocol.name", Can, Text),
    ("network.protocol.version", Can, Text),
    ("server.address", OptIn, Text),
    ("server.port", OptIn, Integer),
    ("user_agent.synthetic.type", OptIn, Text),
    (OVERFLOW, Can, Boolean),
];

const HTTP_CLIENT: &[Listed] = &[
    ("http.request.method", Required, Text),
    ("server.address", Required, Text),
    ("server.port", Can, Integer),
    ("error.type", Can, Text),
    ("http.response.status_code", Can, Integer),
    ("http.response.status_class", Can, Text),
    ("network.protocol.name", Can, Text),
    ("network.protocol.version", Can, Text),
    ("url.scheme", Can, Text),
    ("url.template", Can, Text),
    (OVERFLOW, Can, Boolean),
];

const ACTIVE: &[Listed] = &[
    ("http.request.method", Required, Text),
    ("url.scheme", Required, Text),
    ("server.address", OptIn, Text),
    ("server.port", OptIn, Integer),
    (OVERFLOW, Can, Boolean),
];

const RPC: &[Listed] = &[
    ("rpc.system.name", Required, Text),
    ("rpc.method", Can, Text),
    ("rpc.response.status_code", Can, Text),
    ("error.type", Can, Text),
    ("server.address", OptIn, Text),
    ("server.port", OptIn, Integer),
    (OVERFLOW, Can, Boolean),
];

const OPEN: &[Listed] = &[
    ("http.connection.state", Can, Text),
    ("server.address", Required, Text),
    ("server.port", Required, Integer),
    ("network.peer.address", OptIn, Text),
    ("network.protocol.version", Can, Text),
    ("url.scheme", Can, Text),
    (OVERFLOW, Can, Boolean),
];

const CLIENT_ACTIVE: &[Listed] = &[
    ("http.request.method", Can, Text),
    ("server.address", Required, Text),
    ("server.port", Required, Integer),
    ("url.scheme", Can, Text),
    ("url.template", Can, Text),
    (OVERFLOW, Can, Boolean),
];

const fn http(
    name: &'static str,
    unit: &'static str,
    measures: Measures,
    side: Side,
    attributes: &'static [Listed],
) -> Convention {
    Convention {
        name,
        unit,
        measures,
        side,
        is_http: true,
        attributes,
    }
}

const fn rpc(name: &'static str, side: Side) -> Convention {
    Convention {
        name,
        unit: "s",
        measures: Durations,
        side,
        is_http: false,
        attributes: RPC,
    }
}

#[rustfmt::skip]
const CONVENTIONS: &[Convention] = &[
    http("http.server.request.duration", "s", Durations, Server, HTTP_SERVER),
    http("http.client.request.duration", "s", Durations, Client, HTTP_CLIENT),
    http("http.server.active_requests", "{request}", Level, Server, ACTIVE),
    http("http.server.request.body.size", "By", Sizes, Server, HTTP_SERVER),
    http("http.server.response.body.size", "By", Sizes, Server, HTTP_SERVER),
    http("http.client.request.body.size", "By", Sizes, Client, HTTP_CLIENT),
    http("http.client.response.body.size", "By", Sizes, Client, HTTP_CLIENT),
    http("http.client.active_requests", "{request}", Level, Client, CLIENT_ACTIVE),
    http("http.client.open_connections", "{connection}", Level, Client, OPEN),
    http("http.client.connection.duration", "s", Durations, Client, OPEN),
    rpc("rpc.server.call.duration", Server),
    rpc("rpc.client.call.duration", Client),
];

/// The instrument of a name.
pub(super) fn by_name(name: &str) -> Option<&'static Convention> {
    CONVENTIONS
        .iter()
        .find(|convention| convention.name == name)
}

/// What replaced an instrument of earlier conventions.
pub(super) fn successor(name: &str) -> Option<&'static str> {
    Some(match name {
        "http.server.duration" => "http.server.request.duration",
        "http.client.duration" => "http.client.request.duration",
        "http.server.request.size" => "http.server.request.body.size",
        "http.server.response.size" => "http.server.response.body.size",
        "http.client.request.size" => "http.client.request.body.size",
        "http.client.response.size" => "http.client.response.body.size",
        "rpc.server.duration" => "rpc.server.call.duration",
        "rpc.client.duration" => "rpc.client.call.duration",
        _ => return None,
    })
}

/// What replaced an attribute of earlier conventions.
pub(super) fn attribute_successor(key: &str) -> Option<&'static str> {
    Some(match key {
        "http.method" => "http.request.method",
        "http.status_code" => "http.response.status_code",
        "http.scheme" => "url.scheme",
        "http.flavor" => "network.protocol.version",
        "http.host" | "net.host.name" | "net.peer.name" => "server.address",
        "net.host.port" | "net.peer.port" => "server.port",
        "rpc.system" => "rpc.system.name",
        "rpc.grpc.status_code" => "rpc.response.status_code",
        _ => return None,
    })
}

/// Attributes whose values nothing bounds, on whatever instrument.
pub(super) fn is_unbounded(key: &str) -> bool {
    matches!(
        key,
        "url.path"
            | "url.full"
            | "url.query"
            | "url.original"
            | "http.target"
            | "http.url"
            | "http.client_ip"
            | "client.address"
            | "client.port"
            | "network.peer.port"
            | "user_agent.original"
            | "http.user_agent"
            | "trace_id"
            | "span_id"
            | "enduser.id"
            | "user.id"
            | "session.id"
    )
}

/// Whether the conventions alone give names in the namespace of a name.
pub(super) fn is_governed(name: &str) -> bool {
    ["http.", "rpc."]
        .iter()
        .any(|namespace| name.starts_with(namespace))
}

/// Methods that are told by name.
pub(super) const METHODS: [&str; 11] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
    "_OTHER",
];
