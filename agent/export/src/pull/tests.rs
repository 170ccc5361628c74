use std::sync::Arc;

use kerntally_model::{
    AttributeValue, Exemplar, ExplicitHistogram, ExponentialHistogram, Instrument, MetricName,
    PointValue, Snapshot,
};
use proptest::prelude::*;
use prost::{Message, bytes::Buf};

use super::{
    Nothing, Pull,
    negotiate::Format,
    page::Page,
    protobuf::{Histogram, Metric},
};
use crate::{
    VERSION,
    fixture::{
        TIME_UNIX_NS, histogram, measured, point, server_points, snapshot, template, text, workload,
    },
};

/// A family as a scraper reads it.
#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(int32, optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

fn exemplar(value: f64, number: u8) -> Exemplar {
    Exemplar {
        value,
        time_unix_ns: TIME_UNIX_NS - 1_000_000_000 + u64::from(number),
        trace_id: [number; 16],
        span_id: (number > 1).then_some([number; 8]),
    }
}

fn page(pull: &Pull, format: Format) -> Vec<u8> {
    let mut page = Page::new(pull.latest(), format, false);
    std::iter::from_fn(|| page.chunk()).flatten().collect()
}

fn page_of(snapshot: Snapshot, format: Format) -> Vec<u8> {
    let pull = Pull::new(template());
    pull.publish(template(), Arc::new(Nothing(snapshot)));
    page(&pull, format)
}

fn text_of(snapshot: Snapshot, format: Format) -> String {
    String::from_utf8(page_of(snapshot, format)).unwrap()
}

fn families(mut page: &[u8]) -> Vec<Family> {
    let mut families = Vec::new();
    while page.has_remaining() {
        families.push(Family::decode_length_delimited(&mut page).unwrap());
    }
    families
}

fn with_everything() -> Snapshot {
    let mut snapshot = snapshot();
    let api = &mut snapshot.workloads[0];
    api.instruments[0].points[0].exemplars = vec![exemplar(0.04, 1), exemplar(0.2, 2)];
    api.instruments.push(measured(
        Instrument::HttpServerActiveRequests,
        vec![point(
            vec![text("http.request.method", "GET")],
            PointValue::UpDown(3),
        )],
    ));
    let mut renamed = measured(
        Instrument::HttpClientRequestDuration,
        vec![point(
            vec![text("peer", "a \"quoted\" \\ name")],
            PointValue::Explicit(ExplicitHistogram {
                count: 6,
                sum: 60.0,
                min: None,
                max: None,
                boundaries: [5.0, 10.0].into(),
                buckets: vec![1, 2, 3],
            }),
        )],
    );
    renamed.renamed = Some(MetricName {
        name: "legacy.latency".into(),
        unit: "ms".into(),
    });
    snapshot.workloads[1].instruments.push(renamed);
    snapshot
}

#[test]
fn writes_open_metrics_with_exemplars() {
    let text = text_of(with_everything(), Format::OpenMetrics);
    insta::assert_snapshot!(text.replace(VERSION, "VERSION"));
}

#[test]
fn writes_plain_text_without_what_it_does_not_know() {
    let text = text_of(with_everything(), Format::Text);
    assert!(!text.contains("# {") && !text.contains("# UNIT") && !text.contains("# EOF"));
    assert!(text.contains("# TYPE target_info gauge\n"));
    assert!(text.contains("\nhttp_server_active_requests{"));
}

#[test]
fn writes_native_histograms() {
    let families = families(&page_of(with_everything(), Format::Protobuf));
    let names: Vec<_> = families
        .iter()
        .map(|family| (family.name.clone().unwrap(), family.metric.len()))
        .collect();
    assert_eq!(
        names,
        [
            ("target_info".to_owned(), 2),
            ("http_client_request_duration_seconds".to_owned(), 1),
            ("http_server_active_requests".to_owned(), 1),
            ("http_server_request_duration_seconds".to_owned(), 2),
            ("legacy_latency_milliseconds".to_owned(), 1),
        ]
    );
    let native = families[3].metric[0].histogram.as_ref().unwrap();
    assert_eq!(buckets(native), [(-39, 1), (-37, 5)]);
    assert_eq!(
        (native.schema, native.zero_count, native.sample_count),
        (Some(3), Some(1), Some(7))
    );
    assert_eq!(native.exemplars.len(), 2);
    let label = &native.exemplars[1].label;
    assert_eq!(label[1].name.as_deref(), Some("span_id"));
    assert_eq!(label[1].value.as_deref(), Some("0202020202020202"));
    let classic = families[4].metric[0].histogram.as_ref().unwrap();
    let counts: Vec<_> = classic
        .bucket
        .iter()
        .map(|bucket| bucket.cumulative_count.unwrap())
        .collect();
    assert_eq!(counts, [1, 3, 6]);
    assert_eq!(
        families[2].metric[0].gauge.as_ref().unwrap().value,
        Some(3.0)
    );
}

