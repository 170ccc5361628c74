//! Cost of one exchange in the steady state: from the kernel's record, and from the exchange, to its series.
#![allow(missing_docs, reason = "made by the macros of the harness")]

#[path = "../tests/support/mod.rs"]
mod support;
mod traffic;

use criterion::{Criterion, criterion_group, criterion_main};
use kerntally_pipeline::Config;

use support::{Sample, at, pipeline};

fn record_to_series(criterion: &mut Criterion) {
    let mut cases = traffic::ordinary();
    cases.extend([
        (
            "server, wildcard",
            vec![Sample::server("/unknown/thing", 404)],
        ),
        (
            "server, sampled",
            vec![Sample::server("/", 200).with_head(
                "GET /users/17/posts HTTP/1.1\r\nHost: shop\r\n\
                 traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
            )],
        ),
        (
            "excluded",
            vec![Sample {
                tgid: 3,
                ..Sample::server("/metrics", 200)
            }],
        ),
    ]);
    let mut group = criterion.benchmark_group("record to series");
    for (name, samples) in &cases {
        let mut pipeline = pipeline(&Config::default());
        let mut next = samples.iter().cycle();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| next.next().map(|sample| sample.send(&mut pipeline, at(1))));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("exchange to series");
    for (name, samples) in &cases {
        let mut pipeline = pipeline(&Config::default());
        let records: Vec<_> = samples.iter().map(Sample::record).collect();
        let exchanges: Vec<_> = samples
            .iter()
            .zip(&records)
            .map(|(sample, record)| sample.exchange(record))
            .collect();
        let mut next = exchanges.iter().cycle();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                next.next()
                    .map(|exchange| pipeline.on_exchange(exchange, at(1)))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, record_to_series);
criterion_main!(benches);
