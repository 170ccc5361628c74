//! Prints how much memory it takes to encode a collection of 20,000 series, as requests and as bytes.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement is run by people"
)]

#[path = "../benches/series/mod.rs"]
mod series;

use std::{fs, sync::Arc};

use kerntally_export::{
    encode::{Encoder, MAX_REQUEST_BYTES},
    pull::Pull,
};
use kerntally_model::Snapshot;

const SERIES: usize = 20_000;

struct Held(Snapshot);

impl AsRef<Snapshot> for Held {
    fn as_ref(&self) -> &Snapshot {
        &self.0
    }
}

fn main() {
    report("at the start");
    let snapshot = series::snapshot(SERIES);
    report("with the collection");
    let encoder = Encoder::new(series::resources(), MAX_REQUEST_BYTES);
    reset_peak();
    let payloads = encoder.payloads(&snapshot);
    report("with its requests as bytes");
    drop(payloads);
    for _ in 0..20 {
        drop(encoder.payloads(&snapshot));
    }
    report("after twenty times that");
    let pull = Pull::new(series::resources());
    pull.publish(series::resources(), Arc::new(Held(snapshot)));
    reset_peak();
    let bytes: usize = pull.page("text/plain").map(|chunk| chunk.len()).sum();
    report(&format!("after a page of {} KiB in text", bytes / 1024));
    let encoder = Encoder::new(series::resources(), MAX_REQUEST_BYTES);
    let snapshot = series::snapshot(SERIES);
    reset_peak();
    let requests = encoder.encode(&snapshot);
    report(&format!(
        "with a second collection and its {} requests, not as bytes",
        requests.len()
    ));
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
