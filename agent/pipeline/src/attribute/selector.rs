//! Selectors: the same keys in `include`, `exclude` and `services[].match`.

use wildmatch::WildMatch;

use super::ProcessFacts;
use super::unit::service_unit;

/// Keys of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorKey {
    /// Path of the executable.
    Exe,
    /// Arguments, joined by spaces.
    Cmdline,
    /// The server's port, on either side.
    Port,
    /// Process number.
    Pid,
    /// systemd unit, with or without `.service`.
    Unit,
    /// Path of any control group.
    Cgroup,
    /// Name of the container.
    Container,
    /// Any of the Kubernetes keys, which match nothing where Kubernetes is not known.
    Kubernetes,
}

impl SelectorKey {
    /// Parses the name in the configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "exe" => Self::Exe,
            "cmdline" => Self::Cmdline,
            "port" => Self::Port,
            "pid" => Self::Pid,
            "unit" => Self::Unit,
            "cgroup" => Self::Cgroup,
            "container" => Self::Container,
            "k8s_namespace" | "k8s_pod" | "k8s_owner" | "k8s_label" | "k8s_annotation" => {
                Self::Kubernetes
            }
            _ => return None,
        })
    }
}

/// Why a selector was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It has no keys.
    #[error("selector has no keys, expected at least one")]
    Empty,
    /// A key does not exist.
    #[error(
        "unknown selector key `{0}`, expected one of exe, cmdline, port, pid, unit, cgroup, container, \
         k8s_namespace, k8s_pod, k8s_owner, k8s_label, k8s_annotation"
    )]
    UnknownKey(String),
}

/// Conditions that all have to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    conditions: Vec<(SelectorKey, WildMatch)>,
}

/// Whom a selector is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The process.
    pub facts: &'a ProcessFacts,
    /// Its number.
    pub pid: u32,
    /// The server's port, 0 on Unix sockets.
    pub port: u16,
}

impl Selector {
    /// Builds a selector of conditions; values are globs, in which `*` matches across `/`.
    pub fn new(
        conditions: impl IntoIterator<Item = (SelectorKey, String)>,
    ) -> Result<Self, SelectorError> {
        let conditions: Vec<_> = conditions
            .into_iter()
            .map(|(key, glob)| (key, WildMatch::new(&glob)))
            .collect();
        if conditions.is_empty() {
            return Err(SelectorError::Empty);
        }
        Ok(Self { conditions })
    }

    /// Builds a selector of the configuration's names and globs.
    pub fn parse<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SelectorError> {
        let mut conditions = Vec::new();
        for (name, glob) in entries {
            let key = SelectorKey::from_name(name)
                .ok_or_else(|| SelectorError::UnknownKey(name.to_owned()))?;
            conditions.push((key, glob.to_owned()));
        }
        Self::new(conditions)
    }

    /// Whether all conditions hold.
    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        self.conditions
            .iter()
            .all(|(key, glob)| holds(*key, glob, candidate))
    }

    /// Whether all conditions hold or might, because what they ask for could not be read: the process had ended.
    pub fn might_match(&self, candidate: &Candidate<'_>) -> bool {
        self.conditions
            .iter()
            .all(|(key, glob)| is_unread(*key, candidate.facts) || holds(*key, glob, candidate))
    }

    /// Whether the port matters to it.
    pub fn asks_for_port(&self) -> bool {
        self.conditions
            .iter()
            .any(|(key, _)| *key == SelectorKey::Port)
    }
}

fn holds(key: SelectorKey, glob: &WildMatch, candidate: &Candidate<'_>) -> bool {
    let facts = candidate.facts;
    match key {
        SelectorKey::Exe => facts
            .exe
            .as_deref()
            .is_some_and(|exe| glob.matches(exe.strip_suffix(DELETED).unwrap_or(exe))),
        SelectorKey::Cmdline => !facts.cmdline.is_empty() && glob.matches(&facts.cmdline.join(" ")),
        SelectorKey::Port => candidate.port != 0 && glob.matches(&candidate.port.to_string()),
        SelectorKey::Pid => glob.matches(&candidate.pid.to_string()),
        SelectorKey::Unit => service_unit(&facts.cgroups).is_some_and(|unit| {
            glob.matches(unit)
                || unit
                    .strip_suffix(".service")
                    .is_some_and(|name| glob.matches(name))
        }),
        SelectorKey::Cgroup => facts
            .cgroups
            .iter()
            .any(|cgroup| glob.matches(&cgroup.path)),
        SelectorKey::Container => facts
            .container
            .as_deref()
            .is_some_and(|name| glob.matches(name)),
        SelectorKey::Kubernetes => false,
    }
}

/// An executable is what every process has, and the first that one loses which ends; its control groups stay until it is
/// waited for.
fn is_unread(key: SelectorKey, facts: &ProcessFacts) -> bool {
    match key {
        SelectorKey::Exe | SelectorKey::Cmdline => facts.exe.is_none(),
        SelectorKey::Unit | SelectorKey::Cgroup | SelectorKey::Container => {
            facts.exe.is_none() && facts.cgroups.is_empty()
        }
        SelectorKey::Port | SelectorKey::Pid | SelectorKey::Kubernetes => false,
    }
}

/// What the kernel appends to the path of an executable that was replaced on disk.
pub(super) const DELETED: &str = " (deleted)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Cgroup;

    fn nginx() -> ProcessFacts {
        ProcessFacts {
            exe: Some("/usr/sbin/nginx (deleted)".to_owned()),
            cmdline: vec!["nginx:".to_owned(), "worker".to_owned()],
            cgroups: vec![Cgroup::parse("0::/system.slice/nginx@blue.service").unwrap()],
            comm: "nginx".to_owned(),
            container: Some("web-1".to_owned()),
            ..ProcessFacts::default()
        }
    }

    fn matches(entries: &[(&str, &str)]) -> bool {
        let facts = nginx();
        let candidate = Candidate {
            facts: &facts,
            pid: 42,
            port: 8080,
        };
        Selector::parse(entries.iter().copied())
            .unwrap()
            .matches(&candidate)
    }

    #[test]
    fn each_key_is_a_glob() {
        for (key, yes, no) in [
            ("exe", "*/nginx", "nginx"),
            ("cmdline", "*work?r", "worker"),
            ("port", "80*", "80"),
            ("pid", "42", "4"),
            ("unit", "nginx@*", "apache2"),
            ("unit", "nginx@blue.service", "nginx.service"),
            ("cgroup", "/system.slice/*", "/user.slice/*"),
            ("container", "web-*", "db-*"),
        ] {
            assert!(matches(&[(key, yes)]), "{key} {yes}");
            assert!(!matches(&[(key, no)]), "{key} {no}");
        }
        assert!(!matches(&[("k8s_pod", "*")]));
    }

    #[test]
    fn all_keys_have_to_hold() {
        assert!(matches(&[("exe", "*nginx"), ("port", "8080")]));
        assert!(!matches(&[("exe", "*nginx"), ("port", "81")]));
    }

    #[test]
    fn refuses_unknown_keys_and_empty_selectors() {
        assert_eq!(
            Selector::parse([("exec", "x")]),
            Err(SelectorError::UnknownKey("exec".to_owned()))
        );
        assert_eq!(Selector::parse([]), Err(SelectorError::Empty));
    }
}
