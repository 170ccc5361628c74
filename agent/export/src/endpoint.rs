//! Where and how to push: endpoint, protocol, compression, headers, TLS, as configuration and the standard
//! variables write them.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Uri, uri::Scheme};

/// Endpoint when none is named.
pub const DEFAULT_ENDPOINT: &str = "http://localhost:4317";

/// Time for one push, retries included, when none is named.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Port that stands for OTLP over HTTP when no protocol is named.
const HTTP_PORT: u16 = 4318;

/// Path of metrics below a base endpoint.
const METRICS_PATH: &str = "/v1/metrics";

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    HttpProtobuf,
    /// `http/json`
    HttpJson,
}

/// Whether requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// `none`
    None,
    /// `gzip`
    #[default]
    Gzip,
}

/// Which kind of variable or key an endpoint comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// For all signals: over HTTP `/v1/metrics` is appended, unless it already ends so.
    Base,
    /// For metrics alone (`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`): taken as it is.
    Metrics,
}

/// TLS of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file with the authorities to trust, in place of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file with the client's key.
    pub key: Option<PathBuf>,
    /// An endpoint without a scheme is plain text rather than TLS. A scheme always decides by itself.
    pub insecure: bool,
}

/// Where to push, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    protocol: Protocol,
    uri: Uri,
}

/// Headers of every push, checked; their values are secrets and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

/// Everything a push needs to know.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where to.
    pub endpoint: Endpoint,
    /// Compression of requests.
    pub compression: Compression,
    /// Time for one push, retries included.
    pub timeout: Duration,
    /// Headers of every request.
    pub headers: Headers,
    /// TLS, if the endpoint asks for it.
    pub tls: TlsSettings,
}

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Nothing there.
    #[error("endpoint is empty, expected a URL such as `{DEFAULT_ENDPOINT}`")]
    Empty,
    /// Not a URL.
    #[error("endpoint `{text}` is not a URL")]
    NotAUrl {
        /// What was given.
        text: String,
        /// What the parser said.
        source: http::Error,
    },
    /// Another scheme.
    #[error("endpoint scheme `{scheme}` is not supported, expected `http` or `https`")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// No host.
    #[error("endpoint has no host")]
    NoHost,
    /// A port that is no number of 16 bits.
    #[error("endpoint port is not a number from 0 to 65535")]
    Port,
    /// `user:password@host`.
    #[error("endpoint carries credentials, expected them in `headers`")]
    Credentials,
    /// gRPC has no paths of its own.
    #[error(
        "endpoint path `{path}` cannot be used with protocol `grpc`, expected none or a protocol over HTTP"
    )]
    PathWithGrpc {
        /// The path.
        path: String,
    },
    /// Unknown protocol.
    #[error("protocol `{text}` is not supported, expected `grpc`, `http/protobuf` or `http/json`")]
    Protocol {
        /// What was given.
        text: String,
    },
    /// Unknown compression.
    #[error("compression `{text}` is not supported, expected `gzip` or `none`")]
    Compression {
        /// What was given.
        text: String,
    },
    /// A header without a name, or with characters that headers cannot have.
    #[error("header {position} is not `name=value` with a valid name and value")]
    Header {
        /// Position in the list, from 1.
        position: usize,
    },
}

impl FromStr for Protocol {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            "http/json" => Ok(Self::HttpJson),
            _ => Err(EndpointError::Protocol {
                text: text.to_owned(),
            }),
        }
    }
}

impl FromStr for Compression {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "none" => Ok(Self::None),
            _ => Err(EndpointError::Compression {
                text: text.to_owned(),
            }),
        }
    }
}

impl Endpoint {
    /// Checks an endpoint. Without a protocol, port 4318 or a path means `http/protobuf`.
    pub fn parse(
        text: &str,
        kind: EndpointKind,
        protocol: Option<Protocol>,
        insecure: bool,
    ) -> Result<Self, EndpointError> {
        let uri = parse_uri(text, insecure)?;
        let has_path = uri.path() != "/" || uri.query().is_some();
        let protocol = protocol.unwrap_or(if has_path || uri.port_u16() == Some(HTTP_PORT) {
            Protocol::HttpProtobuf
        } else {
            Protocol::Grpc
        });
        match protocol {
            Protocol::Grpc if has_path => Err(EndpointError::PathWithGrpc {
                path: uri.path().to_owned(),
            }),
            Protocol::HttpProtobuf | Protocol::HttpJson if kind == EndpointKind::Base => Ok(Self {
                protocol,
                uri: with_metrics_path(text, uri)?,
            }),
            Protocol::Grpc | Protocol::HttpProtobuf | Protocol::HttpJson => {
                Ok(Self { protocol, uri })
            }
        }
    }

