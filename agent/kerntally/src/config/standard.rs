//! The `OTEL_*` variables, with the meaning the OpenTelemetry specification gives them.
//!
//! They stand above the file and below `KERNTALLY_*`. As the specification asks, a value that cannot be
//! understood is warned about and ignored.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::node::{Node, Origin};

/// What the variables say that is no key.
#[derive(Debug, Default)]
pub(crate) struct Standard {
    /// `OTEL_SERVICE_NAME`: names the agent itself, never what it watches.
    pub(crate) own_service_name: Option<String>,
    /// The endpoint came from the variable for metrics alone, which is used as it stands.
    pub(crate) endpoint_verbatim: bool,
}

/// Puts the variables into the tree.
pub(crate) fn apply(
    tree: &mut Node,
    variables: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Standard {
    let variables: HashMap<&str, &str> = variables
        .iter()
        .filter(|(name, value)| name.starts_with("OTEL_") && !value.trim().is_empty())
        .map(|(name, value)| (name.as_str(), value.trim()))
        .collect();
    let mut layer = Layer {
        tree,
        variables,
        warnings,
    };
    layer.metrics();
    layer.exemplars();
    layer.known_methods();
    layer.resource();
    let push_is_off = layer
        .tree
        .at(&["export", "otlp"])
        .is_some_and(Node::is_null);
    let endpoint_verbatim = !push_is_off && layer.otlp();
    Standard {
        own_service_name: layer
            .variables
            .get("OTEL_SERVICE_NAME")
            .map(|name| (*name).to_owned()),
        endpoint_verbatim,
    }
}

struct Layer<'a> {
    tree: &'a mut Node,
    variables: HashMap<&'a str, &'a str>,
    warnings: &'a mut Vec<String>,
}

impl<'a> Layer<'a> {
    fn metrics(&mut self) {
        self.millis("OTEL_METRIC_EXPORT_INTERVAL", &["export", "interval"]);
        self.choice(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            &["export", "temporality"],
            &[
                ("cumulative", "cumulative"),
                ("delta", "delta"),
                ("lowmemory", "lowmemory"),
            ],
        );
        self.choice(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            &["histogram", "type"],
            &[
                ("base2_exponential_bucket_histogram", "exponential"),
                ("explicit_bucket_histogram", "explicit"),
            ],
        );
    }

