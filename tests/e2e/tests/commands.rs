//! The commands against a live agent with known traffic: what they say, in which form, and how they end.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::agent;
use kerntally_e2e::plain::{ask_tcp, serve_tcp};
use kerntally_e2e::rig::{Rig, watch_only};
use serde_json::Value;

const FINE: u64 = 30;
const FAILED: u64 = 5;
const MISSING: u64 = 3;

/// An agent that watches this process alone, as the service `shop`, with a configuration file of its own.
fn start(extra: &str) -> Result<(Rig, String)> {
    let directory = tempfile::tempdir()?.keep();
    let program = std::env::current_exe()?.display().to_string();
    let file = directory.join("config.yaml");
    std::fs::write(
        &file,
        format!("services:\n  - match: {{exe: \"{program}\"}}\n    name: shop\n{extra}"),
    )?;
    let file = file.display().to_string();
    let rig = Rig::start_with(|options| {
        watch_only(options, Path::new(&program));
        options
            .environment
            .push(("KERNTALLY_CONFIG".to_owned(), file.clone()));
    })?;
    Ok((rig, file))
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
}

/// Known traffic, and its server's address.
fn send(rig: &Rig) -> Result<String> {
    let address = serve_tcp()?;
    for number in 0..FINE {
        ensure!(ask_tcp(&address, &get(&format!("/users/{number}")))? == 200);
    }
    for _ in 0..FAILED {
        ensure!(ask_tcp(&address, &get("/fail"))? == 500);
    }
    for _ in 0..MISSING {
        ensure!(ask_tcp(&address, &get("/missing"))? == 404);
    }
    rig.accounts_for(FINE + FAILED + MISSING)?;
    Ok(address)
}

/// Runs a command that must end with this status; its standard output and error.
fn run(rig: &Rig, status: i32, arguments: &[&str]) -> Result<(String, String)> {
    let output = rig.agent.command(arguments)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(
        output.status.code() == Some(status),
        "kerntally {} ended with {}, expected {status}: {out}{err}",
        arguments.join(" "),
        output.status
    );
    Ok((out, err))
}

/// The same in JSON, which names its schema.
fn document(rig: &Rig, arguments: &[&str]) -> Result<Value> {
    let arguments = [arguments, &["-o", "json"]].concat();
    let (out, _) = run(rig, 0, &arguments)?;
    let document: Value = serde_json::from_str(&out)
        .with_context(|| format!("kerntally {}: {out}", arguments.join(" ")))?;
    ensure!(
        document["schema"] == "kerntally/v1",
        "{}: {document}",
        arguments.join(" ")
    );
    Ok(document)
}

fn rows<'a>(document: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    document[key].as_array().into_iter().flatten()
}

#[test]
fn listings_say_what_was_sent() {
    say_what_was_sent().unwrap();
}

fn say_what_was_sent() -> Result<()> {
    let (rig, _) = start("")?;
    send(&rig)?;

    let series = document(&rig, &["series"])?;
    let shop = rows(&series, "services").find(|row| row["name"] == "shop");
    let shop = shop.with_context(|| format!("{series}"))?;
    // Three statuses with a route each, on either side.
    ensure!(shop["live"] == 6 && shop["limit"] == 2000, "{shop}");
    let (text, _) = run(&rig, 0, &["series"])?;
    ensure!(text.contains("shop"), "{text}");

    let routes = document(&rig, &["routes"])?;
    let users = rows(&routes, "routes").find(|row| {
        row["role"] == "server"
            && row["template"]
                .as_str()
                .is_some_and(|template| template.starts_with("/users/{"))
    });
    let users = users.with_context(|| format!("{routes}"))?;
    ensure!(users["exchanges"] == FINE, "{users}");
    let (text, _) = run(&rig, 0, &["routes", "suggest"])?;
    ensure!(text.contains("/users/{"), "{text}");
    document(&rig, &["routes", "suggest"])?;
    who_and_how_much(&rig)
}

