//! From the declarations of all instruments to the page that documents them.

use std::fmt::Write as _;

use crate::{
    pull,
    selfmetrics::{COUNTERS, GAUGES, SEEN, SelfInstrument},
    semconv::{
        SCHEMA_URL, SCOPE_NAME, attribute,
        metric::{self, Declaration, Kind, Level},
        resource,
    },
};

/// The page `docs/metrics.md`.
pub fn page() -> String {
    let mut page = HEAD
        .replace("{SCHEMA_URL}", SCHEMA_URL)
        .replace("{SCOPE_NAME}", SCOPE_NAME);
    for instrument in metric::ALL {
        section(&mut page, &metric::declaration(instrument));
    }
    page.push_str(&POINTS.replace("{OVERFLOW}", attribute::OTEL_METRIC_OVERFLOW));
    resources(&mut page);
    page.push_str(&PULL.replace("{LISTEN}", &pull::DEFAULT_LISTEN.to_string()));
    page.push_str(&DEVIATIONS.replace("{STATUS_CLASS}", attribute::HTTP_RESPONSE_STATUS_CLASS));
    own(&mut page);
    page
}

const HEAD: &str = "\
# Metrics

<!-- Written by `cargo xtask docs` from the declarations in agent/export; changes belong there. -->

Names, units, kinds and attributes are those of OpenTelemetry's semantic conventions, schema
`{SCHEMA_URL}`, verbatim. Everything said about watched services is in the scope `{SCOPE_NAME}`,
everything the agent says about itself in `kerntally/self`.

What is a default and what is opt-in can be changed by `attributes` in the configuration: it lists, per instrument,
what its points carry. An attribute that does not exist is an error. Where no attribute is listed here, none can be
had: nothing of a query string, a header or a body ever becomes one.
";

const POINTS: &str = "
## Values of `error.type`

| value | when |
|---|---|
| the status code, such as `503` | on servers from 500 up, on clients from 400 up |
| `truncated_response` | the response was cut short; its status stays |
| `client_disconnected` | on servers: no status, and the peer closed or reset first |
| `no_response` | no status, and the server closed first |
| `connection_reset` | on clients: no status, and the connection was reset |
| `process_exit` | no status, and the process ended |

Absent on success, and on clients that closed before there was a status.

## Values of `server.address` and `server.port`

On clients, as the request says it: the target's authority, else `Host`, in lower case and at most 64 bytes; the port is the
scheme's where none is given. Without a `Host` it is the peer's address and port (IPv4 mapped into IPv6 is IPv4), and on Unix
sockets the name that the peer is bound to: its path, or `@` and an abstract name, and no port. It is absent where the peer
has no name, and where this process closed the socket before the response was over.

## Points

- Histograms are base-2 exponential ones, at most 160 buckets, with min and max. `histogram.type: explicit` has
  explicit buckets instead; never both under one name.
- `export.temporality: cumulative` (default): a series starts at the collection before its first measurement. Idle for
  `cardinality.idle_ttl`, it ends with a point that has the no-recorded-value flag, sent until it is accepted; if it
  comes back it has a new start.
- `delta`: every point is of the time since the collection before. A batch that is not answered is sent again byte for
  byte until it is, or until `export.delta_hold` has passed: then it is dropped and counted in
  `kerntally.export.points_dropped`. What is measured meanwhile is one later point. Up-and-down counters stay
  cumulative. `lowmemory` is the same.
- Exemplars carry the measurement itself, the time at which it ended and the trace of the request's headers; on
  clients the span too. They have no further attributes, and each is sent once.
- Past a limit of `cardinality`, measurements go to a series with nothing but `{OVERFLOW}: true`.
- Every workload is one resource. A request is split below `export.otlp.max_request`.

## Resource
";

const PULL: &str = "
## Prometheus

`export.prometheus.listen` (`--export prometheus` without one: `{LISTEN}`) serves `/metrics`: native histograms with
exemplars over protobuf to a scraper that asks for it, OpenMetrics text with exemplars or plain text to others. It
shows the latest collection, cumulative only.

- Names have underscores for dots and end in their unit: `http_server_request_duration_seconds`.
- `job` is `service.namespace/service.name`, `instance` is `service.instance.id`: scrape with `honor_labels: true`.
  What else is known of the resource is in `target_info`.
- In text, an exponential histogram has 39 bounds (`le`) from 122 us to 64 s, each 1.42 times the one before (the square
  root of two), the same for every series and at every scrape. They are bounds of its own, at whatever scale it is, so
  no count is guessed and none ever falls. A quantile from them lies in the true one's bucket: at most a factor of 1.42
  beside it, 17 % if it is said to be in the middle (native histograms: 4.3 % over six decades, and finer over fewer).
  The conventions' advised boundaries lie within such buckets and could only be guessed; `histogram.type: explicit`
  counts by them.
- Two scrapes at a time; more are answered 503.

By OTLP, Prometheus gives the same names and labels by itself.
";

const DEVIATIONS: &str = "
## Deviations from the conventions

