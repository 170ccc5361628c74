//! The agent's own log lines, on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::cli::Global;
use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging; options of the command line beat the configuration.
pub(crate) fn start(log: &Log, global: &Global) {
    let level = level_name(log.level, global);
    // Libraries are only heard when they have something serious to say.
    let directives = match level {
        "off" | "error" => level.to_owned(),
        _ => format!("warn,kerntally={level},kerntally_export={level},kerntally_probes={level}"),
    };
    let builder = fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(global.color.on(&std::io::stderr()))
        .with_target(false);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = started {
        crate::output::note(&format!("kerntally: cannot log: {error}"));
    }
}

fn level_name(level: LogLevel, global: &Global) -> &'static str {
    match (global.quiet, global.verbose) {
        (true, _) => return "error",
        (false, 0) => {}
        (false, 1) => return "info",
        (false, 2) => return "debug",
        (false, _) => return "trace",
    }
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
        LogLevel::Off => "off",
    }
}
