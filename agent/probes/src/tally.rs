//! The fallback tally: what the kernel side added up while the ring was full, as differences.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
};

use aya::maps::{HashMap as BpfHashMap, IterableMap as _, Map, MapData, MapError};
use kerntally_abi::{TALLY_BUCKETS, TallyKey, TallyValue, role};

use crate::session::Plain;

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
    /// How many exchanges there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The kernel's map, and what was read of each key so far.
pub(crate) struct TallyReader {
    map: BpfHashMap<MapData, Plain<TallyKey>, Plain<TallyValue>>,
    read: HashMap<TallyKey, TallyValue>,
}

impl TallyReader {
    /// Takes the map over, and makes the distributions that take what finds no key.
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        let mut map = BpfHashMap::try_from(map)?;
        for role in [role::SERVER, role::CLIENT] {
            map.insert(Plain(TallyKey::catch_all(role)), Plain(TallyValue::ZERO), 0)?;
        }
        Ok(Self {
            map,
            read: HashMap::new(),
        })
    }

    /// Hands over what has been added since the last call. A key that did not change and whose process has
    /// `ended` gives its place back.
    pub(crate) fn read(
        &mut self,
        ended: impl Fn(&TallyKey) -> bool,
        mut sink: impl FnMut(TallyDelta),
    ) {
        // An entry that goes away under the walk is no error.
        let now: Vec<_> = self.map.iter().filter_map(Result::ok).collect();
        for (Plain(key), Plain(value)) in now {
            let before = self.read.get(&key).copied().unwrap_or(TallyValue::ZERO);
            let delta = difference(key, &value, &before);
            if delta.count() > 0 {
                self.read.insert(key, value);
                sink(delta);
            } else if key.tgid != 0 && ended(&key) {
                self.read.remove(&key);
                // Gone already is what is wanted.
                let _gone = self.map.remove(&Plain(key));
            }
        }
    }

    /// The map's descriptor.
    pub(crate) fn fd(&self) -> RawFd {
        self.map.map().fd().as_fd().as_raw_fd()
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
    use kerntally_abi::{TALLY_BOUNDS_NS, TALLY_OFFSET, TALLY_SCALE};

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
