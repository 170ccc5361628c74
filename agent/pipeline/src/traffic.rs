//! Tables for people: what happened between two snapshots, per service and route.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use kerntally_model::{
    Attribute, AttributeValue, ExplicitHistogram, ExponentialHistogram, Instrument,
    InstrumentSnapshot, Point, PointValue, Role, Snapshot, Temporality, Time, Workload,
};

use crate::aggregate::{MAX_SCALE, index};

/// Resolution of what has no exponential buckets of seconds.
const TRAFFIC_SCALE: i32 = 4;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct TrafficRow {
    /// The service.
    pub workload: Arc<Workload>,
    /// The side.
    pub role: Role,
    /// Route on servers; template or address of the server on clients.
    pub label: Option<Arc<str>>,
    /// Exchanges since the last snapshot.
    pub exchanges: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Exchanges per second.
    pub rate: f64,
    /// Median in seconds, if there were exchanges.
    pub p50: Option<f64>,
    /// 95th percentile in seconds.
    pub p95: Option<f64>,
    /// 99th percentile in seconds.
    pub p99: Option<f64>,
}

/// Remembers the last snapshot, to tell what happened since.
#[derive(Debug)]
pub struct Traffic {
    previous: HashMap<SeriesId, Point>,
    previous_ns: u64,
    /// What collections took out since the last rows.
    taken: HashMap<RowKey, Window>,
}

/// Address of the attributes, which the remembered point keeps alive, and start: a series that returned is new.
type SeriesId = (usize, u64);

type RowKey = (Arc<Workload>, Role, Option<Arc<str>>);

#[derive(Debug, Default)]
struct Window {
    all: Distribution,
    errors: u64,
}

impl Traffic {
    /// Everything from `now` on is new.
    pub fn new(now: Time) -> Self {
        Self {
            previous: HashMap::new(),
            previous_ns: now.monotonic_ns,
            taken: HashMap::new(),
        }
    }

    /// A collection took measurements out (delta): they belong to the next rows. Cumulative series are left alone.
    pub fn on_collection(&mut self, snapshot: &Snapshot) {
        let is_delta =
            |of_instrument: &InstrumentSnapshot| of_instrument.temporality == Temporality::Delta;
        for (key, point, scale) in points(snapshot, is_delta) {
            let id = id(point);
            self.taken.entry(key).or_default().add(
                point,
                self.previous.remove(&id).as_ref(),
                scale,
            );
        }
    }

    /// Rows since the last snapshot, the busiest first; those without exchanges are left out.
    pub fn rows(&mut self, snapshot: &Snapshot, now: Time) -> Vec<TrafficRow> {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let seconds = now.monotonic_ns.saturating_sub(self.previous_ns) as f64 / 1e9;
        let windows = self.windows(snapshot);
        let mut rows: Vec<TrafficRow> = windows
            .into_iter()
            .map(|(key, window)| row(key, &window, seconds))
            .filter(|row| row.exchanges > 0)
            .collect();
        rows.sort_by(|a, b| {
            let name = |row: &TrafficRow| (row.workload.name.clone(), row.role, row.label.clone());
            b.exchanges
                .cmp(&a.exchanges)
                .then_with(|| name(a).cmp(&name(b)))
        });
        self.previous_ns = now.monotonic_ns;
        rows
    }

    /// Compares each series with what it was, and remembers what it is.
    fn windows(&mut self, snapshot: &Snapshot) -> HashMap<RowKey, Window> {
        let mut windows = std::mem::take(&mut self.taken);
        let mut current = HashMap::new();
        for (key, point, scale) in points(snapshot, |_| true) {
            let id = id(point);
            windows
                .entry(key)
                .or_default()
                .add(point, self.previous.get(&id), scale);
            current.insert(id, point.clone());
        }
        self.previous = current;
        windows
    }
}

/// Points of durations with their rows, and how many of their unit are a second.
fn points(
    snapshot: &Snapshot,
    wanted: impl Fn(&InstrumentSnapshot) -> bool,
) -> impl Iterator<Item = (RowKey, &Point, f64)> {
    let instruments = snapshot.workloads.iter().flat_map(|of_workload| {
        let instruments = of_workload.instruments.iter();
        instruments.map(|of_instrument| (&of_workload.workload, of_instrument))
    });
    instruments
        .filter(move |(_, of_instrument)| wanted(of_instrument))
        .filter_map(|(workload, of_instrument)| {
            let role = match of_instrument.instrument {
                Instrument::HttpServerRequestDuration => Role::Server,
                Instrument::HttpClientRequestDuration => Role::Client,
                Instrument::HttpServerActiveRequests => return None,
            };
            let renamed = of_instrument.renamed.as_ref();
            let per_second = match renamed.map(|renamed| &*renamed.unit) {
                Some("ms") => 1e3,
                _ => 1.0,
            };
            Some((workload, role, of_instrument, per_second))
        })
        .flat_map(|(workload, role, of_instrument, per_second)| {
            of_instrument.points.iter().map(move |point| {
                let key = (Arc::clone(workload), role, label(point));
                (key, point, per_second)
            })
        })
}

fn id(point: &Point) -> SeriesId {
    (point.attributes.as_ptr().addr(), point.start_unix_ns)
}

/// Counts of base-2 exponential buckets of seconds, at the coarsest scale of what was added.
#[derive(Clone, Debug, Default)]
struct Distribution {
    scale: Option<i32>,
    zero_count: u64,
    counts: BTreeMap<i32, u64>,
}

