mod kinds;

use kerntally_model::{Instrument, PointValue, Snapshot};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use serde_json::{Value, json};

use super::{Encoder, MAX_REQUEST_BYTES, points_in};
use crate::{
    ExportMetricsServiceRequest, VERSION,
    fixture::{histogram, point, server_points, snapshot, template, text, workload},
};

fn encoder(max_request_bytes: usize) -> Encoder {
    Encoder::new(template(), max_request_bytes)
}

fn only_request(snapshot: &Snapshot) -> ExportMetricsServiceRequest {
    let mut requests = encoder(MAX_REQUEST_BYTES).encode(snapshot);
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

/// As many distinct points of one service as asked for.
fn wide(service: &str, points: usize) -> Snapshot {
    let points = (0..points).map(|number| {
        let route = format!("/route/{number}");
        point(
            vec![text("http.route", &route)],
            PointValue::Exponential(histogram()),
        )
    });
    Snapshot {
        workloads: vec![server_points(workload(service), points.collect())],
    }
}

fn routes(requests: &[ExportMetricsServiceRequest]) -> Vec<String> {
    let metrics = requests
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics);
    let points = metrics.flat_map(|metric| match &metric.data {
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.clone(),
        other => panic!("unexpected data {other:?}"),
    });
    points
        .map(|point| format!("{:?}", point.attributes))
        .collect()
}

#[test]
fn writes_a_snapshot_as_otlp_json() {
    let json = serde_json::to_string_pretty(&only_request(&snapshot())).unwrap();
    insta::assert_snapshot!(json.replace(VERSION, "VERSION"));
}

#[test]
fn writes_an_exponential_histogram_as_the_json_mapping_demands() {
    let request = serde_json::to_value(only_request(&snapshot())).unwrap();
    let metric = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
    assert_eq!(metric["name"], "http.server.request.duration");
    assert_eq!(metric["unit"], "s");
    let data = &metric["exponentialHistogram"];
    assert_eq!(data["aggregationTemporality"], json!(2));
    let point = &data["dataPoints"][0];
    assert_eq!(point["startTimeUnixNano"], "1700000000000000001");
    assert_eq!(point["timeUnixNano"], "1700000015000000002");
    assert_eq!(point["count"], "7");
    assert_eq!(point["zeroCount"], "1");
    assert_eq!(point["scale"], json!(3));
    assert_eq!(point["sum"], json!(0.5));
    assert_eq!(point["min"], json!(0.0));
    assert_eq!(point["max"], json!(0.25));
    assert_eq!(
        point["positive"],
        json!({"offset": -40, "bucketCounts": ["1", "0", "5"]})
    );
    assert_eq!(point["flags"], json!(0));
    let status = &point["attributes"][1];
    assert_eq!(status["key"], "http.response.status_code");
    assert_eq!(status["value"], json!({"intValue": "200"}));
}

#[test]
fn marks_the_end_of_a_series_and_gives_it_no_value() {
    let request = serde_json::to_value(only_request(&snapshot())).unwrap();
    let metric = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
    let point = &metric["exponentialHistogram"]["dataPoints"][1];
    assert_eq!(point["flags"], json!(1));
    assert_eq!(point["count"], "0");
    assert_eq!(point["sum"], Value::Null);
    assert_eq!(point["positive"], Value::Null);
    assert_eq!(point["attributes"][0]["value"], json!({"boolValue": true}));
}

#[test]
fn reads_back_from_json_and_from_protobuf() {
    let request = only_request(&snapshot());
    let json = serde_json::to_string(&request).unwrap();
    assert_eq!(
        serde_json::from_str::<ExportMetricsServiceRequest>(&json).unwrap(),
        request
    );
    let bytes = request.encode_to_vec();
    assert_eq!(
        ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap(),
        request
    );
}

#[test]
fn makes_one_resource_a_workload_and_one_metric_an_instrument() {
    let request = only_request(&snapshot());
    assert_eq!(request.resource_metrics.len(), 2);
    let scope = &request.resource_metrics[0].scope_metrics[0];
    let names: Vec<_> = scope
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "http.server.request.duration",
            "http.client.request.duration"
        ]
    );
    assert_eq!(points_in(&request), 4);
}

#[test]
fn splits_below_the_limit_and_loses_and_repeats_no_point() {
    for limit in [700, 1_000, 4_096, 20_000] {
        let mut snapshot = wide("api", 200);
        snapshot.workloads.extend(wide("worker", 100).workloads);
        let requests = encoder(limit).encode(&snapshot);
        assert!(requests.len() > 1, "{limit}");
        for request in &requests {
            assert!(
                request.encoded_len() <= limit,
                "{} of {limit}",
                request.encoded_len()
            );
            assert!(points_in(request) > 0);
        }
        let all: u64 = requests.iter().map(points_in).sum();
        assert_eq!(all, 300);
        let whole = encoder(MAX_REQUEST_BYTES).encode(&snapshot);
        assert_eq!(routes(&requests), routes(&whole));
    }
}

#[test]
fn gives_every_part_its_resource_and_metric() {
    for request in encoder(1_000).encode(&wide("api", 50)) {
        let resource = &request.resource_metrics[0];
        assert!(!resource.resource.as_ref().unwrap().attributes.is_empty());
        let scope = &resource.scope_metrics[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "kerntally/http");
        assert_eq!(scope.schema_url, "https://opentelemetry.io/schemas/1.44.0");
        assert_eq!(scope.metrics[0].name, "http.server.request.duration");
    }
}

#[test]
fn sends_a_point_past_the_limit_alone() {
    let requests = encoder(1).encode(&wide("api", 3));
    assert_eq!(
        requests.iter().map(points_in).collect::<Vec<_>>(),
        [1, 1, 1]
    );
}

#[test]
fn makes_no_request_without_points() {
    assert!(
        encoder(MAX_REQUEST_BYTES)
            .encode(&Snapshot::default())
            .is_empty()
    );
    let mut empty = wide("api", 0);
    empty.workloads[0].instruments[0].instrument = Instrument::HttpClientRequestDuration;
    assert!(encoder(MAX_REQUEST_BYTES).encode(&empty).is_empty());
}
