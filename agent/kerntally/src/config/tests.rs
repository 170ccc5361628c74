//! The configuration as a whole: places of errors, precedence, defaults.

use std::fs;

use super::load::{Problem, Sources, UnknownKeys};
use super::*;

struct Case {
    sources: Sources,
    _dir: tempfile::TempDir,
}

fn case(file: &str) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.yaml");
    fs::write(&path, file).unwrap();
    Case {
        sources: Sources {
            file: Some(path),
            ..Sources::default()
        },
        _dir: dir,
    }
}

fn problems(case: &Case) -> Vec<Problem> {
    match load(&case.sources) {
        Err(ConfigError::Invalid { problems } | ConfigError::Clash { problems, .. }) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

fn only_problem(file: &str) -> (String, String, String) {
    let case = case(file);
    let mut found = problems(&case);
    assert_eq!(found.len(), 1, "{found:?}");
    let problem = found.remove(0);
    let line = problem.place.rsplit(':').next().unwrap().to_owned();
    assert!(problem.place.contains("k.yaml"), "{problem}");
    (line, problem.key, problem.message)
}

/// File, line, key, and a part of the message.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "export:\n  intervall: 15s\n",
        "2",
        "export.intervall",
        "unknown key",
    ),
    (
        "export:\n  interval: 15\n",
        "2",
        "export.interval",
        "a time with a unit",
    ),
    (
        "export:\n  interval: soon\n",
        "2",
        "export.interval",
        "such as 15s",
    ),
    ("hooks:\n  ring: 3MiB\n", "2", "hooks.ring", "power of two"),
    ("hooks:\n\n  head: 4KiB\n", "3", "hooks.head", "1024B"),
    ("hooks: {backend: magic}\n", "1", "hooks.backend", "fexit"),
    ("hooks: {backend: uprobe}\n", "1", "hooks.backend", "kprobe"),
    ("sides: []\n", "1", "sides", "at least one"),
    ("sides:\n- server\n- middle\n", "3", "sides[1]", "middle"),
    ("probes:\n  http1: yes\n", "2", "probes.http1", "boolean"),
    (
        "discovery:\n  include:\n  - {}\n",
        "3",
        "discovery.include[0]",
        "empty selector",
    ),
    (
        "discovery:\n  include:\n  - k8s_pod: x\n",
        "3",
        "discovery.include[0].k8s_pod",
        "not built",
    ),
    (
        "discovery:\n  exclude:\n  - exec: x\n",
        "3",
        "discovery.exclude[0].exec",
        "unknown key",
    ),
    (
        "attributes:\n  http.server.request.duration:\n  - http.route\n  - http.rout\n",
        "4",
        "attributes.http.server.request.duration[1]",
        "no such attribute",
    ),
    (
        "attributes:\n  http.server.duration: []\n",
        "2",
        "attributes.http.server.duration",
        "no such instrument",
    ),
    (
        "export:\n  temporality: lowmemory\n  prometheus: {listen: '127.0.0.1:9470'}\n",
        "3",
        "export.prometheus.listen",
        "cumulative",
    ),
    (
        "histogram:\n  type: explicit\n  boundaries: [1, 0.5]\n",
        "3",
        "histogram.boundaries",
        "ascending",
    ),
    (
        "services:\n- match: {exe: x}\n  histogram: {boundaries: []}\n",
        "3",
        "services[0].histogram.boundaries",
        "1 to 200",
    ),
    (
        "services:\n- match: {exe: x}\n  attributes:\n    http.server.request.duration: [nope]\n",
        "4",
        "services[0].attributes.http.server.request.duration[0]",
        "no such attribute",
    ),
    (
        "exemplars:\n  per_series: 0\n",
        "2",
        "exemplars.per_series",
        "1 to 100",
    ),
    (
        "exemplars:\n  budget: {healthy: 2}\n",
        "2",
        "exemplars.budget.healthy",
        "from 0 to 1",
    ),
    (
        "exemplars: {headers: [tracecontext, zipkin]}\n",
        "1",
        "exemplars.headers[1]",
        "zipkin",
    ),
    (
        "services:\n- match: {exe: x}\n  exemplars: {per_series: 1000}\n",
        "3",
        "services[0].exemplars.per_series",
        "1 to 100",
    ),
    (
        "views:\n- match: {instrument: http.server.request.duration}\n",
        "2",
        "views[0]",
        "changes nothing",
    ),
    (
        "views:\n- unit: s\n- match: {instrument: db.*}\n  unit: s\n",
        "3",
        "views[1].match.instrument",
        "no instrument",
    ),
    ("views:\n- unit: minutes\n", "2", "views[0].unit", "s or ms"),
    (
        "views:\n- attributes:\n    drop: [http.rout]\n",
        "3",
        "views[0].attributes.drop",
        "no such attribute",
    ),
    (
        "views:\n- aggregation: summary\n",
        "2",
        "views[0].aggregation",
        "summary",
    ),
    (
        "views:\n- match: {instrument: http.server.request.duration}\n  name: x\n\
         - match: {instrument: http.client.request.duration}\n  name: x\n",
        "5",
        "views[1].name",
        "for one of them",
    ),
    (
        "resource: {identity: none}\n",
        "1",
        "resource.identity",
        "delta",
    ),
    (
        "export: {temporality: delta}\nattributes: {http.server.active_requests: []}\nresource: {identity: none}\n",
        "3",
        "resource.identity",
        "http.server.active_requests",
    ),
    (
        "export:\n  otlp:\n    endpoint: localhost\n",
        "3",
        "export.otlp.endpoint",
        "http://",
    ),
    (
        "routes:\n  patterns:\n  - users\n",
        "3",
        "routes.patterns[0]",
        "begins with /",
    ),
    (
        "services:\n- name: x\n",
        "2",
        "services[0].match",
        "at least one key",
    ),
    (
        "services:\n- match: {exe: x}\n  version: 1.4\n",
        "3",
        "services[0].version",
        "string",
    ),
    ("a: 1\na: 2\n", "2", "", "duplicate"),
    ("a: [1\n", "1", "", "bracket"),
    ("- a\n", "1", "", "map of keys"),
];

