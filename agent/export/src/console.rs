//! From snapshots to rows for people: a table for the terminal, or one JSON object a line.

mod quantile;

use std::collections::BTreeMap;

use kerntally_model::{
    Attribute, AttributeValue, Instrument, InstrumentSnapshot, Point, PointValue, Role, Snapshot,
    Temporality,
};
use serde::Serialize;

use crate::semconv::attribute;
use quantile::Distribution;

/// Name and version of the JSON that commands print.
pub const JSON_SCHEMA: &str = "kerntally/v1";

/// Longest cell; what is longer is cut in the middle of the table, never in JSON.
const CELL_CHARS: usize = 60;

/// What a row is about: a service, its side, and the route or the peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// `service.name`
    pub service: String,
    /// Side that was observed.
    pub role: Role,
    /// Route on servers, `address:port` of the peer on clients; `-` when there is none.
    pub route: String,
}

/// A row of the live table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// What it is about.
    pub key: RowKey,
    /// Exchanges since the series, or with delta points the window, began.
    pub count: u64,
    /// Of these with an `error.type`.
    pub errors: u64,
    /// Exchanges a second since the previous snapshot, or in the window; `None` at the first.
    pub rate: Option<f64>,
    /// Median in seconds.
    pub p50: Option<f64>,
    /// 95th percentile in seconds.
    pub p95: Option<f64>,
    /// 99th percentile in seconds.
    pub p99: Option<f64>,
}

/// Turns one snapshot after the other into rows, and remembers counts for the rates.
#[derive(Debug, Default)]
pub struct Table {
    previous: BTreeMap<RowKey, u64>,
    previous_unix_ns: Option<u64>,
}

