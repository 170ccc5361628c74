//! Stage 4: a process and a port in, the workload it belongs to out, or the reason why it is not watched.

mod environment;
mod facts;
mod naming;
mod program;
mod selector;
mod unit;

use std::fmt;

use hashbrown::HashMap;
use kerntally_model::{ProcessKey, Role, Workload};

pub use facts::{Cgroup, ProcessFacts, ProcessSource};
pub use naming::OTHER_SERVICE;
pub(crate) use naming::other;
pub use selector::{Candidate, Selector, SelectorError, SelectorKey};

use crate::config::{Discovery, ServiceRule, Sides};

/// Processes that are remembered.
const PROCESSES: usize = 16_384;

/// Arguments of a process that are kept, and bytes of each.
const ARGUMENTS: usize = 64;
const ARGUMENT_BYTES: usize = 1024;

/// Programs left out by default, by the file name of the executable.
const DEFAULT_EXCLUDE: [&str; 19] = [
    "kerntally",
    "otelcol",
    "otelcol-*",
    "otel-collector*",
    "prometheus",
    "alertmanager",
    "pushgateway",
    "vmagent",
    "grafana-agent",
    "alloy",
    "telegraf",
    "fluent-bit",
    "vector",
    "*_exporter",
    "*-exporter",
    "linkerd2-proxy",
    "pilot-agent",
    "consul-dataplane",
    "cilium-envoy",
];

/// Why an exchange is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExcludeReason {
    /// `sides` does not list its side.
    Side,
    /// An item of `discovery.exclude` matches.
    Rule {
        /// Position of the item.
        item: usize,
    },
    /// Its executable is on the list of `discovery.default_exclude`.
    Default,
    /// There are items in `discovery.include`, and none matches.
    NotIncluded,
    /// No item of `discovery.include` matches, but one might if more were known of the process.
    Unidentified,
    /// Its probe was switched off for it.
    SwitchedOff,
}

impl fmt::Display for ExcludeReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Side => formatter.write_str("its side is not in sides"),
            Self::Rule { item } => write!(formatter, "item {} of discovery.exclude", item + 1),
            Self::Default => formatter.write_str("discovery.default_exclude"),
            Self::SwitchedOff => formatter.write_str("switched off by kerntally probes disable"),
            Self::NotIncluded => formatter.write_str("no item of discovery.include matches"),
            Self::Unidentified => formatter
                .write_str("it ended before what discovery.include asks for was known of it"),
        }
    }
}

/// What the rules say about a process, a port and a side.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is watched.
    Watch {
        /// As part of this workload.
        workload: Workload,
        /// Position of the item of `services` that matched.
        rule: Option<usize>,
    },
    /// It is not.
    Exclude(ExcludeReason),
}

/// The rules of discovery and naming; pure, without memory.
#[derive(Clone, Debug)]
pub struct Rules {
    discovery: Discovery,
    sides: Sides,
    services: Vec<ServiceRule>,
    resource_allow: Vec<String>,
    default_exclude: Vec<wildmatch::WildMatch>,
    asks_for_port: bool,
}

impl Rules {
    /// Rules of a configuration.
    pub fn new(config: &crate::Config) -> Self {
        let discovery = config.discovery.clone();
        let named = config.services.iter().flat_map(|rule| &rule.selectors);
        let asks_for_port = discovery
            .include
            .iter()
            .chain(&discovery.exclude)
            .chain(named)
            .any(Selector::asks_for_port);
        Self {
            discovery,
            sides: config.sides,
            services: config.services.clone(),
            resource_allow: config.resource_allow.clone(),
            default_exclude: DEFAULT_EXCLUDE
                .into_iter()
                .map(wildmatch::WildMatch::new)
                .collect(),
            asks_for_port,
        }
    }

    /// Whether verdicts may differ by port.
    pub fn asks_for_port(&self) -> bool {
        self.asks_for_port
    }

    /// Decides. Exclusion beats inclusion.
    pub fn verdict(&self, candidate: &Candidate<'_>, role: Role) -> Verdict {
        if let Some(reason) = self.exclusion(candidate, role) {
            return Verdict::Exclude(reason);
        }
        let position = self.services.iter().position(|item| {
            item.selectors
                .iter()
                .any(|selector| selector.matches(candidate))
        });
        let matched = position.map(|position| &self.services[position]);
        let workload = naming::workload(candidate.facts, matched, &self.resource_allow);
        Verdict::Watch {
            workload,
            rule: position,
        }
    }

