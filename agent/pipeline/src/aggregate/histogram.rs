//! One series' distribution of durations.

use kerntally_model::ExponentialHistogram;

use super::mapping::{self, MAX_SCALE};

/// Buckets at most; when values spread further, neighbours are merged.
pub const MAX_BUCKETS: usize = 160;

const NANOSECONDS: f64 = 1e9;

/// Base-2 exponential histogram of durations. Sum, minimum and maximum are kept in whole nanoseconds, so that
/// they are exact however many values there are.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    count: u64,
    zero_count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
    /// Steps down from [`MAX_SCALE`].
    shift: u32,
    /// Index of the first bucket.
    start: i32,
    buckets: Vec<u64>,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, nanoseconds: u64) {
        self.min_ns = if self.count == 0 {
            nanoseconds
        } else {
            self.min_ns.min(nanoseconds)
        };
        self.max_ns = self.max_ns.max(nanoseconds);
        self.sum_ns += u128::from(nanoseconds);
        self.count += 1;
        if nanoseconds == 0 {
            self.zero_count += 1;
            return;
        }
        let index = mapping::index(seconds(nanoseconds));
        let slot = self.slot(index);
        self.buckets[slot] += 1;
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Upper bound of the bucket that holds a quantile.
    pub fn quantile_ns(&self, percent: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100);
        let mut seen = u128::from(self.zero_count);
        if rank <= seen {
            return (rank > 0).then_some(0);
        }
        for (index, count) in (self.start..).zip(&self.buckets) {
            seen += u128::from(*count);
            if rank <= seen {
                let bound = mapping::lower_bound(index + 1, self.scale()) * NANOSECONDS;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "saturates"
                )]
                return Some(bound as u64);
            }
        }
        None
    }

    /// The histogram in seconds, as it is exported.
    pub fn to_model(&self) -> ExponentialHistogram {
        #[expect(clippy::cast_precision_loss, reason = "the exported sum is a double")]
        let sum = self.sum_ns as f64 / NANOSECONDS;
        ExponentialHistogram {
            count: self.count,
            sum,
            min: (self.count > 0).then(|| seconds(self.min_ns)),
            max: (self.count > 0).then(|| seconds(self.max_ns)),
            scale: self.scale(),
            zero_count: self.zero_count,
            offset: self.start,
            buckets: self.buckets.clone(),
        }
    }

    fn scale(&self) -> i32 {
        MAX_SCALE - self.shift.cast_signed()
    }

    /// Position of the bucket for an index at [`MAX_SCALE`], which is made if it is not there.
    fn slot(&mut self, index: i32) -> usize {
        if self.buckets.is_empty() {
            self.start = index >> self.shift;
            self.buckets.push(0);
            return 0;
        }
        let position = i64::from(index >> self.shift) - i64::from(self.start);
        match usize::try_from(position) {
            Ok(position) if position < self.buckets.len() => position,
            _ => self.extend(index),
        }
    }

    fn extend(&mut self, index: i32) -> usize {
        let (mut low, mut high) = self.range_with(index);
        while high.abs_diff(low) as usize >= MAX_BUCKETS {
            self.merge_neighbours();
            (low, high) = self.range_with(index);
        }
        let front = self.start.abs_diff(low) as usize;
        let len = high.abs_diff(low) as usize + 1;
        self.buckets.resize(len, 0);
        self.buckets.rotate_right(front);
        self.start = low;
        (index >> self.shift).abs_diff(low) as usize
    }

    /// First and last index that the buckets have to span to hold this one too.
    fn range_with(&self, index: i32) -> (i32, i32) {
        let index = index >> self.shift;
        // At most 160 buckets.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "at most 160"
        )]
        let last = self.start + self.buckets.len() as i32 - 1;
        (self.start.min(index), last.max(index))
    }

    /// One scale down: buckets `2i` and `2i + 1` become bucket `i`, which loses nothing.
    fn merge_neighbours(&mut self) {
        let start = self.start >> 1;
        // An odd first bucket is the upper half of its union.
        let odd = usize::from(self.start & 1 == 1);
        for position in 0..self.buckets.len() {
            let count = std::mem::take(&mut self.buckets[position]);
            self.buckets[usize::midpoint(position, odd)] += count;
        }
        self.buckets
            .truncate((self.buckets.len() + odd).div_ceil(2));
        self.start = start;
        self.shift += 1;
    }
}

