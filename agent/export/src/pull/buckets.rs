//! Buckets with cumulative counts, for the forms that know no others.

use kerntally_model::{ExplicitHistogram, ExponentialHistogram};

/// Halves of the exponents of two that bound the buckets of an exponential histogram in seconds: 122 us to 64 s in
/// steps of `2^(1/2)`, the buckets of scale 1.
///
/// A cumulative bucket must never fall, appear or vanish while its series lives, and must be the same for all series,
/// so that they can be added up. So the bounds are fixed, and they are bounds that every histogram has itself: 160
/// buckets hold all durations from a nanosecond to 2^64 of them at scale 1, and a scale that falls merges buckets of
/// finer scales within these. No count is guessed. A quantile taken from them lies in the same bucket as the true one:
/// at most a factor of 1.42 beside it, 17 % if it is said to be in the middle.
///
/// Refused: bounds of the series' own scale, which change as it falls; the boundaries that the conventions advise, which
/// lie within buckets: what would be counted below them falls when two buckets beside one are merged.
const HALVES: std::ops::RangeInclusive<i32> = -26..=12;

/// Upper bound and number of values up to it; the last bound is infinite.
pub(super) type Bucket = (f64, u64);

/// Buckets of a histogram with its own bounds.
pub(super) fn explicit(histogram: &ExplicitHistogram) -> Vec<Bucket> {
    let bounds = histogram.boundaries.iter().copied().chain([f64::INFINITY]);
    let mut count = 0;
    bounds
        .zip(&histogram.buckets)
        .map(|(bound, bucket)| {
            count += bucket;
            (bound, count)
        })
        .collect()
}

/// Buckets of an exponential histogram whose values are in a unit of which `2^shift` make about a second.
pub(super) fn exponential(histogram: &ExponentialHistogram, shift: i32) -> Vec<Bucket> {
    let mut ends = (0..)
        .zip(&histogram.buckets)
        .map(|(place, count)| (end(histogram, place), *count))
        .peekable();
    let mut count = histogram.zero_count;
    let mut buckets = Vec::with_capacity(HALVES.count() + 1);
    for half in HALVES {
        let exponent = f64::from(half) / 2.0 + f64::from(shift);
        while let Some((_, bucket)) = ends.next_if(|(end, _)| *end <= exponent) {
            count += bucket;
        }
        buckets.push((bound(half + 2 * shift), count));
    }
    buckets.push((f64::INFINITY, histogram.count));
    buckets
}

/// How far apart the bounds of a unit are from those of seconds, in powers of two; bounds of a thousandth are taken
/// a 1024th.
pub(super) fn shift(unit: &str) -> i32 {
    match unit {
        "ms" => 10,
        "us" => 20,
        "ns" => 30,
        _ => 0,
    }
}

/// `2^(halves/2)`, the same on every machine: a label must not depend on a library's last digit.
fn bound(halves: i32) -> f64 {
    let whole = 2f64.powi(halves.div_euclid(2));
    if halves.rem_euclid(2) == 0 {
        whole
    } else {
        whole * std::f64::consts::SQRT_2
    }
}

