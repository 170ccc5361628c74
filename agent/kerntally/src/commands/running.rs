//! Commands that ask the running agent.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::socket;
use crate::cli::{Global, ProbeSelection, ProbesCommand};
use crate::config::Span;
use crate::control::{Request, client};
use crate::failure::Failure;
use crate::ledger;
use crate::output::{Format, print, print_json};
use crate::probes;

/// Pause between two looks at an agent that is not ready.
const RETRY: Duration = Duration::from_millis(100);

/// `kerntally status`: 0 once the agent is ready to tally.
pub(crate) fn status(global: &Global, wait: Option<Span>) -> Result<(), Failure> {
    let socket = socket(global)?;
    let deadline = Instant::now() + wait.map_or(Duration::ZERO, |span| span.0);
    let document = loop {
        let answer = client::ask(&socket, &Request::Status {});
        match answer {
            Ok(document) if is_ready(&document) || Instant::now() >= deadline => break document,
            Err(error @ Failure::Failed(_)) if Instant::now() >= deadline => return Err(error),
            Ok(_) | Err(Failure::Failed(_)) => std::thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    };
    show(global, &document, render_status)?;
    if is_ready(&document) {
        return Ok(());
    }
    Err(Failure::failed("the agent is not ready to tally"))
}

/// `kerntally ledger`
pub(crate) fn ledger(global: &Global) -> Result<(), Failure> {
    ask_and_show(global, &Request::Ledger {}, ledger::render)
}

/// `kerntally services`
pub(crate) fn services(global: &Global, all: bool) -> Result<(), Failure> {
    let socket = socket(global)?;
    let mut document = client::ask(&socket, &Request::Services {})?;
    if let (false, Value::Object(members)) = (all, &mut document) {
        members.remove("excluded");
    }
    show(global, &document, render_services)
}

/// `kerntally probes`
pub(crate) fn probes(global: &Global, command: &ProbesCommand) -> Result<(), Failure> {
    let request = match command {
        ProbesCommand::List => Request::Probes {},
        ProbesCommand::Enable(selection) => switch(selection, true)?,
        ProbesCommand::Disable(selection) => switch(selection, false)?,
    };
    ask_and_show(global, &request, render_probes)
}

fn switch(selection: &ProbeSelection, on: bool) -> Result<Request, Failure> {
    if selection.persist && (selection.service.is_some() || selection.pid.is_some()) {
        return Err(Failure::usage(
            "--persist keeps switches for everyone; discovery.exclude in the configuration leaves out one service or process",
        ));
    }
    // Checked here too, so that a wrong name is a usage error also without an agent.
    probes::selection(&selection.names, on).map_err(Failure::usage)?;
    Ok(Request::SwitchProbes {
        names: selection.names.clone(),
        on,
        persist: selection.persist,
        service: selection.service.clone(),
        pid: selection.pid,
    })
}

pub(super) fn ask_and_show(
    global: &Global,
    request: &Request,
    render: fn(&Value) -> String,
) -> Result<(), Failure> {
    let socket: &Path = &socket(global)?;
    let document = client::ask(socket, request)?;
    show(global, &document, render)
}

pub(super) fn show(
    global: &Global,
    document: &Value,
    render: fn(&Value) -> String,
) -> Result<(), Failure> {
    match global.output {
        Format::Json => print_json(document),
        Format::Text => print(&render(document)),
    }
}

fn is_ready(document: &Value) -> bool {
    document["ready"].as_bool().unwrap_or(false)
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn render_status(document: &Value) -> String {
    let mut lines = vec![
        format!(
            "kerntally   {} (pid {})",
            text(&document["version"]),
            text(&document["pid"])
        ),
        format!("uptime      {} s", text(&document["uptime_seconds"])),
        format!(
            "ready       {}",
            if is_ready(document) { "yes" } else { "no" }
        ),
        format!("back end    {}", text(&document["backend"]["name"])),
    ];
    for blind in list(&document["backend"]["blind_spots"]) {
        lines.push(format!("            cannot see: {blind}"));
    }
    for refused in document["backend"]["refused"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let (name, reason) = (text(&refused["name"]), text(&refused["reason"]));
        lines.push(format!(
            "            {name} refused: {}",
            first_line(&reason)
        ));
    }
    let states: Vec<_> = document["probes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|probe| format!("{} {}", text(&probe["name"]), text(&probe["state"])))
        .collect();
    lines.push(format!("probes      {}", states.join(", ")));
    lines.push(format!("services    {}", text(&document["services"])));
    lines.push(format!("series      {}", text(&document["series"])));
    lines.extend(render_export(&document["export"]));
    let mib = |value: &Value| value.as_u64().map_or(0, |bytes| bytes / (1024 * 1024));
    let memory = &document["memory"];
    lines.push(format!(
        "memory      {} MiB resident, {} MiB of kernel maps",
        mib(&memory["resident_bytes"]),
        mib(&memory["map_bytes"])
    ));
    lines.push(format!(
        "cpu         {} s",
        text(&document["cpu"]["seconds"])
    ));
    let degraded = list(&document["degraded"]);
    if !degraded.is_empty() {
        lines.push(format!("degraded    {}", degraded.join(", ")));
    }
    lines.join("\n")
}

fn render_export(export: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let otlp = &export["otlp"];
    if otlp.is_object() {
        let state = if otlp["failing"] == true {
            "failing"
        } else {
            "working"
        };
        lines.push(format!(
            "push        {} every {}, {state}: {} pushes, {} failed",
            text(&otlp["endpoint"]),
            text(&export["interval"]),
            text(&otlp["pushes_ok"]),
            text(&otlp["pushes_failed"])
        ));
        if otlp["failing"] == true {
            lines.push(format!("            {}", text(&otlp["last_error"])));
        }
    }
    let file = &export["file"];
    if file.is_object() {
        lines.push(format!(
            "file        {}, {} lines",
            text(&file["path"]),
            text(&file["lines"])
        ));
    }
    lines
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn render_probes(document: &Value) -> String {
    let rows = document["probes"].as_array().into_iter().flatten();
    let mut lines: Vec<_> = rows
        .map(|probe| {
            let (name, state) = (text(&probe["name"]), text(&probe["state"]));
            format!("{name:<12} {state:<10} {}", text(&probe["purpose"]))
        })
        .collect();
    let off = &document["off_for"];
    let services = list(&off["services"]).into_iter();
    let pids = list(&off["pids"]).into_iter();
    lines.extend(services.map(|service| format!("off for service {service}")));
    lines.extend(pids.map(|pid| format!("off for process {pid}")));
    lines.join("\n")
}

fn render_services(document: &Value) -> String {
    let mut lines = vec![format!(
        "{:<32} {:<14} {:>10} {:>10}  PIDS",
        "SERVICE", "NAMED BY", "SERVER", "CLIENT"
    )];
    for service in document["services"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{:<32} {:<14} {:>10} {:>10}  {}",
            text(&service["name"]),
            text(&service["named_by"]),
            text(&service["server_exchanges"]),
            text(&service["client_exchanges"]),
            list(&service["pids"]).join(" ")
        ));
    }
    for row in document["excluded"].as_array().into_iter().flatten() {
        lines.push(format!(
            "pid {} as {} left out: {}",
            text(&row["pid"]),
            text(&row["role"]),
            text(&row["reason"])
        ));
    }
    lines.join("\n")
}
