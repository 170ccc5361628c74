//! Reads requests in OTLP's JSON as any emitter writes them: a value in, a request and what was wrong with it out.
//!
//! The generated types read their own output only. Others write 64-bit integers as numbers or as strings, leave
//! fields out, name enums, and use the snake case of the protocol's own field names, all of which Protobuf allows.
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

use std::fmt;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::{Map, Value};

use crate::ExportMetricsServiceRequest;

/// Problems of one request that are kept; a request that is wrong everywhere needs no longer list.
const PROBLEMS: usize = 64;

/// Bytes of a value that a problem shows.
const SHOWN_BYTES: usize = 60;

/// Keys of requests about other signals, which collectors write to the same file.
const OTHER_SIGNALS: [&str; 6] = [
    "resourceSpans",
    "resource_spans",
    "resourceLogs",
    "resource_logs",
    "resourceProfiles",
    "resource_profiles",
];

/// A field that does not hold what it should; it is read as if it were absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Where, from the root of the request.
    pub path: String,
    /// What should stand there.
    pub expected: &'static str,
    /// What does.
    pub found: String,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Document {
    /// A request about metrics, with what was wrong with it.
    Metrics(ExportMetricsServiceRequest, Vec<FieldProblem>),
    /// A request about another signal.
    OtherSignal,
    /// Neither.
    Unknown,
}

/// Tells what a value is, and reads it.
pub fn read(value: &Value) -> Document {
    let Value::Object(members) = value else {
        return Document::Unknown;
    };
    let has = |key: &str| members.contains_key(key);
    if !members.is_empty() && !has("resourceMetrics") && !has("resource_metrics") {
        return if OTHER_SIGNALS.iter().any(|key| has(key)) {
            Document::OtherSignal
        } else {
            Document::Unknown
        };
    }
    let mut reader = Reader::default();
    let object = Object::new(members, Place::ROOT);
    let resource_metrics = reader.list(&object, "resourceMetrics", Reader::resource_metrics);
    Document::Metrics(
        ExportMetricsServiceRequest { resource_metrics },
        reader.problems,
    )
}

/// Where a value stands; written out only for a problem.
#[derive(Clone, Copy)]
struct Place<'a> {
    up: Option<&'a Self>,
    name: &'a str,
    index: Option<usize>,
}

