//! The plain types that stages 2 to 7 hand to each other: no I/O, no clocks, no dependencies.
#![forbid(unsafe_code)]

mod exchange;
mod snapshot;
mod time;
mod workload;

pub use exchange::{EndReason, Exchange, HttpVersion, ProcessKey, Role, Scheme, SocketKey, Target};
pub use snapshot::{
    Attribute, AttributeValue, ExponentialHistogram, Instrument, InstrumentSnapshot, Point,
    PointValue, Snapshot, WorkloadSnapshot,
};
pub use time::Time;
pub use workload::{NameSource, Workload};
