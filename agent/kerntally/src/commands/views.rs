//! `kerntally views suggest`: from the name of a metric that dashboards still ask for to the view that keeps it.

use serde_json::{Value, json};

use crate::cli::{Global, ViewsCommand};
use crate::failure::Failure;
use crate::output::{Format, print, print_json};

/// Runs the command.
pub(crate) fn run(global: &Global, command: &ViewsCommand) -> Result<(), Failure> {
    let ViewsCommand::Suggest { from, service } = command;
    let legacy = Legacy::parse(from).map_err(Failure::usage)?;
    let view = legacy.view(service.as_deref());
    match global.output {
        Format::Json => print_json(&json!({ "views": [view], "notes": legacy.notes() })),
        Format::Text => print(&legacy.to_yaml(&view)?),
    }
}

/// Who used to emit such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// OpenTelemetry before its conventions were stable.
    OldConvention,
    /// Micrometer.
    Micrometer,
    /// Client libraries of Prometheus, and everything else.
    Prometheus,
}

/// A name of earlier times, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Legacy {
    /// Without what Prometheus hangs on.
    name: String,
    unit: &'static str,
    instrument: &'static str,
    family: Family,
}

/// Last words of names with their units.
const UNITS: [(&str, &str); 14] = [
    ("seconds", "s"),
    ("second", "s"),
    ("secs", "s"),
    ("sec", "s"),
    ("s", "s"),
    ("milliseconds", "ms"),
    ("millis", "ms"),
    ("msec", "ms"),
    ("ms", "ms"),
    ("microseconds", "us"),
    ("micros", "us"),
    ("us", "us"),
    ("nanoseconds", "ns"),
    ("ns", "ns"),
];

/// What Prometheus hangs on to the parts of a histogram.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

const CLIENT: [&str; 6] = [
    "client", "outgoing", "outbound", "egress", "upstream", "fetch",
];
const DURATION: [&str; 8] = [
    "duration", "latency", "time", "timing", "elapsed", "response", "requests", "request",
];
const HTTP: [&str; 9] = [
    "http",
    "https",
    "request",
    "requests",
    "response",
    "responses",
    "api",
    "web",
    "rest",
];

impl Legacy {
    fn parse(given: &str) -> Result<Self, String> {
        let part = PARTS.iter().find_map(|part| given.strip_suffix(part));
        let name = part.unwrap_or(given).to_owned();
        let is_name = !name.is_empty()
            && name.len() <= 255
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-/:".contains(&byte));
        if !is_name {
            return Err(format!("expected the name of a metric, got `{given}`"));
        }
        let words = words(&name);
        let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
        if has(&["size", "bytes", "length"]) {
            return Err(format!(
                "`{given}` measures sizes, which kerntally does not"
            ));
        }
        if !has(&HTTP) {
            return Err(format!(
                "`{given}` does not say that it is about HTTP requests; expected a name such as http_request_duration_ms"
            ));
        }
        let is_client = has(&CLIENT);
        if has(&["active", "inflight", "in_flight", "flight", "concurrent"]) {
            return Self::active(name, is_client, given);
        }
        if has(&["total"]) || (given.ends_with("_count") && !has(&DURATION)) {
            return Err(format!(
                "`{given}` is a counter; the durations count too: rate(http_server_request_duration_seconds_count)"
            ));
        }
        if !has(&DURATION) {
            return Err(format!("`{given}` does not say that it measures durations"));
        }
        let instrument = if is_client {
            "http.client.request.duration"
        } else {
            "http.server.request.duration"
        };
        let family = family(&name, &words);
        let unit = unit(&words, family);
        if !["s", "ms"].contains(&unit) {
            return Err(format!(
                "`{given}` is in {unit}; views are in seconds or milliseconds"
            ));
        }
        Ok(Self {
            name,
            unit,
            instrument,
            family,
        })
    }

    fn active(name: String, is_client: bool, given: &str) -> Result<Self, String> {
        if is_client {
            return Err(format!(
                "`{given}` counts open requests of clients, which kerntally does not"
            ));
        }
        let words = words(&name);
        Ok(Self {
            family: family(&name, &words),
            name,
            unit: "",
            instrument: "http.server.active_requests",
        })
    }

    fn is_level(&self) -> bool {
        self.instrument == "http.server.active_requests"
    }

