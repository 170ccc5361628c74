//! `kerntally cost`: what the agent's points come to downstream, and what they would.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::{Value, json};

use super::lint::requests_of;
use super::socket;
use crate::cli::{Cost as Arguments, Global};
use crate::control::{Request, client};
use crate::cost::{Bill, Change, Pushes, Terms, Unit};
use crate::failure::Failure;
use crate::lint::input::{Piece, pieces};
use crate::output::{Format, print, print_json};

/// The default time between pushes, where one push says nothing about it.
const INTERVAL: f64 = 15.0;

/// Rows of services that are shown to people.
const ROWS: usize = 20;

struct Source {
    name: String,
    pushes: Pushes,
    interval_seconds: Option<f64>,
    /// Series that a service may have, where that is known.
    limit: Option<u64>,
}

/// Runs the command.
pub(crate) fn cost(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let source = match &arguments.file {
        Some(path) => of_file(path)?,
        None => of_agent(global)?,
    };
    let given = arguments.interval.map(|span| span.0.as_secs_f64());
    let interval = given
        .or(source.interval_seconds)
        .or(source.pushes.interval_seconds())
        .unwrap_or(INTERVAL);
    let terms = Terms {
        nodes: arguments.nodes,
        unit: arguments.unit,
        price: arguments.price,
    };
    let now = source.pushes.bill(interval, &terms);
    let what_if: Vec<(&Change, Bill)> = arguments
        .what_if
        .iter()
        .map(|change| {
            let bill = source.pushes.after(change, interval, &terms, source.limit);
            (change, bill)
        })
        .collect();
    match global.output {
        Format::Json => print_json(&document(&source, &terms, &now, &what_if)),
        Format::Text => print(&text(&source, &terms, &now, &what_if)),
    }
}

fn of_file(path: &Path) -> Result<Source, Failure> {
    let shown = path.display().to_string();
    let unusable = |error: io::Error| Failure::usage(format!("cannot read {shown}: {error}"));
    let input: Box<dyn BufRead> = if shown == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(unusable)?))
    };
    let (mut pushes, mut requests, mut unreadable) = (Pushes::default(), 0_u64, None);
    pieces(input, |piece| match piece {
        Piece::Request { request, .. } => {
            requests += 1;
            pushes.add(&request);
        }
        Piece::OtherSignal | Piece::Truncated { .. } => {}
        Piece::Unreadable { line, reason } => {
            unreadable.get_or_insert_with(|| format!("{shown}:{line}: {reason}"));
        }
    })
    .map_err(unusable)?;
    if let Some(unreadable) = unreadable {
        return Err(Failure::usage(unreadable));
    }
    if requests == 0 {
        let expected = "expected ExportMetricsServiceRequests in JSON";
        return Err(Failure::usage(format!(
            "{shown}: holds nothing, {expected}"
        )));
    }
    Ok(Source {
        name: shown,
        pushes,
        interval_seconds: None,
        limit: None,
    })
}

fn of_agent(global: &Global) -> Result<Source, Failure> {
    let socket = socket(global)?;
    let answer = client::ask(&socket, &Request::Snapshot {})?;
    let mut pushes = Pushes::default();
    for (request, _) in requests_of(&answer)? {
        pushes.add(&request);
    }
    Ok(Source {
        name: socket.display().to_string(),
        pushes,
        interval_seconds: answer["interval_seconds"]
            .as_f64()
            .filter(|time| *time > 0.0),
        limit: answer["limits"]["per_service"].as_u64(),
    })
}

/// With two digits: more would be false precision.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn bill_json(bill: &Bill) -> Value {
    let node = &bill.node;
    json!({
        "interval_seconds": bill.interval_seconds,
        "series": node.series,
        "points_per_push": node.points,
        "points_per_minute": rounded(node.points_per_minute),
        "dpm": rounded(node.dpm),
        "custom_metrics": node.custom_metrics,
        "bytes_per_push": node.bytes_per_push.round(),
        "compressed_bytes_per_push": node.compressed_bytes_per_push.round(),
        "total_units": rounded(bill.units),
        "total_cost": bill.cost.map(rounded),
    })
}

fn document(source: &Source, terms: &Terms, now: &Bill, what_if: &[(&Change, Bill)]) -> Value {
    let services: Vec<_> = source
        .pushes
        .by_stream(now.interval_seconds)
        .into_iter()
        .map(|(stream, points, series)| {
            json!({
                "service": stream.service,
                "instrument": stream.instrument,
                "points_per_push": points,
                "series": series,
            })
        })
        .collect();
    let what_if: Vec<_> = what_if
        .iter()
        .map(|(change, bill)| {
            let mut row = bill_json(bill);
            row["change"] = change.to_string().into();
            row["capped_services"] = json!(bill.capped);
            row
        })
        .collect();
    json!({
        "source": source.name,
        "nodes": terms.nodes,
        "unit": terms.unit.name(),
        "price": terms.price.map(|price| json!({ "amount": price.amount, "per": price.per })),
        "now": bill_json(now),
        "what_if": what_if,
        "services": services,
    })
}

fn text(source: &Source, terms: &Terms, now: &Bill, what_if: &[(&Change, Bill)]) -> String {
    let unit = match terms.unit {
        Unit::Series => "SERIES",
        Unit::Dpm => "DPM",
        Unit::CustomMetrics => "CUSTOM METRICS",
    };
    let mut lines = vec![
        format!("{}, every {} s", source.name, now.interval_seconds),
        format!(
            "{:<28} {:>9} {:>11} {:>12} {:>11} {:>16} {:>12}",
            "ON ONE NODE",
            "SERIES",
            "POINTS/MIN",
            "BYTES/PUSH",
            "GZIPPED",
            format!("{unit} x {}", terms.nodes),
            "COST"
        ),
        row("now", now),
    ];
    for (change, bill) in what_if {
        lines.push(row(&change.to_string(), bill));
        if !bill.capped.is_empty() {
            lines.push(format!(
                "  cardinality.per_service would cut {}",
                bill.capped.join(", ")
            ));
        }
    }
    let services = source.pushes.by_stream(now.interval_seconds);
    lines.push(format!(
        "\n{:<40} {:<34} {:>9}",
        "SERVICE", "INSTRUMENT", "SERIES"
    ));
    for (stream, _, series) in services.iter().take(ROWS) {
        lines.push(format!(
            "{:<40} {:<34} {series:>9}",
            stream.service, stream.instrument
        ));
    }
    if services.len() > ROWS {
        lines.push(format!("and {} more", services.len() - ROWS));
    }
    lines.join("\n")
}

fn row(name: &str, bill: &Bill) -> String {
    let node = &bill.node;
    format!(
        "{name:<28} {:>9} {:>11.1} {:>12.0} {:>11.0} {:>16.1} {:>12}",
        node.series,
        node.points_per_minute,
        node.bytes_per_push,
        node.compressed_bytes_per_push,
        bill.units,
        bill.cost
            .map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}")),
    )
}
