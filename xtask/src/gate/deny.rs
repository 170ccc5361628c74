//! Licences, sources and bans of all dependencies, by cargo-deny.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Report;
use crate::command;
use crate::linker::cargo;
use crate::workspace::Workspace;

/// The release that is built where none is found.
const VERSION: &str = "0.20.2";

/// Checks what needs no network, and advisories where their database can be had.
pub(crate) fn run(workspace: &Workspace, report: &mut Report) {
    let mut program = None;
    let held = report.check("dependencies: bans, licences, sources", || {
        let deny = ensure(workspace)?;
        let result = command::run(&mut check(
            workspace,
            &deny,
            &["bans", "licenses", "sources"],
        ));
        program = Some(deny);
        result
    });
    let Some(deny) = program.filter(|_| held) else {
        return;
    };
    match fetch(workspace, &deny) {
        Ok(()) => {
            report.check("dependencies: advisories", || {
                command::run(&mut check(workspace, &deny, &["advisories"]))
            });
        }
        Err(error) => {
            let reason = format!("{error:#}");
            let reason = reason
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or_default();
            report.skip(format!(
                "dependencies: advisories: the database cannot be fetched ({reason})"
            ));
        }
    }
}

fn check(workspace: &Workspace, deny: &PathBuf, what: &[&str]) -> Command {
    let mut command = Command::new(deny);
    command
        .current_dir(workspace.root())
        .args(["--all-features", "check", "--hide-inclusion-graph"])
        .args(what);
    command
}

fn fetch(workspace: &Workspace, deny: &PathBuf) -> Result<()> {
    let mut fetch = Command::new("timeout");
    fetch
        .current_dir(workspace.root())
        .arg("60")
        .arg(deny)
        .args(["fetch", "db"]);
    command::capture(&mut fetch).map(drop)
}

fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(deny) = command::on_path("cargo-deny") {
        return Ok(deny);
    }
    let root = workspace.cache(&format!("tools/cargo-deny-{VERSION}"));
    let deny = root.join("bin/cargo-deny");
    if !deny.is_file() {
        println!("building cargo-deny {VERSION} into {}", root.display());
        let mut install = Command::new(cargo());
        // Not optimised: it runs for seconds, and building it is what takes time.
        install
            .args([
                "install",
                "cargo-deny",
                "--version",
                VERSION,
                "--locked",
                "--debug",
                "--root",
            ])
            .arg(&root);
        command::run(&mut install)?;
    }
    Ok(deny)
}
