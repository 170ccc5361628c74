//! What the exporter says, as real programs at the far end understand it: an OpenTelemetry Collector by gRPC and
//! HTTP, a Prometheus by OTLP and by scraping. No probes: the snapshots are made up, so that the truth is known.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kerntally_e2e::far_end::{Collector, Prometheus};
use kerntally_e2e::install;
use kerntally_e2e::rig::skip;
use kerntally_export::encode::{Batch, Encoder, MAX_REQUEST_BYTES};
use kerntally_export::endpoint::{Endpoint, EndpointKind, OtlpSettings, Protocol};
use kerntally_export::pull::{self, Pull};
use kerntally_export::push::{Exporter, PushOutcome};
use kerntally_export::resource::{Identity, Node, NodeIdSource, ResourceTemplate};
use kerntally_model::{
    Attribute, AttributeValue, Exemplar, ExplicitHistogram, ExponentialHistogram, Instrument,
    InstrumentSnapshot, MetricName, NameSource, Point, PointValue, Snapshot, Temporality, Workload,
    WorkloadSnapshot,
};
use serde_json::Value;

const SCALE: i32 = 5;
const VALUES: usize = 4000;
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// The real things take minutes to build: only where they are asked for.
fn real(name: &str, build: fn() -> anyhow::Result<PathBuf>) -> Option<PathBuf> {
    if std::env::var("KERNTALLY_E2E_COLLECTOR").is_err() {
        skip(name, "KERNTALLY_E2E_COLLECTOR is not set");
        return None;
    }
    match build() {
        Ok(program) => Some(program),
        Err(error) => {
            skip(name, &format!("{error:#}"));
            None
        }
    }
}

#[test]
fn a_collector_writes_what_it_was_sent() {
    let Some(program) = real("a_collector_writes_what_it_was_sent", install::collector) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let directory = tempfile::tempdir().unwrap();
        let collector = Collector::start(&program, directory.path()).unwrap();
        let address = match protocol {
            Protocol::Grpc => &collector.grpc,
            Protocol::HttpProtobuf | Protocol::HttpJson => &collector.http,
        };
        let exporter = exporter(&format!("http://{address}"), EndpointKind::Base, protocol);
        // Small requests: what is split must arrive whole.
        let encoder = Arc::new(Encoder::new(resources(), 1500));
        let snapshot = everything();
        let sent = encoder.encode(&snapshot);
        assert!(sent.len() > 1);
        let outcome = runtime.block_on(push(&exporter, &encoder, snapshot));
        assert!(outcome.accepted(), "{outcome:?}");
        assert_eq!(outcome.points_rejected, 0);
        let received = eventually(|| {
            let text = std::fs::read_to_string(&collector.received).unwrap_or_default();
            // The last line may be half written.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let all: Vec<String> = whole.lines().flat_map(points).collect();
            (all.len() == 5).then_some(all)
        });
        let mut sent: Vec<_> = sent
            .iter()
            .flat_map(|request| points(&serde_json::to_string(request).unwrap()))
            .collect();
        let mut received = received.unwrap();
        sent.sort();
        received.sort();
        assert_eq!(received, sent, "{protocol:?}");
    }
}

/// As the agent pushes.
async fn push(exporter: &Exporter, encoder: &Arc<Encoder>, snapshot: Snapshot) -> PushOutcome {
    let batch = Batch::encode(Arc::clone(encoder), Arc::new(snapshot)).await;
    exporter.push(batch).await
}

/// Every point with its resource, scope and metric, as text that is the same for the same points.
fn points(line: &str) -> Vec<String> {
    let mut request: Value = serde_json::from_str(line).unwrap();
    shorten(&mut request);
    let mut points = Vec::new();
    for resource in request["resourceMetrics"].as_array().unwrap() {
        let mut of = resource["resource"]["attributes"]
            .as_array()
            .unwrap()
            .clone();
        of.sort_by_key(ToString::to_string);
        for scope in resource["scopeMetrics"].as_array().unwrap() {
            for metric in scope["metrics"].as_array().unwrap() {
                for kind in ["exponentialHistogram", "histogram", "sum"] {
                    let data = metric[kind]["dataPoints"].as_array();
                    for point in data.into_iter().flatten() {
                        points.push(format!(
                            "{of:?} {} {} {} {} {} {kind} {} {} {point}",
                            resource["schemaUrl"],
                            scope["scope"]["name"],
                            scope["schemaUrl"],
                            metric["name"],
                            metric["unit"],
                            metric[kind]["aggregationTemporality"],
                            metric[kind]["isMonotonic"],
                        ));
                    }
                }
            }
        }
    }
    points
}

