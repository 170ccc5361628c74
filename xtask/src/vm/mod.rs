//! `cargo xtask vm`: the conversations on guest kernels, each back end a kernel offers.
//!
//! A guest's exit status proves nothing: only its counted verdict, in agreement with the cases it reported and
//! with a kernel that stayed silent, is a pass.

mod console;
pub(crate) mod counted;
mod initramfs;
mod kernels;
mod qemu;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::packages::{Purpose, ensure_program};
use crate::progress::{Step, seconds};
use crate::side_by_side::side_by_side;
use crate::workspace::Workspace;
use crate::{build, command};
use console::{CaseResult, Console, Outcome};
pub(crate) use initramfs::shared_libraries;
use kernels::{Kernel, LINES, Line};
pub(crate) use kernels::{Line as KernelLine, parse as parse_kernel};
use qemu::Guest;

/// Which guests to run.
#[derive(Clone, Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Choice {
    /// Kernel lines
    #[arg(long, value_delimiter = ',', value_parser = kernels::parse)]
    kernel: Vec<Line>,
    /// Back ends; without it, each that a kernel offers
    #[arg(long, value_delimiter = ',', value_parser = ["auto", "fexit", "sock-tracepoint", "kprobe", "syscall"])]
    backend: Vec<String>,
    /// Seconds a guest may take
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// Longer pauses and larger bodies, as on the host
    #[arg(long)]
    full: bool,
    /// Use the agent that is built already
    #[arg(long)]
    no_build: bool,
    /// Ask `kerntally check` first
    #[arg(long)]
    check: bool,
    /// Requests between a real client and server, where Go can build them
    #[arg(long, default_value_t = PAIRS)]
    pairs: u64,
    /// Guests at a time; each keeps one of the machine's processors busy
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Leave out what repeats: kprobe and syscall play the gate's cases, and all of IPv6 is played on the oldest and the
    /// newest kernel only
    #[arg(long)]
    brief: bool,
    /// Only cases whose names contain one of these words
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Requests between a real client and server, and in the gate, which has less time.
const PAIRS: u64 = 100_000;
const PAIRS_OF_SUBSET: u64 = 10_000;

/// The two of them in the guest.
const PAIRS_PROGRAM: &str = "bin/pairs-go";

/// Conversations for the gate: one of each kind of framing and end, and each family of sockets.
const SUBSET: &[&str] = &[
    "keep-alive/",
    "byte-by-byte/tcp4",
    "both-cut-anywhere/tcp4",
    "pipelined-posts-answered-at-once/tcp4",
    "chunked-cut-anywhere/tcp4",
    "no-body-by-method-or-status/tcp4",
    "until-close/tcp4",
    "body-by-sendfile/tcp4",
    "interim-with-final/tcp4",
    "connect/tcp4",
    "client-gone-before-response/tcp4",
    "server-dies-in-mid-exchange/tcp4",
    "recvmsg-sendmsg/tcp4",
    "pre-fork/tcp4",
    "endless-head/tcp4",
    "sigterm-leaves-nothing",
    "open-at-disable-is-named",
    "server-of-32-bit",
    "go-pairs",
    "verifier-budgets",
];

fn subset() -> Vec<String> {
    SUBSET.iter().map(|name| (*name).to_owned()).collect()
}

/// One guest to run.
#[derive(Clone, Debug)]
struct Job {
    line: Line,
    backend: String,
    extent: Extent,
}

/// How much of it a guest plays; the longest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// What was asked for, or everything.
    Whole,
    /// The same, of what is played over IPv4 too only one case over IPv6.
    SparingIpv6,
    /// The gate's cases.
    Subset,
}

impl Job {
    /// Whether its back end is the one that `auto` takes there.
    fn is_taken(&self) -> bool {
        self.line.backends.first() == Some(&self.backend.as_str())
    }

    fn name(&self) -> String {
        format!("guest kernel {}, back end {}", self.line.name, self.backend)
    }
}

