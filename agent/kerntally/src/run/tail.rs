//! Exchanges as they pass, for `kerntally tail`: kept only while somebody asks.

use std::time::{Duration, Instant};

use kerntally_model::AttributeValue;
use kerntally_pipeline::Passed;
use serde_json::{Map, Value, json};

use super::agent::Agent;
use crate::control::Answer;
use crate::ledger::role_name;
use crate::output::with_schema;

/// Exchanges in one answer; the watcher asks for the rest.
const ROWS: usize = 500;

/// A watcher that has not asked for so long is gone.
const GONE: Duration = Duration::from_secs(5);

/// What a watcher wants to see.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) raw_path: bool,
    pub(super) service: Option<String>,
    pub(super) status: Option<String>,
    pub(super) slower_ns: u64,
}

impl Wanted {
    fn takes(&self, passed: &Passed) -> bool {
        let name = &passed.workload.name;
        let is_service = self.service.as_ref().is_none_or(|service| {
            let namespace = passed.workload.namespace.as_deref();
            service == name
                || namespace.is_some_and(|namespace| *service == format!("{namespace}/{name}"))
        });
        let is_status = self.status.as_ref().is_none_or(|wanted| {
            let status = passed.status.map(|status| status.to_string());
            status.is_some_and(|status| match wanted.strip_suffix("xx") {
                Some(class) => status.len() == 3 && status.starts_with(class),
                None => status == *wanted,
            })
        });
        is_service && is_status && passed.duration_ns >= self.slower_ns
    }
}

impl Agent {
    pub(super) fn tail(&mut self, from: Option<u64>, wanted: &Wanted) -> Answer {
        self.drain();
        self.tail_asked = Some(Instant::now());
        let tap = self.pipeline.tap();
        if !tap.is_open() || wanted.raw_path {
            tap.open(wanted.raw_path);
        }
        let from = from.unwrap_or_else(|| tap.next());
        let (passed, missed) = tap.since(from);
        let mut rows = Vec::new();
        let mut next = from.saturating_add(missed);
        for passed in passed {
            if rows.len() >= ROWS {
                break;
            }
            next += 1;
            if wanted.takes(passed) {
                rows.push(row(passed, wanted.raw_path));
            }
        }
        let document = json!({ "exchanges": rows, "next": next, "missed": missed });
        Answer::Ok(with_schema(&document))
    }

    /// Keeps nothing any more once nobody asks.
    pub(super) fn end_tail(&mut self) {
        if self.tail_asked.is_some_and(|asked| asked.elapsed() > GONE) {
            self.tail_asked = None;
            self.pipeline.tap().close();
        }
    }
}

fn row(passed: &Passed, with_path: bool) -> Value {
    let attributes: Map<String, Value> = passed
        .attributes
        .iter()
        .map(|(key, value)| (String::from(&**key), json_of(value)))
        .collect();
    let find = |keys: &[&str]| keys.iter().find_map(|key| attributes.get(*key)).cloned();
    #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
    let seconds = passed.duration_ns as f64 / 1e9;
    let mut row = json!({
        "time_unix_nano": passed.end_unix_ns,
        "service": passed.workload.name,
        "namespace": passed.workload.namespace,
        "role": role_name(passed.role),
        "method": find(&["http.request.method"]),
        "route": find(&["http.route", "url.template"]),
        "server_address": find(&["server.address"]),
        "status": passed.status,
        "error_type": find(&["error.type"]),
        "duration_seconds": seconds,
        "attributes": attributes,
    });
    if with_path {
        row["path"] = json!(passed.path);
    }
    row
}

fn json_of(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Text(text) => text.as_ref().into(),
        AttributeValue::Integer(number) => (*number).into(),
        AttributeValue::Boolean(truth) => (*truth).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use kerntally_model::{NameSource, Role, Workload};

    use super::*;

    fn passed() -> Passed {
        let text = |value: &str| AttributeValue::Text(value.into());
        Passed {
            workload: Arc::new(Workload {
                name: "api".to_owned(),
                namespace: Some("shop".to_owned()),
                version: None,
                environment: None,
                attributes: Vec::new(),
                named_by: NameSource::Unit,
            }),
            role: Role::Server,
            end_unix_ns: 1_700_000_000_000_000_000,
            duration_ns: 1_500_000,
            status: Some(503),
            attributes: vec![
                (Cow::Borrowed("http.request.method"), text("GET")),
                (Cow::Borrowed("http.route"), text("/a")),
            ]
            .into(),
            path: Some("/a/1".to_owned()),
        }
    }

    fn wanted(service: Option<&str>, status: Option<&str>, slower_ns: u64) -> Wanted {
        Wanted {
            raw_path: false,
            service: service.map(str::to_owned),
            status: status.map(str::to_owned),
            slower_ns,
        }
    }

    #[test]
    fn filters_choose_by_service_status_and_duration() {
        let takes = |service, status, slower| wanted(service, status, slower).takes(&passed());
        assert!(takes(None, None, 0));
        assert!(takes(Some("api"), Some("5xx"), 1_500_000));
        assert!(takes(Some("shop/api"), Some("503"), 0));
        assert!(!takes(Some("other"), None, 0));
        assert!(!takes(None, Some("4xx"), 0));
        assert!(!takes(None, Some("500"), 0));
        assert!(!takes(None, None, 1_500_001));
    }

    #[test]
    fn a_row_has_the_path_only_if_it_was_asked_for() {
        let shown = row(&passed(), false);
        assert_eq!(shown["route"], "/a");
        assert_eq!(shown["duration_seconds"], 0.0015);
        assert!(shown.get("path").is_none());
        assert_eq!(row(&passed(), true)["path"], "/a/1");
    }
}
