//! Processor time of whole processes, to the nanosecond, threads that have ended included.

use anyhow::{Context as _, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Processor time that a process has taken so far, in nanoseconds.
pub(crate) fn nanos_of(pid: u32) -> Result<u64> {
    let raw = i32::try_from(pid).context("a process id")?;
    let clock = clock_getcpuclockid(Pid::from_raw(raw))
        .with_context(|| format!("process {pid} has no clock"))?;
    let time = clock.now().with_context(|| format!("process {pid}"))?;
    let seconds = u64::try_from(time.tv_sec())?;
    Ok(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_on_the_own_clock() {
        let before = nanos_of(std::process::id()).unwrap();
        let sum: u64 = (0..1_000_000).map(std::hint::black_box).sum();
        assert!(sum > 0 && nanos_of(std::process::id()).unwrap() > before);
    }

    #[test]
    fn a_process_that_is_gone_has_no_clock() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(nanos_of(child.id()).is_err());
    }
}