impl Choice {
    /// Part of the gate: a current kernel, with each of its back ends.
    pub(crate) fn subset() -> Self {
        let lines = LINES.into_iter().filter(|line| line.name == "6.12");
        Self {
            kernel: lines.collect(),
            backend: Vec::new(),
            check: false,
            pairs: PAIRS_OF_SUBSET,
            filter: subset(),
            brief: false,
            limit: 900,
            ..Self::matrix()
        }
    }

    /// Every kernel with every back end it offers.
    pub(crate) fn matrix() -> Self {
        Self {
            kernel: Vec::new(),
            backend: Vec::new(),
            jobs: 2,
            brief: true,
            limit: 2700,
            full: false,
            no_build: false,
            check: true,
            pairs: PAIRS,
            filter: Vec::new(),
        }
    }

    /// The longest first, so that no processor waits for them at the end.
    fn jobs(&self) -> Vec<Job> {
        let lines = if self.kernel.is_empty() {
            LINES.to_vec()
        } else {
            self.kernel.clone()
        };
        let mut jobs: Vec<_> = lines
            .iter()
            .flat_map(|line| {
                self.backends(*line)
                    .into_iter()
                    .map(|backend| self.job(*line, backend))
            })
            .collect();
        jobs.sort_by_key(|job| job.extent);
        jobs
    }

    fn job(&self, line: Line, backend: String) -> Job {
        let ends = [LINES.first(), LINES.last()];
        let at_an_end = ends.iter().flatten().any(|end| end.name == line.name);
        let mut job = Job {
            line,
            backend,
            extent: Extent::Whole,
        };
        job.extent = match job.backend.as_str() {
            _ if !self.brief || (at_an_end && job.is_taken()) => Extent::Whole,
            "fexit" | "sock-tracepoint" => Extent::SparingIpv6,
            _ => Extent::Subset,
        };
        job
    }

    fn backends(&self, line: Line) -> Vec<String> {
        if !self.backend.is_empty() {
            return self.backend.clone();
        }
        line.backends
            .iter()
            .map(|name| (*name).to_owned())
            .collect()
    }
}

/// Counts of cases.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// What came of all guests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guests {
    pub(crate) tally: Tally,
    /// Cases that failed, and guests that went wrong, by name.
    pub(crate) failures: Vec<String>,
    /// Guests whose kernel could not be had.
    pub(crate) missing: Vec<String>,
}

