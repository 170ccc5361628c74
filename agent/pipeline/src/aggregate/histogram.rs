//! One series' distribution of durations, in base-2 exponential buckets.

use kerntally_model::ExponentialHistogram;

use super::counts::Counts;
use super::mapping::{self, MAX_SCALE};
use super::unit::{Part, Summary, Unit};

/// Buckets at most; when values spread further, neighbours are merged.
pub const MAX_BUCKETS: usize = 160;

/// Coarsest scale: two buckets hold every number there is.
const MIN_SCALE: i32 = -10;

/// Base-2 exponential histogram of durations, at the finest scale at which its values fit.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    summary: Summary,
    zero_count: u64,
    /// Steps down from [`MAX_SCALE`].
    shift: u32,
    /// Index of the first bucket.
    start: i32,
    /// Buckets to make room for at first.
    room: u8,
    buckets: Counts,
}

impl Histogram {
    /// Counts one duration. All durations of one histogram are in the same unit.
    pub fn record(&mut self, nanoseconds: u64, unit: Unit) {
        self.summary.add(nanoseconds);
        if nanoseconds == 0 {
            self.zero_count += 1;
            return;
        }
        let slot = self.slot(mapping::index(unit.of(nanoseconds)), 0);
        self.buckets.increment(slot);
    }

    /// Takes in durations that were counted elsewhere. In seconds their buckets are unions of finer ones, so that
    /// nothing is moved; in another unit each goes where its middle belongs.
    pub fn merge(&mut self, part: &Part<'_>, unit: Unit) {
        self.summary.merge(&Summary::of_part(part));
        self.zero_count = self.zero_count.saturating_add(part.zeros());
        for (index, count) in part.buckets() {
            let slot = match unit {
                Unit::Seconds => self.slot_at_scale(index, part.scale),
                Unit::Milliseconds => {
                    self.slot(mapping::index(part.representative(index, unit)), 0)
                }
            };
            self.buckets.add(slot, count);
        }
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.summary.count
    }

    /// Upper bound of the bucket that holds a quantile.
    pub fn quantile_ns(&self, percent: u64, unit: Unit) -> Option<u64> {
        let rank = (u128::from(self.count()) * u128::from(percent)).div_ceil(100);
        let mut seen = u128::from(self.zero_count);
        if rank <= seen {
            return (rank > 0).then_some(0);
        }
        for (index, count) in (self.start..).zip(self.buckets.iter()) {
            seen += u128::from(count);
            if rank <= seen {
                return Some(unit.to_ns(mapping::lower_bound(index + 1, self.scale())));
            }
        }
        None
    }

