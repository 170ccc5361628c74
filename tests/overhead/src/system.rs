//! The machine under the measurement: who runs on which core, how busy the cores are, which processes belong together.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::clock::nanos_of;

/// Kernel clock ticks of /proc/stat, in nanoseconds.
const TICK: u64 = 10_000_000;

/// Time that each core was busy since boot, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Vec<u64>);

impl Busy {
    /// As the kernel says now.
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let cores = text.lines().filter(|line| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|sign: char| sign.is_ascii_digit()))
        });
        Self(cores.map(busy).collect())
    }

    /// Of all cores, since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        self.0.iter().sum::<u64>() - earlier.0.iter().sum::<u64>()
    }

    /// Of one core.
    pub(crate) fn core_since(&self, core: usize, earlier: &Self) -> u64 {
        let of = |busy: &Self| busy.0.get(core).copied().unwrap_or(0);
        of(self) - of(earlier)
    }
}

/// Everything but idle, waiting for input and output, and time that the machine was taken away.
fn busy(line: &str) -> u64 {
    let fields = line
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0));
    let fields: Vec<u64> = fields.collect();
    let of = |field: usize| fields.get(field).copied().unwrap_or(0);
    (of(0) + of(1) + of(2) + of(5) + of(6)) * TICK
}

/// Cores of this machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A process and everything it started, and everything that started.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        tree.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// Processor time of several processes; one that has ended is an error, as its time is lost.
pub(crate) fn processor_nanos(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| nanos_of(*pid)).sum()
}

/// Keeps all threads of the processes on one core.
pub(crate) fn pin(pids: &[u32], core: usize) -> Result<()> {
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let thread = name.to_str().and_then(|name| name.parse().ok());
            let thread = thread.and_then(Pid::from_raw).context("a thread's id")?;
            sched_setaffinity(Some(thread), &only(core)?)?;
        }
    }
    Ok(())
}

/// Keeps this thread on one core.
pub(crate) fn pin_self(core: usize) -> Result<()> {
    Ok(sched_setaffinity(None, &only(core)?)?)
}

fn only(core: usize) -> Result<CpuSet> {
    ensure!(core < CpuSet::MAX_CPU, "core {core} is out of range");
    let mut set = CpuSet::new();
    set.set(core);
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_busy() {
        let text = "cpu  9 9 9 9\ncpu0 10 1 2 500 7 3 4 99 0 0\ncpu1 1 0 0 1 0 0 0 0 0 0\nintr 5\n";
        let busy = Busy::parse(text);
        assert_eq!(busy.0, [20 * TICK, TICK]);
        assert_eq!(busy.since(&Busy(vec![TICK, TICK])), 19 * TICK);
        assert_eq!(busy.core_since(1, &Busy(vec![0, 0])), TICK);
    }

    #[test]
    fn a_child_belongs_to_the_tree() {
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .unwrap();
        let tree = tree(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.contains(&child.id()));
    }
}
