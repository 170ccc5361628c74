//! Where and when a run took place.

use std::process::Command;

use serde::Serialize;

/// The machine, the time, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// One minute's load before the run: above a few tenths others were at work.
    pub(crate) load_before: String,
    pub(crate) commit: String,
    pub(crate) quick: bool,
}

impl Machine {
    /// This one, now.
    pub(crate) fn here(quick: bool) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            date: said("date", &["-u", "+%Y-%m-%d %H:%M"]),
            processor: processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: crate::system::cores(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            commit: said("git", &["rev-parse", "--short", "HEAD"]),
            quick,
        }
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let short = if self.quick {
            ", **a short run to see that it works: the figures mean nothing**"
        } else {
            ""
        };
        format!(
            "{} UTC, {} cores of {}, Linux {}, load average before {}, commit {}{short}",
            self.date, self.cores, self.processor, self.kernel, self.load_before, self.commit
        )
    }
}

fn processor(info: &str) -> String {
    let line = info.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or_else(
        || "an unknown processor".to_owned(),
        |(_, name)| name.to_owned(),
    )
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