/// Builds the agent and runs the chosen guests.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<ExitCode> {
    if !choice.no_build {
        build::build(workspace)?;
    }
    let Guests {
        tally,
        failures,
        missing,
    } = guests(workspace, choice)?;
    for missing in missing {
        println!("not run: {missing}");
    }
    for failure in failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    Ok(if tally.failed == 0 && tally.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether guests can be run here at all, once the emulator is installed.
pub(crate) fn possible() -> Result<()> {
    ensure_program(qemu::PROGRAM, Purpose::Qemu)
}

/// Runs the chosen guests with the agent that is already built.
pub(crate) fn guests(workspace: &Workspace, choice: &Choice) -> Result<Guests> {
    possible()?;
    let archive = archive(workspace)?;
    let mut guests = Guests::default();
    let jobs = guests.with_kernels(workspace, choice.jobs());
    let played = side_by_side(&jobs, choice.jobs, |(job, kernel)| {
        let step = Step::begin(job.name());
        let result = guest(workspace, choice, kernel, job, &archive);
        step.end(
            result
                .as_ref()
                .map_or("failed", |(_, outcome)| outcome.name()),
        );
        (job.name(), result)
    });
    for (name, result) in played {
        let (console, outcome) = result?;
        guests.add(&name, &console, outcome);
    }
    Ok(guests)
}

fn guest(
    workspace: &Workspace,
    choice: &Choice,
    kernel: &Kernel,
    job: &Job,
    archive: &Path,
) -> Result<(Console, Outcome)> {
    let label = format!("{}-{}", job.line.name, job.backend);
    let log = workspace.target("guest").join(format!("{label}.log"));
    let words = words(choice, job);
    let limit = Duration::from_secs(choice.limit);
    let guest = Guest {
        kernel,
        initramfs: archive,
        words: &words,
        log: &log,
        label: (choice.jobs > 1).then_some(label.as_str()),
        limit,
        counted: false,
    };
    let (console, outcome) = guest.run()?;
    if outcome != Outcome::Passed {
        report(&console, &log, limit);
    }
    Ok((console, outcome))
}

/// What the guest's init runs. Emulated processors are an order of magnitude slower, hence the tolerance.
fn words(choice: &Choice, job: &Job) -> Vec<String> {
    let fixed = [
        "/bin/kerntally-conversations",
        "--agent",
        "/bin/kerntally",
        "--backend",
        &job.backend,
    ];
    let slack = ["--tolerance-us", "500000", "--settle", "30"];
    // Loading takes much of a guest's time, and `check` loads every back end of the kernel: once is enough.
    let check = (choice.check && job.is_taken()).then_some("check");
    let mut words: Vec<String> = check
        .into_iter()
        .chain(fixed)
        .chain(slack)
        .map(str::to_owned)
        .collect();
    if !choice.full {
        words.push("--quick".to_owned());
    }
    if job.extent == Extent::SparingIpv6 {
        words.push("--spare-ipv6".to_owned());
    }
    let (filter, pairs) = match job.extent {
        Extent::Subset => (subset(), PAIRS_OF_SUBSET),
        Extent::Whole | Extent::SparingIpv6 => (choice.filter.clone(), choice.pairs),
    };
    words.push(format!("--pairs=/{PAIRS_PROGRAM}"));
    words.push(format!("--pair-requests={pairs}"));
    // One word: a kernel takes 32 (`MAX_INIT_ARGS`, `init/main.c`).
    if !filter.is_empty() {
        words.push(format!("--filter={}", filter.join(",")));
    }
    words
}

fn report(console: &Console, log: &Path, limit: Duration) {
    println!("  limit {}; console: {}", seconds(limit), log.display());
    for complaint in console.complaints() {
        println!("  kernel: {complaint}");
    }
}

impl Guests {
    /// A kernel that cannot be had was not tested, which says nothing about it.
    fn miss(&mut self, name: &str, error: &anyhow::Error) {
        println!("  {name}: {error:#}");
        self.tally.skipped += 1;
        self.missing.push(format!("{name}: {error:#}"));
    }

    /// The jobs whose kernels can be had.
    fn with_kernels(&mut self, workspace: &Workspace, jobs: Vec<Job>) -> Vec<(Job, Kernel)> {
        let mut known: Vec<Kernel> = Vec::new();
        let mut found = Vec::new();
        for job in jobs {
            let had = known.iter().find(|kernel| kernel.line == job.line).cloned();
            match had.map_or_else(|| kernels::fetch(workspace, job.line), Ok) {
                Ok(kernel) => {
                    if !known.contains(&kernel) {
                        println!("  kernel {}", kernel.release);
                        known.push(kernel.clone());
                    }
                    found.push((job, kernel));
                }
                Err(error) => self.miss(&job.name(), &error),
            }
        }
        found
    }

    fn add(&mut self, name: &str, console: &Console, outcome: Outcome) {
        let count = |result| {
            console
                .cases()
                .iter()
                .filter(|case| case.result == result)
                .count()
        };
        self.tally.passed += count(CaseResult::Passed);
        self.tally.skipped += count(CaseResult::Skipped);
        self.tally.failed += count(CaseResult::Failed);
        let failed = console
            .cases()
            .iter()
            .filter(|case| case.result == CaseResult::Failed);
        self.failures
            .extend(failed.map(|case| format!("{name}: {}", case.name)));
        // A guest that went wrong without a failed case still counts as one failure.
        if outcome != Outcome::Passed && count(CaseResult::Failed) == 0 {
            self.tally.failed += 1;
            self.failures.push(format!("{name}: {}", outcome.name()));
        }
    }
}

/// The guest's root file system with the programs as they stand.
fn archive(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::begin("the guest's root file system");
    let init = program(workspace, "kerntally-guest", "kerntally-guest-init")?;
    let conversations = program(workspace, "kerntally-e2e", "kerntally-conversations")?;
    let directory = workspace.target("guest");
    std::fs::create_dir_all(&directory)?;
    let archive = directory.join("initramfs.cpio");
    let programs = [
        ("init", init),
        ("bin/kerntally", workspace.agent()),
        ("bin/kerntally-conversations", conversations),
    ];
    let mut programs = programs
        .map(|(name, program)| (name, stripped(&program, &directory)))
        .to_vec();
    match pairs(workspace, &directory) {
        Ok(program) => programs.push((PAIRS_PROGRAM, program)),
        Err(error) => println!("  no real client and server in the guests: {error:#}"),
    }
    initramfs::write(&programs, &archive)?;
    let size = std::fs::metadata(&archive)?.len() / 1024 / 1024;
    step.end(&format!("{} ({size} MiB)", archive.display()));
    Ok(archive)
}

/// The Go client and server, which need no libraries in the guest.
fn pairs(workspace: &Workspace, directory: &Path) -> Result<PathBuf> {
    let program = directory.join("pairs-go");
    let mut build = Command::new("go");
    build
        .current_dir(workspace.path("tests/apps/go"))
        .env("CGO_ENABLED", "0")
        .args(["build", "-ldflags=-s -w", "-o"])
        .arg(&program)
        .arg("./pairs-go");
    command::capture(&mut build).context("building with Go")?;
    Ok(program)
}

/// A copy without debug information, which is most of a program's size and of a guest's time to unpack it.
fn stripped(program: &Path, directory: &Path) -> PathBuf {
    let copy = directory.join(program.file_name().unwrap_or_default());
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&copy).arg(program);
    if command::capture(&mut strip).is_ok() {
        copy
    } else {
        program.to_path_buf()
    }
}

