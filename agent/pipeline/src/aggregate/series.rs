//! One series: what it is told apart by, and what it holds.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kerntally_model::{Attribute, Exemplar, HttpVersion, Point, PointValue, Scheme, Time};

use super::recipe::Measured;
use super::unit::Unit;
use super::value::Value;
use super::values::{ErrorKey, StatusKey};
use crate::exemplar::{Candidate, Exemplars, Random};

/// Identity of a series: interned numbers only, so that finding one allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesKey {
    /// Stream: the instrument of a workload.
    pub(crate) stream: u32,
    /// Interned route; 0 if absent.
    pub(crate) route: u32,
    /// Interned server address; 0 if absent.
    pub(crate) address: u32,
    /// Server port; 0 if absent.
    pub(crate) port: u16,
    /// Interned method plus one; 0 if not listed.
    pub(crate) method: u16,
    /// Number of the status.
    pub(crate) status: u16,
    /// Number of the error.
    pub(crate) error: u16,
    /// Version and scheme; all set for the overflow series.
    pub(crate) bits: u16,
}

/// What is in the keys beside numbers of interned texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Status.
    pub(crate) status: StatusKey,
    /// Error.
    pub(crate) error: ErrorKey,
    /// Protocol version.
    pub(crate) version: Option<HttpVersion>,
    /// Scheme.
    pub(crate) scheme: Option<Scheme>,
}

impl SeriesKey {
    /// A key without interned texts.
    pub(crate) fn new(stream: u32, facts: &Facts) -> Self {
        let version = match facts.version {
            None => 0,
            Some(HttpVersion::Http10) => 1,
            Some(HttpVersion::Http11) => 2,
        };
        let scheme = match facts.scheme {
            None => 0,
            Some(Scheme::Http) => 1,
            Some(Scheme::Https) => 2,
        };
        Self {
            stream,
            route: 0,
            address: 0,
            port: 0,
            method: 0,
            status: facts.status.number(),
            error: facts.error.number(),
            bits: version | scheme << 8,
        }
    }

    /// The overflow series of a stream.
    pub(crate) const fn overflow(stream: u32) -> Self {
        Self {
            stream,
            route: 0,
            address: 0,
            port: 0,
            method: 0,
            status: 0,
            error: 0,
            bits: u16::MAX,
        }
    }

    pub(super) const fn is_overflow(&self) -> bool {
        self.bits == u16::MAX
    }
}

impl Hash for SeriesKey {
    /// Three words in place of eight small fields.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let narrow = u64::from(self.status) << 32 | u64::from(self.error) << 16;
        state.write_u64(u64::from(self.stream) << 32 | u64::from(self.route));
        state.write_u64(
            u64::from(self.address) << 32 | u64::from(self.port) << 16 | u64::from(self.method),
        );
        state.write_u64(narrow | u64::from(self.bits));
    }
}

/// Number of a collection, to say later that it was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub(super) u64);

/// How far a series is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It takes measurements.
    Live,
    /// It gave its place to another service and takes no more; its last value is still to be accepted.
    Leaving,
    /// It said that it ended, first in this collection.
    Ended(Generation),
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) key: SeriesKey,
    pub(super) attributes: Arc<[Attribute]>,
    pub(super) value: Value,
    pub(super) exemplars: Exemplars,
    pub(super) unit: Unit,
    /// Each collection takes out what there is.
    pub(super) is_delta: bool,
    pub(super) state: State,
    /// It gave its place away: it does not return, and counts against no limit.
    pub(super) has_left: bool,
    pub(super) start_unix_ns: u64,
    pub(super) last_used_ns: u64,
    /// First collection that holds the latest value.
    pub(super) changed_in: Generation,
}

