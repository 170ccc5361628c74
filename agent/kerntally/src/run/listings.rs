//! What the agent answers about series, routes, traffic and processes.

use std::collections::BTreeMap;

use kerntally_model::{AttributeValue, ProcessKey, Snapshot, Workload};
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
        let snapshot = self.pipeline.peek(clock::now());
        let mut attributes = attribute_uses(&snapshot);
        let services: Vec<_> = self
            .pipeline
            .services()
            .into_iter()
            .map(|row| {
                let key = identity(&row.workload);
                json!({
                    "name": row.workload.name,
                    "namespace": row.workload.namespace,
                    "version": row.workload.version,
                    "environment": row.workload.environment,
                    "live": row.usage.series,
                    "limit": row.series_limit,
                    "overflowed": row.usage.overflowed,
                    "attributes": attributes.remove(&key).unwrap_or_default(),
                })
            })
            .collect();
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

type Identity = (String, Option<String>, Option<String>, Option<String>);

fn identity(workload: &Workload) -> Identity {
    (
        workload.name.clone(),
        workload.namespace.clone(),
        workload.version.clone(),
        workload.environment.clone(),
    )
}

/// Attributes of each service's series, the one with the most values first.
fn attribute_uses(snapshot: &Snapshot) -> BTreeMap<Identity, Vec<Value>> {
    let mut uses = BTreeMap::new();
    for of_workload in &snapshot.workloads {
        let mut counts: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
        let points = of_workload
            .instruments
            .iter()
            .flat_map(|instrument| &instrument.points);
        for (key, value) in points.flat_map(|point| point.attributes.iter()) {
            let values = counts.entry(key).or_default();
            *values.entry(shown(value)).or_default() += 1;
        }
        let mut rows: Vec<(usize, &str, Value)> = counts
            .into_iter()
            .filter_map(|(name, values)| {
                let (value, series) = values.iter().max_by_key(|(_, series)| **series)?;
                let row = json!({
                    "name": name,
                    "values": values.len(),
                    "top_value": value,
                    "top_series": series,
                });
                Some((values.len(), name, row))
            })
            .collect();
        rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        let rows = rows.into_iter().map(|(_, _, row)| row).collect();
        uses.insert(identity(&of_workload.workload), rows);
    }
    uses
}

fn shown(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.as_ref().to_owned(),
        AttributeValue::Integer(number) => number.to_string(),
        AttributeValue::Boolean(truth) => truth.to_string(),
    }
}
