//! Examples of the formats' specifications, and heads that try to mislead.

use proptest::prelude::*;

use super::Sampled::{No, Unsaid, Yes};
use super::TraceFormat::{B3, B3Multi, Datadog, Gcp, Jaeger, OpenTracing, TraceContext, Xray};
use super::*;

/// The trace of most examples.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn all() -> TraceFormats {
    TraceFormats::new(TraceFormat::ALL)
}

/// Trace, span and sampling as text; `-` for none.
fn shown(found: Option<super::TraceContext>) -> String {
    found.map_or_else(
        || "-".to_owned(),
        |found| {
            let trace = u128::from_be_bytes(found.trace_id);
            let span = found.span_id.map(u64::from_be_bytes);
            let span = span.map_or_else(|| "-".to_owned(), |span| format!("{span:016x}"));
            format!("{trace:032x} {span} {:?}", found.sampled)
        },
    )
}

fn wanted(trace: &str, span: &str, sampled: Sampled) -> String {
    format!("{trace:0>32} {span} {sampled:?}")
}

fn find(formats: &[TraceFormat], headers: &[(&str, &str)]) -> String {
    let mut head = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    shown(TraceFormats::new(formats.iter().copied()).find(head.as_bytes()))
}

#[test]
fn reads_traceparent() {
    let id = format!("{TRACE}-{SPAN}");
    for (value, sampled) in [
        (format!("00-{id}-01"), Yes),
        (format!("00-{id}-00"), No),
        (format!("00-{id}-03"), Yes),
        (format!("00-{id}-02"), No),
        (format!("00-{id}-ff"), Yes),
        (format!("01-{id}-01"), Yes),
        (format!("cc-{id}-01-what-the-future-brings"), Yes),
        (format!("cc-{id}-01-"), Yes),
        (format!("\t 00-{id}-01 \t"), Yes),
    ] {
        let found = find(&[TraceContext], &[("traceparent", &value)]);
        assert_eq!(found, wanted(TRACE, SPAN, sampled), "{value}");
    }
}

#[test]
fn refuses_malformed_traceparents() {
    let id = format!("{TRACE}-{SPAN}");
    let zeros = "0".repeat(32);
    for value in [
        String::new(),
        "00".to_owned(),
        format!("ff-{id}-01"),
        format!("00-{id}-01-"),
        format!("00-{id}-01-more"),
        format!("00-{id}-01."),
        format!("cc-{id}-01.more"),
        format!("cc-{id}-01x"),
        format!("00-{zeros}-{SPAN}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
        format!("0C-{id}-01"),
        format!("00-{id}-0A"),
        format!("0-{id}-01"),
        format!("000-{id}-01"),
        format!("+0-{id}-01"),
        format!("00-{id}-1"),
        format!("00-{id}-001"),
        format!("00-{id}-"),
        format!("00-{id}"),
        format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}-{}-01", &SPAN[1..]),
        format!("00_{TRACE}_{SPAN}_01"),
        format!("00-{TRACE}x{SPAN}-01"),
        format!(".0-{id}-01"),
        format!("00-{}g-{SPAN}-01", &TRACE[1..]),
        format!("00-{id}-0\u{0}"),
        format!("00-{id}-01,00-{id}-01"),
        format!("\"00-{id}-01\""),
    ] {
        assert_eq!(
            find(&[TraceContext], &[("traceparent", &value)]),
            "-",
            "{value}"
        );
    }
}

#[test]
fn a_header_that_stands_there_twice_is_not_believed() {
    let value = format!("00-{TRACE}-{SPAN}-01");
    let twice = [("traceparent", &*value), ("Traceparent", &*value)];
    assert_eq!(find(&[TraceContext], &twice), "-");
    let b3 = format!("{TRACE}-{SPAN}-1");
    let fallback = [("traceparent", &*value), ("b3", &*b3), ("traceparent", "x")];
    assert_eq!(
        find(&[TraceContext, B3], &fallback),
        wanted(TRACE, SPAN, Yes)
    );
    let ids = [
        ("x-b3-traceid", TRACE),
        ("x-b3-spanid", SPAN),
        ("X-B3-SpanId", SPAN),
    ];
    assert_eq!(find(&[B3Multi], &ids), "-");
}