    /// Names that the family gave to attributes; what it did not have is dropped.
    fn attributes(&self) -> (Vec<&'static str>, Vec<(&'static str, &'static str)>) {
        let is_client = self.instrument.starts_with("http.client");
        let rename = match (self.family, is_client) {
            (Family::OldConvention, false) => vec![
                ("http.request.method", "http.method"),
                ("http.response.status_code", "http.status_code"),
                ("url.scheme", "http.scheme"),
                ("network.protocol.version", "net.protocol.version"),
            ],
            (Family::OldConvention, true) => vec![
                ("http.request.method", "http.method"),
                ("http.response.status_code", "http.status_code"),
                ("server.address", "net.peer.name"),
                ("server.port", "net.peer.port"),
                ("network.protocol.version", "net.protocol.version"),
            ],
            (Family::Micrometer, false) => vec![
                ("http.request.method", "method"),
                ("http.response.status_code", "status"),
                ("http.route", "uri"),
                ("error.type", "error"),
            ],
            (Family::Micrometer, true) => vec![
                ("http.request.method", "method"),
                ("http.response.status_code", "status"),
                ("server.address", "client.name"),
                ("error.type", "error"),
            ],
            (Family::Prometheus, false) => vec![
                ("http.request.method", "method"),
                ("http.response.status_code", "code"),
                ("http.route", "path"),
            ],
            (Family::Prometheus, true) => vec![
                ("http.request.method", "method"),
                ("http.response.status_code", "code"),
                ("server.address", "host"),
            ],
        };
        let all: &[&'static str] = match (self.is_level(), is_client) {
            (true, _) => &["http.request.method", "url.scheme"],
            (_, true) => &[
                "http.request.method",
                "http.response.status_code",
                "server.address",
                "server.port",
                "error.type",
                "network.protocol.version",
            ],
            (_, false) => &[
                "http.request.method",
                "http.route",
                "http.response.status_code",
                "url.scheme",
                "error.type",
                "network.protocol.version",
            ],
        };
        let is_kept = |key: &str| {
            rename.iter().any(|(from, _)| *from == key)
                || (self.family == Family::OldConvention && key == "http.route")
        };
        let drop = all.iter().copied().filter(|key| !is_kept(key)).collect();
        let rename = rename
            .into_iter()
            .filter(|(from, _)| all.contains(from))
            .collect();
        (drop, rename)
    }

    fn view(&self, service: Option<&str>) -> Value {
        let (drop, rename) = self.attributes();
        let rename: serde_json::Map<_, _> = rename
            .into_iter()
            .map(|(from, to)| (from.to_owned(), to.into()))
            .collect();
        let mut view = json!({
            "match": { "instrument": self.instrument },
            "name": self.name,
            "attributes": { "drop": drop, "rename": rename },
        });
        if let Some(service) = service {
            view["match"]["service"] = service.into();
        }
        if !self.is_level() {
            view["unit"] = self.unit.into();
            // Dashboards of that time ask for `_bucket` and `le`.
            view["aggregation"] = "explicit".into();
        }
        view
    }

    /// What to know before it is used.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let word = match self.unit {
            "s" => "seconds",
            "ms" => "milliseconds",
            _ => "",
        };
        let has_word = words(&self.name).iter().any(|last| last == word);
        if !word.is_empty() && !has_word && !self.name.contains('.') {
            notes.push(format!(
                "Prometheus hangs _{word} on to the name unless its translation_strategy (or add_metric_suffixes of a collector's exporter) says not to."
            ));
        }
        notes.push(match self.family {
            Family::OldConvention => {
                "Attributes are named as OpenTelemetry had them before its HTTP conventions were stable.".to_owned()
            }
            Family::Micrometer => "Attributes are named as Micrometer has them.".to_owned(),
            Family::Prometheus => {
                "Names of labels differ from library to library: compare them with your queries.".to_owned()
            }
        });
        if self.is_level() {
            notes.push(format!(
                "{} is emitted only when `attributes` lists it.",
                self.instrument
            ));
        }
        notes
    }

    fn to_yaml(&self, view: &Value) -> Result<String, Failure> {
        let mut lines: Vec<String> = self
            .notes()
            .iter()
            .map(|note| format!("# {note}"))
            .collect();
        let document = json!({ "views": [view] });
        lines.push(serde_saphyr::to_string(&document).map_err(anyhow::Error::from)?);
        Ok(lines.join("\n"))
    }
}

/// Words of a name in lower case, parted by separators and by capitals.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        let is_border = !letter.is_ascii_alphanumeric();
        if (is_border || (letter.is_ascii_uppercase() && was_lower)) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !is_border {
            word.push(letter.to_ascii_lowercase());
        }
        was_lower = letter.is_ascii_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn family(name: &str, words: &[String]) -> Family {
    let starts = |beginning: &[&str]| {
        words
            .iter()
            .map(String::as_str)
            .take(beginning.len())
            .eq(beginning.iter().copied())
    };
    let last_is_requests = words.iter().any(|word| word == "requests")
        && !words
            .iter()
            .any(|word| word == "duration" || word == "latency");
    if last_is_requests && (starts(&["http", "server"]) || starts(&["http", "client"])) {
        return Family::Micrometer;
    }
    let is_old = (starts(&["http", "server"]) || starts(&["http", "client"]))
        && (name.contains('.')
            || words
                .iter()
                .any(|word| word == "duration" || word == "active"));
    if is_old {
        return Family::OldConvention;
    }
    Family::Prometheus
}