#[test]
fn each_kind_of_error_names_line_and_key() {
    for (file, line, key, says) in CASES {
        let (at, found, message) = only_problem_or_first(file);
        assert_eq!(
            (at.as_str(), found.as_str()),
            (*line, *key),
            "{file}: {message}"
        );
        assert!(message.contains(says), "{file}: {message}");
    }
}

/// Cases may trip a second check; the first problem is the one that is asked for.
fn only_problem_or_first(file: &str) -> (String, String, String) {
    let case = case(file);
    let found = problems(&case);
    let problem = &found[0];
    let line = problem.place.rsplit(':').next().unwrap().to_owned();
    (line, problem.key.clone(), problem.message.clone())
}

#[test]
fn all_unknown_keys_are_named_at_once() {
    let found = problems(&case("expart: 1\nexport: {intervall: 1s}\n"));
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["expart", "export.intervall"]);
}

#[test]
fn unknown_keys_may_be_warned_about() {
    let mut case = case("expart: 1\nexport: {interval: 7s}\n");
    case.sources.unknown_keys = UnknownKeys::Warn;
    let loaded = load(&case.sources).unwrap();
    assert_eq!(loaded.config.export.interval, Span::from_secs(7));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("k.yaml:1: expart: unknown key"),
        "{loaded:?}"
    );
}