#[test]
fn reads_b3_in_one_header() {
    let (long, span) = ("80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1");
    let short = "64fe8b2a57d3eff7";
    for (value, trace, sampled) in [
        (format!("{long}-{span}-1-05e3ac9a4f6e3b90"), long, Yes),
        (format!("{long}-{span}-1"), long, Yes),
        (format!("{long}-{span}-d"), long, Yes),
        (format!("{long}-{span}-0"), long, No),
        (format!("{long}-{span}"), long, Unsaid),
        (format!("{short}-{span}-1"), short, Yes),
    ] {
        assert_eq!(
            find(&[B3], &[("b3", &value)]),
            wanted(trace, span, sampled),
            "{value}"
        );
    }
    for value in [
        "0".to_owned(),
        "1".to_owned(),
        "d".to_owned(),
        String::new(),
        long.to_owned(),
        format!("{long}-{span}-2"),
        format!("{long}-{span}-"),
        format!("{long}-{span}-1-"),
        format!("{long}-{span}-1-05e3ac9a4f6e3b90-"),
        format!("{long}-{}", "0".repeat(16)),
        format!("{}-{span}-1", "0".repeat(32)),
        format!("{}-{span}-1", "0".repeat(16)),
        format!("{}-{span}-1", long.to_uppercase()),
        format!("{}-{span}-1", &long[..31]),
        format!("0{long}-{span}-1"),
    ] {
        assert_eq!(find(&[B3], &[("b3", &value)]), "-", "{value}");
    }
}

#[test]
fn reads_b3_in_several_headers() {
    let ids = [
        ("X-B3-TraceId", "463ac35c9f6413ad"),
        ("X-B3-SpanId", "a2fb4a1d1a96d312"),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        let headers: Vec<_> = ids.iter().chain(more).copied().collect();
        find(&[B3Multi], &headers)
    };
    let found = |sampled| wanted("463ac35c9f6413ad", "a2fb4a1d1a96d312", sampled);
    assert_eq!(with(&[]), found(Unsaid));
    assert_eq!(with(&[("X-B3-Sampled", "1")]), found(Yes));
    assert_eq!(with(&[("X-B3-Sampled", "true")]), found(Yes));
    assert_eq!(with(&[("X-B3-Sampled", "0")]), found(No));
    assert_eq!(with(&[("X-B3-Sampled", "false")]), found(No));
    assert_eq!(with(&[("X-B3-Flags", "1")]), found(Yes));
    assert_eq!(
        with(&[("X-B3-Sampled", "0"), ("X-B3-Flags", "1")]),
        found(Yes)
    );
    assert_eq!(with(&[("X-B3-Flags", "0")]), found(Unsaid));
    assert_eq!(
        with(&[("X-B3-ParentSpanId", "0020000000000001")]),
        found(Unsaid)
    );
    assert_eq!(with(&[("X-B3-Sampled", "d")]), "-");
    assert_eq!(find(&[B3Multi], &ids[..1]), "-");
    assert_eq!(find(&[B3Multi], &ids[1..]), "-");
    assert_eq!(find(&[B3Multi], &[("X-B3-Sampled", "1")]), "-");
}

