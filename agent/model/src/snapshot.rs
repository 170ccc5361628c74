//! The seam between stages 6 and 7: what a collection hands to the exporter.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{ProcessKey, Workload};

/// Instruments this agent emits about the services it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Instrument {
    /// `http.server.request.duration`
    HttpServerRequestDuration,
    /// `http.client.request.duration`
    HttpClientRequestDuration,
    /// `http.server.active_requests`
    HttpServerActiveRequests,
}

/// What the points of one metric cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Everything since the series began.
    #[default]
    Cumulative,
    /// Everything since the collection before.
    Delta,
}

/// How a view renames an instrument; without one it keeps the name and unit of the semantic conventions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricName {
    /// Name.
    pub name: Arc<str>,
    /// Unit, as UCUM writes it.
    pub unit: Arc<str>,
}

/// Value of a point's attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeValue {
    /// A string.
    Text(Arc<str>),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
}

/// An attribute of a point; keys are names of the semantic conventions, or what a view renames them to.
pub type Attribute = (Cow<'static, str>, AttributeValue);

/// One measurement that leads to a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The measurement, in the metric's unit.
    pub value: f64,
    /// When it was made, in nanoseconds since the Unix epoch; within the point's window.
    pub time_unix_ns: u64,
    /// Trace.
    pub trace_id: [u8; 16],
    /// Span, where the header names one of this process's own.
    pub span_id: Option<[u8; 8]>,
}

/// Base-2 exponential histogram of non-negative values in the instrument's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialHistogram {
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Smallest, if there is one.
    pub min: Option<f64>,
    /// Largest, if there is one.
    pub max: Option<f64>,
    /// Resolution: the base is `2^(2^-scale)`.
    pub scale: i32,
    /// Values that are exactly zero.
    pub zero_count: u64,
    /// Index of the first bucket.
    pub offset: i32,
    /// Counts of the buckets from `offset` on; bucket `i` holds `(base^i, base^(i+1)]`.
    pub buckets: Vec<u64>,
}

/// Histogram with boundaries of its own, of non-negative values in the instrument's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplicitHistogram {
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Smallest, if there is one.
    pub min: Option<f64>,
    /// Largest, if there is one.
    pub max: Option<f64>,
    /// Upper bounds of the buckets but the last, ascending; a bucket includes its bound.
    pub boundaries: Arc<[f64]>,
    /// Counts of the buckets, one more than there are boundaries.
    pub buckets: Vec<u64>,
}

/// What a point carries.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// A distribution.
    Exponential(ExponentialHistogram),
    /// A distribution over given boundaries.
    Explicit(ExplicitHistogram),
    /// A number that goes up and down.
    UpDown(i64),
    /// The series ended: a point with the no-recorded-value flag.
    NoRecordedValue,
}

/// One series at one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Attributes, sorted by key.
    pub attributes: Arc<[Attribute]>,
    /// Start of the series, in nanoseconds since the Unix epoch.
    pub start_unix_ns: u64,
    /// Time of the collection, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// The value.
    pub value: PointValue,
    /// Measurements that lead to traces, sorted by time; each is handed over once.
    pub exemplars: Vec<Exemplar>,
}

/// All series of one instrument of one workload.
#[derive(Clone, Debug)]
pub struct InstrumentSnapshot {
    /// Which.
    pub instrument: Instrument,
    /// Name and unit given by a view.
    pub renamed: Option<MetricName>,
    /// What the points cover.
    pub temporality: Temporality,
    /// Its series.
    pub points: Vec<Point>,
}

/// All instruments of one workload, or of one of its processes.
#[derive(Clone, Debug)]
pub struct WorkloadSnapshot {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The process, where each is told by itself; `None` for what stands for all of them.
    pub process: Option<ProcessKey>,
    /// Its instruments that have series.
    pub instruments: Vec<InstrumentSnapshot>,
}

/// One collection.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Workloads that have series.
    pub workloads: Vec<WorkloadSnapshot>,
}

impl Snapshot {
    /// Number of points.
    pub fn points(&self) -> u64 {
        let instruments = self.workloads.iter().flat_map(|each| &each.instruments);
        instruments.map(|each| each.points.len() as u64).sum()
    }
}

impl AsRef<Self> for Snapshot {
    fn as_ref(&self) -> &Self {
        self
    }
}
