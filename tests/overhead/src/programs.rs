//! BPF programs of a process as the kernel describes them in its file descriptors: names, verified instructions,
//! and, while `kernel.bpf_stats_enabled` is 1, runs and their time.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// The switch of the kernel's statistics.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// One loaded program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) runs: u64,
    pub(crate) nanos: u64,
    /// What the verifier walked; 0 where the kernel does not say.
    pub(crate) verified: u64,
}

/// Everything BPF that a process holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// By program id.
    pub(crate) programs: BTreeMap<u64, Program>,
    /// Kernel memory of all maps.
    pub(crate) map_bytes: u64,
}

impl Held {
    /// Reads what the process holds now.
    pub(crate) fn by(pid: u32) -> Result<Self> {
        let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let names = names(&symbols);
        let directory = format!("/proc/{pid}/fdinfo");
        let mut held = Self::default();
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
            // A descriptor may be closed between the listing and the reading.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            if let Some((id, program)) = program(&text, &names) {
                held.programs.insert(id, program);
            } else if let Some(id) = number(&text, "map_id") {
                maps.insert(id, number(&text, "memlock").unwrap_or(0));
            }
        }
        held.map_bytes = maps.values().sum();
        Ok(held)
    }

    /// Runs and time since an earlier reading, of programs that ran.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<Program> {
        let grown = self.programs.iter().map(|(id, now)| {
            let before = earlier.programs.get(id).cloned().unwrap_or_default();
            Program {
                runs: now.runs - before.runs.min(now.runs),
                nanos: now.nanos - before.nanos.min(now.nanos),
                ..now.clone()
            }
        });
        grown.filter(|program| program.runs > 0).collect()
    }
}

/// Turns the kernel's statistics on or off, and says how they stood.
pub(crate) fn statistics(on: bool) -> Result<bool> {
    let before = fs::read_to_string(SWITCH).with_context(|| format!("reading {SWITCH}"))?;
    fs::write(SWITCH, if on { "1" } else { "0" }).with_context(|| format!("writing {SWITCH}"))?;
    Ok(before.trim() == "1")
}

fn program(text: &str, names: &BTreeMap<&str, &str>) -> Option<(u64, Program)> {
    let id = number(text, "prog_id")?;
    // Links name their program too; only the program itself has a tag and counts.
    let tag = value(text, "prog_tag").filter(|_| value(text, "link_type").is_none())?;
    let name = names.get(tag).copied().unwrap_or(tag);
    Some((
        id,
        Program {
            name: name.to_owned(),
            runs: number(text, "run_cnt").unwrap_or(0),
            nanos: number(text, "run_time_ns").unwrap_or(0),
            verified: number(text, "verified_insns").unwrap_or(0),
        },
    ))
}

fn value<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    let line = |line: &'text str| line.strip_prefix(name)?.strip_prefix(':');
    text.lines().find_map(line).map(str::trim)
}

fn number(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.parse().ok()
}

/// Names by tag: the kernel lists compiled programs as `bpf_prog_TAG_NAME`.
fn names(symbols: &str) -> BTreeMap<&str, &str> {
    let entry = |line| -> Option<(&str, &str)> {
        let (_, symbol) = str::split_once(line, "bpf_prog_")?;
        let symbol = symbol.split_whitespace().next()?;
        symbol.split_once('_')
    };
    symbols.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "ffffffff81000000 T _stext\nffffffffc0001234 t bpf_prog_6deef7357e7b4530_sock_send_length\t[bpf]\n";
    const INFO: &str = "pos:\t0\nprog_type:\t17\nprog_jited:\t1\nprog_tag:\t6deef7357e7b4530\nmemlock:\t4096\n\
        prog_id:\t23\nrun_time_ns:\t700\nrun_cnt:\t7\nverified_insns:\t142500\n";

    #[test]
    fn programs_are_named_by_their_tag() {
        let (id, program) = program(INFO, &names(SYMBOLS)).unwrap();
        assert_eq!((id, program.name.as_str()), (23, "sock_send_length"));
        assert_eq!(
            (program.runs, program.nanos, program.verified),
            (7, 700, 142_500)
        );
    }

    #[test]
    fn links_and_other_files_are_no_programs() {
        let link =
            "link_type:\traw_tracepoint\nlink_id:\t3\nprog_tag:\t6deef7357e7b4530\nprog_id:\t23\n";
        assert_eq!(program(link, &BTreeMap::new()), None);
        assert_eq!(program("pos:\t0\nflags:\t02\n", &BTreeMap::new()), None);
    }

    #[test]
    fn only_what_ran_since_is_told() {
        let held = |runs, nanos| Held {
            programs: BTreeMap::from([(
                1,
                Program {
                    runs,
                    nanos,
                    ..Program::default()
                },
            )]),
            map_bytes: 0,
        };
        let grown = held(9, 90).since(&held(4, 40));
        assert_eq!((grown[0].runs, grown[0].nanos), (5, 50));
        assert!(held(4, 40).since(&held(4, 40)).is_empty());
    }
}
