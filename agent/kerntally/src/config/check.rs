//! What types alone cannot say: values that contradict each other, and values that ask for something this
//! version does not do.
//!
//! Where going on would give wrong data the configuration is refused; where something is merely missing
//! it is warned about.

use std::path::Path;

use kerntally_abi::limits;
use kerntally_model::Instrument;
use kerntally_pipeline::aggregate::instrument_name;

use super::attributes;
use super::load::Problem;
use super::node::{Node, Step, dotted};
use super::scalar::{Size, Span};
use super::schema::{
    Cardinality, Config, Exemplars, Export, Histogram, HistogramType, Hooks, Host, Identity,
    Instrumented, Otlp, Routes, Selector, Temporality, View, ViewAggregation,
};

/// A remark about one key.
#[derive(Debug)]
pub(crate) struct Finding {
    path: Vec<Step>,
    message: String,
}

/// Remarks about a configuration.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<Finding>,
    /// Keys that are right by themselves and would give wrong data together: refused like errors.
    pub(crate) clashes: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
}

impl Finding {
    pub(crate) fn into_problem(self, tree: &Node, file: &Path) -> Problem {
        Problem {
            place: tree.locate(&self.path).place(file),
            key: dotted(&self.path),
            message: self.message,
        }
    }
}

/// Everything there is to say about a configuration.
pub(crate) fn findings(config: &Config) -> Findings {
    let mut findings = Findings::default();
    findings.check_hooks(&config.hooks);
    findings.check_discovery(config);
    findings.check_services(config);
    findings.check_routes(&["routes"], &config.routes);
    findings.check_attributes(&[Step::Key("attributes".to_owned())], &config.attributes);
    findings.check_histogram(&steps(&["histogram"]), &config.histogram, config);
    findings.check_cardinality(&config.cardinality);
    findings.check_exemplars(&steps(&["exemplars"]), &config.exemplars);
    findings.check_export(&config.export);
    findings.check_identity(config);
    findings.check_not_built(config);
    findings
}

/// Exemplars that a series may keep: each takes 80 bytes for as long as it is busy.
const MOST_EXEMPLARS: u32 = 100;

/// Boundaries that a histogram may have: each takes 8 bytes in every series.
const MOST_BOUNDARIES: usize = 200;

const NOT_BUILT: &str = "not built in this version";

impl Findings {
    fn error(&mut self, keys: &[&str], message: impl Into<String>) {
        self.errors.push(Finding {
            path: steps(keys),
            message: message.into(),
        });
    }

    fn clash(&mut self, keys: &[&str], message: impl Into<String>) {
        self.clashes.push(Finding {
            path: steps(keys),
            message: message.into(),
        });
    }

    fn warn(&mut self, keys: &[&str], message: impl Into<String>) {
        self.warnings.push(Finding {
            path: steps(keys),
            message: message.into(),
        });
    }

    fn check_hooks(&mut self, hooks: &Hooks) {
        let ring = hooks.ring.0;
        if !ring.is_power_of_two() || !(64 * 1024..=256 * 1024 * 1024).contains(&ring) {
            let expected = "expected a power of two from 64KiB to 256MiB";
            self.error(
                &["hooks", "ring"],
                format!("{expected}, got {}", hooks.ring),
            );
        }
        if !(64..=limits::HEAD_BYTES as u64).contains(&hooks.head.0) {
            let expected = format!("expected 64B to {}B", limits::HEAD_BYTES);
            self.error(
                &["hooks", "head"],
                format!("{expected}, got {}", hooks.head),
            );
        }
        // A slot is known by 16 bits, of which the highest number means none.
        self.range(&["hooks", "head_slots"], hooks.head_slots, 1, 65_535);
        if let Some(connections) = hooks.connections {
            self.range(&["hooks", "connections"], connections, 1, 4_194_304);
        }
        self.range(&["hooks", "tally_keys"], hooks.tally_keys, 1, 65_536);
    }

    fn range(&mut self, keys: &[&str], value: u32, min: u32, max: u32) {
        if !(min..=max).contains(&value) {
            self.error(keys, format!("expected {min} to {max}, got {value}"));
        }
    }

    fn check_discovery(&mut self, config: &Config) {
        if config.sides.is_empty() {
            self.error(&["sides"], "expected at least one of server, client");
        }
        let lists = [
            ("include", &config.discovery.include),
            ("exclude", &config.discovery.exclude),
        ];
        for (list, selectors) in lists {
            for (index, selector) in selectors.iter().enumerate() {
                let mut path = steps(&["discovery", list]);
                path.push(Step::Index(index));
                self.check_selector(&path, selector);
            }
        }
        if config.discovery.instrumented == Instrumented::Count {
            let message = "instrumented workloads are counted anyway in this version";
            self.warn(&["discovery", "instrumented"], message);
        }
    }

