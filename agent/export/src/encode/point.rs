//! One point of a snapshot as OTLP writes it, and the metric that holds points of its kind.

use kerntally_model::{
    Attribute, AttributeValue, Exemplar, ExplicitHistogram, ExponentialHistogram, Instrument,
    Point, PointValue, Temporality,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, DataPointFlags, Exemplar as OtlpExemplar,
        ExponentialHistogram as OtlpExponential, ExponentialHistogramDataPoint, Histogram,
        HistogramDataPoint, NumberDataPoint, Sum, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
};
use prost::Message as _;

/// Which type of OTLP metric a point belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exponential,
    Explicit,
    UpDown,
}

/// A point of any kind.
#[derive(Debug)]
pub(super) enum OtlpPoint {
    Exponential(ExponentialHistogramDataPoint),
    Explicit(HistogramDataPoint),
    Number(NumberDataPoint),
}

impl Kind {
    /// `None` for the end of a series: it is of the kind its series was.
    pub(super) fn of(value: &PointValue) -> Option<Self> {
        match value {
            PointValue::Exponential(_) => Some(Self::Exponential),
            PointValue::Explicit(_) => Some(Self::Explicit),
            PointValue::UpDown(_) => Some(Self::UpDown),
            PointValue::NoRecordedValue => None,
        }
    }

    /// What an instrument is unless it is configured otherwise.
    pub(super) fn usual(instrument: Instrument) -> Self {
        match instrument {
            Instrument::HttpServerRequestDuration | Instrument::HttpClientRequestDuration => {
                Self::Exponential
            }
            Instrument::HttpServerActiveRequests => Self::UpDown,
        }
    }

    /// The metric's data, still without points.
    pub(super) fn data(self, temporality: Temporality) -> Data {
        let aggregation_temporality = match (self, temporality) {
            // A level is one whatever is preferred for the rest.
            (Self::UpDown, _) | (_, Temporality::Cumulative) => AggregationTemporality::Cumulative,
            (_, Temporality::Delta) => AggregationTemporality::Delta,
        }
        .into();
        match self {
            Self::Exponential => Data::ExponentialHistogram(OtlpExponential {
                data_points: Vec::new(),
                aggregation_temporality,
            }),
            Self::Explicit => Data::Histogram(Histogram {
                data_points: Vec::new(),
                aggregation_temporality,
            }),
            Self::UpDown => Data::Sum(Sum {
                data_points: Vec::new(),
                aggregation_temporality,
                is_monotonic: false,
            }),
        }
    }

    /// The point; its end where it has no value.
    pub(super) fn point(self, point: &Point) -> OtlpPoint {
        match self {
            Self::Exponential => OtlpPoint::Exponential(exponential(point)),
            Self::Explicit => OtlpPoint::Explicit(explicit(point)),
            Self::UpDown => OtlpPoint::Number(number(point)),
        }
    }
}

impl OtlpPoint {
    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::Exponential(point) => point.encoded_len(),
            Self::Explicit(point) => point.encoded_len(),
            Self::Number(point) => point.encoded_len(),
        }
    }

    /// Appends to data of the same kind, which is what the packing opens for it.
    pub(super) fn append_to(self, data: &mut Data) {
        match (self, data) {
            (Self::Exponential(point), Data::ExponentialHistogram(histogram)) => {
                histogram.data_points.push(point);
            }
            (Self::Explicit(point), Data::Histogram(histogram)) => {
                histogram.data_points.push(point);
            }
            (Self::Number(point), Data::Sum(sum)) => sum.data_points.push(point),
            _ => debug_assert!(false, "a point among points of another kind"),
        }
    }
}

fn exponential(point: &Point) -> ExponentialHistogramDataPoint {
    let frame = ExponentialHistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: point.start_unix_ns,
        time_unix_nano: point.time_unix_ns,
        flags: flags(point),
        exemplars: exemplars(point),
        ..ExponentialHistogramDataPoint::default()
    };
    match &point.value {
        PointValue::Exponential(histogram) => with_buckets(frame, histogram),
        _ => frame,
    }
}

fn with_buckets(
    frame: ExponentialHistogramDataPoint,
    histogram: &ExponentialHistogram,
) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        count: histogram.count,
        sum: Some(histogram.sum),
        scale: histogram.scale,
        zero_count: histogram.zero_count,
        positive: Some(Buckets {
            offset: histogram.offset,
            bucket_counts: histogram.buckets.clone(),
        }),
        min: histogram.min,
        max: histogram.max,
        ..frame
    }
}

fn explicit(point: &Point) -> HistogramDataPoint {
    let frame = HistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: point.start_unix_ns,
        time_unix_nano: point.time_unix_ns,
        flags: flags(point),
        exemplars: exemplars(point),
        ..HistogramDataPoint::default()
    };
    match &point.value {
        PointValue::Explicit(histogram) => with_bounds(frame, histogram),
        _ => frame,
    }
}

fn with_bounds(frame: HistogramDataPoint, histogram: &ExplicitHistogram) -> HistogramDataPoint {
    HistogramDataPoint {
        count: histogram.count,
        sum: Some(histogram.sum),
        bucket_counts: histogram.buckets.clone(),
        explicit_bounds: histogram.boundaries.to_vec(),
        min: histogram.min,
        max: histogram.max,
        ..frame
    }
}

fn number(point: &Point) -> NumberDataPoint {
    let value = match &point.value {
        PointValue::UpDown(value) => Some(number_data_point::Value::AsInt(*value)),
        _ => None,
    };
    NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: point.start_unix_ns,
        time_unix_nano: point.time_unix_ns,
        flags: flags(point),
        exemplars: exemplars(point),
        value,
    }
}

fn flags(point: &Point) -> u32 {
    match point.value {
        PointValue::NoRecordedValue => DataPointFlags::NoRecordedValueMask as u32,
        _ => DataPointFlags::DoNotUse as u32,
    }
}

fn exemplars(point: &Point) -> Vec<OtlpExemplar> {
    point.exemplars.iter().map(exemplar).collect()
}

/// Without filtered attributes: what is not on the point is not kept at all.
fn exemplar(exemplar: &Exemplar) -> OtlpExemplar {
    OtlpExemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: exemplar.time_unix_ns,
        span_id: exemplar.span_id.map(|id| id.to_vec()).unwrap_or_default(),
        trace_id: exemplar.trace_id.to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
    }
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.attributes.iter().map(key_value).collect()
}

fn key_value((key, value): &Attribute) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => Value::StringValue(text.as_ref().to_owned()),
        AttributeValue::Integer(integer) => Value::IntValue(*integer),
        AttributeValue::Boolean(boolean) => Value::BoolValue(*boolean),
    };
    KeyValue {
        key: key.as_ref().to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
