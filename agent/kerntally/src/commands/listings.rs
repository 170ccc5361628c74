//! Commands that list what the running agent has: series, routes, processes.

use std::collections::BTreeMap;
use std::path::Path;

use kerntally_pipeline::route::PatternSet;
use serde_json::{Value, json};

use super::running::{ask_and_show, show, text};
use super::socket;
use crate::cli::{Explain, Global, RoutesCommand};
use crate::config;
use crate::control::{Request, client};
use crate::failure::Failure;
use crate::inspection::{self, Inspection, listeners};
use crate::output::{Format, print, print_json};
use crate::pods::{self, PodName};

/// Patterns that are suggested.
const SUGGESTED: usize = 500;

/// `kerntally series`
pub(crate) fn series(global: &Global) -> Result<(), Failure> {
    ask_and_show(global, &Request::Series {}, render_series)
}

/// `kerntally routes`
pub(crate) fn routes(global: &Global, command: Option<&RoutesCommand>) -> Result<(), Failure> {
    let Some(RoutesCommand::Suggest { service }) = command else {
        return ask_and_show(global, &Request::Routes {}, render_routes);
    };
    let document = client::ask(&socket(global)?, &Request::Routes {})?;
    let suggestions = suggest(&document, service.as_deref());
    match global.output {
        Format::Json => {
            let patterns: Vec<_> = suggestions.iter().map(Suggestion::to_json).collect();
            print_json(&json!({ "patterns": patterns }))
        }
        Format::Text => print(&to_yaml(&suggestions)),
    }
}

/// `kerntally explain`
pub(crate) fn explain(global: &Global, arguments: &Explain) -> Result<(), Failure> {
    let pod = arguments.pod.as_deref().map(PodName::parse);
    let pod = pod
        .transpose()
        .map_err(|error| Failure::usage(format!("--pod: {error}")))?;
    let socket = socket(global)?;
    let host = config::load(&config::sources(global, &[]))?.config.host;
    let pids = match (arguments.pid, pod) {
        (Some(pid), _) => vec![pid],
        (None, Some(pod)) => pods::processes(&host.proc, &pod).map_err(anyhow::Error::from)?,
        (None, None) => listeners_or_none(&host.proc, arguments.port.unwrap_or_default())?,
    };
    let mut processes = Vec::new();
    for pid in pids {
        let inspection = Inspection::of(&host.proc, pid).map_err(anyhow::Error::from)?;
        let request = Request::Explain {
            tgid: inspection.process.tgid,
            start_ns: inspection.process.start_ns,
            ports: inspection.listed_ports(),
        };
        let answer = client::ask(&socket, &request)?;
        let verdicts = answer["verdicts"].as_array().cloned().unwrap_or_default();
        processes.push(inspection.to_json(&verdicts));
    }
    show(global, &json!({ "processes": processes }), |document| {
        let processes = document["processes"].as_array().into_iter().flatten();
        let rendered: Vec<_> = processes.map(inspection::render).collect();
        rendered.join("\n")
    })
}

fn listeners_or_none(root: &Path, port: u16) -> Result<Vec<u32>, Failure> {
    let pids = listeners(root, port);
    if pids.is_empty() {
        return Err(Failure::failed(format!(
            "no process listens on port {port}, or its files may not be read"
        )));
    }
    Ok(pids)
}

fn service_of(row: &Value, key: &str) -> String {
    match row["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", text(&row[key])),
        None => text(&row[key]),
    }
}

fn render_series(document: &Value) -> String {
    let total = &document["total"];
    let mut lines = vec![
        format!(
            "{} of {} series",
            text(&total["live"]),
            text(&total["limit"])
        ),
        format!(
            "{:<32} {:>8} {:>8} {:>10} {:>9}  MOST VALUES",
            "SERVICE", "LIVE", "LIMIT", "OVERFLOWED", "NEW/HOUR"
        ),
    ];
    for row in document["services"].as_array().into_iter().flatten() {
        let attributes = row["attributes"].as_array().into_iter().flatten();
        let most: Vec<_> = attributes
            .take(2)
            .map(|attribute| {
                format!(
                    "{} {} ({} in {})",
                    text(&attribute["name"]),
                    text(&attribute["values"]),
                    text(&attribute["top_value"]),
                    text(&attribute["top_series"])
                )
            })
            .collect();
        lines.push(format!(
            "{:<32} {:>8} {:>8} {:>10} {:>9}  {}",
            service_of(row, "name"),
            text(&row["live"]),
            text(&row["limit"]),
            text(&row["overflowed"]),
            text(&row["created_last_hour"]),
            most.join(", ")
        ));
    }
    lines.join("\n")
}

fn render_routes(document: &Value) -> String {
    let mut lines = vec![format!(
        "{:<32} {:<6} {:<8} {:>10}  TEMPLATE",
        "SERVICE", "ROLE", "SOURCE", "EXCHANGES"
    )];
    for row in document["routes"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{:<32} {:<6} {:<8} {:>10}  {}",
            service_of(row, "service"),
            text(&row["role"]),
            text(&row["source"]),
            text(&row["exchanges"]),
            text(&row["template"])
        ));
    }
    lines.join("\n")
}

/// A pattern for the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suggestion {
    pattern: String,
    exchanges: u64,
    services: Vec<String>,
}

impl Suggestion {
    fn to_json(&self) -> Value {
        json!({
            "pattern": self.pattern,
            "exchanges": self.exchanges,
            "services": self.services,
        })
    }
}

