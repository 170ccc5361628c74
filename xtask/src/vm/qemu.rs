//! One guest under QEMU, without acceleration, under a wall-clock limit.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::console::{Console, Outcome};
use super::kernels::Kernel;

/// The emulator's program.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// All processors of a guest in one thread of the host's. With a thread each, guests from 6.12 on crash ("Oops: int3")
/// where one processor replaces an instruction that another runs, as switching a tracepoint does: QEMU 7.2 within
/// seconds, 10.0 within a minute, with nothing but tracefs in the guest; in one thread not once. Two guests side by side
/// take no longer for it.
const ACCELERATOR: &str = "tcg,thread=single";

/// What an emulator pays for and no test is about: detours around flaws of processors that are not there, and a fifth
/// level of page tables. A sixth of a guest's time.
const FASTER: &str = "mitigations=off no5lvl";

/// Its thread collects pages at the lowest priority. Preempted among a load's busy processes in a read-side section, as
/// kernels from 6.5 on have around page tables, it comes on so late that the kernel reports a stall of RCU.
const NO_COLLECTOR_OF_PAGES: &str = "transparent_hugepage=never";

/// A guest to be run.
#[derive(Debug)]
pub(crate) struct Guest<'run> {
    pub(crate) kernel: &'run Kernel,
    pub(crate) initramfs: &'run Path,
    /// Words for the guest's init, after `--` on the kernel's command line.
    pub(crate) words: &'run [String],
    pub(crate) log: &'run Path,
    /// Said with each line where guests run side by side.
    pub(crate) label: Option<&'run str>,
    pub(crate) limit: Duration,
    /// One processor on which every instruction takes one nanosecond of the guest's time.
    pub(crate) counted: bool,
}

/// How long a guest may take to its first line; a boot takes 3 to 8 s when the machine is free.
const BOOT_LIMIT: Duration = Duration::from_mins(1);
/// Counting makes the emulator several times slower.
const COUNTED_BOOT_LIMIT: Duration = Duration::from_mins(4);

impl Guest<'_> {
    /// Boots the guest, shows its cases, and returns what its console said and what came of it.
    pub(crate) fn run(&self) -> Result<(Console, Outcome)> {
        let (mut console, mut timed_out) = self.boot()?;
        if !console.started() {
            // Emulation fails in early boot now and then; nothing of ours has run by then.
            println!("  the guest never printed its first line; trying once more");
            (console, timed_out) = self.boot()?;
        }
        let outcome = console.outcome(timed_out);
        Ok((console, outcome))
    }

    /// Boots once; returns what the console said and whether the guest was stopped.
    fn boot(&self) -> Result<(Console, bool)> {
        let mut child = self
            .command()
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        let watched = self.watch(&mut child);
        // Whatever was read: no guest outlives its test.
        let _already_gone = child.kill();
        child.wait()?;
        watched
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["-accel", ACCELERATOR, "-m", "1G"]);
        command.args(["-cpu", self.kernel.line.processor]);
        if self.counted {
            // Idle time is skipped, and no clock of the host is read: a guest takes the same way each time.
            command.args(["-smp", "1", "-icount", "shift=0,sleep=off"]);
            command.args(["-rtc", "base=2026-01-01,clock=vm"]);
        } else {
            command.args(["-smp", "2"]);
        }
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        command.arg("-append").arg(self.kernel_arguments());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        command
    }

    fn kernel_arguments(&self) -> String {
        let further = if self.counted { "nokaslr" } else { FASTER };
        format!(
            "console=ttyS0 panic=-1 noapic loglevel=5 {NO_COLLECTOR_OF_PAGES} {further} rdinit=/init -- {}",
            self.words.join(" ")
        )
    }

    fn boot_limit(&self) -> Duration {
        if self.counted {
            COUNTED_BOOT_LIMIT
        } else {
            BOOT_LIMIT
        }
    }

    fn watch(&self, child: &mut Child) -> Result<(Console, bool)> {
        let output = child.stdout.take().context("the console is piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        self.read(&lines)
    }

    fn read(&self, lines: &Receiver<String>) -> Result<(Console, bool)> {
        let started = Instant::now();
        let mut log =
            File::create(self.log).with_context(|| format!("creating {}", self.log.display()))?;
        let mut console = Console::default();
        loop {
            let limit = if console.started() {
                self.limit
            } else {
                self.boot_limit().min(self.limit)
            };
            match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
                Ok(line) => {
                    writeln!(log, "{}", line.trim_end())?;
                    console.line(&line);
                    if ["case ", "guest: ", "count ", "ledger: "]
                        .iter()
                        .any(|mark| line.starts_with(mark))
                    {
                        let at = started.elapsed().as_secs_f64();
                        let label = self.label.map(|label| format!("{label}: "));
                        let label = label.unwrap_or_default();
                        println!("  {at:6.1} s  {label}{}", shortened(line.trim_end()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok((console, true)),
                // A guest that panics or powers off ends QEMU with status 0: only the console counts.
                Err(RecvTimeoutError::Disconnected) => return Ok((console, false)),
            }
            if console.finished() {
                drain(lines, &mut console, &mut log)?;
                return Ok((console, false));
            }
        }
    }
}

/// A line that fits a terminal; the log keeps the whole.
fn shortened(line: &str) -> &str {
    const LENGTH: usize = 600;
    line.char_indices()
        .nth(LENGTH)
        .map_or(line, |(end, _)| &line[..end])
}

/// Takes what still comes while the guest powers off, such as a late complaint.
fn drain(lines: &Receiver<String>, console: &mut Console, log: &mut File) -> Result<()> {
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(5)) {
        writeln!(log, "{}", line.trim_end())?;
        console.line(&line);
    }
    Ok(())
}
