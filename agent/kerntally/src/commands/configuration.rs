//! `kerntally config`: whether a configuration can be used, what it comes to, and what there is to say.

use std::path::PathBuf;

use serde_json::json;

use super::running;
use crate::cli::{ConfigCommand, Global};
use crate::config::{self, Config, Sources};
use crate::control::Request;
use crate::failure::Failure;
use crate::output::{Format, note, print, print_json};

/// Runs the command.
pub(crate) fn run(global: &Global, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Validate { file } => validate(global, file.clone()),
        ConfigCommand::Print {
            effective,
            settings,
        } => {
            let mut sources = config::sources(global, &settings.set);
            if !effective {
                sources = only_file(sources);
            }
            print_config(global, &sources)
        }
        ConfigCommand::Reload => reload(global),
        ConfigCommand::Schema => {
            let schema = schemars::schema_for!(Config);
            print(&serde_json::to_string_pretty(&schema).map_err(anyhow::Error::from)?)
        }
    }
}

/// What is wrong with the configuration is a matter of usage, as it is at the start.
fn reload(global: &Global) -> Result<(), Failure> {
    running::ask_and_show(global, &Request::Reload {}, |document| {
        let mut lines = vec![match document["file"].as_str() {
            Some(file) => format!("{file}: in force"),
            None => "the defaults: in force".to_owned(),
        }];
        let notes = document["warnings"].as_array().into_iter().flatten();
        lines.extend(notes.map(|warning| format!("warning: {}", running::text(warning))));
        lines.join("\n")
    })
}

/// The file alone: what variables say here need not hold where it will be used.
fn validate(global: &Global, file: Option<PathBuf>) -> Result<(), Failure> {
    let mut sources = only_file(config::sources(global, &[]));
    sources.file = file.or(sources.file);
    let loaded = config::load(&sources)?;
    for warning in &loaded.warnings {
        note(&format!("warning: {warning}"));
    }
    let shown = loaded.file.as_ref().map_or_else(
        || format!("{} does not exist: the defaults", config::DEFAULT_PATH),
        |path| path.display().to_string(),
    );
    match global.output {
        Format::Text => print(&format!("{shown}: valid")),
        Format::Json => {
            print_json(&json!({ "valid": true, "file": loaded.file, "warnings": loaded.warnings }))
        }
    }
}

fn only_file(sources: Sources) -> Sources {
    Sources {
        variables: Vec::new(),
        settings: Vec::new(),
        with_switches: false,
        ..sources
    }
}

fn print_config(global: &Global, sources: &Sources) -> Result<(), Failure> {
    let loaded = config::load(sources)?;
    for warning in &loaded.warnings {
        note(&format!("warning: {warning}"));
    }
    let value = loaded
        .config
        .to_public_json()
        .map_err(anyhow::Error::from)?;
    match global.output {
        Format::Json => print_json(&value),
        Format::Text => print(&serde_saphyr::to_string(&value).map_err(anyhow::Error::from)?),
    }
}