/// The power of two that a bucket ends at, exact for every scale and index there is.
fn end(histogram: &ExponentialHistogram, place: i32) -> f64 {
    let index = f64::from(histogram.offset) + f64::from(place) + 1.0;
    index * 2f64.powi(-histogram.scale)
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a model of its own, in plain numbers"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(scale: i32, offset: i32, buckets: &[u64]) -> ExponentialHistogram {
        ExponentialHistogram {
            count: buckets.iter().sum::<u64>() + 2,
            sum: 1.0,
            min: None,
            max: None,
            scale,
            zero_count: 2,
            offset,
            buckets: buckets.to_vec(),
        }
    }

    fn at(buckets: &[Bucket], bound: f64) -> u64 {
        let mut from = buckets.iter().filter(|(le, _)| *le >= bound);
        from.next().unwrap().1
    }

    #[test]
    fn counts_what_lies_up_to_half_a_power_of_two() {
        // Scale 1: buckets end at 2^-0.5, 2^0, 2^0.5, 2^1.
        let buckets = exponential(&histogram(1, -2, &[1, 10, 100, 1000]), 0);
        assert_eq!(at(&buckets, 0.5), 2);
        assert_eq!(at(&buckets, 0.7), 3);
        assert_eq!(at(&buckets, 1.0), 13);
        assert_eq!(at(&buckets, 1.1), 113);
        assert_eq!(at(&buckets, 2.0), 1113);
        assert_eq!(at(&buckets, f64::INFINITY), 1113);
        assert_eq!(buckets.len(), 40);
    }

    #[test]
    fn bounds_are_those_of_scale_1_from_122_us_to_64_s() {
        for shift in [0, 10, 20, 30] {
            let buckets = exponential(&histogram(1, 0, &[1]), shift);
            let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
            assert!(bounds.is_sorted_by(|a, b| a < b));
            let unit = f64::from(shift).exp2();
            assert!((bounds[0] / unit - 0.000_122_070_312_5).abs() < f64::EPSILON);
            assert!((bounds[38] / unit - 64.0).abs() < f64::EPSILON);
            for pair in bounds[..39].windows(2) {
                assert!((pair[1] / pair[0] - std::f64::consts::SQRT_2).abs() < 1e-15);
            }
        }
    }

    /// Values in nanoseconds as a histogram of at most 160 buckets keeps them.
    fn recorded(values: &[u64]) -> ExponentialHistogram {
        let seconds: Vec<f64> = values.iter().map(|ns| *ns as f64 / 1e9).collect();
        let index = |value: f64, scale: i32| (value.log2() * 2f64.powi(scale)).ceil() as i32 - 1;
        let mut scale = 8;
        let range = |scale| {
            let indices = seconds.iter().map(|value| index(*value, scale));
            (
                indices.clone().min().unwrap_or(0),
                indices.max().unwrap_or(0),
            )
        };
        while range(scale).1 - range(scale).0 >= 160 {
            scale -= 1;
        }
        let (offset, last) = range(scale);
        let mut buckets = vec![0; usize::try_from(last - offset + 1).unwrap()];
        for value in &seconds {
            buckets[usize::try_from(index(*value, scale) - offset).unwrap()] += 1;
        }
        ExponentialHistogram {
            count: values.len() as u64,
            sum: seconds.iter().sum(),
            min: None,
            max: None,
            scale,
            zero_count: 0,
            offset,
            buckets,
        }
    }

    proptest! {
        /// Whatever comes, and however far the scale falls: what was counted stays counted, and exactly.
        #[test]
        fn never_fall_between_scrapes(
            exponents in proptest::collection::vec(0.0f64..63.9, 1..60),
            first in 1usize..30,
        ) {
            let values: Vec<u64> = exponents.iter().map(|exponent| exponent.exp2() as u64).collect();
            let before = exponential(&recorded(&values[..first.min(values.len())]), 0);
            let histogram = recorded(&values);
            prop_assert!(histogram.scale >= 1, "scale 1 holds every duration");
            let after = exponential(&histogram, 0);
            prop_assert_eq!(before.len(), after.len());
            for ((bound, earlier), (same, later)) in before.iter().zip(&after) {
                prop_assert_eq!(bound.to_bits(), same.to_bits());
                prop_assert!(earlier <= later);
                let below = values.iter().filter(|ns| **ns as f64 / 1e9 <= *bound).count();
                prop_assert_eq!(*later, below as u64, "up to {}", bound);
            }
            prop_assert!(after.is_sorted_by_key(|(_, count)| *count));
            prop_assert_eq!(after.last().map(|(_, count)| *count), Some(histogram.count));
        }
    }

    #[test]
    fn has_the_same_bounds_whatever_the_values() {
        let bounds = |histogram| {
            let buckets = exponential(&histogram, 0);
            buckets.iter().map(|(bound, _)| *bound).collect::<Vec<_>>()
        };
        assert_eq!(
            bounds(histogram(8, -5000, &[1])),
            bounds(histogram(0, 40, &[1]))
        );
        let outside = exponential(&histogram(0, 40, &[7]), 0);
        assert_eq!(
            (at(&outside, 64.0), at(&outside, f64::INFINITY)),
            (2, 9),
            "beyond the last bound"
        );
    }

    #[test]
    fn adds_up_explicit_buckets() {
        let histogram = ExplicitHistogram {
            count: 6,
            sum: 1.0,
            min: None,
            max: None,
            boundaries: [0.1, 1.0].into(),
            buckets: vec![1, 2, 3],
        };
        assert_eq!(
            explicit(&histogram),
            [(0.1, 1), (1.0, 3), (f64::INFINITY, 6)]
        );
    }
}