impl Distribution {
    /// What a point holds, in seconds.
    fn of(value: &PointValue, per_second: f64) -> Self {
        let mut distribution = Self::default();
        match value {
            PointValue::Exponential(histogram) if per_second <= 1.0 => distribution.add(histogram),
            PointValue::Exponential(histogram) => distribution.add_scaled(histogram, per_second),
            PointValue::Explicit(histogram) => distribution.add_explicit(histogram, per_second),
            PointValue::UpDown(_) | PointValue::NoRecordedValue => {}
        }
        distribution
    }

    fn add(&mut self, histogram: &ExponentialHistogram) {
        let shift = self.align(histogram.scale);
        self.zero_count += histogram.zero_count;
        for (index, count) in (histogram.offset..).zip(&histogram.buckets) {
            *self.counts.entry(index >> shift).or_default() += count;
        }
    }

    /// Buckets of another unit go where their middles belong.
    fn add_scaled(&mut self, histogram: &ExponentialHistogram, per_second: f64) {
        let width = (-f64::from(histogram.scale)).exp2();
        self.align(TRAFFIC_SCALE);
        self.zero_count += histogram.zero_count;
        for (index, count) in (histogram.offset..).zip(&histogram.buckets) {
            let middle = ((f64::from(index) + 0.5) * width).exp2();
            self.add_value(middle / per_second, *count);
        }
    }

    /// So do buckets of given boundaries; the last one has none, its values are as long as the longest.
    fn add_explicit(&mut self, histogram: &ExplicitHistogram, per_second: f64) {
        let lower = std::iter::once(0.0).chain(histogram.boundaries.iter().copied());
        let longest = histogram.max.unwrap_or_default();
        let upper = histogram.boundaries.iter().copied().chain([longest]);
        for ((low, high), count) in lower.zip(upper).zip(&histogram.buckets) {
            self.add_value(f64::midpoint(low, high.max(low)) / per_second, *count);
        }
    }

    fn add_value(&mut self, seconds: f64, count: u64) {
        if count == 0 {
            return;
        }
        let shift = self.align(TRAFFIC_SCALE);
        let index = index(seconds) >> (MAX_SCALE - TRAFFIC_SCALE);
        *self.counts.entry(index >> shift).or_default() += count;
    }

    fn merge(&mut self, other: Self) {
        let Some(scale) = other.scale else { return };
        let shift = self.align(scale);
        self.zero_count += other.zero_count;
        for (index, count) in other.counts {
            *self.counts.entry(index >> shift).or_default() += count;
        }
    }

    /// Takes out what is known to be part of this.
    fn subtract(&mut self, part: Self) {
        let Some(scale) = part.scale else { return };
        let shift = self.align(scale);
        self.zero_count = self.zero_count.saturating_sub(part.zero_count);
        for (index, count) in part.counts {
            if let Some(mine) = self.counts.get_mut(&(index >> shift)) {
                *mine = mine.saturating_sub(count);
            }
        }
    }

    /// Goes down to a scale if it is coarser; returns by how much indexes of that scale have to be shifted.
    fn align(&mut self, scale: i32) -> i32 {
        self.coarsen(scale);
        scale - self.scale.unwrap_or(scale)
    }

    fn coarsen(&mut self, scale: i32) {
        let mine = *self.scale.get_or_insert(scale);
        if scale >= mine {
            return;
        }
        let mut counts = BTreeMap::new();
        for (index, count) in &self.counts {
            *counts.entry(index >> (mine - scale)).or_default() += count;
        }
        (self.scale, self.counts) = (Some(scale), counts);
    }

    fn count(&self) -> u64 {
        self.zero_count + self.counts.values().sum::<u64>()
    }

    /// Middle of the bucket that holds the quantile.
    fn quantile(&self, percent: u64) -> Option<f64> {
        let rank = (self.count() * percent).div_ceil(100);
        if rank == 0 {
            return None;
        }
        let mut seen = self.zero_count;
        if rank <= seen {
            return Some(0.0);
        }
        let width = (-f64::from(self.scale?)).exp2();
        for (index, count) in &self.counts {
            seen += count;
            if rank <= seen {
                return Some(((f64::from(*index) + 0.5) * width).exp2());
            }
        }
        None
    }
}

impl Window {
    fn add(&mut self, point: &Point, previous: Option<&Point>, per_second: f64) {
        let mut distribution = Distribution::of(&point.value, per_second);
        if let Some(previous) = previous {
            distribution.subtract(Distribution::of(&previous.value, per_second));
        }
        if text(&point.attributes, "error.type").is_some() {
            self.errors += distribution.count();
        }
        self.all.merge(distribution);
    }
}

fn row((workload, role, label): RowKey, window: &Window, seconds: f64) -> TrafficRow {
    let exchanges = window.all.count();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = if seconds > 0.0 {
        exchanges as f64 / seconds
    } else {
        0.0
    };
    TrafficRow {
        workload,
        role,
        label,
        exchanges,
        errors: window.errors,
        rate,
        p50: window.all.quantile(50),
        p95: window.all.quantile(95),
        p99: window.all.quantile(99),
    }
}

fn label(point: &Point) -> Option<Arc<str>> {
    ["http.route", "url.template", "server.address"]
        .into_iter()
        .find_map(|name| text(&point.attributes, name))
}

fn text(attributes: &[Attribute], name: &str) -> Option<Arc<str>> {
    attributes.iter().find_map(|(key, value)| match value {
        AttributeValue::Text(text) if *key == name => Some(Arc::clone(text)),
        _ => None,
    })
}
