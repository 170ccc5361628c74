//! What the agent answers about series, routes, traffic and processes.

use kerntally_model::{AttributeValue, ProcessKey, Snapshot};
use kerntally_pipeline::SeriesRow;
use kerntally_pipeline::route::RouteSource;
use kerntally_pipeline::traffic::{Traffic, TrafficRow};
use serde_json::{Value, json};

use super::agent::Agent;
use crate::clock;
use crate::control::Answer;
use crate::inspection::verdicts;
use crate::ledger::role_name;
use crate::output::with_schema;

/// Watchers of traffic that are told apart; the one that asked first is forgotten.
const WATCHERS: usize = 4;

/// Rows of traffic in an answer.
const TRAFFIC_ROWS: usize = 1000;

/// Those who watch traffic, each with what it has seen.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    list: Vec<(u64, Traffic)>,
}

impl Watchers {
    /// What a watcher has not seen yet; for a new one everything since `since_ns`.
    fn rows(&mut self, watcher: u64, snapshot: &Snapshot, since_ns: u64) -> Vec<TrafficRow> {
        let now = clock::now();
        let known = self.list.iter().position(|(id, _)| *id == watcher);
        let mut traffic = match known {
            Some(at) => self.list.remove(at).1,
            None => Traffic::new(kerntally_model::Time {
                monotonic_ns: since_ns,
                ..now
            }),
        };
        let rows = traffic.rows(snapshot, now);
        if self.list.len() >= WATCHERS {
            self.list.remove(0);
        }
        self.list.push((watcher, traffic));
        rows
    }
}

impl Agent {
    pub(super) fn series(&mut self) -> Answer {
        self.drain();
        let rows = self.pipeline.series(clock::now());
        let services: Vec<_> = rows.iter().map(series_json).collect();
        let document = json!({
            "total": {
                "live": self.pipeline.series_len(),
                "limit": self.loaded.config.cardinality.total,
            },
            "services": services,
        });
        Answer::Ok(with_schema(&document))
    }

    pub(super) fn routes(&mut self) -> Answer {
        self.drain();
        let routes: Vec<_> = self
            .pipeline
            .routes()
            .into_iter()
            .map(|row| {
                json!({
                    "service": row.workload.name,
                    "namespace": row.workload.namespace,
                    "role": role_name(row.role),
                    "template": &*row.route.template,
                    "source": match row.route.source {
                        RouteSource::Pattern => "pattern",
                        RouteSource::Learnt => "learnt",
                        RouteSource::Wildcard => "wildcard",
                    },
                    "exchanges": row.route.exchanges,
                })
            })
            .collect();
        Answer::Ok(with_schema(&json!({ "routes": routes })))
    }

    pub(super) fn traffic(&mut self, watcher: u64) -> Answer {
        self.drain();
        let snapshot = self.pipeline.peek(clock::now());
        let started = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let since = clock::now().monotonic_ns.saturating_sub(started);
        let rows: Vec<_> = self
            .watchers
            .rows(watcher, &snapshot, since)
            .into_iter()
            .take(TRAFFIC_ROWS)
            .map(|row| {
                json!({
                    "service": row.workload.name,
                    "namespace": row.workload.namespace,
                    "role": role_name(row.role),
                    "route": row.label.as_deref(),
                    "exchanges": row.exchanges,
                    "errors": row.errors,
                    "rate": row.rate,
                    "p50_seconds": row.p50,
                    "p95_seconds": row.p95,
                    "p99_seconds": row.p99,
                })
            })
            .collect();
        Answer::Ok(with_schema(&json!({ "traffic": rows })))
    }

    /// What the configuration in force says of a process. The command has looked it up: that may take long, and
    /// must not hold up the loop.
    pub(super) fn explain(&mut self, process: ProcessKey, ports: &[u16]) -> Answer {
        let verdicts = verdicts(ports, |port, role| {
            self.pipeline.explain(process, port, role).verdict
        });
        Answer::Ok(with_schema(&json!({ "verdicts": verdicts })))
    }
}

fn series_json(row: &SeriesRow) -> Value {
    let overflowed: Vec<_> = row
        .overflowed
        .iter()
        .map(|(metric, exchanges)| json!({ "metric": metric, "exchanges": exchanges }))
        .collect();
    let attributes: Vec<_> = row
        .attributes
        .iter()
        .map(|attribute| {
            json!({
                "name": attribute.name,
                "values": attribute.distinct,
                "top_value": shown(&attribute.top_value),
                "top_series": attribute.top_series,
            })
        })
        .collect();
    json!({
        "name": row.workload.name,
        "namespace": row.workload.namespace,
        "version": row.workload.version,
        "environment": row.workload.environment,
        "live": row.usage.series,
        "limit": row.limit,
        "guaranteed": row.guaranteed,
        "created_last_hour": row.usage.created,
        "overflowed": row.usage.overflowed,
        "overflowed_by_metric": overflowed,
        "attributes": attributes,
        "hosts": { "live": row.hosts.0, "limit": row.hosts.1 },
    })
}

fn shown(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.as_ref().to_owned(),
        AttributeValue::Integer(number) => number.to_string(),
        AttributeValue::Boolean(truth) => truth.to_string(),
    }
}