#[test]
fn an_empty_file_is_the_defaults() {
    let loaded = load(&case("").sources).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_missing_file_that_was_named_is_an_error() {
    let mut case = case("");
    case.sources.file = Some("/nonexistent/k.yaml".into());
    let message = load(&case.sources).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/k.yaml"), "{message}");
}

fn interval(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Span {
    let mut case = case(file);
    case.sources.variables = variables
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    case.sources.settings = flags
        .iter()
        .map(|(key, value)| Setting {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            flag: "--set".to_owned(),
        })
        .collect();
    load(&case.sources).unwrap().config.export.interval
}

#[test]
fn command_line_beats_own_variables_beat_standard_ones_beat_the_file() {
    let file = "export: {interval: 1s}\n";
    let standard = ("OTEL_METRIC_EXPORT_INTERVAL", "2000");
    let own = ("KERNTALLY_EXPORT_INTERVAL", "3s");
    let flag = ("export.interval", "4s");
    assert_eq!(interval("", &[], &[]), Span::from_secs(15));
    assert_eq!(interval(file, &[], &[]), Span::from_secs(1));
    assert_eq!(interval(file, &[standard], &[]), Span::from_secs(2));
    assert_eq!(interval(file, &[own, standard], &[]), Span::from_secs(3));
    assert_eq!(
        interval(file, &[own, standard], &[flag]),
        Span::from_secs(4)
    );
}

#[test]
fn errors_outside_the_file_name_variable_or_option() {
    let mut case = case("");
    case.sources.variables = vec![("KERNTALLY_EXPORT_INTERVAL".into(), "x".into())];
    assert_eq!(problems(&case)[0].place, "KERNTALLY_EXPORT_INTERVAL");
    case.sources.variables.clear();
    case.sources.settings = vec![Setting {
        key: "export.intervall".into(),
        value: "1s".into(),
        flag: "--set export.intervall=1s".into(),
    }];
    let problem = &problems(&case)[0];
    assert_eq!(problem.place, "--set export.intervall=1s");
    assert_eq!(problem.message, "unknown key");
}

#[test]
fn listing_one_instrument_leaves_the_others_alone() {
    let file = "attributes:\n  http.server.request.duration: [http.route]\n";
    let config = load(&case(file).sources).unwrap().config;
    assert_eq!(
        config.attributes["http.server.request.duration"],
        ["http.route"]
    );
    assert_eq!(config.attributes["http.client.request.duration"].len(), 6);
}

#[test]
fn what_is_not_done_yet_is_said() {
    for (file, says) in [
        ("limits: {memory: 64MiB}\n", "limits.memory"),
        ("kubernetes: {enabled: true}\n", "kubernetes.enabled"),
    ] {
        let warnings = load(&case(file).sources).unwrap().warnings;
        assert!(
            warnings.iter().any(|warning| warning.contains(says)),
            "{file}: {warnings:?}"
        );
    }
}

#[test]
fn delta_points_may_go_without_an_identity() {
    let file = "export: {temporality: delta}\nresource: {identity: none}\n";
    let loaded = load(&case(file).sources).unwrap();
    assert_eq!(loaded.config.export.temporality, Temporality::Delta);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn each_process_may_have_an_identity() {
    let loaded = load(&case("resource: {identity: process}\n").sources).unwrap();
    assert!(loaded.pipeline.per_process);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(!load(&case("").sources).unwrap().pipeline.per_process);
}

#[test]
fn kept_switches_lie_between_the_file_and_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    crate::state::keep_switches(&state, ["http1", "tls-go", "http9"], false).unwrap();
    let file = format!(
        "state: {{dir: {}}}\nprobes: {{http1: true}}\n",
        state.display()
    );
    let case = case(&file);
    let probes = |sources: &Sources| {
        let loaded = load(sources).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        (loaded.config.probes.http1, loaded.config.probes.tls_go)
    };
    let mut sources = case.sources.clone();
    assert_eq!(
        probes(&sources),
        (true, true),
        "only where they are asked for"
    );
    sources.with_switches = true;
    assert_eq!(probes(&sources), (false, false));
    sources.variables = vec![("KERNTALLY_PROBES_HTTP1".to_owned(), "true".to_owned())];
    assert_eq!(probes(&sources), (true, false));
    fs::write(crate::state::switches_file(&state), "{").unwrap();
    let loaded = load(&sources).unwrap();
    assert!(
        loaded.warnings[0].contains("probes.json"),
        "{:?}",
        loaded.warnings
    );
    assert!(loaded.config.probes.tls_go);
}

#[test]
fn console_off_is_not_a_boolean() {
    let config = load(&case("export: {console: off, otlp: null}\n").sources)
        .unwrap()
        .config;
    assert_eq!(config.export.console, Console::Off);
    assert_eq!(config.export.otlp, None);
}

#[test]
fn credentials_are_blanked_when_shown() {
    let file = "export: {otlp: {headers: {authorization: Bearer hunter2}}}\n";
    let config = load(&case(file).sources).unwrap().config;
    let shown = config.to_public_json().unwrap().to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn ports_in_selectors_are_numbers_or_globs() {
    let file = "discovery: {include: [{port: 8080}, {port: '80*'}]}\n";
    let config = load(&case(file).sources).unwrap().config;
    assert_eq!(config.discovery.include[0].conditions(), [("port", "8080")]);
    assert_eq!(config.discovery.include[1].conditions(), [("port", "80*")]);
}

#[test]
fn a_bad_value_is_one_problem() {
    let (line, key, _) = only_problem("log:\n  level: loud\n");
    assert_eq!((line.as_str(), key.as_str()), ("2", "log.level"));
}

#[test]
fn a_service_keeps_what_it_does_not_override() {
    let file = "routes: {unmatched: wildcard, patterns: [/a]}\n\
        services:\n- {match: {exe: x}, routes: {patterns: [/b]}, cardinality: {per_service: 7}}\n";
    let pipeline = load(&case(file).sources).unwrap().pipeline;
    let rule = &pipeline.services[0];
    let routes = rule.routes.as_ref().unwrap();
    assert_eq!(
        routes.unmatched,
        kerntally_pipeline::config::Unmatched::Wildcard
    );
    let (_, pattern) = routes.patterns.find("/b").unwrap();
    assert_eq!(&**pattern, "/b");
    assert!(routes.patterns.find("/a").is_none());
    assert_eq!((rule.per_service, rule.hosts_per_service), (Some(7), None));
}

#[test]
fn exemplars_of_a_service_keep_what_it_does_not_override() {
    use kerntally_pipeline::exemplar::{ExemplarFilter, ExemplarPolicy};
    use kerntally_wire::{TraceFormat, TraceFormats};
    let file = "exemplars: {policy: budget, headers: [b3], budget: {healthy: 0.5}}\n\
        services:\n- {match: {exe: x}, exemplars: {filter: always_on, budget: {max_error_rate: 0.2}}}\n\
        - {match: {exe: y}}\n";
    let pipeline = load(&case(file).sources).unwrap().pipeline;
    assert_eq!(pipeline.exemplars.filter, ExemplarFilter::TraceBased);
    let own = pipeline.services[0].exemplars.unwrap();
    assert_eq!(own.filter, ExemplarFilter::AlwaysOn);
    assert_eq!(own.policy, ExemplarPolicy::Budget);
    assert_eq!(own.formats, TraceFormats::new([TraceFormat::B3]));
    assert_eq!((own.budget.healthy, own.budget.max_error_rate), (0.5, 0.2));
    assert_eq!(pipeline.services[1].exemplars, None);
}

#[test]
fn what_is_emitted_arrives_at_its_stage() {
    use kerntally_pipeline::config::TemporalityPreference;
    let file = "attributes: {http.server.active_requests: [url.scheme]}\n\
        histogram: {type: explicit, boundaries: [0.1, 1]}\n\
        views: [{match: {service: shop}, unit: ms, attributes: {rename: {http.route: route}}}]\n\
        export: {temporality: delta}\n\
        services:\n\
        - {match: {exe: x}, attributes: {http.client.request.duration: []}, histogram: {type: exponential}}\n\
        - {match: {exe: y}}\n";
    let loaded = load(&case(file).sources).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let pipeline = loaded.pipeline;
    assert!(pipeline.attributes.active.is_some() && pipeline.emits_active());
    assert!(pipeline.histogram.is_explicit);
    assert_eq!(&*pipeline.histogram.boundaries, [0.1, 1.0]);
    assert_eq!(pipeline.views.len(), 1);
    assert_eq!(pipeline.temporality, TemporalityPreference::Delta);
    let own = &pipeline.services[0];
    let lists = own.allow.unwrap();
    assert_eq!(lists.active, pipeline.attributes.active);
    assert_ne!(lists.client, pipeline.attributes.client);
    let histogram = own.histogram.as_ref().unwrap();
    assert!(!histogram.is_explicit);
    assert_eq!(histogram.boundaries, pipeline.histogram.boundaries);
    assert!(pipeline.services[1].allow.is_none() && pipeline.services[1].histogram.is_none());
}