fn who_and_how_much(rig: &Rig) -> Result<()> {
    let services = document(rig, &["services", "--all"])?;
    let shop = rows(&services, "services").find(|row| row["name"] == "shop");
    let shop = shop.with_context(|| format!("{services}"))?;
    ensure!(shop["named_by"] == "configuration", "{shop}");
    ensure!(
        shop["server_exchanges"] == FINE + FAILED + MISSING,
        "{shop}"
    );
    ensure!(shop["pids"][0] == std::process::id(), "{shop}");
    ensure!(services["excluded"].is_array(), "{services}");
    let plain = document(rig, &["services"])?;
    ensure!(plain["excluded"].is_null(), "{plain}");
    run(rig, 0, &["services", "--all"])?;

    let top = document(rig, &["top", "--once"])?;
    let server = rows(&top, "traffic").filter(|row| row["role"] == "server");
    let counted: u64 = server.filter_map(|row| row["exchanges"].as_u64()).sum();
    ensure!(counted == FINE + FAILED + MISSING, "{top}");
    let (text, _) = run(rig, 0, &["top", "--once", "-n", "1"])?;
    ensure!(text.contains("shop"), "{text}");

    let cost = document(rig, &["cost"])?;
    ensure!(cost.to_string().contains("bytes"), "{cost}");
    let (text, _) = run(
        rig,
        0,
        &[
            "cost",
            "--nodes",
            "10",
            "--price",
            "8/1000",
            "--what-if",
            "attr=region:5",
        ],
    )?;
    ensure!(!text.is_empty());
    for command in ["status", "ledger"] {
        document(rig, &[command])?;
    }
    document(rig, &["probes", "list"])?;
    Ok(())
}

#[test]
fn processes_are_explained_by_number_and_port() {
    are_explained().unwrap();
}

fn are_explained() -> Result<()> {
    let (rig, _) = start("")?;
    let address = send(&rig)?;
    let port = address.rsplit(':').next().unwrap_or_default();
    let own = std::process::id().to_string();
    for arguments in [["explain", "--pid", &own], ["explain", "--port", port]] {
        let document = document(&rig, &arguments)?;
        let process = &document["processes"][0];
        ensure!(process["pid"] == std::process::id(), "{document}");
        let verdict = &process["verdicts"][0];
        ensure!(
            verdict["watched"] == true && verdict["service"] == "shop",
            "{document}"
        );
        let (text, _) = run(&rig, 0, &arguments)?;
        ensure!(
            text.contains("watched as shop, named by configuration"),
            "{text}"
        );
    }
    // The agent itself is never watched.
    let agent = rig.agent.pid().to_string();
    let (text, _) = run(&rig, 0, &["explain", "--pid", &agent])?;
    ensure!(text.contains("not watched"), "{text}");
    let (_, err) = run(&rig, 1, &["explain", "--pid", "4194305"])?;
    ensure!(err.contains("no process 4194305"), "{err}");
    run(&rig, 2, &["explain"])?;
    let (_, err) = run(&rig, 1, &["explain", "--pod", "shop/kerntally-none-0"])?;
    ensure!(err.contains("var/log/pods"), "{err}");
    Ok(())
}

#[test]
fn a_healthy_agent_passes_and_broken_points_do_not() {
    is_judged().unwrap();
}

fn is_judged() -> Result<()> {
    let (rig, _) = start("")?;
    send(&rig)?;
    let lint = document(&rig, &["lint"])?;
    ensure!(lint["violations"] == 0, "{lint}");
    ensure!(lint["checked"]["points"].as_u64() >= Some(6), "{lint}");
    run(&rig, 0, &["lint"])?;
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let file = rig.agent.export_file().display().to_string();
    run(&rig, 0, &["lint", "--file", &file])?;

    let text = std::fs::read_to_string(&file)?;
    let broken = rig.directory("broken")?.join("push.json");
    std::fs::write(&broken, text.replace("\"unit\":\"s\"", "\"unit\":\"ms\""))?;
    let broken = broken.display().to_string();
    let (out, _) = run(&rig, 4, &["lint", "--file", &broken])?;
    ensure!(out.contains("instrument.unit"), "{out}");
    let (out, _) = run(&rig, 4, &["lint", "--file", &broken, "-o", "json"])?;
    let found: Value = serde_json::from_str(&out)?;
    ensure!(found["schema"] == "kerntally/v1" && found["violations"] != 0);
    run(&rig, 4, &["lint", "--require-exemplars"])?;
    Ok(())
}

#[test]
fn tail_shows_what_passes() {
    shows_what_passes().unwrap();
}