fn unit(words: &[String], family: Family) -> &'static str {
    let last = words.last().map(String::as_str).unwrap_or_default();
    let named = UNITS.iter().find(|(word, _)| *word == last);
    match (named, family) {
        (Some((_, unit)), _) => unit,
        // Before the conventions were stable, durations were in milliseconds.
        (None, Family::OldConvention) => "ms",
        (None, _) => "s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources, View, ViewAggregation};

    fn parse(name: &str) -> Legacy {
        Legacy::parse(name).unwrap()
    }

    #[test]
    fn names_of_earlier_times_are_understood() {
        let server = "http.server.request.duration";
        let client = "http.client.request.duration";
        for (name, instrument, unit, family) in [
            ("http_request_duration_ms", server, "ms", Family::Prometheus),
            (
                "http_request_duration_seconds",
                server,
                "s",
                Family::Prometheus,
            ),
            (
                "http_request_duration_seconds_bucket",
                server,
                "s",
                Family::Prometheus,
            ),
            (
                "http_server_requests_seconds",
                server,
                "s",
                Family::Micrometer,
            ),
            ("http.server.requests", server, "s", Family::Micrometer),
            ("http.client.requests", client, "s", Family::Micrometer),
            ("http.server.duration", server, "ms", Family::OldConvention),
            (
                "http_server_duration_milliseconds_count",
                server,
                "ms",
                Family::OldConvention,
            ),
            ("http.client.duration", client, "ms", Family::OldConvention),
            ("httpRequestDurationMs", server, "ms", Family::Prometheus),
            ("request-latency-seconds", server, "s", Family::Prometheus),
            (
                "upstream_http_request_time",
                client,
                "s",
                Family::Prometheus,
            ),
            (
                "http_requests_in_flight",
                "http.server.active_requests",
                "",
                Family::Prometheus,
            ),
        ] {
            let legacy = parse(name);
            assert_eq!(
                (legacy.instrument, legacy.unit, legacy.family),
                (instrument, unit, family),
                "{name}"
            );
        }
        assert_eq!(
            parse("http_request_duration_seconds_bucket").name,
            "http_request_duration_seconds"
        );
    }

    #[test]
    fn what_cannot_be_kept_alive_is_said() {
        for (name, why) in [
            ("http_requests_total", "counter"),
            ("http_response_size_bytes", "sizes"),
            ("process_cpu_seconds", "HTTP"),
            ("go_gc_duration_seconds", "HTTP"),
            ("http_client_active_requests", "clients"),
            ("http_errors", "durations"),
            ("http_client_request_duration_us", "in us"),
            ("", "name of a metric"),
            ("a b", "name of a metric"),
            ("9http_request_duration", "name of a metric"),
        ] {
            let error = Legacy::parse(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn the_yaml_holds_the_view_that_was_meant() {
        let legacy = parse("http_request_duration_ms");
        let yaml = legacy.to_yaml(&legacy.view(Some("shop"))).unwrap();
        assert!(yaml.contains("_milliseconds"), "{yaml}");
        let view = &views_of(&yaml)[0];
        assert_eq!(view.name.as_deref(), Some("http_request_duration_ms"));
        assert_eq!(view.unit.as_deref(), Some("ms"));
        assert_eq!(view.r#match.service.as_deref(), Some("shop"));
        assert_eq!(view.aggregation, Some(ViewAggregation::Explicit));
        assert_eq!(view.attributes.rename["http.response.status_code"], "code");
        assert!(view.attributes.drop.contains(&"url.scheme".to_owned()));
        assert!(!view.attributes.drop.contains(&"http.route".to_owned()));
    }

    /// As `config validate` reads them.
    fn views_of(yaml: &str) -> Vec<View> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.yaml");
        std::fs::write(&path, yaml).unwrap();
        let loaded = config::load(&Sources {
            file: Some(path),
            ..Sources::default()
        });
        loaded.unwrap().config.views
    }

    #[test]
    fn every_suggestion_is_a_valid_configuration() {
        for name in [
            "http_request_duration_ms",
            "http_server_requests_seconds",
            "http.client.requests",
            "http.server.duration",
            "http.client.duration",
            "upstream_http_request_time",
            "http_requests_in_flight",
        ] {
            let legacy = parse(name);
            let yaml = legacy.to_yaml(&legacy.view(None)).unwrap();
            assert_eq!(views_of(&yaml).len(), 1, "{yaml}");
        }
    }

    #[test]
    fn suffixes_are_warned_about_only_where_they_would_be_doubled() {
        let has_note = |name: &str| {
            parse(name)
                .notes()
                .iter()
                .any(|note| note.contains("translation_strategy"))
        };
        assert!(has_note("http_request_duration_ms"));
        assert!(!has_note("http_request_duration_milliseconds"));
        assert!(!has_note("http_request_duration_seconds"));
    }
}