    fn exemplars(&mut self) {
        self.choice(
            "OTEL_METRICS_EXEMPLAR_FILTER",
            &["exemplars", "filter"],
            &[
                ("trace_based", "trace_based"),
                ("always_on", "always_on"),
                ("always_off", "always_off"),
            ],
        );
        let Some(text) = self.variables.get("OTEL_PROPAGATORS").copied() else {
            return;
        };
        let known = [
            "tracecontext",
            "jaeger",
            "xray",
            "ottrace",
            "datadog",
            "gcp",
        ];
        let mut headers = Vec::new();
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if matches!(name, "b3" | "b3multi") {
                // The specification has either read both, the single header first.
                headers.extend(["b3", "b3multi"].map(Value::from));
            } else if known.contains(&name) {
                headers.push(Value::from(name));
            } else if !matches!(name, "baggage" | "none") {
                self.warnings.push(format!(
                    "OTEL_PROPAGATORS: unknown propagator `{name}`, ignored"
                ));
            }
        }
        self.put(
            "OTEL_PROPAGATORS",
            &["exemplars", "headers"],
            Value::Array(headers),
        );
    }

    fn known_methods(&mut self) {
        let name = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS";
        let Some(text) = self.variables.get(name).copied() else {
            return;
        };
        let methods = text
            .split(',')
            .map(str::trim)
            .filter(|method| !method.is_empty());
        let methods = Value::Array(methods.map(Value::from).collect());
        self.put(name, &["http", "known_methods"], methods);
    }

    /// A base under every service: without `service.*`, which would name all of them alike.
    fn resource(&mut self) {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let Some(text) = self.variables.get(name).copied() else {
            return;
        };
        let Some(pairs) = self.pairs(name, text) else {
            return;
        };
        for (key, value) in pairs
            .into_iter()
            .filter(|(key, _)| !key.starts_with("service."))
        {
            self.put(
                name,
                &["resource", "attributes", &key],
                Value::String(value),
            );
        }
    }

    /// The push; whether its endpoint is to be used as it stands.
    fn otlp(&mut self) -> bool {
        self.endpoint_protocol();
        let verbatim = self.endpoint();
        if let Some((name, text)) = self.first("HEADERS")
            && let Some(pairs) = self.pairs(&name, text)
        {
            let headers: Map<_, _> = pairs
                .into_iter()
                .map(|(key, value)| (key.to_ascii_lowercase(), Value::String(value)))
                .collect();
            self.put(
                &name,
                &["export", "otlp", "headers"],
                Value::Object(headers),
            );
        }
        if let Some((name, _)) = self.first("TIMEOUT") {
            self.millis(&name, &["export", "otlp", "timeout"]);
        }
        if let Some((name, _)) = self.first("COMPRESSION") {
            let path = ["export", "otlp", "compression"];
            self.choice(&name, &path, &[("gzip", "gzip"), ("none", "none")]);
        }
        self.tls();
        verbatim
    }

    fn tls(&mut self) {
        let keys = [
            ("CERTIFICATE", "ca"),
            ("CLIENT_CERTIFICATE", "cert"),
            ("CLIENT_KEY", "key"),
        ];
        for (suffix, key) in keys {
            if let Some((name, text)) = self.first(suffix) {
                self.put(&name, &["export", "otlp", "tls", key], text.into());
            }
        }
    }

    fn endpoint(&mut self) -> bool {
        let Some((name, text)) = self.first("ENDPOINT") else {
            return false;
        };
        let insecure = self
            .first("INSECURE")
            .is_some_and(|(_, text)| text == "true");
        let endpoint = match (text.contains("://"), insecure) {
            (true, _) => text.to_owned(),
            (false, true) => format!("http://{text}"),
            (false, false) => format!("https://{text}"),
        };
        self.put(&name, &["export", "otlp", "endpoint"], endpoint.into());
        name.contains("_METRICS_")
    }

    /// Named, or told from the endpoint: port 4318 or a path means HTTP.
    fn endpoint_protocol(&mut self) {
        let path = ["export", "otlp", "protocol"];
        if let Some((name, _)) = self.first("PROTOCOL") {
            let names = ["grpc", "http/protobuf", "http/json"].map(|text| (text, text));
            self.choice(&name, &path, &names);
        } else if let Some((name, text)) = self.first("ENDPOINT") {
            let protocol = if speaks_http(text) {
                "http/protobuf"
            } else {
                "grpc"
            };
            self.put(&name, &path, protocol.into());
        }
    }

    /// The variable for metrics beats the one for all signals.
    fn first(&self, suffix: &str) -> Option<(String, &'a str)> {
        ["OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_"]
            .iter()
            .find_map(|prefix| {
                let name = format!("{prefix}{suffix}");
                self.variables
                    .get(name.as_str())
                    .map(|text| (name.clone(), *text))
            })
    }

    fn millis(&mut self, name: &str, path: &[&str]) {
        let Some(text) = self.variables.get(name).copied() else {
            return;
        };
        match text.parse::<u64>() {
            Ok(millis) if millis > 0 => self.put(name, path, format!("{millis}ms").into()),
            _ => self.warnings.push(format!(
                "{name}: expected milliseconds, got `{text}`, ignored"
            )),
        }
    }

    fn choice(&mut self, name: &str, path: &[&str], choices: &[(&str, &str)]) {
        let Some(text) = self.variables.get(name).copied() else {
            return;
        };
        let lower = text.to_ascii_lowercase();
        if let Some((_, value)) = choices.iter().find(|(choice, _)| *choice == lower) {
            self.put(name, path, (*value).into());
            return;
        }
        let expected: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        let expected = expected.join(", ");
        self.warnings.push(format!(
            "{name}: expected one of {expected}, got `{text}`, ignored"
        ));
    }

    /// `key=value,key=value`, values percent-encoded; one bad pair spoils the whole variable. Values are
    /// never quoted back: they may be credentials.
    fn pairs(&mut self, name: &str, text: &str) -> Option<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let parsed = item.split_once('=').and_then(|(key, value)| {
                let value = percent_encoding::percent_decode_str(value.trim());
                Some((
                    key.trim().to_owned(),
                    value.decode_utf8().ok()?.into_owned(),
                ))
            });
            let Some((key, value)) = parsed.filter(|(key, _)| !key.is_empty()) else {
                self.warnings
                    .push(format!("{name}: expected key=value,key=value; ignored"));
                return None;
            };
            pairs.push((key, value));
        }
        Some(pairs)
    }

    fn put(&mut self, name: &str, path: &[&str], value: Value) {
        let origin = Origin::Variable(name.to_owned());
        self.tree.set(path, Node::from_json(value, &origin));
    }
}

