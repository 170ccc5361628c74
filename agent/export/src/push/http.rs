//! OTLP over HTTP/1.1, bodies in protobuf or JSON.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message as _;
use serde::Deserialize;

use super::{
    Accepted, PushError, RESPONSE_BYTES, Refusal, Retry, innermost, printable, transport,
    user_agent,
};
use crate::{
    ExportMetricsServiceRequest,
    encode::{self, Payload},
    endpoint::{Compression, Endpoint, OtlpSettings, Protocol},
};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

const BODY_HEADERS: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Idle connections are closed after this, before most servers do it in the middle of a request.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub(crate) struct HttpTransport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Endpoint,
    headers: HeaderMap,
    compression: Compression,
    is_json: bool,
}

/// An answer, read in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A request body, ready to be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    bytes: Bytes,
    gzip: bool,
}

/// An answer in JSON, whose numbers of 64 bits are strings: the generated types take them as numbers only.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonResponse {
    partial_success: Option<JsonPartialSuccess>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonPartialSuccess {
    rejected_data_points: JsonInteger,
    error_message: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonInteger {
    Number(i64),
    Text(String),
}

impl HttpTransport {
    pub(crate) fn new(settings: &OtlpSettings) -> Result<Self, transport::TlsError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build(transport::connector(settings)?);
        let headers = settings
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        Ok(Self {
            client,
            endpoint: settings.endpoint.clone(),
            headers: headers.collect(),
            compression: settings.compression,
            is_json: settings.endpoint.protocol() == Protocol::HttpJson,
        })
    }

    /// Whether bodies are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// The body of a request: the same for the same payload.
    pub(crate) fn body(&self, payload: &Payload) -> Result<Body, Refusal> {
        let plain = if self.is_json {
            json(&payload.bytes)?
        } else {
            payload.bytes.clone()
        };
        let packed = match self.compression {
            Compression::Gzip => gzip(&plain),
            Compression::None => None,
        };
        Ok(Body {
            gzip: packed.is_some(),
            bytes: packed.map_or(plain, Bytes::from),
        })
    }

    /// The request that carries a body.
    pub(crate) fn request(&self, body: Body) -> Request<Bytes> {
        let mut request = Request::new(body.bytes);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri().clone();
        let headers = request.headers_mut();
        let content_type = if self.is_json { JSON } else { PROTOBUF };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if body.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        request
    }

    pub(super) async fn send(&self, body: Body) -> Result<Accepted, Refusal> {
        self.judge(&self.exchange(self.request(body)).await?)
    }

    /// Sends any request with the configured headers and reads its answer, which is bounded.
    pub(crate) async fn exchange(&self, mut request: Request<Bytes>) -> Result<Answer, Refusal> {
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            // What describes the body is not for configuration to say.
            if !BODY_HEADERS.contains(name) {
                headers.insert(name, value.clone());
            }
        }
        if let Ok(agent) = HeaderValue::from_str(&user_agent()) {
            headers.insert(header::USER_AGENT, agent);
        }
        let response = self.client.request(request.map(Full::new)).await;
        let response = response.map_err(|error| connection_failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal {
                    error: PushError::ResponseTooLarge,
                    retry: Retry::Never,
                }
            } else {
                connection_failed(error.as_ref())
            }
        })?;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    fn judge(&self, answer: &Answer) -> Result<Accepted, Refusal> {
        if answer.status.is_success() {
            return self.read_success(answer);
        }
        let error = PushError::Http {
            status: answer.status.as_u16(),
            message: error_message(answer),
        };
        Err(Refusal {
            error,
            retry: retry_of(answer, SystemTime::now()),
        })
    }

    fn read_success(&self, answer: &Answer) -> Result<Accepted, Refusal> {
        if answer.body.is_empty() {
            return Ok(Accepted::default());
        }
        let response = match content_type(answer) {
            PROTOBUF | "" => ExportMetricsServiceResponse::decode(answer.body.clone())
                .map_err(|error| error.to_string()),
            JSON => serde_json::from_slice::<JsonResponse>(&answer.body)
                .map(ExportMetricsServiceResponse::from)
                .map_err(|error| error.to_string()),
            other => Err(format!("content type {}", printable(other))),
        };
        response.map(Accepted::from).map_err(|reason| Refusal {
            error: PushError::NotOtlp {
                endpoint: self.endpoint.to_string(),
                reason,
            },
            retry: Retry::Never,
        })
    }
}

impl Default for JsonInteger {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl From<JsonResponse> for ExportMetricsServiceResponse {
    fn from(response: JsonResponse) -> Self {
        let partial_success = response
            .partial_success
            .map(|partial| ExportMetricsPartialSuccess {
                rejected_data_points: match partial.rejected_data_points {
                    JsonInteger::Number(number) => number,
                    JsonInteger::Text(text) => text.parse().unwrap_or(0),
                },
                error_message: partial.error_message,
            });
        Self { partial_success }
    }
}

/// The JSON mapping of a request that was encoded before.
fn json(protobuf: &Bytes) -> Result<Bytes, Refusal> {
    let refused = |reason: String| Refusal {
        error: PushError::Encoding { reason },
        retry: Retry::Never,
    };
    let request = ExportMetricsServiceRequest::decode(protobuf.clone())
        .map_err(|error| refused(error.to_string()))?;
    let json = encode::json(&request).map_err(|error| refused(error.to_string()))?;
    Ok(json.into())
}

fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Level::default());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

fn connection_failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let reason = innermost(error);
    Refusal {
        error: PushError::Connection { reason },
        retry: Retry::Backoff,
    }
}

fn content_type(answer: &Answer) -> &str {
    let value = answer.headers.get(header::CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// <https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes>
fn retry_of(answer: &Answer, now: SystemTime) -> Retry {
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            retry_after(&answer.headers, now).map_or(Retry::Backoff, Retry::After)
        }
        _ => Retry::Never,
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Errors carry a `google.rpc.Status`, or text.
fn error_message(answer: &Answer) -> String {
    if content_type(answer) == PROTOBUF {
        return tonic_types::Status::decode(answer.body.clone())
            .map(|status| printable(&status.message))
            .unwrap_or_default();
    }
    printable(&String::from_utf8_lossy(
        answer.body.get(..1024).unwrap_or(&answer.body),
    ))
}
