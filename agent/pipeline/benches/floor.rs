//! What stages 4 to 6 cost at best: the fastest of many short batches, which a busy machine hardly changes, and
//! memory and time of large collections. Lines are `NAME: VALUE UNIT`, which `cargo xtask bench` reads.
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

/// Names, the configuration they need, and exchanges in turn.
fn cases() -> Vec<(&'static str, Config, Vec<Sample>)> {
    let traced = "GET /cart/items HTTP/1.1\r\nHost: shop.example:8080\r\n\
        traceparent: 00-00000000000000aa00000000000000bb-00000000000000cc-01\r\n\r\n";
    let mut with_pattern = Config::default();
    with_pattern.routes.patterns = PatternSet::parse(["/users/{id}/posts"]).unwrap_or_default();
    let users = || Sample::server("/users/17/posts?page=2", 200);
    let ordinary = traffic::ordinary().into_iter();
    let mut cases: Vec<_> = ordinary
        .map(|(name, samples)| (name, Config::default(), samples))
        .collect();
    cases.extend([
        ("server, operator's pattern", with_pattern, vec![users()]),
        (
            "server, no route",
            Config::default(),
            vec![Sample::server("/un/known", 404)],
        ),
        (
            "server, exemplar",
            Config::default(),
            vec![users().with_head(traced)],
        ),
    ]);
    cases
}

fn exchanges() {
    for (name, config, samples) in cases() {
        let records: Vec<_> = samples.iter().map(Sample::record).collect();
        let exchanges: Vec<_> = samples
            .iter()
            .zip(&records)
            .map(|(sample, record)| sample.exchange(record))
            .collect();
        let mut of_exchanges = pipeline(&config);
        let mut next = exchanges.iter().cycle();
        let exchange_ns = fastest(|| {
            if let Some(exchange) = next.next() {
                black_box(of_exchanges.on_exchange(exchange, at(1)));
            }
        });
        let mut of_records = pipeline(&config);
        let mut next = samples.iter().cycle();
        let mut send = || {
            if let Some(sample) = next.next() {
                black_box(sample.send(&mut of_records, at(1)));
            }
        };
        let record_ns = fastest(&mut send);
        let allocations = allocation_counter::measure(|| (0..BATCH).for_each(|_| send()));
        println!("{name}, exchange to series: {exchange_ns:.0} ns");
        println!("{name}, record to series: {record_ns:.0} ns");
        let each = allocations.count_total as f64 / BATCH as f64;
        println!("{name}, allocations: {each} per exchange");
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
    for routes in [3, 25, 250] {
        let mut filled = None;
        let memory = allocation_counter::measure(|| filled = Some(filled_with(routes)));
        if let Some(pipeline) = filled {
            collection(pipeline, memory.bytes_current);
        }
    }
}

fn collection(mut pipeline: Pipeline, bytes: i64) {
    let series = pipeline.series_len();
    println!(
        "{series} series, memory: {:.0} B each",
        bytes as f64 / series as f64
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
    for (name, millis) in ["peek", "collection", "snapshot of a collection"]
        .iter()
        .zip(best)
    {
        println!("{series} series, {name}: {millis:.2} ms");
    }
}

/// `ggg`, `ggh` ... `zzz`: nothing that looks like a value.
fn words() -> impl Iterator<Item = String> {
    let letters = || (b'g'..=b'z').map(char::from);
    letters().flat_map(move |a| letters().map(move |b| format!("{a}{b}")))
}

/// 400 series for each route, with durations over three decades, as a service has them.
fn filled_with(routes: usize) -> Pipeline {
    let mut config = Config::default();
    config.cardinality.per_service = 200_000;
    config.cardinality.total = 200_000;
    let patterns: Vec<String> = words()
        .take(routes)
        .map(|word| format!("/{word}"))
        .collect();
    let patterns = PatternSet::parse(patterns.iter().map(String::as_str));
    config.routes.patterns = patterns.unwrap_or_default();
    let mut pipeline = pipeline(&config);
    for route in words().take(routes) {
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
