//! From headers of real requests to exemplars in the export file: every format however it is written, and nothing
//! that only looks like one.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use kerntally_e2e::plain::{ask_tcp, serve_tcp};
use kerntally_e2e::rig::{Rig, watch_only};
use serde_json::Value;

const SPAN: &str = "00f067aa0ba902b7";

/// Request lines and headers of sampled traces, with the trace and the span that a client's exemplar has.
fn sampled() -> Vec<(String, String, Option<String>)> {
    let trace = |number: u64| format!("4bf92f3577b34da6a3ce929d0e0e{number:04x}");
    let short = "a3ce929d0e0e4736";
    let own = |number, headers: String| (headers, trace(number), Some(SPAN.to_owned()));
    vec![
        own(1, format!("traceparent: 00-{}-{SPAN}-01", trace(1))),
        own(2, format!("TraceParent:00-{}-{SPAN}-01", trace(2))),
        own(3, format!("TRACEPARENT: \t 00-{}-{SPAN}-03 \t", trace(3))),
        own(
            4,
            format!(
                "X-A: b\r\ntRaCePaReNt:   00-{}-{SPAN}-01\r\ntracestate: a=b",
                trace(4)
            ),
        ),
        own(5, format!("B3: {}-{SPAN}-1", trace(5))),
        own(6, format!("b3:{}-{SPAN}-d", trace(6))),
        own(
            7,
            format!(
                "X-B3-TRACEID:  {}\r\nx-b3-spanid: {SPAN}\r\nX-b3-Sampled:1",
                trace(7)
            ),
        ),
        (
            format!(
                "X-Datadog-Trace-Id: {}\r\nx-datadog-parent-id:{}\r\nX-DATADOG-SAMPLING-PRIORITY: 2",
                0x1234_5678_9abc_u64, 0x00f0_67aa_0ba9_02b7_u64
            ),
            "00000000000000000000123456789abc".to_owned(),
            Some(SPAN.to_owned()),
        ),
        own(9, format!("Uber-Trace-Id: {}:{SPAN}:0:1", trace(9))),
        own(
            10,
            format!(
                "x-amzn-trace-id:Sampled=1;Root=1-{}-{};Parent={SPAN}",
                &trace(10)[..8],
                &trace(10)[8..]
            ),
        ),
        own(
            11,
            format!(
                "X-Cloud-Trace-Context: {}/{};o=1",
                trace(11),
                0x00f0_67aa_0ba9_02b7_u64
            ),
        ),
        (
            format!(
                "OT-Tracer-TraceId: {short}\r\not-tracer-spanid:{SPAN}\r\nOt-Tracer-Sampled: true"
            ),
            format!("0000000000000000{short}"),
            Some(SPAN.to_owned()),
        ),
    ]
}

/// Whole requests that hold a trace nowhere that counts, or one that is not sampled.
fn decoys() -> Vec<String> {
    let parent = "00-dddddddddddddddddddddddddddddddd-00f067aa0ba902b7-01";
    let body = format!("traceparent: {parent}\r\n\r\n");
    let get = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n")
    };
    vec![
        format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        get(&format!("/a?traceparent={parent}"), ""),
        get(&format!("/a?x=traceparent:%20{parent}"), ""),
        get("/a", &format!("X-Note: traceparent: {parent}\r\n")),
        get("/a", &format!("User-Agent: x\ttraceparent: {parent}\r\n")),
        get("/a", &format!("X-Traceparent: {parent}\r\n")),
        get("/a", &format!("traceparent-x: {parent}\r\n")),
        get("/a", &format!("Cookie: b3={}\r\n", &parent[3..])),
        get("/a", &format!("traceparent: {}0\r\n", &parent[..54])),
        get("/a", "traceparent: 00-dd-00f067aa0ba902b7-01\r\n"),
        get(
            "/a",
            &format!("traceparent: {parent}\r\ntraceparent: {parent}\r\n"),
        ),
        get("/a", "b3: 1\r\n"),
        get(
            "/a",
            "b3: dddddddddddddddddddddddddddddddd-00f067aa0ba902b7\r\n",
        ),
        get(
            "/a",
            "x-cloud-trace-context: dddddddddddddddddddddddddddddddd/1;o=0\r\n",
        ),
    ]
}

/// Traces with their spans in the export so far, by instrument.
type Found = BTreeMap<String, BTreeSet<(String, Option<String>)>>;

