//! Runs the program under test and counts the cases it reports.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const AGENT: &str = "/bin/kerntally";

/// Cases by result.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Count {
    /// Prints and counts one case of the guest's own.
    pub(crate) fn record(&mut self, (name, result): (&str, Result<()>)) {
        let line = match result {
            Ok(()) => format!("case {name} pass"),
            Err(error) => format!("case {name} fail {error:#}"),
        };
        println!("{line}");
        self.take(&line);
    }

    fn take(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        if words.next() != Some("case") {
            return;
        }
        match words.nth(1) {
            Some("pass") => self.passed += 1,
            Some("fail") => self.failed += 1,
            Some("skip" | "blind") => self.skipped += 1,
            _ => {}
        }
    }
}

/// The agent says of this kernel that it can be used.
pub(crate) fn check() -> (&'static str, Result<()>) {
    ("check", agent_check())
}

fn agent_check() -> Result<()> {
    let output = Command::new(AGENT)
        .arg("check")
        .output()
        .context("starting the agent")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .for_each(|line| println!("check: {line}"));
    if !output.status.success() {
        show_verifier_log();
        bail!("`kerntally check` ended with {}", output.status);
    }
    Ok(())
}

/// What the kernel's verifier had to say, of which the end is what matters.
fn show_verifier_log() {
    const LINES: usize = 60;
    let mut check = Command::new(AGENT);
    let Ok(output) = check.arg("check").output() else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        println!("verifier: {line}");
    }
}

/// Runs the program, passing its lines on and counting its cases.
pub(crate) fn run(arguments: &[String], count: &mut Count) -> Result<()> {
    let (program, arguments) = arguments.split_first().context("no program was named")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
        .env("PATH", "/bin")
        .env("HOME", "/root")
        .env("TMPDIR", "/tmp")
        .env("RUST_BACKTRACE", "1");
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let output = child.stdout.take().context("the output is piped")?;
    let before = count.failed;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        count.take(&line);
    }
    let status = child.wait()?;
    if !status.success() && count.failed == before {
        bail!("{program} ended with {status}, and no case had failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_case_lines_count() {
        let mut count = Count::default();
        for line in [
            "case a pass 1 s",
            "case b fail why",
            "case c skip why",
            "the case d pass",
            "case e",
        ] {
            count.take(line);
        }
        assert_eq!(
            count,
            Count {
                passed: 1,
                failed: 1,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_program_that_fails_without_a_failed_case_is_noticed() {
        let shell = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned);
        let mut count = Count::default();
        assert!(run(&shell("echo case a pass; exit 1"), &mut count).is_err());
        assert_eq!(count.passed, 1);
        assert!(run(&shell("echo case b fail; exit 1"), &mut count).is_ok());
        assert_eq!(count.failed, 1);
    }
}
