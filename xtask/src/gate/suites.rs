//! Steps made of many cases: tests that need no privileges, tests that need root, guest kernels.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Report;
use super::libtest::Suite;
use crate::bench;
use crate::build;
use crate::command;
use crate::fuzz;
use crate::linker::cargo;
use crate::packages::Manager;
use crate::vm::{Guests, Tally};
use crate::workspace::Workspace;

/// Seconds for each fuzz target: enough to notice what the last change broke.
const FUZZING: u32 = 5;
const FUZZING_ALL: u32 = 60;

/// Seconds after which a test program is stopped: none may hold the gate up for ever.
const UNIT_LIMIT: u32 = 900;
const END_TO_END_LIMIT: u32 = 900;
const END_TO_END_LIMIT_ALL: u32 = 2400;
/// What a soak takes besides its minutes.
const SOAK_MARGIN: u32 = 180;

/// Everything that needs neither root nor a kernel.
pub(crate) fn unit(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut tests = Command::new("timeout");
    tests
        .current_dir(workspace.root())
        .args(["-k", "10", &UNIT_LIMIT.to_string()])
        .arg(cargo());
    tests.args([
        "test",
        "--workspace",
        "--exclude",
        "kerntally-e2e",
        "--no-fail-fast",
    ]);
    let (suite, success) = stream(&mut tests)?;
    account(&suite, success, "unit and property tests", report);
    checked_in_inputs(workspace, report)
}

/// What the fuzz targets say of the inputs that are checked in, where there is no fuzzer too.
fn checked_in_inputs(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut tests = Command::new("timeout");
    tests
        .current_dir(workspace.root())
        .args(["-k", "10", &UNIT_LIMIT.to_string()])
        .arg(cargo())
        .args(["test", "--manifest-path", "tests/fuzz/Cargo.toml"])
        .args(["--locked", "--lib", "--target-dir"])
        .arg(workspace.target(""));
    let (suite, success) = stream(&mut tests)?;
    account(&suite, success, "checked-in fuzz inputs", report);
    Ok(())
}

/// Every parser of bytes that others wrote, for a moment.
pub(crate) fn fuzzing(workspace: &Workspace, all: bool, report: &mut Report) -> Result<()> {
    if let Err(reason) = fuzz::possible() {
        report.skip(format!("fuzzing: {reason:#}"));
        return Ok(());
    }
    let seconds = if all { FUZZING_ALL } else { FUZZING };
    let choice = fuzz::Choice {
        seconds,
        targets: Vec::new(),
    };
    for finding in fuzz::fuzz(workspace, &choice)? {
        match finding.outcome {
            Ok(inputs) => {
                println!("  {}: {inputs} inputs, nothing found", finding.target);
                report.add(Tally {
                    passed: 1,
                    ..Tally::default()
                });
            }
            Err(error) => report.fail(format!("fuzzing {}: {error:#}", finding.target)),
        }
    }
    Ok(())
}

/// Crates that miri interprets, with the tests of each: parsers of what others wrote, and the one place in user space
/// where bytes become records by `unsafe`. It knows no system call that loads a program or maps a ring, and takes more
/// than a quarter of an hour for the tables of trace headers, which are safe code.
const MIRI: [(&str, &[&str]); 2] = [
    ("kerntally-wire", &["--skip", "trace::"]),
    ("kerntally-probes", &["record::"]),
];

