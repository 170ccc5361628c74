//! What the points cost downstream: pushes in, series, points a minute, bytes and a price out.

mod change;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use kerntally_export::ExportMetricsServiceRequest;
use kerntally_export::measure::wire_size;
use kerntally_export::otlp::{Data, DataPointFlags, KeyValue, Metric, any_value};

pub(crate) use change::Change;

/// Series that are told apart; further ones are counted as one.
const SERIES: usize = 1_000_000;

/// Times between points are told apart by so many nanoseconds.
const STEP: u64 = 100_000_000;

/// Custom metrics that a back end makes of one distribution: count, sum, min, max and average.
const OF_A_DISTRIBUTION: u64 = 5;

/// Bytes of a key and a value in a point beside their own letters, and of a short value.
const ATTRIBUTE_BYTES: f64 = 16.0;

const OVERFLOW: &str = "otel.metric.overflow";

/// What is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Unit {
    /// Active series; an explicit histogram is one per bucket, and two for sum and count.
    #[default]
    Series,
    /// Data points per minute, one for each series at each push.
    Dpm,
    /// Custom metrics: five for each distribution and one for each other series.
    CustomMetrics,
}

impl Unit {
    /// Its name in output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Dpm => "dpm",
            Self::CustomMetrics => "custom-metrics",
        }
    }
}

/// So much for so many units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Price {
    pub(crate) amount: f64,
    pub(crate) per: f64,
}

impl Price {
    /// Parses `8/1000`, or `0.05` for one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (amount, per) = text.split_once('/').unwrap_or((text, "1"));
        let (amount, per): (f64, f64) = (amount.trim().parse().ok()?, per.trim().parse().ok()?);
        let is_valid = amount.is_finite() && amount >= 0.0 && per.is_finite() && per > 0.0;
        is_valid.then_some(Self { amount, per })
    }

    fn of(self, units: f64) -> f64 {
        units * self.amount / self.per
    }
}

/// How it is reckoned up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) nodes: u32,
    pub(crate) unit: Unit,
    pub(crate) price: Option<Price>,
}

/// One series as last seen.
#[derive(Clone, Debug)]
struct Series {
    stream: usize,
    time: u64,
    points: u64,
    is_ended: bool,
    is_overflow: bool,
    /// Series that a Prometheus makes of it.
    weight: u64,
    custom_metrics: u64,
    /// Keys with hashes of their values, sorted.
    attributes: Vec<(String, u64)>,
}

/// An instrument of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stream {
    pub(crate) service: String,
    pub(crate) instrument: String,
}

impl Stream {
    fn is_self_telemetry(&self) -> bool {
        self.instrument.starts_with("kerntally.") || self.instrument.starts_with("otel.sdk.")
    }
}

/// Pushes that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    streams: Vec<Stream>,
    stream_index: HashMap<Stream, usize>,
    series: HashMap<u64, Series>,
    plain_bytes: u64,
    gzip_bytes: u64,
    newest: u64,
    /// Times between points of a series, in nanoseconds, with how often.
    gaps: BTreeMap<u64, u64>,
}

/// What one node sends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) series: u64,
    pub(crate) points: u64,
    pub(crate) custom_metrics: u64,
    pub(crate) points_per_minute: f64,
    pub(crate) dpm: f64,
    pub(crate) bytes_per_push: f64,
    pub(crate) compressed_bytes_per_push: f64,
}

/// The bill.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    pub(crate) node: Load,
    pub(crate) interval_seconds: f64,
    pub(crate) units: f64,
    pub(crate) cost: Option<f64>,
    /// Services that would have more series than their limit.
    pub(crate) capped: Vec<String>,
}

impl Pushes {
    /// Takes a request in.
    pub(crate) fn add(&mut self, request: &ExportMetricsServiceRequest) {
        let size = wire_size(request);
        self.plain_bytes += size.plain;
        self.gzip_bytes += size.gzip;
        for of_resource in &request.resource_metrics {
            let attributes = of_resource
                .resource
                .as_ref()
                .map_or(&[][..], |resource| &resource.attributes);
            let service = service_name(attributes);
            let writer = hash_of(&hashes(attributes));
            for metric in of_resource
                .scope_metrics
                .iter()
                .flat_map(|scope| &scope.metrics)
            {
                let stream = self.stream(&service, &metric.name);
                self.metric(metric, stream, writer);
            }
        }
    }

    fn stream(&mut self, service: &str, instrument: &str) -> usize {
        let stream = Stream {
            service: service.to_owned(),
            instrument: instrument.to_owned(),
        };
        if let Some(known) = self.stream_index.get(&stream) {
            return *known;
        }
        self.stream_index.insert(stream.clone(), self.streams.len());
        self.streams.push(stream);
        self.streams.len() - 1
    }

