//! The package manager this machine has, and nothing else, for what the build and the tests lack.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use crate::command;

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Apt,
    Dnf,
    Zypper,
    Pacman,
    Apk,
}

impl Manager {
    const ALL: [Self; 5] = [Self::Apt, Self::Dnf, Self::Zypper, Self::Pacman, Self::Apk];

    /// The one that is installed.
    pub(crate) fn detect() -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|manager| command::on_path(manager.program()).is_some())
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Zypper => "zypper",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
        }
    }

    const fn install_words(self) -> &'static [&'static str] {
        match self {
            Self::Apt => &["install", "-y", "--no-install-recommends"],
            Self::Dnf => &["install", "-y", "--setopt=install_weak_deps=False"],
            Self::Zypper => &["--non-interactive", "install", "--no-recommends"],
            Self::Pacman => &["-S", "--noconfirm", "--needed"],
            Self::Apk => &["add"],
        }
    }

    /// The command that installs packages, as a person would type it.
    pub(crate) fn install_line(self, packages: &[&str]) -> String {
        format!(
            "{} {} {}",
            self.program(),
            self.install_words().join(" "),
            packages.join(" ")
        )
    }

    /// Installs packages, after saying why and which.
    pub(crate) fn install(self, why: &str, packages: &[&str]) -> Result<()> {
        println!("{why}: installing {}", packages.join(", "));
        self.refresh()?;
        let mut install = command::privileged(self.program())?;
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(self.install_words()).args(packages);
        command::run(&mut install)
            .with_context(|| format!("{why}; by hand: sudo {}", self.install_line(packages)))
    }

    /// Refreshes the package lists, once: on a fresh machine there may be none.
    fn refresh(self) -> Result<()> {
        static DONE: AtomicBool = AtomicBool::new(false);
        if self != Self::Apt || DONE.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut update = command::privileged(self.program())?;
        update.args(["update", "-qq"]);
        // Stale third-party lists must not stop the installation of what the main archive has.
        if let Err(error) = command::run(&mut update) {
            println!(
                "  the package lists could not all be refreshed ({error:#}); going on with what is there"
            );
        }
        Ok(())
    }

    /// The version the manager would install, where that can be asked without privileges.
    pub(crate) fn candidate(self, package: &str) -> Option<String> {
        if self != Self::Apt {
            return None;
        }
        let ask = || {
            let policy = Command::new("apt-cache")
                .args(["policy", package])
                .output()
                .ok()?;
            apt_candidate(&String::from_utf8_lossy(&policy.stdout))
        };
        ask().or_else(|| {
            self.refresh().ok()?;
            ask()
        })
    }

    /// Whether a package is known to be installed; `false` also where that cannot be asked.
    pub(crate) fn has(self, package: &str) -> bool {
        let mut query = Command::new("dpkg-query");
        query.args(["-W", "-f=${db:Status-Abbrev}", package]);
        self == Self::Apt
            && command::capture(&mut query).is_ok_and(|status| status.starts_with("ii"))
    }

    /// What a package that provides `purpose` is called here.
    pub(crate) fn name_of(self, purpose: Purpose) -> Option<&'static str> {
        Some(match (purpose, self) {
            (Purpose::Qemu, Self::Dnf) => "qemu-system-x86-core",
            (Purpose::Qemu, Self::Apt | Self::Zypper | Self::Pacman) => "qemu-system-x86",
            (Purpose::Qemu, Self::Apk) => "qemu-system-x86_64",
            (Purpose::Compiler, Self::Apt | Self::Dnf | Self::Zypper | Self::Pacman) => "gcc",
            (Purpose::Compiler, Self::Apk) => "build-base",
            (Purpose::Venv, Self::Apt) => "python3-venv",
            (Purpose::Venv, _) => return None,
        })
    }
}

/// What a package is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An emulator for guest kernels.
    Qemu,
    /// A C compiler and linker, for crates with C parts.
    Compiler,
    /// Python's virtual environments.
    Venv,
}

/// Installs the package for a purpose unless `program` is there already.
pub(crate) fn ensure_program(program: &str, purpose: Purpose) -> Result<()> {
    if command::on_path(program).is_some() {
        return Ok(());
    }
    let manager = Manager::detect().with_context(|| {
        format!("`{program}` is missing, and there is no known package manager")
    })?;
    let Some(package) = manager.name_of(purpose) else {
        bail!(
            "`{program}` is missing, and its package name for {} is not known",
            manager.program()
        );
    };
    manager.install(&format!("`{program}` is missing"), &[package])
}

fn apt_candidate(policy: &str) -> Option<String> {
    let line = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))?;
    let version = line.trim();
    (version != "(none)" && !version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_from_the_policy() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(
            apt_candidate(policy).as_deref(),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        assert_eq!(apt_candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(apt_candidate(""), None);
    }

    #[test]
    fn install_lines_can_be_typed() {
        assert_eq!(
            Manager::Apt.install_line(&["a", "b"]),
            "apt-get install -y --no-install-recommends a b"
        );
        assert_eq!(Manager::Apk.install_line(&["a"]), "apk add a");
    }
}
