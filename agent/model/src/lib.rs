//! The plain types that stages 2 to 7 hand to each other: no I/O, no clocks, no dependencies.
#![forbid(unsafe_code)]

mod exchange;
mod snapshot;
mod time;
mod workload;

pub use exchange::{EndReason, Exchange, HttpVersion, ProcessKey, Role, Scheme, SocketKey, Target};
pub use snapshot::{
    Attribute, AttributeValue, Exemplar, ExplicitHistogram, ExponentialHistogram, Instrument,
    InstrumentSnapshot, MetricName, Point, PointValue, Snapshot, Temporality, WorkloadSnapshot,
};
pub use time::Time;
pub use workload::{NameSource, Workload};
