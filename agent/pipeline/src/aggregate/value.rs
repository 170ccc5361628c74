//! What a series holds, and how it is handed out without being copied.

use std::sync::Arc;

use kerntally_model::PointValue;

use super::explicit::Explicit;
use super::histogram::Histogram;
use super::recipe::Measured;
use super::unit::Unit;
use crate::exemplar::Place;

/// What a series holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Exponential(Histogram),
    Explicit(Explicit),
    UpDown(i64),
    /// A collection has it too. Copied only if a measurement comes while the collection is still needed.
    Shared(Arc<Self>),
}

impl Value {
    pub(super) fn exponential() -> Self {
        Self::Exponential(Histogram::default())
    }

    pub(super) fn explicit(boundaries: &Arc<[f64]>) -> Self {
        Self::Explicit(Explicit::new(Arc::clone(boundaries)))
    }

    /// Takes a measurement in.
    pub(super) fn record(&mut self, measured: Measured<'_>, unit: Unit) {
        match (&mut *self, measured) {
            (Self::Exponential(histogram), Measured::Exchange { duration_ns, .. }) => {
                histogram.record(duration_ns, unit);
            }
            (Self::Explicit(histogram), Measured::Exchange { duration_ns, .. }) => {
                histogram.record(duration_ns, unit);
            }
            (Self::Exponential(histogram), Measured::Part(part)) => histogram.merge(part, unit),
            (Self::Explicit(histogram), Measured::Part(part)) => histogram.merge(part, unit),
            (Self::UpDown(value), Measured::Open(more)) => *value = value.saturating_add(more),
            (Self::Shared(_), _) => {
                self.unshare();
                self.record(measured, unit);
            }
            // Instruments and what is recorded for them are matched by their callers.
            (Self::UpDown(_), _) | (_, Measured::Open(_)) => {}
        }
    }

    /// Where an exemplar of a duration is kept: with boundaries of their own, one in each bucket.
    pub(super) fn place(&self, duration_ns: u64, per_series: usize, unit: Unit) -> Place {
        match self {
            Self::Explicit(histogram) => {
                let (index, of) = histogram.bucket_of(duration_ns, unit);
                Place::Bucket { index, of }
            }
            Self::Exponential(_) | Self::UpDown(_) | Self::Shared(_) => Place::Among(per_series),
        }
    }

    /// Number of durations.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Exponential(histogram) => histogram.count(),
            Self::Explicit(histogram) => histogram.count(),
            Self::UpDown(_) => 0,
            Self::Shared(value) => value.count(),
        }
    }

    pub(super) fn quantile_ns(&self, percent: u64, unit: Unit) -> Option<u64> {
        match self {
            Self::Exponential(histogram) => histogram.quantile_ns(percent, unit),
            Self::Explicit(histogram) => histogram.quantile_ns(percent, unit),
            Self::UpDown(_) => None,
            Self::Shared(value) => value.quantile_ns(percent, unit),
        }
    }

    /// Hands the value out, and keeps it.
    pub(super) fn share(&mut self) -> Arc<Self> {
        if let Self::Shared(value) = self {
            return Arc::clone(value);
        }
        let value = Arc::new(std::mem::replace(self, Self::UpDown(0)));
        *self = Self::Shared(Arc::clone(&value));
        value
    }

    /// Hands the value out, and begins anew.
    pub(super) fn take(&mut self) -> Arc<Self> {
        let value = self.share();
        *self = value.fresh();
        value
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        *self = self.fresh();
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Exponential(histogram) => histogram.count() == 0,
            Self::Explicit(histogram) => histogram.is_empty(),
            Self::UpDown(_) => false,
            Self::Shared(value) => value.is_empty(),
        }
    }

    pub(super) fn to_model(&self, unit: Unit) -> PointValue {
        match self {
            Self::Exponential(histogram) => PointValue::Exponential(histogram.to_model(unit)),
            Self::Explicit(histogram) => PointValue::Explicit(histogram.to_model(unit)),
            Self::UpDown(value) => PointValue::UpDown(*value),
            Self::Shared(value) => value.to_model(unit),
        }
    }

    /// The same without measurements.
    fn fresh(&self) -> Self {
        match self {
            Self::Exponential(histogram) => Self::Exponential(histogram.fresh()),
            Self::Explicit(histogram) => Self::Explicit(histogram.fresh()),
            Self::UpDown(_) => Self::UpDown(0),
            Self::Shared(value) => value.fresh(),
        }
    }

    #[cold]
    fn unshare(&mut self) {
        if let Self::Shared(value) = std::mem::replace(self, Self::UpDown(0)) {
            *self = Arc::unwrap_or_clone(value);
        }
    }
}
