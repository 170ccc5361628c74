//! Pushes requests to a collector: one push at a time, bounded in time and memory, nothing queued.
//!
//! Points are cumulative: what a failed push held is dropped, and the next snapshot says it again.

mod grpc;
mod http_protobuf;
mod retry;
mod transport;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use tokio::time::Instant;

use crate::{
    ExportMetricsServiceRequest, VERSION,
    encode::points_in,
    endpoint::{Endpoint, OtlpSettings, Protocol},
};

pub use transport::TlsError;

pub(crate) use grpc::metadata;
pub(crate) use http_protobuf::HttpTransport;

/// Responses longer than this are refused, as the protocol demands.
pub(crate) const RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// A collector's wish to be left alone is honoured up to this long.
const THROTTLE_MAX: Duration = Duration::from_mins(5);

/// What a collector says about an error is repeated up to this length.
const MESSAGE_CHARS: usize = 256;

/// Version of the crate that encodes OTLP, for the user agent.
const OTLP_CRATE_VERSION: &str = "0.33.1";

/// Why a push failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The previous push is still under way.
    #[error("the previous push is still under way")]
    Busy,
    /// The collector asked to be left alone for longer than a push may take.
    #[error("the collector asked to wait, {} s of it are left", left.as_secs())]
    Throttled {
        /// How much longer.
        left: Duration,
    },
    /// No answer within the time for a push.
    #[error("no answer within {} ms", timeout.as_millis())]
    Timeout {
        /// The time.
        timeout: Duration,
    },
    /// The connection could not be made, or was cut before the answer.
    #[error("connection failed: {reason}")]
    Connection {
        /// What the transport said.
        reason: String,
    },
    /// A gRPC status other than OK.
    #[error("the collector answered {code}: {message}")]
    Grpc {
        /// Name of the code.
        code: String,
        /// Its message, cut and without control characters.
        message: String,
    },
    /// An HTTP status other than 2xx.
    #[error("the collector answered {status}: {message}")]
    Http {
        /// The status.
        status: u16,
        /// Its message, cut and without control characters.
        message: String,
    },
    /// The answer is longer than the protocol allows.
    #[error("the answer is longer than {RESPONSE_BYTES} bytes")]
    ResponseTooLarge,
    /// The answer says success but is not OTLP: something else listens there.
    #[error("the answer is not OTLP ({reason}); is `{endpoint}` a collector?")]
    NotOtlp {
        /// Who answered.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why an exporter could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A header that gRPC reserves or cannot carry.
    #[error("header `{name}` cannot be sent over gRPC")]
    Header {
        /// Its name.
        name: String,
    },
    /// The endpoint as gRPC sees it.
    #[error("endpoint `{endpoint}` cannot be used")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What the transport said.
        source: tonic::transport::Error,
    },
}

/// What became of one push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "series may only be forgotten once their last point was accepted"]
pub struct PushOutcome {
    /// Points the collector took.
    pub points_sent: u64,
    /// Points the collector refused in an otherwise accepted request.
    pub points_rejected: u64,
    /// Points that never arrived; the next snapshot heals them.
    pub points_dropped: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// The first error, if there was one.
    pub error: Option<PushError>,
}

impl PushOutcome {
    /// Every request was accepted; refused points count as answered, they would be refused again.
    pub fn accepted(&self) -> bool {
        self.error.is_none()
    }
}

/// Totals since the start, for the agent's own health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportStats {
    /// Pushes that were accepted in full.
    pub pushes_ok: u64,
    /// Pushes that were not.
    pub pushes_failed: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Points the collector took.
    pub points_sent: u64,
    /// Points the collector refused.
    pub points_rejected: u64,
    /// Points that never arrived.
    pub points_dropped: u64,
    /// The latest error, kept after a success.
    pub last_error: Option<String>,
    /// Whether the latest push failed.
    pub failing: bool,
    /// When a push was last accepted, in nanoseconds since the Unix epoch.
    pub last_success_unix_ns: Option<u64>,
}

/// Pushes to one endpoint.
#[derive(Debug)]
pub struct Exporter {
    settings: OtlpSettings,
    transport: Transport,
    /// Held during a push. Until when the collector wants to be left alone.
    flight: tokio::sync::Mutex<Option<Instant>>,
    stats: Mutex<ExportStats>,
}

#[derive(Debug)]
enum Transport {
    Grpc(Box<grpc::GrpcTransport>),
    Http(Box<HttpTransport>),
}

/// A collector's good answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepted {
    rejected_points: u64,
    message: String,
}

/// A bad answer or none, and whether the same request may be tried again.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: PushError,
    retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Never,
    Backoff,
    After(Duration),
}

impl Exporter {
    /// Sets up a push; connects at the first one. Must be called within a tokio runtime.
    pub fn new(settings: OtlpSettings) -> Result<Self, SetupError> {
        let transport = match settings.endpoint.protocol() {
            Protocol::Grpc => Transport::Grpc(Box::new(grpc::GrpcTransport::new(&settings)?)),
            Protocol::HttpProtobuf => Transport::Http(Box::new(HttpTransport::new(&settings)?)),
        };
        Ok(Self {
            settings,
            transport,
            flight: tokio::sync::Mutex::default(),
            stats: Mutex::default(),
        })
    }

