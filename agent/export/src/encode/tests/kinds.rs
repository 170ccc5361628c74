//! What is not an exponential, cumulative histogram of the conventions' own name.

use std::collections::BTreeSet;

use kerntally_model::{
    Exemplar, ExplicitHistogram, Instrument, InstrumentSnapshot, MetricName, PointValue, Snapshot,
    Temporality, Workload,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Encoder, MAX_REQUEST_BYTES, encoder};
use crate::{
    fixture::{TIME_UNIX_NS, histogram, measured, node, point, server_points, text, workload},
    resource::{Identity, Node, ResourceTemplate},
};

fn of(instrument: InstrumentSnapshot) -> Snapshot {
    let mut workload = server_points(workload("api"), Vec::new());
    workload.instruments = vec![instrument];
    Snapshot {
        workloads: vec![workload],
    }
}

/// The only metric of a snapshot, as JSON.
fn metric(encoder: &Encoder, instrument: InstrumentSnapshot) -> Value {
    let requests = encoder.encode(&of(instrument));
    let request = serde_json::to_value(&requests[0]).unwrap();
    let metrics = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    assert_eq!(metrics.as_array().unwrap().len(), 1);
    metrics[0].clone()
}

fn explicit() -> PointValue {
    PointValue::Explicit(ExplicitHistogram {
        count: 6,
        sum: 1.5,
        min: Some(0.01),
        max: Some(0.7),
        boundaries: [0.1, 0.5].into(),
        buckets: vec![1, 2, 3],
    })
}

fn durations(value: PointValue) -> InstrumentSnapshot {
    measured(
        Instrument::HttpServerRequestDuration,
        vec![point(vec![text("http.route", "/a")], value)],
    )
}

#[test]
fn writes_explicit_buckets_as_a_histogram() {
    let metric = metric(&encoder(MAX_REQUEST_BYTES), durations(explicit()));
    assert_eq!(metric["name"], "http.server.request.duration");
    assert!(metric["exponentialHistogram"].is_null());
    let point = &metric["histogram"]["dataPoints"][0];
    assert_eq!(point["explicitBounds"], json!([0.1, 0.5]));
    assert_eq!(point["bucketCounts"], json!(["1", "2", "3"]));
    assert_eq!((&point["count"], &point["sum"]), (&json!("6"), &json!(1.5)));
    assert_eq!((&point["min"], &point["max"]), (&json!(0.01), &json!(0.7)));
}

#[test]
fn writes_a_level_as_a_sum_that_may_fall_and_is_always_of_the_whole() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut level = measured(
            Instrument::HttpServerActiveRequests,
            vec![point(Vec::new(), PointValue::UpDown(-3))],
        );
        level.temporality = temporality;
        let metric = metric(&encoder(MAX_REQUEST_BYTES), level);
        assert_eq!(metric["name"], "http.server.active_requests");
        assert_eq!(metric["unit"], "{request}");
        let sum = &metric["sum"];
        assert_eq!(sum["isMonotonic"], json!(false));
        assert_eq!(sum["aggregationTemporality"], json!(2));
        assert_eq!(sum["dataPoints"][0]["asInt"], "-3");
    }
}

#[test]
fn says_that_a_point_is_of_its_window_alone() {
    let mut window = durations(PointValue::Exponential(histogram()));
    window.temporality = Temporality::Delta;
    let metric = metric(&encoder(MAX_REQUEST_BYTES), window);
    assert_eq!(
        metric["exponentialHistogram"]["aggregationTemporality"],
        json!(1)
    );
}

#[test]
fn takes_name_and_unit_from_a_view_and_keeps_the_description() {
    let mut renamed = durations(explicit());
    renamed.renamed = Some(MetricName {
        name: "legacy_latency".into(),
        unit: "ms".into(),
    });
    let metric = metric(&encoder(MAX_REQUEST_BYTES), renamed);
    assert_eq!(metric["name"], "legacy_latency");
    assert_eq!(metric["unit"], "ms");
    assert_eq!(metric["description"], "Duration of HTTP server requests.");
}

#[test]
fn hands_exemplars_over_with_their_trace_and_nothing_else() {
    let exemplar = |span_id| Exemplar {
        value: 0.25,
        time_unix_ns: TIME_UNIX_NS - 5,
        trace_id: [0xab; 16],
        span_id,
    };
    for value in [PointValue::Exponential(histogram()), explicit()] {
        let mut traced = durations(value);
        traced.points[0].exemplars = vec![exemplar(None), exemplar(Some([0xcd; 8]))];
        let metric = metric(&encoder(MAX_REQUEST_BYTES), traced);
        let data = [&metric["exponentialHistogram"], &metric["histogram"]];
        let data = data.iter().find(|data| !data.is_null()).unwrap();
        let exemplars = &data["dataPoints"][0]["exemplars"];
        assert_eq!(exemplars[0]["asDouble"], json!(0.25));
        assert_eq!(exemplars[0]["timeUnixNano"], "1700000014999999997");
        assert_eq!(exemplars[0]["traceId"], "ab".repeat(16));
        assert_eq!(exemplars[0]["spanId"], "");
        assert_eq!(exemplars[1]["spanId"], "cd".repeat(8));
        assert_eq!(exemplars[0]["filteredAttributes"], json!([]));
    }
}

