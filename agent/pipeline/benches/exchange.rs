//! Cost of one exchange from the kernel's record to its series, in the steady state.
#![allow(missing_docs, reason = "made by the macros of the harness")]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use kerntally_pipeline::Config;

use support::{Sample, at, pipeline};

fn record_to_series(criterion: &mut Criterion) {
    let cases = [
        (
            "server, learnt route",
            Sample::server("/users/17/posts?page=2", 200),
        ),
        ("server, wildcard", Sample::server("/unknown/thing", 404)),
        (
            "server, sampled",
            Sample::server("/", 200).with_head(
                "GET /users/17/posts HTTP/1.1\r\nHost: shop\r\n\
                 traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
            ),
        ),
        ("client", Sample::client("/api/v1/items/9", 200)),
        (
            "excluded",
            Sample {
                tgid: 3,
                ..Sample::server("/metrics", 200)
            },
        ),
    ];
    let mut group = criterion.benchmark_group("record to series");
    for (name, sample) in cases {
        let mut pipeline = pipeline(&Config::default());
        group.bench_function(name, |bencher| {
            bencher.iter(|| sample.send(&mut pipeline, at(1)));
        });
    }
    group.finish();
}

criterion_group!(benches, record_to_series);
criterion_main!(benches);
