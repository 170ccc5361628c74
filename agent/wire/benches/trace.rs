//! Cost of finding the trace in a request head.
#![allow(missing_docs, reason = "made by the macros of the harness")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use kerntally_wire::{TraceFormat, TraceFormats};

/// A browser's request behind a proxy: 13 fields, 700 bytes.
const HEAD: &str = "GET /api/v1/users/4711/orders?page=2&sort=asc HTTP/1.1\r\n\
    Host: shop.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example.org/users/4711\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\
    Cache-Control: no-cache\r\n\
    X-Forwarded-For: 203.0.113.7\r\n\
    X-Forwarded-Proto: https\r\n\
    X-Request-Id: 7f9c2ba4-e88f-41ea-b9d1-3f0c1a5f2b6d\r\n";

const TRACEPARENT: &str =
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

const B3: &str = "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7\r\nX-B3-SpanId: e457b5a2e4d86bd1\r\nX-B3-Sampled: 1\r\n";

fn find(criterion: &mut Criterion) {
    let all = TraceFormats::new(TraceFormat::ALL);
    let mut group = criterion.benchmark_group("trace headers");
    for (name, formats, headers) in [
        ("none there", all, ""),
        ("traceparent", all, TRACEPARENT),
        ("b3 in three", all, B3),
        ("switched off", TraceFormats::default(), TRACEPARENT),
    ] {
        let head = format!("{HEAD}{headers}\r\n");
        group.bench_function(name, |bencher| {
            bencher.iter(|| formats.find(black_box(head.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