#[test]
fn ends_a_series_as_what_it_was() {
    let encoder = encoder(MAX_REQUEST_BYTES);
    metric(&encoder, durations(explicit()));
    for _ in 0..2 {
        let ended = metric(&encoder, durations(PointValue::NoRecordedValue));
        let point = &ended["histogram"]["dataPoints"][0];
        assert_eq!((&point["flags"], &point["count"]), (&json!(1), &json!("0")));
        assert_eq!(point["bucketCounts"], json!([]));
    }
    let level = measured(
        Instrument::HttpServerActiveRequests,
        vec![point(Vec::new(), PointValue::NoRecordedValue)],
    );
    let ended = metric(&encoder, level);
    let point = &ended["sum"]["dataPoints"][0];
    assert_eq!(point["flags"], json!(1));
    assert!(point["asInt"].is_null() && point["asDouble"].is_null());
}

#[test]
fn a_workload_is_one_resource_whatever_it_measures() {
    let mut workload = server_points(
        workload("api"),
        vec![point(Vec::new(), PointValue::Exponential(histogram()))],
    );
    workload.instruments.push(measured(
        Instrument::HttpServerActiveRequests,
        vec![point(Vec::new(), PointValue::UpDown(1))],
    ));
    workload.instruments.push(measured(
        Instrument::HttpClientRequestDuration,
        vec![point(Vec::new(), explicit())],
    ));
    let snapshot = Snapshot {
        workloads: vec![workload],
    };
    let requests = encoder(MAX_REQUEST_BYTES).encode(&snapshot);
    assert_eq!(requests.len(), 1);
    let resources = &requests[0].resource_metrics;
    assert_eq!(resources.len(), 1);
    assert_eq!(
        resources[0].schema_url,
        "https://opentelemetry.io/schemas/1.44.0"
    );
    assert_eq!(resources[0].scope_metrics.len(), 1);
    assert_eq!(resources[0].scope_metrics[0].metrics.len(), 3);
}

/// What tells one stream from another: resource, scope, name and attributes.
fn streams(node: Node, workload: &Workload) -> BTreeSet<String> {
    let template = ResourceTemplate::new(node, Identity::Node, []);
    let points = ["/a", "/b"].map(|route| {
        let attributes = vec![text("http.route", route)];
        point(attributes, PointValue::Exponential(histogram()))
    });
    let snapshot = Snapshot {
        workloads: vec![server_points(workload.clone(), points.into())],
    };
    let requests = Encoder::new(template, MAX_REQUEST_BYTES).encode(&snapshot);
    let request = serde_json::to_value(&requests[0]).unwrap();
    let mut streams = BTreeSet::new();
    for resource in request["resourceMetrics"].as_array().unwrap() {
        let attributes = resource["resource"]["attributes"].as_array().unwrap();
        let identity: Vec<_> = attributes
            .iter()
            .filter(|attribute| {
                let key = attribute["key"].as_str().unwrap();
                // What Prometheus makes `job` and `instance` of.
                ["service.name", "service.namespace", "service.instance.id"].contains(&key)
            })
            .collect();
        let metric = &resource["scopeMetrics"][0]["metrics"][0];
        let points = metric["exponentialHistogram"]["dataPoints"]
            .as_array()
            .unwrap();
        streams.extend(
            points
                .iter()
                .map(|point| format!("{identity:?} {} {}", metric["name"], point["attributes"])),
        );
    }
    streams
}

fn on(id: &str) -> Node {
    Node {
        id: id.to_owned(),
        ..node()
    }
}

proptest! {
    #[test]
    fn two_nodes_or_two_versions_never_write_one_stream(
        nodes in ("[a-z0-9;:-]{1,12}", "[a-z0-9;:-]{1,12}"),
        versions in (proptest::option::of("[0-9.;:-]{0,6}"), proptest::option::of("[0-9.;:-]{0,6}")),
        environments in (proptest::option::of("[a-z;:-]{0,6}"), proptest::option::of("[a-z;:-]{0,6}")),
    ) {
        let service = |version: &Option<String>, environment: &Option<String>| Workload {
            version: version.clone(),
            environment: environment.clone(),
            ..workload("api")
        };
        let one = streams(on(&nodes.0), &service(&versions.0, &environments.0));
        let other = streams(on(&nodes.1), &service(&versions.1, &environments.1));
        prop_assert_eq!(one.len(), 2);
        let same = nodes.0 == nodes.1 && versions.0 == versions.1 && environments.0 == environments.1;
        if same {
            prop_assert_eq!(one, other);
        } else {
            prop_assert!(one.is_disjoint(&other));
        }
    }
}
