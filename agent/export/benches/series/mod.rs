//! A collection of as many series as asked for, shaped as a busy node's: 50 services, 40 buckets a series.

use std::sync::Arc;

use kerntally_export::resource::{Identity, Node, NodeIdSource, ResourceTemplate};
use kerntally_model::{
    Attribute, AttributeValue, ExponentialHistogram, Instrument, InstrumentSnapshot, NameSource,
    Point, PointValue, Snapshot, Temporality, Workload, WorkloadSnapshot,
};

const SERVICES: usize = 50;
const BUCKETS: usize = 40;
const NOW_UNIX_NS: u64 = 1_700_000_000_000_000_000;

/// The resources of one node.
pub(crate) fn resources() -> ResourceTemplate {
    let node = Node {
        id: "node-1".to_owned(),
        source: NodeIdSource::Configured,
        host_name: Some("node-1".to_owned()),
    };
    ResourceTemplate::new(node, Identity::Node, [])
}

/// A collection.
pub(crate) fn snapshot(series: usize) -> Snapshot {
    let workloads = (0..SERVICES).map(|service| {
        let points = (0..series / SERVICES).map(point).collect();
        WorkloadSnapshot {
            workload: Arc::new(workload(service)),
            process: None,
            instruments: vec![InstrumentSnapshot {
                instrument: Instrument::HttpServerRequestDuration,
                renamed: None,
                temporality: Temporality::Cumulative,
                points,
            }],
        }
    });
    Snapshot {
        workloads: workloads.collect(),
    }
}

fn workload(service: usize) -> Workload {
    Workload {
        name: format!("service-{service}"),
        namespace: Some("shop".to_owned()),
        version: Some("1.4.2".to_owned()),
        environment: Some("production".to_owned()),
        attributes: Vec::new(),
        named_by: NameSource::Configuration,
    }
}

fn point(number: usize) -> Point {
    Point {
        attributes: attributes(number),
        start_unix_ns: NOW_UNIX_NS,
        time_unix_ns: NOW_UNIX_NS + 15_000_000_000,
        value: PointValue::Exponential(ExponentialHistogram {
            count: 40_000,
            sum: 400.0,
            min: Some(0.001),
            max: Some(1.5),
            scale: 4,
            zero_count: 0,
            offset: -160,
            buckets: (0..BUCKETS as u64).map(|bucket| bucket * 50 + 25).collect(),
        }),
        exemplars: Vec::new(),
    }
}

fn attributes(number: usize) -> Arc<[Attribute]> {
    let text = |key: &'static str, value: &str| -> Attribute {
        (key.into(), AttributeValue::Text(value.into()))
    };
    Arc::new([
        text("http.request.method", "GET"),
        (
            "http.response.status_code".into(),
            AttributeValue::Integer(200),
        ),
        text("http.route", &format!("/users/{{id}}/orders/{number}")),
        text("network.protocol.version", "1.1"),
        text("url.scheme", "http"),
    ])
}
