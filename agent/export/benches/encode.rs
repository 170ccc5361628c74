//! What it costs to turn a collection into what leaves the agent.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark is run by people"
)]

mod series;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kerntally_export::encode::{Encoder, MAX_REQUEST_BYTES};
use kerntally_export::file::LINE_REQUEST_BYTES;
use kerntally_export::pull::Pull;
use prost::Message as _;

/// Time on the processor of this thread: others that run on the machine do not count.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanoseconds = text.split(' ').next().unwrap().parse().unwrap();
        Duration::from_nanos(nanoseconds)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn encode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("encode");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    for count in [1_000, 10_000, 100_000] {
        let snapshot = series::snapshot(count);
        let encoder = Encoder::new(series::resources(), MAX_REQUEST_BYTES);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(
            BenchmarkId::new("copy of the snapshot", count),
            &snapshot,
            |bencher, snapshot| bencher.iter(|| black_box(snapshot.clone())),
        );
        group.bench_with_input(
            BenchmarkId::new("requests as bytes", count),
            &snapshot,
            |bencher, snapshot| {
                bencher.iter(|| {
                    encoder.each(snapshot, MAX_REQUEST_BYTES, &mut |request| {
                        black_box(request.encode_to_vec());
                    });
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("lines of JSON", count),
            &snapshot,
            |bencher, snapshot| {
                bencher.iter(|| {
                    encoder.each(snapshot, LINE_REQUEST_BYTES, &mut |request| {
                        black_box(serde_json::to_vec(&request).unwrap());
                    });
                });
            },
        );
        let pull = Pull::new(series::resources());
        pull.publish(series::resources(), Arc::new(snapshot));
        for (name, accept) in [
            (
                "page in protobuf",
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            ),
            ("page in text", "text/plain"),
        ] {
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| pull.page(accept).map(|chunk| chunk.len()).sum::<usize>());
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = encode
}
criterion_main!(benches);
