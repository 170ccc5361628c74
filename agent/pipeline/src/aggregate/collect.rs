//! Collections: what is handed out, what ends, and what is forgotten once it arrived.

use std::sync::Arc;

use hashbrown::HashMap;
use kerntally_model::{
    InstrumentSnapshot, Point, ProcessKey, Snapshot, Time, Workload, WorkloadSnapshot,
};

use super::attributes::place;
use super::recipe::Recipe;
use super::series::{Generation, HeldPoint, State};
use super::table::{SeriesTable, Stream};

impl SeriesTable {
    /// Starts a new collection: cumulative series that are idle and accepted end.
    pub(crate) fn begin_collection(&mut self, now: Time) -> Generation {
        self.generation.0 += 1;
        self.last_collection_unix_ns = self.last_collection_unix_ns.max(now.unix_ns);
        let idle_ns = self.idle_ns();
        let withheld = self.withheld();
        for series in self.slots.iter_mut().flatten() {
            if withheld[series.key.stream as usize] {
                // Not in this collection: it is as if it had changed since. What it replaces ends here, so it
                // starts here.
                series.changed_in = Generation(self.generation.0 + 1);
                series.start_unix_ns = self.last_collection_unix_ns;
                continue;
            }
            if series.is_delta || series.changed_in > self.accepted {
                continue;
            }
            let idle = now.monotonic_ns.saturating_sub(series.last_used_ns) > idle_ns;
            match series.state {
                State::Live if idle => series.state = State::Ended(self.generation),
                State::Leaving => series.state = State::Ended(self.generation),
                State::Live | State::Ended(_) => {}
            }
        }
        self.generation
    }

    /// Hands everything out. What delta series hold is in this collection and in no other.
    pub(crate) fn take(
        &mut self,
        now: Time,
        workload: impl Fn(u32) -> Option<Arc<Workload>>,
    ) -> Held {
        let withheld = self.withheld();
        let mut points = self.room(&withheld);
        for series in self.slots.iter_mut().flatten() {
            let stream = series.key.stream as usize;
            if !withheld[stream] && series.has_point() {
                points[stream].push(series.take_point(now));
            }
        }
        let held = Held(self.grouped(points, workload));
        self.forget_delta(now, &withheld);
        held
    }

    /// Delta series say nothing at their end.
    fn forget_delta(&mut self, now: Time, withheld: &[bool]) {
        let idle_ns = self.idle_ns();
        for slot in 0..self.slots.len() {
            let Some(series) = &self.slots[slot] else {
                continue;
            };
            let stream = series.key.stream as usize;
            if !series.is_delta || withheld[stream] {
                continue;
            }
            let idle = now.monotonic_ns.saturating_sub(series.last_used_ns) > idle_ns;
            let retired = is_retired(self.streams[stream].as_ref());
            if idle || retired || series.has_left {
                self.remove(slot);
            }
        }
    }

