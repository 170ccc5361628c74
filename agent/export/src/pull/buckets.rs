//! Buckets with cumulative counts, for the forms that know no others.

use kerntally_model::{ExplicitHistogram, ExponentialHistogram};

/// Powers of two that bound the buckets of an exponential histogram in seconds: 122 us to 64 s. They are bounds of
/// its own at every scale from 0 up, so that no count is guessed, and the same for every series, so that series
/// can be added up.
const EXPONENTS: std::ops::RangeInclusive<i32> = -13..=6;

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
    let mut buckets = Vec::with_capacity(EXPONENTS.count() + 1);
    for exponent in EXPONENTS {
        let exponent = exponent + shift;
        while let Some((_, bucket)) = ends.next_if(|(end, _)| *end <= f64::from(exponent)) {
            count += bucket;
        }
        buckets.push((f64::from(exponent).exp2(), count));
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

/// The power of two that a bucket ends at, exact for every scale and index there is.
fn end(histogram: &ExponentialHistogram, place: i32) -> f64 {
    let index = f64::from(histogram.offset) + f64::from(place) + 1.0;
    index * 2f64.powi(-histogram.scale)
}

#[cfg(test)]
mod tests {
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
    fn counts_what_lies_up_to_a_power_of_two() {
        // Scale 1: buckets end at 2^-0.5, 2^0, 2^0.5, 2^1.
        let buckets = exponential(&histogram(1, -2, &[1, 10, 100, 1000]), 0);
        assert_eq!(at(&buckets, 0.5), 2);
        assert_eq!(at(&buckets, 1.0), 13);
        assert_eq!(at(&buckets, 2.0), 1113);
        assert_eq!(at(&buckets, f64::INFINITY), 1113);
        assert_eq!(buckets.len(), 21);
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
