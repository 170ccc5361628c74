//! What became of a push, and why.

use std::time::Duration;

use super::{RESPONSE_BYTES, TlsError};

/// Why a push failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The previous push is still under way.
    #[error("the previous push is still under way")]
    Busy,
    /// Whoever waited for the push stopped waiting.
    #[error("the push was given up before it was answered")]
    GivenUp,
    /// The collector asked to be left alone for longer than a push may take.
    #[error("the collector asked to wait, {} s of it are left", left.as_secs())]
    Throttled {
        /// How much longer.
        left: Duration,
    },
    /// A delta batch was not answered within the time for which it is kept.
    #[error("a delta batch of {points} points was not answered in time and is dropped")]
    HoldOver {
        /// How many points it still had.
        points: u64,
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
    /// A request has no form that the protocol wants.
    #[error("the request could not be encoded: {reason}")]
    Encoding {
        /// What the encoder said.
        reason: String,
    },
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
    /// Points that never arrived; cumulative ones are healed by the next snapshot.
    pub points_dropped: u64,
    /// Delta points that were not answered and are kept to be sent again.
    pub points_held: u64,
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
    /// Delta points that wait to be sent again.
    pub points_held: u64,
    /// The latest error, kept after a success.
    pub last_error: Option<String>,
    /// What the collector last remarked about a request that it took.
    pub last_remark: Option<String>,
    /// Whether the latest push failed.
    pub failing: bool,
    /// When a push was last accepted, in nanoseconds since the Unix epoch.
    pub last_success_unix_ns: Option<u64>,
}
