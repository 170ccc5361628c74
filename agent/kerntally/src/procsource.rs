//! Facts about processes, read from `/proc` with bounds: processes name themselves, and may lie at length.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kerntally_model::ProcessKey;
use kerntally_pipeline::attribute::{Cgroup, ProcessFacts, ProcessSource};
use procfs::FromRead;
use procfs::process::Stat;

/// Bytes of an environment that are looked at: it may hold megabytes.
const ENVIRON_BYTES: u64 = 256 * 1024;

/// Bytes of other files that are looked at.
const FILE_BYTES: u64 = 64 * 1024;

/// Nanoseconds in a tick of `/proc/PID/stat`: user space is always told 100 a second.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// Only these variables are kept; no other is stored, shown or exported.
const VARIABLES: &[u8] = b"OTEL_";

/// The host's `/proc`.
#[derive(Debug)]
pub(crate) struct ProcFiles {
    root: PathBuf,
}

impl ProcFiles {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }
}

impl ProcessSource for ProcFiles {
    fn facts(&mut self, process: ProcessKey) -> Option<ProcessFacts> {
        let dir = self.root.join(process.tgid.to_string());
        let facts = read_facts(&dir);
        // Asked last: had the number been given to a new process meanwhile, this would tell.
        started_as(&dir, process.start_ns).then_some(facts)
    }
}

fn started_as(dir: &Path, start_ns: u64) -> bool {
    let Some(bytes) = read_bounded(&dir.join("stat"), FILE_BYTES) else {
        return false;
    };
    // Ticks are rounded, differently by kernels, and the two clocks may differ by a namespace's offset of 0.
    Stat::from_read(bytes.as_slice())
        .is_ok_and(|stat| stat.starttime.abs_diff(start_ns / TICK_NS) <= 1)
}

fn read_facts(dir: &Path) -> ProcessFacts {
    let exe = std::fs::read_link(dir.join("exe")).ok();
    ProcessFacts {
        exe: exe.map(|path| path.to_string_lossy().into_owned()),
        cmdline: read_bounded(&dir.join("cmdline"), FILE_BYTES)
            .map(|bytes| arguments(&bytes))
            .unwrap_or_default(),
        environment: read_bounded(&dir.join("environ"), ENVIRON_BYTES)
            .map(|bytes| variables(&bytes))
            .unwrap_or_default(),
        cgroups: read_bounded(&dir.join("cgroup"), FILE_BYTES)
            .map(|bytes| cgroups(&bytes))
            .unwrap_or_default(),
        comm: read_bounded(&dir.join("comm"), FILE_BYTES)
            .map(|bytes| String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned())
            .unwrap_or_default(),
        container: None,
    }
}

fn read_bounded(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(limit)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn arguments(bytes: &[u8]) -> Vec<String> {
    let text = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

fn variables(bytes: &[u8]) -> Vec<(String, String)> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|entry| entry.starts_with(VARIABLES))
        .filter_map(|entry| {
            let entry = std::str::from_utf8(entry).ok()?;
            let (name, value) = entry.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn cgroups(bytes: &[u8]) -> Vec<Cgroup> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(Cgroup::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    const STAT: &str = "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 \
        1000 100 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    fn fixture() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("4711");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("stat"), STAT).unwrap();
        fs::write(dir.join("comm"), "gunicorn\n").unwrap();
        fs::write(dir.join("cmdline"), "python3\0-m\0gunicorn\0\0--bind\0").unwrap();
        fs::write(
            dir.join("environ"),
            b"PATH=/bin\0SECRET=hunter2\0OTEL_SERVICE_NAME=shop=1\0OTEL_BROKEN\0OTEL_X=\xff\0",
        )
        .unwrap();
        fs::write(
            dir.join("cgroup"),
            "1:name=systemd:/x\n0::/system.slice/shop.service\nnonsense\n",
        )
        .unwrap();
        symlink("/usr/bin/python3.11", dir.join("exe")).unwrap();
        root
    }

    fn key(start_ns: u64) -> ProcessKey {
        ProcessKey {
            tgid: 4711,
            start_ns,
        }
    }

    #[test]
    fn reads_what_is_needed_and_nothing_else() {
        let root = fixture();
        let facts = ProcFiles::new(root.path())
            .facts(key(123_457_890_000))
            .unwrap();
        assert_eq!(facts.exe.as_deref(), Some("/usr/bin/python3.11"));
        assert_eq!(facts.cmdline, ["python3", "-m", "gunicorn", "", "--bind"]);
        assert_eq!(
            facts.environment,
            [("OTEL_SERVICE_NAME".to_owned(), "shop=1".to_owned())]
        );
        assert_eq!(facts.cgroups.len(), 2);
        assert_eq!(facts.cgroups[1].path, "/system.slice/shop.service");
        assert_eq!(facts.comm, "gunicorn");
        assert!(!format!("{facts:?}").contains("hunter2"));
    }

    #[test]
    fn another_process_with_the_same_number_is_not_it() {
        let root = fixture();
        assert_eq!(ProcFiles::new(root.path()).facts(key(99_000_000_000)), None);
    }

    #[test]
    fn processes_that_are_gone_have_no_facts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(ProcFiles::new(root.path()).facts(key(1)), None);
    }

    /// The reader waits in the middle, until its process is gone.
    #[test]
    fn what_vanishes_while_it_is_read_has_no_facts() {
        let root = fixture();
        let dir = root.path().join("4711");
        let environ = dir.join("environ");
        fs::remove_file(&environ).unwrap();
        rustix::fs::mknodat(CWD, &environ, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let vanishing = std::thread::spawn(move || {
            let mut read = fs::OpenOptions::new().write(true).open(&environ).unwrap();
            read.write_all(b"OTEL_SERVICE_NAME=shop\0").unwrap();
            fs::remove_dir_all(dir).unwrap();
        });
        let facts = ProcFiles::new(root.path()).facts(key(123_450_000_000));
        vanishing.join().unwrap();
        assert_eq!(facts, None);
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_keeps_what_is_left_of_it() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let tgid = child.id();
        let stat = || {
            procfs::process::Process::new(tgid.cast_signed())
                .unwrap()
                .stat()
                .unwrap()
        };
        while stat().state != 'Z' {
            std::thread::yield_now();
        }
        let process = ProcessKey {
            tgid,
            start_ns: stat().starttime * TICK_NS,
        };
        let facts = ProcFiles::new(Path::new("/proc")).facts(process).unwrap();
        child.wait().unwrap();
        assert_eq!((facts.exe, facts.comm.as_str()), (None, "true"));
        assert_eq!(ProcFiles::new(Path::new("/proc")).facts(process), None);
    }

    #[test]
    fn a_huge_environment_is_read_in_part() {
        let root = fixture();
        let mut environ = b"OTEL_FIRST=1\0".to_vec();
        environ.resize(4 * 1024 * 1024, b'x');
        fs::write(root.path().join("4711/environ"), environ).unwrap();
        let facts = ProcFiles::new(root.path())
            .facts(key(123_450_000_000))
            .unwrap();
        assert_eq!(facts.environment.len(), 1);
    }

    #[test]
    fn this_very_process_is_found() {
        let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
        let process = ProcessKey {
            tgid: std::process::id(),
            start_ns: stat.starttime * TICK_NS + 1,
        };
        let facts = ProcFiles::new(Path::new("/proc")).facts(process).unwrap();
        assert!(facts.exe.is_some_and(|exe| exe.contains("kerntally")));
    }
}
