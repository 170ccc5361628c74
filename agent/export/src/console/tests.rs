use kerntally_model::{
    ExplicitHistogram, Instrument, MetricName, PointValue, Snapshot, Temporality,
};

use super::{Table, json_lines, render};
use crate::fixture::{
    TIME_UNIX_NS, histogram, measured, point, server_points, snapshot, text, workload,
};

fn later(mut snapshot: Snapshot, seconds: u64, times: u64) -> Snapshot {
    let instruments = snapshot
        .workloads
        .iter_mut()
        .flat_map(|workload| &mut workload.instruments);
    for point in instruments.flat_map(|instrument| &mut instrument.points) {
        point.time_unix_ns = TIME_UNIX_NS + seconds * 1_000_000_000;
        if let PointValue::Exponential(histogram) = &mut point.value {
            histogram.count *= times;
        }
    }
    snapshot
}

#[test]
fn draws_an_aligned_table() {
    let mut table = Table::default();
    table.rows(&snapshot());
    insta::assert_snapshot!(render(&table.rows(&later(snapshot(), 10, 2))));
}

#[test]
fn writes_one_object_a_row() {
    let lines = json_lines(&Table::default().rows(&snapshot()));
    let rows: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    let client = rows.iter().find(|row| row["role"] == "client").unwrap();
    assert_eq!(client["schema"], "kerntally/v1");
    assert_eq!(client["route"], "db.internal:8080");
    assert_eq!(
        (client["count"].as_u64(), client["errors"].as_u64()),
        (Some(7), Some(7))
    );
    assert!(client["rate"].is_null());
}

#[test]
fn counts_the_rate_since_the_snapshot_before() {
    let mut table = Table::default();
    assert!(table.rows(&snapshot()).iter().all(|row| row.rate.is_none()));
    let rows = table.rows(&later(snapshot(), 7, 3));
    assert!(rows.iter().all(|row| row.rate == Some(2.0)), "{rows:?}");
    let rows = table.rows(&later(snapshot(), 14, 1));
    assert!(
        rows.iter().all(|row| row.rate == Some(1.0)),
        "series began anew: {rows:?}"
    );
}

#[test]
fn adds_up_methods_and_statuses_of_a_route() {
    let points = ["GET", "POST"].map(|method| {
        let attributes = vec![
            text("http.request.method", method),
            text("http.route", "/a"),
        ];
        point(attributes, PointValue::Exponential(histogram()))
    });
    let snapshot = Snapshot {
        workloads: vec![server_points(workload("api"), points.into())],
    };
    let rows = Table::default().rows(&snapshot);
    assert_eq!((rows.len(), rows[0].count), (1, 14));
}

#[test]
fn finds_quantiles_within_the_resolution_across_scales() {
    let fine = kerntally_model::ExponentialHistogram {
        count: 99,
        sum: 1.0,
        min: Some(0.009),
        max: Some(0.011),
        scale: 8,
        zero_count: 0,
        // floor(log2(0.01) * 2^8)
        offset: -1701,
        buckets: vec![99],
    };
    let coarse = kerntally_model::ExponentialHistogram {
        count: 2,
        sum: 4.0,
        min: Some(1.9),
        max: Some(2.1),
        scale: 3,
        zero_count: 0,
        offset: 7,
        buckets: vec![1, 1],
    };
    let points =
        [fine, coarse].map(|histogram| point(Vec::new(), PointValue::Exponential(histogram)));
    let snapshot = Snapshot {
        workloads: vec![server_points(workload("api"), points.into())],
    };
    let row = &Table::default().rows(&snapshot)[0];
    assert!((row.p50.unwrap() / 0.01 - 1.0).abs() < 0.1, "{row:?}");
    assert!((row.p99.unwrap() / 2.0 - 1.0).abs() < 0.1, "{row:?}");
}

#[test]
fn shows_views_and_windows_in_seconds_and_rates() {
    let mut milliseconds = measured(
        Instrument::HttpServerRequestDuration,
        vec![point(
            Vec::new(),
            PointValue::Explicit(ExplicitHistogram {
                count: 30,
                sum: 600.0,
                min: Some(10.0),
                max: Some(200.0),
                boundaries: [20.0, 40.0].into(),
                buckets: vec![0, 20, 10],
            }),
        )],
    );
    milliseconds.temporality = Temporality::Delta;
    milliseconds.renamed = Some(MetricName {
        name: "legacy".into(),
        unit: "ms".into(),
    });
    let mut workload = server_points(workload("api"), Vec::new());
    workload.instruments = vec![milliseconds];
    let snapshot = Snapshot {
        workloads: vec![workload],
    };
    let mut table = Table::default();
    for _ in 0..2 {
        let row = table.rows(&snapshot).remove(0);
        assert_eq!(row.count, 30);
        for (found, expected) in [(row.p50, 0.03), (row.p99, 0.12)] {
            assert!((found.unwrap() - expected).abs() < 1e-9, "{row:?}");
        }
        let rate = row.rate.unwrap();
        assert!((rate - 2.0).abs() < 1e-6, "{rate}");
    }
}

#[test]
fn keeps_control_characters_from_the_terminal() {
    let evil = server_points(
        workload("a\u{1b}[2J"),
        vec![point(Vec::new(), PointValue::Exponential(histogram()))],
    );
    let table = render(&Table::default().rows(&Snapshot {
        workloads: vec![evil],
    }));
    assert!(!table.contains('\u{1b}'));
}

#[test]
fn draws_nothing_without_rows() {
    assert_eq!(render(&[]), "");
    assert_eq!(json_lines(&[]), "");
}
