//! Debian's cloud kernels: the newest point release of a line, resolved at run time and cached by release.
//!
//! Packages come through a private apt root with its own source list, so the machine's own lists and
//! packages are not touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::packages::Manager;
use crate::workspace::Workspace;

/// A kernel line a guest can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// As it is named on the command line.
    pub(crate) name: &'static str,
    source: &'static str,
    /// Major and minor number; `None` takes whatever is newest.
    series: Option<(u32, u32)>,
    /// Emulated processor. 6.12's slab allocator crashes under emulation now and then with `cmpxchg16b`;
    /// the newest kernels' BPF socket storage does not work without it.
    pub(crate) processor: &'static str,
    /// Back ends the kernel supports: the first is that which `auto` takes. `sock-tracepoint` from 6.3.
    pub(crate) backends: &'static [&'static str],
}

/// Every line of the matrix, oldest first.
pub(crate) const LINES: [Line; 4] = [
    Line {
        name: "5.10",
        source: "http://deb.debian.org/debian-security bullseye-security main",
        series: Some((5, 10)),
        processor: "qemu64,-cx16",
        backends: &["fexit", "kprobe", "syscall"],
    },
    Line {
        name: "6.1",
        source: "http://deb.debian.org/debian bookworm main",
        series: Some((6, 1)),
        processor: "qemu64,-cx16",
        backends: &["fexit", "kprobe", "syscall"],
    },
    Line {
        name: "6.12",
        source: "http://deb.debian.org/debian trixie main",
        series: Some((6, 12)),
        processor: "qemu64,-cx16",
        backends: &["fexit", "sock-tracepoint", "kprobe", "syscall"],
    },
    Line {
        name: "newest",
        source: "http://deb.debian.org/debian sid main",
        series: None,
        processor: "max",
        backends: &["sock-tracepoint", "fexit", "kprobe", "syscall"],
    },
];

/// A kernel image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) line: Line,
    /// As `uname -r` says, without the flavour.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
}

/// Parses the name of a line.
pub(crate) fn parse(name: &str) -> Result<Line, String> {
    let known = || LINES.map(|line| line.name).join(", ");
    LINES
        .into_iter()
        .find(|line| line.name == name)
        .ok_or_else(|| format!("expected one of {}", known()))
}

/// Resolves a line to its newest release and fetches the image unless it is cached.
pub(crate) fn fetch(workspace: &Workspace, line: Line) -> Result<Kernel> {
    match resolve(workspace, line) {
        Ok(kernel) => Ok(kernel),
        // An archive that cannot be reached is no reason not to test with what is here.
        Err(error) => match cached(workspace, line) {
            Some(kernel) => {
                println!("  using the cached {} ({error:#})", kernel.release);
                Ok(kernel)
            }
            None => Err(error),
        },
    }
}

fn resolve(workspace: &Workspace, line: Line) -> Result<Kernel> {
    let archive = Archive::open(workspace, line)?;
    let names = archive.ask(&["pkgnames", "linux-"])?;
    let packages = candidates(&names, line);
    if packages.is_empty() {
        bail!("{} has no cloud kernel of line {}", line.source, line.name);
    }
    let mut failures = Vec::new();
    for package in &packages {
        let directory = workspace
            .cache("kernels")
            .join(line.name)
            .join(&package.release);
        let image = directory.join("vmlinuz");
        if !image.is_file()
            && let Err(error) = archive.download(package, &directory)
        {
            failures.push(format!("{}: {error:#}", package.name));
            continue;
        }
        return Ok(Kernel {
            line,
            release: package.release.clone(),
            image,
        });
    }
    bail!(
        "no kernel of line {} could be fetched: {}",
        line.name,
        failures.join("; ")
    )
}

fn cached(workspace: &Workspace, line: Line) -> Option<Kernel> {
    let directories = std::fs::read_dir(workspace.cache("kernels").join(line.name)).ok()?;
    let names = directories
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let release = names.max_by_key(|release| numbers(release))?;
    let image = workspace
        .cache("kernels")
        .join(line.name)
        .join(&release)
        .join("vmlinuz");
    image.is_file().then_some(Kernel {
        line,
        release,
        image,
    })
}

/// A package that may hold an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    release: String,
}

/// Packages of a line that may hold an image, newest release first. From 7.x on `linux-image-*` is empty and
/// `linux-binary-*` holds it; signed and unsigned builds can each be missing from the pool.
fn candidates(names: &str, line: Line) -> Vec<Package> {
    let mut packages: Vec<Package> = names.lines().filter_map(package).collect();
    if let Some((major, minor)) = line.series {
        packages.retain(|package| numbers(&package.release).starts_with(&[major, minor]));
    }
    packages.sort_by_key(|package| {
        let unsigned = package.name.contains("unsigned");
        (
            std::cmp::Reverse(numbers(&package.release)),
            package.name.starts_with("linux-image"),
            unsigned,
        )
    });
    packages
}

fn package(name: &str) -> Option<Package> {
    let rest = name
        .strip_prefix("linux-image-")
        .or_else(|| name.strip_prefix("linux-binary-"))?;
    let rest = rest.strip_prefix("unsigned-").unwrap_or(rest);
    let rest = rest.strip_suffix("-unsigned").unwrap_or(rest);
    let release = rest.strip_suffix("-cloud-amd64")?;
    let complete =
        release.split('.').count() >= 3 && release.starts_with(|sign: char| sign.is_ascii_digit());
    complete.then(|| Package {
        name: name.to_owned(),
        release: release.to_owned(),
    })
}

