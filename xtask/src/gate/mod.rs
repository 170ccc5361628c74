//! `cargo xtask test`: the gate, step by step, ended by one counted line.
//!
//! What could not be run is said with its reason, and never counts as passed.

mod deny;
mod libtest;
mod manifests;
mod suites;

use std::fmt::Display;
use std::process::{Command, ExitCode};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::linker::cargo;
use crate::progress::{Step, seconds};
use crate::vm::{self, Tally};
use crate::workspace::Workspace;
use crate::{build, command, mounts, style};

/// What the steps have found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    tally: Tally,
    failures: Vec<String>,
    skips: Vec<String>,
    times: Vec<(String, &'static str, Duration)>,
}

/// Runs the gate; with `all`, everything there is.
pub(crate) fn run(workspace: &Workspace, all: bool) -> ExitCode {
    let started = Instant::now();
    let mut report = Report::default();
    let built = report.check("build", || build::build(workspace).map(drop));
    source_checks(workspace, &mut report);
    deny::run(workspace, &mut report);
    report.suite("unit and property tests", |suite| {
        suites::unit(workspace, suite)
    });
    if built {
        beside_guests(workspace, all, &mut report);
    } else {
        without_agent(workspace, all, &mut report);
        report.fail("end-to-end tests, budgets and guest kernels: there is no agent to test");
    }
    if !all {
        report.note(
            "the guest kernel matrix and the longest cases run with `cargo xtask test --all`",
        );
    }
    report.close(started.elapsed())
}

/// Guests, which keep a processor busy each, and beside them what takes its time whatever the machine does: fuzzing for so
/// many seconds, tests that mostly wait.
fn beside_guests(workspace: &Workspace, all: bool, report: &mut Report) {
    let choice = if all {
        vm::Choice::matrix()
    } else {
        vm::Choice::subset()
    };
    // Before the thread: guests play some of these programs too, and a package manager does one thing at a time.
    if command::can_elevate() {
        suites::install_servers(workspace, report);
    }
    let emulator = vm::possible();
    std::thread::scope(|scope| {
        let guests = emulator.map(|()| scope.spawn(|| vm::guests(workspace, &choice)));
        without_agent(workspace, all, report);
        report.suite("end-to-end tests", |suite| {
            suites::end_to_end(workspace, all, suite)
        });
        report.suite("budgets", |suite| suites::budgets(workspace, suite));
        report.suite("guest kernels, begun before fuzzing", |suite| {
            match guests.map(ScopedJoinHandle::join) {
                Ok(Ok(guests)) => suites::guests(&guests?, suite),
                Ok(Err(_)) => bail!("the thread that ran them panicked"),
                Err(reason) => suite.skip(format!("guest kernels: {reason:#}")),
            }
            Ok(())
        });
    });
}

/// What needs no agent, and may run beside guests.
fn without_agent(workspace: &Workspace, all: bool, report: &mut Report) {
    report.suite("fuzzing", |suite| suites::fuzzing(workspace, all, suite));
    if all {
        report.suite("miri", |suite| suites::miri(workspace, suite));
    }
    manifests::run(workspace, report);
}

/// Builds, and soaks the agent for so long.
pub(crate) fn soak(workspace: &Workspace, minutes: u32) -> Result<ExitCode> {
    build::build(workspace)?;
    prepare_for_root()?;
    let started = Instant::now();
    let mut report = Report::default();
    report.suite("soak", |suite| suites::soak(workspace, minutes, suite));
    Ok(report.close(started.elapsed()))
}

fn source_checks(workspace: &Workspace, report: &mut Report) {
    let tool = |arguments: &[&str]| {
        let mut tool = Command::new(cargo());
        tool.current_dir(workspace.root()).args(arguments);
        tool
    };
    report.check("format", || {
        command::run(&mut tool(&["fmt", "--all", "--check"]))?;
        command::run(&mut tool(&[
            "fmt",
            "--manifest-path",
            "ebpf/probes/Cargo.toml",
            "--check",
        ]))?;
        command::run(&mut tool(&[
            "fmt",
            "--manifest-path",
            "tests/fuzz/Cargo.toml",
            "--check",
        ]))
    });
    report.check("lints", || {
        command::run(&mut tool(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    report.check("documentation", || {
        command::run(
            tool(&["doc", "--workspace", "--no-deps", "--quiet"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    });
    report.check("style", || {
        let findings = style::check(workspace)?;
        for large in &findings.large {
            println!("  warning: {large}");
        }
        if !findings.broken.is_empty() {
            bail!("{}", findings.broken.join("\n  "));
        }
        Ok(())
    });
}

impl Report {
    /// A step that either holds or does not.
    pub(crate) fn check(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
        let heading = Step::begin(name);
        let result = step();
        let word = match &result {
            Ok(()) => {
                self.tally.passed += 1;
                "passed"
            }
            Err(error) => {
                println!("  {error:#}");
                self.fail(format!("{name}: {error:#}"));
                "failed"
            }
        };
        self.times.push((name.to_owned(), word, heading.end(word)));
        result.is_ok()
    }

    /// A step with cases of its own, which it counts itself.
    pub(crate) fn suite(&mut self, name: &str, step: impl FnOnce(&mut Self) -> Result<()>) {
        let heading = Step::begin(name);
        let failed = self.tally.failed;
        if let Err(error) = step(self) {
            println!("  {error:#}");
            self.fail(format!("{name}: {error:#}"));
        }
        let word = if self.tally.failed == failed {
            "passed"
        } else {
            "failed"
        };
        self.times.push((name.to_owned(), word, heading.end(word)));
    }

    /// Adds the counts of a suite.
    pub(crate) fn add(&mut self, tally: Tally) {
        self.tally.passed += tally.passed;
        self.tally.failed += tally.failed;
        self.tally.skipped += tally.skipped;
    }

    /// Counts one failure and keeps what it was.
    pub(crate) fn fail(&mut self, what: impl Display) {
        self.tally.failed += 1;
        self.failures.push(what.to_string());
    }

    /// Keeps what failed, where it is counted already.
    pub(crate) fn name_failure(&mut self, what: impl Display) {
        self.failures.push(what.to_string());
    }

    /// Counts one skip and keeps its reason.
    pub(crate) fn skip(&mut self, what: impl Display) {
        self.tally.skipped += 1;
        self.note(what);
    }

    /// Keeps a reason, where the skip is counted already.
    pub(crate) fn note(&mut self, what: impl Display) {
        self.skips.push(what.to_string());
    }

    fn close(&self, took: Duration) -> ExitCode {
        println!("\n== times");
        for (name, word, time) in &self.times {
            println!("  {:>12}  {word}  {name}", seconds(*time));
        }
        println!("  {:>12}  in all", seconds(took));
        section("not run", &self.skips);
        section("failed", &self.failures);
        let Tally {
            passed,
            failed,
            skipped,
        } = self.tally;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 && passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn section(heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    println!("\n== {heading}");
    for line in lines {
        println!("  {line}");
    }
}

/// What the tests that need root need besides it.
fn prepare_for_root() -> Result<()> {
    if !command::can_elevate() {
        bail!("needs root: run as root, or with a sudo that asks for nothing");
    }
    mounts::ensure()
}
