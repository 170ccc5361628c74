//! Temporality on its way through the pipelines of an OpenTelemetry Collector.

use std::collections::BTreeMap;

use serde_json::Value;

use super::backends::{Backend, Wants};
use super::{place, steps};
use crate::config::{Node, Step};
use crate::lint::{Checked, Finding, Rule};

/// Keys that only a collector's configuration has.
const SECTIONS: [&str; 5] = [
    "receivers",
    "processors",
    "exporters",
    "connectors",
    "service",
];

/// Where operators and charts put the configuration into a larger document.
const WRAPPERS: [&[&str]; 3] = [&[], &["spec", "config"], &["config"]];

/// Metrics of the agent, as filters of processors name them.
const OWN_METRICS: [&str; 2] = [
    "http.server.request.duration",
    "http.client.request.duration",
];

/// A collector's configuration.
#[derive(Debug)]
pub(crate) struct Collector {
    tree: Node,
    /// Path of the configuration within the document.
    wrapper: &'static [&'static str],
    config: Value,
}

/// Temporalities of the points at one place, with where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Flow {
    cumulative: Option<String>,
    delta: Option<String>,
    /// Histograms among the cumulative points are exponential.
    has_exponential: bool,
}

impl Flow {
    fn join(&mut self, other: &Self) {
        if self.cumulative.is_none() {
            self.cumulative.clone_from(&other.cumulative);
        }
        if self.delta.is_none() {
            self.delta.clone_from(&other.delta);
        }
        self.has_exponential |= other.has_exponential;
    }

    fn cumulative(origin: &str) -> Self {
        Self {
            cumulative: Some(origin.to_owned()),
            ..Self::default()
        }
    }

    fn delta(origin: &str) -> Self {
        Self {
            delta: Some(origin.to_owned()),
            ..Self::default()
        }
    }
}

