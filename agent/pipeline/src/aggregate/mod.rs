//! Stage 6: durations in, series of exponential histograms out, within limits.

mod attributes;
mod histogram;
mod mapping;
mod names;
mod series;

pub(crate) use attributes::Values;
pub use attributes::{
    AttributeName, AttributeSet, ErrorKey, STATUS_CLASS, StatusKey, UnknownAttribute,
};
pub use histogram::{Histogram, MAX_BUCKETS};
pub use mapping::{MAX_SCALE, index, lower_bound};
pub(crate) use names::{Hosts, Methods};
pub use series::{Generation, Usage};
pub(crate) use series::{Measurement, References, SeriesKey, SeriesTable};
