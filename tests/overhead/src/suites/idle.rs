//! The agent with nothing to do, and the time it takes to begin.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Extent, Found, Watcher, real};
use crate::clock::nanos_of;
use crate::figure::{Figure, targets};
use crate::spread::Values;

const SUITE: &str = "idle";
/// The interval at which it would push.
const INTERVAL: f64 = 15.0;

/// Measures starts, then rest.
pub(crate) fn measure(extent: &Extent) -> Result<Found> {
    let mut found = Found::default();
    starts(extent, &mut found)?;
    rest(extent, &mut found)?;
    Ok(found)
}

fn rest(extent: &Extent, found: &mut Found) -> Result<()> {
    let time = Duration::from_secs(if extent.quick { 3 } else { 45 });
    // Nothing of the machine's other traffic is to be watched.
    let nobody = "discovery.include=[{exe: /nobody}]".to_owned();
    let watcher = Watcher::start(extent, &[nobody], None)?;
    let pid = watcher.agent.pid();
    std::thread::sleep(Duration::from_secs(3));
    let before = (wake_ups(pid)?, nanos_of(pid)?);
    println!("  resting for {} s", time.as_secs());
    std::thread::sleep(time);
    let after = (wake_ups(pid)?, nanos_of(pid)?);
    let seconds = time.as_secs_f64();
    let share = real(after.1 - before.1) / 1e9 / seconds;
    let wakes = real(after.0 - before.0) / seconds;
    let resident = real(watcher.agent.resident_bytes()?) / super::MIB;
    found.figures.extend([
        Figure::new(SUITE, "processor", "% of a core", 100.0 * share)
            .against(targets::IDLE_PERCENT),
        Figure::new(SUITE, "wake-ups", "per second", wakes),
        Figure::new(SUITE, "wake-ups", "per export interval", wakes * INTERVAL),
        Figure::new(SUITE, "resident memory", "MiB", resident),
    ]);
    found.notes.push(
        "other traffic on the machine runs the hooks and may wake the agent: rest it for this"
            .to_owned(),
    );
    Ok(())
}

/// Context switches of all threads: each is the end of having been awake.
fn wake_ups(pid: u32) -> Result<u64> {
    let mut switches = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading.
        let text = std::fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches += lines
            .filter_map(|count| count.trim().parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(switches)
}

fn starts(extent: &Extent, found: &mut Found) -> Result<()> {
    let count = if extent.quick { 2 } else { 10 };
    let mut times = Vec::new();
    for _ in 0..count {
        times.push(start(extent)?);
    }
    let first = Values::new(times.iter().map(|(first, _)| *first));
    let all = Values::new(times.iter().map(|(_, all)| *all));
    let figure = |name: &str, values: &Values| {
        Figure::new(SUITE, name, "ms", values.median()).range(values.range())
    };
    found
        .figures
        .push(figure("start to the first hook attached", &first));
    let all = figure("start to all hooks attached", &all);
    found.figures.push(all.against(targets::ATTACHED_MILLIS));
    Ok(())
}

/// Milliseconds until the kernel knows the first link, and the last.
fn start(extent: &Extent) -> Result<(f64, f64)> {
    const QUIET: Duration = Duration::from_millis(700);
    let directory = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut child = spawn(&extent.agent, directory.path())?;
    let mut grown: Vec<f64> = Vec::new();
    let mut links = 0;
    // Until nothing has been attached for a while.
    let mut last = begun;
    while grown.is_empty() || last.elapsed() < QUIET {
        let now = self::links(child.id());
        if now > links {
            links = now;
            last = Instant::now();
            grown.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        if child.try_wait()?.is_some() || begun.elapsed() > Duration::from_mins(1) {
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let pid = rustix::process::Pid::from_child(&child);
    // One that has ended already is noticed below.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    child.wait()?;
    ensure!(!grown.is_empty(), "the agent attached nothing");
    Ok((grown[0], grown[grown.len() - 1]))
}

fn spawn(agent: &Path, directory: &Path) -> Result<std::process::Child> {
    let mut command = Command::new(agent);
    command.args(["run", "--export", "none", "--set", "hooks.exclusive=false"]);
    command.args(["--set", "self.listen=null", "--socket"]);
    command.arg(directory.join("control.sock"));
    Ok(command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?)
}

/// BPF links that a process holds.
fn links(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let links = entries.filter(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| {
            let target = target.to_string_lossy();
            target.contains("bpf-link") || target.contains("bpf_link")
        })
    });
    links.count()
}
