//! Whether points leave in the temporality that their back end takes: a configuration of the agent or of an
//! OpenTelemetry Collector in, mismatches out.

mod backends;
mod collector;

use std::path::Path;

use crate::config::{
    self, Config, ConfigError, Identity, Node, Origin, Sources, Step, Temporality,
};
use crate::failure::Failure;
use crate::lint::{Checked, Declared, Finding, Place, Rule};
use backends::{Backend, Wants};
use collector::Collector;

/// A configuration, told by its keys.
#[derive(Debug)]
pub(crate) enum Audited {
    /// The agent's own.
    Own(Box<Own>),
    /// A collector's.
    Collector(Collector),
}

/// The agent's own configuration with the places of its keys.
#[derive(Debug)]
pub(crate) struct Own {
    config: Config,
    tree: Node,
}

/// Reads a configuration, and checks it if it is the agent's own.
pub(crate) fn read(path: &Path) -> Result<Audited, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let tree = Node::parse(&text).map_err(|error| {
        let line = error.line.unwrap_or(1);
        Failure::usage(format!("{}:{line}: {error}", path.display()))
    })?;
    if let Some(collector) = Collector::of(&tree) {
        return Ok(Audited::Collector(collector));
    }
    let loaded = config::load(&Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    });
    let config = match loaded {
        Ok(loaded) => loaded.config,
        // What does not fit together is what is asked for here.
        Err(ConfigError::Clash { config, .. }) => *config,
        Err(error) => return Err(error.into()),
    };
    Ok(Audited::Own(Box::new(Own { config, tree })))
}

impl Audited {
    /// Deviations that the configuration asks for.
    pub(crate) fn declared(&self) -> Declared {
        match self {
            Self::Own(own) => declared(&own.config),
            Self::Collector(_) => Declared::default(),
        }
    }

    /// What does not fit together. What a collector receives is known from points that were looked at;
    /// without them it is what the agent sends by default.
    pub(crate) fn findings(&self, checked: &Checked) -> Vec<Finding> {
        match self {
            Self::Own(own) => own.findings(),
            Self::Collector(collector) => collector.findings(checked),
        }
    }
}

/// Deviations that a configuration of the agent asks for.
pub(crate) fn declared(config: &Config) -> Declared {
    let of_services = config
        .services
        .iter()
        .filter_map(|service| service.routes.patterns.as_ref());
    let mut declared = Declared {
        attributes: config.attributes.clone(),
        renamed: Vec::new(),
        patterns: std::iter::once(&config.routes.patterns)
            .chain(of_services)
            .flatten()
            .cloned()
            .collect(),
        methods: config.http.known_methods.clone(),
    };
    // What one service does not have cannot be missed on any: points do not say whose rule they follow.
    let own_lists = config
        .services
        .iter()
        .filter_map(|service| service.attributes.as_ref());
    for (instrument, own) in own_lists.flatten() {
        if let Some(listed) = declared.attributes.get_mut(instrument) {
            listed.retain(|key| own.contains(key));
        }
    }
    for view in &config.views {
        let changed = |key: &String| {
            view.attributes.drop.contains(key) || view.attributes.rename.contains_key(key)
        };
        for (instrument, listed) in &mut declared.attributes {
            let selected = &view.r#match.instrument;
            if selected.as_ref().is_none_or(|name| name == instrument) {
                listed.retain(|key| !changed(key));
            }
        }
        declared
            .renamed
            .extend(view.attributes.rename.values().cloned());
    }
    declared
}

impl Own {
    fn findings(&self) -> Vec<Finding> {
        [self.push(), self.pull(), self.identity()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn is_delta(&self) -> bool {
        self.config.export.temporality != Temporality::Cumulative
    }

    fn sent(&self) -> &'static str {
        if self.is_delta() {
            "delta"
        } else {
            "cumulative"
        }
    }

    fn finding(&self, rule: Rule, keys: &[&str], found: String) -> Finding {
        Finding::new(rule, place(&self.tree, &steps(keys)), found)
    }

    fn push(&self) -> Option<Finding> {
        let otlp = self.config.export.otlp.as_ref()?;
        let backend = Backend::of_endpoint(&otlp.endpoint)?;
        let rule = match (backend.wants, self.is_delta()) {
            (Wants::Cumulative, true) => Rule::BackendWantsCumulative,
            (Wants::Delta, false) => Rule::BackendWantsDelta,
            _ => return None,
        };
        let found = format!("{} points pushed to {}", self.sent(), backend.name);
        Some(self.finding(rule, &["export", "temporality"], found))
    }

    /// Prometheus adds nothing up: of delta points it would show the last window.
    fn pull(&self) -> Option<Finding> {
        let listen = self.config.export.prometheus.listen?;
        if !self.is_delta() {
            return None;
        }
        let found = format!("{} points to be scraped at {listen}", self.sent());
        let keys = ["export", "prometheus", "listen"];
        Some(self.finding(Rule::PullWantsCumulative, &keys, found))
    }

    fn identity(&self) -> Option<Finding> {
        let is_none = self.config.resource.identity == Identity::None;
        if !is_none || self.is_delta() {
            return None;
        }
        let found = "cumulative points without a service.instance.id".to_owned();
        let keys = ["resource", "identity"];
        Some(self.finding(Rule::ConfigIdentity, &keys, found))
    }
}

fn steps(keys: &[&str]) -> Vec<Step> {
    keys.iter()
        .map(|key| Step::Key((*key).to_owned()))
        .collect()
}

/// Line and key of a path into a configuration.
fn place(tree: &Node, path: &[Step]) -> Place {
    Place {
        line: match tree.locate(path) {
            Origin::Line(line) => Some(*line),
            _ => None,
        },
        key: Some(config::dotted(path)),
        ..Place::default()
    }
}

#[cfg(test)]
mod tests {
    use super::read as read_file;
    use super::*;

