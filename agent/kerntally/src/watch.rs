//! Notices that the configuration file was replaced: by an editor, or by the swap of a link above it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells two states of a file apart; links are followed, so a swapped one shows.
type Mark = (u64, u64, i64, i64, u64);

/// A file whose state is remembered.
#[derive(Debug)]
pub(crate) struct FileWatch {
    path: Option<PathBuf>,
    mark: Option<Mark>,
}

impl FileWatch {
    /// Remembers the state now.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let mark = path.as_ref().and_then(mark);
        Self { path, mark }
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

    #[test]
    fn sees_rewrites_and_swapped_links() {
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

    #[test]
    fn no_file_never_changes() {
        assert!(!FileWatch::new(None).changed());
    }
}