fn shows_what_passes() -> Result<()> {
    let (rig, _) = start("")?;
    let address = serve_tcp()?;
    let arguments = [
        "tail",
        "-n",
        "3",
        "--service",
        "shop",
        "--status",
        "5xx",
        "-o",
        "json",
    ];
    let mut tail = Command::new(agent::binary()?)
        .args(arguments)
        .arg("--socket")
        .arg(rig.agent.socket())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(tail.stdout.take().context("the output is piped")?).lines();
    // It shows what passes once it looks: traffic goes on until it has seen enough.
    while tail.try_wait()?.is_none() {
        ensure!(ask_tcp(&address, &get("/users/1?token=SECRET"))? == 200);
        ensure!(ask_tcp(&address, &get("/fail?token=SECRET"))? == 500);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    ensure!(tail.wait()?.success());
    let mut shown = 0;
    while let Some(line) = lines.next().transpose()? {
        ensure!(!line.contains("SECRET"), "{line}");
        let exchange: Value = serde_json::from_str(&line)?;
        ensure!(exchange["schema"] == "kerntally/v1", "{line}");
        ensure!(exchange["service"] == "shop", "{line}");
        shown += 1;
    }
    ensure!(shown == 3, "{shown} lines");
    Ok(())
}

#[test]
fn configurations_are_shown_and_reloaded() {
    are_shown_and_reloaded().unwrap();
}

fn are_shown_and_reloaded() -> Result<()> {
    let (rig, file) = start("")?;
    let address = send(&rig)?;
    let effective = document(&rig, &["config", "print", "--effective", "-c", &file])?;
    ensure!(effective["services"][0]["name"] == "shop", "{effective}");
    let valid = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{valid}cardinality: {{per_service: 777}}\n"))?;
    let (_, err) = run(&rig, 0, &["config", "reload"])?;
    ensure!(err.is_empty(), "{err}");
    document(&rig, &["config", "reload"])?;
    // A service takes it over with its next exchange.
    ensure!(ask_tcp(&address, &get("/users/1"))? == 200);
    rig.accounts_for(FINE + FAILED + MISSING + 1)?;
    let series = document(&rig, &["series"])?;
    ensure!(
        rows(&series, "services").all(|row| row["limit"] == 777 || row["live"] == 0),
        "{series}"
    );
    // A bad one leaves the old one in force.
    std::fs::write(&file, format!("{valid}sides: nowhere\n"))?;
    let (_, err) = run(&rig, 2, &["config", "reload"])?;
    ensure!(
        err.contains("config.yaml:") && err.contains("sides"),
        "{err}"
    );
    let series = document(&rig, &["series"])?;
    ensure!(series.to_string().contains("777"), "{series}");
    let (out, _) = run(
        &rig,
        0,
        &[
            "views",
            "suggest",
            "--from",
            "http_request_duration_ms",
            "--service",
            "shop",
        ],
    )?;
    ensure!(out.contains("service: shop"), "{out}");
    document(
        &rig,
        &["views", "suggest", "--from", "http_request_duration_ms"],
    )?;
    Ok(())
}

#[test]
fn a_switch_may_outlive_the_agent() {
    outlives_the_agent().unwrap();
}

fn outlives_the_agent() -> Result<()> {
    let (rig, _) = start("")?;
    let (_, err) = run(&rig, 2, &["probes", "disable", "http1", "--persist"])?;
    ensure!(err.contains("state.dir"), "{err}");
    let state = rig.directory("state")?;
    let (rig, file) = start(&format!("state: {{dir: {}}}\n", state.display()))?;
    run(&rig, 0, &["probes", "disable", "http1", "--persist"])?;
    let effective = document(&rig, &["config", "print", "--effective", "-c", &file])?;
    ensure!(effective["probes"]["http1"] == false, "{effective}");
    let plain = document(&rig, &["config", "print", "-c", &file])?;
    ensure!(
        plain["probes"]["http1"] == true,
        "the file says so: {plain}"
    );
    drop(rig);
    let (rig, _) = start(&format!("state: {{dir: {}}}\n", state.display()))?;
    let probes = document(&rig, &["probes", "list"])?;
    ensure!(probes["probes"][0]["state"] == "off", "{probes}");
    run(&rig, 0, &["probes", "enable", "--all", "--persist"])?;
    let effective = document(&rig, &["config", "print", "--effective", "-c", &file])?;
    ensure!(effective["probes"]["http1"] == true, "{effective}");
    Ok(())
}

#[test]
fn one_service_is_switched_off_and_on() {
    is_switched().unwrap();
}

fn is_switched() -> Result<()> {
    let (rig, _) = start("")?;
    let address = send(&rig)?;
    let sent = FINE + FAILED + MISSING;
    let own = std::process::id().to_string();
    for whom in [["--service", "shop"], ["--pid", &own]] {
        let disable = [&["probes", "disable", "http1"][..], &whom].concat();
        let probes = document(&rig, &disable)?;
        ensure!(probes["probes"][0]["state"] == "on", "{probes}");
        ensure!(probes["off_for"].to_string().contains(whom[1]), "{probes}");
        for _ in 0..20 {
            ensure!(ask_tcp(&address, &get("/users/1"))? == 200);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let ledger = rig.agent.ledger()?;
        ensure!(ledger.counted_of("server") == sent, "{ledger:?}");
        ensure!(ledger.imbalances().is_empty(), "{ledger:?}");
        let enable = [&["probes", "enable", "http1"][..], &whom].concat();
        let (text, _) = run(&rig, 0, &enable)?;
        ensure!(!text.contains("off for"), "{text}");
    }
    ensure!(ask_tcp(&address, &get("/users/1"))? == 200);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while rig.agent.ledger()?.counted_of("server") != sent + 1 {
        ensure!(
            std::time::Instant::now() < deadline,
            "{:?}",
            rig.agent.ledger()?
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    run(
        &rig,
        1,
        &[
            "probes",
            "disable",
            "http1",
            "--service",
            "none-of-that-name",
        ],
    )?;
    run(
        &rig,
        2,
        &[
            "probes",
            "disable",
            "http1",
            "--service",
            "shop",
            "--persist",
        ],
    )?;
    Ok(())
}

#[test]
fn check_says_what_each_map_takes() {
    says_what_each_map_takes().unwrap();
}

fn says_what_each_map_takes() -> Result<()> {
    let (rig, file) = start("hooks: {ring: 4MiB, head_slots: 1024}\n")?;
    let document = document(&rig, &["check", "-c", &file])?;
    let memory = &document["memory"];
    let bytes = |key: &str| {
        let row = rows(memory, "rows").find(|row| row["key"] == key);
        row.and_then(|row| row["bytes"].as_u64())
            .unwrap_or_default()
    };
    let mib = 1024 * 1024;
    ensure!(
        (4 * mib..5 * mib).contains(&bytes("hooks.ring")),
        "{memory}"
    );
    ensure!(
        (mib..2 * mib).contains(&bytes("hooks.head_slots")),
        "{memory}"
    );
    ensure!(memory["at_most_bytes"].as_u64() >= memory["bytes"].as_u64());
    let (text, _) = run(&rig, 0, &["check", "-c", &file])?;
    for key in ["ring", "head", "head_slots", "connections", "tally_keys"] {
        ensure!(text.contains(&format!("hooks.{key}")), "{text}");
    }
    Ok(())
}

#[test]
fn endings_are_as_promised() {
    end_as_promised().unwrap();
}

fn end_as_promised() -> Result<()> {
    let (rig, _) = start("")?;
    send(&rig)?;
    // Nobody reads: it ends quietly.
    for arguments in [
        &["series"][..],
        &["ledger", "-o", "json"],
        &["services", "--all"],
    ] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = Command::new(agent::binary()?)
            .args(arguments)
            .arg("--socket")
            .arg(rig.agent.socket())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()?;
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && err.is_empty(),
            "{arguments:?}: {err}"
        );
    }
    let (_, err) = run(&rig, 2, &["probes", "enable", "http2"])?;
    ensure!(err.contains("http2"), "{err}");
    run(&rig, 2, &["tail", "--slower", "soon"])?;

    let elsewhere = rig.directory("nowhere")?.join("control.sock");
    let commands: [&[&str]; 7] = [
        &["status"],
        &["series"],
        &["routes"],
        &["cost"],
        &["lint"],
        &["top", "--once"],
        &["tail", "-n", "1"],
    ];
    for arguments in commands {
        let output = Command::new(agent::binary()?)
            .args(arguments)
            .arg("--socket")
            .arg(&elsewhere)
            .output()?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{arguments:?}: {err}");
        let says = format!(
            "no agent at {}; start one with: sudo kerntally run",
            elsewhere.display()
        );
        ensure!(err.contains(&says), "{err}");
    }
    without_privileges(&rig)
}

/// As nobody, the kernel is not to be had: what is missing is named.
fn without_privileges(rig: &Rig) -> Result<()> {
    let directory = tempfile::tempdir_in("/tmp")?;
    let program = directory.path().join("kerntally");
    std::fs::copy(agent::binary()?, &program)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open)?;
    for arguments in [&["check"][..], &["run", "--export", "none"]] {
        let output = Command::new(&program)
            .args(arguments)
            .arg("--socket")
            .arg(rig.agent.socket())
            .uid(65_534)
            .output()?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(3), "{arguments:?}: {err}");
        ensure!(err.contains("missing CAP_BPF, CAP_PERFMON"), "{err}");
    }
    Ok(())
}