    fn exclusion(&self, candidate: &Candidate<'_>, role: Role) -> Option<ExcludeReason> {
        let side = match role {
            Role::Server => self.sides.server,
            Role::Client => self.sides.client,
        };
        if !side {
            return Some(ExcludeReason::Side);
        }
        let discovery = &self.discovery;
        let item = discovery
            .exclude
            .iter()
            .position(|selector| selector.matches(candidate));
        if let Some(item) = item {
            return Some(ExcludeReason::Rule { item });
        }
        if discovery.default_exclude && self.is_default_excluded(candidate.facts) {
            return Some(ExcludeReason::Default);
        }
        let any = |asked: fn(&Selector, &Candidate<'_>) -> bool| {
            let mut items = discovery.include.iter();
            items.any(|selector| asked(selector, candidate))
        };
        if discovery.include.is_empty() || any(Selector::matches) {
            None
        } else if any(Selector::might_match) {
            Some(ExcludeReason::Unidentified)
        } else {
            Some(ExcludeReason::NotIncluded)
        }
    }

    fn is_default_excluded(&self, facts: &ProcessFacts) -> bool {
        let Some(exe) = facts.exe.as_deref() else {
            return false;
        };
        let name = program::file_name(exe.strip_suffix(selector::DELETED).unwrap_or(exe));
        // Envoy is a service of its own right unless a mesh started it.
        let is_mesh_envoy = name == "envoy"
            && facts
                .cmdline
                .iter()
                .any(|argument| argument.contains("istio"));
        is_mesh_envoy || self.default_exclude.iter().any(|glob| glob.matches(name))
    }
}

/// What is remembered of processes, so that one that is gone keeps its name.
#[derive(Debug)]
pub(crate) struct Processes {
    source: Box<dyn ProcessSource>,
    known: HashMap<ProcessKey, Process>,
}

#[derive(Debug)]
struct Process {
    facts: ProcessFacts,
    /// Collections since it exited: exchanges of its last moments may still arrive.
    exited: Option<u8>,
}

impl Processes {
    pub(crate) fn new(source: Box<dyn ProcessSource>) -> Self {
        Self {
            source,
            known: HashMap::new(),
        }
    }

    /// A process was announced, or replaced its program: its facts are read while it is there.
    pub(crate) fn announce(&mut self, process: ProcessKey, comm: &str) {
        let facts = self.source.facts(process).unwrap_or_else(|| ProcessFacts {
            comm: comm.to_owned(),
            ..ProcessFacts::default()
        });
        self.remember(process, facts);
    }

    /// A process ended; its name is remembered for two collections.
    pub(crate) fn exited(&mut self, process: ProcessKey, comm: &str) {
        if !self.known.contains_key(&process) {
            self.remember(
                process,
                ProcessFacts {
                    comm: comm.to_owned(),
                    ..ProcessFacts::default()
                },
            );
        }
        if let Some(process) = self.known.get_mut(&process) {
            process.exited.get_or_insert(0);
        }
    }

    /// Facts about a process, empty if it is gone and was never announced.
    pub(crate) fn facts(&mut self, process: ProcessKey) -> &ProcessFacts {
        if !self.known.contains_key(&process) {
            let facts = self.source.facts(process).unwrap_or_default();
            self.remember(process, facts);
        }
        &self.known[&process].facts
    }

    /// Forgets processes that ended before the last collection; returns whether there were any.
    pub(crate) fn on_collection(&mut self) -> bool {
        let before = self.known.len();
        self.known.retain(|_, process| match &mut process.exited {
            None => true,
            Some(collections) => {
                *collections += 1;
                *collections < 2
            }
        });
        before != self.known.len()
    }

    /// Whether a process is remembered.
    pub(crate) fn is_known(&self, process: ProcessKey) -> bool {
        self.known.contains_key(&process)
    }

