//! The page as delimited protobuf, with exponential histograms as Prometheus' native ones.
//! <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>

use kerntally_model::{Exemplar, ExponentialHistogram, Point, PointValue};
use prost::Message;

use super::{
    buckets::{self, Bucket},
    family::{Family, Label, Series, Type, Value},
    text::exemplar_labels,
};

/// Finest and coarsest resolution of a native histogram.
const SCHEMA_MAX: i32 = 8;
const SCHEMA_MIN: i32 = -4;

/// Breadth of the bucket for zeros: the narrowest that Prometheus itself uses.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Empty buckets between two others that cost less than another span.
const GAP: usize = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct FamilyHead {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

/// A family of one metric: its field in one that has many.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(message, optional, tag = "4")]
    metric: Option<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Gauge>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Gauge {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<ClassicBucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    pub(super) created_timestamp: Option<Timestamp>,
    #[prost(message, repeated, tag = "16")]
    pub(super) exemplars: Vec<NativeExemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClassicBucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) exemplar: Option<NativeExemplar>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Span {
    /// Gap to the span before, or the index of the first.
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NativeExemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub(super) timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// What a family says besides its metrics.
pub(super) fn head(family: &Family) -> FamilyHead {
    const GAUGE: i32 = 1;
    const HISTOGRAM: i32 = 4;
    let (kind, name) = match family.kind {
        Type::Gauge => (GAUGE, family.name.clone()),
        Type::Histogram => (HISTOGRAM, family.name.clone()),
        Type::Info => (GAUGE, format!("{}_info", family.name)),
    };
    FamilyHead {
        name: Some(name),
        help: Some(family.help.to_owned()),
        r#type: Some(kind),
        unit: family.unit.clone(),
    }
}

/// One metric of a family.
pub(super) fn member(series: &Series<'_>) -> Member {
    let mut metric = Metric {
        label: pairs(series.labels.clone()),
        ..Metric::default()
    };
    match &series.value {
        Value::Number(number) => {
            #[expect(clippy::cast_precision_loss, reason = "a level far below 2^53")]
            let value = Some(*number as f64);
            metric.gauge = Some(Gauge { value });
        }
        Value::Histogram {
            point,
            shift,
            exemplars,
        } => metric.histogram = histogram(point, *shift, exemplars),
    }
    Member {
        metric: Some(metric),
    }
}

fn histogram(point: &Point, shift: i32, exemplars: &[Exemplar]) -> Option<Histogram> {
    let mut histogram = match &point.value {
        PointValue::Exponential(values) if values.scale >= SCHEMA_MIN => {
            let mut native = native(values);
            native.exemplars = exemplars.iter().map(exemplar).collect();
            native
        }
        PointValue::Exponential(values) => classic(
            (values.count, values.sum),
            &buckets::exponential(values, shift),
            exemplars,
        ),
        PointValue::Explicit(values) => classic(
            (values.count, values.sum),
            &buckets::explicit(values),
            exemplars,
        ),
        PointValue::UpDown(_) | PointValue::NoRecordedValue => return None,
    };
    histogram.created_timestamp = Some(timestamp(point.start_unix_ns));
    Some(histogram)
}

fn native(values: &ExponentialHistogram) -> Histogram {
    let (schema, buckets) = coarsened(values);
    let (positive_span, positive_delta) = spans(&buckets);
    Histogram {
        sample_count: Some(values.count),
        sample_sum: Some(values.sum),
        schema: Some(schema),
        zero_threshold: Some(ZERO_THRESHOLD),
        zero_count: Some(values.zero_count),
        positive_span,
        positive_delta,
        ..Histogram::default()
    }
}

/// Index and count of the buckets that hold something, at a resolution that a native histogram can have. There a
/// bucket has the number of its upper bound, in OTLP that of its lower.
fn coarsened(values: &ExponentialHistogram) -> (i32, Vec<(i32, u64)>) {
    let steps = (values.scale - SCHEMA_MAX).clamp(0, 31);
    let mut buckets: Vec<(i32, u64)> = Vec::with_capacity(values.buckets.len());
    let filled = (values.offset..)
        .zip(&values.buckets)
        .filter(|(_, count)| **count > 0);
    for (index, count) in filled {
        let index = (index >> steps) + 1;
        match buckets.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => buckets.push((index, *count)),
        }
    }
    (values.scale - steps, buckets)
}

/// Runs of buckets, and each count as the difference to the one before.
fn spans(buckets: &[(i32, u64)]) -> (Vec<Span>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    let mut add = |spans: &mut Vec<Span>, count: i64| {
        deltas.push(count - before);
        before = count;
        if let Some(Span {
            length: Some(length),
            ..
        }) = spans.last_mut()
        {
            *length += 1;
        }
    };
    for (index, count) in buckets {
        let gap = index - next;
        if spans.is_empty() || usize::try_from(gap).map_or(true, |gap| gap > GAP) {
            spans.push(Span {
                offset: Some(gap),
                length: Some(0),
            });
        } else {
            (0..gap).for_each(|_| add(&mut spans, 0));
        }
        add(&mut spans, i64::try_from(*count).unwrap_or(i64::MAX));
        next = index + 1;
    }
    (spans, deltas)
}

fn classic((count, sum): (u64, f64), buckets: &[Bucket], exemplars: &[Exemplar]) -> Histogram {
    let mut above = f64::NEG_INFINITY;
    let bucket = buckets.iter().map(|(bound, count)| {
        let latest = exemplars
            .iter()
            .rfind(|exemplar| exemplar.value > above && exemplar.value <= *bound);
        above = *bound;
        ClassicBucket {
            cumulative_count: Some(*count),
            upper_bound: Some(*bound),
            exemplar: latest.map(exemplar),
        }
    });
    Histogram {
        sample_count: Some(count),
        sample_sum: Some(sum),
        bucket: bucket.collect(),
        ..Histogram::default()
    }
}

fn exemplar(exemplar: &Exemplar) -> NativeExemplar {
    NativeExemplar {
        label: pairs(exemplar_labels(exemplar)),
        value: Some(exemplar.value),
        timestamp: Some(timestamp(exemplar.time_unix_ns)),
    }
}

fn timestamp(unix_ns: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(unix_ns / 1_000_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(unix_ns % 1_000_000_000).unwrap_or(0),
    }
}

fn pairs(labels: Vec<Label>) -> Vec<LabelPair> {
    let pairs = labels.into_iter().map(|(name, value)| LabelPair {
        name: Some(name),
        value: Some(value),
    });
    pairs.collect()
}
