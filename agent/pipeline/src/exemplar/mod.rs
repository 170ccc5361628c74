//! Stage 6, links to traces: a measurement and its request's trace in, at each collection a few of them out.
//!
//! A request is told by its headers, picked by the policy, and kept in its series' reservoir until the collection.

mod choice;
mod random;
mod reservoir;

pub(crate) use choice::{Chooser, ErrorRate};
pub(crate) use random::Random;
pub(crate) use reservoir::{Exemplars, Place};

use kerntally_wire::TraceFormats;

/// How exemplars are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarConfig {
    /// Which requests may become one.
    pub filter: ExemplarFilter,
    /// Which of them are kept.
    pub policy: ExemplarPolicy,
    /// How many a series keeps between two collections.
    pub per_series: usize,
    /// Headers that are looked at.
    pub formats: TraceFormats,
    /// Bounds of [`ExemplarPolicy::Budget`].
    pub budget: ExemplarBudget,
}

impl Default for ExemplarConfig {
    fn default() -> Self {
        Self {
            filter: ExemplarFilter::default(),
            policy: ExemplarPolicy::default(),
            per_series: 4,
            formats: TraceFormats::new(kerntally_wire::TraceFormat::ALL),
            budget: ExemplarBudget::default(),
        }
    }
}

/// Which requests may become exemplars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExemplarFilter {
    /// Those whose headers say that their trace is sampled.
    #[default]
    TraceBased,
    /// All that name a trace.
    AlwaysOn,
    /// None; their headers are not looked at.
    AlwaysOff,
}

/// Which requests are kept as exemplars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExemplarPolicy {
    /// Errors first, then what is slower than 95 % of its series, then any.
    #[default]
    Tail,
    /// Any, each as likely as another.
    Uniform,
    /// Errors, and a share of the rest: all of it while too much fails.
    Budget,
}

/// Bounds of [`ExemplarPolicy::Budget`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarBudget {
    /// Share of requests without an error that may become exemplars.
    pub healthy: f64,
    /// Share of errors from which on every request may.
    pub max_error_rate: f64,
}

impl Default for ExemplarBudget {
    fn default() -> Self {
        Self {
            healthy: 0.01,
            max_error_rate: 0.05,
        }
    }
}

/// A request that was picked, to be kept in its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Trace.
    pub(crate) trace_id: [u8; 16],
    /// Span of this process.
    pub(crate) span_id: Option<[u8; 8]>,
    /// End of the request, in nanoseconds since the Unix epoch.
    pub(crate) time_unix_ns: u64,
    /// How interesting it is.
    pub(crate) interest: Interest,
}

/// What a policy prefers, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Interest {
    /// One as good as another.
    Any,
    /// [`Interest::Slow`] if its duration is beyond what is usual in its series, else [`Interest::Any`].
    ByDuration,
    /// Slower than 95 % of its series.
    Slow,
    /// It failed.
    Error,
}