    fn check_selector(&mut self, path: &[Step], selector: &Selector) {
        if selector.is_empty() {
            let message = "expected at least one key: an empty selector matches everything";
            self.errors.push(Finding {
                path: path.to_vec(),
                message: message.to_owned(),
            });
        }
        for key in selector.not_built() {
            let mut path = path.to_vec();
            path.push(Step::Key(key.to_owned()));
            let message = format!("selecting by {key} is {NOT_BUILT}");
            self.errors.push(Finding { path, message });
        }
    }

    fn check_services(&mut self, config: &Config) {
        for (index, rule) in config.services.iter().enumerate() {
            let path = |key: &str| {
                vec![
                    Step::Key("services".into()),
                    Step::Index(index),
                    Step::Key(key.into()),
                ]
            };
            self.check_selector(&path("match"), &rule.r#match);
            if let Some(allowed) = &rule.attributes {
                self.check_attributes(&path("attributes"), allowed);
            }
            if rule.histogram.boundaries.is_some() {
                let own = rule.histogram.over(&config.histogram);
                self.check_histogram(&path("histogram"), &own, config);
            }
            let own = rule.exemplars.over(&config.exemplars);
            if own != config.exemplars {
                self.check_exemplars(&path("exemplars"), &own);
            }
            if rule.name.as_deref() == Some("") {
                let message = "expected a name".to_owned();
                self.errors.push(Finding {
                    path: path("name"),
                    message,
                });
            }
        }
    }

    fn check_routes(&mut self, keys: &[&str], routes: &Routes) {
        for (list, patterns) in [("patterns", &routes.patterns), ("ignore", &routes.ignore)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if pattern.starts_with('/') {
                    continue;
                }
                let mut path = steps(keys);
                path.extend([Step::Key(list.to_owned()), Step::Index(index)]);
                let message = format!("expected a pattern that begins with /, got `{pattern}`");
                self.errors.push(Finding { path, message });
            }
        }
    }

    fn check_attributes(
        &mut self,
        path: &[Step],
        lists: &std::collections::BTreeMap<String, Vec<String>>,
    ) {
        for (instrument, names) in lists {
            let mut path = path.to_vec();
            path.push(Step::Key(instrument.clone()));
            if !attributes::is_instrument(instrument) {
                let known = attributes::instruments().join(", ");
                let message = format!("no such instrument, expected one of {known}");
                self.errors.push(Finding { path, message });
                continue;
            }
            if !attributes::is_built(instrument) {
                let message = format!("this instrument is {NOT_BUILT} and not emitted");
                self.warnings.push(Finding {
                    path: path.clone(),
                    message,
                });
            }
            self.check_attribute_names(&path, instrument, names);
        }
    }

    fn check_attribute_names(&mut self, path: &[Step], instrument: &str, names: &[String]) {
        let known = attributes::known(instrument);
        for (index, name) in names.iter().enumerate() {
            if known.contains(&name.as_str()) {
                continue;
            }
            let mut path = path.to_vec();
            path.push(Step::Index(index));
            let expected = known.join(", ");
            let message = format!("no such attribute `{name}`, expected some of {expected}");
            self.errors.push(Finding { path, message });
        }
    }

    fn check_histogram(&mut self, path: &[Step], histogram: &Histogram, config: &Config) {
        let Some(boundaries) = &histogram.boundaries else {
            return;
        };
        let path = path.iter().cloned().chain(steps(&["boundaries"])).collect();
        let is_ascending = boundaries.is_sorted_by(|a, b| a < b);
        let are_numbers = boundaries.iter().all(|bound| bound.is_finite());
        let by_view = |view: &View| view.aggregation == Some(ViewAggregation::Explicit);
        if boundaries.is_empty() || boundaries.len() > MOST_BOUNDARIES {
            let message = format!(
                "expected 1 to {MOST_BOUNDARIES} boundaries, got {}",
                boundaries.len()
            );
            self.errors.push(Finding { path, message });
        } else if !is_ascending || !are_numbers {
            let message = "expected ascending numbers of seconds".to_owned();
            self.errors.push(Finding { path, message });
        } else if histogram.r#type == HistogramType::Exponential
            && !config.views.iter().any(by_view)
        {
            let message = "only explicit histograms have boundaries, ignored".to_owned();
            self.warnings.push(Finding { path, message });
        }
    }

