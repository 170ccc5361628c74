//! `cargo xtask bench`: builds what measures, runs the guests and benchmarks it needs, and leaves the rest, and the
//! report, to `kerntally-overhead`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::linker::cargo;
use crate::progress::Step;
use crate::vm::counted::{self, Counted};
use crate::vm::{KernelLine, parse_kernel};
use crate::workspace::Workspace;
use crate::{build, command, mounts};

/// What to measure, and how long.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// Suites [default: all]
    suites: Vec<Suite>,
    /// Short, to see that everything works: the figures mean nothing, and stay in target/bench
    #[arg(long)]
    quick: bool,
    /// Rounds of two slices without and one with the agent's hooks [default: 60]
    #[arg(long)]
    pairs: Option<usize>,
    /// Seconds of one slice [default: 0.4]
    #[arg(long)]
    seconds: Option<f64>,
    /// Also write the results to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure this agent instead of the one built here; its figures stay in target/bench
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Use the agent that is built already
    #[arg(long)]
    no_build: bool,
    /// Guest kernels that count instructions
    #[arg(long, value_delimiter = ',', value_parser = parse_kernel, default_values = ["6.12", "newest"])]
    kernel: Vec<KernelLine>,
    /// Back ends to count on guest kernels [default: each that the agent accepts]
    #[arg(long, value_delimiter = ',')]
    backend: Vec<String>,
    /// Hold what is repeatable against tests/overhead/budgets.toml, and nothing else
    #[arg(long, conflicts_with_all = ["suites", "pairs", "seconds", "json"])]
    gate: bool,
    /// Write what the gate measures into the budgets
    #[arg(long, requires = "gate")]
    update: bool,
}

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    Overhead,
    Kernel,
    Instructions,
    Pipeline,
    Scale,
    Idle,
}

/// Builds and measures.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<ExitCode> {
    let agent = agent(workspace, choice)?;
    if choice.gate {
        let lines = gate(workspace, &agent, choice)?;
        let over = lines.iter().any(|line| line.word == "over");
        return Ok(if over {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    let program = program(workspace)?;
    mounts::ensure()?;
    let mut arguments = arguments(workspace, choice, &agent);
    if choice.includes(Suite::Instructions) {
        let counts = counts(workspace, &agent, &program, choice)?;
        arguments.extend([OsString::from("--counts"), counts.into()]);
    }
    if choice.includes(Suite::Pipeline) {
        for (name, file) in pipeline(workspace, choice.quick)? {
            arguments.extend([OsString::from(name), file.into()]);
        }
    }
    let mut bench = command::privileged(&program)?;
    bench
        .current_dir(workspace.root())
        .arg("bench")
        .args(arguments);
    command::run(&mut bench)?;
    Ok(ExitCode::SUCCESS)
}

impl Choice {
    /// The gate's own: the built agent, one current kernel.
    fn of_gate() -> Self {
        Self {
            suites: Vec::new(),
            quick: false,
            pairs: None,
            seconds: None,
            json: None,
            agent: None,
            no_build: true,
            kernel: parse_kernel("6.12").into_iter().collect(),
            backend: Vec::new(),
            gate: true,
            update: false,
        }
    }

    fn includes(&self, suite: Suite) -> bool {
        self.suites.is_empty() || self.suites.contains(&suite)
    }
}

fn arguments(workspace: &Workspace, choice: &Choice, agent: &Path) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("--agent"), agent.into()];
    let mut add = |name: &str, value: &OsStr| {
        arguments.extend([OsString::from(name), value.to_owned()]);
    };
    let here = [Suite::Overhead, Suite::Kernel, Suite::Scale, Suite::Idle];
    let here = here.into_iter().filter(|suite| choice.includes(*suite));
    for suite in here.filter_map(|suite| suite.to_possible_value()) {
        add("--suites", suite.get_name().as_ref());
    }
    if let Some(pairs) = choice.pairs {
        add("--pairs", pairs.to_string().as_ref());
    }
    if let Some(seconds) = choice.seconds {
        add("--seconds", seconds.to_string().as_ref());
    }
    if let Some(file) = choice
        .json
        .as_ref()
        .and_then(|file| std::path::absolute(file).ok())
    {
        add("--json", file.as_ref());
    }
    // What is short, or of another agent, is nobody's newest run.
    if choice.quick || choice.agent.is_some() {
        add("--out", workspace.target("bench").as_ref());
    } else {
        add("--out", workspace.path("docs/bench").as_ref());
        add("--document", workspace.path("BENCHMARKS.md").as_ref());
    }
    if choice.quick {
        arguments.push("--quick".into());
    }
    arguments
}