#[test]
fn reads_datadog() {
    let low = "0000000000000000000000000000007b";
    let with = |more: &[(&'static str, &'static str)]| {
        let ids = [
            ("x-datadog-trace-id", "123"),
            ("x-datadog-parent-id", "456"),
        ];
        let headers: Vec<_> = ids.iter().chain(more).copied().collect();
        find(&[Datadog], &headers)
    };
    let span = "00000000000001c8";
    for (priority, sampled) in [
        ("2", Yes),
        ("1", Yes),
        ("0", No),
        ("-1", No),
        ("-0", No),
        ("keep", Unsaid),
        ("+1", Unsaid),
    ] {
        let found = with(&[("x-datadog-sampling-priority", priority)]);
        assert_eq!(found, wanted(low, span, sampled), "{priority}");
    }
    let upper = "640cfd8d00000000000000000000007b";
    for (tags, trace) in [
        ("_dd.p.tid=640cfd8d00000000", upper),
        ("_dd.p.dm=-1,_dd.p.tid=640cfd8d00000000", upper),
        ("_dd.p.dm=-1, _dd.p.tid=640cfd8d00000000,_dd.p.x=y", upper),
        ("_dd.p.tid=640CFD8D00000000", low),
        ("_dd.p.tid=640cfd8d0000000", low),
        ("_dd.p.tid=", low),
        ("x_dd.p.tid=640cfd8d00000000", low),
    ] {
        assert_eq!(
            with(&[("x-datadog-tags", tags)]),
            wanted(trace, span, Unsaid),
            "{tags}"
        );
    }
    let max = "18446744073709551615";
    let found = find(
        &[Datadog],
        &[("X-Datadog-Trace-Id", max), ("x-datadog-parent-id", "0")],
    );
    assert_eq!(found, wanted("ffffffffffffffff", "-", Unsaid));
    for id in [
        "0",
        "",
        "18446744073709551616",
        "-1",
        "+1",
        "0x1",
        "7b",
        "1 2",
    ] {
        assert_eq!(find(&[Datadog], &[("x-datadog-trace-id", id)]), "-", "{id}");
    }
    let bad_parent = [("x-datadog-trace-id", "1"), ("x-datadog-parent-id", "x")];
    assert_eq!(find(&[Datadog], &bad_parent), "-");
}

#[test]
fn reads_jaeger() {
    for (value, trace, span, sampled) in [
        (
            "4bf92f3577b34da6a3ce929d0e0e4736:00f067aa0ba902b7:0:1",
            TRACE,
            SPAN,
            Yes,
        ),
        (
            "4BF92F3577B34DA6A3CE929D0E0E4736:00F067AA0BA902B7:0:01",
            TRACE,
            SPAN,
            Yes,
        ),
        ("1:2:0:0", "1", "0000000000000002", No),
        ("1:2:0:3", "1", "0000000000000002", Yes),
        ("1:2:0:2", "1", "0000000000000002", No),
        ("1:2:0:9", "1", "0000000000000002", Yes),
        ("1:2::1", "1", "0000000000000002", Yes),
        ("1%3A2%3a0%3A1", "1", "0000000000000002", Yes),
        ("abc:def:1:1", "abc", "0000000000000def", Yes),
    ] {
        let found = find(&[Jaeger], &[("uber-trace-id", value)]);
        assert_eq!(found, wanted(trace, span, sampled), "{value}");
    }
    let long = format!("0{TRACE}:1:0:1");
    for value in [
        "",
        ":",
        "1:2:0",
        "1:2:0:",
        "1:2:0:1:1",
        "0:2:0:1",
        "1:0:0:1",
        ":2:0:1",
        "1::0:1",
        "1:2:0:x",
        "1:2:0:001",
        "1:00f067aa0ba902b70:0:1",
        "1%3B2%3B0%3B1",
        "x:2:0:1",
        &long,
    ] {
        assert_eq!(find(&[Jaeger], &[("uber-trace-id", value)]), "-", "{value}");
    }
}

