//! Notices that the configuration file was replaced: by an editor, or by the swap of a link above it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What tells two states of a file apart; links are followed, so a swapped one shows.
type Mark = (u64, u64, i64, i64, u64);

/// Links from one to the next that are followed, as many as the kernel does.
const LINKS: usize = 40;

/// A file whose state is remembered.
#[derive(Debug)]
pub(crate) struct FileWatch {
    path: Option<PathBuf>,
    mark: Option<Mark>,
    /// What happens in the directories on the way to it: only a hint, as some file systems say nothing.
    hints: Option<AsyncFd<OwnedFd>>,
}

impl FileWatch {
    /// Remembers the state now. Within a runtime.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let hints = path.as_deref().and_then(|path| match hints(path) {
            Ok(hints) => Some(hints),
            Err(error) => {
                tracing::debug!(%error, "the configuration file is looked at by timer only");
                None
            }
        });
        let mark = path.as_ref().and_then(mark);
        Self { path, mark, hints }
    }

    /// Waits until it may have changed; for ever where nothing would say so.
    pub(crate) async fn hint(&self) {
        let Some(hints) = &self.hints else {
            return std::future::pending().await;
        };
        let Ok(mut ready) = hints.readable().await else {
            return std::future::pending().await;
        };
        // Which of them it was does not matter: it is looked at.
        let mut events = [0; 4096];
        while matches!(rustix::io::read(hints, &mut events), Ok(length) if length > 0) {}
        ready.clear_ready();
    }

    /// Whether it is another one now. A file that is gone for a moment, as between two steps of a
    /// replacement, has not changed yet.
    pub(crate) fn changed(&mut self) -> bool {
        let now = self.path.as_ref().and_then(mark);
        let changed = now.is_some() && now != self.mark;
        if changed {
            self.mark = now;
        }
        changed
    }
}

/// By inotify itself: the crate `notify` brings a thread and a channel, where the loop has one descriptor to wait for.
fn hints(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    // No `MODIFY`: what is being written is not looked at before it is whole, and logs are never closed.
    let what = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    for directory in directories(path) {
        inotify::add_watch(&queue, directory, what | WatchFlags::ONLYDIR)?;
    }
    readable(queue)
}

/// Where something has to happen for the path to lead to another file: around it and around each link on the way.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut next = std::path::absolute(path).ok();
    for _ in 0..LINKS {
        let Some(path) = next.take() else { break };
        directories.extend(path.parent().map(Path::to_owned));
        // The link nearest to the root leads to the rest.
        let ways: Vec<&Path> = path.ancestors().collect();
        for way in ways.iter().rev() {
            if let (Ok(target), Some(parent)) = (std::fs::read_link(way), way.parent()) {
                directories.insert(parent.to_owned());
                let rest = path.strip_prefix(way).unwrap_or(Path::new(""));
                let target = parent.join(target);
                // Joined to nothing, a path would end like a directory.
                next = Some(if rest.as_os_str().is_empty() {
                    target
                } else {
                    target.join(rest)
                });
                break;
            }
        }
    }
    directories
}

/// A descriptor to wait for. Within a runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for what an owned descriptor cannot break"
)]
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

fn mark(path: &PathBuf) -> Option<Mark> {
    let meta = std::fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.size(),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn sees_rewrites_and_swapped_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("one")).unwrap();
        fs::create_dir(path("two")).unwrap();
        fs::write(path("one/k.yaml"), "a").unwrap();
        fs::write(path("two/k.yaml"), "b").unwrap();
        symlink("one", path("data")).unwrap();
        let mut watch = FileWatch::new(Some(path("data/k.yaml")));
        assert!(!watch.changed());
        symlink("two", path("next")).unwrap();
        fs::rename(path("next"), path("data")).unwrap();
        assert!(watch.changed());
        assert!(!watch.changed());
        fs::write(path("two/k.yaml"), "longer").unwrap();
        assert!(watch.changed());
        fs::remove_file(path("two/k.yaml")).unwrap();
        assert!(!watch.changed());
    }

    #[tokio::test]
    async fn no_file_never_changes() {
        assert!(!FileWatch::new(None).changed());
    }

    async fn is_hinted(watch: &FileWatch) -> bool {
        let patience = std::time::Duration::from_secs(10);
        tokio::time::timeout(patience, watch.hint()).await.is_ok()
    }

    /// As a `ConfigMap` is mounted: the file is a link into a directory that is a link.
    #[tokio::test]
    async fn each_way_to_change_it_is_hinted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("k.yaml"), text).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/k.yaml", path("k.yaml")).unwrap();
        let mut watch = FileWatch::new(Some(path("k.yaml")));
        symlink("..2", path("..next")).unwrap();
        fs::rename(path("..next"), path("..data")).unwrap();
        assert!(is_hinted(&watch).await && watch.changed());
        let mut watch = FileWatch::new(Some(path("k.yaml")));
        fs::write(path("..2/k.yaml"), "longer").unwrap();
        assert!(is_hinted(&watch).await && watch.changed());
        fs::write(path("..2/new"), "longest").unwrap();
        fs::rename(path("..2/new"), path("..2/k.yaml")).unwrap();
        assert!(is_hinted(&watch).await && watch.changed());
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(directories(&dir.path().join("a")).contains(dir.path()));
    }
}
