//! What durations are measured in, and what is kept of them beside their distribution.

use std::sync::Arc;

/// Unit of a duration's points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds, as the semantic conventions want it.
    #[default]
    Seconds,
    /// Milliseconds, as older metrics have it.
    Milliseconds,
}

impl Unit {
    /// Parses a unit's symbol.
    pub fn from_symbol(symbol: &str) -> Option<Self> {
        match symbol {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Milliseconds),
            _ => None,
        }
    }

    /// The symbol, as UCUM writes it.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
        }
    }

    /// How many of it are a second.
    pub const fn per_second(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Milliseconds => 1e3,
        }
    }

    /// A duration in this unit, rounded once.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 104 days")]
    pub fn of(self, nanoseconds: u64) -> f64 {
        nanoseconds as f64 / self.nanoseconds()
    }

    /// Nanoseconds of a duration in this unit.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    pub fn to_ns(self, duration: f64) -> u64 {
        (duration * self.nanoseconds()) as u64
    }

    /// A sum of durations in this unit.
    #[expect(clippy::cast_precision_loss, reason = "the exported sum is a double")]
    pub fn of_sum(self, nanoseconds: u128) -> f64 {
        nanoseconds as f64 / self.nanoseconds()
    }

    const fn nanoseconds(self) -> f64 {
        match self {
            Self::Seconds => 1e9,
            Self::Milliseconds => 1e6,
        }
    }
}

/// Number, sum and extremes of durations, in whole nanoseconds: exact however many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

impl Summary {
    pub(super) fn of_part(part: &Part<'_>) -> Self {
        Self {
            count: part.total(),
            sum_ns: part.sum_ns,
            min_ns: part.min_ns,
            max_ns: part.max_ns,
        }
    }

    pub(super) fn add(&mut self, nanoseconds: u64) {
        self.min_ns = if self.count == 0 {
            nanoseconds
        } else {
            self.min_ns.min(nanoseconds)
        };
        self.max_ns = self.max_ns.max(nanoseconds);
        self.sum_ns += u128::from(nanoseconds);
        self.count += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min_ns = if self.count == 0 {
            other.min_ns
        } else {
            self.min_ns.min(other.min_ns)
        };
        self.max_ns = self.max_ns.max(other.max_ns);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.count = self.count.saturating_add(other.count);
    }

    pub(super) fn sum(&self, unit: Unit) -> f64 {
        unit.of_sum(self.sum_ns)
    }

    pub(super) fn min(&self, unit: Unit) -> Option<f64> {
        (self.count > 0).then(|| unit.of(self.min_ns))
    }

    pub(super) fn max(&self, unit: Unit) -> Option<f64> {
        (self.count > 0).then(|| unit.of(self.max_ns))
    }

    pub(super) const fn extremes_ns(&self) -> (u64, u64) {
        (self.min_ns, self.max_ns)
    }
}

/// Indexes are not beyond it at any scale.
const MAX_INDEX: i32 = 1 << 30;

/// Durations that were counted elsewhere, in base-2 exponential buckets of seconds.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Resolution of the buckets.
    pub scale: i32,
    /// Index of the first bucket.
    pub offset: i32,
    /// Counts of the buckets from `offset` on.
    pub counts: &'a [u64],
    /// Number of durations; those that are in no bucket are zeros.
    pub count: u64,
    /// Their sum.
    pub sum_ns: u128,
    /// The shortest, or a lower bound.
    pub min_ns: u64,
    /// The longest, or an upper bound.
    pub max_ns: u64,
}

impl Part<'_> {
    /// Number of durations. Counters that are read while they grow may have more in their buckets than in
    /// their count.
    pub(super) fn total(&self) -> u64 {
        self.count.max(self.in_buckets())
    }

    /// Durations of exactly zero.
    pub(super) fn zeros(&self) -> u64 {
        self.count.saturating_sub(self.in_buckets())
    }

    /// Buckets that hold something, with their indexes.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        (i64::from(self.offset)..)
            .zip(self.counts.iter().copied())
            .filter(|(_, count)| *count > 0)
            .map(|(index, count)| (i32::try_from(index).unwrap_or(MAX_INDEX), count))
            .map(|(index, count)| (index.clamp(-MAX_INDEX, MAX_INDEX), count))
    }

    /// What stands for all durations of a bucket where its bounds mean nothing, in a unit.
    pub(super) fn representative(&self, index: i32, unit: Unit) -> f64 {
        let exponent = (f64::from(index) + 0.5) * (-f64::from(self.scale)).exp2();
        let middle = exponent.exp2() * unit.per_second();
        let (low, high) = (unit.of(self.min_ns), unit.of(self.max_ns));
        // Bounds the wrong way round say nothing.
        if low <= high {
            middle.clamp(low, high)
        } else {
            middle
        }
    }

    fn in_buckets(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Boundaries that the semantic conventions advise for durations of requests, in seconds.
pub const ADVISED_BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Boundaries of seconds in a unit.
pub(super) fn boundaries_in(seconds: &Arc<[f64]>, unit: Unit) -> Arc<[f64]> {
    match unit {
        Unit::Seconds => Arc::clone(seconds),
        Unit::Milliseconds => seconds.iter().map(|bound| bound * 1e3).collect(),
    }
}
