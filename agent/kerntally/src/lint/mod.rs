//! The emission contract, held against requests: what a request says in, broken rules out.
//!
//! Independent of the stages that make requests, so that it can find them wrong. It keeps a bounded memory of
//! series, to judge one push by those before it.

mod attributes;
mod convention;
mod exemplars;
mod findings;
mod history;
pub(crate) mod input;
mod path;
mod points;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use kerntally_export::ExportMetricsServiceRequest;
use kerntally_export::otlp::{
    AggregationTemporality, AnyValue, KeyValue, Metric, Resource, ResourceMetrics, ScopeMetrics,
    any_value,
};
use kerntally_export::otlpjson::FieldProblem;
use kerntally_export::semconv;

use convention::Convention;
pub(crate) use findings::{Finding, Findings, Place};
use history::{History, hash_of};
use points::PointView;
pub(crate) use rules::{Rule, Severity};

/// Name of a scope of kerntally's own begins so.
const OWN_SCOPE: &str = "kerntally";

/// What the user wants held.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Distinct values of one attribute within one service and instrument.
    pub(crate) max_distinct: usize,
    /// Every duration of every service has to have exemplars.
    pub(crate) require_exemplars: bool,
    /// What the emitter's configuration asked for.
    pub(crate) declared: Declared,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_distinct: 150,
            require_exemplars: false,
            declared: Declared::default(),
        }
    }
}

/// Deviations that a configuration declares: they break no rule.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Declared {
    /// Attributes by instrument; what is not listed is not missed.
    pub(crate) attributes: BTreeMap<String, Vec<String>>,
    /// What views rename attributes to.
    pub(crate) renamed: Vec<String>,
    /// Routes that the operator wrote, however they look.
    pub(crate) patterns: Vec<String>,
    /// Methods beside the known ones.
    pub(crate) methods: Vec<String>,
}

impl Declared {
    /// Whether an attribute is expected on an instrument.
    fn wants(&self, instrument: &str, key: &str) -> bool {
        self.attributes
            .get(instrument)
            .is_none_or(|listed| listed.iter().any(|name| name == key))
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) requests: u64,
    pub(crate) resources: u64,
    pub(crate) metrics: u64,
    pub(crate) points: u64,
    pub(crate) exemplars: u64,
    /// Points of each temporality.
    pub(crate) delta_points: u64,
    pub(crate) cumulative_points: u64,
    /// Points of exponential histograms.
    pub(crate) exponential_points: u64,
}

/// The contract with what was found so far.
#[derive(Debug)]
pub(crate) struct Lint {
    options: Options,
    findings: Findings,
    history: History,
    checked: Checked,
}

/// What is being looked at.
#[derive(Clone, Copy)]
struct Subject<'a> {
    line: Option<u64>,
    service: &'a str,
    /// What tells the resource from others.
    identity: u64,
    is_own_scope: bool,
    metric: &'a Metric,
    convention: Option<&'static Convention>,
    temporality: Option<AggregationTemporality>,
}

/// What makes a resource a writer of its own.
#[derive(Debug)]
struct Identity {
    service: String,
    triplet: (String, String, String),
}

