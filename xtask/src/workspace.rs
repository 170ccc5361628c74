//! Where things lie: the checkout, its target directory, and the user's cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Paths that every command needs.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    /// Finds the checkout this binary was built from, and the cache directory of its user.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .context("xtask lies in the workspace root")?
            .to_path_buf();
        if !root.join("Cargo.toml").is_file() {
            bail!(
                "the checkout has moved from {}; run `cargo xtask` inside it",
                root.display()
            );
        }
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => std::path::absolute(PathBuf::from(directory))?,
            None => root.join("target"),
        };
        Ok(Self {
            root,
            target,
            cache: cache_directory()?,
        })
    }

    /// A path inside the checkout.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path inside the target directory.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.target.join(relative)
    }

    /// A path inside the cache directory, shared by all checkouts of one user.
    pub(crate) fn cache(&self, relative: &str) -> PathBuf {
        self.cache.join(relative)
    }

    /// The checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where `build` leaves the agent.
    pub(crate) fn agent(&self) -> PathBuf {
        self.target.join("release/kerntally")
    }
}

fn cache_directory() -> Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|directory| directory.is_absolute())
    };
    if let Some(directory) = absolute("KERNTALLY_CACHE") {
        return Ok(directory);
    }
    let base =
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let base = base.context("no cache directory: set HOME, XDG_CACHE_HOME or KERNTALLY_CACHE")?;
    Ok(base.join("kerntally"))
}
