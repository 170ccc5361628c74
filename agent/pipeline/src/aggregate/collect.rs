//! Collections: what is handed out, what ends, and what is forgotten once it arrived.

use std::sync::Arc;

use kerntally_model::{InstrumentSnapshot, Point, Snapshot, Time, Workload, WorkloadSnapshot};

use super::attributes::place;
use super::series::{Generation, State};
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
                // Not in this collection: it is as if it had changed since.
                series.changed_in = Generation(self.generation.0 + 1);
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

    /// Takes out what delta series hold, after it was handed out: each measurement is in one collection.
    pub(crate) fn end_collection(&mut self, now: Time) {
        let idle_ns = self.idle_ns();
        let withheld = self.withheld();
        for slot in 0..self.slots.len() {
            let Some(series) = &mut self.slots[slot] else {
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
            } else if series.changed_in == self.generation {
                series.clear();
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
        let mut points = self.points(now);
        let mut order: Vec<(usize, &Stream)> = self
            .streams
            .iter()
            .enumerate()
            .filter_map(|(id, stream)| Some((id, stream.as_ref()?)))
            .filter(|(id, _)| !points[*id].is_empty())
            .collect();
        order.sort_by_key(|(_, stream)| (stream.workload, place(stream.recipe.instrument)));
        let mut snapshot = Snapshot::default();
        for of_workload in order.chunk_by(|(_, a), (_, b)| a.workload == b.workload) {
            let Some(workload) = workload(of_workload[0].1.workload) else {
                continue;
            };
            let instruments = of_workload
                .iter()
                .map(|(id, stream)| InstrumentSnapshot {
                    instrument: stream.recipe.instrument,
                    renamed: stream.recipe.name.clone(),
                    temporality: stream.recipe.temporality,
                    points: std::mem::take(&mut points[*id]),
                })
                .collect();
            snapshot.workloads.push(WorkloadSnapshot {
                workload,
                instruments,
            });
        }
        snapshot
    }

    /// Points by stream.
    fn points(&self, now: Time) -> Vec<Vec<Point>> {
        let withheld = self.withheld();
        let room = |(stream, withheld): (&Option<Stream>, &bool)| match stream {
            Some(stream) if !withheld => Vec::with_capacity(stream.series),
            _ => Vec::new(),
        };
        let mut points: Vec<Vec<Point>> = self.streams.iter().zip(&withheld).map(room).collect();
        for series in self.slots.iter().flatten() {
            let stream = series.key.stream as usize;
            if !withheld[stream] && series.has_point() {
                points[stream].push(series.point(now));
            }
        }
        points
    }

    /// Streams that have to wait until those they replaced are gone: one metric never has two kinds of points.
    fn withheld(&self) -> Vec<bool> {
        let mut withheld = vec![false; self.streams.len()];
        let streams = || self.streams.iter().flatten();
        if !streams().any(|stream| stream.is_retired) {
            return withheld;
        }
        for (withheld, stream) in withheld.iter_mut().zip(&self.streams) {
            let Some(stream) = stream else { continue };
            *withheld = streams().any(|other| {
                other.workload == stream.workload
                    && other.recipe.instrument == stream.recipe.instrument
                    && other.series > 0
                    && other.age < stream.age
            });
        }
        withheld
    }

    fn idle_ns(&self) -> u64 {
        u64::try_from(self.limits.idle_ttl.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn is_retired(stream: Option<&Stream>) -> bool {
    stream.is_some_and(|stream| stream.is_retired)
}
