//! Snapshots and nodes that the tests share.

use std::sync::Arc;

use kerntally_model::{
    Attribute, AttributeValue, ExponentialHistogram, Instrument, InstrumentSnapshot, NameSource,
    Point, PointValue, Snapshot, Temporality, Workload, WorkloadSnapshot,
};

use crate::resource::{Identity, Node, NodeIdSource, ResourceTemplate};

pub(crate) const START_UNIX_NS: u64 = 1_700_000_000_000_000_001;
pub(crate) const TIME_UNIX_NS: u64 = 1_700_000_015_000_000_002;

pub(crate) fn node() -> Node {
    Node {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        source: NodeIdSource::MachineId,
        host_name: Some("node-1".to_owned()),
    }
}

pub(crate) fn template() -> ResourceTemplate {
    ResourceTemplate::new(node(), Identity::Node, [])
}

pub(crate) fn workload(name: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        namespace: Some("shop".to_owned()),
        version: None,
        environment: None,
        attributes: Vec::new(),
        named_by: NameSource::Executable,
    }
}

pub(crate) fn text(key: &'static str, value: &str) -> Attribute {
    (key.into(), AttributeValue::Text(value.into()))
}

pub(crate) fn histogram() -> ExponentialHistogram {
    ExponentialHistogram {
        count: 7,
        sum: 0.5,
        min: Some(0.0),
        max: Some(0.25),
        scale: 3,
        zero_count: 1,
        offset: -40,
        buckets: vec![1, 0, 5],
    }
}

pub(crate) fn point(attributes: Vec<Attribute>, value: PointValue) -> Point {
    Point {
        attributes: attributes.into(),
        start_unix_ns: START_UNIX_NS,
        time_unix_ns: TIME_UNIX_NS,
        value,
        exemplars: Vec::new(),
    }
}

/// Of the instrument's own name, cumulative.
pub(crate) fn measured(instrument: Instrument, points: Vec<Point>) -> InstrumentSnapshot {
    InstrumentSnapshot {
        instrument,
        renamed: None,
        temporality: Temporality::Cumulative,
        points,
    }
}

pub(crate) fn server_points(workload: Workload, points: Vec<Point>) -> WorkloadSnapshot {
    WorkloadSnapshot {
        workload: Arc::new(workload),
        process: None,
        instruments: vec![measured(Instrument::HttpServerRequestDuration, points)],
    }
}

/// Two services, three points, one of them the end of a series.
pub(crate) fn snapshot() -> Snapshot {
    let get = vec![
        text("http.request.method", "GET"),
        (
            "http.response.status_code".into(),
            AttributeValue::Integer(200),
        ),
        text("http.route", "/users/{id}"),
    ];
    let overflow = vec![("otel.metric.overflow".into(), AttributeValue::Boolean(true))];
    let mut api = server_points(
        workload("api"),
        vec![
            point(get, PointValue::Exponential(histogram())),
            point(overflow, PointValue::NoRecordedValue),
        ],
    );
    let peer = vec![
        text("error.type", "503"),
        text("server.address", "db.internal"),
        ("server.port".into(), AttributeValue::Integer(8080)),
    ];
    api.instruments.push(measured(
        Instrument::HttpClientRequestDuration,
        vec![point(peer, PointValue::Exponential(histogram()))],
    ));
    let worker = server_points(
        workload("worker"),
        vec![point(Vec::new(), PointValue::Exponential(histogram()))],
    );
    Snapshot {
        workloads: vec![api, worker],
    }
}