impl Lint {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            history: History::new(options.max_distinct),
            options,
            findings: Findings::default(),
            checked: Checked::default(),
        }
    }

    /// Holds the contract against one push.
    pub(crate) fn hold(
        &mut self,
        request: &ExportMetricsServiceRequest,
        problems: &[FieldProblem],
        line: Option<u64>,
    ) {
        self.checked.requests += 1;
        for problem in problems {
            let place = Place {
                line,
                key: Some(problem.path.clone()),
                ..Place::default()
            };
            let mut finding = Finding::new(Rule::JsonForm, place, problem.found.clone());
            finding.expected = Some(problem.expected.to_owned());
            self.findings.add(finding);
        }
        let mut writers = HashSet::new();
        for resource in &request.resource_metrics {
            self.resource(resource, line, &mut writers);
        }
        self.history.end_push();
    }

    /// A last line that is not whole.
    pub(crate) fn truncated(&mut self, line: u64) {
        let place = Place {
            line: Some(line),
            ..Place::default()
        };
        self.add(Rule::JsonTruncated, place, "an incomplete line");
    }

    /// Everything that was found, what only the end shows included.
    pub(crate) fn finish(mut self) -> (Findings, Checked) {
        if self.options.require_exemplars {
            for (service, instrument) in self.history.without_exemplars() {
                let place = Place {
                    service: Some(service),
                    instrument: Some(instrument),
                    ..Place::default()
                };
                self.add(Rule::ExemplarRequired, place, "no exemplar");
            }
        }
        (self.findings, self.checked)
    }

    fn resource(
        &mut self,
        of_resource: &ResourceMetrics,
        line: Option<u64>,
        writers: &mut HashSet<(String, String, String)>,
    ) {
        self.checked.resources += 1;
        let attributes = of_resource
            .resource
            .as_ref()
            .map_or(&[][..], |resource| &resource.attributes);
        let identity = Identity::of(attributes);
        let place = |key: Option<&str>| Place {
            line,
            service: Some(identity.service.clone()),
            key: key.map(str::to_owned),
            ..Place::default()
        };
        self.resource_names(of_resource, &identity, &place);
        if !writers.insert(identity.triplet.clone()) {
            let found = format!("{} a second time", identity.service);
            self.add(Rule::ResourceDuplicate, place(None), found);
        }
        let whole = hash_of(&identity.triplet);
        for scope in &of_resource.scope_metrics {
            self.scope(scope, line, &identity, whole, of_resource.resource.as_ref());
        }
    }

    fn resource_names(
        &mut self,
        of_resource: &ResourceMetrics,
        identity: &Identity,
        place: &impl Fn(Option<&str>) -> Place,
    ) {
        let (_, name, instance) = &identity.triplet;
        let key = Some("service.name");
        if name.is_empty() {
            self.add(Rule::ResourceServiceName, place(key), "none");
        } else if name.starts_with("unknown_service") {
            self.add(Rule::ResourceUnknownService, place(key), name.clone());
        }
        let is_cumulative = of_resource
            .scope_metrics
            .iter()
            .flat_map(|scope| &scope.metrics)
            .any(|metric| points::temporality(metric) == AggregationTemporality::Cumulative as i32);
        if instance.is_empty() && is_cumulative {
            let key = Some("service.instance.id");
            self.add(Rule::ResourceInstance, place(key), "none");
        }
        let attributes = of_resource
            .resource
            .as_ref()
            .map_or(&[][..], |resource| &resource.attributes);
        for key in attributes::repeated(attributes) {
            self.add(Rule::AttributeDuplicate, place(Some(key)), "twice");
        }
    }

    fn scope(
        &mut self,
        of_scope: &ScopeMetrics,
        line: Option<u64>,
        identity: &Identity,
        writer: u64,
        resource: Option<&Resource>,
    ) {
        let scope = of_scope.scope.as_ref();
        let name = scope.map_or("", |scope| scope.name.as_str());
        let is_own_scope = name == semconv::SCOPE_NAME || name.starts_with(OWN_SCOPE);
        let place = || Place {
            line,
            service: Some(identity.service.clone()),
            ..Place::default()
        };
        if name == semconv::SCOPE_NAME && of_scope.schema_url != semconv::SCHEMA_URL {
            let found = shown(&of_scope.schema_url);
            self.add(Rule::ScopeSchema, place(), found);
        }
        let sdk = resource
            .map_or(&[][..], |resource| &resource.attributes)
            .iter()
            .find(|attribute| attribute.key == semconv::resource::TELEMETRY_SDK_NAME);
        if name == semconv::SCOPE_NAME && sdk.and_then(text) == Some("opentelemetry") {
            self.add(Rule::ResourceSdk, place(), "`opentelemetry`");
        }
        let mut names = HashSet::new();
        for metric in &of_scope.metrics {
            self.checked.metrics += 1;
            let subject = Subject {
                line,
                service: &identity.service,
                identity: hash_of(&(writer, name)),
                is_own_scope,
                metric,
                convention: convention::by_name(&metric.name),
                temporality: AggregationTemporality::try_from(points::temporality(metric)).ok(),
            };
            if !names.insert(metric.name.as_str()) {
                self.find(Rule::InstrumentRepeated, &subject, None, "a second time");
            }
            self.metric(&subject);
        }
    }

    fn metric(&mut self, subject: &Subject<'_>) {
        self.instrument(subject);
        self.kind(subject);
        for point in points::views(subject.metric) {
            self.checked.points += 1;
            match subject.temporality {
                Some(AggregationTemporality::Delta) => self.checked.delta_points += 1,
                Some(AggregationTemporality::Cumulative) => self.checked.cumulative_points += 1,
                _ => {}
            }
            self.point(subject, &point);
        }
    }

    fn point(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        self.checked.exemplars += point.exemplars.len() as u64;
        self.checked.exponential_points += u64::from(point.is_exponential());
        self.attributes(subject, point);
        self.values(subject, point);
        self.exemplars(subject, point);
        self.against_history(subject, point);
    }

    /// Name and unit.
    fn instrument(&mut self, subject: &Subject<'_>) {
        let metric = subject.metric;
        if !is_instrument_name(&metric.name) {
            let found = shown(&metric.name);
            self.find(Rule::InstrumentName, subject, None, found);
        }
        let Some(convention) = subject.convention else {
            if let Some(successor) = convention::successor(&metric.name) {
                self.find_expecting(Rule::InstrumentDeprecated, subject, &metric.name, successor);
            } else if convention::is_governed(&metric.name) {
                let found = shown(&metric.name);
                self.find(Rule::InstrumentUnknown, subject, None, found);
            }
            return;
        };
        if metric.unit != convention.unit {
            let found = shown(&metric.unit);
            self.find_expecting(Rule::InstrumentUnit, subject, &found, convention.unit);
        }
    }

    /// Kind of data and temporality.
    fn kind(&mut self, subject: &Subject<'_>) {
        use convention::Measures;
        let kind = points::kind(subject.metric);
        let fits = match subject.convention.map(|convention| convention.measures) {
            None => kind != "nothing",
            Some(Measures::Durations | Measures::Sizes) => {
                matches!(kind, "histogram" | "exponential histogram")
            }
            Some(Measures::Level) => kind == "sum",
        };
        if !fits {
            self.find(Rule::InstrumentType, subject, None, kind);
        }
        if points::has_temporality(subject.metric)
            && !matches!(
                subject.temporality,
                Some(AggregationTemporality::Delta | AggregationTemporality::Cumulative)
            )
        {
            let found = points::temporality(subject.metric).to_string();
            self.find(Rule::TemporalityUnknown, subject, None, found);
        }
        let (kind_before, temporality_before) = self.history.instrument(subject, kind);
        if let Some(before) = kind_before {
            let found = format!("{before} and {kind}");
            self.find(Rule::InstrumentMixed, subject, None, found);
        }
        if temporality_before {
            self.find(Rule::TemporalityMixed, subject, None, "both");
        }
    }

    fn find(
        &mut self,
        rule: Rule,
        subject: &Subject<'_>,
        point: Option<&PointView<'_>>,
        found: impl Into<String>,
    ) {
        self.find_at(rule, subject, None, point, found);
    }

    fn find_at(
        &mut self,
        rule: Rule,
        subject: &Subject<'_>,
        key: Option<&str>,
        point: Option<&PointView<'_>>,
        found: impl Into<String>,
    ) {
        let mut place = subject.place(key);
        place.series = point.map(PointView::shown);
        self.add(rule, place, found);
    }

    fn find_expecting(
        &mut self,
        rule: Rule,
        subject: &Subject<'_>,
        found: &str,
        expected: &'static str,
    ) {
        let mut finding = Finding::new(rule, subject.place(None), found);
        finding.expected = Some(format!("{expected}: {}", rule.expected()));
        self.findings.add(finding);
    }

    fn add(&mut self, rule: Rule, place: Place, found: impl Into<String>) {
        self.findings.add(Finding::new(rule, place, found));
    }
}