    /// A collection arrived: what it said to have ended is forgotten, and so is what another stream replaces.
    pub(crate) fn accepted(&mut self, generation: Generation) {
        self.accepted = self.accepted.max(generation.min(self.generation));
        for slot in 0..self.slots.len() {
            let Some(series) = &self.slots[slot] else {
                continue;
            };
            let has_ended = matches!(series.state, State::Ended(ended) if ended <= self.accepted);
            let is_replaced = !series.is_delta
                && series.changed_in <= self.accepted
                && is_retired(self.streams[series.key.stream as usize].as_ref());
            if has_ended || is_replaced {
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
        let withheld = self.withheld();
        let mut points = self.room(&withheld);
        for series in self.slots.iter().flatten() {
            let stream = series.key.stream as usize;
            if !withheld[stream] && series.has_point() {
                points[stream].push(series.point(now));
            }
        }
        to_snapshot(self.grouped(points, workload))
    }

    /// Room for the points of each stream.
    fn room<P>(&self, withheld: &[bool]) -> Vec<Vec<P>> {
        let room = |(stream, withheld): (&Option<Stream>, &bool)| match stream {
            Some(stream) if !withheld => Vec::with_capacity(stream.series),
            _ => Vec::new(),
        };
        self.streams.iter().zip(withheld).map(room).collect()
    }

    /// Points by stream in order of workloads and instruments.
    fn grouped<P>(
        &self,
        points: Vec<Vec<P>>,
        workload: impl Fn(u32) -> Option<Arc<Workload>>,
    ) -> Vec<Group<P>> {
        let mut order: Vec<(&Stream, Vec<P>)> = self
            .streams
            .iter()
            .zip(points)
            .filter_map(|(stream, points)| Some((stream.as_ref()?, points)))
            .filter(|(_, points)| !points.is_empty())
            .collect();
        order.sort_by_key(|(stream, _)| {
            let instrument = place(stream.recipe.instrument);
            (stream.workload, stream.process(), instrument)
        });
        order
            .into_iter()
            .filter_map(|(stream, points)| {
                Some(Group {
                    workload: workload(stream.workload)?,
                    process: stream.process(),
                    recipe: Arc::clone(&stream.recipe),
                    points,
                })
            })
            .collect()
    }

    /// Streams that have to wait until those they replaced are gone: one metric never has two kinds of points.
    fn withheld(&self) -> Vec<bool> {
        let mut withheld = vec![false; self.streams.len()];
        let streams = || self.streams.iter().flatten();
        if !streams().any(|stream| stream.is_retired) {
            return withheld;
        }
        let metric = |stream: &Stream| {
            let instrument = stream.recipe.instrument;
            (stream.workload, stream.process(), instrument)
        };
        let mut oldest = HashMap::new();
        for stream in streams().filter(|stream| stream.series > 0) {
            let age = oldest.entry(metric(stream)).or_insert(stream.age);
            *age = stream.age.min(*age);
        }
        for (withheld, stream) in withheld.iter_mut().zip(&self.streams) {
            let Some(stream) = stream else { continue };
            let oldest = oldest.get(&metric(stream));
            *withheld = oldest.is_some_and(|oldest| *oldest < stream.age);
        }
        withheld
    }

    fn idle_ns(&self) -> u64 {
        u64::try_from(self.limits.idle_ttl.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Points of one instrument of one workload, or of one of its processes.
#[derive(Clone, Debug)]
struct Group<P> {
    workload: Arc<Workload>,
    process: Option<ProcessKey>,
    recipe: Arc<Recipe>,
    points: Vec<P>,
}

/// What a collection took out, not written out yet.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<Group<HeldPoint>>);

impl Held {
    /// Writes it out: slow, and not a matter of the thread that takes exchanges in.
    pub(crate) fn into_snapshot(self) -> Snapshot {
        to_snapshot(self.0.into_iter().map(|group| {
            Group {
                workload: group.workload,
                process: group.process,
                recipe: group.recipe,
                // A point's value is let go as soon as it is written out.
                points: group
                    .points
                    .into_iter()
                    .map(|point| point.to_point())
                    .collect(),
            }
        }))
    }
}

fn to_snapshot(groups: impl IntoIterator<Item = Group<Point>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for group in groups {
        let instrument = InstrumentSnapshot {
            instrument: group.recipe.instrument,
            renamed: group.recipe.name.clone(),
            temporality: group.recipe.temporality,
            points: group.points,
        };
        match snapshot.workloads.last_mut() {
            Some(last)
                if Arc::ptr_eq(&last.workload, &group.workload)
                    && last.process == group.process =>
            {
                last.instruments.push(instrument);
            }
            _ => snapshot.workloads.push(WorkloadSnapshot {
                workload: group.workload,
                process: group.process,
                instruments: vec![instrument],
            }),
        }
    }
    snapshot
}

fn is_retired(stream: Option<&Stream>) -> bool {
    stream.is_some_and(|stream| stream.is_retired)
}