/// Undefined behaviour, looked for by an interpreter; a nightly toolchain has it, or there is none.
pub(crate) fn miri(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let interpreter = |arguments: &[&str]| {
        let mut interpreter = Command::new("rustup");
        interpreter
            .current_dir(workspace.root())
            .args(["run", "nightly", "cargo", "miri"])
            .args(arguments)
            // Property tests keep what they found in files, and are many times slower here.
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("PROPTEST_CASES", "8")
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO");
        interpreter
    };
    let asked = || command::capture(&mut interpreter(&["--version"]));
    if let Err(error) = asked().or_else(|_| add_interpreter().and_then(|()| asked())) {
        report.skip(format!(
            "miri: {error:#}; to have it: rustup toolchain install nightly --component miri,rust-src"
        ));
        return Ok(());
    }
    let target = workspace.target("miri");
    for (name, filters) in MIRI {
        let mut tests = interpreter(&["test", "--package", name, "--lib", "--target-dir"]);
        tests.arg(&target).arg("--").args(filters);
        let (suite, success) = stream(&mut tests)?;
        account(&suite, success, &format!("miri on {name}"), report);
    }
    Ok(())
}

/// A nightly toolchain that is there may lack the interpreter.
fn add_interpreter() -> Result<()> {
    let words = [
        "component",
        "add",
        "--toolchain",
        "nightly",
        "miri",
        "rust-src",
    ];
    command::run(Command::new("rustup").args(words))
}

/// The agent beside real programs, as root, one test at a time because they share the kernel.
pub(crate) fn end_to_end(workspace: &Workspace, all: bool, report: &mut Report) -> Result<()> {
    let programs = end_to_end_programs(workspace)?;
    if programs.is_empty() {
        bail!("cargo built no end-to-end test");
    }
    if let Err(reason) = super::prepare_for_root() {
        report.skip(format!("end-to-end tests: {reason:#}"));
        return Ok(());
    }
    let agent = workspace.agent();
    let limit = if all {
        END_TO_END_LIMIT_ALL
    } else {
        END_TO_END_LIMIT
    };
    for program in programs {
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        println!("\n  -- {name}");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = std::env::var_os("HOME").unwrap_or_default();
        let mut variables = vec![
            ("KERNTALLY_BIN", agent.as_os_str()),
            // Servers under test come from the user's own path as well.
            ("PATH", &path),
            ("HOME", &home),
        ];
        if all {
            variables.extend(
                ["KERNTALLY_E2E_ALL", "KERNTALLY_E2E_COLLECTOR"]
                    .map(|name| (name, OsStr::new("1"))),
            );
        }
        let mut tests = command::with_environment(OsStr::new("timeout").as_ref(), &variables)?;
        tests.current_dir(workspace.path("tests/e2e"));
        tests
            .args(["-k", "10", &limit.to_string()])
            .arg(&program)
            .arg("--test-threads=1");
        if all {
            tests.arg("--include-ignored");
        }
        let (suite, success) = stream(&mut tests)?;
        account(&suite, success, &name, report);
    }
    Ok(())
}

/// The soak alone, for longer than the gate has time for.
pub(crate) fn soak(workspace: &Workspace, minutes: u32, report: &mut Report) -> Result<()> {
    let programs = end_to_end_programs(workspace)?;
    let is_soak = |program: &&std::path::PathBuf| {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("soak-")
    };
    let program = programs.iter().find(is_soak);
    let program = program.context("cargo built no soak")?;
    let agent = workspace.agent();
    let length = minutes.to_string();
    let variables = [
        ("KERNTALLY_BIN", agent.as_os_str()),
        ("KERNTALLY_SOAK_MINUTES", length.as_ref()),
    ];
    let mut tests = command::with_environment(OsStr::new("timeout").as_ref(), &variables)?;
    tests.current_dir(workspace.path("tests/e2e"));
    tests
        .args(["-k", "10", &(60 * minutes + SOAK_MARGIN).to_string()])
        .arg(program)
        .arg("--nocapture");
    let (suite, success) = stream(&mut tests)?;
    account(&suite, success, "soak", report);
    Ok(())
}

/// What stands for a package where it came another way.
const PROGRAMS: [(&str, &str); 6] = [
    ("default-jdk-headless", "javac"),
    ("golang-go", "go"),
    ("nghttp2-client", "h2load"),
    ("nginx-light", "nginx"),
    ("nodejs", "node"),
    ("util-linux", "setpriv"),
];

