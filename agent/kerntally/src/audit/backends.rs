//! Back ends that take one temporality only, known by exporter or by address.

use serde_json::Value;

/// What a back end takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Cumulative,
    Delta,
}

/// A back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) wants: Wants,
}

use Wants::{Cumulative, Delta};

const fn backend(name: &'static str, wants: Wants) -> Backend {
    Backend { name, wants }
}

/// By type of the collector's exporter.
const EXPORTERS: &[(&str, Backend)] = &[
    ("prometheus", backend("Prometheus", Cumulative)),
    ("prometheusremotewrite", backend("Prometheus", Cumulative)),
    (
        "googlemanagedprometheus",
        backend("Google Managed Prometheus", Cumulative),
    ),
    ("datadog", backend("Datadog", Delta)),
    ("dynatrace", backend("Dynatrace", Delta)),
    // It drops cumulative histograms.
    ("elasticsearch", backend("Elasticsearch", Delta)),
];

/// By the end of the host's name.
const HOSTS: &[(&str, Backend)] = &[
    ("datadoghq.com", backend("Datadog", Delta)),
    ("datadoghq.eu", backend("Datadog", Delta)),
    ("ddog-gov.com", backend("Datadog", Delta)),
    ("dynatrace.com", backend("Dynatrace", Delta)),
    ("dynatracelabs.com", backend("Dynatrace", Delta)),
    ("nr-data.net", backend("New Relic", Delta)),
    ("grafana.net", backend("Grafana Cloud", Cumulative)),
];

/// By a part of the path.
const PATHS: &[(&str, Backend)] = &[
    ("/api/v2/otlp", backend("Dynatrace", Delta)),
    ("/api/v1/otlp", backend("Prometheus", Cumulative)),
    ("/api/v1/write", backend("Prometheus", Cumulative)),
    ("/opentelemetry", backend("VictoriaMetrics", Cumulative)),
];

/// By the first label of the host's name, as services in a cluster are called.
const LABELS: &[(&str, Backend)] = &[
    ("prometheus", backend("Prometheus", Cumulative)),
    ("mimir", backend("Mimir", Cumulative)),
    ("cortex", backend("Cortex", Cumulative)),
    ("thanos", backend("Thanos", Cumulative)),
    ("victoria", backend("VictoriaMetrics", Cumulative)),
    ("vminsert", backend("VictoriaMetrics", Cumulative)),
    ("vmsingle", backend("VictoriaMetrics", Cumulative)),
];

/// Exporters that push OTLP to whatever their endpoint names.
const OTLP: [&str; 4] = ["otlp", "otlphttp", "otlp_grpc", "otlp_http"];

impl Backend {
    /// The back end behind an exporter of a collector.
    pub(super) fn of_exporter(kind: &str, settings: &Value) -> Option<Self> {
        if let Some((_, backend)) = EXPORTERS.iter().find(|(name, _)| *name == kind) {
            return Some(*backend);
        }
        if !OTLP.contains(&kind) {
            return None;
        }
        ["metrics_endpoint", "endpoint"]
            .into_iter()
            .find_map(|key| Self::of_endpoint(settings[key].as_str()?))
    }

    /// The back end behind an address; `None` for collectors and what is not known.
    pub(super) fn of_endpoint(endpoint: &str) -> Option<Self> {
        let rest = endpoint
            .split_once("://")
            .map_or(endpoint, |(_, rest)| rest);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let is_under = |domain: &str| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let by_host = HOSTS.iter().find(|(domain, _)| is_under(domain));
        let by_path = PATHS.iter().find(|(part, _)| path.contains(part));
        let by_label = LABELS.iter().find(|(label, _)| host.starts_with(label));
        let mimir = (path == "/otlp" || path.starts_with("/otlp/v1"))
            .then_some(backend("Mimir", Cumulative));
        by_host
            .or(by_path)
            .map(|(_, backend)| *backend)
            .or(mimir)
            .or(by_label.map(|(_, backend)| *backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_ends_are_known_by_their_addresses() {
        for (endpoint, expected) in [
            ("http://prometheus:9090/api/v1/otlp", Some(Cumulative)),
            (
                "http://10.0.0.1:9090/api/v1/otlp/v1/metrics",
                Some(Cumulative),
            ),
            (
                "http://prometheus-server.monitoring.svc:80",
                Some(Cumulative),
            ),
            (
                "https://otlp-gateway-prod-eu-west-0.grafana.net/otlp",
                Some(Cumulative),
            ),
            ("http://mimir-distributor:8080/otlp", Some(Cumulative)),
            ("http://vm:8428/opentelemetry", Some(Cumulative)),
            ("https://otlp.datadoghq.eu/v1/metrics", Some(Delta)),
            (
                "https://abc12345.live.dynatrace.com/api/v2/otlp",
                Some(Delta),
            ),
            ("otlp.eu01.nr-data.net:4317", Some(Delta)),
            ("http://localhost:4317", None),
            ("otel-collector:4317", None),
            ("https://notdatadoghq.com", None),
            ("${env:OTLP_ENDPOINT}", None),
            ("", None),
        ] {
            let found = Backend::of_endpoint(endpoint).map(|backend| backend.wants);
            assert_eq!(found, expected, "{endpoint}");
        }
    }

    #[test]
    fn exporters_are_known_by_type_or_endpoint() {
        let otlp = serde_json::json!({ "metrics_endpoint": "http://prometheus:9090/api/v1/otlp/v1/metrics" });
        let wants = |kind, settings: &Value| {
            Backend::of_exporter(kind, settings).map(|backend| backend.wants)
        };
        assert_eq!(wants("datadog", &Value::Null), Some(Delta));
        assert_eq!(wants("otlphttp", &otlp), Some(Cumulative));
        assert_eq!(wants("otlphttp", &Value::Null), None);
        assert_eq!(wants("debug", &otlp), None);
    }
}
