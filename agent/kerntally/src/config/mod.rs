//! The configuration: schema, layers, checks, and what the stages are told of it.

mod attributes;
mod check;
mod emission;
mod load;
mod node;
mod scalar;
mod schema;
mod stages;
mod standard;
#[cfg(test)]
mod tests;
mod variables;

pub(crate) use load::{ConfigError, DEFAULT_PATH, Loaded, Setting, Sources, UnknownKeys, load};
pub(crate) use node::{Node, Origin, Step, dotted};
pub(crate) use scalar::Span;
pub(crate) use schema::*;
pub(crate) use stages::probe_options;

use crate::cli::Global;

/// What a configuration is made of, for a command.
pub(crate) fn sources(global: &Global, settings: &[Setting]) -> Sources {
    let mut settings = settings.to_vec();
    if let Some(socket) = &global.socket {
        settings.push(Setting {
            key: "control.socket".to_owned(),
            value: serde_json::Value::from(socket.to_string_lossy().into_owned()).to_string(),
            flag: "--socket".to_owned(),
        });
    }
    Sources {
        file: global.config.clone(),
        unknown_keys: global.unknown_keys,
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        settings,
        with_switches: true,
    }
}