/// Learnt templates as patterns that can stand side by side, the busiest first.
fn suggest(document: &Value, service: Option<&str>) -> Vec<Suggestion> {
    let mut by_pattern: BTreeMap<String, Suggestion> = BTreeMap::new();
    for row in document["routes"].as_array().into_iter().flatten() {
        let name = service_of(row, "service");
        let is_wanted = service.is_none_or(|wanted| wanted == name || row["service"] == wanted);
        let pattern = row["template"].as_str().and_then(pattern_of);
        let (true, true, Some(pattern)) = (is_wanted, row["source"] == "learnt", pattern) else {
            continue;
        };
        let entry = by_pattern.entry(pattern.clone()).or_insert(Suggestion {
            pattern,
            exchanges: 0,
            services: Vec::new(),
        });
        entry.exchanges += row["exchanges"].as_u64().unwrap_or_default();
        if !entry.services.contains(&name) {
            entry.services.push(name);
        }
    }
    let mut all: Vec<Suggestion> = by_pattern.into_values().collect();
    all.sort_by(|a, b| {
        b.exchanges
            .cmp(&a.exchanges)
            .then_with(|| a.pattern.cmp(&b.pattern))
    });
    let mut kept: Vec<Suggestion> = Vec::new();
    for suggestion in all {
        if kept.len() >= SUGGESTED {
            break;
        }
        // Two that match the same paths are refused by the configuration: the busier one stays.
        let patterns = kept.iter().chain([&suggestion]);
        if PatternSet::parse(patterns.map(|kept| kept.pattern.as_str())).is_ok() {
            kept.push(suggestion);
        }
    }
    kept
}

/// A template in the syntax of patterns; `None` for what stands for everything.
fn pattern_of(template: &str) -> Option<String> {
    let template = match template.strip_suffix("/**") {
        Some("") => return None,
        Some(directory) => format!("{directory}/{{rest...}}"),
        None => template.to_owned(),
    };
    let is_path = template.starts_with('/') && !template.contains('*');
    is_path.then_some(template)
}

fn to_yaml(suggestions: &[Suggestion]) -> String {
    if suggestions.is_empty() {
        return "# no templates were learnt yet\nroutes:\n  patterns: []".to_owned();
    }
    let mut lines = vec![
        "# Templates learnt from traffic, the busiest first; parameters may be renamed.".to_owned(),
        "routes:".to_owned(),
        "  patterns:".to_owned(),
    ];
    for suggestion in suggestions {
        lines.push(format!(
            "    - {}  # {} exchanges: {}",
            Value::from(suggestion.pattern.as_str()),
            suggestion.exchanges,
            suggestion
                .services
                .join(", ")
                .replace(|c: char| c.is_control(), " ")
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn routes() -> Value {
        let row = |service: &str, template: &str, source: &str, exchanges: u64| {
            json!({ "service": service, "namespace": null, "role": "server",
                "template": template, "source": source, "exchanges": exchanges })
        };
        json!({ "routes": [
            row("api", "/users/{id}", "learnt", 5),
            row("shop", "/users/{uuid}", "learnt", 3),
            row("api", "/users/{id}/orders", "learnt", 70),
            row("shop", "/users/{id}", "learnt", 1),
            row("api", "/a\"b:c/{token}", "learnt", 2),
            row("api", "/deep/er/**", "learnt", 4),
            row("api", "/**", "wildcard", 100),
            row("api", "/given/{id}", "pattern", 100),
            row("api", "*", "learnt", 9),
            row("api", "/", "learnt", 1),
        ] })
    }

    #[test]
    fn learnt_templates_become_patterns() {
        let patterns: Vec<_> = suggest(&routes(), None)
            .into_iter()
            .map(|suggestion| (suggestion.pattern, suggestion.exchanges))
            .collect();
        let expected = [
            ("/users/{id}/orders", 70),
            ("/users/{id}", 6),
            ("/deep/er/{rest...}", 4),
            ("/a\"b:c/{token}", 2),
            ("/", 1),
        ];
        let expected: Vec<_> = expected
            .map(|(pattern, exchanges)| (pattern.to_owned(), exchanges))
            .into();
        assert_eq!(patterns, expected);
        assert_eq!(suggest(&routes(), Some("shop")).len(), 1);
        assert_eq!(suggest(&json!({}), None), []);
    }

    #[test]
    fn the_suggested_yaml_is_a_valid_configuration() {
        let dir = tempfile::tempdir().unwrap();
        for document in [routes(), json!({})] {
            let path = dir.path().join("k.yaml");
            std::fs::write(&path, to_yaml(&suggest(&document, None))).unwrap();
            let loaded = config::load(&Sources {
                file: Some(path),
                ..Sources::default()
            })
            .unwrap();
            let count = suggest(&document, None).len();
            assert_eq!(loaded.config.routes.patterns.len(), count);
        }
    }

    #[test]
    fn tables_have_a_row_for_each() {
        let text = render_routes(&routes());
        assert_eq!(text.lines().count(), 11);
        let series = json!({
            "total": { "live": 3, "limit": 10 },
            "services": [{ "name": "api", "namespace": "shop", "live": 3, "limit": 5, "overflowed": 0,
                "created_last_hour": 2,
                "attributes": [{ "name": "http.route", "values": 3, "top_value": "/", "top_series": 1 }] }],
        });
        let text = render_series(&series);
        assert!(text.starts_with("3 of 10 series"), "{text}");
        assert!(
            text.contains("shop/api") && text.contains("http.route 3 (/ in 1)"),
            "{text}"
        );
    }
}