impl Place<'static> {
    const ROOT: Self = Self {
        up: None,
        name: "",
        index: None,
    };
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            up.fmt(formatter)?;
            if up.up.is_some() {
                formatter.write_str(".")?;
            }
        }
        formatter.write_str(self.name)?;
        match self.index {
            Some(index) => write!(formatter, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// The members of an object, found by the names of JSON or of the protocol.
struct Object<'a> {
    members: &'a Map<String, Value>,
    has_snake_case: bool,
    place: Place<'a>,
}

impl<'a> Object<'a> {
    fn new(members: &'a Map<String, Value>, place: Place<'a>) -> Self {
        Self {
            members,
            has_snake_case: members.keys().any(|key| key.contains('_')),
            place,
        }
    }

    /// A member; `null` is as good as absent.
    fn member(&self, name: &str) -> Option<&'a Value> {
        let found = self.members.get(name).or_else(|| {
            if self.has_snake_case {
                self.members.get(&snake_case(name))
            } else {
                None
            }
        });
        found.filter(|value| !value.is_null())
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[derive(Default)]
struct Reader {
    problems: Vec<FieldProblem>,
}

impl Reader {
    fn problem(&mut self, place: &Place<'_>, expected: &'static str, found: &Value) {
        if self.problems.len() >= PROBLEMS {
            return;
        }
        let mut shown = found.to_string();
        if shown.len() > SHOWN_BYTES {
            let end = (0..=SHOWN_BYTES)
                .rev()
                .find(|end| shown.is_char_boundary(*end))
                .unwrap_or(0);
            shown.truncate(end);
            shown.push_str("...");
        }
        self.problems.push(FieldProblem {
            path: place.to_string(),
            expected,
            found: shown,
        });
    }

    /// A member read by `parse`, or its default if it is absent or wrong.
    fn field<T: Default>(
        &mut self,
        object: &Object<'_>,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> T {
        self.optional(object, name, expected, parse)
            .unwrap_or_default()
    }

    fn optional<T>(
        &mut self,
        object: &Object<'_>,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = object.member(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            let place = Place {
                up: Some(&object.place),
                name,
                index: None,
            };
            self.problem(&place, expected, value);
        }
        parsed
    }

    fn text(&mut self, object: &Object<'_>, name: &str) -> String {
        self.field(object, name, "a string", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    fn unsigned(&mut self, object: &Object<'_>, name: &str) -> u64 {
        self.field(object, name, "an unsigned integer", unsigned)
    }

    fn small(&mut self, object: &Object<'_>, name: &str) -> i32 {
        self.field(object, name, "a 32-bit integer", |value| {
            i32::try_from(signed(value)?).ok()
        })
    }

    fn double(&mut self, object: &Object<'_>, name: &str) -> Option<f64> {
        self.optional(object, name, "a number", double)
    }

    fn flags(&mut self, object: &Object<'_>) -> u32 {
        self.field(object, "flags", "a 32-bit unsigned integer", |value| {
            u32::try_from(unsigned(value)?).ok()
        })
    }

    fn scalars<T>(
        &mut self,
        object: &Object<'_>,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Vec<T> {
        self.items(object, name, |reader, value, place| {
            let parsed = parse(value);
            if parsed.is_none() {
                reader.problem(place, expected, value);
            }
            parsed
        })
    }

    fn list<T>(
        &mut self,
        object: &Object<'_>,
        name: &str,
        read: impl Fn(&mut Self, &Object<'_>) -> T,
    ) -> Vec<T> {
        self.items(object, name, |reader, value, place| {
            let Value::Object(members) = value else {
                reader.problem(place, "an object", value);
                return None;
            };
            Some(read(reader, &Object::new(members, *place)))
        })
    }

    fn items<T>(
        &mut self,
        object: &Object<'_>,
        name: &str,
        read: impl Fn(&mut Self, &Value, &Place<'_>) -> Option<T>,
    ) -> Vec<T> {
        let place = |index| Place {
            up: Some(&object.place),
            name,
            index,
        };
        match object.member(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| read(self, item, &place(Some(index))))
                .collect(),
            Some(other) => {
                self.problem(&place(None), "a list", other);
                Vec::new()
            }
        }
    }

    fn object<T>(
        &mut self,
        object: &Object<'_>,
        name: &str,
        read: impl Fn(&mut Self, &Object<'_>) -> T,
    ) -> Option<T> {
        let value = object.member(name)?;
        let place = Place {
            up: Some(&object.place),
            name,
            index: None,
        };
        let Value::Object(members) = value else {
            self.problem(&place, "an object", value);
            return None;
        };
        Some(read(self, &Object::new(members, place)))
    }

    fn resource_metrics(&mut self, object: &Object<'_>) -> ResourceMetrics {
        ResourceMetrics {
            resource: self.object(object, "resource", |reader, resource| Resource {
                attributes: reader.attributes(resource, "attributes"),
                ..Resource::default()
            }),
            scope_metrics: self.list(object, "scopeMetrics", Self::scope_metrics),
            schema_url: self.text(object, "schemaUrl"),
        }
    }

    fn scope_metrics(&mut self, object: &Object<'_>) -> ScopeMetrics {
        ScopeMetrics {
            scope: self.object(object, "scope", |reader, scope| InstrumentationScope {
                name: reader.text(scope, "name"),
                version: reader.text(scope, "version"),
                attributes: reader.attributes(scope, "attributes"),
                ..InstrumentationScope::default()
            }),
            metrics: self.list(object, "metrics", Self::metric),
            schema_url: self.text(object, "schemaUrl"),
        }
    }

    fn metric(&mut self, object: &Object<'_>) -> Metric {
        Metric {
            name: self.text(object, "name"),
            description: self.text(object, "description"),
            unit: self.text(object, "unit"),
            metadata: Vec::new(),
            data: self.data(object),
        }
    }

    fn data(&mut self, object: &Object<'_>) -> Option<Data> {
        let gauge = self.object(object, "gauge", |reader, gauge| Gauge {
            data_points: reader.list(gauge, "dataPoints", Self::number),
        });
        let sum = self.object(object, "sum", |reader, sum| Sum {
            data_points: reader.list(sum, "dataPoints", Self::number),
            aggregation_temporality: reader.temporality(sum),
            is_monotonic: reader.field(sum, "isMonotonic", "true or false", Value::as_bool),
        });
        let histogram = self.object(object, "histogram", |reader, histogram| Histogram {
            data_points: reader.list(histogram, "dataPoints", Self::explicit),
            aggregation_temporality: reader.temporality(histogram),
        });
        let exponential = self.object(object, "exponentialHistogram", |reader, histogram| {
            ExponentialHistogram {
                data_points: reader.list(histogram, "dataPoints", Self::exponential),
                aggregation_temporality: reader.temporality(histogram),
            }
        });
        let summary = self.object(object, "summary", |reader, summary| Summary {
            data_points: reader.list(summary, "dataPoints", Self::summary),
        });
        None.or(exponential.map(Data::ExponentialHistogram))
            .or(histogram.map(Data::Histogram))
            .or(sum.map(Data::Sum))
            .or(gauge.map(Data::Gauge))
            .or(summary.map(Data::Summary))
    }

    fn temporality(&mut self, object: &Object<'_>) -> i32 {
        let expected = "1 (delta) or 2 (cumulative)";
        self.field(
            object,
            "aggregationTemporality",
            expected,
            |value| match value.as_str() {
                Some("AGGREGATION_TEMPORALITY_UNSPECIFIED") => Some(0),
                Some("AGGREGATION_TEMPORALITY_DELTA") => Some(1),
                Some("AGGREGATION_TEMPORALITY_CUMULATIVE") => Some(2),
                _ => i32::try_from(signed(value)?).ok(),
            },
        )
    }

    fn number(&mut self, object: &Object<'_>) -> NumberDataPoint {
        use number_data_point::Value as Number;
        let double = self.double(object, "asDouble").map(Number::AsDouble);
        let integer = self.optional(object, "asInt", "an integer", signed);
        NumberDataPoint {
            attributes: self.attributes(object, "attributes"),
            start_time_unix_nano: self.unsigned(object, "startTimeUnixNano"),
            time_unix_nano: self.unsigned(object, "timeUnixNano"),
            exemplars: self.list(object, "exemplars", Self::exemplar),
            flags: self.flags(object),
            value: double.or(integer.map(Number::AsInt)),
        }
    }

    fn explicit(&mut self, object: &Object<'_>) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes(object, "attributes"),
            start_time_unix_nano: self.unsigned(object, "startTimeUnixNano"),
            time_unix_nano: self.unsigned(object, "timeUnixNano"),
            count: self.unsigned(object, "count"),
            sum: self.double(object, "sum"),
            bucket_counts: self.counts(object),
            explicit_bounds: self.scalars(object, "explicitBounds", "a number", double),
            exemplars: self.list(object, "exemplars", Self::exemplar),
            flags: self.flags(object),
            min: self.double(object, "min"),
            max: self.double(object, "max"),
        }
    }

    fn exponential(&mut self, object: &Object<'_>) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            attributes: self.attributes(object, "attributes"),
            start_time_unix_nano: self.unsigned(object, "startTimeUnixNano"),
            time_unix_nano: self.unsigned(object, "timeUnixNano"),
            count: self.unsigned(object, "count"),
            sum: self.double(object, "sum"),
            scale: self.small(object, "scale"),
            zero_count: self.unsigned(object, "zeroCount"),
            positive: self.object(object, "positive", Self::buckets),
            negative: self.object(object, "negative", Self::buckets),
            flags: self.flags(object),
            exemplars: self.list(object, "exemplars", Self::exemplar),
            min: self.double(object, "min"),
            max: self.double(object, "max"),
            zero_threshold: self.double(object, "zeroThreshold").unwrap_or_default(),
        }
    }

    fn buckets(&mut self, object: &Object<'_>) -> Buckets {
        Buckets {
            offset: self.small(object, "offset"),
            bucket_counts: self.counts(object),
        }
    }

    fn counts(&mut self, object: &Object<'_>) -> Vec<u64> {
        self.scalars(object, "bucketCounts", "an unsigned integer", unsigned)
    }

    fn summary(&mut self, object: &Object<'_>) -> SummaryDataPoint {
        SummaryDataPoint {
            attributes: self.attributes(object, "attributes"),
            start_time_unix_nano: self.unsigned(object, "startTimeUnixNano"),
            time_unix_nano: self.unsigned(object, "timeUnixNano"),
            count: self.unsigned(object, "count"),
            sum: self.double(object, "sum").unwrap_or_default(),
            quantile_values: self.list(object, "quantileValues", |reader, value| ValueAtQuantile {
                quantile: reader.double(value, "quantile").unwrap_or_default(),
                value: reader.double(value, "value").unwrap_or_default(),
            }),
            flags: self.flags(object),
        }
    }

    fn exemplar(&mut self, object: &Object<'_>) -> Exemplar {
        let double = self
            .double(object, "asDouble")
            .map(exemplar::Value::AsDouble);
        let integer = self.optional(object, "asInt", "an integer", signed);
        Exemplar {
            filtered_attributes: self.attributes(object, "filteredAttributes"),
            time_unix_nano: self.unsigned(object, "timeUnixNano"),
            span_id: self.field(object, "spanId", "hexadecimal digits", hex),
            trace_id: self.field(object, "traceId", "hexadecimal digits", hex),
            value: double.or(integer.map(exemplar::Value::AsInt)),
        }
    }

    fn attributes(&mut self, object: &Object<'_>, name: &str) -> Vec<KeyValue> {
        self.list(object, name, Self::key_value)
    }

    fn key_value(&mut self, object: &Object<'_>) -> KeyValue {
        KeyValue {
            key: self.text(object, "key"),
            value: self.object(object, "value", Self::any_value),
            ..KeyValue::default()
        }
    }

    /// As deep as the parser of JSON lets values be.
    fn any_value(&mut self, object: &Object<'_>) -> AnyValue {
        let text = self.optional(object, "stringValue", "a string", |value| {
            value.as_str().map(|text| Any::StringValue(text.to_owned()))
        });
        let boolean = self.optional(object, "boolValue", "true or false", |value| {
            value.as_bool().map(Any::BoolValue)
        });
        let integer = self.optional(object, "intValue", "an integer", |value| {
            signed(value).map(Any::IntValue)
        });
        let double = self.double(object, "doubleValue").map(Any::DoubleValue);
        let bytes = self.optional(object, "bytesValue", "a string", |value| {
            value
                .as_str()
                .map(|text| Any::BytesValue(text.as_bytes().to_vec()))
        });
        let array = self.object(object, "arrayValue", |reader, array| {
            Any::ArrayValue(ArrayValue {
                values: reader.list(array, "values", Self::any_value),
            })
        });
        let list = self.object(object, "kvlistValue", |reader, list| {
            Any::KvlistValue(KeyValueList {
                values: reader.list(list, "values", Self::key_value),
            })
        });
        AnyValue {
            value: text
                .or(boolean)
                .or(integer)
                .or(double)
                .or(bytes)
                .or(array)
                .or(list),
        }
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number that some emitters write as `1.7e18`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole, not negative and within range"
)]
fn whole(number: f64) -> Option<u64> {
    let fits = (0.0..1.8e19).contains(&number) && number.fract() == 0.0;
    fits.then_some(number as u64)
}

fn signed(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            number => number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
                .then(|| number.parse().ok())?,
        },
        _ => None,
    }
}