- `http.route` of a request that matches no configured pattern is a heuristic template: the conventions want a route
  only from the framework. `routes.unmatched: absent` leaves it out.
- `service.instance.id` is of the service and the node, not of the process: processes and pods of one version of a
  service on a node write one stream, unless `resource.identity: process` parts them.
- `status: class` (off by default) has `{STATUS_CLASS}`, such as `5xx`, in place of the status code.
- `url.scheme` is that of the bytes on the socket, never from a header.
- On clients, `server.address` past `cardinality.hosts_per_service` is `_OTHER`.
";

fn section(page: &mut String, declared: &Declaration) {
    let kind = match declared.kind {
        Kind::Histogram => "A histogram",
        Kind::UpDownCounter => "An up-and-down counter, opt-in",
    };
    let Declaration {
        name,
        unit,
        description,
        attributes,
        ..
    } = declared;
    line(page, &format!("\n## `{name}`\n"));
    line(page, &format!("{description} {kind}, unit `{unit}`.\n"));
    line(page, "| attribute | the conventions say | here |");
    line(page, "|---|---|---|");
    for (attribute, level) in *attributes {
        let (says, here) = match level {
            Level::Required => ("required".to_owned(), "default"),
            Level::Conditional(condition) => {
                (format!("conditionally required: {condition}"), "default")
            }
            Level::Recommended => ("recommended".to_owned(), "default"),
            Level::OptIn => ("opt-in".to_owned(), "opt-in"),
        };
        line(page, &format!("| `{attribute}` | {says} | {here} |"));
    }
}

fn resources(page: &mut String) {
    let rows = [
        (resource::SERVICE_NAME, "always; see how services are named"),
        (resource::SERVICE_NAMESPACE, "if known"),
        (resource::SERVICE_VERSION, "if known"),
        (
            resource::SERVICE_INSTANCE_ID,
            "UUIDv5 of the node, `service.namespace`, `service.name`, `service.version` and `deployment.environment.name`; with `resource.identity: process` of the process's number and start too, except for what stands for all processes of a service (its overflow series, and `service.name=_other`); not with `resource.identity: none`",
        ),
        (
            resource::PROCESS_PID,
            "with `resource.identity: process`, an integer: the number in the initial pid namespace",
        ),
        (resource::DEPLOYMENT_ENVIRONMENT_NAME, "if known"),
        (resource::HOST_NAME, "the node's, if known"),
        (
            resource::TELEMETRY_SDK_NAME,
            "`kerntally`: not one of OpenTelemetry's own SDKs",
        ),
        (resource::TELEMETRY_SDK_LANGUAGE, "`rust`, the agent's own"),
        (resource::TELEMETRY_SDK_VERSION, "the agent's"),
        (resource::TELEMETRY_DISTRO_NAME, "`kerntally`"),
        (resource::TELEMETRY_DISTRO_VERSION, "the agent's"),
    ];
    line(page, "\n| attribute | when, and what |\n|---|---|");
    for (name, text) in rows {
        line(page, &format!("| `{name}` | {text} |"));
    }
    line(
        page,
        "\nBelow these lie `resource.attributes`, beside them what `resource.allow` takes from a process.",
    );
}

fn own(page: &mut String) {
    line(page, "\n## The agent about itself\n");
    line(
        page,
        "Pushed beside the services' points under the agent's own resource, written to the export file, and served at",
    );
    line(
        page,
        "`self.listen`. Always cumulative. [The ledger](ledger.md) explains outcomes and reasons.\n",
    );
    line(
        page,
        "| instrument | kind | unit | attributes | description |",
    );
    line(page, "|---|---|---|---|---|");
    for counter in std::iter::once(&SEEN).chain(&COUNTERS) {
        own_row(page, "counter", counter);
    }
    for gauge in &GAUGES {
        own_row(page, "gauge", gauge);
    }
}

fn own_row(page: &mut String, kind: &str, instrument: &SelfInstrument) {
    let attributes: Vec<_> = instrument
        .attributes
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    line(
        page,
        &format!(
            "| `{}` | {kind} | `{}` | {} | {} |",
            instrument.name,
            instrument.unit,
            attributes.join(", "),
            instrument.description
        ),
    );
}

fn line(page: &mut String, text: &str) {
    // A string takes everything.
    if writeln!(page, "{text}").is_err() {
        debug_assert!(false, "a string refused text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_one_that_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/metrics.md is not what the declarations say; write it anew with: cargo xtask docs"
        );
    }

    #[test]
    fn every_instrument_is_on_it_once() {
        let page = page();
        let own = std::iter::once(&SEEN).chain(&COUNTERS).chain(&GAUGES);
        for instrument in own {
            let row = format!("| `{}` |", instrument.name);
            assert_eq!(page.matches(&row).count(), 1, "{row}");
        }
        for instrument in metric::ALL {
            let heading = format!("## `{}`\n", metric::declaration(instrument).name);
            assert_eq!(page.matches(&heading).count(), 1, "{heading}");
        }
    }
}