    /// One without measurements, that makes room for as many buckets at once.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self {
            room: u8::try_from(self.buckets.len()).unwrap_or(0).max(self.room),
            ..Self::default()
        }
    }

    /// The histogram as it is exported.
    pub fn to_model(&self, unit: Unit) -> ExponentialHistogram {
        ExponentialHistogram {
            count: self.summary.count,
            sum: self.summary.sum(unit),
            min: self.summary.min(unit),
            max: self.summary.max(unit),
            scale: self.scale(),
            zero_count: self.zero_count,
            offset: self.start,
            buckets: self.buckets.iter().collect(),
        }
    }

    fn scale(&self) -> i32 {
        MAX_SCALE - self.shift.cast_signed()
    }

    /// Position of the bucket for an index at some scale, which goes down to that scale if it is coarser.
    fn slot_at_scale(&mut self, index: i32, scale: i32) -> usize {
        let scale = scale.clamp(MIN_SCALE, 20);
        if scale >= MAX_SCALE {
            return self.slot(index >> (scale - MAX_SCALE), 0);
        }
        let coarser = scale.abs_diff(MAX_SCALE);
        while self.shift < coarser {
            self.merge_neighbours();
        }
        self.slot(index, coarser)
    }

    /// Position of the bucket for an index `coarser` steps below [`MAX_SCALE`], but not below the scale of the
    /// histogram; it is made if it is not there.
    fn slot(&mut self, index: i32, coarser: u32) -> usize {
        let index_here = index >> (self.shift - coarser);
        if self.buckets.is_empty() {
            self.start = index_here;
            self.extend_to(1, 0);
            return 0;
        }
        let position = i64::from(index_here) - i64::from(self.start);
        match usize::try_from(position) {
            Ok(position) if position < self.buckets.len() => position,
            _ => self.extend(index, coarser),
        }
    }

    #[cold]
    fn extend(&mut self, index: i32, coarser: u32) -> usize {
        let (mut low, mut high) = self.range_with(index >> (self.shift - coarser));
        while high.abs_diff(low) as usize >= MAX_BUCKETS {
            self.merge_neighbours();
            (low, high) = self.range_with(index >> (self.shift - coarser));
        }
        let front = self.start.abs_diff(low) as usize;
        self.extend_to(high.abs_diff(low) as usize + 1, front);
        self.start = low;
        (index >> (self.shift - coarser)).abs_diff(low) as usize
    }

    /// Doubling, but never beyond what can be used.
    fn extend_to(&mut self, len: usize, front: usize) {
        let room = (len * 2).max(usize::from(self.room)).clamp(8, MAX_BUCKETS);
        self.buckets.extend(len, front, room);
    }

    /// First and last index that the buckets have to span to hold this one too.
    fn range_with(&self, index: i32) -> (i32, i32) {
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
        // An odd first bucket is the upper half of its union.
        self.buckets.merge_neighbours(self.start & 1 == 1);
        self.start >>= 1;
        self.shift += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn recorded(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(*value, Unit::Seconds);
        }
        histogram
    }

    fn histogram(values: &[u64]) -> ExponentialHistogram {
        recorded(values).to_model(Unit::Seconds)
    }

    fn counts(histogram: &Histogram) -> Vec<u64> {
        histogram.buckets.iter().collect()
    }

    fn as_part<'a>(histogram: &Histogram, counts: &'a [u64]) -> Part<'a> {
        let (min_ns, max_ns) = histogram.summary.extremes_ns();
        Part {
            scale: histogram.scale(),
            offset: histogram.start,
            counts,
            count: histogram.count(),
            sum_ns: histogram.summary.sum_ns,
            min_ns,
            max_ns,
        }
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = prop_oneof![Just(0u64), 1u64..100, 1000u64..1_000_000_000, any::<u64>()];
        proptest::collection::vec(value, 0..60)
    }

    /// Every value kept: the finest scale at which the range fits, and the counts there.
    fn model(values: &[u64]) -> (i32, BTreeMap<i32, u64>) {
        let indexes: Vec<i32> = values
            .iter()
            .filter(|value| **value > 0)
            .map(|value| mapping::index(Unit::Seconds.of(*value)))
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
        assert_eq!(histogram.quantile_ns(95, Unit::Seconds), None);
        for value in 1..=100u64 {
            histogram.record(value * 1_000_000, Unit::Seconds);
        }
        let p95 = histogram.quantile_ns(95, Unit::Seconds).unwrap();
        assert!((95_000_000..98_000_000).contains(&p95), "{p95}");
        let mut zeros = Histogram::default();
        (0..20).for_each(|_| zeros.record(0, Unit::Seconds));
        assert_eq!(zeros.quantile_ns(95, Unit::Seconds), Some(0));
    }

    proptest! {
        #[test]
        fn a_quantile_has_no_more_above_it_than_it_says(
            values in proptest::collection::vec(1000u64..1_000_000_000_000, 1..300),
        ) {
            for unit in [Unit::Seconds, Unit::Milliseconds] {
                let mut histogram = Histogram::default();
                for value in &values {
                    histogram.record(*value, unit);
                }
                let p95 = histogram.quantile_ns(95, unit).unwrap();
                let above = values.iter().filter(|value| **value > p95 + 1).count();
                prop_assert!(above * 20 <= values.len());
            }
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
            prop_assert_eq!(found.min, values.iter().min().map(|value| Unit::Seconds.of(*value)));
            prop_assert_eq!(found.max, values.iter().max().map(|value| Unit::Seconds.of(*value)));
        }

        #[test]
        fn order_does_not_matter(mut values in proptest::collection::vec(any::<u64>(), 1..60)) {
            let forwards = histogram(&values);
            values.reverse();
            prop_assert_eq!(forwards, histogram(&values));
        }

        /// Whatever was counted where, and however coarsely: nothing is lost or moved.
        #[test]
        fn merging_equals_recording_all(
            mine in values(), theirs in values(), coarser in 0u32..19,
        ) {
            let mut merged = recorded(&mine);
            let mut part = recorded(&theirs);
            for _ in 0..coarser.saturating_sub(part.shift) {
                part.merge_neighbours();
            }
            merged.merge(&as_part(&part, &counts(&part)), Unit::Seconds);
            let all: Vec<u64> = mine.iter().chain(&theirs).copied().collect();
            let mut expected = recorded(&all);
            let has_buckets = theirs.iter().any(|value| *value > 0);
            while expected.shift < merged.shift {
                expected.merge_neighbours();
            }
            prop_assert_eq!(merged.to_model(Unit::Seconds), expected.to_model(Unit::Seconds));
            // No coarser than the coarsest of the three has to be.
            let finest = recorded(&all).shift.max(if has_buckets { part.shift } else { 0 }).max(recorded(&mine).shift);
            prop_assert_eq!(merged.shift, finest);
        }

        #[test]
        fn merging_into_another_unit_loses_nothing(mine in values(), theirs in values()) {
            let mut merged = Histogram::default();
            for value in &mine {
                merged.record(*value, Unit::Milliseconds);
            }
            let part = recorded(&theirs);
            merged.merge(&as_part(&part, &counts(&part)), Unit::Milliseconds);
            let found = merged.to_model(Unit::Milliseconds);
            prop_assert_eq!(found.count, (mine.len() + theirs.len()) as u64);
            prop_assert_eq!(found.count, found.zero_count + found.buckets.iter().sum::<u64>());
            prop_assert!(found.buckets.len() <= MAX_BUCKETS);
        }

        #[test]
        fn a_new_window_knows_nothing_of_the_last(before in values(), after in values()) {
            let mut histogram = recorded(&before).fresh();
            for value in &after {
                histogram.record(*value, Unit::Seconds);
            }
            prop_assert_eq!(histogram.to_model(Unit::Seconds), recorded(&after).to_model(Unit::Seconds));
        }
    }

    #[test]
    fn a_part_that_was_read_while_it_grew_keeps_the_sum_of_buckets() {
        let mut histogram = Histogram::default();
        let part = Part {
            scale: 3,
            offset: -80,
            counts: &[1, 0, 4],
            count: 3,
            sum_ns: 5_000_000,
            min_ns: 900_000,
            max_ns: 1_300_000,
        };
        histogram.merge(&part, Unit::Seconds);
        histogram.merge(&Part { count: 7, ..part }, Unit::Seconds);
        let found = histogram.to_model(Unit::Seconds);
        assert_eq!((found.count, found.zero_count, found.scale), (12, 2, 3));
        assert_eq!((found.offset, found.buckets), (-80, vec![2, 0, 8]));
        assert_eq!((found.min, found.max), (Some(0.0009), Some(0.0013)));
    }

    #[test]
    fn scales_finer_than_the_finest_are_taken_in_too() {
        let mut histogram = Histogram::default();
        let part = Part {
            scale: 20,
            offset: -1,
            counts: &[1, 1],
            count: 2,
            sum_ns: 2_000_000_000,
            min_ns: 1_000_000_000,
            max_ns: 1_000_000_001,
        };
        histogram.merge(&part, Unit::Seconds);
        let found = histogram.to_model(Unit::Seconds);
        assert_eq!(
            (found.scale, found.offset, found.buckets),
            (8, -1, vec![1, 1])
        );
    }
}
