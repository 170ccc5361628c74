//! One series' distribution of durations over given boundaries.

use std::sync::Arc;

use kerntally_model::ExplicitHistogram;

use super::unit::{Part, Summary, Unit};

/// Histogram whose bucket `i` holds what is above boundary `i - 1` and not above boundary `i`.
#[derive(Clone, Debug)]
pub(super) struct Explicit {
    summary: Summary,
    /// Ascending, in the unit of the series.
    boundaries: Arc<[f64]>,
    buckets: Box<[u64]>,
}

impl Explicit {
    pub(super) fn new(boundaries: Arc<[f64]>) -> Self {
        Self {
            summary: Summary::default(),
            buckets: vec![0; boundaries.len() + 1].into(),
            boundaries,
        }
    }

    /// Counts one duration.
    pub(super) fn record(&mut self, nanoseconds: u64, unit: Unit) {
        self.summary.add(nanoseconds);
        self.count_in(unit.of(nanoseconds), 1);
    }

    /// Takes in durations that were counted elsewhere: each bucket goes where its middle belongs.
    pub(super) fn merge(&mut self, part: &Part<'_>, unit: Unit) {
        self.summary.merge(&Summary::of_part(part));
        for (index, count) in part.buckets() {
            self.count_in(part.representative(index, unit), count);
        }
        self.count_in(0.0, part.zeros());
    }

    /// Upper boundary of the bucket that holds a quantile; of the last bucket, the longest duration.
    pub(super) fn quantile_ns(&self, percent: u64, unit: Unit) -> Option<u64> {
        let rank = (u128::from(self.summary.count) * u128::from(percent)).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if rank > 0 && rank <= seen {
                let boundary = self.boundaries.get(bucket);
                return boundary.map_or(Some(self.summary.extremes_ns().1), |boundary| {
                    Some(unit.to_ns(*boundary))
                });
            }
        }
        None
    }

    /// Position of the bucket of a duration, and the number of buckets.
    pub(super) fn bucket_of(&self, nanoseconds: u64, unit: Unit) -> (usize, usize) {
        (self.position(unit.of(nanoseconds)), self.buckets.len())
    }

    pub(super) fn count(&self) -> u64 {
        self.summary.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.summary.count == 0
    }

    /// The same boundaries without measurements.
    pub(super) fn fresh(&self) -> Self {
        Self::new(Arc::clone(&self.boundaries))
    }

    pub(super) fn to_model(&self, unit: Unit) -> ExplicitHistogram {
        ExplicitHistogram {
            count: self.summary.count,
            sum: self.summary.sum(unit),
            min: self.summary.min(unit),
            max: self.summary.max(unit),
            boundaries: Arc::clone(&self.boundaries),
            buckets: self.buckets.to_vec(),
        }
    }

    fn position(&self, value: f64) -> usize {
        self.boundaries.partition_point(|bound| *bound < value)
    }

    fn count_in(&mut self, value: f64, count: u64) {
        let bucket = self.position(value);
        self.buckets[bucket] = self.buckets[bucket].saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::unit::{ADVISED_BOUNDARIES, boundaries_in};
    use super::*;

    fn advised(unit: Unit) -> Explicit {
        Explicit::new(boundaries_in(&ADVISED_BOUNDARIES.into(), unit))
    }

    #[test]
    fn a_boundary_belongs_to_the_bucket_below_it() {
        for unit in [Unit::Seconds, Unit::Milliseconds] {
            let mut histogram = advised(unit);
            for nanoseconds in [0, 5_000_000, 5_000_001, 75_000_000, 10_000_000_001] {
                histogram.record(nanoseconds, unit);
            }
            let found = histogram.to_model(unit);
            let mut expected = vec![0; 15];
            (expected[0], expected[1], expected[4], expected[14]) = (2, 1, 1, 1);
            assert_eq!(found.buckets, expected, "{unit:?}");
            assert_eq!(found.count, 5);
            assert_eq!(found.max, Some(unit.of(10_000_000_001)));
        }
    }

    #[test]
    fn a_new_window_is_empty() {
        let mut histogram = advised(Unit::Seconds);
        histogram.record(7, Unit::Seconds);
        let histogram = histogram.fresh();
        let found = histogram.to_model(Unit::Seconds);
        assert!(histogram.is_empty());
        assert_eq!(
            (found.count, found.sum, found.min, found.max),
            (0, 0.0, None, None)
        );
        assert_eq!(found.buckets, vec![0; 15]);
    }

    proptest! {
        #[test]
        fn equals_the_model(values in proptest::collection::vec(0u64..20_000_000_000, 0..100)) {
            let mut histogram = advised(Unit::Seconds);
            let mut expected = vec![0u64; 15];
            for value in &values {
                histogram.record(*value, Unit::Seconds);
                let seconds = Unit::Seconds.of(*value);
                let bucket = ADVISED_BOUNDARIES.iter().position(|bound| seconds <= *bound).unwrap_or(14);
                expected[bucket] += 1;
            }
            let found = histogram.to_model(Unit::Seconds);
            prop_assert_eq!(found.count, found.buckets.iter().sum::<u64>());
            prop_assert_eq!(found.buckets, expected);
        }
    }
}