/// Type of a component: `otlp` of `otlp/2`.
fn kind(id: &str) -> &str {
    id.split('/').next().unwrap_or(id)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

impl Collector {
    /// `None` if the document is something else.
    pub(super) fn of(tree: &Node) -> Option<Self> {
        WRAPPERS.into_iter().find_map(|wrapper| {
            let config = tree.at(wrapper)?.to_json();
            let known = SECTIONS.iter().any(|key| config.get(key).is_some());
            known.then(|| Self {
                tree: tree.clone(),
                wrapper,
                config,
            })
        })
    }

    /// Mismatches, by pipeline.
    pub(super) fn findings(&self, checked: &Checked) -> Vec<Finding> {
        let pushed = pushed(checked);
        let mut connectors: BTreeMap<String, Flow> = BTreeMap::new();
        let pipelines = self.pipelines();
        // Each round carries flows over one more connector.
        for _ in &pipelines {
            for (id, pipeline) in &pipelines {
                let (flow, _) = self.through(id, pipeline, &pushed, &connectors);
                for exporter in names(&pipeline["exporters"]) {
                    if self.is_defined("connectors", exporter) {
                        let out = self.connected(exporter, id, &flow);
                        connectors
                            .entry(exporter.to_owned())
                            .or_default()
                            .join(&out);
                    }
                }
            }
        }
        let mut findings = Vec::new();
        for (id, pipeline) in &pipelines {
            findings.extend(self.undefined(id, pipeline));
            if kind(id) == "metrics" {
                let (flow, notes) = self.through(id, pipeline, &pushed, &connectors);
                findings.extend(notes);
                findings.extend(self.at_exporters(id, pipeline, &flow));
            }
        }
        findings
    }

    fn pipelines(&self) -> Vec<(&str, &Value)> {
        let pipelines = self.config["service"]["pipelines"].as_object();
        pipelines
            .into_iter()
            .flatten()
            .map(|(id, pipeline)| (id.as_str(), pipeline))
            .collect()
    }

    fn is_defined(&self, section: &str, id: &str) -> bool {
        self.config[section].get(id).is_some()
    }

    /// What reaches the exporters of a pipeline, and what there is to say about its processors.
    fn through(
        &self,
        id: &str,
        pipeline: &Value,
        pushed: &Flow,
        connectors: &BTreeMap<String, Flow>,
    ) -> (Flow, Vec<Finding>) {
        let mut flow = Flow::default();
        for receiver in names(&pipeline["receivers"]) {
            match connectors.get(receiver) {
                Some(connected) => flow.join(connected),
                None => flow.join(&received(receiver, pushed)),
            }
        }
        let mut notes = Vec::new();
        for (index, processor) in names(&pipeline["processors"]).into_iter().enumerate() {
            match kind(processor) {
                "deltatocumulative" if flow.delta.take().is_some() => {
                    flow.join(&Flow::cumulative(&format!(
                        "made so by processor {processor}"
                    )));
                }
                "cumulativetodelta" if self.converts(processor) => {
                    let Some(origin) = flow.cumulative.take() else {
                        continue;
                    };
                    if std::mem::take(&mut flow.has_exponential) {
                        let at = self.place(id, "processors", index);
                        let found = format!("exponential histograms, {origin}, before {processor}");
                        notes.push(Finding::new(Rule::ConversionPartial, at, found));
                    }
                    flow.join(&Flow::delta(&format!("made so by processor {processor}")));
                }
                _ => {}
            }
        }
        (flow, notes)
    }

    /// Whether filters let the agent's metrics through to a conversion.
    fn converts(&self, processor: &str) -> bool {
        let settings = &self.config["processors"][processor];
        let matches = |filter: &Value| {
            let metrics = names(&filter["metrics"]);
            let by_name = match filter["match_type"].as_str() {
                Some("regexp") => metrics
                    .iter()
                    .any(|pattern| pattern.contains("http") || pattern.contains(".*")),
                _ => metrics.iter().any(|name| OWN_METRICS.contains(name)),
            };
            let types = names(&filter["metric_types"]);
            let by_type = types.iter().any(|kind| kind.contains("histogram"));
            (metrics.is_empty() || by_name) && (types.is_empty() || by_type)
        };
        let included = settings.get("include").is_none_or(matches);
        let excluded = settings.get("exclude").is_some_and(|filter| {
            let is_given = filter
                .as_object()
                .is_some_and(|members| !members.is_empty());
            is_given && matches(filter)
        });
        included && !excluded
    }

    /// What a connector hands on.
    fn connected(&self, connector: &str, from: &str, flow: &Flow) -> Flow {
        let settings = &self.config["connectors"][connector];
        match kind(connector) {
            "spanmetrics" => match settings["aggregation_temporality"].as_str() {
                Some("AGGREGATION_TEMPORALITY_DELTA") => Flow::delta("from connector spanmetrics"),
                _ => Flow::cumulative("from connector spanmetrics"),
            },
            "servicegraph" => Flow::cumulative("from connector servicegraph"),
            "count" | "signaltometrics" => Flow::delta(&format!("from connector {connector}")),
            _ if kind(from) == "metrics" => flow.clone(),
            _ => Flow::default(),
        }
    }

    fn at_exporters(&self, id: &str, pipeline: &Value, flow: &Flow) -> Vec<Finding> {
        let exporters = names(&pipeline["exporters"]).into_iter().enumerate();
        exporters
            .filter_map(|(index, exporter)| {
                let settings = &self.config["exporters"][exporter];
                let backend = Backend::of_exporter(kind(exporter), settings)?;
                let (rule, sent, origin) = match backend.wants {
                    Wants::Cumulative => {
                        (Rule::BackendWantsCumulative, "delta", flow.delta.as_ref()?)
                    }
                    Wants::Delta => (
                        Rule::BackendWantsDelta,
                        "cumulative",
                        flow.cumulative.as_ref()?,
                    ),
                };
                let found = format!(
                    "{sent} points, {origin}, at exporter {exporter} to {}",
                    backend.name
                );
                let at = self.place(id, "exporters", index);
                Some(Finding::new(rule, at, found))
            })
            .collect()
    }

    fn undefined(&self, id: &str, pipeline: &Value) -> Vec<Finding> {
        let lists = [
            ("receivers", true),
            ("processors", false),
            ("exporters", true),
        ];
        let mut findings = Vec::new();
        for (section, may_connect) in lists {
            for (index, component) in names(&pipeline[section]).into_iter().enumerate() {
                let is_known = self.is_defined(section, component)
                    || (may_connect && self.is_defined("connectors", component));
                if !is_known {
                    let at = self.place(id, section, index);
                    let found = format!("{component}, which {section} does not define");
                    findings.push(Finding::new(Rule::ConfigUndefined, at, found));
                }
            }
        }
        findings
    }

    fn place(&self, pipeline: &str, list: &str, index: usize) -> crate::lint::Place {
        let keys = [self.wrapper, &["service", "pipelines", pipeline, list]].concat();
        let mut path = steps(&keys);
        path.push(Step::Index(index));
        place(&self.tree, &path)
    }
}

/// What agents push to an `otlp` receiver.
fn pushed(checked: &Checked) -> Flow {
    if checked.points == 0 {
        return Flow {
            has_exponential: true,
            ..Flow::cumulative("which kerntally pushes by default")
        };
    }
    let origin = |points: u64| (points > 0).then(|| "which the points looked at are".to_owned());
    Flow {
        cumulative: origin(checked.cumulative_points),
        delta: origin(checked.delta_points),
        has_exponential: checked.exponential_points > 0 && checked.cumulative_points > 0,
    }
}

fn received(receiver: &str, pushed: &Flow) -> Flow {
    match kind(receiver) {
        "otlp" | "otlpjsonfile" => pushed.clone(),
        "statsd" => Flow::delta("from receiver statsd"),
        "prometheus" | "prometheus_simple" | "hostmetrics" | "kubeletstats" | "k8s_cluster"
        | "docker_stats" => Flow::cumulative(&format!("from receiver {receiver}")),
        _ => Flow::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_of(text: &str, checked: &Checked) -> Vec<String> {
        let tree = Node::parse(text).unwrap();
        let collector = Collector::of(&tree).unwrap();
        let findings = collector.findings(checked);
        findings
            .iter()
            .map(|finding| {
                let line = finding.place.line.unwrap();
                format!("{line}:{}", finding.rule.id())
            })
            .collect()
    }

    fn findings(text: &str) -> Vec<String> {
        findings_of(text, &Checked::default())
    }

    /// A collector with one metrics pipeline.
    fn pipeline(processors: &str, exporter: &str) -> String {
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\n\
             processors: {{batch: , deltatocumulative: , cumulativetodelta: {{max_staleness: 1h}}}}\n\
             exporters: {{prometheusremotewrite: {{endpoint: \"http://p/api/v1/write\"}}, prometheus/2: {{endpoint: \"0.0.0.0:8889\"}}, datadog: {{api: {{key: \"${{env:KEY}}\"}}}}, dynatrace: , debug: }}\n\
             service:\n\
             \x20 pipelines:\n\
             \x20   metrics/main:\n\
             \x20     receivers: [otlp]\n\
             \x20     processors: [{processors}]\n\
             \x20     exporters:\n\
             \x20       - debug\n\
             \x20       - {exporter}\n"
        )
    }

    fn pushed(delta: bool) -> Checked {
        Checked {
            points: 2,
            delta_points: if delta { 2 } else { 0 },
            cumulative_points: if delta { 0 } else { 2 },
            ..Checked::default()
        }
    }

    #[test]
    fn cumulative_points_need_a_conversion_before_a_delta_back_end() {
        for exporter in ["datadog", "dynatrace"] {
            let found = findings(&pipeline("batch", exporter));
            assert_eq!(found, ["11:config.cumulative_to_delta_only"], "{exporter}");
            let converted = pipeline("cumulativetodelta, batch", exporter);
            assert_eq!(
                findings_of(&converted, &pushed(false)),
                Vec::<String>::new()
            );
            assert!(findings_of(&pipeline("", exporter), &pushed(true)).is_empty());
        }
    }

    #[test]
    fn delta_points_need_a_conversion_before_a_cumulative_back_end() {
        for exporter in ["prometheusremotewrite", "prometheus/2"] {
            assert!(findings(&pipeline("batch", exporter)).is_empty());
            let made_delta = findings(&pipeline("cumulativetodelta", exporter));
            assert!(made_delta.contains(&"11:config.delta_to_cumulative_only".to_owned()));
            let received = findings_of(&pipeline("", exporter), &pushed(true));
            assert_eq!(received, ["11:config.delta_to_cumulative_only"]);
            let converted = pipeline("deltatocumulative", exporter);
            assert!(findings_of(&converted, &pushed(true)).is_empty());
        }
    }

    #[test]
    fn exponential_histograms_before_a_conversion_are_warned_about() {
        let found = findings(&pipeline("cumulativetodelta", "datadog"));
        assert_eq!(found, ["8:config.partial_conversion"]);
    }

    #[test]
    fn filters_of_a_conversion_count() {
        let with = |settings: &str| {
            pipeline("cumulativetodelta", "dynatrace").replace("max_staleness: 1h", settings)
        };
        let conversion_misses =
            |settings: &str| findings_of(&with(settings), &pushed(false)).len() == 1;
        assert!(conversion_misses(
            "include: {match_type: strict, metrics: [other]}"
        ));
        assert!(conversion_misses("include: {metric_types: [sum]}"));
        assert!(conversion_misses(
            "exclude: {match_type: strict, metrics: [http.server.request.duration]}"
        ));
        assert!(!conversion_misses(
            "include: {match_type: strict, metrics: [http.server.request.duration]}"
        ));
        assert!(!conversion_misses(
            "include: {match_type: regexp, metrics: [\"http.*\"]}"
        ));
    }

    #[test]
    fn pipelines_are_followed_through_connectors() {
        let text = "receivers: {otlp: }\n\
                    processors: {cumulativetodelta: }\n\
                    exporters: {prometheus: }\n\
                    connectors: {forward/a: , forward/b: }\n\
                    service:\n\
                    \x20 pipelines:\n\
                    \x20   metrics/z: {receivers: [otlp], processors: [cumulativetodelta], exporters: [forward/a]}\n\
                    \x20   metrics/b: {receivers: [forward/a], exporters: [forward/b]}\n\
                    \x20   metrics/a:\n\
                    \x20     receivers: [forward/b]\n\
                    \x20     exporters: [prometheus]\n";
        assert_eq!(
            findings_of(text, &pushed(false)),
            ["11:config.delta_to_cumulative_only"]
        );
    }

    #[test]
    fn generated_metrics_have_the_temporality_of_their_connector() {
        let text = |temporality: &str| {
            format!(
                "receivers: {{otlp: }}\n\
                 exporters: {{prometheus: }}\n\
                 connectors: {{spanmetrics: {{aggregation_temporality: {temporality}}}}}\n\
                 service:\n\
                 \x20 pipelines:\n\
                 \x20   traces: {{receivers: [otlp], exporters: [spanmetrics]}}\n\
                 \x20   metrics: {{receivers: [spanmetrics], exporters: [prometheus]}}\n"
            )
        };
        assert_eq!(findings(&text("AGGREGATION_TEMPORALITY_DELTA")).len(), 1);
        assert!(findings(&text("AGGREGATION_TEMPORALITY_CUMULATIVE")).is_empty());
    }

    #[test]
    fn components_that_are_not_defined_are_named() {
        let found = findings(&pipeline("batch, memory_limiter", "kafka"));
        assert_eq!(
            found,
            [
                "8:config.undefined_component",
                "11:config.undefined_component"
            ]
        );
    }

    #[test]
    fn documents_of_operators_are_looked_into() {
        let inner = pipeline("batch", "datadog");
        let indented = inner.replace('\n', "\n    ");
        let text = format!("kind: OpenTelemetryCollector\nspec:\n  config:\n    {indented}");
        assert_eq!(findings(&text), ["14:config.cumulative_to_delta_only"]);
    }

    #[test]
    fn broken_shapes_are_survived() {
        for text in [
            "service: 1\n",
            "service: {pipelines: []}\n",
            "service: {pipelines: {metrics: }}\n",
            "service: {pipelines: {metrics: {receivers: otlp, exporters: {a: b}}}}\n",
            "receivers:\n",
        ] {
            assert!(findings(text).is_empty(), "{text}");
        }
    }
}