/// Optimised: an emulated processor takes minutes for what debug builds do in seconds.
fn program(workspace: &Workspace, package: &str, name: &str) -> Result<PathBuf> {
    build::program(workspace, package, name, &["--release"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_each_back_end_that_a_kernel_offers() {
        let jobs = Choice {
            brief: false,
            ..Choice::matrix()
        }
        .jobs();
        let names: Vec<_> = jobs
            .iter()
            .map(|job| (job.line.name, job.backend.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("5.10", "fexit"),
                ("5.10", "kprobe"),
                ("5.10", "syscall"),
                ("6.1", "fexit"),
                ("6.1", "kprobe"),
                ("6.1", "syscall"),
                ("6.12", "fexit"),
                ("6.12", "sock-tracepoint"),
                ("6.12", "kprobe"),
                ("6.12", "syscall"),
                ("newest", "sock-tracepoint"),
                ("newest", "fexit"),
                ("newest", "kprobe"),
                ("newest", "syscall"),
            ]
        );
        assert_eq!(Choice::subset().jobs().len(), 4);
    }

    #[test]
    fn back_ends_that_auto_takes_have_every_case_and_come_first() {
        let jobs = Choice::matrix().jobs();
        let of = |extent| {
            let of_extent = jobs.iter().filter(|job| job.extent == extent);
            of_extent
                .map(|job| (job.line.name, job.backend.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(Extent::Whole),
            [("5.10", "fexit"), ("newest", "sock-tracepoint")]
        );
        assert_eq!(
            of(Extent::SparingIpv6),
            [
                ("6.1", "fexit"),
                ("6.12", "fexit"),
                ("6.12", "sock-tracepoint"),
                ("newest", "fexit")
            ]
        );
        assert_eq!(of(Extent::Subset).len(), 8);
        assert!(jobs.is_sorted_by_key(|job| job.extent));
    }

    #[test]
    fn a_guest_that_crashed_after_its_cases_is_a_failure() {
        let mut console = Console::default();
        for line in [
            "guest: start x",
            "case a pass",
            "Oops: 0002",
            "guest: verdict passed=1 failed=0 skipped=0",
        ] {
            console.line(line);
        }
        let mut guests = Guests::default();
        guests.add("g", &console, console.outcome(false));
        assert_eq!((guests.tally.passed, guests.tally.failed), (1, 1));
        assert_eq!(guests.failures, ["g: crashed"]);
    }
}
