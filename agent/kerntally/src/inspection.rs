//! What can be said about one process without watching it: its sockets, its TLS libraries, and what the rules
//! make of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kerntally_model::{NameSource, ProcessKey, Role};
use kerntally_pipeline::ROLES;
use kerntally_pipeline::attribute::Verdict;
use procfs::ProcError;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, MMapPath, Process};
use serde_json::{Value, json};

use crate::ledger::role_name;
use crate::procsource::TICK_NS;

/// Sockets that are listed.
const SOCKETS: usize = 64;

/// Listening ports that are asked about: a request to the agent has room for so many.
const PORTS: usize = 256;

/// Beginnings of the names of TLS libraries, with the probe that looks into them.
const LIBRARIES: [(&str, &str); 4] = [
    ("libssl.", "tls-openssl"),
    ("libssl3.", "tls-openssl"),
    ("libgnutls.", "tls-gnutls"),
    ("libnss3.", ""),
];

/// A process that was looked into.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) pid: u32,
    /// With its start, as the agent tells processes apart.
    pub(crate) process: ProcessKey,
    pub(crate) exe: Option<PathBuf>,
    pub(crate) comm: String,
    /// What may not be read of it, with the reason.
    pub(crate) unreadable: Vec<String>,
    /// Ports it listens on.
    pub(crate) ports: BTreeSet<u16>,
    sockets: Vec<Socket>,
    socket_count: usize,
    libraries: BTreeMap<String, &'static str>,
}

#[derive(Debug)]
struct Socket {
    family: &'static str,
    state: String,
    local: Option<String>,
    remote: Option<SocketAddr>,
}

/// Why a process cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("no process {0}")]
    Gone(u32),
    #[error("process {pid} cannot be read: {reason}")]
    Unreadable { pid: u32, reason: ProcError },
}

impl Inspection {
    /// Looks into a process below `root`, the host's `/proc`.
    pub(crate) fn of(root: &Path, pid: u32) -> Result<Self, InspectError> {
        let unreadable = |reason| match reason {
            ProcError::NotFound(_) => InspectError::Gone(pid),
            reason => InspectError::Unreadable { pid, reason },
        };
        let process = Process::new_with_root(root.join(pid.to_string())).map_err(unreadable)?;
        let stat = process.stat().map_err(unreadable)?;
        let mut inspection = Self {
            pid,
            process: ProcessKey {
                tgid: pid,
                start_ns: stat.starttime.saturating_mul(TICK_NS),
            },
            exe: None,
            comm: stat.comm,
            unreadable: Vec::new(),
            ports: BTreeSet::new(),
            sockets: Vec::new(),
            socket_count: 0,
            libraries: BTreeMap::new(),
        };
        inspection.exe = inspection.read("executable", process.exe());
        inspection.look_at_sockets(&process);
        inspection.look_at_libraries(&process);
        Ok(inspection)
    }

    /// Ports that are asked about.
    pub(crate) fn listed_ports(&self) -> Vec<u16> {
        self.ports.iter().copied().take(PORTS).collect()
    }

    fn read<T>(&mut self, what: &str, result: Result<T, ProcError>) -> Option<T> {
        result
            .map_err(|error| self.unreadable.push(format!("{what}: {error}")))
            .ok()
    }

    fn look_at_sockets(&mut self, process: &Process) {
        let Some(inodes) = self.read("open files", inodes(process)) else {
            return;
        };
        for (family, entries) in [("tcp", process.tcp()), ("tcp6", process.tcp6())] {
            let entries = self.read("sockets", entries).unwrap_or_default();
            for entry in entries.iter().filter(|entry| inodes.contains(&entry.inode)) {
                if entry.state == TcpState::Listen {
                    self.ports.insert(entry.local_address.port());
                }
                self.add(Socket::of(family, entry));
            }
        }
        let entries = self
            .read("Unix sockets", process.unix())
            .unwrap_or_default();
        // Stream sockets only.
        let streams = entries.into_iter().filter(|entry| entry.socket_type == 1);
        for entry in streams.filter(|entry| inodes.contains(&entry.inode)) {
            self.add(Socket {
                family: "unix",
                state: format!("{:?}", entry.state).to_lowercase(),
                local: entry.path.map(|path| path.display().to_string()),
                remote: None,
            });
        }
    }

