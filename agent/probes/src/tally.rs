//! The fallback tally: what the kernel side added up while the ring was full, as differences.

use std::collections::HashMap;

use kerntally_abi::{TALLY_BOUNDS_NS, TALLY_BUCKETS, TallyKey, TallyValue};

/// Exchanges of one kind that were tallied since the last reading.
#[derive(Clone, Debug)]
pub struct TallyDelta {
    /// What they have in common; see [`TallyKey::catch_all`].
    pub key: TallyKey,
    /// Sum of their durations in nanoseconds.
    pub sum_ns: u64,
    /// How many fell into each bucket, see [`kerntally_abi::TALLY_BOUNDS_NS`].
    pub buckets: Box<[u64; TALLY_BUCKETS]>,
}

impl TallyDelta {
    /// The bounds of the outermost buckets that hold something, in nanoseconds; an average beyond the last bound
    /// stands for what is longer.
    pub fn extremes_ns(&self) -> (u64, u64) {
        let first = self.buckets.iter().position(|count| *count > 0);
        let last = self.buckets.iter().rposition(|count| *count > 0);
        let (Some(first), Some(last)) = (first, last) else {
            return (0, 0);
        };
        let shortest = match first {
            0 => 0,
            _ => TALLY_BOUNDS_NS[first - 1],
        };
        let longest = match TALLY_BOUNDS_NS[last] {
            u64::MAX => self.sum_ns.max(TALLY_BOUNDS_NS[last - 1]),
            bound => bound,
        };
        (shortest, longest)
    }

    /// How many exchanges there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What was read of each key so far.
#[derive(Debug, Default)]
pub(crate) struct TallyReader(HashMap<TallyKey, TallyValue>);

impl TallyReader {
    /// What has been added since the key was read last, if anything.
    pub(crate) fn read(&mut self, key: TallyKey, value: &TallyValue) -> Option<TallyDelta> {
        let before = self.0.get(&key).copied().unwrap_or(TallyValue::ZERO);
        let delta = difference(key, value, &before);
        if delta.count() == 0 {
            return None;
        }
        self.0.insert(key, *value);
        Some(delta)
    }

    /// The key is given up.
    pub(crate) fn forget(&mut self, key: &TallyKey) {
        self.0.remove(key);
    }
}

/// A sum that was read a moment before its bucket, or after it, is set right by the next reading.
fn difference(key: TallyKey, value: &TallyValue, before: &TallyValue) -> TallyDelta {
    let mut buckets = Box::new([0; TALLY_BUCKETS]);
    for (index, bucket) in buckets.iter_mut().enumerate() {
        *bucket = value.buckets[index].saturating_sub(before.buckets[index]);
    }
    TallyDelta {
        key,
        sum_ns: value.sum_ns.saturating_sub(before.sum_ns),
        buckets,
    }
}

#[cfg(test)]
mod tests {
    use kerntally_abi::{TALLY_OFFSET, TALLY_SCALE};

    use super::*;

    #[test]
    fn only_what_was_added_is_handed_over() {
        let mut before = TallyValue::ZERO;
        (before.sum_ns, before.buckets[3]) = (40, 2);
        let mut after = before;
        (after.sum_ns, after.buckets[3], after.buckets[200]) = (140, 3, 5);
        let delta = difference(TallyKey::catch_all(0), &after, &before);
        assert_eq!((delta.sum_ns, delta.count()), (100, 6));
        assert_eq!((delta.buckets[3], delta.buckets[200]), (1, 5));
    }

    #[test]
    fn bounds_are_those_of_an_exponential_histogram_in_seconds() {
        for (index, bound) in TALLY_BOUNDS_NS.iter().enumerate().take(TALLY_BUCKETS - 1) {
            let upper = TALLY_OFFSET + i32::try_from(index).unwrap() + 1;
            let seconds = (f64::from(upper) / 2f64.powi(TALLY_SCALE)).exp2();
            let nanoseconds = format!("{:.0}", (seconds * 1e9).floor());
            assert_eq!(bound.to_string(), nanoseconds, "bucket {index}");
        }
        assert!(TALLY_BOUNDS_NS.is_sorted());
    }
}