    fn remember(&mut self, process: ProcessKey, mut facts: ProcessFacts) {
        if self.known.len() >= PROCESSES && !self.known.contains_key(&process) {
            self.known.retain(|_, process| process.exited.is_none());
            if self.known.len() >= PROCESSES {
                self.known.clear();
            }
        }
        facts.cmdline.truncate(ARGUMENTS);
        for argument in &mut facts.cmdline {
            argument.truncate(argument.floor_char_boundary(ARGUMENT_BYTES));
        }
        self.known.insert(
            process,
            Process {
                facts,
                exited: None,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(exe: &str, cmdline: &[&str], default_exclude: bool) -> Option<ExcludeReason> {
        let mut config = crate::Config::default();
        config.discovery.default_exclude = default_exclude;
        let facts = ProcessFacts {
            exe: Some(exe.to_owned()),
            cmdline: cmdline
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            ..ProcessFacts::default()
        };
        let candidate = Candidate {
            facts: &facts,
            pid: 1,
            port: 80,
        };
        match Rules::new(&config).verdict(&candidate, Role::Server) {
            Verdict::Exclude(reason) => Some(reason),
            Verdict::Watch { .. } => None,
        }
    }

    #[test]
    fn machinery_is_left_out_by_default() {
        for exe in [
            "/bin/otelcol",
            "/otelcol-contrib",
            "/bin/prometheus (deleted)",
            "/usr/bin/node_exporter",
        ] {
            assert_eq!(
                reason(exe, &[], true),
                Some(ExcludeReason::Default),
                "{exe}"
            );
            assert_eq!(reason(exe, &[], false), None, "{exe}");
        }
        assert_eq!(reason("/usr/bin/node", &[], true), None);
        assert_eq!(
            reason("/bin/envoy", &["envoy", "-c", "/etc/envoy.yaml"], true),
            None
        );
        let mesh = ["envoy", "-c", "etc/istio/proxy/envoy-rev.json"];
        assert_eq!(
            reason("/bin/envoy", &mesh, true),
            Some(ExcludeReason::Default)
        );
    }

    #[test]
    fn exclusion_beats_inclusion() {
        let selector = || vec![Selector::parse([("pid", "*")]).unwrap()];
        let mut config = crate::Config::default();
        config.discovery.include = selector();
        config.discovery.exclude = selector();
        let facts = ProcessFacts::default();
        let candidate = Candidate {
            facts: &facts,
            pid: 1,
            port: 80,
        };
        let verdict = |config: &crate::Config| Rules::new(config).verdict(&candidate, Role::Client);
        assert_eq!(
            verdict(&config),
            Verdict::Exclude(ExcludeReason::Rule { item: 0 })
        );
        config.discovery.exclude.clear();
        assert!(matches!(verdict(&config), Verdict::Watch { .. }));
        config.sides.client = false;
        assert_eq!(verdict(&config), Verdict::Exclude(ExcludeReason::Side));
    }

    #[test]
    fn who_ended_before_it_was_known_is_not_said_to_be_left_out() {
        let reason = |key: &str, glob: &str, facts: &ProcessFacts| {
            let mut config = crate::Config::default();
            config.discovery.include =
                vec![Selector::parse([(key, glob), ("port", "80")]).unwrap()];
            let candidate = Candidate {
                facts,
                pid: 1,
                port: 80,
            };
            Rules::new(&config).exclusion(&candidate, Role::Client)
        };
        let gone = ProcessFacts {
            comm: "curl".to_owned(),
            ..ProcessFacts::default()
        };
        for key in ["exe", "cmdline", "unit", "cgroup", "container"] {
            assert_eq!(
                reason(key, "*", &gone),
                Some(ExcludeReason::Unidentified),
                "{key}"
            );
        }
        // What is known of it decides.
        assert_eq!(reason("pid", "2", &gone), Some(ExcludeReason::NotIncluded));
        assert_eq!(reason("pid", "1", &gone), None);
        let known = ProcessFacts {
            exe: Some("/usr/bin/curl".to_owned()),
            ..gone
        };
        assert_eq!(
            reason("exe", "/bin/*", &known),
            Some(ExcludeReason::NotIncluded)
        );
        // A container that nothing names is none.
        assert_eq!(
            reason("container", "*", &known),
            Some(ExcludeReason::NotIncluded)
        );
    }

    #[derive(Debug)]
    struct Nobody;

    impl ProcessSource for Nobody {
        fn facts(&mut self, _process: ProcessKey) -> Option<ProcessFacts> {
            None
        }
    }

    #[test]
    fn processes_are_bounded_and_those_that_ended_go_first() {
        let mut processes = Processes::new(Box::new(Nobody));
        let key = |tgid| ProcessKey { tgid, start_ns: 1 };
        let bound = u32::try_from(PROCESSES).unwrap();
        for tgid in 0..bound {
            processes.announce(key(tgid), "x");
        }
        processes.exited(key(7), "x");
        processes.announce(key(bound), "x");
        assert!(!processes.is_known(key(7)));
        assert_eq!(processes.known.len(), PROCESSES);
        processes.announce(key(bound + 1), "x");
        assert_eq!(processes.known.len(), 1);
    }
}
