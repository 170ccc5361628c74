//! Finds a Rust compiler that can build for the BPF target: one with the library source beside it, of
//! which some LLVM release fits a `bpf-linker` that can be had.
//!
//! Looked at in this order: what `KERNTALLY_BPF_RUSTC` names, rustup's toolchains, the distribution's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::linker;
use crate::packages::Manager;
use crate::workspace::Workspace;

/// Names a compiler to use for the BPF programs.
const RUSTC_VARIABLE: &str = "KERNTALLY_BPF_RUSTC";
/// Names the cargo that belongs to it, if it does not lie beside it.
const CARGO_VARIABLE: &str = "KERNTALLY_BPF_CARGO";

/// A compiler that can build the BPF programs.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    /// Where it came from, for people.
    pub(crate) origin: String,
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    /// Major release of its LLVM.
    pub(crate) llvm: u32,
    /// Library source, when it lies where cargo does not look by itself.
    pub(crate) library: Option<PathBuf>,
}

/// Finds a compiler, installing its library source or the distribution's compiler where none is usable.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Compiler> {
    if let Some(compiler) = explicit()? {
        return Ok(compiler);
    }
    let mut refused = Vec::new();
    for place in places() {
        match inspect(&place).and_then(|compiler| with_linker(workspace, compiler)) {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => refused.push((place, reason)),
        }
    }
    if let Some(compiler) = add_library_source(workspace, &refused) {
        return Ok(compiler);
    }
    install_distribution_compiler(workspace).with_context(|| {
        let tried = refused.iter().map(|(place, reason)| format!("{}: {reason:#}", place.origin));
        let tried = tried.collect::<Vec<_>>().join("; ");
        format!(
            "no Rust compiler with library source and a fitting LLVM (tried {tried}); install one with \
             `rustup component add rust-src`, or name one in {RUSTC_VARIABLE}"
        )
    })
}

/// A compiler that may or may not do.
#[derive(Clone, Debug)]
struct Place {
    origin: String,
    rustc: PathBuf,
    cargo: PathBuf,
    /// Name of the rustup toolchain, if it is one.
    rustup: Option<String>,
}

fn explicit() -> Result<Option<Compiler>> {
    let Some(rustc) = std::env::var_os(RUSTC_VARIABLE).map(PathBuf::from) else {
        return Ok(None);
    };
    let cargo = std::env::var_os(CARGO_VARIABLE)
        .map_or_else(|| rustc.with_file_name("cargo"), PathBuf::from);
    let place = Place {
        origin: RUSTC_VARIABLE.to_owned(),
        rustc,
        cargo,
        rustup: None,
    };
    inspect(&place)
        .map(Some)
        .with_context(|| format!("{RUSTC_VARIABLE}={}", place.rustc.display()))
}

fn places() -> Vec<Place> {
    let mut places = rustup_places();
    places.extend(distribution_places());
    places
}

fn rustup_places() -> Vec<Place> {
    let Ok(list) = command::capture(Command::new("rustup").args(["toolchain", "list"])) else {
        return Vec::new();
    };
    rustup_names(&list)
        .into_iter()
        .filter_map(|name| rustup_place(&name))
        .collect()
}

fn rustup_place(name: &str) -> Option<Place> {
    let which = |program: &str| {
        let path =
            command::capture(Command::new("rustup").args(["which", "--toolchain", name, program]));
        path.ok().map(|path| PathBuf::from(path.trim()))
    };
    Some(Place {
        origin: format!("rustup toolchain {name}"),
        rustc: which("rustc")?,
        cargo: which("cargo")?,
        rustup: Some(name.to_owned()),
    })
}

/// Names in the order of preference: nightly compilers first, as their `-Z` flags are meant to be used.
fn rustup_names(list: &str) -> Vec<String> {
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<String> = names
        .filter(|name| *name != "no")
        .map(str::to_owned)
        .collect();
    names.sort_by_key(|name| !name.starts_with("nightly"));
    names
}

fn distribution_places() -> Vec<Place> {
    let files = std::fs::read_dir("/usr/bin")
        .into_iter()
        .flatten()
        .flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut suffixes: Vec<String> = names
        .filter_map(|name| name.strip_prefix("rustc").map(str::to_owned))
        .filter(|suffix| suffix.is_empty() || suffix.starts_with("-1."))
        .collect();
    suffixes.sort();
    let place = |suffix: String| Place {
        origin: format!("/usr/bin/rustc{suffix}"),
        rustc: format!("/usr/bin/rustc{suffix}").into(),
        cargo: format!("/usr/bin/cargo{suffix}").into(),
        rustup: None,
    };
    suffixes
        .into_iter()
        .map(place)
        .filter(|place| place.cargo.is_file())
        .collect()
}

fn inspect(place: &Place) -> Result<Compiler> {
    let facts = facts(&place.rustc)?;
    let library = library_source(&facts).context("has no library source")?;
    Ok(Compiler {
        origin: place.origin.clone(),
        rustc: place.rustc.clone(),
        cargo: place.cargo.clone(),
        llvm: facts.llvm,
        library: (library != facts.sysroot.join(IN_SYSROOT)).then_some(library),
    })
}

const IN_SYSROOT: &str = "lib/rustlib/src/rust/library";

/// What a compiler says about itself.
#[derive(Debug)]
struct Facts {
    release: String,
    llvm: u32,
    sysroot: PathBuf,
}