    fn own(endpoint: &str, temporality: Temporality) -> Vec<&'static str> {
        let mut config = Config::default();
        config.export.temporality = temporality;
        if let Some(otlp) = &mut config.export.otlp {
            endpoint.clone_into(&mut otlp.endpoint);
        }
        let tree = Node::parse("export:\n  temporality: delta\n").unwrap();
        let findings = Own { config, tree }.findings();
        findings
            .iter()
            .inspect(|finding| assert_eq!(finding.place.line, Some(2)))
            .map(|finding| finding.rule.id())
            .collect()
    }

    #[test]
    fn the_agents_own_temporality_is_held_against_its_endpoint() {
        let prometheus = "http://prometheus:9090/api/v1/otlp";
        let datadog = "https://otlp.datadoghq.com";
        let collector = "http://localhost:4317";
        let delta = ["config.delta_to_cumulative_only"];
        assert_eq!(own(prometheus, Temporality::Delta), delta);
        assert_eq!(own(prometheus, Temporality::LowMemory), delta);
        assert!(own(prometheus, Temporality::Cumulative).is_empty());
        assert_eq!(
            own(datadog, Temporality::Cumulative),
            ["config.cumulative_to_delta_only"]
        );
        assert!(own(datadog, Temporality::Delta).is_empty());
        for temporality in [Temporality::Delta, Temporality::Cumulative] {
            assert!(own(collector, temporality).is_empty());
        }
    }

    #[test]
    fn what_clashes_is_found_and_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        let found = |text: &str| -> Vec<_> {
            std::fs::write(&path, text).unwrap();
            let audited = read_file(&path).unwrap();
            let findings = audited.findings(&Checked::default());
            findings
                .iter()
                .map(|finding| (finding.rule.id(), finding.place.line))
                .collect()
        };
        let pull = "export:\n  prometheus: {listen: \"127.0.0.1:9470\"}\n";
        let delta = "  temporality: delta\n";
        assert_eq!(found(pull), []);
        assert_eq!(
            found(&format!("{pull}{delta}")),
            [("config.pull_of_delta", Some(2))]
        );
        assert_eq!(
            found(&format!(
                "{pull}{delta}  otlp: {{endpoint: \"http://prometheus:9090/api/v1/otlp\"}}\n"
            )),
            [
                ("config.delta_to_cumulative_only", Some(3)),
                ("config.pull_of_delta", Some(2))
            ]
        );
        let identity = "resource: {identity: none}\n";
        assert_eq!(
            found(identity),
            [("config.cumulative_without_identity", Some(1))]
        );
        assert_eq!(found(&format!("export:\n{delta}{identity}")), []);
        // Anything else that is wrong is still refused.
        std::fs::write(&path, format!("{identity}sides: []\n")).unwrap();
        assert!(matches!(read_file(&path), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_configuration_is_told_by_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_file(&path)
        };
        assert!(matches!(
            read("export: {interval: 10s}\n"),
            Ok(Audited::Own(_))
        ));
        assert!(matches!(read(""), Ok(Audited::Own(_))));
        assert!(matches!(
            read("receivers: {otlp: }\n"),
            Ok(Audited::Collector(_))
        ));
        for unreadable in ["a: [", "exporrt: {}\n"] {
            assert!(matches!(read(unreadable), Err(Failure::Usage(_))));
        }
    }

    #[test]
    fn what_the_configuration_asks_for_is_declared() {
        let mut config = Config::default();
        config.routes.patterns = vec!["/2024".to_owned()];
        config.http.known_methods = vec!["PURGE".to_owned()];
        let declared = declared(&config);
        assert_eq!(declared.patterns, ["/2024"]);
        assert_eq!(declared.methods, ["PURGE"]);
        assert!(
            declared
                .attributes
                .contains_key("http.server.request.duration")
        );
    }

    #[test]
    fn what_views_and_services_leave_out_is_not_missed() {
        let tree = Node::parse(
            "views:\n  - match: {instrument: http.server.request.duration}\n    \
             attributes: {drop: [url.scheme], rename: {http.route: path}}\n\
             services:\n  - match: {exe: x}\n    attributes: {http.client.request.duration: [server.address]}\n",
        )
        .unwrap();
        let mut value = tree.to_json();
        value["attributes"] = serde_json::to_value(Config::default().attributes).unwrap();
        let config: Config = serde_json::from_value(value).unwrap();
        let declared = declared(&config);
        let lists =
            |instrument: &str, key: &str| declared.attributes[instrument].contains(&key.to_owned());
        assert!(!lists("http.server.request.duration", "url.scheme"));
        assert!(!lists("http.server.request.duration", "http.route"));
        assert!(lists("http.server.request.duration", "error.type"));
        assert!(!lists("http.client.request.duration", "error.type"));
        assert!(lists("http.client.request.duration", "server.address"));
        assert_eq!(declared.renamed, ["path"]);
    }
}
