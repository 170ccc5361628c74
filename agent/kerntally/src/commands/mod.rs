//! The commands that are not `run`: each asks the running agent, or answers by itself.

pub(crate) mod check;
pub(crate) mod configuration;
pub(crate) mod cost;
pub(crate) mod lint;
pub(crate) mod listings;
pub(crate) mod live;
mod memory;
pub(crate) mod running;
pub(crate) mod tail;
pub(crate) mod top;
pub(crate) mod views;

use std::path::PathBuf;

use crate::cli::Global;
use crate::config;
use crate::failure::Failure;

/// The control socket: the option, the variable, the configuration, the default.
pub(crate) fn socket(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(socket) = &global.socket {
        return Ok(socket.clone());
    }
    match std::env::var_os("KERNTALLY_CONTROL_SOCKET") {
        Some(socket) if !socket.is_empty() => Ok(socket.into()),
        _ => Ok(config::load(&config::sources(global, &[]))?
            .config
            .control
            .socket),
    }
}