    fn add(&mut self, socket: Socket) {
        self.socket_count += 1;
        if self.sockets.len() < SOCKETS {
            self.sockets.push(socket);
        }
    }

    fn look_at_libraries(&mut self, process: &Process) {
        let Some(maps) = self.read("mapped files", process.maps()) else {
            return;
        };
        for map in &maps {
            let MMapPath::Path(path) = &map.pathname else {
                continue;
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let known = LIBRARIES
                .iter()
                .find(|(beginning, _)| name.starts_with(beginning));
            if let Some((_, probe)) = known {
                self.libraries.insert(path.display().to_string(), probe);
            }
        }
    }

    /// The document around what the rules say, as [`verdicts`] has it.
    pub(crate) fn to_json(&self, verdicts: &[Value]) -> Value {
        let sockets: Vec<_> = self.sockets.iter().map(Socket::to_json).collect();
        let libraries: Vec<_> = self
            .libraries
            .iter()
            .map(|(path, probe)| {
                let probe = Some(*probe).filter(|probe| !probe.is_empty());
                json!({ "path": path, "probe": probe })
            })
            .collect();
        json!({
            "pid": self.pid,
            "exe": self.exe,
            "comm": self.comm,
            "readable": self.unreadable.is_empty(),
            "unreadable": self.unreadable,
            "verdicts": verdicts,
            "listens_on": self.ports,
            "sockets": sockets,
            "socket_count": self.socket_count,
            "tls_libraries": libraries,
        })
    }
}

impl Socket {
    fn of(family: &'static str, entry: &TcpNetEntry) -> Self {
        let is_connected = entry.state != TcpState::Listen;
        Self {
            family,
            state: format!("{:?}", entry.state).to_lowercase(),
            local: Some(entry.local_address.to_string()),
            remote: is_connected.then_some(entry.remote_address),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "family": self.family,
            "state": self.state,
            "local": self.local,
            "remote": self.remote,
        })
    }
}

fn inodes(process: &Process) -> Result<HashSet<u64>, ProcError> {
    let targets = process.fd()?.filter_map(Result::ok).map(|fd| fd.target);
    Ok(targets
        .filter_map(|target| match target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect())
}

/// Processes below `root` that listen on a TCP port. Tables of sockets may be long, and are read once for each
/// network namespace.
pub(crate) fn listeners(root: &Path, port: u16) -> Vec<u32> {
    let Ok(directory) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = directory
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let mut listening: HashMap<PathBuf, HashSet<u64>> = HashMap::new();
    pids.retain(|pid| {
        let dir = root.join(pid.to_string());
        let Ok(namespace) = std::fs::read_link(dir.join("ns/net")) else {
            return false;
        };
        let Ok(process) = Process::new_with_root(dir) else {
            return false;
        };
        let wanted = listening
            .entry(namespace)
            .or_insert_with(|| listening_at(&process, port));
        !wanted.is_empty() && inodes(&process).is_ok_and(|inodes| !inodes.is_disjoint(wanted))
    });
    pids
}

/// Listening sockets of a port in the network namespace of a process.
fn listening_at(process: &Process, port: u16) -> HashSet<u64> {
    let tables = [process.tcp(), process.tcp6()];
    let entries = tables.into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect()
}

/// What the rules say of a process that listens on these ports, by role and port.
pub(crate) fn verdicts(ports: &[u16], mut verdict: impl FnMut(u16, Role) -> Verdict) -> Vec<Value> {
    let mut verdicts = Vec::new();
    for role in ROLES {
        // As a client its own ports mean nothing.
        let ports = match role {
            Role::Server if !ports.is_empty() => ports,
            _ => &[0],
        };
        for port in ports {
            verdicts.push(verdict_json(&verdict(*port, role), *port, role));
        }
    }
    verdicts
}

fn verdict_json(verdict: &Verdict, port: u16, role: Role) -> Value {
    let port = Some(port).filter(|port| *port != 0);
    match verdict {
        Verdict::Watch { workload, rule } => json!({
            "role": role_name(role),
            "port": port,
            "watched": true,
            "reason": Value::Null,
            "service": workload.name,
            "namespace": workload.namespace,
            "version": workload.version,
            "environment": workload.environment,
            "named_by": named_by(workload.named_by),
            "rule": rule.map(|rule| format!("services[{rule}]")),
        }),
        Verdict::Exclude(reason) => json!({
            "role": role_name(role),
            "port": port,
            "watched": false,
            "reason": reason.to_string(),
        }),
    }
}

/// The source of a name, as people read it.
pub(crate) fn named_by(source: NameSource) -> &'static str {
    match source {
        NameSource::Configuration => "configuration",
        NameSource::Environment => "environment",
        NameSource::Unit => "unit",
        NameSource::Container => "container",
        NameSource::Program => "program",
        NameSource::Executable => "executable",
        NameSource::Unknown => "unknown",
    }
}

