//! The deployment files: the Kubernetes base built and held against the API's schemas, the unit by systemd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Report;
use crate::command;
use crate::packages::{Purpose, ensure_program};
use crate::workspace::Workspace;

/// The base that users apply.
const BASE: &str = "deploy/kubernetes/base";
const UNIT: &str = "deploy/systemd/kerntally.service";
/// API version the manifests are held against.
const KUBERNETES: &str = "1.32";

/// Checks each manifest with what this machine has for it.
pub(crate) fn run(workspace: &Workspace, report: &mut Report) {
    if workspace.agent().is_file() {
        report.check("manifests: configuration", || {
            validate_configuration(workspace)
        });
    }
    match kustomize() {
        Some(build) => {
            report.check("manifests: kustomize", || {
                render(workspace, build).map(drop)
            });
        }
        None => report.skip("manifests: kustomize: neither kubectl nor kustomize is on PATH"),
    }
    match validator(workspace) {
        Ok(validator) => {
            report.check("manifests: Kubernetes schemas", || {
                validate(workspace, &validator)
            });
        }
        Err(error) => report.skip(format!("manifests: Kubernetes schemas: {error:#}")),
    }
    if command::on_path("systemd-analyze").is_some() {
        report.check("manifests: systemd unit", || verify_unit(workspace));
    } else {
        report.skip("manifests: systemd unit: systemd-analyze is not on PATH");
    }
}

fn kustomize() -> Option<&'static [&'static str]> {
    let known: [&[&str]; 2] = [&["kustomize", "build"], &["kubectl", "kustomize"]];
    known
        .into_iter()
        .find(|words| command::on_path(words[0]).is_some())
}

/// The agent itself reads the configuration it is deployed with.
fn validate_configuration(workspace: &Workspace) -> Result<()> {
    let mut validate = Command::new(workspace.agent());
    validate
        .args(["config", "validate"])
        .arg(workspace.path(BASE).join("config.yaml"));
    command::run(&mut validate)
}

/// What the base comes to, as one stream of documents.
fn render(workspace: &Workspace, build: &[&str]) -> Result<String> {
    let mut render = Command::new(build[0]);
    render.args(&build[1..]).arg(workspace.path(BASE));
    let text = command::capture(&mut render)?;
    for wanted in [
        "kind: DaemonSet",
        "kind: Namespace",
        "kind: ServiceAccount",
        "kind: ConfigMap",
    ] {
        if !text.contains(wanted) {
            bail!("the base has no `{wanted}`");
        }
    }
    Ok(text)
}

/// `kubernetes-validate` in a virtual environment of its own.
fn validator(workspace: &Workspace) -> Result<PathBuf> {
    ensure_program("python3", Purpose::Venv)?;
    let environment = workspace.cache("tools/kubernetes-validate");
    let program = environment.join("bin/kubernetes-validate");
    if !program.is_file() {
        install_validator(&environment).context("kubernetes-validate cannot be installed")?;
    }
    Ok(program)
}

fn install_validator(environment: &Path) -> Result<()> {
    let create = || {
        command::capture(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(environment),
        )
    };
    if create().is_err() {
        // Debian packages venv apart from Python.
        crate::packages::Manager::detect()
            .and_then(|manager| Some((manager, manager.name_of(Purpose::Venv)?)))
            .context("python3 has no venv")
            .and_then(|(manager, package)| manager.install("python3 has no venv", &[package]))?;
        create()?;
    }
    let mut install = Command::new(environment.join("bin/pip"));
    command::capture(install.args(["install", "--quiet", "kubernetes-validate"])).map(drop)
}

fn validate(workspace: &Workspace, validator: &Path) -> Result<()> {
    let mut files = Vec::new();
    match kustomize() {
        Some(build) => {
            let rendered = workspace.target("manifests.yaml");
            std::fs::write(&rendered, render(workspace, build)?)?;
            files.push(rendered);
        }
        None => files.extend(plain_manifests(&workspace.path(BASE))?),
    }
    let mut validate = Command::new(validator);
    validate.args(["--strict", "-k", KUBERNETES]).args(files);
    command::run(&mut validate)
}

fn plain_manifests(base: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(base).with_context(|| format!("listing {}", base.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let names = ["namespace.yaml", "serviceaccount.yaml", "daemonset.yaml"];
    files.retain(|file| names.iter().any(|name| file.ends_with(name)));
    files.sort();
    Ok(files)
}

/// The unit as it stands names a binary that is not installed here, so a copy names one that is.
fn verify_unit(workspace: &Workspace) -> Result<()> {
    let unit = workspace.path(UNIT);
    let text =
        std::fs::read_to_string(&unit).with_context(|| format!("reading {}", unit.display()))?;
    let directory = workspace.target("systemd");
    std::fs::create_dir_all(&directory)?;
    let copy = directory.join("kerntally.service");
    std::fs::write(&copy, text.replace("/usr/local/bin/kerntally", "/bin/true"))?;
    let mut verify = Command::new("systemd-analyze");
    let output = verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&copy)
        .output()?;
    // systemd-analyze reports unknown keys as warnings, with status 0.
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = complaints
        .lines()
        .filter(|line| line.contains("kerntally.service"))
        .collect();
    if !output.status.success() || !ours.is_empty() {
        bail!("systemd-analyze verify: {}", complaints.trim());
    }
    Ok(())
}
