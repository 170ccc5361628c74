//! The order of names: which source names a workload.

use kerntally_model::{NameSource, Workload};

use super::ProcessFacts;
use super::environment::{bounded, declared};
use super::program::{file_name, program_name};
use super::selector::DELETED;
use super::unit::{service_unit, unit_name};
use crate::config::ServiceRule;

/// Name of the workload of what has none, or no room.
pub const OTHER_SERVICE: &str = "_other";

/// Names a process's workload; `rule` is the first of the configuration that matches it.
pub(super) fn workload(
    facts: &ProcessFacts,
    rule: Option<&ServiceRule>,
    allow: &[String],
) -> Workload {
    let declared = declared(&facts.environment, allow);
    let configured = rule.and_then(|rule| rule.name.as_deref()).and_then(bounded);
    let (name, named_by) = configured
        .map(|name| (name, NameSource::Configuration))
        .or(declared.name.map(|name| (name, NameSource::Environment)))
        .or_else(|| found(facts))
        .unwrap_or_else(|| (OTHER_SERVICE.to_owned(), NameSource::Unknown));
    let configured =
        |field: fn(&ServiceRule) -> &Option<String>| rule.and_then(|rule| field(rule).clone());
    let mut attributes = declared.others;
    attributes.extend(
        rule.into_iter()
            .flat_map(|rule| rule.attributes.iter().cloned()),
    );
    Workload {
        name,
        namespace: configured(|rule| &rule.namespace).or(declared.namespace),
        version: configured(|rule| &rule.version).or(declared.version),
        environment: declared.environment,
        attributes: last_by_key(attributes),
        named_by,
    }
}

/// The stand-in for what has no name or no room.
pub(crate) fn other() -> Workload {
    Workload {
        name: OTHER_SERVICE.to_owned(),
        namespace: None,
        version: None,
        environment: None,
        attributes: Vec::new(),
        named_by: NameSource::Unknown,
    }
}

/// Names that are found rather than given.
fn found(facts: &ProcessFacts) -> Option<(String, NameSource)> {
    let unit = || {
        service_unit(&facts.cgroups)
            .map(unit_name)
            .and_then(bounded)
    };
    let container = || facts.container.as_deref().and_then(bounded);
    let program = || program_name(facts).as_deref().and_then(bounded);
    let executable = || {
        let exe = facts
            .exe
            .as_deref()
            .map(|exe| exe.strip_suffix(DELETED).unwrap_or(exe));
        exe.map(file_name)
            .and_then(bounded)
            .or_else(|| bounded(&facts.comm))
    };
    unit()
        .map(|name| (name, NameSource::Unit))
        .or_else(|| container().map(|name| (name, NameSource::Container)))
        .or_else(|| program().map(|name| (name, NameSource::Program)))
        .or_else(|| executable().map(|name| (name, NameSource::Executable)))
}

/// Sorted by key; of equal keys the last one stays, as the configuration comes last.
fn last_by_key(mut attributes: Vec<(String, String)>) -> Vec<(String, String)> {
    attributes.reverse();
    attributes.sort_by(|a, b| a.0.cmp(&b.0));
    attributes.dedup_by(|later, earlier| later.0 == earlier.0);
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Cgroup;

    fn full() -> ProcessFacts {
        ProcessFacts {
            exe: Some("/usr/bin/python3.11 (deleted)".to_owned()),
            cmdline: vec!["python3".to_owned(), "app.py".to_owned()],
            environment: vec![
                ("OTEL_SERVICE_NAME".to_owned(), "declared".to_owned()),
                (
                    "OTEL_RESOURCE_ATTRIBUTES".to_owned(),
                    "service.version=7,team=a".to_owned(),
                ),
            ],
            cgroups: vec![Cgroup::parse("0::/system.slice/unit@1.service").unwrap()],
            comm: "comm".to_owned(),
            container: Some("container".to_owned()),
        }
    }

    fn named(facts: &ProcessFacts, rule: Option<&ServiceRule>) -> (String, NameSource) {
        let workload = workload(facts, rule, &[]);
        (workload.name, workload.named_by)
    }

    #[test]
    fn sources_follow_each_other() {
        let mut facts = full();
        let rule = ServiceRule {
            name: Some("configured".to_owned()),
            ..ServiceRule::default()
        };
        let expect = |facts: &ProcessFacts, rule: Option<&ServiceRule>, name: &str, source| {
            assert_eq!(named(facts, rule), (name.to_owned(), source));
        };
        expect(&facts, Some(&rule), "configured", NameSource::Configuration);
        expect(
            &facts,
            Some(&ServiceRule::default()),
            "declared",
            NameSource::Environment,
        );
        facts.environment.clear();
        expect(&facts, None, "unit", NameSource::Unit);
        facts.cgroups.clear();
        expect(&facts, None, "container", NameSource::Container);
        facts.container = None;
        expect(&facts, None, "app", NameSource::Program);
        facts.cmdline.clear();
        expect(&facts, None, "python3.11", NameSource::Executable);
        facts.exe = None;
        expect(&facts, None, "comm", NameSource::Executable);
        facts.comm.clear();
        expect(&facts, None, OTHER_SERVICE, NameSource::Unknown);
    }

    #[test]
    fn the_configuration_fills_in_and_overrides() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let rule = ServiceRule {
            namespace: Some("shop".to_owned()),
            attributes: vec![pair("team", "b"), pair("a", "1")],
            ..ServiceRule::default()
        };
        let workload = workload(&full(), Some(&rule), &["team".to_owned()]);
        assert_eq!(workload.namespace.as_deref(), Some("shop"));
        assert_eq!(workload.version.as_deref(), Some("7"));
        assert_eq!(workload.attributes, [pair("a", "1"), pair("team", "b")]);
    }
}
