//! Series, found by one hash, within limits, and forgotten when idle.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use kerntally_model::{
    Attribute, HttpVersion, Instrument, InstrumentSnapshot, Point, PointValue, Scheme, Snapshot,
    Temporality, Time, Workload, WorkloadSnapshot,
};

use super::attributes::{ErrorKey, StatusKey, overflow};
use super::histogram::Histogram;
use crate::config::Cardinality;
use crate::route::RouteId;

/// Identity of a series: interned numbers only, so that finding one allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey {
    /// Slot of the workload.
    pub(crate) workload: u32,
    /// Instrument.
    pub(crate) instrument: Instrument,
    /// The overflow series of the workload and instrument; all below is absent.
    pub(crate) overflow: bool,
    /// Interned method plus one; 0 if not listed.
    pub(crate) method: u16,
    /// Interned route; 0 if absent.
    pub(crate) route: u32,
    /// Interned server address; 0 if absent.
    pub(crate) address: u32,
    /// Server port.
    pub(crate) port: Option<u16>,
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
    /// The overflow series of a workload and instrument.
    pub(crate) fn overflow(workload: u32, instrument: Instrument) -> Self {
        Self {
            workload,
            instrument,
            overflow: true,
            method: 0,
            route: 0,
            address: 0,
            port: None,
            status: StatusKey::Absent,
            error: ErrorKey::Absent,
            version: None,
            scheme: None,
        }
    }
}

/// Number of a collection, to say later that it was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

#[derive(Debug)]
struct Series {
    key: SeriesKey,
    attributes: Arc<[Attribute]>,
    histogram: Histogram,
    start_unix_ns: u64,
    last_used_ns: u64,
    /// First collection that holds the latest value.
    changed_in: Generation,
    /// First collection that said that the series ended.
    ended_in: Option<Generation>,
}

/// Live series of one workload against its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series that count against the limit.
    pub series: usize,
    /// Exchanges that went to an overflow series.
    pub overflowed: u64,
}

/// Interned numbers that series of one workload refer to.
#[derive(Debug, Default)]
pub(crate) struct References {
    pub(crate) server_routes: HashSet<RouteId>,
    pub(crate) client_routes: HashSet<RouteId>,
    pub(crate) addresses: HashSet<u32>,
}

/// All series of the agent.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    limits: Cardinality,
    index: HashMap<SeriesKey, usize>,
    slots: Vec<Option<Series>>,
    free: Vec<usize>,
    usage: HashMap<u32, Usage>,
    /// Sum over the workloads of their series, or of what they are guaranteed if that is more.
    reserved: usize,
    generation: Generation,
    accepted: Generation,
    last_collection_unix_ns: u64,
}

impl SeriesTable {
    /// An empty table; series start at `now` until the first collection.
    pub(crate) fn new(limits: Cardinality, now: Time) -> Self {
        Self {
            limits,
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            usage: HashMap::new(),
            reserved: 0,
            generation: Generation::default(),
            accepted: Generation::default(),
            last_collection_unix_ns: now.unix_ns,
        }
    }

    /// Changes the limits; series beyond them stay until they are idle.
    pub(crate) fn set_limits(&mut self, limits: Cardinality) {
        self.limits = limits;
        let guaranteed = self.guaranteed();
        self.reserved = self
            .usage
            .values()
            .map(|usage| reservation(usage.series, guaranteed))
            .sum();
    }

    /// Counts one duration in the series of `key`, or in the overflow series if there is no room for it.
    /// `describe` is asked for the attributes of a new series.
    pub(crate) fn record(
        &mut self,
        key: SeriesKey,
        per_service: usize,
        duration_ns: u64,
        now: Time,
        describe: impl FnOnce() -> Arc<[Attribute]>,
    ) {
        let slot = if let Some(slot) = self.index.get(&key) {
            *slot
        } else if self.admit(key.workload, per_service) {
            self.insert(key, describe())
        } else {
            self.usage.entry(key.workload).or_default().overflowed += 1;
            let key = SeriesKey::overflow(key.workload, key.instrument);
            match self.index.get(&key) {
                Some(slot) => *slot,
                None => self.insert(key, overflow()),
            }
        };
        let next = Generation(self.generation.0 + 1);
        if let Some(series) = &mut self.slots[slot] {
            if series.ended_in.is_some() {
                series.ended_in = None;
                series.histogram = Histogram::default();
                series.start_unix_ns = self.last_collection_unix_ns;
            }
            series.histogram.record(duration_ns);
            series.last_used_ns = now.monotonic_ns;
            series.changed_in = next;
        }
    }