fn found(rig: &Rig, kind: &str) -> Result<Found> {
    let text = std::fs::read_to_string(rig.agent.export_file()).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut found = Found::new();
    for line in whole.lines() {
        let request: Value = serde_json::from_str(line)?;
        for metric in each(&request, &["resourceMetrics", "scopeMetrics", "metrics"]) {
            let name = metric["name"].as_str().unwrap_or_default();
            for exemplar in each(&metric[kind], &["dataPoints", "exemplars"]) {
                // No span is an empty one in OTLP's JSON.
                let text = |key: &str| {
                    let text = exemplar[key].as_str().unwrap_or_default();
                    (!text.is_empty()).then(|| text.to_owned())
                };
                let trace = text("traceId").unwrap_or_default();
                let is_new = found
                    .entry(name.to_owned())
                    .or_default()
                    .insert((trace, text("spanId")));
                ensure!(is_new, "sent twice: {exemplar}");
            }
        }
    }
    Ok(found)
}

fn each(value: &Value, keys: &[&str]) -> Vec<Value> {
    let Some((key, rest)) = keys.split_first() else {
        return vec![value.clone()];
    };
    let items = value[*key].as_array().cloned().unwrap_or_default();
    items.iter().flat_map(|item| each(item, rest)).collect()
}

fn start(sets: &[&str]) -> Result<Rig> {
    Rig::start_with(|options| {
        watch_only(options, &std::env::current_exe().unwrap_or_default());
        let room = ["exemplars.per_series=100", "exemplars.policy=uniform"];
        let sets = room.iter().chain(sets).map(|set| (*set).to_owned());
        options.sets.extend(sets);
    })
}

/// Sends all there is, decoys between the others, and waits until the agent has pushed what came of it.
fn send_all(rig: &Rig) -> Result<()> {
    let address = serve_tcp()?;
    let mut decoys = decoys().into_iter();
    let mut sent = 0;
    for (headers, ..) in sampled() {
        let request =
            format!("GET /a HTTP/1.1\r\nHost: a\r\n{headers}\r\nConnection: close\r\n\r\n");
        for request in [Some(request), decoys.next()].into_iter().flatten() {
            ensure!(ask_tcp(&address, &request)? == 200, "{request}");
            sent += 1;
        }
    }
    for decoy in decoys {
        ensure!(ask_tcp(&address, &decoy)? == 200, "{decoy}");
        sent += 1;
    }
    rig.accounts_for(sent)?;
    // Two collections later everything has been pushed.
    std::thread::sleep(Duration::from_millis(2500));
    Ok(())
}

fn expected() -> Found {
    let client = sampled().into_iter().map(|(_, trace, span)| (trace, span));
    // A server's own span is not in the headers that it receives.
    let server = sampled().into_iter().map(|(_, trace, _)| (trace, None));
    Found::from([
        ("http.client.request.duration".to_owned(), client.collect()),
        ("http.server.request.duration".to_owned(), server.collect()),
    ])
}

#[test]
fn every_format_is_read_however_it_is_written_and_no_decoy_is() {
    reads_every_format().unwrap();
}

fn reads_every_format() -> Result<()> {
    let rig = start(&[])?;
    send_all(&rig)?;
    let found = found(&rig, "exponentialHistogram")?;
    ensure!(
        found == expected(),
        "{found:#?}, expected {:#?}",
        expected()
    );
    let file = rig.agent.export_file().display().to_string();
    rig.agent
        .passes(["lint", "--require-exemplars", "--file", &file])
}

#[test]
fn always_off_leaves_none() {
    leaves_none().unwrap();
}

fn leaves_none() -> Result<()> {
    let rig = start(&["exemplars.filter=always_off"])?;
    send_all(&rig)?;
    let found = found(&rig, "exponentialHistogram")?;
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn explicit_histograms_have_them_too() {
    explicit_ones_have_them().unwrap();
}

fn explicit_ones_have_them() -> Result<()> {
    let rig = start(&["histogram.type=explicit"])?;
    send_all(&rig)?;
    let found = found(&rig, "histogram")?;
    let all = expected();
    // One a bucket: most of them had the same.
    ensure!(found.keys().eq(all.keys()), "{found:#?}");
    for (instrument, traces) in &found {
        ensure!(traces.is_subset(&all[instrument]), "{found:#?}");
    }
    Ok(())
}