/// Installs the servers and clients under test; a test whose program stays missing skips itself by name.
pub(crate) fn install_servers(workspace: &Workspace, report: &mut Report) {
    let list = workspace.path("tests/e2e/src/packages.rs");
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let missing: Vec<&str> = debian_packages(&text)
        .into_iter()
        .filter(|package| !there(package))
        .collect();
    if missing.is_empty() {
        return;
    }
    if Manager::detect() != Some(Manager::Apt) {
        report.note(format!("these are not installed: {}", missing.join(", ")));
        return;
    }
    // One by one: a package that is not to be had must not keep the others out.
    for package in missing {
        if let Err(error) = Manager::Apt.install("the tests want a program", &[package]) {
            report.note(format!("{package} cannot be installed: {error:#}"));
        }
    }
}

fn there(package: &str) -> bool {
    let program = PROGRAMS
        .iter()
        .find(|(name, _)| *name == package)
        .map_or(package, |(_, program)| program);
    command::on_path(program).is_some() || Manager::Apt.has(package)
}

/// The list that the tests keep: quoted names, one a line.
fn debian_packages(source: &str) -> Vec<&str> {
    let quoted = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    quoted.collect()
}

/// What repeats from run to run, against its budgets: instructions, verifier, maps, size.
pub(crate) fn budgets(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut unknown = Vec::new();
    for line in bench::regressions(workspace)? {
        let what = format!("budget {}: {}", line.name, line.why);
        match line.word.as_str() {
            "within" => report.add(Tally {
                passed: 1,
                ..Tally::default()
            }),
            "over" => report.fail(what),
            "unknown" => unknown.push(line.name),
            // No emulator, or no hook on this kernel.
            _ => report.skip(what),
        }
    }
    if !unknown.is_empty() {
        report.skip(format!("without a budget: {}", unknown.join(", ")));
    }
    Ok(())
}

/// What came of guest kernels.
pub(crate) fn guests(guests: &Guests, report: &mut Report) {
    for failure in &guests.failures {
        report.name_failure(failure);
    }
    for missing in &guests.missing {
        report.note(missing);
    }
    report.add(guests.tally);
}

fn end_to_end_programs(workspace: &Workspace) -> Result<Vec<std::path::PathBuf>> {
    let mut tests = Command::new(cargo());
    tests.current_dir(workspace.root());
    tests.args([
        "test",
        "-p",
        "kerntally-e2e",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    println!("  $ {}", command::shown(&tests));
    let output = tests
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("building the end-to-end tests ended with {}", output.status);
    }
    Ok(build::test_programs(&String::from_utf8_lossy(
        &output.stdout,
    )))
}

/// Runs a test program with its output shown as it comes.
fn stream(tests: &mut Command) -> Result<(Suite, bool)> {
    println!("  $ {}", command::shown(tests));
    let mut child = tests
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command::shown(tests)))?;
    let output = child.stdout.take().context("the output is piped")?;
    let mut suite = Suite::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        suite.line(&line);
    }
    Ok((suite, child.wait()?.success()))
}

fn account(suite: &Suite, success: bool, name: &str, report: &mut Report) {
    report.add(suite.tally());
    for failed in suite.failed() {
        report.name_failure(format!("{name}: {failed}"));
    }
    for skipped in suite.skipped() {
        report.note(format!("{name}: {skipped}"));
    }
    if suite.closed() == 0 {
        report.fail(format!("{name}: no test program ran to its end"));
    } else if !success && suite.tally().failed == 0 {
        report.fail(format!(
            "{name}: ended with an error, and no test had failed"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_packages_is_read() {
        let source = "pub const DEBIAN: &[&str] = &[\n    \"apache2\",\n    \"wrk\",\n];\n";
        assert_eq!(debian_packages(source), ["apache2", "wrk"]);
    }
}
