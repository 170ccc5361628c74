//! The kernel file systems the agent needs.

use std::path::Path;

use anyhow::Result;

use crate::command;

const NEEDED: [(&str, &str); 2] = [("tracefs", "/sys/kernel/tracing"), ("bpf", "/sys/fs/bpf")];

/// Mounts tracefs and bpffs where they are not mounted yet.
pub(crate) fn ensure() -> Result<()> {
    let mounted = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for (kind, directory) in NEEDED {
        if is_mounted(&mounted, kind) || !Path::new(directory).is_dir() {
            continue;
        }
        println!("mounting {kind} at {directory}");
        command::run(command::privileged("mount")?.args(["-t", kind, kind, directory]))?;
    }
    Ok(())
}

fn is_mounted(mounts: &str, kind: &str) -> bool {
    mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_kind() {
        let mounts = "tracefs /sys/kernel/tracing tracefs rw 0 0\nbpf /elsewhere bpf rw 0 0\n";
        assert!(is_mounted(mounts, "tracefs") && is_mounted(mounts, "bpf"));
        assert!(!is_mounted("bpf /x tmpfs rw 0 0\n", "bpf"));
    }
}
