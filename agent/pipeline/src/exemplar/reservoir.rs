//! What a series keeps between two collections: a bounded number of candidates, the interesting ones first.
//!
//! Among equally interesting candidates each is kept with the same probability, so with one kind of interest this is
//! the reservoir of the specification.

use kerntally_model::Exemplar;

use super::{Candidate, Interest, Random};

/// Values a series must have before it can be said which of them are slow.
const ENOUGH_VALUES: u64 = 20;

/// Where a candidate is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere among this many.
    Among(usize),
    /// In the one place of its bucket.
    Bucket {
        /// Which.
        index: usize,
        /// Of how many.
        of: usize,
    },
}

/// The exemplars of one series. Nothing is allocated before its first candidate.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Option<Box<Reservoir>>);

#[derive(Debug, Default)]
struct Reservoir {
    kept: Vec<Kept>,
    /// Candidates so far by interest and bucket, kept or not.
    seen: Vec<[u64; INTERESTS]>,
    /// What is longer is slow.
    slow_above_ns: Option<u64>,
    /// Number of values at which the bound is to be looked at again.
    look_again_at: u64,
}

const INTERESTS: usize = Interest::Error as usize + 1;

#[derive(Clone, Copy, Debug)]
struct Kept {
    candidate: Candidate,
    duration_ns: u64,
    bucket: usize,
}

impl Exemplars {
    /// Offers a candidate. `values` is the series' number of values, this one included; `p95_ns` is asked for now and
    /// then.
    pub(crate) fn offer(
        &mut self,
        mut candidate: Candidate,
        duration_ns: u64,
        place: Place,
        random: &mut Random,
        (values, p95_ns): (u64, impl FnOnce() -> Option<u64>),
    ) {
        let reservoir = self.0.get_or_insert_default();
        if candidate.interest == Interest::ByDuration {
            candidate.interest = reservoir.by_duration(duration_ns, values, p95_ns);
        }
        let (bucket, room) = match place {
            Place::Among(room) => (0, room),
            Place::Bucket { index, .. } => (index, 1),
        };
        let total = match place {
            Place::Among(room) => room,
            Place::Bucket { of, .. } => of,
        };
        reservoir
            .kept
            .reserve_exact(total.saturating_sub(reservoir.kept.len()));
        let kept = Kept {
            candidate,
            duration_ns,
            bucket,
        };
        reservoir.take(kept, room, random);
    }

    /// What is kept, in order of time: values in the metric's unit, times within the point's window.
    pub(crate) fn to_model(
        &self,
        (start_unix_ns, time_unix_ns): (u64, u64),
        unit: impl Fn(u64) -> f64,
    ) -> Vec<Exemplar> {
        let Some(reservoir) = &self.0 else {
            return Vec::new();
        };
        let exemplar = |kept: &Kept| Exemplar {
            value: unit(kept.duration_ns),
            time_unix_ns: kept
                .candidate
                .time_unix_ns
                .max(start_unix_ns)
                .min(time_unix_ns),
            trace_id: kept.candidate.trace_id,
            span_id: kept.candidate.span_id,
        };
        let mut exemplars: Vec<Exemplar> = reservoir.kept.iter().map(exemplar).collect();
        exemplars.sort_by_key(|exemplar| exemplar.time_unix_ns);
        exemplars
    }

    /// They were handed over: the next window begins. What a window did not need is given back.
    pub(crate) fn clear(&mut self) {
        if let Some(reservoir) = &mut self.0 {
            if reservoir.kept.is_empty() {
                self.0 = None;
            } else {
                reservoir.kept.clear();
                reservoir.seen.fill([0; INTERESTS]);
                reservoir.look_again_at = 0;
            }
        }
    }
}

impl Reservoir {
    /// Tells slow values from the others. The bound is taken from the series itself, at the first candidate of a
    /// window and whenever the values have doubled since.
    fn by_duration(
        &mut self,
        duration_ns: u64,
        values: u64,
        p95_ns: impl FnOnce() -> Option<u64>,
    ) -> Interest {
        if values >= self.look_again_at.max(ENOUGH_VALUES) {
            self.slow_above_ns = p95_ns();
            self.look_again_at = values.saturating_mul(2);
        }
        match self.slow_above_ns {
            Some(bound) if duration_ns > bound => Interest::Slow,
            _ => Interest::Any,
        }
    }

    fn take(&mut self, new: Kept, room: usize, random: &mut Random) {
        let interest = new.candidate.interest;
        let seen = self.count(new.bucket, interest);
        let in_bucket = |kept: &&Kept| kept.bucket == new.bucket;
        if self.kept.iter().filter(in_bucket).count() < room {
            self.kept.push(new);
            return;
        }
        let least = self
            .kept
            .iter()
            .filter(in_bucket)
            .map(|kept| kept.candidate.interest)
            .min();
        let Some(least) = least.filter(|least| *least <= interest) else {
            return;
        };
        let candidates = self.kept.iter().filter(in_bucket);
        let places = candidates
            .filter(|kept| kept.candidate.interest == least)
            .count() as u64;
        // The more interesting one always finds a place; among equals, each has the same chance to stay.
        let choices = if least < interest { places } else { seen };
        let chosen = random.below(choices);
        let mut replaceable = self
            .kept
            .iter_mut()
            .filter(|kept| kept.bucket == new.bucket && kept.candidate.interest == least);
        if let Ok(chosen) = usize::try_from(chosen)
            && let Some(kept) = replaceable.nth(chosen)
        {
            *kept = new;
        }
    }

    /// Counts a candidate; returns how many of its kind there were.
    fn count(&mut self, bucket: usize, interest: Interest) -> u64 {
        if self.seen.len() <= bucket {
            self.seen.resize(bucket + 1, [0; INTERESTS]);
        }
        let seen = &mut self.seen[bucket][interest as usize];
        *seen += 1;
        *seen
    }
}

#[cfg(test)]
mod tests;
