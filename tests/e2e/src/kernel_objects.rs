//! BPF programs, maps and links of the agent that exist in the kernel: none may outlive it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Kernel objects by kind and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelObjects {
    ids: BTreeSet<(&'static str, u64)>,
}

impl KernelObjects {
    /// What the process holds, by the kernel's own word in its file descriptors.
    pub fn of_process(pid: u32) -> Result<Self> {
        let directory = format!("/proc/{pid}/fdinfo");
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
            // A descriptor may be closed between the listing and the reading.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            for line in text.lines() {
                let Some((name, value)) = line.split_once(':') else {
                    continue;
                };
                let kind = match name {
                    "prog_id" => "prog",
                    "map_id" => "map",
                    "link_id" => "link",
                    _ => continue,
                };
                if let Ok(id) = value.trim().parse() {
                    ids.insert((kind, id));
                }
            }
        }
        Ok(Self { ids })
    }

    /// Those that still exist in the kernel: by bpftool where there is one, else what any process holds.
    ///
    /// bpftool opens every map by its id and closes it again, which must not keep any alive.
    pub fn left(&self) -> Result<Self> {
        let mut ids = BTreeSet::new();
        for kind in ["prog", "map", "link"] {
            match by_bpftool(kind) {
                Some(found) => ids.extend(found.into_iter().map(|id| (kind, id))),
                None => return Ok(Self::held_by_anyone()?.intersection(self)),
            }
        }
        Ok(Self { ids }.intersection(self))
    }

    fn held_by_anyone() -> Result<Self> {
        let mut all = Self::default();
        for entry in fs::read_dir("/proc").context("reading /proc")? {
            let name = entry?.file_name();
            if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
                // A process may end between the listing and the reading.
                all.ids
                    .extend(Self::of_process(pid).unwrap_or_default().ids);
            }
        }
        Ok(all)
    }

    #[must_use]
    fn intersection(&self, other: &Self) -> Self {
        Self {
            ids: self.ids.intersection(&other.ids).copied().collect(),
        }
    }

    /// Whether an object is among them.
    pub fn contains(&self, kind: &'static str, id: u64) -> bool {
        self.ids.contains(&(kind, id))
    }

    /// How many there are of one kind.
    pub fn count(&self, kind: &str) -> usize {
        self.ids.iter().filter(|(of, _)| *of == kind).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Names under bpffs, where a pin would keep an object alive.
pub fn pinned() -> Vec<String> {
    let mut names = Vec::new();
    collect(Path::new("/sys/fs/bpf"), &mut names);
    names
}

fn collect(directory: &Path, names: &mut Vec<String>) {
    // No bpffs mounted: nothing can be pinned.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), names);
        } else {
            names.push(entry.path().display().to_string());
        }
    }
}

fn by_bpftool(kind: &str) -> Option<Vec<u64>> {
    let output = Command::new("bpftool")
        .args(["-j", kind, "list"])
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let list: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(
        list.as_array()?
            .iter()
            .filter_map(|object| object["id"].as_u64())
            .collect(),
    )
}
