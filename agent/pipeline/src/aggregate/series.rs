//! One series: what it is told apart by, and what it holds.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kerntally_model::{Attribute, HttpVersion, Point, PointValue, Scheme, Time};

use super::recipe::{Measured, Value};
use super::unit::Unit;
use super::values::{ErrorKey, StatusKey};

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
    pub(super) const fn overflow(stream: u32) -> Self {
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
    ) {
        if self.changed_in != next {
            self.resume(next, since_unix_ns);
        }
        self.last_used_ns = now_ns;
        match (&mut self.value, measured) {
            (Value::Exponential(histogram), Measured::Duration(ns)) => {
                histogram.record(ns, self.unit);
            }
            (Value::Explicit(histogram), Measured::Duration(ns)) => histogram.record(ns, self.unit),
            (Value::Exponential(histogram), Measured::Part(part)) => {
                histogram.merge(part, self.unit);
            }
            (Value::Explicit(histogram), Measured::Part(part)) => histogram.merge(part, self.unit),
            (Value::UpDown(value), Measured::Open(more)) => *value = value.saturating_add(more),
            // Instruments and what is recorded for them are matched by their callers.
            (Value::UpDown(_), _) | (_, Measured::Open(_)) => {}
        }
    }

    /// The first measurement since a collection: a window begins, or the series returns from its end.
    fn resume(&mut self, next: Generation, since_unix_ns: u64) {
        let returns = matches!(self.state, State::Ended(_));
        if returns {
            self.state = State::Live;
            self.clear();
        }
        if returns || self.is_delta {
            self.start_unix_ns = since_unix_ns;
        }
        self.changed_in = next;
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        match &mut self.value {
            Value::Exponential(histogram) => histogram.clear(),
            Value::Explicit(histogram) => histogram.clear(),
            Value::UpDown(value) => *value = 0,
        }
    }

    /// Whether there is something to say: a delta series without measurements is silent.
    pub(super) fn has_point(&self) -> bool {
        let is_empty = match &self.value {
            Value::Exponential(histogram) => histogram.count() == 0,
            Value::Explicit(histogram) => histogram.is_empty(),
            Value::UpDown(_) => false,
        };
        !self.is_delta || !is_empty
    }

    pub(super) fn point(&self, now: Time) -> Point {
        let value = match (&self.state, &self.value) {
            (State::Ended(_), _) => PointValue::NoRecordedValue,
            (_, Value::Exponential(histogram)) => {
                PointValue::Exponential(histogram.to_model(self.unit))
            }
            (_, Value::Explicit(histogram)) => PointValue::Explicit(histogram.to_model(self.unit)),
            (_, Value::UpDown(value)) => PointValue::UpDown(*value),
        };
        Point {
            attributes: Arc::clone(&self.attributes),
            start_unix_ns: self.start_unix_ns,
            // A clock that was set back must not make a point end before it starts.
            time_unix_ns: now.unix_ns.max(self.start_unix_ns),
            value,
            exemplars: Vec::new(),
        }
    }
}
