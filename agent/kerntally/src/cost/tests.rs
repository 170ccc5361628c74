//! Bills of pushes made by hand.

use kerntally_export::otlpjson::{Document, read};
use serde_json::{Value, json};

use super::*;
use crate::config::Span;

const TIME: u64 = 1_700_000_000_000_000_000;

const TERMS: Terms = Terms {
    nodes: 1,
    unit: Unit::Series,
    price: None,
};

fn attributes(pairs: &[(&str, &str)]) -> Value {
    pairs
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } }))
        .collect()
}

fn push(at_seconds: u64, points: &[&[(&str, &str)]]) -> ExportMetricsServiceRequest {
    let time = (TIME + at_seconds * 1_000_000_000).to_string();
    let points: Vec<_> = points
        .iter()
        .map(|pairs| json!({ "attributes": attributes(pairs), "timeUnixNano": time, "count": 1 }))
        .collect();
    request(&json!([
        { "name": "http.server.request.duration", "exponentialHistogram": { "dataPoints": points } },
    ]))
}

fn request(metrics: &Value) -> ExportMetricsServiceRequest {
    let value = json!({ "resourceMetrics": [{
        "resource": { "attributes": attributes(&[("service.name", "api")]) },
        "scopeMetrics": [{ "metrics": metrics }],
    }] });
    match read(&value) {
        Document::Metrics(request, problems) => {
            assert_eq!(problems, []);
            request
        }
        other => panic!("{other:?}"),
    }
}

/// Two routes with two methods each.
fn four() -> Vec<&'static [(&'static str, &'static str)]> {
    vec![
        &[("http.route", "/a"), ("http.request.method", "GET")],
        &[("http.route", "/a"), ("http.request.method", "POST")],
        &[("http.route", "/b"), ("http.request.method", "GET")],
        &[("http.route", "/b"), ("http.request.method", "POST")],
    ]
}

fn pushes(of: &[ExportMetricsServiceRequest]) -> Pushes {
    let mut pushes = Pushes::default();
    for push in of {
        pushes.add(push);
    }
    pushes
}

#[test]
fn series_points_and_bytes_of_one_push() {
    let pushes = pushes(&[push(0, &four())]);
    assert_eq!(pushes.interval_seconds(), None);
    let bill = pushes.bill(15.0, &TERMS);
    assert_eq!(
        (bill.node.series, bill.node.points, bill.node.custom_metrics),
        (4, 4, 20)
    );
    assert!((bill.node.points_per_minute - 16.0).abs() < 1e-9);
    assert!(bill.node.bytes_per_push > 100.0);
    assert!(bill.node.compressed_bytes_per_push < bill.node.bytes_per_push);
    assert_eq!(bill.cost, None);
}

#[test]
fn the_interval_is_read_off_the_points() {
    let pushes = pushes(&[0, 15, 30, 45].map(|at| push(at, &four())));
    assert_eq!(pushes.interval_seconds(), Some(15.0));
    let bill = pushes.bill(15.0, &TERMS);
    assert_eq!(bill.node.series, 4);
    let one = self::pushes(&[push(0, &four())]).bill(15.0, &TERMS);
    assert!((bill.node.bytes_per_push - one.node.bytes_per_push).abs() < 4.0);
}

#[test]
fn what_is_no_longer_sent_is_not_paid_for() {
    let pushes = pushes(&[
        push(0, &four()),
        push(15, &four()[..1]),
        push(30, &four()[..1]),
        push(45, &four()[..1]),
    ]);
    assert_eq!(pushes.bill(15.0, &TERMS).node.series, 1);
}

#[test]
fn kinds_weigh_what_back_ends_make_of_them() {
    let time = TIME.to_string();
    let request = request(&json!([
        { "name": "e", "histogram": { "dataPoints": [{ "timeUnixNano": time,
            "explicitBounds": [1, 2, 3], "bucketCounts": [0, 0, 0, 1], "count": 1 }] } },
        { "name": "s", "sum": { "dataPoints": [{ "timeUnixNano": time, "asInt": 1 }] } },
        { "name": "gone", "sum": { "dataPoints": [{ "timeUnixNano": time, "flags": 1 }] } },
    ]));
    let bill = pushes(&[request]).bill(60.0, &TERMS);
    assert_eq!(
        (bill.node.series, bill.node.points, bill.node.custom_metrics),
        (7, 2, 6)
    );
}

#[test]
fn units_nodes_and_prices() {
    let pushes = pushes(&[push(0, &four())]);
    let cost = |unit, price: &str| {
        let terms = Terms {
            nodes: 100,
            unit,
            price: Price::parse(price),
        };
        pushes.bill(15.0, &terms).cost.unwrap()
    };
    assert!((cost(Unit::Series, "8/1000") - 3.2).abs() < 1e-9);
    assert!((cost(Unit::Dpm, "8/1000") - 12.8).abs() < 1e-9);
    assert!((cost(Unit::CustomMetrics, "5/100") - 100.0).abs() < 1e-9);
    assert_eq!(
        Price::parse("0.05"),
        Some(Price {
            amount: 0.05,
            per: 1.0
        })
    );
    for bad in ["", "x", "8/0", "-1/5", "8/", "inf", "1/2/3"] {
        assert_eq!(Price::parse(bad), None, "{bad}");
    }
}

#[test]
fn attributes_that_come_and_go() {
    let pushes = pushes(&[push(0, &four())]);
    let series = |change: &str, limit| {
        let change = Change::parse(change).unwrap();
        let bill = pushes.after(&change, 15.0, &TERMS, limit);
        (bill.node.series, bill.capped.len())
    };
    assert_eq!(series("attr=region:5", None), (20, 0));
    // What is there already is replaced, not multiplied.
    assert_eq!(series("attr=http.route:50", None), (100, 0));
    assert_eq!(series("drop=http.request.method", None), (2, 0));
    assert_eq!(series("drop=absent", None), (4, 0));
    assert_eq!(series("attr=region:5", Some(10)), (10, 1));
    assert_eq!(series("interval=60s", None), (4, 0));
    let slower = pushes.after(&Change::Interval(Span::from_secs(60)), 15.0, &TERMS, None);
    assert!((slower.node.points_per_minute - 4.0).abs() < 1e-9);
    let more = pushes.after(&Change::parse("attr=region:5").unwrap(), 15.0, &TERMS, None);
    assert!(more.node.bytes_per_push > 5.0 * pushes.bill(15.0, &TERMS).node.bytes_per_push);
}

#[test]
fn what_ifs_are_parsed() {
    assert_eq!(
        Change::parse("attr=a:b:7"),
        Ok(Change::Attribute {
            key: "a:b".to_owned(),
            values: 7
        })
    );
    for bad in [
        "",
        "attr",
        "attr=region",
        "attr=:5",
        "attr=r:0",
        "attr=r:x",
        "drop=",
        "interval=",
        "interval=0s",
        "x=1",
    ] {
        assert!(Change::parse(bad).is_err(), "{bad}");
    }
    for text in ["attr=region:5", "drop=error.type", "interval=30s"] {
        assert_eq!(Change::parse(text).unwrap().to_string(), text);
    }
}
