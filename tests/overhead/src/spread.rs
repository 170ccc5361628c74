//! Medians, and how far repeats of the same thing lie apart.

use serde::Serialize;

/// A row of values of the same kind, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Values(Vec<f64>);

impl Values {
    /// Takes values in any order.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value below which a share of them lies, between two neighbours in proportion; 0 without values.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else {
            return 0.0;
        };
        let place = share.clamp(0.0, 1.0) * real(last);
        let below = floor(place).min(last);
        let above = (below + 1).min(last);
        let between = place - real(below);
        self.0[below] + (self.0[above] - self.0[below]) * between
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Least and largest.
    pub(crate) fn range(&self) -> (f64, f64) {
        (self.quantile(0.0), self.quantile(1.0))
    }

    /// Where the median of ever more such values would lie, at 95 %: from the k-th least to the k-th largest, k from
    /// the binomial distribution, so whatever the values' own is. The whole range where there are fewer than six.
    pub(crate) fn median_interval(&self) -> (f64, f64) {
        let (first, last) = (median_rank(self.0.len()), self.0.len());
        match (self.0.get(first), self.0.get(last.wrapping_sub(first + 1))) {
            (Some(low), Some(high)) => (*low, *high),
            _ => self.range(),
        }
    }

    /// How well these, which should all be `same`, say so: half of the interval of their median, or the median's
    /// own distance where that is larger.
    pub(crate) fn spread_around(&self, same: f64) -> f64 {
        self.resolution().max((self.median() - same).abs())
    }

    /// Half of the interval of the median.
    pub(crate) fn resolution(&self) -> f64 {
        let (low, high) = self.median_interval();
        (high - low) / 2.0
    }
}

/// Values to leave out at either end, of so many.
fn median_rank(count: usize) -> usize {
    // Of `count` coins, the chance that at most `rank` show heads.
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut at_most = 0.0;
    for rank in 0..count {
        at_most += chance;
        if at_most > 0.025 {
            return rank.saturating_sub(1);
        }
        chance *= real(count - rank) / real(rank + 1);
    }
    0
}

/// The exponent with which `values` grow: 0 for not at all, 1 in proportion. Both have to be positive.
pub(crate) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|(size, value)| *size > 0.0 && *value > 0.0)
        .map(|(size, value)| (size.ln(), value.ln()))
        .collect();
    if logs.len() < 2 {
        return None;
    }
    let count = real(logs.len());
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (size, value) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = logs
        .iter()
        .map(|point| (point.0 - size) * (point.1 - value))
        .sum();
    let variance: f64 = logs.iter().map(|point| (point.0 - size).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

#[expect(clippy::cast_precision_loss, reason = "a handful of values")]
fn real(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a short row"
)]
fn floor(place: f64) -> usize {
    place.floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert!(close(Values::new([3.0, 1.0, 2.0]).median(), 2.0));
        assert!(close(Values::new([4.0, 1.0, 2.0, 3.0]).median(), 2.5));
        assert!(close(Values::new([]).median(), 0.0));
    }

    #[test]
    fn a_bias_counts_as_spread() {
        assert!(close(Values::new([1.1, 1.1, 1.1]).spread_around(1.0), 0.1));
        let even = Values::new([0.9, 0.95, 1.0, 1.05, 1.1]);
        assert!(close(even.spread_around(1.0), 0.1));
    }

    /// Ranks as tables of the sign test have them.
    #[test]
    fn the_interval_of_a_median_narrows_with_more_values() {
        let leave_out = [(1, 0), (5, 0), (6, 0), (9, 1), (15, 3), (30, 9), (100, 39)];
        for (count, rank) in leave_out {
            assert_eq!(median_rank(count), rank, "{count}");
        }
        let values = Values::new((0..30_u8).map(f64::from));
        assert_eq!(values.median_interval(), (9.0, 20.0));
        assert_eq!(Values::new([]).median_interval(), (0.0, 0.0));
    }

    #[test]
    fn exponents_of_known_curves() {
        let curve = |power: f64| [1.0, 10.0, 100.0].map(|size: f64| (size, 5.0 * size.powf(power)));
        for power in [0.0, 0.5, 1.0, 2.0] {
            assert!(close(exponent(&curve(power)).unwrap(), power));
        }
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
    }
}
