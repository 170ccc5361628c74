//! Builds the BPF objects, then the agent that carries them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::linker::cargo;
use crate::progress::Step;
use crate::setup::{self, Tools};
use crate::workspace::Workspace;

/// One compilation of the BPF programs.
#[derive(Debug)]
struct Variant {
    /// File name of the object in target/bpf.
    object: &'static str,
    /// What cargo is told beside the ordinary.
    arguments: &'static [&'static str],
    /// For people.
    kernels: &'static str,
}

/// Instructions that a kernel does not know are refused even in dead branches, hence one object with
/// comparing atomics and one without.
const VARIANTS: [Variant; 2] = [
    Variant {
        object: "kerntally.bpf.o",
        arguments: &[],
        kernels: "from 6.1",
    },
    Variant {
        object: "kerntally-5.10.bpf.o",
        arguments: &["--no-default-features"],
        kernels: "before 6.1",
    },
];

/// The third generation of instructions is known to every kernel from 5.1. Unrolled loops would only give
/// the verifier more to walk, in both places where they could be.
const FLAGS: [&str; 6] = [
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Ctarget-cpu=v3",
    "-Cllvm-args=-unroll-threshold=0",
    "-Clink-arg=--llvm-args=-unroll-threshold=0",
];

/// Sets up, builds everything, and returns the agent's path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let tools = setup::ensure(workspace)?;
    objects(workspace, &tools)?;
    agent(workspace)
}

/// Builds the BPF objects into target/bpf.
pub(crate) fn objects(workspace: &Workspace, tools: &Tools) -> Result<()> {
    std::fs::create_dir_all(workspace.target("bpf"))?;
    for variant in &VARIANTS {
        let step = Step::begin(format!("BPF programs for kernels {}", variant.kernels));
        let built = object(workspace, tools, variant)?;
        let kept = workspace.target("bpf").join(variant.object);
        replace(&built, &kept)?;
        let size = std::fs::metadata(&kept)?.len() / 1024;
        step.end(&format!("{} ({size} KiB)", kept.display()));
    }
    Ok(())
}

/// Builds the release agent around the objects in target/bpf.
pub(crate) fn agent(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::begin("the agent, in release");
    let mut build = Command::new(cargo());
    build
        .current_dir(workspace.root())
        .env("KERNTALLY_BPF_DIR", workspace.target("bpf"));
    build.args(["build", "--release", "-p", "kerntally"]);
    command::run(&mut build)?;
    let agent = workspace.agent();
    if !agent.is_file() {
        bail!("cargo succeeded, but {} is not there", agent.display());
    }
    step.end(&agent.display().to_string());
    Ok(agent)
}

fn object(workspace: &Workspace, tools: &Tools, variant: &Variant) -> Result<PathBuf> {
    let mut build = Command::new(&tools.compiler.cargo);
    build.current_dir(workspace.path("ebpf/probes"));
    clear_toolchain_variables(&mut build);
    build
        .env("RUSTC", &tools.compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1");
    build.env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(&tools.linker));
    if let Some(library) = &tools.compiler.library {
        build.env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
    }
    build.args([
        "build",
        "--release",
        "--target",
        "bpfel-unknown-none",
        "-Z",
        "build-std=core",
    ]);
    build.arg("--target-dir").arg(workspace.target("bpf-build"));
    build
        .args(["--message-format", "json-render-diagnostics"])
        .args(variant.arguments);
    println!("  $ {}", command::shown(&build));
    let output = build
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("building the BPF programs ended with {}", output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout))
}

/// The surrounding cargo speaks of the host's toolchain; the BPF build has its own.
fn clear_toolchain_variables(build: &mut Command) {
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
    ] {
        build.env_remove(name);
    }
}

fn encoded_flags(linker: &Path) -> OsString {
    let mut flags = OsString::from(FLAGS.join("\u{1f}"));
    flags.push("\u{1f}-Clinker=");
    flags.push(linker);
    flags
}

/// Builds one program of the workspace and returns its path.
pub(crate) fn program(
    workspace: &Workspace,
    package: &str,
    name: &str,
    arguments: &[&str],
) -> Result<PathBuf> {
    let mut build = Command::new(cargo());
    build.current_dir(workspace.root());
    build.args(["build", "-p", package, "--bin", name]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .args(arguments);
    let messages = command::capture(&mut build).with_context(|| format!("building {name}"))?;
    executable(&messages)
}

/// The one linked program in cargo's messages.
pub(crate) fn executable(messages: &str) -> Result<PathBuf> {
    match executables(messages).as_slice() {
        [one] => Ok(one.clone()),
        many => bail!("expected one linked program, cargo reported {}", many.len()),
    }
}

fn executables(messages: &str) -> Vec<PathBuf> {
    artifacts(messages)
        .filter_map(|value| executable_of(&value))
        .collect()
}

fn artifacts(messages: &str) -> impl Iterator<Item = serde_json::Value> + '_ {
    let values = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    values.filter(|value: &serde_json::Value| value["reason"] == "compiler-artifact")
}

fn executable_of(artifact: &serde_json::Value) -> Option<PathBuf> {
    artifact["executable"].as_str().map(PathBuf::from)
}

/// Test programs that cargo's messages name, without the ordinary programs built beside them.
pub(crate) fn test_programs(messages: &str) -> Vec<PathBuf> {
    let tested = |value: &serde_json::Value| value["profile"]["test"] == true;
    artifacts(messages)
        .filter(tested)
        .filter_map(|value| executable_of(&value))
        .collect()
}

/// Copies only what differs, so that nothing that embeds the object is built again for nothing.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    std::fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/kerntally-probes"}
not json
{"reason":"build-finished","success":true}"#;

    #[test]
    fn the_linked_program_is_read_from_cargos_messages() {
        assert_eq!(
            executable(MESSAGES).unwrap(),
            PathBuf::from("/t/kerntally-probes")
        );
        assert!(executable("").is_err());
        assert!(executable(&format!("{MESSAGES}\n{MESSAGES}")).is_err());
    }

    #[test]
    fn test_programs_are_told_from_ordinary_ones() {
        let messages = r#"{"reason":"compiler-artifact","executable":"/t/tool","profile":{"test":false}}
{"reason":"compiler-artifact","executable":"/t/deps/suite-1","profile":{"test":true}}"#;
        assert_eq!(test_programs(messages), [PathBuf::from("/t/deps/suite-1")]);
    }

    #[test]
    fn flags_are_separated_as_cargo_expects() {
        let flags = encoded_flags(Path::new("/a b/bpf-linker"))
            .into_string()
            .unwrap();
        let words: Vec<&str> = flags.split('\u{1f}').collect();
        assert_eq!(words.len(), FLAGS.len() + 1);
        assert_eq!(words.last(), Some(&"-Clinker=/a b/bpf-linker"));
    }
}