#[test]
fn reads_xray() {
    let trace = "5759e988bd862e3fe1be46a994272793";
    let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
    let span = "53995c3f42cd8ad8";
    for (value, span, sampled) in [
        (format!("{root};Parent={span};Sampled=1"), span, Yes),
        (format!("{root};Parent={span};Sampled=0"), span, No),
        (format!("{root};Parent={span};Sampled=?"), span, Unsaid),
        (format!("{root};Parent={span}"), span, Unsaid),
        (format!("Sampled=1; Parent={span}; {root}"), span, Yes),
        (
            format!("Self=1-67891234-12456789abcdef012345678;{root};Sampled=1"),
            "-",
            Yes,
        ),
        (
            format!("{root};Parent={span};Sampled=1;Lineage=a87bd80c:0|68fd508a:5"),
            span,
            Yes,
        ),
        (format!("{root};"), "-", Unsaid),
        (root.to_owned(), "-", Unsaid),
    ] {
        let found = find(&[Xray], &[("X-Amzn-Trace-Id", &value)]);
        assert_eq!(found, wanted(trace, span, sampled), "{value}");
    }
    for value in [
        String::new(),
        format!("Parent={span};Sampled=1"),
        "Root=1-00000000-000000000000000000000000".to_owned(),
        "Root=2-5759e988-bd862e3fe1be46a994272793".to_owned(),
        "Root=1-5759e988-bd862e3fe1be46a99427279".to_owned(),
        "Root=1-5759e988bd862e3fe1be46a994272793".to_owned(),
        "Root=1-5759e98".to_owned(),
        format!("{root};{root}"),
        format!("{root};Parent=x"),
        format!("{root};Parent=0000000000000000"),
    ] {
        assert_eq!(
            find(&[Xray], &[("x-amzn-trace-id", &value)]),
            "-",
            "{value}"
        );
    }
}

#[test]
fn reads_cloud_trace_context() {
    let trace = "105445aa7843bc8bf206b12000100000";
    for (rest, span, sampled) in [
        ("/1;o=1", "0000000000000001", Yes),
        ("/1;o=0", "0000000000000001", No),
        ("/1;o=3", "0000000000000001", Yes),
        ("/18446744073709551615;o=1", "ffffffffffffffff", Yes),
        ("/1", "0000000000000001", Unsaid),
        ("/0;o=1", "-", Yes),
        ("/;o=1", "-", Yes),
        (";o=1", "-", Yes),
        ("/1;x=y;o=1", "0000000000000001", Yes),
        ("", "-", Unsaid),
    ] {
        let value = format!("{trace}{rest}");
        let found = find(&[Gcp], &[("X-Cloud-Trace-Context", &value)]);
        assert_eq!(found, wanted(trace, span, sampled), "{value}");
    }
    let zeros = "0".repeat(32);
    for value in [
        "",
        "/1;o=1",
        "105445aa7843bc8bf206b1200010000/1",
        "x",
        &zeros,
        "105445aa7843bc8bf206b12000100000/x",
        "105445aa7843bc8bf206b12000100000/1;o=x",
        "105445aa7843bc8bf206b12000100000/18446744073709551616",
    ] {
        assert_eq!(
            find(&[Gcp], &[("x-cloud-trace-context", value)]),
            "-",
            "{value}"
        );
    }
}

#[test]
fn reads_opentracing() {
    let short = "a3ce929d0e0e4736";
    for (trace, sampled, says) in [
        (TRACE, Some("true"), Yes),
        (TRACE, Some("1"), Yes),
        (short, Some("false"), No),
        (short, Some("0"), No),
        (short, None, Unsaid),
    ] {
        let mut headers = vec![("ot-tracer-traceid", trace), ("ot-tracer-spanid", SPAN)];
        headers.extend(sampled.map(|sampled| ("ot-tracer-sampled", sampled)));
        assert_eq!(find(&[OpenTracing], &headers), wanted(trace, SPAN, says));
    }
    let zeros = "0".repeat(16);
    for headers in [
        &[("ot-tracer-traceid", TRACE)][..],
        &[("ot-tracer-spanid", SPAN)],
        &[("ot-tracer-traceid", &zeros), ("ot-tracer-spanid", SPAN)],
        &[("ot-tracer-traceid", TRACE), ("ot-tracer-spanid", &zeros)],
        &[
            ("ot-tracer-traceid", &TRACE[1..]),
            ("ot-tracer-spanid", SPAN),
        ],
        &[
            ("ot-tracer-traceid", TRACE),
            ("ot-tracer-spanid", SPAN),
            ("ot-tracer-sampled", "yes"),
        ],
    ] {
        assert_eq!(find(&[OpenTracing], headers), "-", "{headers:?}");
    }
}

