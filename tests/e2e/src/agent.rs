//! Starts an agent of its own beside whatever else runs, asks it through its command line, and ends it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::export::{self, Series};
use crate::kernel_objects::KernelObjects;
use crate::ledger::Ledger;

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The `kerntally` binary.
    pub binary: PathBuf,
    /// `hooks.backend`; `None` leaves the choice to the agent.
    pub backend: Option<String>,
    /// Where its files go.
    pub directory: PathBuf,
    /// `--export`
    pub export: String,
    /// `--interval`
    pub interval: String,
    /// Further `--set` values.
    pub sets: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
    /// How long it may take to be ready.
    pub ready_within: Duration,
}

impl AgentOptions {
    /// An agent that pushes nowhere and writes its export file every second.
    pub fn new(binary: &Path, directory: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            backend: std::env::var("KERNTALLY_E2E_BACKEND").ok(),
            directory: directory.to_owned(),
            export: "none".to_owned(),
            interval: "1s".to_owned(),
            sets: Vec::new(),
            environment: Vec::new(),
            ready_within: Duration::from_mins(1),
        }
    }
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    directory: PathBuf,
    child: Child,
}

impl Agent {
    /// Starts it and returns once it says that it is ready to tally.
    pub fn start(options: &AgentOptions) -> Result<Self> {
        let directory = options.directory.clone();
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let log = File::create(directory.join("agent.log")).context("creating the agent's log")?;
        let words = listen_for_words(&directory)?;
        let child = run_command(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", options.binary.display()))?;
        let mut agent = Self {
            binary: options.binary.clone(),
            directory,
            child,
        };
        agent.wait_ready(&words, options.ready_within)?;
        Ok(agent)
    }

    /// Waits for the word that a service manager waits for: a command that asks again and again would take an emulated
    /// processor from the agent, which has its programs verified meanwhile.
    fn wait_ready(&mut self, words: &UnixDatagram, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut word = [0; 256];
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the agent ended with {status} before it was ready: {}",
                    self.log_tail()
                );
            }
            let len = words.recv(&mut word).unwrap_or(0);
            if word[..len].starts_with(b"READY=1") {
                return self.passes(["status"]).context("the agent says READY=1");
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent was not ready within {within:?}: {}",
                    self.log_tail()
                );
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Its export file.
    pub fn export_file(&self) -> PathBuf {
        self.directory.join("export.json")
    }

    /// Where its standard output and error go.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// The end of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Runs a command of the command line against it.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        arguments: I,
    ) -> Result<Output> {
        Command::new(&self.binary)
            .args(arguments)
            .arg("--socket")
            .arg(self.socket())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.binary.display()))
    }

    /// The same, whose status must be 0: what it printed is the reason otherwise.
    pub fn passes<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Result<()> {
        let output = self.command(arguments)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{printed}");
        Ok(())
    }

    /// The same, which must succeed and print JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.command(arguments.iter().copied().chain(["-o", "json"]))?;
        if !output.status.success() {
            bail!(
                "kerntally {} ended with {}: {}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("kerntally {} -o json printed no JSON", arguments.join(" ")))
    }

    /// Its ledger.
    pub fn ledger(&self) -> Result<Ledger> {
        Ok(serde_json::from_value(self.json(&["ledger"])?)?)
    }

    /// Switches probes; must succeed.
    pub fn probes(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(["probes"].iter().chain(arguments))?;
        if !output.status.success() {
            let answer = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!(
                "kerntally probes {} ended with {}: {answer}",
                arguments.join(" "),
                output.status
            );
        }
        Ok(())
    }

    /// Waits until no link of its is left, as after its probes were switched off.
    pub fn wait_unlinked(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let links = KernelObjects::of_process(self.pid())?.count("link");
            if links == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{links} links left after probes disable --all"
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has written to its export file again, for a while at most: reading the same collection twice costs
    /// an emulated processor more than waiting for the next.
    pub fn wait_for_push(&self) {
        let len = || std::fs::metadata(self.export_file()).map_or(0, |file| file.len());
        let (before, deadline) = (len(), Instant::now() + PUSH_WITHIN);
        while len() == before && Instant::now() < deadline {
            sleep(LOOK);
        }
    }

    /// All request duration series in its last push.
    pub fn series(&self) -> Result<Vec<Series>> {
        export::last_push(&self.export_file())
    }

    /// The series of one service.
    pub fn series_of(&self, service: &str) -> Result<Vec<Series>> {
        let mut series = self.series()?;
        series.retain(|series| series.service == service);
        Ok(series)
    }

    /// Its resident memory.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that was resident since [`Agent::forget_most_resident`], or since it began.
    pub fn most_resident_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// <https://www.kernel.org/doc/html/latest/filesystems/proc.html>: 5 resets the peak.
    pub fn forget_most_resident(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
            .context("resetting the peak of resident memory")
    }

    fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: u64 = line
            .with_context(|| format!("no {name}"))?
            .trim()
            .trim_end_matches(" kB")
            .parse()?;
        Ok(kib * 1024)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the agent has no process id")?, signal)
            .context("signalling the agent")
    }

    /// Sends SIGTERM and waits for its end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_end(Duration::from_secs(30))
    }

    /// Waits for its end.
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(20));
        }
        bail!(
            "the agent did not end within {within:?}: {}",
            self.log_tail()
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.is_running() && self.terminate().is_err() {
            // Nothing more can be done about a process that does not die.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// The agent's binary: `KERNTALLY_BIN`, else what this workspace built last.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KERNTALLY_BIN") {
        return Ok(PathBuf::from(path));
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    ["release/kerntally", "debug/kerntally"]
        .iter()
        .map(|name| target.join(name))
        .find(|path| path.exists())
        .context("no agent found: build it with `cargo xtask build` or name it in KERNTALLY_BIN")
}

/// The longest that is waited for one push.
const PUSH_WITHIN: Duration = Duration::from_secs(5);

/// How often an agent that says nothing is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Where the agent says that it is ready; see `sd_notify(3)`.
fn listen_for_words(directory: &Path) -> Result<UnixDatagram> {
    let path = directory.join(WORDS);
    // An earlier agent may have had this directory.
    std::fs::remove_file(&path).ok();
    let words = UnixDatagram::bind(&path).with_context(|| format!("binding {}", path.display()))?;
    words.set_read_timeout(Some(LOOK))?;
    Ok(words)
}

const WORDS: &str = "notify.sock";

fn run_command(options: &AgentOptions) -> Command {
    let mut command = Command::new(&options.binary);
    command
        .args([
            "run",
            "--export",
            &options.export,
            "--interval",
            &options.interval,
        ])
        .arg("--export-file")
        .arg(options.directory.join("export.json"))
        .arg("--socket")
        .arg(options.directory.join("control.sock"))
        .args([
            "--set",
            "hooks.exclusive=false",
            "--set",
            "self.listen=null",
        ]);
    if let Some(backend) = &options.backend {
        command.arg("--set").arg(format!("hooks.backend={backend}"));
    }
    for set in &options.sets {
        command.arg("--set").arg(set);
    }
    command.env("NOTIFY_SOCKET", options.directory.join(WORDS));
    command.envs(options.environment.iter().cloned());
    command
}