/// `5.10.0-46` as [5, 10, 0, 46].
fn numbers(release: &str) -> Vec<u32> {
    release
        .split(|sign: char| !sign.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// A private apt root.
#[derive(Debug)]
struct Archive {
    options: Vec<String>,
    downloads: PathBuf,
}

impl Archive {
    fn open(workspace: &Workspace, line: Line) -> Result<Self> {
        if Manager::detect() != Some(Manager::Apt) {
            bail!(
                "guest kernels are Debian packages, fetched by apt, which this machine does not have"
            );
        }
        let root = workspace.cache("apt").join(line.name);
        for directory in [
            "state",
            "lists/partial",
            "cache/archives/partial",
            "downloads",
        ] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        std::fs::write(root.join("state/status"), "")?;
        std::fs::write(
            root.join("sources.list"),
            format!("deb [signed-by={}] {}\n", keyring()?, line.source),
        )?;
        let archive = Self {
            options: options(&root),
            downloads: root.join("downloads"),
        };
        let mut update = Command::new("apt-get");
        update.args(&archive.options).args(["update", "-qq"]);
        command::capture(&mut update)?;
        Ok(archive)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        command::capture(Command::new("apt-cache").args(&self.options).args(words))
    }

    fn download(&self, package: &Package, directory: &Path) -> Result<()> {
        println!("  fetching {}", package.name);
        let scratch = self.downloads.join(&package.name);
        std::fs::create_dir_all(&scratch)?;
        let mut download = Command::new("apt-get");
        download
            .current_dir(&scratch)
            .args(&self.options)
            .args(["download", "-qq", &package.name]);
        command::capture(&mut download)?;
        let unpacked = unpack(&scratch);
        let kept = unpacked.and_then(|image| {
            std::fs::create_dir_all(directory)?;
            // Written under another name first: an interrupted copy must not look like a kernel.
            let partial = directory.join("vmlinuz.partial");
            std::fs::copy(image, &partial)?;
            Ok(std::fs::rename(partial, directory.join("vmlinuz"))?)
        });
        std::fs::remove_dir_all(&scratch)?;
        kept
    }
}

fn unpack(scratch: &Path) -> Result<PathBuf> {
    let packages = std::fs::read_dir(scratch)?
        .flatten()
        .map(|entry| entry.path());
    let package = packages
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.context("apt-get download left no package")?;
    let tree = scratch.join("tree");
    command::capture(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree))?;
    let mut found = Vec::new();
    find_images(&tree, &mut found)?;
    found
        .pop()
        .with_context(|| format!("{} holds no kernel image", package.display()))
}

fn find_images(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_images(&entry.path(), found)?;
        } else if entry.file_name().to_string_lossy().starts_with("vmlinuz")
            && entry.file_type()?.is_file()
        {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn keyring() -> Result<&'static str> {
    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if !Path::new(KEYRING).is_file() {
        Manager::Apt.install(
            "Debian's archive is verified with its keys",
            &["debian-archive-keyring"],
        )?;
    }
    Ok(KEYRING)
}

fn options(root: &Path) -> Vec<String> {
    let path = |relative: &str| root.join(relative).display().to_string();
    let settings = [
        format!("Dir::Etc::sourcelist={}", path("sources.list")),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State={}", path("state")),
        format!("Dir::State::lists={}", path("lists")),
        format!("Dir::State::status={}", path("state/status")),
        format!("Dir::Cache={}", path("cache")),
        "APT::Architecture=amd64".to_owned(),
        "APT::Architectures=amd64".to_owned(),
        "Acquire::Languages=none".to_owned(),
        // Other indexes (translations, component metadata) are as large and of no use here.
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "Acquire::IndexTargets::deb::CNF::DefaultEnabled=false".to_owned(),
        "APT::Sandbox::User=".to_owned(),
    ];
    settings
        .into_iter()
        .flat_map(|setting| ["-o".to_owned(), setting])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-5.10.0-9-cloud-amd64\nlinux-image-5.10.0-46-cloud-amd64-unsigned\n\
        linux-image-5.10.0-46-cloud-amd64\nlinux-image-5.10-cloud-amd64\nlinux-image-cloud-amd64\n\
        linux-headers-5.10.0-46-cloud-amd64\nlinux-image-7.2.13+deb14-cloud-amd64\n\
        linux-binary-7.2.13+deb14-cloud-amd64\nlinux-binary-unsigned-7.2.13+deb14-cloud-amd64\n";

    fn names(line: &str) -> Vec<String> {
        candidates(NAMES, parse(line).unwrap())
            .into_iter()
            .map(|package| package.name)
            .collect()
    }

    #[test]
    fn newest_signed_release_of_a_line_comes_first() {
        assert_eq!(
            names("5.10"),
            [
                "linux-image-5.10.0-46-cloud-amd64",
                "linux-image-5.10.0-46-cloud-amd64-unsigned",
                "linux-image-5.10.0-9-cloud-amd64"
            ]
        );
    }

    #[test]
    fn split_packages_are_asked_for_the_image_first() {
        assert_eq!(names("newest")[0], "linux-binary-7.2.13+deb14-cloud-amd64");
        assert_eq!(names("newest").len(), 6);
    }

    #[test]
    fn releases_are_cut_out_of_names() {
        let release = |name| package(name).map(|package| package.release);
        assert_eq!(
            release("linux-binary-unsigned-7.2.13+deb14-cloud-amd64").as_deref(),
            Some("7.2.13+deb14")
        );
        assert_eq!(release("linux-image-6.1-cloud-amd64"), None);
        assert_eq!(release("linux-image-6.1.0-50-amd64"), None);
    }
}
