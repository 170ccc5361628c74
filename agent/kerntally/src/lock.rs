//! One agent per kernel: an advisory lock whose file names its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Where the lock lies.
pub(crate) const PATH: &str = "/run/kerntally/agent.lock";

/// How long a second agent waits for the first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const RETRY: Duration = Duration::from_millis(200);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("another agent is running: pid {holder} holds {}; stop it first, or set hooks.exclusive: false to run beside it", path.display())]
    Held { holder: String, path: PathBuf },
    #[error("cannot lock {}: {reason}", path.display())]
    Unusable {
        path: PathBuf,
        reason: std::io::Error,
    },
}

impl Lock {
    /// Takes the lock, waiting for its holder to go; `waiting` is told once who that is.
    pub(crate) fn acquire(
        path: &Path,
        patience: Duration,
        waiting: impl FnOnce(&str),
    ) -> Result<Self, LockError> {
        let unusable = |reason| LockError::Unusable {
            path: path.to_owned(),
            reason,
        };
        let mut file = open(path).map_err(unusable)?;
        let deadline = Instant::now() + patience;
        let mut waiting = Some(waiting);
        while !try_lock(&file).map_err(unusable)? {
            let holder = read_holder(&mut file);
            if Instant::now() >= deadline {
                return Err(LockError::Held {
                    holder,
                    path: path.to_owned(),
                });
            }
            if let Some(tell) = waiting.take() {
                tell(&holder);
            }
            std::thread::sleep(RETRY);
        }
        write_holder(&mut file).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn try_lock(file: &File) -> std::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(32).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/agent.lock");
        let first = Lock::acquire(&path, Duration::ZERO, |_| ()).unwrap();
        let mut told = None;
        let patience = Duration::from_millis(50);
        let error = Lock::acquire(&path, patience, |holder| told = Some(holder.to_owned()));
        let own = std::process::id().to_string();
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains(&format!("pid {own} "))
        );
        assert_eq!(told, Some(own));
        drop(first);
        Lock::acquire(&path, Duration::ZERO, |_| ()).unwrap();
    }
}
