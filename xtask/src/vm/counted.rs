//! Guests that count instructions: one processor, one nanosecond of the guest's time for each instruction.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::console::Outcome;
use super::kernels::{self, Line};
use super::qemu::Guest;
use super::{initramfs, possible, program, report, stripped};
use crate::progress::Step;
use crate::workspace::Workspace;

/// Seconds that a guest may take.
const LIMIT: Duration = Duration::from_mins(30);

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<'run> {
    pub(crate) agent: &'run Path,
    /// The program that makes the exchanges and counts.
    pub(crate) counter: &'run Path,
    pub(crate) kernels: &'run [Line],
    /// Words for the counter.
    pub(crate) words: Vec<String>,
}

/// Runs a guest for each kernel, and returns the file of all that was counted: a line of JSON each.
pub(crate) fn run(workspace: &Workspace, counted: &Counted<'_>) -> Result<PathBuf> {
    possible()?;
    let archive = archive(workspace, counted)?;
    let mut lines = String::new();
    for line in counted.kernels {
        let step = Step::begin(format!("instructions on guest kernel {}", line.name));
        lines.push_str(&guest(workspace, counted, *line, &archive)?);
        step.end("counted");
    }
    let file = workspace.target("guest/counts.jsonl");
    std::fs::write(&file, lines).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

fn archive(workspace: &Workspace, counted: &Counted<'_>) -> Result<PathBuf> {
    let directory = workspace.target("guest/counted");
    std::fs::create_dir_all(&directory)?;
    let archive = directory.join("initramfs.cpio");
    let programs = [
        (
            "init",
            program(workspace, "kerntally-guest", "kerntally-guest-init")?,
        ),
        ("bin/kerntally", counted.agent.to_owned()),
        ("bin/kerntally-overhead", counted.counter.to_owned()),
    ];
    let programs = programs.map(|(name, program)| (name, stripped(&program, &directory)));
    initramfs::write(&programs, &archive)?;
    Ok(archive)
}

fn guest(
    workspace: &Workspace,
    counted: &Counted<'_>,
    line: Line,
    archive: &Path,
) -> Result<String> {
    let kernel = kernels::fetch(workspace, line)?;
    println!("  kernel {}", kernel.release);
    let log = workspace.target(&format!("guest/counted/{}.log", line.name));
    let first = [
        "/bin/kerntally-overhead",
        "guest",
        "--agent",
        "/bin/kerntally",
    ];
    let words: Vec<String> = first
        .map(str::to_owned)
        .into_iter()
        .chain(counted.words.iter().cloned())
        .collect();
    let guest = Guest {
        kernel: &kernel,
        initramfs: archive,
        words: &words,
        log: &log,
        limit: LIMIT,
        label: None,
        counted: true,
    };
    let (console, outcome) = guest.run()?;
    if outcome != Outcome::Passed {
        report(&console, &log, LIMIT);
        bail!("guest kernel {}: {}", line.name, outcome.name());
    }
    let text = std::fs::read_to_string(&log)?;
    Ok(counts(&text))
}

/// What follows `count ` on lines of its own.
fn counts(console: &str) -> String {
    let lines = console
        .lines()
        .filter_map(|line| line.strip_prefix("count "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_count_lines_are_kept() {
        let console = "guest: start x\ncount {\"a\":1}\ncase off pass\nrecount {}\ncount {}\n";
        assert_eq!(counts(console), "{\"a\":1}\n{}\n");
    }
}
