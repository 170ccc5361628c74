//! Each rule with what breaks it and with what comes close and does not.

use std::collections::BTreeSet;

use kerntally_export::otlpjson::{Document, read};
use serde_json::{Value, json};

use super::*;

const START: u64 = 1_700_000_000_000_000_000;
const TIME: u64 = 1_700_000_015_000_000_000;
const NEXT: u64 = 1_700_000_030_000_000_000;

const SERVER: &str = "/resourceMetrics/0/scopeMetrics/0/metrics/0";
const CLIENT: &str = "/resourceMetrics/0/scopeMetrics/0/metrics/1";
const ACTIVE: &str = "/resourceMetrics/0/scopeMetrics/0/metrics/2";
const POINT: &str = "/resourceMetrics/0/scopeMetrics/0/metrics/0/exponentialHistogram/dataPoints/0";
const EXPLICIT: &str = "/resourceMetrics/0/scopeMetrics/0/metrics/1/histogram/dataPoints/0";

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn integer(key: &str, value: i64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn exemplar() -> Value {
    json!({ "timeUnixNano": (TIME - 5).to_string(), "asDouble": 0.05,
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736" })
}

fn server_point() -> Value {
    json!({
        "attributes": [
            text("http.request.method", "GET"), text("url.scheme", "http"),
            integer("http.response.status_code", 200), text("http.route", "/users/{id}"),
            text("network.protocol.version", "1.1"),
        ],
        "startTimeUnixNano": START.to_string(), "timeUnixNano": TIME.to_string(),
        "count": "3", "sum": 0.15, "min": 0.04, "max": 0.06, "scale": 0, "zeroCount": "0",
        "positive": { "offset": -5, "bucketCounts": ["3"] },
        "exemplars": [exemplar()],
    })
}

fn client_point() -> Value {
    json!({
        "attributes": [
            text("http.request.method", "GET"), text("server.address", "api.example.com"),
            integer("server.port", 8080), integer("http.response.status_code", 404),
            text("error.type", "404"),
        ],
        "startTimeUnixNano": START.to_string(), "timeUnixNano": TIME.to_string(),
        "count": "2", "sum": 0.3, "min": 0.1, "max": 0.2,
        "explicitBounds": [0.1, 1.0], "bucketCounts": ["1", "1", "0"],
        "exemplars": [{ "timeUnixNano": TIME.to_string(), "asDouble": 0.2,
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7" }],
    })
}

/// Nothing is wrong with it.
fn clean() -> Value {
    json!({ "resourceMetrics": [{
        "resource": { "attributes": [
            text("service.name", "api"), text("service.namespace", "shop"),
            text("service.instance.id", "1f2e"), text("telemetry.sdk.name", "kerntally"),
        ] },
        "scopeMetrics": [{
            "scope": { "name": "kerntally/http" },
            "schemaUrl": "https://opentelemetry.io/schemas/1.44.0",
            "metrics": [
                { "name": "http.server.request.duration", "unit": "s", "exponentialHistogram":
                    { "aggregationTemporality": 2, "dataPoints": [server_point()] } },
                { "name": "http.client.request.duration", "unit": "s", "histogram":
                    { "aggregationTemporality": 2, "dataPoints": [client_point()] } },
                { "name": "http.server.active_requests", "unit": "{request}", "sum":
                    { "aggregationTemporality": 2, "dataPoints": [{
                        "attributes": [text("http.request.method", "GET"), text("url.scheme", "http")],
                        "startTimeUnixNano": START.to_string(), "timeUnixNano": TIME.to_string(),
                        "asInt": "4" }] } },
            ],
        }],
    }] })
}

/// The clean push with a value put somewhere; a missing last member is added.
fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut document = base.clone();
    let (parent, member) = path.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Array(items) => match member.parse::<usize>() {
            Ok(index) => items[index] = value,
            Err(_) => items.push(value),
        },
        Value::Object(members) => {
            members.insert(member.to_owned(), value);
        }
        other => panic!("{other}"),
    }
    document
}

fn put(path: &str, value: Value) -> Vec<Value> {
    vec![with(&clean(), path, value)]
}

fn put_at(place: &str, member: &str, value: Value) -> Vec<Value> {
    put(&format!("{place}/{member}"), value)
}

/// The clean push with an attribute of the server's point set, or added.
fn server(attribute: Value) -> Vec<Value> {
    attribute_of(POINT, attribute)
}

fn attribute_of(point: &str, attribute: Value) -> Vec<Value> {
    let mut document = clean();
    let attributes = document
        .pointer_mut(&format!("{point}/attributes"))
        .unwrap()
        .as_array_mut()
        .unwrap();
    attributes.retain(|known| known["key"] != attribute["key"]);
    attributes.push(attribute);
    vec![document]
}

fn without(point: &str, keys: &[&str]) -> Vec<Value> {
    let mut document = clean();
    let attributes = document
        .pointer_mut(&format!("{point}/attributes"))
        .unwrap();
    attributes
        .as_array_mut()
        .unwrap()
        .retain(|known| !keys.contains(&known["key"].as_str().unwrap()));
    vec![document]
}

/// Two pushes, the second with the server's point changed.
fn then(changes: &[(&str, Value)]) -> Vec<Value> {
    let mut second = clean();
    for point in [POINT, EXPLICIT] {
        second = with(
            &second,
            &format!("{point}/timeUnixNano"),
            json!(NEXT.to_string()),
        );
        second = with(&second, &format!("{point}/exemplars"), json!([]));
    }
    for (member, value) in changes {
        second = with(&second, &format!("{POINT}/{member}"), value.clone());
    }
    vec![clean(), second]
}

fn delta(mut pushes: Vec<Value>) -> Vec<Value> {
    for push in &mut pushes {
        for metric in [
            format!("{SERVER}/exponentialHistogram"),
            format!("{CLIENT}/histogram"),
        ] {
            push.pointer_mut(&metric).unwrap()["aggregationTemporality"] = json!(1);
        }
    }
    pushes
}

fn found_with(options: Options, pushes: &[Value]) -> Vec<&'static str> {
    let mut lint = Lint::new(options);
    for (push, line) in pushes.iter().zip(1..) {
        let Document::Metrics(request, problems) = read(push) else {
            panic!("{push}");
        };
        lint.hold(&request, &problems, Some(line));
    }
    lint.finish().0.rules()
}

fn found(pushes: &[Value]) -> Vec<&'static str> {
    found_with(Options::default(), pushes)
}

/// A rule with pushes that break it and pushes that do not.
type Case = (Rule, Vec<Vec<Value>>, Vec<Vec<Value>>);

fn resources() -> Vec<Case> {
    let resource = "/resourceMetrics/0/resource/attributes";
    let named = |name: &str| put(&format!("{resource}/0"), text("service.name", name));
    let twice = |instance: &str| {
        let mut document = clean();
        let mut second = document["resourceMetrics"][0].clone();
        second["resource"]["attributes"][2] = text("service.instance.id", instance);
        document["resourceMetrics"]
            .as_array_mut()
            .unwrap()
            .push(second);
        vec![document]
    };
    let sdk = |name: &str| put(&format!("{resource}/3"), text("telemetry.sdk.name", name));
    let scope = "/resourceMetrics/0/scopeMetrics/0";
    vec![
        (
            Rule::ResourceServiceName,
            vec![named(""), put(&format!("{resource}/0"), text("x", "y"))],
            vec![named("b")],
        ),
        (
            Rule::ResourceUnknownService,
            vec![named("unknown_service:java")],
            vec![named("unknown")],
        ),
        (
            Rule::ResourceInstance,
            vec![put(&format!("{resource}/2"), text("x", "y"))],
            vec![{
                let mut pushes = delta(put(&format!("{resource}/2"), text("x", "y")));
                pushes[0].pointer_mut(ACTIVE).unwrap()["sum"]["dataPoints"] = json!([]);
                pushes[0].pointer_mut(ACTIVE).unwrap()["sum"]["aggregationTemporality"] = json!(1);
                pushes
            }],
        ),
        (
            Rule::ResourceDuplicate,
            vec![twice("1f2e")],
            vec![twice("other")],
        ),
        (
            Rule::ResourceSdk,
            vec![sdk("opentelemetry")],
            vec![sdk("kerntally")],
        ),
        (
            Rule::ScopeSchema,
            vec![put(
                &format!("{scope}/schemaUrl"),
                json!("https://opentelemetry.io/schemas/1.20.0"),
            )],
            vec![with(
                &put(&format!("{scope}/schemaUrl"), json!(""))[0],
                &format!("{scope}/scope"),
                json!({ "name": "other" }),
            )]
            .into_iter()
            .map(|push| vec![push])
            .collect(),
        ),
    ]
}

fn instruments() -> Vec<Case> {
    let named = |name: &str| put_at(SERVER, "name", json!(name));
    let plain = |name: &str| {
        vec![with(
            &put_at(ACTIVE, "name", json!(name))[0],
            &format!("{ACTIVE}/unit"),
            json!("1"),
        )]
    };
    let again = |name: &str| {
        let mut metric = clean().pointer(SERVER).unwrap().clone();
        metric["name"] = json!(name);
        metric["exponentialHistogram"]["dataPoints"] = json!([]);
        put("/resourceMetrics/0/scopeMetrics/0/metrics/-", metric)
    };
    let mut explicit = clean().pointer(CLIENT).unwrap().clone();
    explicit["name"] = json!("http.server.request.duration");
    explicit["histogram"]["dataPoints"] = json!([]);
    let temporality = |value: Value| {
        put_at(
            &format!("{SERVER}/exponentialHistogram"),
            "aggregationTemporality",
            value,
        )
    };
    let switched = {
        let mut pushes = then(&[]);
        pushes[1]
            .pointer_mut(&format!("{SERVER}/exponentialHistogram"))
            .unwrap()["aggregationTemporality"] = json!(1);
        pushes[1].pointer_mut(POINT).unwrap()["startTimeUnixNano"] = json!(TIME.to_string());
        pushes
    };
    vec![
        (
            Rule::InstrumentName,
            vec![plain("9lives"), plain("a b"), plain("")],
            vec![plain("legacy_name-1/x.y")],
        ),
        (
            Rule::InstrumentUnknown,
            vec![named("http.server.requests")],
            vec![named("legacy_requests")],
        ),
        (
            Rule::InstrumentDeprecated,
            vec![named("http.server.duration")],
            vec![named("legacy_duration")],
        ),
        (
            Rule::InstrumentUnit,
            vec![
                put_at(SERVER, "unit", json!("ms")),
                put_at(SERVER, "unit", json!("")),
            ],
            vec![put_at(SERVER, "unit", json!("s"))],
        ),
        (
            Rule::InstrumentType,
            vec![
                put_at(&format!("{ACTIVE}/sum"), "isMonotonic", json!(true)),
                put(
                    SERVER,
                    json!({ "name": "http.server.request.duration", "unit": "s", "gauge": { "dataPoints": [] } }),
                ),
                put(ACTIVE, json!({ "name": "x", "unit": "1" })),
            ],
            vec![put_at(
                &format!("{ACTIVE}/sum"),
                "isMonotonic",
                json!(false),
            )],
        ),
        (
            Rule::InstrumentMixed,
            vec![vec![clean(), put(SERVER, explicit).remove(0)]],
            vec![vec![clean(), clean()]],
        ),
        (
            Rule::InstrumentRepeated,
            vec![again("http.server.request.duration")],
            vec![again("legacy_again")],
        ),
        (
            Rule::TemporalityUnknown,
            vec![temporality(json!(0)), temporality(json!(7))],
            vec![temporality(json!("AGGREGATION_TEMPORALITY_DELTA"))],
        ),
        (Rule::TemporalityMixed, vec![switched], vec![then(&[])]),
    ]
}

fn attribute_cases() -> Vec<Case> {
    let twice = {
        let mut document = clean();
        let attributes = document
            .pointer_mut(&format!("{POINT}/attributes"))
            .unwrap();
        attributes
            .as_array_mut()
            .unwrap()
            .push(text("http.route", "/"));
        vec![document]
    };
    vec![
        (
            Rule::AttributeUnexpected,
            vec![
                server(text("region", "eu")),
                attribute_of(EXPLICIT, text("http.route", "/x")),
            ],
            vec![attribute_of(EXPLICIT, text("url.template", "/x"))],
        ),
        (
            Rule::AttributeDeprecated,
            vec![
                server(text("http.method", "GET")),
                server(integer("http.status_code", 200)),
            ],
            vec![server(text("network.protocol.name", "http"))],
        ),
        (
            Rule::AttributeUnbounded,
            vec![
                server(text("url.path", "/users/1")),
                server(text("client.address", "10.0.0.1")),
            ],
            vec![server(text("http.route", "/url.path"))],
        ),
        (
            Rule::AttributeOptIn,
            vec![server(text("server.address", "a"))],
            vec![attribute_of(EXPLICIT, text("server.address", "a"))],
        ),
        (
            Rule::AttributeMissing,
            vec![
                without(POINT, &["url.scheme"]),
                without(EXPLICIT, &["server.address"]),
            ],
            vec![
                without(POINT, &["http.route"]),
                without(EXPLICIT, &["server.port"]),
            ],
        ),
        (
            Rule::AttributeDuplicate,
            vec![twice],
            vec![server(text("http.route", "/"))],
        ),
        (
            Rule::AttributeType,
            vec![
                server(text("http.response.status_code", "200")),
                server(integer("http.route", 5)),
                server(json!({ "key": "http.route", "value": { "arrayValue": { "values": [] } } })),
            ],
            vec![server(integer("http.response.status_code", 204))],
        ),
        (
            Rule::AttributeEmpty,
            vec![
                server(text("http.route", "")),
                server(json!({ "key": "" , "value": { "stringValue": "x" } })),
            ],
            vec![server(text("http.route", "/"))],
        ),
        (
            Rule::AttributeLength,
            vec![server(text("http.route", &"/long".repeat(300)))],
            vec![server(text("http.route", &"/long".repeat(200)))],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn value_cases() -> Vec<Case> {
    let method = |value: &str| server(text("http.request.method", value));
    let status = |code: i64, error: Option<&str>| {
        let mut pushes = server(integer("http.response.status_code", code));
        if let Some(error) = error {
            let path = format!("{POINT}/attributes/-");
            pushes[0] = with(&pushes[0], &path, text("error.type", error));
        }
        pushes
    };
    let class = |value: &str| {
        let mut pushes = without(POINT, &["http.response.status_code"]);
        let path = format!("{POINT}/attributes/-");
        pushes[0] = with(&pushes[0], &path, text("http.response.status_class", value));
        pushes
    };
    let no_status = |error: &str| {
        let mut pushes = without(POINT, &["http.response.status_code"]);
        let path = format!("{POINT}/attributes/-");
        pushes[0] = with(&pushes[0], &path, text("error.type", error));
        pushes
    };
    let address = |value: &str| attribute_of(EXPLICIT, text("server.address", value));
    let overflow = json!({ "key": "otel.metric.overflow", "value": { "boolValue": true } });
    let route = |value: &str| server(text("http.route", value));
    vec![
        (
            Rule::MethodUnknown,
            vec![method("get"), method("PURGE")],
            vec![method("_OTHER"), method("QUERY")],
        ),
        (
            Rule::StatusUnknown,
            vec![status(0, None), status(99, None), status(600, Some("600"))],
            vec![status(599, Some("599")), status(101, None)],
        ),
        (
            Rule::StatusClass,
            vec![class("2xx")],
            vec![server(integer("http.response.status_code", 201))],
        ),
        (
            Rule::StatusMissing,
            vec![without(POINT, &["http.response.status_code"])],
            vec![
                no_status("no_response"),
                without(EXPLICIT, &["http.response.status_code", "error.type"]),
            ],
        ),
        (
            Rule::ErrorTypeMissing,
            vec![status(500, None), without(EXPLICIT, &["error.type"])],
            vec![status(500, Some("500")), status(404, None)],
        ),
        (
            Rule::ErrorTypeUnexpected,
            vec![status(200, Some("200")), status(404, Some("404"))],
            vec![status(200, Some("truncated_response"))],
        ),
        (
            Rule::ErrorTypeMismatch,
            vec![
                status(500, Some("502")),
                attribute_of(EXPLICIT, text("error.type", "timeout")),
            ],
            vec![status(503, Some("503"))],
        ),
        (
            Rule::ErrorTypeUnknown,
            vec![no_status("java.io.IOException"), no_status("500")],
            vec![no_status("process_exit")],
        ),
        (
            Rule::SchemeUnknown,
            vec![server(text("url.scheme", "HTTP"))],
            vec![server(text("url.scheme", "https"))],
        ),
        (
            Rule::ProtocolVersion,
            vec![
                server(text("network.protocol.version", "HTTP/1.1")),
                server(text("network.protocol.version", "2.0")),
            ],
            vec![server(text("network.protocol.version", "2"))],
        ),
        (
            Rule::ServerPort,
            vec![
                attribute_of(EXPLICIT, integer("server.port", 0)),
                attribute_of(EXPLICIT, integer("server.port", 65_536)),
            ],
            vec![attribute_of(EXPLICIT, integer("server.port", 65_535))],
        ),
        (
            Rule::ServerAddress,
            vec![
                address("API.example.com"),
                address("http://a"),
                address("a:80"),
                address("[::1]"),
                address(&"a".repeat(65)),
                address(&format!("/{}", "a".repeat(108))),
            ],
            vec![
                address("::1"),
                address("/run/App.sock"),
                address(&format!("/run/my apps/{}", "a".repeat(80))),
                address("@Abstract"),
                address("_OTHER"),
                address("10.0.0.1"),
            ],
        ),
        (
            Rule::RouteRaw,
            vec![
                route("/users/123"),
                attribute_of(
                    EXPLICIT,
                    text("url.template", "/a/550e8400-e29b-41d4-a716-446655440000"),
                ),
            ],
            vec![route("/**"), route("/users/{id}/orders")],
        ),
        (
            Rule::RouteQuery,
            vec![route("/users?id=1")],
            vec![route("/users")],
        ),
        (
            Rule::OverflowForm,
            vec![server(overflow.clone())],
            vec![put_at(POINT, "attributes", json!([overflow]))],
        ),
        (
            Rule::CardinalityDistinct,
            vec![routes(151)],
            vec![routes(150)],
        ),
    ]
}

fn routes(count: usize) -> Vec<Value> {
    let points: Vec<_> = (0..count)
        .map(|number| {
            let mut point = server_point();
            point["attributes"][3] = text("http.route", &format!("/r{number}"));
            point
        })
        .collect();
    put_at(
        &format!("{SERVER}/exponentialHistogram"),
        "dataPoints",
        json!(points),
    )
}

fn series_cases() -> Vec<Case> {
    let two = |second: Value| {
        put_at(
            &format!("{SERVER}/exponentialHistogram"),
            "dataPoints",
            json!([server_point(), second]),
        )
    };
    let mut other = server_point();
    other["attributes"][3] = text("http.route", "/other");
    let mut shuffled = server_point();
    shuffled["attributes"].as_array_mut().unwrap().reverse();
    let start = |start: u64| ("startTimeUnixNano", json!(start.to_string()));
    let fewer = [
        ("count", json!("1")),
        ("sum", json!(0.05)),
        ("min", json!(0.05)),
        ("max", json!(0.05)),
        ("positive", json!({ "offset": -5, "bucketCounts": [1] })),
    ];
    let fewer_after = |start: u64| {
        let mut changes = fewer.to_vec();
        changes.push(("startTimeUnixNano", json!(start.to_string())));
        then(&changes)
    };
    vec![
        (
            Rule::SeriesDuplicate,
            vec![two(server_point()), two(shuffled)],
            vec![two(other)],
        ),
        (
            Rule::SeriesOverlap,
            vec![then(&[start(TIME - 1)]), delta_then(TIME - 1)],
            vec![then(&[start(TIME)]), delta_then(TIME)],
        ),
        (
            Rule::SeriesDecrease,
            vec![fewer_after(START)],
            vec![fewer_after(TIME)],
        ),
        (
            Rule::SeriesOrder,
            vec![then(&[("timeUnixNano", json!((TIME - 1).to_string()))])],
            vec![vec![clean(), clean()]],
        ),
    ]
}

/// A delta push and the next, that begins at a time.
fn delta_then(start: u64) -> Vec<Value> {
    let mut pushes = delta(then(&[("startTimeUnixNano", json!(start.to_string()))]));
    pushes[1].pointer_mut(EXPLICIT).unwrap()["startTimeUnixNano"] = json!(TIME.to_string());
    pushes
}

fn point_cases() -> Vec<Case> {
    let value = |value: Value| put_at(&format!("{ACTIVE}/sum/dataPoints/0"), "asInt", value);
    let ended = json!({
        "attributes": server_point()["attributes"], "flags": 1,
        "startTimeUnixNano": START.to_string(), "timeUnixNano": TIME.to_string(),
    });
    let mut with_values = server_point();
    with_values["flags"] = json!(1);
    vec![
        (
            Rule::PointTime,
            vec![
                put_at(POINT, "timeUnixNano", json!("0")),
                put_at(POINT, "timeUnixNano", json!(1_700_000_015_u64)),
            ]
            .into_iter()
            .map(without_exemplars)
            .collect(),
            vec![put_at(POINT, "timeUnixNano", json!(TIME))],
        ),
        (
            Rule::PointStart,
            vec![put_at(POINT, "startTimeUnixNano", json!(0))],
            vec![put_at(POINT, "startTimeUnixNano", json!(START))],
        ),
        (
            Rule::PointWindow,
            vec![without_exemplars(put_at(
                POINT,
                "startTimeUnixNano",
                json!(TIME + 1),
            ))],
            vec![without_exemplars(put_at(
                POINT,
                "startTimeUnixNano",
                json!(TIME),
            ))],
        ),
        (
            Rule::PointFlags,
            vec![put_at(POINT, "flags", json!(2))],
            vec![put_at(POINT, "flags", json!(0))],
        ),
        (
            Rule::PointEnded,
            vec![put(POINT, with_values), delta(put(POINT, ended.clone()))],
            vec![put(POINT, ended)],
        ),
        (
            Rule::PointValue,
            vec![value(json!("-1")), value(Value::Null)],
            vec![value(json!("0"))],
        ),
    ]
}

fn without_exemplars(mut pushes: Vec<Value>) -> Vec<Value> {
    pushes[0] = with(&pushes[0], &format!("{POINT}/exemplars"), json!([]));
    pushes
}

fn histogram_cases() -> Vec<Case> {
    let many = |length: usize| {
        let mut counts = vec![json!(0); length];
        counts[0] = json!(3);
        put_at(
            POINT,
            "positive",
            json!({ "offset": -5, "bucketCounts": counts }),
        )
    };
    let scaled = |scale: i32, offset: i64| {
        let mut point = server_point();
        point["scale"] = json!(scale);
        point["positive"]["offset"] = json!(offset);
        for member in ["min", "max", "sum", "exemplars"] {
            point.as_object_mut().unwrap().remove(member);
        }
        put(POINT, point)
    };
    let negative = |count: u64| {
        let mut pushes = put_at(
            POINT,
            "negative",
            json!({ "offset": 0, "bucketCounts": [count] }),
        );
        pushes[0] = with(&pushes[0], &format!("{POINT}/count"), json!(3 + count));
        for member in ["min", "max", "sum"] {
            pushes[0] = with(&pushes[0], &format!("{POINT}/{member}"), Value::Null);
        }
        pushes
    };
    let bounds = |bounds: Value| put_at(EXPLICIT, "explicitBounds", bounds);
    vec![
        (
            Rule::HistogramCount,
            vec![
                put_at(POINT, "count", json!("4")),
                put_at(EXPLICIT, "bucketCounts", json!([1, 2, 0])),
                put_at(POINT, "zeroCount", json!("1")),
            ]
            .into_iter()
            .map(without_sum)
            .collect(),
            vec![put_at(POINT, "count", json!(3))],
        ),
        (Rule::HistogramBuckets, vec![many(161)], vec![many(160)]),
        (
            Rule::HistogramScale,
            vec![scaled(21, 0), scaled(-11, 0)],
            vec![scaled(20, -100), scaled(-10, -1)],
        ),
        (
            Rule::HistogramNegative,
            vec![negative(1)],
            vec![negative(0)],
        ),
        (
            Rule::HistogramBounds,
            vec![
                bounds(json!([1.0, 0.1])),
                bounds(json!([0.1, 0.1])),
                bounds(json!([0.1])),
                bounds(json!([0.1, "Infinity"])),
            ],
            vec![bounds(json!([0.15, 0.25]))],
        ),
        (
            Rule::HistogramSum,
            vec![
                put_at(POINT, "sum", json!("NaN")),
                put_at(POINT, "sum", json!("Infinity")),
                put_at(POINT, "sum", json!(-0.1)),
                put_at(POINT, "sum", json!(150.0)),
                put_at(POINT, "sum", json!(0.01)),
            ],
            vec![
                put_at(POINT, "sum", json!(0.12)),
                put_at(POINT, "sum", json!(0.18)),
            ],
        ),
        (
            Rule::HistogramMinMax,
            vec![
                put_at(POINT, "min", json!(0.061)),
                put_at(POINT, "max", json!(0.07)),
                put_at(POINT, "min", json!(0.01)),
                put_at(POINT, "max", json!("NaN")),
            ]
            .into_iter()
            .map(without_sum)
            .collect(),
            vec![
                put_at(POINT, "max", json!(0.0625)),
                put_at(POINT, "min", json!(0.03125)),
            ],
        ),
    ]
}

fn without_sum(mut pushes: Vec<Value>) -> Vec<Value> {
    for member in ["sum", "exemplars"] {
        pushes[0] = with(&pushes[0], &format!("{POINT}/{member}"), Value::Null);
    }
    pushes
}

fn exemplar_cases() -> Vec<Case> {
    let one = |member: &str, value: Value| put_at(&format!("{POINT}/exemplars/0"), member, value);
    let client =
        |member: &str, value: Value| put_at(&format!("{EXPLICIT}/exemplars/0"), member, value);
    let mut late = exemplar();
    late["timeUnixNano"] = json!((TIME - 9).to_string());
    let two = |second: Value| put_at(POINT, "exemplars", json!([exemplar(), second]));
    let mut later = exemplar();
    later["timeUnixNano"] = json!((TIME - 1).to_string());
    let mut wide = server_point();
    for member in ["min", "max"] {
        wide[member] = Value::Null;
    }
    let wide = |value: f64| {
        let mut point = wide.clone();
        point["exemplars"][0]["asDouble"] = json!(value);
        put(POINT, point)
    };
    vec![
        (
            Rule::ExemplarWindow,
            vec![
                one("timeUnixNano", json!((TIME + 1).to_string())),
                one("timeUnixNano", json!((START - 1).to_string())),
            ],
            vec![
                one("timeUnixNano", json!(TIME.to_string())),
                one("timeUnixNano", json!(START.to_string())),
            ],
        ),
        (
            Rule::ExemplarBucket,
            vec![
                one("asDouble", json!(0.039)),
                one("asDouble", json!(5.0)),
                wide(0.07),
                wide(0.03),
                client("asDouble", json!(0.05)),
            ],
            vec![
                one("asDouble", json!(0.04)),
                wide(0.0625),
                wide(0.031_250_000_01),
                client("asDouble", json!(0.1)),
            ],
        ),
        (
            Rule::ExemplarValue,
            vec![one("asDouble", json!("NaN")), one("asDouble", Value::Null)],
            vec![one("asDouble", json!(0.06))],
        ),
        (
            Rule::ExemplarTrace,
            vec![
                one("traceId", json!("00000000000000000000000000000000")),
                one("traceId", json!("4bf92f35")),
                one("traceId", json!("")),
            ],
            vec![one("traceId", json!("00000000000000000000000000000001"))],
        ),
        (
            Rule::ExemplarSpan,
            vec![
                one("spanId", json!("00f067aa0ba902b7")),
                client("spanId", json!("0000000000000000")),
                client("spanId", json!("00f0")),
            ],
            vec![client("spanId", json!("")), one("spanId", json!(""))],
        ),
        (
            Rule::ExemplarAttributes,
            vec![one("filteredAttributes", json!([text("url.path", "/1")]))],
            vec![one("filteredAttributes", json!([]))],
        ),
        (Rule::ExemplarOrder, vec![two(late)], vec![two(later)]),
        (
            Rule::ExemplarRepeated,
            vec![then(&[("exemplars", json!([exemplar()]))])],
            vec![then(&[(
                "exemplars",
                json!([{ "timeUnixNano": (NEXT - 1).to_string(), "asDouble": 0.05,
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736" }]),
            )])],
        ),
    ]
}

fn cases() -> Vec<Case> {
    let form = (
        Rule::JsonForm,
        vec![
            put_at(POINT, "scale", json!("big")),
            put_at(SERVER, "description", json!(5)),
        ],
        vec![put_at(POINT, "scale", json!("0"))],
    );
    [
        vec![form],
        resources(),
        instruments(),
        attribute_cases(),
        value_cases(),
        series_cases(),
        point_cases(),
        histogram_cases(),
        exemplar_cases(),
    ]
    .concat()
}

#[test]
fn the_clean_push_is_clean() {
    assert_eq!(found(&[clean()]), Vec::<&str>::new());
    assert_eq!(found(&then(&[])), Vec::<&str>::new());
    assert_eq!(
        found(&delta(put_at(ACTIVE, "description", json!("x")))),
        Vec::<&str>::new()
    );
}

#[test]
fn each_rule_finds_what_breaks_it_and_only_that() {
    for (rule, breaking, keeping) in cases() {
        assert!(!breaking.is_empty() && !keeping.is_empty());
        for (number, pushes) in breaking.iter().enumerate() {
            assert!(
                found(pushes).contains(&rule.id()),
                "{} {number}: {:?}",
                rule.id(),
                found(pushes)
            );
        }
        for (number, pushes) in keeping.iter().enumerate() {
            assert!(
                !found(pushes).contains(&rule.id()),
                "{} {number}: {:?}",
                rule.id(),
                found(pushes)
            );
        }
    }
}

#[test]
fn what_breaks_one_rule_is_not_blamed_on_many() {
    let alone = [
        Rule::InstrumentUnit,
        Rule::AttributeType,
        Rule::StatusUnknown,
        Rule::RouteRaw,
        Rule::HistogramSum,
        Rule::ExemplarWindow,
        Rule::ExemplarBucket,
        Rule::ExemplarTrace,
        Rule::SeriesDuplicate,
        Rule::CardinalityDistinct,
        Rule::ResourceUnknownService,
    ];
    for (rule, breaking, _) in cases() {
        if alone.contains(&rule) {
            let found = found(&breaking[0]);
            assert!(found.len() <= 2, "{}: {found:?}", rule.id());
        }
    }
}

#[test]
fn every_rule_has_a_case() {
    let tried: BTreeSet<_> = cases().iter().map(|case| case.0).collect();
    // These are tried below, with the input, and with the configurations.
    let elsewhere = [
        Rule::JsonTruncated,
        Rule::ExemplarRequired,
        Rule::BackendWantsCumulative,
        Rule::BackendWantsDelta,
        Rule::PullWantsCumulative,
        Rule::ConfigIdentity,
        Rule::ConversionPartial,
        Rule::ConfigUndefined,
    ];
    for rule in Rule::ALL {
        assert!(
            tried.contains(rule) || elsewhere.contains(rule),
            "{}",
            rule.id()
        );
    }
}

#[test]
fn exemplars_are_required_when_asked_for() {
    let options = || Options {
        require_exemplars: true,
        ..Options::default()
    };
    assert_eq!(found_with(options(), &[clean()]), Vec::<&str>::new());
    let without = without_exemplars(vec![clean()]);
    assert_eq!(found_with(options(), &without), ["exemplar.required"]);
    assert_eq!(found(&without), Vec::<&str>::new());
    // One push with an exemplar is enough.
    assert_eq!(
        found_with(options(), &[without[0].clone(), clean()]),
        Vec::<&str>::new()
    );
}

#[test]
fn the_limit_of_distinct_values_is_the_users() {
    let options = |max_distinct| Options {
        max_distinct,
        ..Options::default()
    };
    assert_eq!(
        found_with(options(10), &routes(11)),
        ["cardinality.distinct"]
    );
    assert_eq!(found_with(options(11), &routes(11)), Vec::<&str>::new());
    // Over all pushes, not in each.
    let mut pushes: Vec<_> = (0..4).map(|_| clean()).collect();
    for (number, push) in pushes.iter_mut().enumerate() {
        push.pointer_mut(POINT).unwrap()["attributes"][3] =
            text("http.route", &format!("/r{number}"));
    }
    assert_eq!(found_with(options(3), &pushes), ["cardinality.distinct"]);
}

#[test]
fn declared_deviations_break_no_rule() {
    let declared = Declared {
        attributes: BTreeMap::from([(
            "http.server.request.duration".to_owned(),
            vec!["http.request.method".to_owned()],
        )]),
        renamed: vec!["path".to_owned()],
        patterns: vec!["/2024/summary".to_owned()],
        methods: vec!["PURGE".to_owned()],
    };
    let options = || Options {
        declared: declared.clone(),
        ..Options::default()
    };
    for pushes in [
        without(POINT, &["url.scheme", "http.response.status_code"]),
        server(text("http.route", "/2024/summary")),
        server(text("http.request.method", "PURGE")),
        server(text("path", "/users/{id}")),
    ] {
        assert!(!found(&pushes).is_empty());
        assert_eq!(found_with(options(), &pushes), Vec::<&str>::new());
    }
}

#[test]
fn other_emitters_may_do_what_only_kerntally_promises_not_to() {
    let scope = "/resourceMetrics/0/scopeMetrics/0/scope";
    let foreign = with(
        &clean(),
        scope,
        json!({ "name": "io.opentelemetry.tomcat-10.0" }),
    );
    for (member, value) in [
        ("spanId", json!("00f067aa0ba902b7")),
        ("filteredAttributes", json!([text("thread", "1")])),
        ("traceId", json!("")),
    ] {
        let push = with(&foreign, &format!("{POINT}/exemplars/0/{member}"), value);
        assert_eq!(found(&[push]), Vec::<&str>::new(), "{member}");
    }
}

#[test]
fn whatever_stands_in_a_request_is_survived() {
    // Every member of the clean push replaced by every kind of value.
    fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, item)| paths(item, &format!("{at}/{index}"), found)),
            Value::Object(members) => members
                .iter()
                .for_each(|(key, member)| paths(member, &format!("{at}/{key}"), found)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    paths(&clean(), "", &mut all);
    for path in all.iter().filter(|path| !path.is_empty()) {
        for value in [
            Value::Null,
            json!(true),
            json!(-1),
            json!(u64::MAX),
            json!(1e300),
            json!("x"),
            json!("18446744073709551615"),
            json!([]),
            json!([1, "x", {}]),
            json!({}),
        ] {
            let document = with(&clean(), path, value);
            let mut lint = Lint::new(Options::default());
            if let Document::Metrics(request, problems) = read(&document) {
                lint.hold(&request, &problems, None);
            }
            lint.finish();
        }
    }
}