/// A duration in the unit of the instruments.
#[expect(clippy::cast_precision_loss, reason = "exact up to 104 days")]
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / NANOSECONDS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn histogram(values: &[u64]) -> ExponentialHistogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(*value);
        }
        histogram.to_model()
    }

    /// Every value kept: the finest scale at which the range fits, and the counts there.
    fn model(values: &[u64]) -> (i32, BTreeMap<i32, u64>) {
        let indexes: Vec<i32> = values
            .iter()
            .filter(|value| **value > 0)
            .map(|value| mapping::index(seconds(*value)))
            .collect();
        let mut shift = 0;
        let (low, high) = (
            indexes.iter().min().copied().unwrap_or(0),
            indexes.iter().max().copied().unwrap_or(0),
        );
        while (high >> shift) - (low >> shift) >= 160 {
            shift += 1;
        }
        let mut counts = BTreeMap::new();
        for index in indexes {
            *counts.entry(index >> shift).or_default() += 1;
        }
        (MAX_SCALE - shift, counts)
    }

    #[test]
    fn empty_has_no_extremes() {
        let empty = histogram(&[]);
        assert_eq!((empty.count, empty.min, empty.max), (0, None, None));
        assert!(empty.buckets.is_empty());
    }

    #[test]
    fn one_value_has_the_finest_scale() {
        let one = histogram(&[1_000_000_000]);
        assert_eq!(
            (one.scale, one.offset, one.buckets),
            (MAX_SCALE, -1, vec![1])
        );
        assert_eq!((one.min, one.max, one.sum), (Some(1.0), Some(1.0), 1.0));
    }

    #[test]
    fn zero_stands_apart() {
        let zero = histogram(&[0, 0, 5]);
        assert_eq!((zero.count, zero.zero_count, zero.buckets), (3, 2, vec![1]));
        assert_eq!((zero.min, zero.max), (Some(0.0), Some(5e-9)));
    }

    #[test]
    fn the_widest_range_fits() {
        let wide = histogram(&[u64::MAX, 1, 1_000_000]);
        assert!(wide.buckets.len() <= MAX_BUCKETS);
        assert_eq!(wide.buckets.iter().sum::<u64>(), 3);
        assert!(wide.scale >= 0);
    }

    #[test]
    fn quantiles_are_bounds_of_their_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ns(95), None);
        for value in 1..=100u64 {
            histogram.record(value * 1_000_000);
        }
        let p95 = histogram.quantile_ns(95).unwrap();
        assert!((95_000_000..98_000_000).contains(&p95), "{p95}");
        let mut zeros = Histogram::default();
        (0..20).for_each(|_| zeros.record(0));
        assert_eq!(zeros.quantile_ns(95), Some(0));
    }

    proptest! {
        #[test]
        fn a_quantile_has_no_more_above_it_than_it_says(
            values in proptest::collection::vec(1000u64..1_000_000_000_000, 1..300),
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            let p95 = histogram.quantile_ns(95).unwrap();
            let above = values.iter().filter(|value| **value > p95 + 1).count();
            prop_assert!(above * 20 <= values.len());
        }

        #[test]
        fn equals_the_model(values in proptest::collection::vec(
            prop_oneof![Just(0u64), 1u64..100, 1000u64..1_000_000_000, any::<u64>()], 0..200,
        )) {
            let found = histogram(&values);
            let (scale, counts) = model(&values);
            prop_assert_eq!(found.count, values.len() as u64);
            prop_assert_eq!(found.count, found.zero_count + found.buckets.iter().sum::<u64>());
            prop_assert_eq!(found.scale, scale);
            prop_assert!(found.buckets.len() <= MAX_BUCKETS);
            let found_counts: BTreeMap<i32, u64> = (found.offset..)
                .zip(found.buckets.iter().copied())
                .filter(|(_, count)| *count > 0)
                .collect();
            prop_assert_eq!(found_counts, counts);
            prop_assert_eq!(found.min, values.iter().min().map(|value| seconds(*value)));
            prop_assert_eq!(found.max, values.iter().max().map(|value| seconds(*value)));
        }

        #[test]
        fn order_does_not_matter(mut values in proptest::collection::vec(any::<u64>(), 1..60)) {
            let forwards = histogram(&values);
            values.reverse();
            prop_assert_eq!(forwards, histogram(&values));
        }
    }
}
