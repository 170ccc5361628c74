//! Real HTTP clients against one server: each is counted under its own name.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::install;
use kerntally_e2e::mix::{Kind, of_apps};
use kerntally_e2e::rig::{Rig, skip};
use kerntally_e2e::servers;
use kerntally_e2e::truth::{Key, Role, Tally};

const ROUNDS: usize = 8;

#[test]
fn curl() {
    counted("curl", || {
        install::on_path("curl")
            .context("curl is not installed")
            .map(Command::new)
    });
}

#[test]
fn go() {
    counted("fetch-go", || {
        Ok(Command::new(install::go_programs()?.join("fetch-go")))
    });
}

#[test]
fn python_urllib() {
    counted("fetch_urllib", || python("fetch_urllib.py"));
}

#[test]
fn python_requests() {
    counted("fetch_requests", || python("fetch_requests.py"));
}

#[test]
fn node_fetch() {
    counted("fetch_node", || {
        let node = install::on_path("node").context("node is not installed")?;
        Ok(with_script(node, "node/fetch_node.js"))
    });
}

fn python(script: &str) -> Result<Command> {
    let python = install::python_environment()?.join("bin/python");
    Ok(with_script(python, &format!("python/{script}")))
}

fn with_script(interpreter: PathBuf, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(install::apps().join(script));
    command
}

fn counted(service: &str, client: impl Fn() -> Result<Command>) {
    let directory = tempfile::tempdir().unwrap();
    let server = match servers::python(directory.path()) {
        Ok(server) => server,
        Err(error) => return skip(service, &format!("{error:#}")),
    };
    let command = match client() {
        Ok(command) => command,
        Err(error) => return skip(service, &format!("{error:#}")),
    };
    let rig = Rig::start().unwrap();
    let mix = of_apps();
    let begin = Instant::now();
    let base = format!("http://{}", server.address);
    if service == "curl" {
        for _ in 0..ROUNDS {
            for kind in &mix {
                run_curl(&command, kind, &base).unwrap();
            }
        }
    } else {
        run_with_lines(command, &mix, &base).unwrap();
    }
    let took = begin.elapsed();
    let truths = BTreeMap::from([
        (service.to_owned(), truth(&mix, Role::Client, took)),
        (server.service.to_owned(), truth(&mix, Role::Server, took)),
    ]);
    rig.counts_equal(&truths).unwrap();
}

fn truth(mix: &[Kind], role: Role, at_most: Duration) -> Tally {
    let mut tally = Tally::default();
    for kind in mix {
        for _ in 0..ROUNDS {
            let key = Key::answered(role, &kind.method, &kind.route, kind.status);
            tally.add_between(key, kind.sleeps, at_most);
        }
    }
    tally
}

fn run_curl(command: &Command, kind: &Kind, base: &str) -> Result<()> {
    let mut curl = Command::new(command.get_program());
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"]);
    match kind.method.as_str() {
        "HEAD" => curl.arg("--head"),
        "POST" => curl.args(["--data", "an order of some length"]),
        method => curl.args(["-X", method]),
    };
    let output = curl.arg(format!("{base}{}", kind.path)).output()?;
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        status == kind.status.to_string(),
        "curl {}: status {status}",
        kind.path
    );
    Ok(())
}

fn run_with_lines(mut command: Command, mix: &[Kind], base: &str) -> Result<()> {
    let mut lines = String::new();
    for _ in 0..ROUNDS {
        for kind in mix {
            writeln!(lines, "{} {base}{} {}", kind.method, kind.path, kind.status)?;
        }
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("the input is piped")?
        .write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