/// JSON may leave out what is empty and write 5 for 5.0, and one side does.
fn shorten(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(shorten);
            fields.retain(|_, field| {
                let empty = match field {
                    Value::Object(fields) => fields.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    Value::String(text) => matches!(text.as_str(), "" | "0"),
                    Value::Number(number) => number.as_f64() == Some(0.0),
                    Value::Bool(yes) => !*yes,
                    Value::Null => true,
                };
                !empty
            });
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Number(number) => *value = number.as_f64().into(),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn a_prometheus_finds_the_true_quantiles_in_what_is_pushed() {
    let name = "a_prometheus_finds_the_true_quantiles_in_what_is_pushed";
    let Some(program) = real(name, install::prometheus) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let configuration = "storage: {exemplars: {max_exemplars: 1000}}\n";
    let prometheus = Prometheus::start(&program, directory.path(), configuration).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let endpoint = format!("http://{}/api/v1/otlp/v1/metrics", prometheus.address);
    let exporter = exporter(&endpoint, EndpointKind::Metrics, Protocol::HttpProtobuf);
    let encoder = Arc::new(Encoder::new(resources(), MAX_REQUEST_BYTES));
    let values = durations();
    let traced = collections(&values, |snapshot| {
        let outcome = runtime.block_on(push(&exporter, &encoder, snapshot));
        assert!(outcome.accepted(), "{outcome:?}");
    });
    assert_quantiles(&prometheus, &values, "", bucket_width(SCALE));
    // Prometheus drops those of the push that makes a series known to it.
    assert_exemplars(
        &prometheus,
        "http_server_request_duration_seconds",
        &traced[1..],
    );
}

#[test]
fn a_prometheus_finds_the_true_quantiles_in_what_it_scrapes() {
    let name = "a_prometheus_finds_the_true_quantiles_in_what_it_scrapes";
    let Some(program) = real(name, install::prometheus) else {
        return;
    };
    for (protocol, native) in [
        ("PrometheusProto", true),
        ("OpenMetricsText1.0.0", false),
        ("PrometheusText0.0.4", false),
    ] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let target = listener.local_addr().unwrap();
        let pull = Arc::new(Pull::new(resources()));
        runtime.spawn(pull::serve(listener, Arc::clone(&pull)));
        let directory = tempfile::tempdir().unwrap();
        let configuration = format!(
            "global: {{scrape_interval: 1s, scrape_native_histograms: {native}, scrape_protocols: [{protocol}]}}\n\
             storage: {{exemplars: {{max_exemplars: 1000}}}}\n\
             scrape_configs: [{{job_name: kerntally, honor_labels: true, \
             static_configs: [{{targets: [\"{target}\"]}}]}}]\n",
        );
        let prometheus = Prometheus::start(&program, directory.path(), &configuration).unwrap();
        // It takes seconds to begin, and what is published before is not seen.
        let up = || prometheus.query("up == 1").ok().filter(|up| up.len() == 1);
        assert!(eventually(up).is_some(), "{protocol} is not scraped");
        let values = durations();
        let mut attributes = None;
        let traced = collections(&values, |mut snapshot| {
            share_attributes(&mut snapshot, &mut attributes);
            pull.publish(resources(), Arc::new(Held(snapshot)));
            std::thread::sleep(Duration::from_millis(1500));
        });
        if native {
            assert_quantiles(&prometheus, &values, "", bucket_width(SCALE));
            assert_exemplars(
                &prometheus,
                "http_server_request_duration_seconds",
                &traced[1..],
            );
        } else {
            assert_quantiles(&prometheus, &values, "_bucket", bucket_width(0));
        }
        if protocol == "OpenMetricsText1.0.0" {
            let name = "http_server_request_duration_seconds_bucket";
            assert_exemplars(&prometheus, name, &traced[1..]);
        }
        let target = prometheus.query("target_info").unwrap();
        assert_eq!(target.len(), 1, "{protocol}");
        assert_eq!(target[0].0["job"], "shop/api");
        assert_eq!(target[0].0["telemetry_sdk_name"], "kerntally");
        drop(runtime);
    }
}

/// Relative width of a bucket: a value that is interpolated within one is off by less.
fn bucket_width(scale: i32) -> f64 {
    2f64.powi(-scale).exp2() - 1.0
}

