//! What is known about a process, and where it is asked.

use std::fmt;

use kerntally_model::ProcessKey;

/// What `/proc` says about a process. Everything may be missing: processes end while they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Path of the executable, in the process's own mount namespace.
    pub exe: Option<String>,
    /// Arguments, the program first.
    pub cmdline: Vec<String>,
    /// Variables of the environment whose names begin with `OTEL_`; no others are read.
    pub environment: Vec<(String, String)>,
    /// Control groups.
    pub cgroups: Vec<Cgroup>,
    /// Name of the main task, at most 15 bytes.
    pub comm: String,
    /// Name of the container, where something knows it.
    pub container: Option<String>,
}

/// One line of `/proc/PID/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Controllers of a version 1 hierarchy (`name=systemd`); empty for version 2.
    pub controllers: String,
    /// Path within the hierarchy.
    pub path: String,
}

impl Cgroup {
    /// Parses `ID:CONTROLLERS:PATH`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, ':');
        parts.next()?.parse::<u32>().ok()?;
        let (controllers, path) = (parts.next()?, parts.next()?);
        Some(Self {
            controllers: controllers.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// Where facts about processes come from: `/proc` in the agent, a table in tests and replays.
pub trait ProcessSource: fmt::Debug + Send {
    /// Facts about a process; `None` if it is gone. An implementation checks that the process with that
    /// number started when the key says, and bounds what it reads.
    fn facts(&mut self, process: ProcessKey) -> Option<ProcessFacts>;
}
