//! `cargo xtask docs`: pages that follow from declarations in the code.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::linker::cargo;
use crate::workspace::Workspace;

const METRICS: &str = "docs/metrics.md";

/// Writes them.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let mut print = Command::new(cargo());
    print.current_dir(workspace.root()).args([
        "run",
        "--quiet",
        "--package",
        "kerntally-export",
        "--example",
        "metrics_page",
    ]);
    let page = command::capture(&mut print)?;
    std::fs::write(workspace.path(METRICS), page).with_context(|| format!("writing {METRICS}"))?;
    println!("wrote {METRICS}");
    Ok(())
}