fn assert_quantiles(prometheus: &Prometheus, values: &[f64], suffix: &str, width: f64) {
    let name = format!("http_server_request_duration_seconds{suffix}{{http_route=\"/a\"}}");
    let count = match suffix {
        "" => format!("histogram_count({name})"),
        _ => "http_server_request_duration_seconds_count{http_route=\"/a\"}".to_owned(),
    };
    // What was published last may be scraped a little later.
    let counted = || {
        let found = prometheus.query(&count).unwrap();
        found
            .iter()
            .any(|(_, count)| (*count - as_f64(values.len())).abs() < 0.5)
            .then_some(found)
    };
    let found = eventually(counted).expect("all values are there");
    assert_eq!(found.len(), 1);
    let (labels, _) = &found[0];
    assert_eq!(labels["job"], "shop/api");
    assert_eq!(labels["http_response_status_code"], "200");
    assert!(labels["instance"].as_str().is_some_and(|id| id.len() == 36));
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    for quantile in QUANTILES {
        let (_, says) = prometheus
            .query(&format!("histogram_quantile({quantile}, {name})"))
            .unwrap()[0];
        let truth = true_quantile(&sorted, quantile);
        let off = (says / truth).max(truth / says) - 1.0;
        assert!(
            off <= width,
            "p{quantile}: {says} for {truth}, off by {off}, allowed {width}"
        );
    }
}

fn assert_exemplars(prometheus: &Prometheus, name: &str, traced: &[Exemplar]) {
    for exemplar in traced {
        let trace = hex(&exemplar.trace_id);
        let found = eventually(|| {
            let found = prometheus.exemplars(name).unwrap();
            let mut of_trace = found.into_iter();
            of_trace.find(|found| found["labels"]["trace_id"] == trace.as_str())
        });
        let found = found.unwrap_or_else(|| panic!("no exemplar of trace {trace}"));
        let value: f64 = found["value"].as_str().unwrap().parse().unwrap();
        assert!((value - exemplar.value).abs() < 1e-12, "{found}");
        let seconds = found["timestamp"].as_f64().unwrap();
        let truth = as_f64(usize::try_from(exemplar.time_unix_ns / 1_000_000).unwrap()) / 1000.0;
        assert!((seconds - truth).abs() < 0.002, "{found}");
    }
}

/// Hands out the values in four cumulative collections a second and a half apart, each with an exemplar of its
/// own, which come back.
fn collections(values: &[f64], mut hand_out: impl FnMut(Snapshot)) -> Vec<Exemplar> {
    let start = now_unix_ns();
    let mut exemplars = Vec::new();
    for part in 1..=4 {
        let so_far = &values[..values.len() * part / 4];
        let time = now_unix_ns();
        let exemplar = Exemplar {
            value: so_far[so_far.len() - 1],
            time_unix_ns: time - 1_000_000,
            trace_id: [u8::try_from(part).unwrap() | 0xa0; 16],
            span_id: None,
        };
        exemplars.push(exemplar);
        let mut point = point(
            vec![
                (
                    "http.response.status_code".into(),
                    AttributeValue::Integer(200),
                ),
                ("http.route".into(), AttributeValue::Text("/a".into())),
            ],
            PointValue::Exponential(histogram(so_far)),
        );
        point.start_unix_ns = start;
        point.time_unix_ns = time;
        point.exemplars = vec![exemplar];
        hand_out(snapshot(vec![metric(
            Instrument::HttpServerRequestDuration,
            vec![point],
        )]));
        std::thread::sleep(Duration::from_millis(200));
    }
    exemplars
}

/// As stage 6 does: a series keeps its attributes from one collection to the next.
fn share_attributes(
    snapshot: &mut Snapshot,
    shared: &mut Option<(Arc<Workload>, Arc<[Attribute]>)>,
) {
    let workload = &mut snapshot.workloads[0];
    let point = &mut workload.instruments[0].points[0];
    let (known, attributes) = shared.get_or_insert_with(|| {
        (
            Arc::clone(&workload.workload),
            Arc::clone(&point.attributes),
        )
    });
    workload.workload = Arc::clone(known);
    point.attributes = Arc::clone(attributes);
}

