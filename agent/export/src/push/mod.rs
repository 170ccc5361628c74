//! Pushes requests to a collector: one push at a time, bounded in time and memory, nothing queued.
//!
//! Points are cumulative: what a failed push held is dropped, and the next snapshot says it again.

mod account;
mod grpc;
mod http_protobuf;
mod outcome;
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

pub use outcome::{ExportStats, PushError, PushOutcome, SetupError};
pub use transport::{TlsError, TlsFile};

use account::Account;

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
    /// gives up the rest once the collector does not answer. Dropped half-way, it counts what was left.
    pub async fn push(&self, requests: &[ExportMetricsServiceRequest]) -> PushOutcome {
        let mut account = Account::open(self, requests);
        match self.flight.try_lock() {
            Ok(mut throttled_until) => {
                self.push_alone(requests, &mut throttled_until, &mut account)
                    .await;
            }
            Err(_) => account.stop(PushError::Busy),
        }
        account.close()
    }

    async fn push_alone(
        &self,
        requests: &[ExportMetricsServiceRequest],
        throttled_until: &mut Option<Instant>,
        account: &mut Account<'_>,
    ) {
        let left = throttled_until.map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return account.stop(PushError::Throttled { left });
        }
        for request in requests {
            let sent = self.send(request, &mut account.outcome.retries).await;
            let Refusal { error, retry } = match sent {
                Ok(accepted) => {
                    account.note_accepted(points_in(request), &accepted);
                    continue;
                }
                Err(refusal) => refusal,
            };
            account.stop(error);
            if let Retry::After(delay) = retry {
                *throttled_until = Some(Instant::now() + delay.min(THROTTLE_MAX));
            }
            // A refused request says nothing about the next one; a silent collector does.
            if retry != Retry::Never {
                return;
            }
        }
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
