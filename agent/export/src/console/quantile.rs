//! Quantiles of exponential histograms, merged at the coarsest of their scales.

use std::collections::BTreeMap;

use kerntally_model::ExponentialHistogram;

/// Coarser than any useful scale; a histogram beyond it is left out of the quantiles.
const SCALE_MIN: i32 = -10;

/// Buckets of any number of histograms.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    scale: Option<i32>,
    zeros: u64,
    buckets: BTreeMap<i32, u64>,
    min: Option<f64>,
    max: Option<f64>,
}

impl Distribution {
    /// Adds a histogram; whichever side is finer is made coarser, which loses nothing but resolution.
    pub(super) fn add(&mut self, histogram: &ExponentialHistogram) {
        if histogram.scale < SCALE_MIN {
            return;
        }
        let own = self.scale.unwrap_or(histogram.scale);
        let scale = own.min(histogram.scale);
        if scale < own {
            let finer = std::mem::take(&mut self.buckets);
            for (index, count) in finer {
                *self.buckets.entry(coarser(index, own - scale)).or_default() += count;
            }
        }
        let indices = histogram.offset..;
        for (index, count) in indices
            .zip(&histogram.buckets)
            .filter(|(_, count)| **count > 0)
        {
            *self
                .buckets
                .entry(coarser(index, histogram.scale - scale))
                .or_default() += count;
        }
        self.scale = Some(scale);
        self.zeros += histogram.zero_count;
        self.min = lesser(self.min, histogram.min, f64::min);
        self.max = lesser(self.max, histogram.max, f64::max);
    }

    /// The middle of the bucket that holds the quantile, within what was really measured.
    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.zeros + self.buckets.values().sum::<u64>();
        if count == 0 {
            return None;
        }
        let rank = rank(quantile, count);
        let mut seen = self.zeros;
        if seen >= rank {
            return Some(0.0);
        }
        let bucket = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        let (index, _) = bucket?;
        let middle = (f64::from(*index) + 0.5) * 2f64.powi(-self.scale?);
        let value = middle.exp2();
        let value = self.max.map_or(value, |max| value.min(max));
        Some(self.min.map_or(value, |min| value.max(min)))
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
