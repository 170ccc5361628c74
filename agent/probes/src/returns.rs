//! Hooks on the return of kernel functions, with room for many calls at a time.
//!
//! The kernel keeps a note for each call whose return it is to show. Where it chooses how many (as aya has it),
//! they are two for each processor, or 10: a server's threads that wait in `recv` use them up. Through tracefs
//! the number can be given, at the price of an event that outlives a killed agent: disabled, without a program,
//! and removed when an agent next uses this back end.

use std::{
    fs, io,
    io::Write as _,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use kerntally_abi::limits::RETURNS_UNDER_WAY;

/// Where tracefs is mounted: by itself, or within debugfs.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Beginning of the names of groups of events; the agent's process number follows.
const GROUP: &str = "kerntally_";

/// `PERF_TYPE_TRACEPOINT` (`include/uapi/linux/perf_event.h`)
const TRACEPOINT: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_ENABLE`, `PERF_EVENT_IOC_SET_BPF`
const ENABLE: libc::c_ulong = 0x2400;
const SET_BPF: libc::c_ulong = 0x4004_2408;

/// The first 64 bytes of `struct perf_event_attr`, which every kernel takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    address: u64,
}

/// A program at the return of a kernel function, for as long as this lives.
#[derive(Debug)]
pub(crate) struct ReturnHook {
    /// Taken first when it ends: an event in use cannot be removed.
    event: Option<OwnedFd>,
    definition: Definition,
}

/// An event of tracefs.
#[derive(Debug)]
struct Definition {
    tracefs: PathBuf,
    name: String,
}

impl ReturnHook {
    /// Attaches the loaded kprobe program to the return of `function`.
    pub(crate) fn attach(program: BorrowedFd<'_>, function: &str) -> io::Result<Self> {
        let definition = Definition::new(function)?;
        match definition.open(program) {
            Ok(event) => Ok(Self {
                event: Some(event),
                definition,
            }),
            Err(error) => {
                let _left = definition.remove();
                Err(error)
            }
        }
    }

    /// Takes the program away.
    pub(crate) fn detach(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        match self.event.take() {
            Some(event) => {
                drop(event);
                self.definition.remove()
            }
            None => Ok(()),
        }
    }
}

impl Drop for ReturnHook {
    fn drop(&mut self) {
        // What cannot be removed now is when this back end is next used.
        let _left = self.end();
    }
}

impl Definition {
    fn new(function: &str) -> io::Result<Self> {
        let tracefs = PLACES
            .iter()
            .map(Path::new)
            .find(|place| place.join("kprobe_events").exists())
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    "tracefs with kprobes is not mounted",
                )
            })?;
        let it = Self {
            tracefs: tracefs.to_owned(),
            name: format!("{GROUP}{}/{function}", std::process::id()),
        };
        it.command(&format!("r{RETURNS_UNDER_WAY}:{} {function}", it.name))?;
        Ok(it)
    }

    /// The event with the program on it.
    fn open(&self, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let event = open(self.id()?)?;
        control(&event, SET_BPF, program.as_raw_fd())?;
        control(&event, ENABLE, 0)?;
        Ok(event)
    }

    fn id(&self) -> io::Result<u64> {
        let path = self.tracefs.join("events").join(&self.name).join("id");
        let unexpected = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        fs::read_to_string(path)?.trim().parse().map_err(unexpected)
    }

    fn remove(&self) -> io::Result<()> {
        self.command(&format!("-:{}", self.name))
    }

    fn command(&self, command: &str) -> io::Result<()> {
        write(&self.tracefs, command)
    }
}

/// Whether tracefs is mounted, without which no trace event can be attached to.
pub(crate) fn has_trace_events() -> bool {
    PLACES
        .iter()
        .any(|place| Path::new(place).join("events/sock").exists())
}

/// Removes what agents that were killed left behind.
pub(crate) fn clear_abandoned() {
    for tracefs in PLACES.iter().map(Path::new) {
        let events = fs::read_to_string(tracefs.join("kprobe_events")).unwrap_or_default();
        let gone = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
        for name in abandoned(&events, gone) {
            // In use by someone after all: it stays.
            let _busy = write(tracefs, &format!("-:{name}"));
        }
    }
}

/// Names of the agents' events whose process is `gone`, in what `kprobe_events` lists.
fn abandoned(events: &str, gone: impl Fn(u32) -> bool) -> Vec<String> {
    let names = events
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_whitespace().next());
    names
        .filter(|name| {
            let group = name
                .strip_prefix(GROUP)
                .and_then(|rest| rest.split_once('/'));
            group
                .and_then(|(pid, _function)| pid.parse().ok())
                .is_some_and(&gone)
        })
        .map(str::to_owned)
        .collect()
}

/// Opened for appending: anything else would remove every event there is.
fn write(tracefs: &Path, command: &str) -> io::Result<()> {
    let path = tracefs.join("kprobe_events");
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(command.as_bytes())
}

fn open(id: u64) -> io::Result<OwnedFd> {
    let size = size_of::<Attributes>();
    let attributes = Attributes {
        kind: TRACEPOINT,
        size: u32::try_from(size).unwrap_or(0),
        config: id,
        ..Attributes::default()
    };
    // Any process, on processor 0: the program of such an event runs on all of them.
    let (process, processor, group) = (-1, 0, -1);
    // SAFETY: the attributes are as the kernel defines them, and as long as they say.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            process,
            processor,
            group,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(opened) {
        // SAFETY: the kernel has just given this descriptor to us.
        Ok(opened) if opened >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(opened) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn control(event: &OwnedFd, request: libc::c_ulong, argument: i32) -> io::Result<()> {
    // SAFETY: both requests take a number.
    let answer = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_agents_that_are_gone_are_abandoned() {
        let events = "r2048:kerntally_7/inet_recvmsg inet_recvmsg\n\
                      r2048:kerntally_8/inet_recvmsg inet_recvmsg\n\
                      p:kprobes/kerntally_7 do_exit\n\
                      r:kerntally_x/inet_recvmsg inet_recvmsg\n\
                      p:mine/seven vfs_read a=%di:u64\n";
        let found = abandoned(events, |pid| pid == 7);
        assert_eq!(found, ["kerntally_7/inet_recvmsg"]);
        assert!(abandoned("", |_pid| true).is_empty());
    }
}