#[test]
fn the_first_valid_format_in_order_counts() {
    let (w3c, b3) = (
        format!("00-{TRACE}-{SPAN}-01"),
        "00000000000000aa-00000000000000bb-0",
    );
    let headers = [("b3", b3), ("traceparent", &*w3c)];
    let (first, second) = (
        wanted(TRACE, SPAN, Yes),
        wanted("aa", "00000000000000bb", No),
    );
    assert_eq!(find(&[TraceContext, B3], &headers), first);
    assert_eq!(find(&[B3, TraceContext], &headers), second);
    assert_eq!(find(&[B3], &headers), second);
    assert_eq!(find(&[Jaeger], &headers), "-");
    assert_eq!(find(&[], &headers), "-");
    assert_eq!(
        find(&[TraceContext, B3], &[("traceparent", "bad"), ("b3", b3)]),
        second
    );
    let twice = TraceFormats::new([B3, B3, TraceContext]);
    assert_eq!(twice, TraceFormats::new([B3, TraceContext]));
    assert!(TraceFormats::new([]).is_empty() && !twice.is_empty());
}

#[test]
fn names_match_in_any_case_and_values_with_any_blanks() {
    let value = format!("00-{TRACE}-{SPAN}-01");
    for line in [
        format!("traceparent:{value}\r\n"),
        format!("TRACEPARENT:   {value}\r\n"),
        format!("TraceParent:\t{value}\t \r\n"),
        format!("tRACEpARENT: {value}\n"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nA: b\r\n{line}\r\n");
        assert_eq!(
            shown(all().find(head.as_bytes())),
            wanted(TRACE, SPAN, Yes),
            "{line:?}"
        );
        let first = format!("\r\nGET / HTTP/1.1\n{line}Z: y\r\n\r\n");
        assert_eq!(
            shown(all().find(first.as_bytes())),
            wanted(TRACE, SPAN, Yes),
            "{line:?}"
        );
    }
}

#[test]
fn is_not_fooled() {
    let value = format!("00-{TRACE}-{SPAN}-01");
    for head in [
        // In a body, in the target, in another header's value, in a name.
        format!("POST / HTTP/1.1\r\nHost: a\r\n\r\ntraceparent: {value}\r\n\r\n"),
        format!("POST / HTTP/1.1\n\ntraceparent: {value}\n\n"),
        format!("GET /?traceparent:{value} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("traceparent: {value}\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nCookie: traceparent: {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX: y\rtraceparent: {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX-traceparent: {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\ntraceparent2: {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\ntraceparent : {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n traceparent: {value}\r\n\r\n"),
        // Folded lines: continued, and continuing.
        format!("GET / HTTP/1.1\r\nX: y\r\n traceparent: {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\ntraceparent:\r\n {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\ntraceparent: {value}\r\n\t-more\r\n\r\n"),
        // Cut.
        format!("GET / HTTP/1.1\r\ntraceparent: {value}"),
        format!("GET / HTTP/1.1\r\ntraceparent: {value}\r"),
    ] {
        assert_eq!(shown(all().find(head.as_bytes())), "-", "{head:?}");
    }
}

/// One header of each format, sampled.
fn everything() -> String {
    format!(
        "GET /a HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\nb3: {TRACE}-{SPAN}-1\r\n\
         X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\nX-B3-Sampled: 1\r\nx-datadog-trace-id: 5\r\n\
         x-datadog-parent-id: 6\r\nx-datadog-sampling-priority: 1\r\nx-datadog-tags: _dd.p.tid=640cfd8d00000000\r\n\
         uber-trace-id: {TRACE}:{SPAN}:0:1\r\nX-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1\r\n\
         X-Cloud-Trace-Context: {TRACE}/1;o=1\r\not-tracer-traceid: {TRACE}\r\not-tracer-spanid: {SPAN}\r\n\
         ot-tracer-sampled: true\r\n\r\n"
    )
}

#[test]
fn every_prefix_knows_no_more_than_the_whole() {
    let head = everything();
    for format in TraceFormat::ALL {
        let formats = TraceFormats::new([format]);
        let whole = formats.find(head.as_bytes());
        assert!(whole.is_some(), "{format:?}");
        let mut known = false;
        for len in 0..head.len() {
            let part = formats.find(&head.as_bytes()[..len]);
            assert!(!known || part.is_some(), "{format:?} was lost at {len}");
            known = part.is_some();
            if let (Some(part), Some(whole)) = (part, whole) {
                // A later header may say more, never something else about whose trace it is.
                assert_eq!(
                    part.trace_id[8..],
                    whole.trace_id[8..],
                    "{format:?} at {len}"
                );
            }
        }
    }
}

#[test]
fn a_break_at_any_byte_never_makes_another_trace() {
    let head = everything();
    // The lengths of the others' identifiers are free: what is left of one is another.
    for format in [TraceContext, Xray] {
        let formats = TraceFormats::new([format]);
        let whole = formats.find(head.as_bytes()).unwrap();
        for at in 0..head.len() {
            for wedge in ["\r\n", " ", "\0", ":", "0"] {
                let split = format!("{}{wedge}{}", &head[..at], &head[at..]);
                if let Some(found) = formats.find(split.as_bytes()) {
                    assert_eq!(
                        found.trace_id, whole.trace_id,
                        "{format:?} at {at} {wedge:?}"
                    );
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn never_panics(head in proptest::collection::vec(any::<u8>(), 0..1100)) {
        let _found = all().find(&head);
    }

    #[test]
    fn never_panics_behind_its_names(
        lines in proptest::collection::vec((0..Field::ALL.len(), "[ -~\t]{0,90}", "\r?\n"), 0..12),
    ) {
        let mut head = "GET / HTTP/1.1\r\n".to_owned();
        for (field, value, end) in &lines {
            let name = String::from_utf8_lossy(Field::ALL[*field].1);
            head.extend([&name, ":", value, end]);
        }
        for format in TraceFormat::ALL {
            if let Some(found) = TraceFormats::new([format]).find(head.as_bytes()) {
                prop_assert!(found.trace_id != [0; 16] && found.span_id != Some([0; 8]));
            }
        }
    }

    #[test]
    fn reads_back_what_was_written(trace in any::<u128>(), span in any::<u64>(), flag in any::<bool>()) {
        prop_assume!(span != 0 && trace << 64 != 0);
        let (low, high) = (trace & u128::from(u64::MAX), trace >> 64);
        let state = u8::from(flag);
        let lines = format!(
            "traceparent: 00-{trace:032x}-{span:016x}-0{state}\r\nb3: {trace:032x}-{span:016x}-{state}\r\n\
             X-B3-TraceId: {trace:032x}\r\nX-B3-SpanId: {span:016x}\r\nX-B3-Sampled: {state}\r\n\
             x-datadog-trace-id: {low}\r\nx-datadog-parent-id: {span}\r\n\
             x-datadog-sampling-priority: {state}\r\nx-datadog-tags: _dd.p.tid={high:016x}\r\n\
             uber-trace-id: {trace:x}:{span:x}:0:{state}\r\n\
             X-Amzn-Trace-Id: Root=1-{:08x}-{:024x};Parent={span:016x};Sampled={state}\r\n\
             X-Cloud-Trace-Context: {trace:032x}/{span};o={state}\r\n\
             ot-tracer-traceid: {trace:032x}\r\not-tracer-spanid: {span:016x}\r\not-tracer-sampled: {flag}\r\n",
            trace >> 96, trace & ((1 << 96) - 1),
        );
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        for format in TraceFormat::ALL {
            let found = TraceFormats::new([format]).find(head.as_bytes()).unwrap();
            prop_assert_eq!(u128::from_be_bytes(found.trace_id), trace, "{:?}", format);
            prop_assert_eq!(found.span_id.map(u64::from_be_bytes), Some(span), "{:?}", format);
            prop_assert_eq!(found.sampled, if flag { Yes } else { No }, "{:?}", format);
        }
    }
}