    /// Ends what is idle and accepted, and starts a new collection.
    pub(crate) fn begin_collection(&mut self, now: Time) -> Generation {
        self.generation.0 += 1;
        self.last_collection_unix_ns = self.last_collection_unix_ns.max(now.unix_ns);
        let idle_ns = u64::try_from(self.limits.idle_ttl.as_nanos()).unwrap_or(u64::MAX);
        for series in self.slots.iter_mut().flatten() {
            let idle = now.monotonic_ns.saturating_sub(series.last_used_ns) > idle_ns;
            if idle && series.ended_in.is_none() && series.changed_in <= self.accepted {
                series.ended_in = Some(self.generation);
            }
        }
        self.generation
    }

    /// A collection arrived: what it said to have ended is forgotten.
    pub(crate) fn accepted(&mut self, generation: Generation) {
        self.accepted = self.accepted.max(generation.min(self.generation));
        for slot in 0..self.slots.len() {
            let ended = self.slots[slot].as_ref().and_then(|series| series.ended_in);
            if ended.is_some_and(|ended| ended <= self.accepted) {
                self.remove(slot);
            }
        }
    }

    /// All series as they are now.
    pub(crate) fn snapshot(
        &self,
        now: Time,
        workload: impl Fn(u32) -> Option<Arc<Workload>>,
    ) -> Snapshot {
        let mut order: Vec<&Series> = self.slots.iter().flatten().collect();
        order.sort_by_key(|series| (series.key.workload, series.key.instrument));
        let mut snapshot = Snapshot::default();
        for of_workload in order.chunk_by(|a, b| a.key.workload == b.key.workload) {
            let Some(workload) = workload(of_workload[0].key.workload) else {
                continue;
            };
            let instruments = of_workload
                .chunk_by(|a, b| a.key.instrument == b.key.instrument)
                .map(|series| InstrumentSnapshot {
                    instrument: series[0].key.instrument,
                    renamed: None,
                    temporality: Temporality::Cumulative,
                    points: series.iter().map(|series| series.point(now)).collect(),
                })
                .collect();
            snapshot.workloads.push(WorkloadSnapshot {
                workload,
                instruments,
            });
        }
        snapshot
    }

    /// Use of a workload's limit.
    pub(crate) fn usage(&self, workload: u32) -> Usage {
        self.usage.get(&workload).copied().unwrap_or_default()
    }

    /// What series refer to, by workload.
    pub(crate) fn references(&self) -> HashMap<u32, References> {
        let mut references: HashMap<u32, References> = HashMap::new();
        for key in self.index.keys() {
            let of_workload = references.entry(key.workload).or_default();
            of_workload.addresses.insert(key.address);
            match key.instrument {
                Instrument::HttpClientRequestDuration => &mut of_workload.client_routes,
                _ => &mut of_workload.server_routes,
            }
            .insert(RouteId(key.route));
        }
        references
    }

    /// Forgets a workload that has no series.
    pub(crate) fn forget(&mut self, workload: u32) {
        self.usage.remove(&workload);
    }

    /// Number of series, overflow series included.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Every workload may have this many whatever the others do; only what exceeds it competes.
    fn guaranteed(&self) -> usize {
        self.limits.total / self.limits.services.max(1)
    }

    fn admit(&self, workload: u32, per_service: usize) -> bool {
        let series = self.usage(workload).series;
        series < per_service && (series < self.guaranteed() || self.reserved < self.limits.total)
    }

    fn insert(&mut self, key: SeriesKey, attributes: Arc<[Attribute]>) -> usize {
        if !key.overflow {
            let guaranteed = self.guaranteed();
            let usage = self.usage.entry(key.workload).or_default();
            self.reserved -= reservation(usage.series, guaranteed);
            usage.series += 1;
            self.reserved += reservation(usage.series, guaranteed);
        }
        let series = Series {
            key,
            attributes,
            histogram: Histogram::default(),
            start_unix_ns: self.last_collection_unix_ns,
            last_used_ns: 0,
            changed_in: Generation::default(),
            ended_in: None,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(series);
        self.index.insert(key, slot);
        slot
    }

    fn remove(&mut self, slot: usize) {
        let Some(series) = self.slots[slot].take() else {
            return;
        };
        self.index.remove(&series.key);
        self.free.push(slot);
        let guaranteed = self.guaranteed();
        if !series.key.overflow
            && let Some(usage) = self.usage.get_mut(&series.key.workload)
        {
            self.reserved -= reservation(usage.series, guaranteed);
            usage.series -= 1;
            self.reserved += reservation(usage.series, guaranteed);
        }
    }
}

impl Series {
    fn point(&self, now: Time) -> Point {
        Point {
            attributes: Arc::clone(&self.attributes),
            start_unix_ns: self.start_unix_ns,
            // A clock that was set back must not make a point end before it starts.
            time_unix_ns: now.unix_ns.max(self.start_unix_ns),
            value: match self.ended_in {
                Some(_) => PointValue::NoRecordedValue,
                None => PointValue::Exponential(self.histogram.to_model()),
            },
            exemplars: Vec::new(),
        }
    }
}

fn reservation(series: usize, guaranteed: usize) -> usize {
    if series == 0 {
        0
    } else {
        series.max(guaranteed)
    }
}