/// One of every kind of point.
fn everything() -> Snapshot {
    let traced = Exemplar {
        value: 0.25,
        time_unix_ns: now_unix_ns(),
        trace_id: [0xab; 16],
        span_id: Some([0xcd; 8]),
    };
    let route = |route: &str| vec![("http.route".into(), AttributeValue::Text(route.into()))];
    let mut a = point(
        route("/a"),
        PointValue::Exponential(histogram(&durations())),
    );
    a.exemplars = vec![traced];
    let b = point(route("/b"), PointValue::NoRecordedValue);
    let mut explicit = metric(
        Instrument::HttpClientRequestDuration,
        vec![point(
            Vec::new(),
            PointValue::Explicit(ExplicitHistogram {
                count: 6,
                sum: 60.0,
                min: Some(1.0),
                max: Some(20.0),
                boundaries: [5.0, 10.0].into(),
                buckets: vec![1, 2, 3],
            }),
        )],
    );
    explicit.points[0].exemplars = vec![traced];
    explicit.renamed = Some(MetricName {
        name: "legacy_latency".into(),
        unit: "ms".into(),
    });
    let mut window = metric(
        Instrument::HttpClientRequestDuration,
        vec![point(
            route("/c"),
            PointValue::Exponential(histogram(&[0.5])),
        )],
    );
    window.temporality = Temporality::Delta;
    let level = metric(
        Instrument::HttpServerActiveRequests,
        vec![point(Vec::new(), PointValue::UpDown(3))],
    );
    snapshot(vec![
        metric(Instrument::HttpServerRequestDuration, vec![a, b]),
        explicit,
        window,
        level,
    ])
}

fn snapshot(instruments: Vec<InstrumentSnapshot>) -> Snapshot {
    let workload = Workload {
        name: "api".to_owned(),
        namespace: Some("shop".to_owned()),
        version: Some("1.4".to_owned()),
        environment: None,
        attributes: Vec::new(),
        named_by: NameSource::Configuration,
    };
    Snapshot {
        workloads: vec![WorkloadSnapshot {
            process: None,
            workload: Arc::new(workload),
            instruments,
        }],
    }
}

fn metric(instrument: Instrument, points: Vec<Point>) -> InstrumentSnapshot {
    InstrumentSnapshot {
        instrument,
        renamed: None,
        temporality: Temporality::Cumulative,
        points,
    }
}

fn point(attributes: Vec<Attribute>, value: PointValue) -> Point {
    let now = now_unix_ns();
    Point {
        attributes: attributes.into(),
        start_unix_ns: now - 60_000_000_000,
        time_unix_ns: now,
        value,
        exemplars: Vec::new(),
    }
}

/// A long tail, the same in every run: 1 ms to some seconds.
fn durations() -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        as_f64(usize::try_from(state >> 40).unwrap()) / as_f64(1 << 24)
    };
    let mut one = || 0.001 * (1.0 / (1.0 - next() * 0.9999)).powf(0.9);
    (0..VALUES).map(|_| one()).collect()
}

/// By the definition of a bucket, with no table and no table's mistakes: `(base^i, base^(i+1)]`.
fn histogram(values: &[f64]) -> ExponentialHistogram {
    let per_octave = 2f64.powi(SCALE);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an index of a few thousand"
    )]
    let index = |value: f64| (value.log2() * per_octave).ceil() as i32 - 1;
    let (low, high) = values
        .iter()
        .fold((i32::MAX, i32::MIN), |(low, high), value| {
            (low.min(index(*value)), high.max(index(*value)))
        });
    let mut buckets = vec![0; usize::try_from(high - low + 1).unwrap()];
    for value in values {
        buckets[usize::try_from(index(*value) - low).unwrap()] += 1;
    }
    ExponentialHistogram {
        count: values.len() as u64,
        sum: values.iter().sum(),
        min: values.iter().copied().reduce(f64::min),
        max: values.iter().copied().reduce(f64::max),
        scale: SCALE,
        zero_count: 0,
        offset: low,
        buckets,
    }
}

fn true_quantile(sorted: &[f64], quantile: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among some thousand"
    )]
    let rank = (quantile * as_f64(sorted.len())).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn resources() -> ResourceTemplate {
    let node = Node {
        id: "node-1".to_owned(),
        source: NodeIdSource::Configured,
        host_name: Some("node-1".to_owned()),
    };
    ResourceTemplate::new(node, Identity::Node, [])
}

fn exporter(endpoint: &str, kind: EndpointKind, protocol: Protocol) -> Exporter {
    Exporter::new(OtlpSettings {
        endpoint: Endpoint::parse(endpoint, kind, Some(protocol), false).unwrap(),
        ..OtlpSettings::default()
    })
    .unwrap()
}

struct Held(Snapshot);

impl AsRef<Snapshot> for Held {
    fn as_ref(&self) -> &Snapshot {
        &self.0
    }
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn now_unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_f64(number: usize) -> f64 {
    number as f64
}

fn hex(id: &[u8]) -> String {
    let digits = id.iter().map(|byte| [byte >> 4, byte & 15]);
    digits
        .flatten()
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}
