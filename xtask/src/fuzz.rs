//! `cargo xtask fuzz`: gives every parser inputs that nobody would write, led by what they make it do.
//!
//! The targets lie in `tests/fuzz` and are libFuzzer's. The instrumentation is asked of the compiler by flags that the
//! stable one takes too, so nothing but a C++ compiler is needed, which builds libFuzzer itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command;
use crate::linker::cargo;
use crate::side_by_side::side_by_side;
use crate::workspace::Workspace;

/// Longest input: above the kept head of a request, with its record around it.
const MOST_BYTES: u32 = 4096;
/// Seconds after which a single input has hung.
const INPUT_LIMIT: u32 = 10;
/// Megabytes that a target may take.
const MEMORY_LIMIT: u32 = 1024;

/// What is fuzzed, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
    /// Targets; all of them without one
    pub(crate) targets: Vec<String>,
}

/// What became of one target.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) target: String,
    /// Inputs that were tried, or what broke.
    pub(crate) outcome: Result<u64>,
}

/// Fuzzes and says what was found.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<ExitCode> {
    possible()?;
    let findings = fuzz(workspace, choice)?;
    let mut code = ExitCode::SUCCESS;
    for Finding { target, outcome } in &findings {
        match outcome {
            Ok(inputs) => println!("{target}: {inputs} inputs, nothing found"),
            Err(error) => {
                println!("{target}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Whether the targets can be built here.
pub(crate) fn possible() -> Result<()> {
    if command::on_path("c++").is_none() {
        bail!("needs a C++ compiler, `c++`, for libFuzzer");
    }
    Ok(())
}

/// Builds the targets and runs each of the chosen ones.
pub(crate) fn fuzz(workspace: &Workspace, choice: &Choice) -> Result<Vec<Finding>> {
    let known = targets(workspace)?;
    let unknown = choice
        .targets
        .iter()
        .find(|target| !known.contains(*target));
    if let Some(unknown) = unknown {
        bail!(
            "no target `{unknown}`, expected some of {}",
            known.join(", ")
        );
    }
    let programs = build(workspace)?;
    let chosen: Vec<_> = known
        .iter()
        .filter(|target| choice.targets.is_empty() || choice.targets.contains(*target))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(side_by_side(&chosen, cores, |target| Finding {
        target: (*target).clone(),
        outcome: run_target(workspace, &programs.join(target), target, choice.seconds),
    }))
}

/// Each file of `fuzz_targets` is one.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.path("tests/fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("listing {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|end| end == "rs"))
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Returns the directory of the programs.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let host = host()?;
    let target = workspace.target("fuzz");
    let mut build = Command::new(cargo());
    build
        .current_dir(workspace.path("tests/fuzz"))
        .args([
            "build",
            "--release",
            "--locked",
            "--bins",
            "--target",
            &host,
        ])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", INSTRUMENTATION.join(" "));
    command::run(&mut build)?;
    Ok(target.join(host).join("release"))
}

/// Counters on every edge and the operands of comparisons, for libFuzzer to steer by.
const INSTRUMENTATION: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Naming the host as the target keeps the flags away from build scripts.
fn host() -> Result<String> {
    let version = command::capture(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names its host")
}

/// New inputs go to the target directory; those that are checked in only seed it.
fn run_target(workspace: &Workspace, program: &PathBuf, name: &str, seconds: u32) -> Result<u64> {
    let grown = workspace.target(&format!("fuzz/corpus/{name}"));
    let artifacts = workspace.target(&format!("fuzz/artifacts/{name}"));
    for directory in [&grown, &artifacts] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(artifacts.join("").as_os_str());
    let mut run = Command::new(program);
    run.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MOST_BYTES}"),
        format!("-timeout={INPUT_LIMIT}"),
        format!("-rss_limit_mb={MEMORY_LIMIT}"),
        "-print_final_stats=1".to_owned(),
    ]);
    run.arg(prefix)
        .arg(&grown)
        .arg(workspace.path(&format!("tests/fuzz/corpus/{name}")));
    println!("  $ {}", command::shown(&run));
    let output = run.output().with_context(|| format!("starting {name}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "{}; the input lies in {}",
            breakage(&text),
            artifacts.display()
        );
    }
    inputs(&text).with_context(|| format!("{name} did not say how many inputs it tried"))
}

fn inputs(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}

/// What the panic said, or the last line.
fn breakage(text: &str) -> String {
    let mut lines = text.lines();
    let panicked = lines.find(|line| line.contains("panicked at"));
    match (panicked, lines.next()) {
        (Some(place), Some(message)) => format!("{place} {message}"),
        _ => text.lines().last().unwrap_or("no output").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_from_what_is_printed() {
        let done = "Done 12 runs\nstat::number_of_executed_units: 4711\nstat::x: 1\n";
        assert_eq!(inputs(done), Some(4711));
        assert_eq!(inputs("nothing"), None);
        let broken =
            "INFO: x\nthread 'a' panicked at src/x.rs:1:2:\nended twice\nSUMMARY: deadly\n";
        assert_eq!(
            breakage(broken),
            "thread 'a' panicked at src/x.rs:1:2: ended twice"
        );
        assert_eq!(breakage("a\nERROR: timeout"), "ERROR: timeout");
    }

    #[test]
    fn every_target_has_seeds() {
        let workspace = Workspace::locate().unwrap();
        let targets = targets(&workspace).unwrap();
        assert!(targets.len() >= 6);
        for target in targets {
            let seeds = workspace.path(&format!("tests/fuzz/corpus/{target}"));
            assert!(std::fs::read_dir(seeds).unwrap().count() >= 3, "{target}");
        }
    }
}
