//! Tables for people: what happened between two snapshots, per service and route.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use kerntally_model::{
    Attribute, AttributeValue, ExponentialHistogram, Instrument, Point, PointValue, Role, Snapshot,
    Time, Workload,
};

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
    previous: HashMap<Key, Totals>,
    previous_ns: u64,
}

type Key = (Arc<Workload>, Role, Option<Arc<str>>);

#[derive(Clone, Debug, Default)]
struct Totals {
    all: Distribution,
    errors: u64,
}

impl Traffic {
    /// Everything from `now` on is new.
    pub fn new(now: Time) -> Self {
        Self {
            previous: HashMap::new(),
            previous_ns: now.monotonic_ns,
        }
    }

    /// Rows since the last snapshot, the busiest first; those without exchanges are left out.
    pub fn rows(&mut self, snapshot: &Snapshot, now: Time) -> Vec<TrafficRow> {
        let totals = totals(snapshot);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let seconds = now.monotonic_ns.saturating_sub(self.previous_ns) as f64 / 1e9;
        let mut rows: Vec<TrafficRow> = totals
            .iter()
            .map(|(key, totals)| row(key, totals, self.previous.get(key), seconds))
            .filter(|row| row.exchanges > 0)
            .collect();
        rows.sort_by(|a, b| {
            b.exchanges.cmp(&a.exchanges).then_with(|| {
                (&a.workload.name, a.role, &a.label).cmp(&(&b.workload.name, b.role, &b.label))
            })
        });
        self.previous = totals;
        self.previous_ns = now.monotonic_ns;
        rows
    }
}

/// Counts of a base-2 exponential histogram, at the coarsest scale of what was added.
#[derive(Clone, Debug, Default)]
struct Distribution {
    scale: Option<i32>,
    zero_count: u64,
    counts: BTreeMap<i32, u64>,
}

impl Distribution {
    fn add(&mut self, histogram: &ExponentialHistogram) {
        self.zero_count += histogram.zero_count;
        self.coarsen(histogram.scale);
        let shift = histogram.scale - self.scale.unwrap_or(histogram.scale);
        for (index, count) in (histogram.offset..).zip(&histogram.buckets) {
            *self.counts.entry(index >> shift).or_default() += count;
        }
    }

    /// What was added since `earlier`.
    fn since(&self, earlier: &Self) -> Self {
        let (mut later, mut earlier) = (self.clone(), earlier.clone());
        if let Some(scale) = earlier.scale {
            later.coarsen(scale);
        }
        if let Some(scale) = later.scale {
            earlier.coarsen(scale);
        }
        later.zero_count = later.zero_count.saturating_sub(earlier.zero_count);
        for (index, count) in earlier.counts {
            if let Some(mine) = later.counts.get_mut(&index) {
                *mine = mine.saturating_sub(count);
            }
        }
        later
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

fn totals(snapshot: &Snapshot) -> HashMap<Key, Totals> {
    let mut totals: HashMap<Key, Totals> = HashMap::new();
    for of_workload in &snapshot.workloads {
        for of_instrument in &of_workload.instruments {
            let role = match of_instrument.instrument {
                Instrument::HttpServerRequestDuration => Role::Server,
                Instrument::HttpClientRequestDuration => Role::Client,
            };
            for point in &of_instrument.points {
                let key = (Arc::clone(&of_workload.workload), role, label(point));
                totals.entry(key).or_default().add(point);
            }
        }
    }
    totals
}

impl Totals {
    fn add(&mut self, point: &Point) {
        let PointValue::Exponential(histogram) = &point.value else {
            return;
        };
        self.all.add(histogram);
        if text(&point.attributes, "error.type").is_some() {
            self.errors += histogram.count;
        }
    }
}

fn row(key: &Key, totals: &Totals, previous: Option<&Totals>, seconds: f64) -> TrafficRow {
    let (workload, role, label) = key;
    let window = previous.map_or_else(
        || totals.all.clone(),
        |previous| totals.all.since(&previous.all),
    );
    let exchanges = window.count();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = if seconds > 0.0 {
        exchanges as f64 / seconds
    } else {
        0.0
    };
    TrafficRow {
        workload: Arc::clone(workload),
        role: *role,
        label: label.clone(),
        exchanges,
        errors: totals
            .errors
            .saturating_sub(previous.map_or(0, |previous| previous.errors)),
        rate,
        p50: window.quantile(50),
        p95: window.quantile(95),
        p99: window.quantile(99),
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
