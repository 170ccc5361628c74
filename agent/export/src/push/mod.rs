//! Pushes requests to a collector: one push at a time, bounded in time and memory, nothing queued.
//!
//! What a failed push held of cumulative points is dropped: the next snapshot says it again. Of delta points one
//! batch is kept and sent again as it is until it is answered or too old.

mod account;
mod grpc;
mod held;
mod http;
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
    VERSION,
    encode::{Batch, Payload},
    endpoint::{Endpoint, OtlpSettings, Protocol},
};

pub use outcome::{ExportStats, PushError, PushOutcome, SetupError};
pub use transport::{TlsError, TlsFile};

use account::Account;
use held::Held;

pub(crate) use self::http::HttpTransport;
pub(crate) use grpc::metadata;

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
    /// Locked during a push.
    flight: tokio::sync::Mutex<Flight>,
    stats: Mutex<ExportStats>,
}

/// What outlives a push.
#[derive(Debug, Default)]
struct Flight {
    /// Until when the collector wants to be left alone.
    throttled_until: Option<Instant>,
    /// The delta batch that is not answered yet.
    held: Option<Held>,
}

#[derive(Debug)]
enum Transport {
    Grpc(Box<grpc::GrpcTransport>),
    Http(Box<HttpTransport>),
    #[cfg(test)]
    Scripted(tests::Script),
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
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                Transport::Http(Box::new(HttpTransport::new(&settings)?))
            }
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

    /// Pushes the requests of one cumulative snapshot, one after the other. Takes at most the timeout for each,
    /// and gives up the rest once the collector does not answer. Dropped half-way, it counts what was left.
    pub async fn push(&self, batch: Batch) -> PushOutcome {
        let mut account = Account::open(self, batch.points(), false);
        match self.flight.try_lock() {
            Ok(mut flight) => self.push_alone(batch, &mut flight, &mut account).await,
            Err(_) => account.stop(PushError::Busy),
        }
        account.close()
    }

    /// Pushes a batch of delta points. What is not answered is kept, to be pushed again with
    /// [`Exporter::push_again`] for as long as `hold`; a batch kept before it is given up.
    pub async fn push_once(&self, batch: Batch, hold: Duration) -> PushOutcome {
        let points = batch.points();
        let next = Held::new(batch.rest().await, hold);
        let mut flight = self.flight.lock().await;
        let not_encoded = points.saturating_sub(next.points());
        let before = flight.held.replace(next);
        self.lock_stats().points_dropped += not_encoded + before.map_or(0, |held| held.points());
        self.push_held(&mut flight).await
    }

    /// Pushes what is kept, byte for byte.
    pub async fn push_again(&self) -> PushOutcome {
        let mut flight = self.flight.lock().await;
        self.push_held(&mut flight).await
    }

    /// Whether a delta batch is being pushed or kept: the next one must wait.
    pub fn is_holding(&self) -> bool {
        self.flight
            .try_lock()
            .map_or(true, |flight| flight.held.is_some())
    }

    /// Takes the place of another exporter: goes on with its totals, and with the batch it keeps if `keeps`.
    pub async fn take_over(&self, before: &Self, keeps: bool) {
        let mut theirs = before.flight.lock().await;
        *self.lock_stats() = before.stats();
        if let Some(held) = theirs.held.take() {
            if keeps {
                self.flight.lock().await.held = Some(held);
                return;
            }
            let mut stats = self.lock_stats();
            stats.points_dropped += held.points();
            stats.points_held = 0;
        }
    }

    async fn push_alone(&self, mut batch: Batch, flight: &mut Flight, account: &mut Account<'_>) {
        if let Some(error) = flight.throttled() {
            return account.stop(error);
        }
        while let Some(payload) = batch.next().await {
            let sent = self.send(&payload, &mut account.outcome.retries).await;
            if !flight.note(sent, &payload, account) {
                return;
            }
        }
        if account.is_open() {
            account.stop(PushError::Encoding {
                reason: "the encoder ended before its snapshot".to_owned(),
            });
        }
    }

    async fn push_held(&self, flight: &mut Flight) -> PushOutcome {
        let Some(points) = flight.held.as_ref().map(Held::points) else {
            return PushOutcome::default();
        };
        let mut account = Account::open(self, points, true);
        if let Some(error) = flight.throttled() {
            account.stop(error);
        } else {
            // Each stays where it is until it is answered: this may be dropped half-way.
            while let Some(payload) = flight.held.as_ref().and_then(Held::next) {
                let sent = self.send(&payload, &mut account.outcome.retries).await;
                if !flight.note(sent, &payload, &mut account) {
                    break;
                }
                if let Some(held) = &mut flight.held {
                    held.advance();
                }
            }
        }
        flight.held = flight.held.take().filter(|held| held.points() > 0);
        if let Some(late) = flight.held.take_if(|held| held.is_over()) {
            let points = late.points();
            account.note_dropped(points);
            account.stop(PushError::HoldOver { points });
        }
        account.close()
    }

    async fn send(&self, payload: &Payload, retries: &mut u64) -> Result<Accepted, Refusal> {
        let timeout = self.settings.timeout;
        match &self.transport {
            Transport::Grpc(grpc) => retry::until(timeout, retries, || grpc.send(payload)).await,
            Transport::Http(http) => {
                let body = http.body(payload)?;
                retry::until(timeout, retries, || http.send(body.clone())).await
            }
            #[cfg(test)]
            Transport::Scripted(script) => {
                retry::until(timeout, retries, || script.send(payload)).await
            }
        }
    }

    /// The channel to share with the agent's own telemetry, over gRPC.
    pub(crate) fn channel(&self) -> Option<tonic::transport::Channel> {
        match &self.transport {
            Transport::Grpc(grpc) => Some(grpc.channel()),
            Transport::Http(_) => None,
            #[cfg(test)]
            Transport::Scripted(_) => None,
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
        stats.points_held = outcome.points_held;
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

    /// The same remark comes with every push: it is logged when it changes.
    fn note_remark(&self, rejected: u64, message: &str) {
        let mut stats = self.lock_stats();
        if stats.last_remark.as_deref() != Some(message) {
            tracing::warn!(rejected, %message, "the collector took the request with remarks");
            stats.last_remark = Some(message.to_owned());
        }
    }

    fn lock_stats(&self) -> MutexGuard<'_, ExportStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Why nothing may be sent now.
    fn throttled(&self) -> Option<PushError> {
        let left = self
            .throttled_until?
            .saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(PushError::Throttled { left })
    }

    /// Takes an answer into the account; whether the next request may follow. A refused request says nothing
    /// about the next one; a silent collector does.
    fn note(
        &mut self,
        sent: Result<Accepted, Refusal>,
        payload: &Payload,
        account: &mut Account<'_>,
    ) -> bool {
        let Refusal { error, retry } = match sent {
            Ok(accepted) => {
                account.note_accepted(payload.points, &accepted);
                return true;
            }
            Err(refusal) => refusal,
        };
        account.stop(error);
        if let Retry::After(delay) = retry {
            self.throttled_until = Some(Instant::now() + delay.min(THROTTLE_MAX));
        }
        if retry == Retry::Never {
            account.note_dropped(payload.points);
        }
        retry == Retry::Never
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
