//! What is left of a run: a table for the terminal, JSON and plots in a directory, and a section of a document.

mod document;
mod machine;
mod plot;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::suites::Found;

pub(crate) use document::sections;
pub(crate) use machine::Machine;
pub(crate) use table::table;

/// Everything that a run found, by suite.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) schema: &'static str,
    pub(crate) machine: Machine,
    pub(crate) suites: BTreeMap<&'static str, Found>,
}

impl Results {
    /// Writes a JSON file and the plots of each suite.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        for (name, found) in &self.suites {
            let alone = Self {
                schema: self.schema,
                machine: self.machine.clone(),
                suites: BTreeMap::from([(*name, found.clone())]),
            };
            alone.write_json(&directory.join(format!("{name}.json")))?;
            for (plot, text) in plot::plots(name, found) {
                let file = directory.join(plot);
                std::fs::write(&file, text)
                    .with_context(|| format!("writing {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Writes everything as one JSON file.
    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }
}

/// A value with as many digits as it deserves.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}
