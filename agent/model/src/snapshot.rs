//! The seam between stages 6 and 7: what a collection hands to the exporter.

use std::sync::Arc;

use crate::Workload;

/// Instruments this agent emits about the services it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Instrument {
    /// `http.server.request.duration`
    HttpServerRequestDuration,
    /// `http.client.request.duration`
    HttpClientRequestDuration,
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

/// An attribute of a point; keys are names of the semantic conventions.
pub type Attribute = (&'static str, AttributeValue);

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

/// What a point carries.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// A distribution.
    Exponential(ExponentialHistogram),
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
}

/// All series of one instrument of one workload.
#[derive(Clone, Debug)]
pub struct InstrumentSnapshot {
    /// Which.
    pub instrument: Instrument,
    /// Its series.
    pub points: Vec<Point>,
}

/// All instruments of one workload.
#[derive(Clone, Debug)]
pub struct WorkloadSnapshot {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its instruments that have series.
    pub instruments: Vec<InstrumentSnapshot>,
}

/// One collection, cumulative.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Workloads that have series.
    pub workloads: Vec<WorkloadSnapshot>,
}