fn agent(workspace: &Workspace, choice: &Choice) -> Result<PathBuf> {
    match &choice.agent {
        Some(agent) => std::path::absolute(agent).context("the agent's path"),
        None if choice.no_build => Ok(workspace.agent()),
        None => build::build(workspace),
    }
}

fn program(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::begin("the program that measures");
    let name = "kerntally-overhead";
    let program = build::program(workspace, name, name, &["--release"])?;
    step.end(&program.display().to_string());
    Ok(program)
}

fn counts(workspace: &Workspace, agent: &Path, program: &Path, choice: &Choice) -> Result<PathBuf> {
    let mut words = Vec::new();
    if choice.quick || choice.gate {
        words.push("--exchanges=4000".to_owned());
    }
    if choice.gate {
        words.push("--short".to_owned());
    }
    if !choice.backend.is_empty() {
        words.push(format!("--backend={}", choice.backend.join(",")));
    }
    let counted = Counted {
        agent,
        counter: program,
        kernels: &choice.kernel,
        words,
    };
    counted::run(workspace, &counted)
}

/// Output of the benchmarks of stages 4 to 7, by the option that takes it.
fn pipeline(workspace: &Workspace, quick: bool) -> Result<[(&'static str, PathBuf); 2]> {
    let directory = workspace.target("bench");
    std::fs::create_dir_all(&directory)?;
    let bench = |package: &str, bench: &str, words: &[&str]| -> Result<PathBuf> {
        let step = Step::begin(format!("benchmark {bench} of {package}"));
        let mut command = Command::new(cargo());
        command.current_dir(workspace.root());
        command.args(["bench", "-p", package, "--bench", bench]);
        if !words.is_empty() {
            command.arg("--").args(words);
        }
        let text = command::capture(&mut command)?;
        let file = directory.join(format!("{bench}.txt"));
        std::fs::write(&file, text)?;
        step.end(&file.display().to_string());
        Ok(file)
    };
    // The smallest size only, where figures do not matter.
    let few: &[&str] = if quick { &["/1000$"] } else { &[] };
    let encode: Vec<&str> = ["--output-format", "bencher"]
        .iter()
        .chain(few)
        .copied()
        .collect();
    Ok([
        ("--floor", bench("kerntally-pipeline", "floor", &[])?),
        ("--encode", bench("kerntally-export", "encode", &encode)?),
    ])
}

/// One budget and how the agent stands to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) word: String,
    pub(crate) why: String,
}

/// Holds the agent that is built against the budgets.
pub(crate) fn regressions(workspace: &Workspace) -> Result<Vec<Line>> {
    gate(workspace, &workspace.agent(), &Choice::of_gate())
}

fn gate(workspace: &Workspace, agent: &Path, choice: &Choice) -> Result<Vec<Line>> {
    let program = program(workspace)?;
    mounts::ensure()?;
    let choice = Choice {
        kernel: Choice::of_gate().kernel,
        ..choice.clone()
    };
    let mut gate = command::privileged(&program)?;
    gate.arg("gate").arg("--agent").arg(agent).arg("--budgets");
    gate.arg(workspace.path("tests/overhead/budgets.toml"));
    let mut lines = Vec::new();
    match counts(workspace, agent, &program, &choice) {
        Ok(counts) => {
            gate.arg("--counts").arg(counts);
        }
        Err(error) => lines.push(Line {
            name: "instructions".to_owned(),
            word: "skipped".to_owned(),
            why: format!("{error:#}"),
        }),
    }
    if choice.update {
        command::run(gate.arg("--update"))?;
        return Ok(lines);
    }
    // Its status only repeats what its lines say.
    let output = gate.output().context("starting the gate")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    lines.extend(text.lines().filter_map(Line::parse));
    if lines.iter().all(|line| line.word == "skipped") {
        bail!(
            "the gate held nothing: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(lines)
}

impl Line {
    /// `budget NAME WORD WHY`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line
            .strip_prefix("budget ")?
            .splitn(3, ' ')
            .map(str::to_owned);
        Some(Self {
            name: words.next()?,
            word: words.next()?,
            why: words.next().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_lines_are_read() {
        let line = Line::parse("budget maps.fexit.bytes over 9 of 8, with 2 % of slack").unwrap();
        assert_eq!(
            (line.name.as_str(), line.word.as_str()),
            ("maps.fexit.bytes", "over")
        );
        assert_eq!(line.why, "9 of 8, with 2 % of slack");
        assert_eq!(Line::parse("case a pass"), None);
    }
}