fn hex(value: &Value) -> Option<Vec<u8>> {
    let digits = value.as_str()?.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::encode::Encoder;
    use crate::fixture;

    fn metrics(value: &Value) -> (ExportMetricsServiceRequest, Vec<FieldProblem>) {
        match read(value) {
            Document::Metrics(request, problems) => (request, problems),
            other => panic!("{other:?}"),
        }
    }

    fn point(fields: &Value) -> Value {
        json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [
            { "name": "m", "exponentialHistogram": { "dataPoints": [fields] } }
        ] }] }] })
    }

    fn first_point(request: &ExportMetricsServiceRequest) -> ExponentialHistogramDataPoint {
        let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
        let Some(Data::ExponentialHistogram(histogram)) = &metric.data else {
            panic!("{metric:?}");
        };
        histogram.data_points[0].clone()
    }

    #[test]
    fn reads_back_what_is_written() {
        let encoder = Encoder::new(fixture::template(), usize::MAX);
        for request in encoder.encode(&fixture::snapshot()) {
            let value = serde_json::to_value(&request).unwrap();
            assert_eq!(metrics(&value), (request, Vec::new()));
        }
    }

    #[test]
    fn integers_may_be_numbers_or_strings() {
        for time in [
            json!("1700000000000000000"),
            json!(1_700_000_000_000_000_000_u64),
            json!(1.7e18),
        ] {
            let (request, problems) = metrics(&point(
                &json!({ "timeUnixNano": time, "count": "3", "scale": -2,
                    "positive": { "offset": "-5", "bucketCounts": ["1", 2] } }),
            ));
            assert_eq!(problems, []);
            let point = first_point(&request);
            assert_eq!(point.time_unix_nano, 1_700_000_000_000_000_000);
            assert_eq!(point.positive.unwrap().bucket_counts, [1, 2]);
            assert_eq!((point.count, point.scale), (3, -2));
        }
    }

    #[test]
    fn the_names_of_the_protocol_are_read_too() {
        let value = json!({ "resource_metrics": [{ "scope_metrics": [{ "metrics": [{
            "name": "m",
            "exponential_histogram": {
                "aggregation_temporality": "AGGREGATION_TEMPORALITY_DELTA",
                "data_points": [{ "time_unix_nano": "5", "zero_count": "1" }],
            },
        }] }] }] });
        let (request, problems) = metrics(&value);
        assert_eq!(problems, []);
        assert_eq!(first_point(&request).time_unix_nano, 5);
        assert_eq!(first_point(&request).zero_count, 1);
    }

    #[test]
    fn doubles_may_be_no_numbers() {
        let (request, problems) = metrics(&point(&json!({ "sum": "NaN", "min": "-Infinity" })));
        assert_eq!(problems, []);
        assert!(first_point(&request).sum.unwrap().is_nan());
        assert_eq!(first_point(&request).min, Some(f64::NEG_INFINITY));
        assert_eq!(double(&json!("infinity")), None);
    }

    #[test]
    fn wrong_fields_are_named_and_read_as_absent() {
        let (request, problems) = metrics(&point(&json!({
            "count": "many", "sum": {}, "attributes": {}, "flags": -1,
            "positive": { "bucketCounts": [1, "x"] },
            "exemplars": [{ "traceId": "xyz", "spanId": "00f067aa0ba902b7" }],
        })));
        let paths: Vec<_> = problems
            .iter()
            .map(|problem| problem.path.rsplit("dataPoints[0].").next().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "attributes",
                "count",
                "sum",
                "positive.bucketCounts[1]",
                "flags",
                "exemplars[0].traceId"
            ]
        );
        assert!(
            problems[0]
                .path
                .starts_with("resourceMetrics[0].scopeMetrics[0].metrics[0].")
        );
        let point = first_point(&request);
        assert_eq!(point.count, 0);
        assert_eq!(point.exemplars[0].span_id[1], 0xf0);
    }

    #[test]
    fn long_values_and_long_lists_of_problems_are_cut() {
        let bad: Vec<_> = (0..1000).map(|_| json!("ä".repeat(500))).collect();
        let (_, problems) = metrics(&point(&json!({ "positive": { "bucketCounts": bad } })));
        assert_eq!(problems.len(), PROBLEMS);
        assert!(problems[0].found.len() <= SHOWN_BYTES + 3);
    }

    #[test]
    fn other_documents_are_told_apart() {
        assert!(matches!(
            read(&json!({ "resourceLogs": [] })),
            Document::OtherSignal
        ));
        for value in [json!({ "x": 1 }), json!([]), json!(1), json!("text")] {
            assert!(matches!(read(&value), Document::Unknown), "{value}");
        }
        assert!(matches!(read(&json!({})), Document::Metrics(..)));
    }
}