fn speaks_http(endpoint: &str) -> bool {
    let rest = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    authority.ends_with(":4318") || !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(file: &str, variables: &[(&str, &str)]) -> (Value, Vec<String>, Standard) {
        let mut tree = Node::parse(file).unwrap();
        let variables: Vec<_> = variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let mut warnings = Vec::new();
        let standard = apply(&mut tree, &variables, &mut warnings);
        (tree.to_json(), warnings, standard)
    }

    #[test]
    fn the_endpoint_tells_the_protocol() {
        for (endpoint, protocol) in [
            ("http://c:4317", "grpc"),
            ("http://c:4318", "http/protobuf"),
            ("http://c:4318/", "http/protobuf"),
            ("https://c/otlp", "http/protobuf"),
            ("https://c", "grpc"),
        ] {
            let (json, _, _) = applied("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
            assert_eq!(json["export"]["otlp"]["protocol"], protocol, "{endpoint}");
        }
    }

    #[test]
    fn metrics_variables_beat_general_ones() {
        let (json, _, standard) = applied(
            "",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
                (
                    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                    "http://metrics:4318/in",
                ),
                ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b, x = y "),
            ],
        );
        assert_eq!(json["export"]["otlp"]["endpoint"], "http://metrics:4318/in");
        assert_eq!(json["export"]["otlp"]["headers"]["api-key"], "a b");
        assert_eq!(json["export"]["otlp"]["headers"]["x"], "y");
        assert!(standard.endpoint_verbatim);
    }

    #[test]
    fn a_push_switched_off_in_the_file_stays_off() {
        let file = "export:\n  otlp: null\n";
        let (json, _, _) = applied(file, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]);
        assert_eq!(json["export"]["otlp"], Value::Null);
    }

    #[test]
    fn service_names_never_become_a_base() {
        let (json, _, standard) = applied(
            "",
            &[
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,team=core"),
                ("OTEL_SERVICE_NAME", "my-agent"),
            ],
        );
        assert_eq!(
            json["resource"]["attributes"],
            serde_json::json!({"team": "core"})
        );
        assert_eq!(standard.own_service_name.as_deref(), Some("my-agent"));
    }

    #[test]
    fn propagators_say_which_headers_are_read() {
        let read = |text| applied("", &[("OTEL_PROPAGATORS", text)]);
        let (json, warnings, _) = read("tracecontext, baggage,b3multi");
        let expected = serde_json::json!(["tracecontext", "b3", "b3multi"]);
        assert_eq!(json["exemplars"]["headers"], expected);
        assert!(warnings.is_empty(), "{warnings:?}");
        let (json, warnings, _) = read("nonsense,xray");
        assert_eq!(json["exemplars"]["headers"], serde_json::json!(["xray"]));
        assert_eq!(warnings.len(), 1);
        let (json, _, _) = read("none");
        assert_eq!(json["exemplars"]["headers"], serde_json::json!([]));
    }

    #[test]
    fn bad_values_are_warned_about_and_ignored() {
        let (json, warnings, _) = applied(
            "",
            &[
                ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ],
        );
        assert_eq!(json, serde_json::json!({}));
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(!warnings.concat().contains("hunter2"));
    }
}