    fn check_cardinality(&mut self, cardinality: &Cardinality) {
        let limits = [
            ("services", cardinality.services),
            ("per_service", cardinality.per_service),
            ("total", cardinality.total),
        ];
        for (key, value) in limits {
            self.range(&["cardinality", key], value, 1, 10_000_000);
        }
        if cardinality.idle_ttl < Span::from_secs(1) {
            self.error(&["cardinality", "idle_ttl"], "expected at least 1s");
        }
    }

    fn check_exemplars(&mut self, path: &[Step], exemplars: &Exemplars) {
        let mut refuse = |keys: &[&str], message: String| {
            let path = path.iter().cloned().chain(steps(keys)).collect();
            self.errors.push(Finding { path, message });
        };
        if !(1..=MOST_EXEMPLARS).contains(&exemplars.per_series) {
            let got = exemplars.per_series;
            refuse(
                &["per_series"],
                format!("expected 1 to {MOST_EXEMPLARS}, got {got}"),
            );
        }
        let shares = [
            ("healthy", exemplars.budget.healthy),
            ("max_error_rate", exemplars.budget.max_error_rate),
        ];
        for (key, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                refuse(
                    &["budget", key],
                    format!("expected a share from 0 to 1, got {share}"),
                );
            }
        }
    }

    fn check_export(&mut self, export: &Export) {
        if !(Span(std::time::Duration::from_millis(100))..=Span::from_secs(86_400))
            .contains(&export.interval)
        {
            let message = format!("expected 100ms to 24h, got {}", export.interval);
            self.error(&["export", "interval"], message);
        }
        if export.temporality != Temporality::Cumulative && export.prometheus.listen.is_some() {
            self.clash(
                &["export", "prometheus", "listen"],
                "the pull requires export.temporality: cumulative",
            );
        }
        if let Some(otlp) = &export.otlp {
            self.check_otlp(otlp);
        }
    }

    fn check_otlp(&mut self, otlp: &Otlp) {
        let path = |key| ["export", "otlp", key];
        if !otlp.endpoint.starts_with("http://") && !otlp.endpoint.starts_with("https://") {
            let message = format!("expected http:// or https://, got `{}`", otlp.endpoint);
            self.error(&path("endpoint"), message);
        }
        if otlp.timeout.0.is_zero() {
            self.error(&path("timeout"), "expected more than 0s");
        }
        if otlp.max_request < Size::kib(64) {
            self.error(&path("max_request"), "expected at least 64KiB");
        }
        if otlp.tls.cert.is_some() != otlp.tls.key.is_some() {
            self.error(&path("tls"), "expected cert and key together");
        }
    }

    /// Totals of two writers of one stream cannot be told from resets.
    fn check_identity(&mut self, config: &Config) {
        if config.resource.identity != Identity::None {
            return;
        }
        let lists = std::iter::once(&config.attributes).chain(
            config
                .services
                .iter()
                .filter_map(|rule| rule.attributes.as_ref()),
        );
        let active = instrument_name(Instrument::HttpServerActiveRequests);
        let key = &["resource", "identity"];
        if config.export.temporality == Temporality::Cumulative {
            self.clash(key, "none requires export.temporality: delta");
        } else if lists.into_iter().any(|list| list.contains_key(active)) {
            let message =
                format!("none requires that attributes do not list {active}: it is cumulative");
            self.clash(key, message);
        }
    }

    /// Whatever is not at its default and asks for something later.
    fn check_not_built(&mut self, config: &Config) {
        if config.limits.cpu.is_some() {
            self.warn(
                &["limits", "cpu"],
                format!("limiting the agent's CPU is {NOT_BUILT}"),
            );
        }
        if config.limits.memory.is_some() {
            self.warn(
                &["limits", "memory"],
                format!("limiting the agent's memory is {NOT_BUILT}"),
            );
        }
        if config.kubernetes.enabled == super::scalar::Switch::On {
            let message = format!("names from Kubernetes are {NOT_BUILT}");
            self.warn(&["kubernetes", "enabled"], message);
        }
        if config.host.sys != Host::default().sys {
            self.warn(
                &["host", "sys"],
                "kernel type information is read from /sys",
            );
        }
    }
}

fn steps(keys: &[&str]) -> Vec<Step> {
    keys.iter()
        .map(|key| Step::Key((*key).to_owned()))
        .collect()
}