    /// Where to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.settings.endpoint
    }

    /// Totals so far.
    pub fn stats(&self) -> ExportStats {
        self.lock_stats().clone()
    }

    /// Pushes the requests of one snapshot, one after the other. Takes at most the timeout for each, and
    /// gives up the rest once the collector does not answer.
    pub async fn push(&self, requests: &[ExportMetricsServiceRequest]) -> PushOutcome {
        let outcome = match self.flight.try_lock() {
            Ok(mut throttled_until) => self.push_alone(requests, &mut throttled_until).await,
            Err(_) => PushOutcome {
                points_dropped: requests.iter().map(points_in).sum(),
                error: Some(PushError::Busy),
                ..PushOutcome::default()
            },
        };
        self.record(&outcome);
        outcome
    }

    async fn push_alone(
        &self,
        requests: &[ExportMetricsServiceRequest],
        throttled_until: &mut Option<Instant>,
    ) -> PushOutcome {
        let mut outcome = PushOutcome::default();
        let mut stopped = throttled_until
            .map(|until| until.saturating_duration_since(Instant::now()))
            .filter(|left| !left.is_zero())
            .map(|left| PushError::Throttled { left });
        for request in requests {
            let points = points_in(request);
            if stopped.is_some() {
                outcome.points_dropped += points;
                continue;
            }
            let sent = self.send(request, &mut outcome.retries).await;
            match sent {
                Ok(accepted) => note_accepted(&mut outcome, points, &accepted),
                Err(Refusal { error, retry }) => {
                    outcome.points_dropped += points;
                    if let Retry::After(delay) = retry {
                        *throttled_until = Some(Instant::now() + delay.min(THROTTLE_MAX));
                    }
                    // A refused request says nothing about the next one; a silent collector does.
                    if retry == Retry::Never {
                        outcome.error.get_or_insert(error);
                    } else {
                        stopped = Some(error);
                    }
                }
            }
        }
        outcome.error = outcome.error.or(stopped);
        outcome
    }

    async fn send(
        &self,
        request: &ExportMetricsServiceRequest,
        retries: &mut u64,
    ) -> Result<Accepted, Refusal> {
        let timeout = self.settings.timeout;
        match &self.transport {
            Transport::Grpc(grpc) => retry::until(timeout, retries, || grpc.send(request)).await,
            Transport::Http(http) => {
                let body = http.body(request);
                retry::until(timeout, retries, || http.send(body.clone())).await
            }
        }
    }

    /// The channel to share with the agent's own telemetry, over gRPC.
    pub(crate) fn channel(&self) -> Option<tonic::transport::Channel> {
        match &self.transport {
            Transport::Grpc(grpc) => Some(grpc.channel()),
            Transport::Http(_) => None,
        }
    }

    /// The settings it was built from.
    pub(crate) fn settings(&self) -> &OtlpSettings {
        &self.settings
    }

    fn record(&self, outcome: &PushOutcome) {
        let mut stats = self.lock_stats();
        stats.retries += outcome.retries;
        stats.points_sent += outcome.points_sent;
        stats.points_rejected += outcome.points_rejected;
        stats.points_dropped += outcome.points_dropped;
        let endpoint = &self.settings.endpoint;
        if let Some(error) = &outcome.error {
            if !stats.failing {
                tracing::warn!(%endpoint, %error, dropped = outcome.points_dropped, "push failed");
            }
            stats.pushes_failed += 1;
            stats.failing = true;
            stats.last_error = Some(error.to_string());
            return;
        }
        if stats.failing {
            tracing::warn!(%endpoint, failed = stats.pushes_failed, "push works again");
        }
        stats.pushes_ok += 1;
        stats.failing = false;
        stats.last_success_unix_ns = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok());
    }

    fn lock_stats(&self) -> MutexGuard<'_, ExportStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Value of the `User-Agent` header.
pub(crate) fn user_agent() -> String {
    format!("kerntally/{VERSION} OTel-OTLP-Exporter-Rust/{OTLP_CRATE_VERSION}")
}

fn note_accepted(outcome: &mut PushOutcome, points: u64, accepted: &Accepted) {
    let rejected = accepted.rejected_points.min(points);
    outcome.points_rejected += rejected;
    outcome.points_sent += points - rejected;
    if rejected > 0 || !accepted.message.is_empty() {
        let message = &accepted.message;
        tracing::warn!(rejected, %message, "the collector took the request with remarks");
    }
}

impl From<ExportMetricsServiceResponse> for Accepted {
    /// A partial success that is set but empty is a success.
    fn from(response: ExportMetricsServiceResponse) -> Self {
        response
            .partial_success
            .map_or_else(Self::default, |partial| Self {
                rejected_points: u64::try_from(partial.rejected_data_points).unwrap_or(0),
                message: printable(&partial.error_message),
            })
    }
}

/// The cause at the bottom, such as `connection refused`: the layers above only say where it passed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    printable(&error.to_string())
}

/// What may be logged and shown of a text from outside.
fn printable(text: &str) -> String {
    let clean = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(MESSAGE_CHARS).map(clean).collect()
}

#[cfg(test)]
mod tests;