#[derive(Default)]
struct Group {
    count: u64,
    errors: u64,
    distribution: Distribution,
    /// Length of the window that the counts are of, if they are of one.
    window: Option<f64>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    schema: &'static str,
    service: &'a str,
    role: &'static str,
    route: &'a str,
    count: u64,
    errors: u64,
    rate: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl Table {
    /// Rows of a snapshot, the busiest first.
    pub fn rows(&mut self, snapshot: &Snapshot) -> Vec<TableRow> {
        let groups = group(snapshot);
        let time = time_of(snapshot);
        let elapsed = seconds_between(self.previous_unix_ns, time);
        let mut rows: Vec<_> = groups
            .iter()
            .map(|(key, group)| {
                let before = self.previous.get(key).copied().unwrap_or(0);
                let rate = match group.window {
                    Some(seconds) => Some(rate(group.count, 0, seconds)),
                    None => elapsed.map(|seconds| rate(group.count, before, seconds)),
                };
                row(key, group, rate)
            })
            .collect();
        rows.sort_by(|a, b| {
            b.rate
                .unwrap_or(0.0)
                .total_cmp(&a.rate.unwrap_or(0.0))
                .then(b.count.cmp(&a.count))
        });
        self.previous = groups
            .into_iter()
            .map(|(key, group)| (key, group.count))
            .collect();
        self.previous_unix_ns = time.or(self.previous_unix_ns);
        rows
    }
}

/// A table with a head, columns aligned; empty without rows.
pub fn render(rows: &[TableRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "SERVICE", "ROLE", "ROUTE", "COUNT", "RATE/S", "ERRORS", "P50", "P95", "P99",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let mut widths = [0; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    lines
        .iter()
        .map(|line| render_line(line, &widths))
        .collect()
}

/// One JSON object a row, each with its line end.
pub fn json_lines(rows: &[TableRow]) -> String {
    let lines = rows.iter().filter_map(|row| {
        let row = JsonRow {
            schema: JSON_SCHEMA,
            service: &row.key.service,
            role: role_name(row.key.role),
            route: &row.key.route,
            count: row.count,
            errors: row.errors,
            rate: row.rate,
            p50: row.p50,
            p95: row.p95,
            p99: row.p99,
        };
        // Strings and numbers always have JSON.
        serde_json::to_string(&row).ok().map(|line| line + "\n")
    });
    lines.collect()
}

fn group(snapshot: &Snapshot) -> BTreeMap<RowKey, Group> {
    let mut groups: BTreeMap<RowKey, Group> = BTreeMap::new();
    for workload in &snapshot.workloads {
        for instrument in &workload.instruments {
            let Some(role) = role_of(instrument.instrument) else {
                continue;
            };
            for point in &instrument.points {
                let Some(count) = count_of(&point.value) else {
                    continue;
                };
                let service = workload.workload.name.clone();
                let key = RowKey {
                    service,
                    role,
                    route: route_of(point, role),
                };
                let group = groups.entry(key).or_default();
                group.count += count;
                if text(&point.attributes, attribute::ERROR_TYPE).is_some() {
                    group.errors += count;
                }
                group.distribution.add(&point.value, seconds_in(instrument));
                if instrument.temporality == Temporality::Delta {
                    let window =
                        seconds_between(Some(point.start_unix_ns), Some(point.time_unix_ns));
                    group.window = group.window.or(window);
                }
            }
        }
    }
    groups
}

fn count_of(value: &PointValue) -> Option<u64> {
    match value {
        PointValue::Exponential(histogram) => Some(histogram.count),
        PointValue::Explicit(histogram) => Some(histogram.count),
        PointValue::UpDown(_) | PointValue::NoRecordedValue => None,
    }
}

/// What one of an instrument's unit is in seconds: a view may have changed it.
fn seconds_in(instrument: &InstrumentSnapshot) -> f64 {
    let unit = instrument
        .renamed
        .as_ref()
        .map_or("s", |renamed| renamed.unit.as_ref());
    match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "min" => 60.0,
        _ => 1.0,
    }
}

fn row(key: &RowKey, group: &Group, rate: Option<f64>) -> TableRow {
    TableRow {
        key: key.clone(),
        count: group.count,
        errors: group.errors,
        rate,
        p50: group.distribution.quantile(0.50),
        p95: group.distribution.quantile(0.95),
        p99: group.distribution.quantile(0.99),
    }
}

/// Side whose durations an instrument measures.
fn role_of(instrument: Instrument) -> Option<Role> {
    match instrument {
        Instrument::HttpServerRequestDuration => Some(Role::Server),
        Instrument::HttpClientRequestDuration => Some(Role::Client),
        Instrument::HttpServerActiveRequests => None,
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Client => "client",
    }
}

fn route_of(point: &Point, role: Role) -> String {
    let attributes = &point.attributes;
    if text(attributes, attribute::OTEL_METRIC_OVERFLOW).is_some() {
        return "(overflow)".to_owned();
    }
    let name = match role {
        Role::Server => text(attributes, attribute::HTTP_ROUTE),
        Role::Client => text(attributes, attribute::SERVER_ADDRESS).map(|address| {
            match text(attributes, attribute::SERVER_PORT) {
                Some(port) => format!("{address}:{port}"),
                None => address,
            }
        }),
    };
    name.unwrap_or_else(|| "-".to_owned())
}

fn text(attributes: &[Attribute], key: &str) -> Option<String> {
    let (_, value) = attributes.iter().find(|(name, _)| *name == key)?;
    Some(match value {
        AttributeValue::Text(text) => text.as_ref().to_owned(),
        AttributeValue::Integer(integer) => integer.to_string(),
        AttributeValue::Boolean(boolean) => boolean.to_string(),
    })
}

fn time_of(snapshot: &Snapshot) -> Option<u64> {
    let instruments = snapshot
        .workloads
        .iter()
        .flat_map(|workload| &workload.instruments);
    instruments
        .flat_map(|instrument| &instrument.points)
        .map(|point| point.time_unix_ns)
        .max()
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn seconds_between(before: Option<u64>, now: Option<u64>) -> Option<f64> {
    let elapsed = now?.checked_sub(before?)?;
    (elapsed > 0).then(|| elapsed as f64 / 1e9)
}

/// A count that fell belongs to a series that began anew.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn rate(count: u64, before: u64, seconds: f64) -> f64 {
    count.checked_sub(before).unwrap_or(count) as f64 / seconds
}

fn cells(row: &TableRow) -> [String; 9] {
    [
        cut(&row.key.service),
        role_name(row.key.role).to_owned(),
        cut(&row.key.route),
        row.count.to_string(),
        row.rate
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
        row.errors.to_string(),
        duration(row.p50),
        duration(row.p95),
        duration(row.p99),
    ]
}

/// Names come from outside: control characters would reach the terminal.
fn cut(name: &str) -> String {
    let clean = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    if name.chars().count() <= CELL_CHARS {
        return name.chars().map(clean).collect();
    }
    let kept = name.chars().take(CELL_CHARS - 3).map(clean);
    kept.chain("...".chars()).collect()
}

fn duration(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1e-3 => format!("{:.0} us", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

/// Names to the left, numbers to the right.
fn render_line(line: &[String; 9], widths: &[usize; 9]) -> String {
    let padded = line
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| {
            if column < 3 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
    padded.collect::<Vec<_>>().join("  ") + "\n"
}

#[cfg(test)]
mod tests;
