//! Finds or builds a `bpf-linker` for the LLVM release of the compiler in use.
//!
//! A linker on `PATH` serves if it was linked to that LLVM; else one is built into the user's cache, keyed by
//! its version and LLVM, and nothing of the user's own is touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::packages::{Manager, Purpose, ensure_program};
use crate::toolchain::minor;
use crate::workspace::Workspace;

/// The release that is built where none is found.
const VERSION: &str = "0.13.0";
/// The oldest release accepted on `PATH`.
const OLDEST: &str = "0.10.0";
/// LLVM releases that [`VERSION`] can be built for.
const BUILDABLE: std::ops::RangeInclusive<u32> = 21..=23;
/// Names a linker to use, whatever it was linked to.
const VARIABLE: &str = "KERNTALLY_BPF_LINKER";

/// Whether [`ensure`] can succeed for this LLVM release.
pub(crate) fn obtainable(workspace: &Workspace, llvm: u32) -> bool {
    existing(workspace, llvm).is_some()
        || BUILDABLE.contains(&llvm) && (llvm_prefix(llvm).is_some() || packaged(llvm))
}

/// Finds a linker for this LLVM release, or builds one.
pub(crate) fn ensure(workspace: &Workspace, llvm: u32) -> Result<PathBuf> {
    match existing(workspace, llvm) {
        Some(linker) => Ok(linker),
        None => install(workspace, llvm),
    }
}

fn existing(workspace: &Workspace, llvm: u32) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Some(named.into());
    }
    let on_path = command::on_path("bpf-linker").filter(|linker| fits(linker, llvm));
    on_path.or_else(|| Some(cached(workspace, llvm)).filter(|linker| version(linker).is_some()))
}

fn cached(workspace: &Workspace, llvm: u32) -> PathBuf {
    workspace.cache(&format!(
        "tools/bpf-linker-{VERSION}-llvm{llvm}/bin/bpf-linker"
    ))
}

fn fits(linker: &Path, llvm: u32) -> bool {
    let recent = version(linker).is_some_and(|version| minor(&version) >= minor(OLDEST));
    recent && std::fs::read(linker).is_ok_and(|bytes| linked_llvm(&bytes) == Some(llvm))
}

/// The version the linker prints, which also proves that its libraries are there.
fn version(linker: &Path) -> Option<String> {
    let text = command::capture(Command::new(linker).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// The LLVM release a program was linked to: by the name of the shared library it needs, else by the
/// identification string that LLVM writes into bitcode.
fn linked_llvm(program: &[u8]) -> Option<u32> {
    ["libLLVM.so.", "libLLVM-", "LLVM"]
        .into_iter()
        .find_map(|mark| number_after(program, mark.as_bytes()))
}

fn number_after(bytes: &[u8], mark: &[u8]) -> Option<u32> {
    let numbers = bytes
        .windows(mark.len())
        .enumerate()
        .filter(|(_, window)| *window == mark);
    let mut numbers = numbers
        .map(|(at, _)| &bytes[at + mark.len()..])
        .filter_map(leading_number);
    numbers.find(|number| (15..100).contains(number))
}

fn leading_number(bytes: &[u8]) -> Option<u32> {
    let digits = bytes
        .iter()
        .take(3)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

fn install(workspace: &Workspace, llvm: u32) -> Result<PathBuf> {
    if !BUILDABLE.contains(&llvm) {
        bail!(
            "bpf-linker {VERSION} cannot be built for LLVM {llvm}; name one that fits in {VARIABLE}"
        );
    }
    let prefix = ensure_llvm(llvm)?;
    ensure_program("cc", Purpose::Compiler)?;
    let linker = cached(workspace, llvm);
    let root = linker
        .ancestors()
        .nth(2)
        .context("the cache path has a root")?;
    println!(
        "building bpf-linker {VERSION} for LLVM {llvm} into {} (a minute or two)",
        root.display()
    );
    let mut install = Command::new(cargo());
    install.env("LLVM_PREFIX", prefix);
    install.args([
        "install",
        "bpf-linker",
        "--version",
        VERSION,
        "--no-default-features",
    ]);
    install
        .arg("--features")
        .arg(format!("llvm-{llvm}"))
        .arg("--root")
        .arg(root);
    install.args(["--force", "--locked"]);
    // The linker is called by its full name; cargo need not advise to extend PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(root.join("bin")).chain(std::env::split_paths(&path));
    install.env("PATH", std::env::join_paths(directories)?);
    command::run(&mut install)?;
    version(&linker).with_context(|| format!("{} does not start", linker.display()))?;
    Ok(linker)
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn llvm_prefix(llvm: u32) -> Option<PathBuf> {
    let packaged = format!("/usr/lib/llvm-{llvm}/bin/llvm-config");
    let programs = [
        packaged,
        format!("llvm-config-{llvm}"),
        "llvm-config".to_owned(),
    ];
    programs.into_iter().find_map(|program| {
        let ask = |what: &str| command::capture(Command::new(&program).arg(what)).ok();
        let found = ask("--version").is_some_and(|version| minor(&version).0 == llvm);
        let prefix = found.then(|| ask("--prefix")).flatten()?;
        Some(PathBuf::from(prefix.trim())).filter(|prefix| prefix.join("include/llvm-c").is_dir())
    })
}

fn packaged(llvm: u32) -> bool {
    match Manager::detect() {
        Some(Manager::Apt) => Manager::Apt
            .candidate(&format!("llvm-{llvm}-dev"))
            .is_some(),
        // Elsewhere the release is known only after the installation.
        Some(Manager::Dnf | Manager::Zypper | Manager::Pacman | Manager::Apk) => true,
        None => false,
    }
}

/// Where LLVM's headers and libraries lie, with the packages its static parts need.
fn ensure_llvm(llvm: u32) -> Result<PathBuf> {
    let numbered = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let packages = match Manager::detect() {
        Some(Manager::Apt) => vec![
            numbered[0].as_str(),
            &numbered[1],
            "zlib1g-dev",
            "libzstd-dev",
        ],
        Some(Manager::Dnf | Manager::Zypper) => vec!["llvm-devel"],
        Some(Manager::Pacman) => vec!["llvm"],
        Some(Manager::Apk) => vec!["llvm-dev"],
        None => Vec::new(),
    };
    let found = llvm_prefix(llvm);
    if let Some(manager) = Manager::detect() {
        let missing: Vec<&str> = packages
            .into_iter()
            .filter(|package| !manager.has(package))
            .collect();
        if !missing.is_empty() && (found.is_none() || manager == Manager::Apt) {
            manager.install(
                &format!("bpf-linker is built against LLVM {llvm}"),
                &missing,
            )?;
        }
    }
    llvm_prefix(llvm).with_context(|| format!("LLVM {llvm} with its headers is not installed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_release_is_found_in_the_program() {
        assert_eq!(linked_llvm(b"..libLLVM.so.22.1\0.."), Some(22));
        assert_eq!(linked_llvm(b"..libLLVM-19.so\0.."), Some(19));
        assert_eq!(linked_llvm(b"LLVM ERROR: \0LLVM21.1.8\0"), Some(21));
        assert_eq!(linked_llvm(b"nothing of the kind"), None);
    }

    #[test]
    fn the_shared_library_wins_over_strings() {
        assert_eq!(linked_llvm(b"LLVM18.1\0libLLVM.so.22.1\0"), Some(22));
    }
}
