//! Prints how much memory it takes to encode a collection of 20,000 series, for a push, a page and a file.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement is run by people"
)]

#[path = "../benches/series/mod.rs"]
mod series;

use std::{fs, hint::black_box, sync::Arc};

use kerntally_export::{
    encode::{Encoder, MAX_REQUEST_BYTES},
    file::LINE_REQUEST_BYTES,
    pull::Pull,
};
use prost::Message as _;

const SERIES: usize = 20_000;

fn main() {
    report("at the start");
    let snapshot = series::snapshot(SERIES);
    report("with the collection");
    let encoder = Encoder::new(series::resources(), MAX_REQUEST_BYTES);
    reset_peak();
    for _ in 0..20 {
        encoder.each(&snapshot, MAX_REQUEST_BYTES, &mut |request| {
            black_box(request.encode_to_vec());
        });
    }
    report("after twenty pushes");
    reset_peak();
    for _ in 0..20 {
        encoder.each(&snapshot, LINE_REQUEST_BYTES, &mut |request| {
            black_box(serde_json::to_vec(&request).unwrap());
        });
    }
    report("after twenty times the lines of a file");
    let pull = Pull::new(series::resources());
    pull.publish(series::resources(), Arc::new(snapshot));
    reset_peak();
    let bytes: usize = pull.page("text/plain").map(|chunk| chunk.len()).sum();
    report(&format!("after a page of {} KiB in text", bytes / 1024));
}

fn report(when: &str) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    println!(
        "{when}: {:.1} MiB resident, {:.1} at most since the last reset",
        mebibytes(of("VmRSS")),
        mebibytes(of("VmHWM"))
    );
}

/// <https://www.kernel.org/doc/html/latest/filesystems/proc.html>: 5 resets the peak.
fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}