    fn metric(&mut self, metric: &Metric, stream: usize, writer: u64) {
        let mut point = |attributes: &[KeyValue], time, flags, weight, custom_metrics| {
            let series = Series {
                stream,
                time,
                points: 1,
                is_ended: flags & DataPointFlags::NoRecordedValueMask as u32 != 0,
                is_overflow: attributes.iter().any(|attribute| attribute.key == OVERFLOW),
                weight,
                custom_metrics,
                attributes: hashes(attributes),
            };
            self.point(series, writer);
        };
        match &metric.data {
            Some(Data::ExponentialHistogram(histogram)) => {
                for p in &histogram.data_points {
                    point(
                        &p.attributes,
                        p.time_unix_nano,
                        p.flags,
                        1,
                        OF_A_DISTRIBUTION,
                    );
                }
            }
            Some(Data::Histogram(histogram)) => {
                for p in &histogram.data_points {
                    let weight = p.bucket_counts.len() as u64 + 2;
                    point(
                        &p.attributes,
                        p.time_unix_nano,
                        p.flags,
                        weight,
                        OF_A_DISTRIBUTION,
                    );
                }
            }
            Some(Data::Sum(sum)) => {
                for p in &sum.data_points {
                    point(&p.attributes, p.time_unix_nano, p.flags, 1, 1);
                }
            }
            Some(Data::Gauge(gauge)) => {
                for p in &gauge.data_points {
                    point(&p.attributes, p.time_unix_nano, p.flags, 1, 1);
                }
            }
            Some(Data::Summary(summary)) => {
                for p in &summary.data_points {
                    let weight = p.quantile_values.len() as u64 + 2;
                    point(&p.attributes, p.time_unix_nano, p.flags, weight, weight);
                }
            }
            None => {}
        }
    }

    fn point(&mut self, series: Series, writer: u64) {
        self.newest = self.newest.max(series.time);
        let key = hash_of(&(writer, series.stream, &series.attributes));
        if let Some(known) = self.series.get_mut(&key) {
            let gap = series.time.saturating_sub(known.time);
            // Rounded, so that many points make few entries.
            let rounded = gap.saturating_add(STEP / 2) / STEP * STEP;
            if rounded > 0 {
                *self.gaps.entry(rounded).or_default() += 1;
            }
            known.time = known.time.max(series.time);
            known.points += 1;
            known.is_ended = series.is_ended;
            known.weight = series.weight;
        } else if self.series.len() < SERIES {
            self.series.insert(key, series);
        }
    }

    /// The usual time between two pushes; `None` if there is one push only.
    pub(crate) fn interval_seconds(&self) -> Option<f64> {
        let total: u64 = self.gaps.values().sum();
        let mut seen = 0;
        for (gap, count) in &self.gaps {
            seen += count;
            if seen * 2 >= total {
                #[expect(clippy::cast_precision_loss, reason = "tenths of seconds")]
                return Some(*gap as f64 / 1e9);
            }
        }
        None
    }

    /// Series that are still sent: what has not ended, and was there within the last two intervals.
    fn live(&self, interval_seconds: f64) -> impl Iterator<Item = &Series> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "intervals are at most a day"
        )]
        let span = (interval_seconds * 2.5e9) as u64;
        let since = self.newest.saturating_sub(span);
        self.series
            .values()
            .filter(move |series| !series.is_ended && series.time >= since)
    }

    fn pushes(&self) -> u64 {
        let most = self.series.values().map(|series| series.points).max();
        most.unwrap_or(1)
    }

    /// Live series by instrument of a service, with those that a Prometheus makes of them.
    pub(crate) fn by_stream(&self, interval_seconds: f64) -> Vec<(&Stream, u64, u64)> {
        let mut counts: BTreeMap<&Stream, (u64, u64)> = BTreeMap::new();
        for series in self.live(interval_seconds) {
            let count = counts.entry(&self.streams[series.stream]).or_default();
            count.0 += 1;
            count.1 += series.weight;
        }
        let mut rows: Vec<_> = counts
            .into_iter()
            .map(|(stream, (points, series))| (stream, points, series))
            .collect();
        rows.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(b.0)));
        rows
    }

    /// What is sent now.
    pub(crate) fn bill(&self, interval_seconds: f64, terms: &Terms) -> Bill {
        let mut node = Load::default();
        for series in self.live(interval_seconds) {
            node.points += 1;
            node.series += series.weight;
            node.custom_metrics += series.custom_metrics;
        }
        #[expect(clippy::cast_precision_loss, reason = "an average")]
        let per_push = |bytes: u64| bytes as f64 / self.pushes() as f64;
        node.bytes_per_push = per_push(self.plain_bytes);
        node.compressed_bytes_per_push = per_push(self.gzip_bytes);
        Bill::of(node, interval_seconds, terms, Vec::new())
    }
}

impl Bill {
    fn of(mut node: Load, interval_seconds: f64, terms: &Terms, capped: Vec<String>) -> Self {
        let per_minute = 60.0 / interval_seconds;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (points, series, custom) = (
            node.points as f64,
            node.series as f64,
            node.custom_metrics as f64,
        );
        node.points_per_minute = points * per_minute;
        node.dpm = series * per_minute;
        let units = f64::from(terms.nodes)
            * match terms.unit {
                Unit::Series => series,
                Unit::Dpm => node.dpm,
                Unit::CustomMetrics => custom,
            };
        Self {
            node,
            interval_seconds,
            units,
            cost: terms.price.map(|price| price.of(units)),
            capped,
        }
    }
}

fn service_name(attributes: &[KeyValue]) -> String {
    let value = |key: &str| {
        attributes
            .iter()
            .find(|attribute| attribute.key == key)
            .and_then(
                |attribute| match attribute.value.as_ref()?.value.as_ref()? {
                    any_value::Value::StringValue(text) => Some(text.as_str()),
                    _ => None,
                },
            )
    };
    let name = value("service.name").unwrap_or("-");
    match value("service.namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn hashes(attributes: &[KeyValue]) -> Vec<(String, u64)> {
    let mut hashes: Vec<_> = attributes
        .iter()
        .map(|attribute| {
            let value = hash_of(&format!("{:?}", attribute.value));
            (attribute.key.clone(), value)
        })
        .collect();
    hashes.sort_unstable();
    hashes
}