fn facts(rustc: &Path) -> Result<Facts> {
    let text = command::capture(Command::new(rustc).arg("-vV"))?;
    let (release, llvm) = parse_version(&text)
        .with_context(|| format!("{} -vV is not understood", rustc.display()))?;
    if minor(&release) < minor(env!("CARGO_PKG_RUST_VERSION")) {
        bail!(
            "is {release}, and {} is the oldest that will do",
            env!("CARGO_PKG_RUST_VERSION")
        );
    }
    let sysroot = command::capture(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(Facts {
        release,
        llvm,
        sysroot: PathBuf::from(sysroot.trim()),
    })
}

fn library_source(facts: &Facts) -> Option<PathBuf> {
    let packaged = format!("/usr/src/rustc-{}/library", facts.release);
    let places = [facts.sysroot.join(IN_SYSROOT), PathBuf::from(packaged)];
    places
        .into_iter()
        .find(|library| library.join("core/Cargo.toml").is_file())
}

fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((field("release:")?.to_owned(), llvm))
}

/// `1.97.0-nightly` as (1, 97).
pub(crate) fn minor(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|sign: char| !sign.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn with_linker(workspace: &Workspace, compiler: Compiler) -> Result<Compiler> {
    if !linker::obtainable(workspace, compiler.llvm) {
        bail!(
            "is of LLVM {0}, for which there is neither a bpf-linker nor a package llvm-{0}-dev",
            compiler.llvm
        );
    }
    Ok(compiler)
}

fn add_library_source(
    workspace: &Workspace,
    refused: &[(Place, anyhow::Error)],
) -> Option<Compiler> {
    for (place, _) in refused {
        let Some(name) = place.rustup.as_deref() else {
            continue;
        };
        let Ok(facts) = facts(&place.rustc) else {
            continue;
        };
        if library_source(&facts).is_some() || !linker::obtainable(workspace, facts.llvm) {
            continue;
        }
        println!(
            "the BPF programs need the library source of a compiler: adding rust-src to rustup's {name}"
        );
        let mut add = Command::new("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", name]);
        match command::run(&mut add).and_then(|()| inspect(place)) {
            Ok(compiler) => return Some(compiler),
            Err(error) => println!("  rustup cannot ({error:#}); looking further"),
        }
    }
    None
}

fn install_distribution_compiler(workspace: &Workspace) -> Result<Compiler> {
    let manager = Manager::detect().context("no known package manager")?;
    let packages =
        distribution_packages(manager).context("the distribution has no recent enough compiler")?;
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    manager.install(
        "the BPF programs need a Rust compiler with its library source",
        &names,
    )?;
    let compilers = distribution_places()
        .into_iter()
        .map(|place| inspect(&place));
    let usable =
        compilers.map(|compiler| compiler.and_then(|compiler| with_linker(workspace, compiler)));
    usable
        .reduce(Result::or)
        .context("the installed compiler is not in /usr/bin")?
}

fn distribution_packages(manager: Manager) -> Option<Vec<String>> {
    let named = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    match manager {
        Manager::Apt => {
            let web = ["rustc-web", "cargo-web", "rust-web-src"];
            let plain = ["rustc", "cargo", "rust-src"];
            let fixed = [web, plain].map(named);
            fixed
                .into_iter()
                .chain(versioned_packages())
                .find(|set| recent_enough(manager, &set[0]))
        }
        Manager::Dnf | Manager::Apk => Some(named(["rust", "cargo", "rust-src"])),
        Manager::Pacman => Some(vec!["rust".to_owned(), "rust-src".to_owned()]),
        Manager::Zypper => None,
    }
}

/// Ubuntu packages several releases side by side: `rustc-1.95`, `cargo-1.95`, `rust-1.95-src`.
fn versioned_packages() -> Vec<Vec<String>> {
    let names = command::capture(Command::new("apt-cache").args(["pkgnames", "rustc-1."]))
        .unwrap_or_default();
    let mut releases: Vec<&str> = names
        .lines()
        .filter_map(|name| name.strip_prefix("rustc-"))
        .collect();
    releases.retain(|release| {
        release
            .chars()
            .all(|sign| sign.is_ascii_digit() || sign == '.')
    });
    releases.sort_by_key(|release| std::cmp::Reverse(minor(release)));
    let set = |release: &str| {
        vec![
            format!("rustc-{release}"),
            format!("cargo-{release}"),
            format!("rust-{release}-src"),
        ]
    };
    releases.into_iter().map(set).collect()
}

fn recent_enough(manager: Manager, package: &str) -> bool {
    let candidate = manager.candidate(package);
    candidate.is_some_and(|version| minor(&version) >= minor(env!("CARGO_PKG_RUST_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_and_llvm_are_read_from_the_verbose_version() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(text), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_version("rustc 1.96.0"), None);
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(minor("1.97.0-nightly") > minor("1.95"));
        assert!(minor("1.100.0") > minor("1.99.1"));
        assert_eq!(minor("1.96.0+dfsg1-1~deb12u2"), (1, 96));
    }

    #[test]
    fn nightly_toolchains_come_first() {
        let list =
            "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-x86_64-unknown-linux-gnu\n";
        assert_eq!(
            rustup_names(list),
            [
                "nightly-x86_64-unknown-linux-gnu",
                "stable-x86_64-unknown-linux-gnu"
            ]
        );
        assert!(rustup_names("no installed toolchains\n").is_empty());
    }
}