impl Series {
    /// Takes a measurement in, for the collection `next`; `since_unix_ns` is the time of the one before.
    pub(super) fn record(
        &mut self,
        measured: Measured<'_>,
        now_ns: u64,
        next: Generation,
        since_unix_ns: u64,
        random: &mut Random,
    ) {
        if self.changed_in != next {
            self.resume(next, since_unix_ns);
        }
        self.last_used_ns = now_ns;
        self.value.record(measured, self.unit);
        if let Measured::Exchange {
            duration_ns,
            exemplar: Some((candidate, per_series)),
        } = measured
        {
            self.offer(candidate, duration_ns, per_series, random);
        }
    }

    fn offer(
        &mut self,
        candidate: Candidate,
        duration_ns: u64,
        per_series: usize,
        random: &mut Random,
    ) {
        let (value, unit) = (&self.value, self.unit);
        let place = value.place(duration_ns, per_series, unit);
        let values = (value.count(), || value.quantile_ns(95, unit));
        self.exemplars
            .offer(candidate, duration_ns, place, random, values);
    }

    /// The first measurement since a collection: a window begins, or the series returns from its end.
    fn resume(&mut self, next: Generation, since_unix_ns: u64) {
        let returns = matches!(self.state, State::Ended(_));
        if returns {
            self.state = State::Live;
            self.value.clear();
        }
        if returns || self.is_delta {
            self.start_unix_ns = since_unix_ns;
        }
        self.changed_in = next;
    }

    /// Whether there is something to say: a delta series without measurements is silent.
    pub(super) fn has_point(&self) -> bool {
        !self.is_delta || !self.value.is_empty()
    }

    pub(super) fn point(&self, now: Time) -> Point {
        let has_ended = matches!(self.state, State::Ended(_));
        Point {
            attributes: Arc::clone(&self.attributes),
            start_unix_ns: self.start_unix_ns,
            time_unix_ns: self.time_of_point(now),
            value: if has_ended {
                PointValue::NoRecordedValue
            } else {
                self.value.to_model(self.unit)
            },
            exemplars: self.exemplars_until(now),
        }
    }

    /// Hands the point out without copying it; a delta series begins anew.
    pub(super) fn take_point(&mut self, now: Time) -> HeldPoint {
        let exemplars = self.exemplars_until(now);
        self.exemplars.clear();
        HeldPoint {
            exemplars,
            attributes: Arc::clone(&self.attributes),
            start_unix_ns: self.start_unix_ns,
            time_unix_ns: self.time_of_point(now),
            unit: self.unit,
            value: match (self.state, &mut self.value) {
                (State::Ended(_), _) => Held::Ended,
                (_, Value::UpDown(value)) => Held::UpDown(*value),
                (_, value) if self.is_delta => Held::Value(value.take()),
                (_, value) => Held::Value(value.share()),
            },
        }
    }

    fn exemplars_until(&self, now: Time) -> Vec<Exemplar> {
        let window = (self.start_unix_ns, self.time_of_point(now));
        match self.state {
            State::Ended(_) => Vec::new(),
            State::Live | State::Leaving => self.exemplars.to_model(window, |ns| self.unit.of(ns)),
        }
    }

    /// A clock that was set back must not make a point end before it starts.
    fn time_of_point(&self, now: Time) -> u64 {
        now.unix_ns.max(self.start_unix_ns)
    }
}

/// A point of a collection that was not written out yet.
#[derive(Clone, Debug)]
pub(super) struct HeldPoint {
    attributes: Arc<[Attribute]>,
    start_unix_ns: u64,
    time_unix_ns: u64,
    unit: Unit,
    value: Held,
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, Debug)]
enum Held {
    Value(Arc<Value>),
    UpDown(i64),
    Ended,
}

impl HeldPoint {
    pub(super) fn to_point(&self) -> Point {
        Point {
            attributes: Arc::clone(&self.attributes),
            start_unix_ns: self.start_unix_ns,
            time_unix_ns: self.time_unix_ns,
            value: match &self.value {
                Held::Value(value) => value.to_model(self.unit),
                Held::UpDown(value) => PointValue::UpDown(*value),
                Held::Ended => PointValue::NoRecordedValue,
            },
            exemplars: self.exemplars.clone(),
        }
    }
}