    /// How requests travel.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Scheme, host, port, and over HTTP the path.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether the connection is TLS.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

/// Without the query, which may hold a token.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self
            .uri
            .authority()
            .map_or("", http::uri::Authority::as_str);
        let path = if self.uri.path() == "/" {
            ""
        } else {
            self.uri.path()
        };
        write!(f, "{scheme}://{authority}{path}")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self}, {:?})", self.protocol)
    }
}

impl Headers {
    /// Checks pairs from a map in the configuration.
    pub fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, EndpointError> {
        let checked = pairs.into_iter().enumerate().map(|(index, (name, value))| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok();
            let value = HeaderValue::from_str(value).ok();
            name.zip(value).ok_or(EndpointError::Header {
                position: index + 1,
            })
        });
        Ok(Self(checked.collect::<Result<_, _>>()?))
    }

    /// Reads a list as `OTEL_EXPORTER_OTLP_HEADERS` has it: `name=value,name=value`, values percent-encoded.
    pub fn parse(list: &str) -> Result<Self, EndpointError> {
        let pairs = crate::resource::parse_attributes(list);
        let pairs = pairs.map_err(|error| match error {
            crate::resource::AttributesError::NotAPair { position } => {
                EndpointError::Header { position }
            }
            crate::resource::AttributesError::NotText { .. } => {
                EndpointError::Header { position: 1 }
            }
        })?;
        Self::new(
            pairs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )
    }

    /// Name and value of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            endpoint: Endpoint {
                protocol: Protocol::Grpc,
                uri: Uri::from_static(DEFAULT_ENDPOINT),
            },
            compression: Compression::default(),
            timeout: DEFAULT_TIMEOUT,
            headers: Headers::default(),
            tls: TlsSettings::default(),
        }
    }
}

fn parse_uri(text: &str, insecure: bool) -> Result<Uri, EndpointError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(EndpointError::Empty);
    }
    let not_a_url = |source| EndpointError::NotAUrl {
        text: shown(text),
        source,
    };
    let full = match text.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            scheme @ ("http" | "https") => format!("{scheme}://{rest}"),
            other => {
                return Err(EndpointError::Scheme {
                    scheme: other.to_owned(),
                });
            }
        },
        None if insecure => format!("http://{text}"),
        None => format!("https://{text}"),
    };
    let uri: Uri = full
        .parse()
        .map_err(|error: http::uri::InvalidUri| not_a_url(error.into()))?;
    let authority = uri.authority().ok_or(EndpointError::NoHost)?;
    if authority.as_str().contains('@') {
        return Err(EndpointError::Credentials);
    }
    if authority.host().is_empty() {
        return Err(EndpointError::NoHost);
    }
    let port = authority.as_str().strip_prefix(authority.host());
    if port.is_some_and(|port| !port.is_empty()) && uri.port_u16().is_none() {
        return Err(EndpointError::Port);
    }
    Ok(uri)
}

fn with_metrics_path(text: &str, uri: Uri) -> Result<Uri, EndpointError> {
    let path = uri.path().trim_end_matches('/');
    if path.ends_with(METRICS_PATH) {
        return Ok(uri);
    }
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let path_and_query = format!("{path}{METRICS_PATH}{query}");
    let mut parts = uri.into_parts();
    let not_a_url = |source| EndpointError::NotAUrl {
        text: shown(text),
        source,
    };
    parts.path_and_query = Some(
        path_and_query
            .parse()
            .map_err(|error: http::uri::InvalidUri| not_a_url(error.into()))?,
    );
    Uri::from_parts(parts).map_err(|error| not_a_url(error.into()))
}

/// What may be repeated of an endpoint that could not be read: no query, no credentials.
fn shown(text: &str) -> String {
    let without_query = text.split('?').next().unwrap_or_default();
    match without_query.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => without_query.to_owned(),
    }
}

#[cfg(test)]
mod tests;
