//! Stage 6: durations in, series of histograms out, within limits.

mod account;
mod attributes;
mod collect;
mod counts;
mod explicit;
mod histogram;
mod limits;
mod mapping;
mod minted;
mod names;
mod recipe;
mod series;
mod table;
mod unit;
mod value;
mod values;

pub use account::Usage;
pub(crate) use attributes::place;
pub use attributes::{AttributeName, AttributeSet, INSTRUMENTS, UnknownAttribute, instrument_name};
pub(crate) use collect::Held;
pub use histogram::{Histogram, MAX_BUCKETS};
pub use mapping::{MAX_SCALE, index, index_at, lower_bound};
pub use minted::AttributeUse;
pub(crate) use names::{Hosts, Methods};
pub(crate) use recipe::{Measured, Recipe, Recipes, recipes};
pub use series::Generation;
pub(crate) use series::{Facts, SeriesKey};
pub(crate) use table::{Own, References, SeriesTable};
pub use unit::{ADVISED_BOUNDARIES, Part, Unit};
pub(crate) use values::Values;
pub use values::{ErrorKey, STATUS_CLASS, StatusKey};
