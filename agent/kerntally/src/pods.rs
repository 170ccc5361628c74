//! The processes of a pod, without asking Kubernetes: the node keeps a directory of logs for each pod, named after
//! its namespace, its name and its uid, and the uid stands in the control groups of the pod's processes.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the node keeps a pod's logs, seen through the host's first process.
const LOGS: &str = "1/root/var/log/pods";

/// A pod, as users name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodName {
    namespace: String,
    name: String,
}

/// Why a pod's processes are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    #[error("expected NAMESPACE/NAME, got `{0}`")]
    Name(String),
    #[error(
        "pods are known by {}, which cannot be read ({reason}): this is no Kubernetes node, or host.proc is not the host's /proc",
        path.display()
    )]
    NoPods {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error("no pod {pod} on this node: {} has nothing of it", path.display())]
    Unknown { pod: PodName, path: PathBuf },
    #[error("pod {pod} has no process here: no control group has its uid {}", uids.join(" or "))]
    NoProcess { pod: PodName, uids: Vec<String> },
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PodName {
    /// Reads `NAMESPACE/NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, PodError> {
        let is_name = |name: &str| {
            let is_letter = |letter: char| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter)
            };
            !name.is_empty() && name.chars().all(is_letter)
        };
        text.split_once('/')
            .filter(|(namespace, name)| is_name(namespace) && is_name(name))
            .map(|(namespace, name)| Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
            .ok_or_else(|| PodError::Name(text.to_owned()))
    }
}

/// Processes of a pod below `root`, the host's `/proc`, ascending.
pub(crate) fn processes(root: &Path, pod: &PodName) -> Result<Vec<u32>, PodError> {
    let uids = uids(root, pod)?;
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let pid: Option<u32> = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let cgroups = pid.and_then(|_| std::fs::read_to_string(entry.path().join("cgroup")).ok());
        let (Some(pid), Some(cgroups)) = (pid, cgroups) else {
            continue;
        };
        if uids.iter().any(|uid| is_of_pod(&cgroups, uid)) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    if pids.is_empty() {
        let pod = pod.clone();
        return Err(PodError::NoProcess { pod, uids });
    }
    Ok(pids)
}

/// A pod that came again under its name has more than one.
fn uids(root: &Path, pod: &PodName) -> Result<Vec<String>, PodError> {
    let path = root.join(LOGS);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(reason) => return Err(PodError::NoPods { path, reason }),
    };
    let prefix = format!("{}_{}_", pod.namespace, pod.name);
    let uids: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let uid = name.to_str()?.strip_prefix(&prefix)?;
            (!uid.is_empty()).then(|| uid.to_owned())
        })
        .collect();
    if uids.is_empty() {
        let pod = pod.clone();
        return Err(PodError::Unknown { pod, path });
    }
    Ok(uids)
}

/// `pod` and the uid, which systemd's names have with underscores.
fn is_of_pod(cgroups: &str, uid: &str) -> bool {
    let plain = format!("pod{uid}");
    let escaped = plain.replace('-', "_");
    cgroups
        .split(['/', '\n'])
        .map(|part| part.strip_suffix(".slice").unwrap_or(part))
        .any(|part| part.ends_with(&plain) || part.ends_with(&escaped))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UID: &str = "0f3c7a52-9f6e-4c0e-8b8e-0a2f4b1c9d11";

    fn host(pods: &[&str], processes: &[(u32, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for pod in pods {
            fs::create_dir_all(root.path().join(LOGS).join(pod)).unwrap();
        }
        for (pid, cgroups) in processes {
            let dir = root.path().join(pid.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup"), cgroups).unwrap();
        }
        root
    }

    #[test]
    fn processes_are_found_by_both_kinds_of_control_groups() {
        let logs = format!("shop_web-0_{UID}");
        let systemd = UID.replace('-', "_");
        let root = host(
            &[&logs, "shop_web-01_ffff"],
            &[
                (30, &format!("0::/kubepods/besteffort/pod{UID}/abc\n")),
                (
                    7,
                    &format!(
                        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/cri-containerd-abc.scope\n"
                    ),
                ),
                (8, "0::/kubepods/besteffort/podffff/abc\n"),
                (9, "0::/system.slice/podman.service\n"),
            ],
        );
        let pod = PodName::parse("shop/web-0").unwrap();
        assert_eq!(processes(root.path(), &pod).unwrap(), [7, 30]);
        let other = PodName::parse("shop/web-01").unwrap();
        assert_eq!(processes(root.path(), &other).unwrap(), [8]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let pod = PodName::parse("shop/web-0").unwrap();
        let says = |root: &tempfile::TempDir| processes(root.path(), &pod).unwrap_err().to_string();
        let nowhere = says(&host(&[], &[]));
        assert!(nowhere.contains("no Kubernetes node"), "{nowhere}");
        let unknown = says(&host(&["shop_web_1"], &[]));
        assert!(
            unknown.starts_with("no pod shop/web-0 on this node"),
            "{unknown}"
        );
        let empty = says(&host(&["shop_web-0_1-2"], &[]));
        assert!(empty.contains("uid 1-2"), "{empty}");
    }

    #[test]
    fn names_have_a_namespace() {
        for bad in [
            "",
            "web",
            "/web",
            "shop/",
            "shop/web/0",
            "shop/../x",
            "Shop/web",
            "a/*",
        ] {
            assert!(PodName::parse(bad).is_err(), "{bad}");
        }
    }
}
