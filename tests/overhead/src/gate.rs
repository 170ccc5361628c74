//! The gate on what repeats: instructions of an exchange and of the verifier, map memory, size of the binary.

mod budgets;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::instructions::Counts;
use crate::programs::Held;
use crate::suites::{Extent, Watcher, kernel};
use budgets::{Budgets, Found};

/// What to hold against what.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// The kerntally binary, a release build
    #[arg(long)]
    agent: PathBuf,
    /// The budgets
    #[arg(long)]
    budgets: PathBuf,
    /// What guests counted
    #[arg(long)]
    counts: Option<PathBuf>,
    /// Write what is measured into the budgets
    #[arg(long)]
    update: bool,
}

/// Prints a line `budget NAME within|over|unknown ...` for each; fails if one is over.
pub(crate) fn run(choice: &Choice) -> Result<ExitCode> {
    let mut found = Vec::new();
    binary(choice, &mut found)?;
    if let Err(error) = on_this_kernel(choice, &mut found) {
        println!("budget host skipped {error:#}");
    }
    if let Some(counts) = &choice.counts {
        let text = std::fs::read_to_string(counts)
            .with_context(|| format!("reading {}", counts.display()))?;
        of_guests(&Counts::parse(&text)?, &mut found);
    }
    let text = std::fs::read_to_string(&choice.budgets)
        .with_context(|| format!("reading {}", choice.budgets.display()))?;
    let budgets = Budgets::parse(&text)?;
    if choice.update {
        std::fs::write(&choice.budgets, budgets.updated(&text, &found))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut over = 0;
    for found in &found {
        let (word, why) = budgets.judge(found);
        println!("budget {} {word} {why}", found.name);
        over += u32::from(word == "over");
    }
    Ok(if over == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Without the debug information, which is for crashes and not loaded.
fn binary(choice: &Choice, found: &mut Vec<Found>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let stripped = directory.path().join("kerntally");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(&choice.agent)
        .status();
    ensure!(status.context("starting strip")?.success(), "strip failed");
    let bytes = std::fs::metadata(&stripped)?.len();
    found.push(Found::new("binary.stripped-bytes", bytes));
    Ok(())
}

fn on_this_kernel(choice: &Choice, found: &mut Vec<Found>) -> Result<()> {
    let extent = Extent {
        agent: choice.agent.clone(),
        pairs: 1,
        slice_millis: 0,
        run_millis: 0,
        quick: true,
    };
    let line = line(&rustix::system::uname().release().to_string_lossy());
    let (usable, _) = kernel::backends(&extent)?;
    ensure!(!usable.is_empty(), "this kernel takes no back end");
    for backend in usable {
        let watcher = Watcher::start(&extent, &[], Some(&backend))?;
        let held = Held::by(watcher.agent.pid())?;
        for program in held
            .programs
            .values()
            .filter(|program| program.verified > 0)
        {
            let name = format!("verifier.{line}.{backend}.{}", program.name);
            found.push(Found::new(&name, program.verified));
        }
        found.push(Found::new(&format!("maps.{backend}.bytes"), held.map_bytes));
    }
    Ok(())
}

fn of_guests(counts: &Counts, found: &mut Vec<Found>) {
    for backend in &counts.backends {
        let place = format!("{}.{}", line(&backend.kernel), backend.name);
        let name = |what: &str| format!("instructions.{place}.{what}");
        found.push(Found::rounded(&name("added"), backend.added));
        found.push(Found::rounded(&name("server"), backend.added_to_server));
        found.push(Found::rounded(&name("agent"), backend.agent));
        for (program, verified) in &backend.verified {
            let name = format!("verifier.{place}.{program}");
            found.push(Found::new(&name, *verified));
        }
    }
}

/// `6.12.117+deb13-cloud-amd64` as `6-12`: a dot would part the name.
fn line(release: &str) -> String {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit());
    let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    format!("{major}-{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_by_their_line() {
        assert_eq!(line("6.12.117+deb13-cloud-amd64"), "6-12");
        assert_eq!(line("7.2"), "7-2");
    }
}
