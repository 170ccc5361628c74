use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    metrics::v1::{Metric, metric::Data, number_data_point},
};

use super::{Reading, RoleReading, SelfIdentity, SelfMetrics, SelfSource, ServiceSeries};
use crate::{
    ExportMetricsServiceRequest,
    collector::{GrpcCollector, HttpCollector},
    endpoint::{Endpoint, EndpointKind, Headers, OtlpSettings, Protocol},
    fixture::node,
    push::{ExportStats, Exporter},
};

/// Counts its readings; every one closes the ledger at other numbers.
#[derive(Default)]
struct Busy(AtomicU64);

impl SelfSource for Busy {
    fn read(&self) -> Reading {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let server = RoleReading {
            role: "server",
            seen: 10 * number + 3,
            open: 3,
            cut: 1,
            outcomes: vec![("tallied", 9 * number), ("tallied_degraded", number)],
        };
        Reading {
            roles: vec![server],
            blind: vec![("protocol_not_built", 2)],
            series: vec![ServiceSeries {
                service: "api".to_owned(),
                live: 5,
                limit: 2000,
            }],
            degraded: vec!["ring_full"],
            backend: Some("fexit"),
            export: Some(ExportStats {
                points_dropped: 4,
                ..ExportStats::default()
            }),
            ..Reading::default()
        }
    }
}

fn identity() -> SelfIdentity {
    SelfIdentity {
        node: node(),
        ..SelfIdentity::default()
    }
}

fn metrics() -> SelfMetrics {
    let source: Arc<dyn SelfSource> = Arc::new(Busy::default());
    SelfMetrics::new(&identity(), &source, None).unwrap()
}

fn find<'a>(request: &'a ExportMetricsServiceRequest, name: &str) -> &'a Metric {
    let scope = &request.resource_metrics[0].scope_metrics[0];
    scope
        .metrics
        .iter()
        .find(|metric| metric.name == name)
        .unwrap()
}

fn total(metric: &Metric) -> i64 {
    let points = match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("unexpected data {other:?}"),
    };
    let values = points.iter().map(|point| match point.value.unwrap() {
        number_data_point::Value::AsInt(value) => value,
        number_data_point::Value::AsDouble(value) => panic!("unexpected value {value}"),
    });
    values.sum()
}

fn assert_ledger_closes(request: &ExportMetricsServiceRequest) {
    let seen = total(find(request, "kerntally.exchanges.seen"));
    let open = total(find(request, "kerntally.exchanges.open"));
    assert_eq!(seen, total(find(request, "kerntally.exchanges")) + open);
}

fn push_to(text: &str, protocol: Protocol) -> SelfMetrics {
    let settings = OtlpSettings {
        endpoint: Endpoint::parse(text, EndpointKind::Base, Some(protocol), false).unwrap(),
        timeout: Duration::from_secs(5),
        headers: Headers::new([("x-tenant", "shop")]).unwrap(),
        ..OtlpSettings::default()
    };
    let exporter = Exporter::new(settings).unwrap();
    let source: Arc<dyn SelfSource> = Arc::new(Busy::default());
    let hour = Duration::from_hours(1);
    SelfMetrics::new(&identity(), &source, Some((&exporter, hour))).unwrap()
}

#[test]
fn shows_every_instrument_as_prometheus_text() {
    let text = metrics().prometheus_text().unwrap();
    for line in [
        "kerntally_exchanges_seen_total{role=\"server\"} 13",
        "kerntally_exchanges_total{outcome=\"tallied\",role=\"server\"} 9",
        "kerntally_exchanges_total{outcome=\"tallied_degraded\",role=\"server\"} 1",
        "kerntally_exchanges_open{role=\"server\"} 3",
        "kerntally_exchanges_cut_total{role=\"server\"} 1",
        "kerntally_blind_total{reason=\"protocol_not_built\"} 2",
        "kerntally_series{service=\"api\"} 5",
        "kerntally_series_limit{service=\"api\"} 2000",
        "kerntally_export_points_dropped_total 4",
        "kerntally_config_reload_errors_total 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
    assert!(
        text.contains("reason=\"ring_full\"") && text.contains("backend=\"fexit\""),
        "{text}"
    );
}

#[test]
fn closes_the_ledger_in_every_collection() {
    let metrics = metrics();
    for _ in 0..3 {
        metrics.prometheus_text().unwrap();
        assert_ledger_closes(&metrics.request().unwrap());
    }
}

#[test]
fn closes_the_ledger_while_two_collect_at_once() {
    let metrics = metrics();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50 {
                    metrics.prometheus_text().unwrap();
                }
            });
        }
        for _ in 0..50 {
            assert_ledger_closes(&metrics.request().unwrap());
        }
    });
}

#[test]
fn says_who_it_is() {
    let request = metrics().request().unwrap();
    let resource = request.resource_metrics[0].resource.clone().unwrap();
    let value = |key: &str| {
        let found = resource
            .attributes
            .iter()
            .find(|attribute| attribute.key == key)
            .unwrap();
        match found.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            other => panic!("unexpected value {other:?}"),
        }
    };
    assert_eq!(value("service.name"), "kerntally");
    assert_eq!(value("telemetry.sdk.name"), "kerntally");
    assert_eq!(value("host.name"), "node-1");
    assert_eq!(value("service.instance.id").len(), 36);
    let scope = &request.resource_metrics[0].scope_metrics[0];
    assert_eq!(scope.schema_url, "https://opentelemetry.io/schemas/1.44.0");
}

#[tokio::test]
async fn pushes_by_grpc_one_last_time_when_it_ends() {
    let collector = GrpcCollector::default();
    let address = collector.serve().await;
    let metrics = push_to(&format!("http://{address}"), Protocol::Grpc);
    metrics.shutdown().await.unwrap();
    let requests = collector.requests();
    assert_eq!(requests.len(), 1);
    let metadata = collector.received.lock().unwrap()[0].0.clone();
    assert_eq!(metadata.get("x-tenant").unwrap(), "shop");
    assert_ledger_closes(&requests[0]);
}

#[tokio::test]
async fn pushes_by_http_one_last_time_when_it_ends() {
    let collector = HttpCollector::default();
    let address = collector.serve().await;
    let metrics = push_to(&format!("http://{address}"), Protocol::HttpProtobuf);
    metrics.shutdown().await.unwrap();
    assert_eq!(collector.received().len(), 1);
    assert_ledger_closes(&collector.received()[0]);
    let head = collector.heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /v1/metrics http/1.1\r\n"), "{head}");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(head.contains("x-tenant: shop\r\n"), "{head}");
    assert!(head.contains("user-agent: kerntally/"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_by_http_in_json_as_well() {
    let collector = HttpCollector::default();
    let address = collector.serve().await;
    let metrics = push_to(&format!("http://{address}"), Protocol::HttpJson);
    metrics.shutdown().await.unwrap();
    assert_ledger_closes(&collector.received()[0]);
    let head = collector.heads.lock().unwrap()[0].clone();
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
    assert!(head.contains("content-encoding: gzip"), "{head}");
}

#[tokio::test]
async fn ends_within_bounds_when_nobody_listens() {
    let metrics = push_to("http://127.0.0.1:1", Protocol::Grpc);
    let started = std::time::Instant::now();
    assert!(metrics.shutdown().await.is_err());
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}
