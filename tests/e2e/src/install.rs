//! Builds and installs the programs under test, once: results are kept in `~/.cache/kerntally/e2e`, keyed by
//! what they were made from.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Where the sources of the programs under test are.
pub fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../apps")
}

/// The program's path, if it is installed.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/usr/local/go/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// The programs of `tests/apps/go`, built.
pub fn go_programs() -> Result<PathBuf> {
    let go = on_path("go").context("go is not installed")?;
    let sources = apps().join("go");
    built("go", &[&sources], |into| {
        let mut build = Command::new(&go);
        build
            .current_dir(&sources)
            .args(["build", "-o"])
            .arg(into)
            .arg("./...");
        run(&mut build)
    })
}

/// A virtual environment with what `tests/apps/python/requirements.txt` pins.
pub fn python_environment() -> Result<PathBuf> {
    let python = on_path("python3").context("python3 is not installed")?;
    let requirements = apps().join("python/requirements.txt");
    built("python", &[&requirements], |into| {
        run(Command::new(&python).args(["-m", "venv"]).arg(into))?;
        let pip = into.join("bin/pip");
        run(Command::new(pip)
            .args(["install", "--quiet", "-r"])
            .arg(&requirements))
    })
}

/// The OpenTelemetry Collector of `tests/components/otelcol`, built from its committed `go.sum`.
pub fn collector() -> Result<PathBuf> {
    let go = on_path("go").context("go is not installed")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../components/otelcol");
    let directory = built("otelcol", &[&sources], |into| {
        let mut build = Command::new(&go);
        build
            .current_dir(&sources)
            .args(["build", "-mod=readonly", "-o"])
            .arg(into.join("otelcol"));
        run(build.arg("."))
    })?;
    Ok(directory.join("otelcol"))
}

/// The Prometheus of `tests/components/prometheus`, built from its committed `go.sum`. It gets no discovery but
/// the static one, and no web page.
pub fn prometheus() -> Result<PathBuf> {
    let go = on_path("go").context("go is not installed")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../components/prometheus");
    let directory = built("prometheus", &[&sources], |into| {
        let mut build = Command::new(&go);
        build
            .current_dir(&sources)
            .args(["build", "-mod=readonly", "-p", "2", "-tags"])
            .arg("remove_all_sd,enable_dns_sd")
            .arg("-o")
            .arg(into.join("prometheus"));
        run(build.arg("github.com/prometheus/prometheus/cmd/prometheus"))
    })?;
    Ok(directory.join("prometheus"))
}

/// The directory that `make` fills, made anew only if what it is made from changed.
fn built(name: &str, from: &[&Path], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for path in from {
        hash(path, &mut hasher)?;
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    let cache = home.join(".cache/kerntally/e2e");
    let directory = cache.join(format!("{name}-{:016x}", hasher.finish()));
    let complete = directory.join(".complete");
    if complete.exists() {
        return Ok(directory);
    }
    if directory.exists() {
        std::fs::remove_dir_all(&directory).context("clearing a build that did not end")?;
    }
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    make(&directory)?;
    std::fs::write(complete, "")?;
    Ok(directory)
}

fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path)
            .with_context(|| format!("reading {}", path.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| hash(entry, hasher));
    }
    path.file_name().hash(hasher);
    std::fs::read(path)
        .with_context(|| format!("reading {}", path.display()))?
        .hash(hasher);
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let end: Vec<_> = said.lines().rev().take(5).collect();
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            end.join(" | ")
        );
    }
    Ok(())
}