#[test]
fn a_series_that_ended_is_gone() {
    let text = text_of(snapshot(), Format::OpenMetrics);
    assert!(!text.contains("overflow"), "{text}");
}

#[test]
fn no_page_is_empty_text() {
    let nothing = Pull::new(template());
    assert_eq!(page(&nothing, Format::OpenMetrics), b"# EOF\n");
    assert_eq!(page(&nothing, Format::Text), b"");
    assert_eq!(page(&nothing, Format::Protobuf), b"");
}

#[test]
fn shows_exemplars_until_there_are_newer_ones() {
    let pull = Pull::new(template());
    let mut first = server_points(
        workload("api"),
        vec![point(
            vec![text("http.route", "/a")],
            PointValue::Exponential(histogram()),
        )],
    );
    let mut publish = |exemplars: Vec<Exemplar>| {
        first.instruments[0].points[0].exemplars = exemplars;
        let workloads = vec![first.clone()];
        pull.publish(template(), Arc::new(Nothing(Snapshot { workloads })));
        let page = String::from_utf8(page(&pull, Format::OpenMetrics)).unwrap();
        let of = |number: u8| page.contains(&format!("{number:02x}").repeat(16));
        (of(7), of(8))
    };
    assert_eq!(publish(vec![exemplar(0.1, 7)]), (true, false));
    assert_eq!(publish(Vec::new()), (true, false));
    assert_eq!(publish(vec![exemplar(0.1, 8)]), (false, true));
}

#[test]
fn labels_that_become_alike_are_one() {
    let attributes = vec![
        ("a.b".into(), AttributeValue::Text("1".into())),
        ("a_b".into(), AttributeValue::Integer(2)),
        ("job".into(), AttributeValue::Text("mine".into())),
        ("none".into(), AttributeValue::Text("".into())),
    ];
    let points = vec![point(attributes, PointValue::Exponential(histogram()))];
    let snapshot = Snapshot {
        workloads: vec![server_points(workload("api"), points)],
    };
    let text = text_of(snapshot, Format::Text);
    assert!(
        text.contains(",a_b=\"1;2\",exported_job=\"mine\"} 7\n"),
        "{text}"
    );
}

#[test]
fn a_large_page_comes_in_chunks_that_are_bounded() {
    let points = (0..2000).map(|number| {
        point(
            vec![text("http.route", &format!("/route/{number}"))],
            PointValue::Exponential(histogram()),
        )
    });
    let snapshot = Snapshot {
        workloads: vec![server_points(workload("api"), points.collect())],
    };
    let pull = Pull::new(template());
    pull.publish(template(), Arc::new(Nothing(snapshot)));
    for format in [Format::Protobuf, Format::OpenMetrics, Format::Text] {
        let mut page = Page::new(pull.latest(), format, false);
        let chunks: Vec<_> = std::iter::from_fn(|| page.chunk()).collect();
        assert!(
            chunks.iter().all(|chunk| chunk.len() < 1024 * 1024),
            "{format:?}"
        );
        assert!(chunks.len() > 1);
    }
    let all = families(&page(&pull, Format::Protobuf));
    assert_eq!(all[1].metric.len(), 2000);
}

/// Index and count of each bucket that holds something.
fn buckets(native: &Histogram) -> Vec<(i32, i64)> {
    let mut deltas = native.positive_delta.iter();
    let (mut index, mut count, mut found) = (0, 0, Vec::new());
    for span in &native.positive_span {
        index += span.offset.unwrap();
        for _ in 0..span.length.unwrap() {
            count += deltas.next().unwrap();
            if count > 0 {
                found.push((index, count));
            }
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    found
}

proptest! {
    #[test]
    fn spans_say_what_the_buckets_held(
        scale in -4..=10,
        offset in -2000..2000,
        counts in prop::collection::vec(prop_oneof![3 => Just(0u64), 2 => 1..1_000_000u64], 1..160),
    ) {
        let values = ExponentialHistogram {
            count: counts.iter().sum(),
            zero_count: 0,
            scale,
            offset,
            buckets: counts.clone(),
            ..histogram()
        };
        let points = vec![point(Vec::new(), PointValue::Exponential(values))];
        let snapshot = Snapshot { workloads: vec![server_points(workload("api"), points)] };
        let families = families(&page_of(snapshot, Format::Protobuf));
        let native = families[1].metric[0].histogram.as_ref().unwrap();
        let steps = (scale - 8).max(0);
        prop_assert_eq!(native.schema, Some(scale - steps));
        let mut expected: Vec<(i32, i64)> = Vec::new();
        for (index, count) in (offset..).zip(&counts).filter(|(_, count)| **count > 0) {
            let index = (index >> steps) + 1;
            let count = i64::try_from(*count).unwrap();
            match expected.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => expected.push((index, count)),
            }
        }
        prop_assert_eq!(buckets(native), expected);
    }
}
