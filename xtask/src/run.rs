//! `cargo xtask run`: builds, mounts what is needed, and starts the agent.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{build, command, mounts};

/// Where a collector listens by default.
const COLLECTOR: ([u8; 4], u16) = ([127, 0, 0, 1], 4317);

/// Builds the agent and becomes it; returns only if that fails.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let agent = build::build(workspace)?;
    mounts::ensure()?;
    let mut agent = command::privileged(agent)?;
    agent
        .arg("run")
        .args(export_arguments(arguments, collector_listens()))
        .args(arguments);
    println!("\n$ {}", command::shown(&agent));
    // The agent takes this process's place, so that signals and exit status are its own.
    Err(agent.exec()).with_context(|| format!("starting {}", command::shown(&agent)))
}

/// Without a collector a push would only fail again and again, so the table stands alone.
fn export_arguments(arguments: &[String], collector: bool) -> Vec<&'static str> {
    let decided = |argument: &String| {
        argument == "--export"
            || argument.starts_with("--export=")
            || argument == "-c"
            || argument.starts_with("--config")
    };
    if collector {
        println!("a collector listens at localhost:4317: pushing OTLP there");
        return Vec::new();
    }
    if arguments.iter().any(decided)
        || std::env::vars_os().any(|(name, _)| names_an_endpoint(&name.to_string_lossy()))
    {
        return Vec::new();
    }
    println!("nothing listens at localhost:4317: running without a push, with the table only");
    vec!["--export", "console"]
}

fn names_an_endpoint(variable: &str) -> bool {
    variable.starts_with("OTEL_EXPORTER_OTLP_") || variable.starts_with("KERNTALLY_EXPORT_")
}

fn collector_listens() -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(COLLECTOR), Duration::from_millis(300)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_push_is_left_out_only_when_nobody_asked_for_one() {
        assert_eq!(export_arguments(&[], false), ["--export", "console"]);
        assert!(export_arguments(&[], true).is_empty());
        assert!(export_arguments(&["--export=otlp".to_owned()], false).is_empty());
        assert!(export_arguments(&["-c".to_owned(), "f.yaml".to_owned()], false).is_empty());
    }
}
