use std::{fs, path::Path};

use kerntally_model::{ExponentialHistogram, PointValue, Snapshot};

use super::{FileError, FileSink, LINE_REQUEST_BYTES};
use crate::{
    ExportMetricsServiceRequest,
    encode::{Encoder, MAX_REQUEST_BYTES, json, points_in},
    fixture::{histogram, point, server_points, snapshot, template, text, workload},
};

fn requests() -> Vec<ExportMetricsServiceRequest> {
    Encoder::new(template(), MAX_REQUEST_BYTES).encode(&snapshot())
}

fn lines(path: &Path) -> Vec<ExportMetricsServiceRequest> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn appends_lines_that_read_back_as_what_was_encoded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    for _ in 0..2 {
        FileSink::open(&path).unwrap().append(&requests()).unwrap();
    }
    assert_eq!(lines(&path), [requests(), requests()].concat());
    assert_eq!(lines(&path).iter().map(points_in).sum::<u64>(), 8);
}

#[test]
fn rotates_before_the_limit_and_keeps_three() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let line = json(&requests()[0]).unwrap().len() as u64 + 1;
    let mut sink = FileSink::with_limit(&path, 2 * line).unwrap();
    for _ in 0..11 {
        sink.append(&requests()).unwrap();
    }
    assert_eq!(sink.stats().rotations, 5);
    assert_eq!(lines(&path).len(), 1);
    for number in 1..=3 {
        assert_eq!(
            lines(&directory.path().join(format!("out.jsonl.{number}"))).len(),
            2
        );
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
}

#[test]
fn goes_on_from_the_length_it_finds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    FileSink::open(&path).unwrap().append(&requests()).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    let mut sink = FileSink::with_limit(&path, length + 1).unwrap();
    sink.append(&requests()).unwrap();
    assert_eq!(sink.stats().rotations, 1);
}

#[test]
fn names_and_counts_a_full_disk() {
    let mut sink = FileSink::open(Path::new("/dev/full")).unwrap();
    let error = sink.append(&[requests(), requests()].concat()).unwrap_err();
    assert!(matches!(error, FileError::Write { .. }));
    assert_eq!((sink.stats().lines, sink.stats().dropped), (0, 2));
    let last = sink.stats().last_error.clone().unwrap();
    assert!(
        last.contains("/dev/full") && last.contains("No space left"),
        "{last}"
    );
}

/// <https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/receiver/filelogreceiver>: the
/// default of `max_log_size`, which the receiver of OTLP files shares.
const COLLECTOR_LINE_BYTES: usize = 1024 * 1024;

#[test]
fn no_line_is_longer_than_what_a_collector_reads() {
    // Small numbers in many buckets are what grows most from protobuf to JSON.
    let buckets = ExponentialHistogram {
        buckets: vec![1; 160],
        ..histogram()
    };
    let points = (0..3000).map(|number| {
        let route = vec![text(
            "http.route",
            &format!("/users/{{id}}/orders/{number}"),
        )];
        point(route, PointValue::Exponential(buckets.clone()))
    });
    let snapshot = Snapshot {
        workloads: vec![server_points(workload("api"), points.collect())],
    };
    let (mut written, mut longest) = (0, 0);
    Encoder::new(template(), MAX_REQUEST_BYTES).each(
        &snapshot,
        LINE_REQUEST_BYTES,
        &mut |request| {
            written += points_in(&request);
            longest = longest.max(json(&request).unwrap().len());
        },
    );
    assert_eq!(written, snapshot.points());
    assert!(longest < COLLECTOR_LINE_BYTES, "{longest}");
    assert!(longest > COLLECTOR_LINE_BYTES / 4, "{longest}");
}

#[test]
fn names_a_file_that_cannot_be_opened() {
    let error = FileSink::open(Path::new("/nonexistent/out.jsonl")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/nonexistent/out.jsonl` could not be opened for appending"
    );
}

#[test]
fn writes_no_half_line_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let mut sink = FileSink::open(&path).unwrap();
    sink.append(&requests()).unwrap();
    // A descriptor that cannot be written stands in for a disk that is full.
    let file = fs::File::open(&path).unwrap();
    let healthy = std::mem::replace(&mut sink.file.as_mut().unwrap().file, file);
    sink.append(&requests()).unwrap_err();
    assert!(sink.stats().failing);
    sink.file.as_mut().unwrap().file = healthy;
    sink.append(&requests()).unwrap();
    assert_eq!(lines(&path).len(), 2);
    assert_eq!((sink.stats().lines, sink.stats().dropped), (2, 1));
    assert!(!sink.stats().failing && sink.stats().last_error.is_some());
}
