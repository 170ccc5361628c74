//! All series of the agent, found by one hash.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use kerntally_model::{Attribute, Instrument, ProcessKey, Time};

use super::account::{Account, Usage};
use super::recipe::{Measured, Recipe};
use super::series::{Generation, Series, SeriesKey, State};
use super::value::Value;
use super::values::overflow;
use crate::config::Cardinality;
use crate::exemplar::{Exemplars, Random};
use crate::route::RouteId;

/// Interned numbers that series of one workload refer to.
#[derive(Debug, Default)]
pub(crate) struct References {
    pub(crate) server_routes: HashSet<RouteId>,
    pub(crate) client_routes: HashSet<RouteId>,
    pub(crate) addresses: HashSet<u32>,
}

/// One instrument of one workload, or of one of its processes, by one recipe. With another recipe it becomes another stream, so that what was
/// recorded by the old one is never mixed with what follows.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) workload: u32,
    /// Its process, and the stream of all of them, where each has its own.
    pub(super) own: Option<Own>,
    pub(super) recipe: Arc<Recipe>,
    /// Another one took its place.
    pub(super) is_retired: bool,
    /// Series, overflow included.
    pub(super) series: usize,
    overflow: Option<usize>,
    pub(super) overflowed: u64,
    /// Order of opening.
    pub(super) age: u64,
}

/// What makes a stream that of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) process: ProcessKey,
    /// The service's stream, whose overflow series takes what has no room: one a service and instrument, however
    /// many processes come and go.
    pub(crate) shared: u32,
}

impl Stream {
    /// Its process, if it is of one alone.
    pub(super) fn process(&self) -> Option<ProcessKey> {
        self.own.map(|own| own.process)
    }
}

/// All series of the agent.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    pub(super) limits: Cardinality,
    index: HashMap<SeriesKey, usize>,
    pub(super) slots: Vec<Option<Series>>,
    free: Vec<usize>,
    pub(super) streams: Vec<Option<Stream>>,
    opened: u64,
    pub(super) accounts: HashMap<u32, Account>,
    /// Series that count against the limits.
    pub(super) counted: usize,
    /// Collection in which no series could be taken from another service.
    pub(super) no_victim_in: Option<Generation>,
    pub(super) generation: Generation,
    pub(super) accepted: Generation,
    pub(super) last_collection_unix_ns: u64,
    random: Random,
}

impl SeriesTable {
    /// An empty table; series start at `now` until the first collection.
    pub(crate) fn new(limits: Cardinality, now: Time, random: Random) -> Self {
        Self {
            limits,
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            streams: Vec::new(),
            opened: 0,
            accounts: HashMap::new(),
            counted: 0,
            no_victim_in: None,
            generation: Generation::default(),
            accepted: Generation::default(),
            last_collection_unix_ns: now.unix_ns,
            random,
        }
    }

    /// Changes the limits; series beyond them stay until they are idle.
    pub(crate) fn set_limits(&mut self, limits: Cardinality) {
        self.limits = limits;
        self.no_victim_in = None;
    }

