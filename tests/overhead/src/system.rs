//! The machine under the measurement: who runs on which core, how busy the cores are, which processes belong together.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Kernel clock ticks of /proc/stat, in nanoseconds.
const TICK: u64 = 10_000_000;

/// Looks for threads that have come meanwhile.
const PIN_LOOKS: usize = 100;

/// Time that each core was busy since boot, and that all of them were taken away from this machine, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy {
    cores: Vec<u64>,
    stolen: u64,
}

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
        let fields: Vec<Vec<u64>> = cores.map(fields).collect();
        Self {
            cores: fields.iter().map(|fields| busy(fields)).collect(),
            stolen: fields
                .iter()
                .filter_map(|fields| fields.get(7))
                .sum::<u64>()
                * TICK,
        }
    }

    /// Of all cores, since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        self.cores.iter().sum::<u64>() - earlier.cores.iter().sum::<u64>()
    }

    /// Of one core.
    pub(crate) fn core_since(&self, core: usize, earlier: &Self) -> u64 {
        let of = |busy: &Self| busy.cores.get(core).copied().unwrap_or(0);
        of(self) - of(earlier)
    }

    /// Taken away from this machine since.
    pub(crate) fn stolen_since(&self, earlier: &Self) -> u64 {
        self.stolen.saturating_sub(earlier.stolen)
    }
}

/// Everything but idle, waiting for input and output, and time that the machine was taken away.
fn busy(fields: &[u64]) -> u64 {
    let of = |field: usize| fields.get(field).copied().unwrap_or(0);
    (of(0) + of(1) + of(2) + of(5) + of(6)) * TICK
}

fn fields(line: &str) -> Vec<u64> {
    let fields = line.split_whitespace().skip(1);
    fields.map(|field| field.parse().unwrap_or(0)).collect()
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

/// Keeps all threads of the processes on one core. A new thread is where the one is that made it, so a look that finds
/// nothing to change is the last.
pub(crate) fn pin(pids: &[u32], core: usize) -> Result<()> {
    let only = only(core)?;
    for _ in 0..PIN_LOOKS {
        let mut changed = false;
        for pid in pids {
            for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
                let name = entry?.file_name();
                let thread = name.to_str().and_then(|name| name.parse().ok());
                let thread = thread.and_then(Pid::from_raw).context("a thread's id")?;
                changed |= move_thread(thread, &only)?;
            }
        }
        if !changed {
            return Ok(());
        }
    }
    bail!("threads come faster than they can be kept on core {core}")
}

/// Whether the thread was elsewhere. A server may have one for each connection, which ends with it: one that is gone is
/// nowhere.
fn move_thread(thread: Pid, only: &CpuSet) -> Result<bool> {
    let moved = match sched_getaffinity(Some(thread)) {
        Ok(cores) if cores == *only => return Ok(false),
        Ok(_) => sched_setaffinity(Some(thread), only),
        Err(error) => Err(error),
    };
    match moved {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error).context("keeping a thread on a core"),
    }
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_busy() {
        let text = "cpu  9 9 9 9\ncpu0 10 1 2 500 7 3 4 99 0 0\ncpu1 1 0 0 1 0 0 0 0 0 0\nintr 5\n";
        let busy = Busy::parse(text);
        assert_eq!(busy.cores, [20 * TICK, TICK]);
        let earlier = |cores: Vec<u64>| Busy {
            cores,
            stolen: TICK,
        };
        assert_eq!(busy.since(&earlier(vec![TICK, TICK])), 19 * TICK);
        assert_eq!(busy.core_since(1, &earlier(vec![0, 0])), TICK);
        assert_eq!(busy.stolen_since(&earlier(Vec::new())), 98 * TICK);
    }

    /// This process is one with threads that come and go, and may be anywhere afterwards.
    #[test]
    fn threads_that_end_meanwhile_are_no_failure() {
        let everywhere = sched_getaffinity(None).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::thread::spawn(|| {}).join().unwrap();
                }
            });
            let results: Vec<_> = (0..200)
                .map(|_| {
                    sched_setaffinity(None, &everywhere).unwrap();
                    pin(&[std::process::id()], 0)
                })
                .collect();
            done.store(true, Ordering::Relaxed);
            for result in results {
                result.unwrap();
            }
        });
        assert!(sched_getaffinity(None).unwrap() == only(0).unwrap());
        for entry in fs::read_dir("/proc/self/task").unwrap() {
            let name = entry.unwrap().file_name();
            let thread = Pid::from_raw(name.to_str().unwrap().parse().unwrap());
            sched_setaffinity(thread, &everywhere).ok();
        }
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
