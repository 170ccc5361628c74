//! What stages 4 to 6 cost at best: the fastest of many short batches, which a busy machine hardly changes, and
//! memory and time of large collections.
#![allow(clippy::print_stdout, reason = "it prints figures")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/support/mod.rs"]
mod support;
mod traffic;

use std::hint::black_box;
use std::time::Instant;

use kerntally_pipeline::route::PatternSet;
use kerntally_pipeline::{Config, Pipeline};

use support::{Sample, at, pipeline};

const BATCHES: usize = 4000;
const BATCH: usize = 1000;

fn main() {
    exchanges();
    collections();
}

fn exchanges() {
    for (name, samples) in &traffic::ordinary() {
        let records: Vec<_> = samples.iter().map(Sample::record).collect();
        let exchanges: Vec<_> = samples
            .iter()
            .zip(&records)
            .map(|(sample, record)| sample.exchange(record))
            .collect();
        let mut of_exchanges = pipeline(&Config::default());
        let mut next = exchanges.iter().cycle();
        let exchange_ns = fastest(|| {
            if let Some(exchange) = next.next() {
                black_box(of_exchanges.on_exchange(exchange, at(1)));
            }
        });
        let mut of_records = pipeline(&Config::default());
        let mut next = samples.iter().cycle();
        let record_ns = fastest(|| {
            if let Some(sample) = next.next() {
                black_box(sample.send(&mut of_records, at(1)));
            }
        });
        println!(
            "{name}: {exchange_ns:.0} ns from the exchange, {record_ns:.0} ns from the record"
        );
    }
}

/// Nanoseconds of one call in the fastest batch.
fn fastest(mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..BATCH {
            call();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    best
}

fn collections() {
    let mut filled = None;
    let memory = allocation_counter::measure(|| filled = Some(hundred_thousand()));
    let Some(mut pipeline) = filled else { return };
    let series = pipeline.series_len();
    println!(
        "{series} series: {:.0} bytes each",
        memory.bytes_current as f64 / series as f64
    );
    let mut best = [f64::INFINITY; 3];
    for second in 0..20 {
        let start = Instant::now();
        let snapshot = black_box(pipeline.peek(at(second)));
        best[0] = best[0].min(start.elapsed().as_secs_f64() * 1e3);
        drop(snapshot);
        let start = Instant::now();
        let collection = black_box(pipeline.collect(at(second)));
        best[1] = best[1].min(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        black_box(collection.snapshot());
        best[2] = best[2].min(start.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "peek {:.1} ms, collection {:.1} ms, its snapshot {:.1} ms",
        best[0], best[1], best[2]
    );
}

/// `ggg`, `ggh` ... `zzz`: nothing that looks like a value.
fn words() -> impl Iterator<Item = String> {
    let letters = || (b'g'..=b'z').map(char::from);
    letters().flat_map(move |a| letters().map(move |b| format!("{a}{b}")))
}

/// Each series with durations over three decades, as a service has them.
fn hundred_thousand() -> Pipeline {
    let mut config = Config::default();
    config.cardinality.per_service = 200_000;
    config.cardinality.total = 200_000;
    let patterns: Vec<String> = words().take(250).map(|word| format!("/{word}")).collect();
    let patterns = PatternSet::parse(patterns.iter().map(String::as_str));
    config.routes.patterns = patterns.unwrap_or_default();
    let mut pipeline = pipeline(&config);
    for route in words().take(250) {
        for status in 200..600 {
            for step in 0..20 {
                Sample {
                    duration_ns: (1_000_000 << (step / 2)) * (2 + step % 2),
                    ..Sample::server(&format!("/{route}"), status)
                }
                .send(&mut pipeline, at(1));
            }
        }
    }
    pipeline
}