    /// Opens the stream of an instrument of a workload, or of one of its processes.
    pub(crate) fn open(&mut self, workload: u32, own: Option<Own>, recipe: &Arc<Recipe>) -> u32 {
        self.opened += 1;
        let stream = Stream {
            workload,
            own,
            recipe: Arc::clone(recipe),
            is_retired: false,
            series: 0,
            overflow: None,
            overflowed: 0,
            age: self.opened,
        };
        let place = self.streams.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            self.streams.push(None);
            self.streams.len() - 1
        });
        self.streams[place] = Some(stream);
        // No more than three for each service, and one for each series.
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Whether a stream has series.
    pub(crate) fn has_series(&self, stream: u32) -> bool {
        let stream = self.streams.get(stream as usize).and_then(Option::as_ref);
        stream.is_some_and(|stream| stream.series > 0)
    }

    /// No more is recorded in a stream: its last values are handed out before those of its successor.
    pub(crate) fn retire(&mut self, stream: u32) {
        let place = self.streams.get_mut(stream as usize);
        if let Some(place) = place
            && let Some(stream) = place
        {
            stream.is_retired = true;
            place.take_if(|stream| stream.series == 0);
        }
    }

    /// Counts something in the series of `key`, or in the overflow series if there is no room for it. `describe`
    /// is asked for the attributes of a new series.
    pub(crate) fn record(
        &mut self,
        key: SeriesKey,
        per_service: usize,
        measured: Measured<'_>,
        now: Time,
        describe: impl FnOnce() -> Arc<[Attribute]>,
    ) {
        let next = Generation(self.generation.0 + 1);
        if let Some(slot) = self.index.get(&key)
            && let Some(series) = &mut self.slots[*slot]
            && !series.has_left
        {
            let since = self.last_collection_unix_ns;
            series.record(measured, now.monotonic_ns, next, since, &mut self.random);
            return;
        }
        self.record_new(key, per_service, measured, now, describe);
    }

    /// Use of a workload's limit.
    pub(crate) fn usage(&self, workload: u32, now_ns: u64) -> Usage {
        let account = self.accounts.get(&workload);
        account.map_or_else(Usage::default, |account| account.usage(now_ns))
    }

    /// What series refer to, by workload.
    pub(crate) fn references(&self) -> HashMap<u32, References> {
        let mut references: HashMap<u32, References> = HashMap::new();
        for key in self.index.keys() {
            let Some(stream) = &self.streams[key.stream as usize] else {
                continue;
            };
            let of_workload = references.entry(stream.workload).or_default();
            of_workload.addresses.insert(key.address);
            match stream.recipe.instrument {
                Instrument::HttpServerRequestDuration => &mut of_workload.server_routes,
                Instrument::HttpClientRequestDuration => &mut of_workload.client_routes,
                Instrument::HttpServerActiveRequests => continue,
            }
            .insert(RouteId(key.route));
        }
        references
    }

    /// Forgets a workload that has no series.
    pub(crate) fn forget(&mut self, workload: u32) {
        self.accounts.remove(&workload);
        for place in &mut self.streams {
            place.take_if(|stream| stream.workload == workload);
        }
    }

    /// Nothing is open any more: what is follows by [`Self::record`].
    pub(crate) fn close_open(&mut self) {
        let next = Generation(self.generation.0 + 1);
        for series in self.slots.iter_mut().flatten() {
            if let Value::UpDown(value) = &mut series.value
                && *value != 0
            {
                *value = 0;
                series.changed_in = next;
            }
        }
    }

    /// Number of live series, overflow series included.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Series that count against the limits.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// How many may count against the limits.
    pub(crate) fn total(&self) -> usize {
        self.limits.total
    }

    /// Every workload may have this many whatever the others do; only what exceeds it competes.
    pub(crate) fn guaranteed(&self) -> usize {
        self.limits.total / self.limits.services.max(1)
    }

    #[cold]
    fn record_new(
        &mut self,
        key: SeriesKey,
        per_service: usize,
        measured: Measured<'_>,
        now: Time,
        describe: impl FnOnce() -> Arc<[Attribute]>,
    ) {
        let Some(stream) = &self.streams[key.stream as usize] else {
            return;
        };
        let workload = stream.workload;
        let shared = stream.own.map_or(key.stream, |own| own.shared);
        let is_leaving = self.index.contains_key(&key);
        let slot = if !is_leaving && self.admit(workload, per_service) {
            let account = self.accounts.entry(workload).or_default();
            account.on_created(now.monotonic_ns);
            self.counted += 1;
            Some(self.insert(key, describe()))
        } else {
            self.note_overflow(shared, workload, measured.exchanges());
            let shared = self.streams.get(shared as usize).and_then(Option::as_ref);
            shared.and_then(|stream| stream.overflow)
        };
        let slot = slot.unwrap_or_else(|| self.insert(SeriesKey::overflow(shared), overflow()));
        let next = Generation(self.generation.0 + 1);
        if let Some(series) = &mut self.slots[slot] {
            let since = self.last_collection_unix_ns;
            series.record(measured, now.monotonic_ns, next, since, &mut self.random);
        }
    }

    fn note_overflow(&mut self, stream: u32, workload: u32, exchanges: u64) {
        self.accounts.entry(workload).or_default().overflowed += exchanges;
        if let Some(Some(stream)) = self.streams.get_mut(stream as usize) {
            stream.overflowed += exchanges;
        }
    }

    fn insert(&mut self, key: SeriesKey, attributes: Arc<[Attribute]>) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.index.insert(key, slot);
        if let Some(stream) = &mut self.streams[key.stream as usize] {
            stream.series += 1;
            if key.is_overflow() {
                stream.overflow = Some(slot);
            }
            self.slots[slot] = Some(Series {
                key,
                attributes,
                value: stream.recipe.empty(),
                exemplars: Exemplars::default(),
                unit: stream.recipe.unit,
                is_delta: stream.recipe.temporality == kerntally_model::Temporality::Delta,
                state: State::Live,
                has_left: false,
                start_unix_ns: self.last_collection_unix_ns,
                last_used_ns: 0,
                changed_in: Generation::default(),
            });
        }
        slot
    }

    pub(super) fn remove(&mut self, slot: usize) {
        let Some(series) = self.slots[slot].take() else {
            return;
        };
        self.index.remove(&series.key);
        self.free.push(slot);
        let place = &mut self.streams[series.key.stream as usize];
        if let Some(stream) = place {
            stream.series -= 1;
            if series.key.is_overflow() {
                stream.overflow = None;
            }
            if !series.key.is_overflow() && !series.has_left {
                let workload = stream.workload;
                self.counted -= 1;
                if let Some(account) = self.accounts.get_mut(&workload) {
                    account.series -= 1;
                }
            }
            place.take_if(|stream| stream.is_retired && stream.series == 0);
        }
    }
}