impl Subject<'_> {
    fn place(&self, key: Option<&str>) -> Place {
        Place {
            line: self.line,
            service: Some(self.service.to_owned()),
            instrument: Some(self.metric.name.clone()),
            key: key.map(str::to_owned),
            series: None,
        }
    }

    /// The agent's own metrics name services and reasons, which its limits bound.
    fn is_self_telemetry(&self) -> bool {
        self.is_own_scope && self.metric.name.starts_with("kerntally.")
    }
}

impl Identity {
    fn of(attributes: &[KeyValue]) -> Self {
        let value = |key: &str| {
            let attribute = attributes.iter().find(|attribute| attribute.key == key);
            attribute.and_then(text).unwrap_or_default().to_owned()
        };
        let (namespace, name) = (value("service.namespace"), value("service.name"));
        let service = if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        };
        Self {
            service,
            triplet: (namespace, name, value("service.instance.id")),
        }
    }
}

/// <https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax>
fn is_instrument_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte))
}

fn text(attribute: &KeyValue) -> Option<&str> {
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn shown(text: &str) -> String {
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        format!("`{text}`")
    }
}

fn shown_value(value: Option<&AnyValue>) -> String {
    use any_value::Value as Any;
    match value.and_then(|value| value.value.as_ref()) {
        None => "nothing".to_owned(),
        Some(Any::StringValue(text)) => shown(text),
        Some(Any::IntValue(number)) => format!("the integer {number}"),
        Some(Any::DoubleValue(number)) => format!("the number {number}"),
        Some(Any::BoolValue(truth)) => truth.to_string(),
        Some(Any::BytesValue(_)) => "bytes".to_owned(),
        Some(_) => "a list".to_owned(),
    }
}