/// A process for people.
pub(crate) fn render(document: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let items = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let mut lines = vec![format!(
        "pid {} ({}) {}",
        text(&document["pid"]),
        text(&document["comm"]),
        text(&document["exe"])
    )];
    for verdict in items("verdicts") {
        let port = match &verdict["port"] {
            Value::Null => String::new(),
            port => format!(" on port {port}"),
        };
        let role = text(&verdict["role"]);
        lines.push(if verdict["watched"] == true {
            let by = match &verdict["rule"] {
                Value::Null => String::new(),
                item => format!(", {}", text(item)),
            };
            format!(
                "  as {role}{port}: watched as {}, named by {}{by}",
                text(&verdict["service"]),
                text(&verdict["named_by"])
            )
        } else {
            format!(
                "  as {role}{port}: not watched: {}",
                text(&verdict["reason"])
            )
        });
    }
    for socket in items("sockets") {
        lines.push(format!(
            "  {} {} {} {}",
            text(&socket["family"]),
            text(&socket["state"]),
            text(&socket["local"]),
            text(&socket["remote"])
        ));
    }
    let listed = items("sockets").len() as u64;
    let all = document["socket_count"].as_u64().unwrap_or(listed);
    if all > listed {
        lines.push(format!("  and {} sockets more", all - listed));
    }
    for library in items("tls_libraries") {
        let probe = match &library["probe"] {
            Value::Null => "no probe looks into it".to_owned(),
            probe => format!("probe {}", text(probe)),
        };
        lines.push(format!("  TLS library {}: {probe}", text(&library["path"])));
    }
    for unreadable in items("unreadable") {
        lines.push(format!("  cannot read {}", text(&unreadable)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use kerntally_pipeline::attribute::ExcludeReason;

    use super::*;

    #[test]
    fn this_process_and_its_listener_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let root = Path::new("/proc");
        let own = std::process::id();
        let inspection = Inspection::of(root, own).unwrap();
        assert!(inspection.ports.contains(&port));
        assert_eq!(inspection.unreadable, Vec::<String>::new());
        assert!(listeners(root, port).contains(&own));
        let judged = verdicts(&inspection.listed_ports(), |_, _| {
            Verdict::Exclude(ExcludeReason::Default)
        });
        let document = inspection.to_json(&judged);
        assert_eq!(document["pid"], own);
        let ports = document["listens_on"].as_array().unwrap();
        assert!(ports.contains(&json!(port)));
        let verdicts = document["verdicts"].as_array().unwrap();
        assert_eq!(verdicts.len(), inspection.ports.len() + 1);
        assert!(
            verdicts
                .iter()
                .all(|verdict| verdict["reason"] == "discovery.default_exclude")
        );
        let text = render(&document);
        assert!(
            text.contains(&format!("tcp listen 127.0.0.1:{port} -")),
            "{text}"
        );
        assert!(
            text.contains("not watched: discovery.default_exclude"),
            "{text}"
        );
    }

    #[test]
    fn processes_that_are_gone_are_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Inspection::of(root.path(), 4711).unwrap_err();
        assert_eq!(error.to_string(), "no process 4711");
        assert_eq!(listeners(root.path(), 80), Vec::<u32>::new());
    }
}
