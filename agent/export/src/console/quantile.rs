//! Quantiles of histograms of either kind, merged.

use std::collections::BTreeMap;

use kerntally_model::{ExplicitHistogram, ExponentialHistogram, PointValue};

/// Coarser than any useful scale; a histogram beyond it is left out of the quantiles.
const SCALE_MIN: i32 = -10;

/// Values of any number of histograms, in seconds.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    zeros: u64,
    /// Exponential buckets by how many seconds their unit has, at the coarsest of their scales.
    exponential: BTreeMap<Unit, Exponential>,
    /// Counts of ranges, by the bits of their bounds: of non-negative numbers these are in the same order.
    ranges: BTreeMap<(u64, u64), u64>,
    min: Option<f64>,
    max: Option<f64>,
}

/// Seconds in a unit, as bits.
type Unit = u64;

#[derive(Debug)]
struct Exponential {
    scale: i32,
    buckets: BTreeMap<i32, u64>,
}

/// A bucket: what stands for its values, and how many there are.
type Bucket = (f64, u64);

impl Distribution {
    /// Adds a histogram whose unit has so many seconds.
    pub(super) fn add(&mut self, value: &PointValue, seconds: f64) {
        let (min, max) = match value {
            PointValue::Exponential(histogram) if histogram.scale >= SCALE_MIN => {
                self.zeros += histogram.zero_count;
                let unit = self.exponential.entry(seconds.to_bits());
                let empty = || Exponential {
                    scale: histogram.scale,
                    buckets: BTreeMap::new(),
                };
                unit.or_insert_with(empty).add(histogram);
                (histogram.min, histogram.max)
            }
            PointValue::Explicit(histogram) => {
                self.add_ranges(histogram, seconds);
                (histogram.min, histogram.max)
            }
            PointValue::Exponential(_) | PointValue::UpDown(_) | PointValue::NoRecordedValue => {
                return;
            }
        };
        let scaled = |value: Option<f64>| value.map(|value| value * seconds);
        self.min = lesser(self.min, scaled(min), f64::min);
        self.max = lesser(self.max, scaled(max), f64::max);
    }

    /// The last range has no end: the largest value stands in.
    fn add_ranges(&mut self, histogram: &ExplicitHistogram, seconds: f64) {
        let mut low = 0.0;
        let highest = histogram.max.unwrap_or(f64::INFINITY) * seconds;
        let bounds = histogram.boundaries.iter().map(|bound| bound * seconds);
        for (high, count) in bounds.chain([highest]).zip(&histogram.buckets) {
            let high = high.max(low);
            if *count > 0 {
                *self
                    .ranges
                    .entry((low.to_bits(), high.to_bits()))
                    .or_default() += count;
            }
            low = high;
        }
    }

    /// The middle of the bucket that holds the quantile, within what was really measured.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let buckets = self.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum::<u64>();
        if count == 0 {
            return None;
        }
        let rank = rank(quantile, count);
        let mut seen = 0;
        let (value, _) = buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        if *value == 0.0 {
            return Some(0.0);
        }
        let value = self.max.map_or(*value, |max| value.min(max));
        Some(self.min.map_or(value, |min| value.max(min)))
    }

    fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = vec![(0.0, self.zeros)];
        for (unit, exponential) in &self.exponential {
            let width = 2f64.powi(-exponential.scale);
            let middle = |index: i32| ((f64::from(index) + 0.5) * width).exp2();
            let of_unit = exponential.buckets.iter();
            buckets.extend(
                of_unit.map(|(index, count)| (middle(*index) * f64::from_bits(*unit), *count)),
            );
        }
        buckets.extend(self.ranges.iter().map(|((low, high), count)| {
            let (low, high) = (f64::from_bits(*low), f64::from_bits(*high));
            let middle = if high.is_finite() {
                f64::midpoint(low, high)
            } else {
                low
            };
            (middle, *count)
        }));
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

impl Exponential {
    /// Whichever side is finer is made coarser, which loses nothing but resolution.
    fn add(&mut self, histogram: &ExponentialHistogram) {
        let scale = self.scale.min(histogram.scale);
        if scale < self.scale {
            let finer = std::mem::take(&mut self.buckets);
            for (index, count) in finer {
                *self
                    .buckets
                    .entry(coarser(index, self.scale - scale))
                    .or_default() += count;
            }
            self.scale = scale;
        }
        let filled = (histogram.offset..)
            .zip(&histogram.buckets)
            .filter(|(_, count)| **count > 0);
        for (index, count) in filled {
            *self
                .buckets
                .entry(coarser(index, histogram.scale - scale))
                .or_default() += count;
        }
    }
}

fn coarser(index: i32, steps: i32) -> i32 {
    index >> steps.clamp(0, 31)
}

fn lesser(a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(pick(a, b)),
        (one, other) => one.or(other),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank between 1 and the count; past 2^53 exchanges it may be off by some"
)]
fn rank(quantile: f64, count: u64) -> u64 {
    ((quantile * count as f64).ceil() as u64).clamp(1, count)
}
