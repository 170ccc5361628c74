//! What a distribution's early boot would have done: file systems, the loopback interface, the end.

use anyhow::{Context, Result};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot, uname};

use crate::link;

/// Kind and place of each file system, in order; tracefs and bpffs lie inside sysfs.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Mounts everything and brings the loopback interface up.
pub(crate) fn prepare() -> Result<()> {
    for (kind, place) in MOUNTS {
        match rustix::fs::mkdir(place, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST | Errno::NOENT | Errno::PERM) => {}
            Err(error) => return Err(error).context(place),
        }
        match mount(kind, place, kind, MountFlags::empty(), None) {
            // The kernel mounts /dev by itself where it is built to.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("mounting {kind} at {place}")),
        }
    }
    link::up(link::LOOPBACK).context("bringing lo up")
}

/// The running kernel.
pub(crate) fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// The kernel's threads by number: complaints about stalls name no more than that.
pub(crate) fn kernel_threads() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut threads: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|number| Some((number, kernel_thread(number)?)))
        .collect();
    threads.sort_unstable();
    threads
        .into_iter()
        .map(|(number, name)| format!("{number} {name}"))
        .collect()
}

/// The name of a process, if it has no command line.
fn kernel_thread(number: u32) -> Option<String> {
    let read = |file| std::fs::read_to_string(format!("/proc/{number}/{file}")).ok();
    let name = read("comm")?.trim_end().to_owned();
    read("cmdline")?.is_empty().then_some(name)
}

/// Ends the guest.
pub(crate) fn power_off() {
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("guest: cannot power off: {error}");
    }
}
