//! `kerntally check`: what this kernel and these privileges allow, found out by really trying.

use kerntally_pipeline::attribute::{Candidate, ProcessSource, Rules};
use kerntally_probes::{BackendReport, survey};
use serde_json::{Value, json};

use super::{live, memory};
use crate::cli::{Check as Arguments, Global};
use crate::config::{self, Loaded};
use crate::failure::Failure;
use crate::inspection::{self, Inspection};
use crate::output::{Format, print, print_json};
use crate::preflight::{self, Privileges};
use crate::probes::PROBES;
use crate::procsource::ProcFiles;

/// What a duration does not hold, on every back end.
const LATENCY_NOTE: &str = "server latency begins when the process reads the request: waiting in the socket before is not in it";

/// Tries every back end and says what came of it.
pub(crate) fn check(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let loaded = config::load(&config::sources(global, &[]))?;
    if let Some(pid) = arguments.pid {
        return of_process(global, &loaded, pid);
    }
    let privileges = Privileges::of_this_process()?;
    let missing = privileges.missing();
    if !missing.is_empty() {
        return Err(Failure::refused(preflight::advice(&missing)));
    }
    let reports = survey(&config::probe_options(&loaded.config.hooks))?;
    let unreadable: Vec<_> = privileges
        .desirable()
        .iter()
        .map(|capability| format!("missing {}: cannot {}", capability.name, capability.purpose))
        .collect();
    let mut document = document(&reports, &unreadable);
    if let Some(maps) = reports
        .iter()
        .find_map(|report| report.result.as_ref().ok())
    {
        document["memory"] = memory::to_json(maps, &loaded.config.hooks);
    }
    let is_usable = reports.iter().any(|report| report.result.is_ok());
    if arguments.live && is_usable {
        let options = config::probe_options(&loaded.config.hooks);
        document["live"] = live::look(&loaded.config.control.socket, &options)?;
    }
    match global.output {
        Format::Json => print_json(&document)?,
        Format::Text => print(&render(&document))?,
    }
    if document["live"]["works"] == false {
        return Err(Failure::refused(
            "hooks are attached, and an exchange made on purpose was not seen",
        ));
    }
    if !is_usable {
        return Err(Failure::refused(format!(
            "no usable hook back end: {}",
            answers(&reports)
        )));
    }
    Ok(())
}

/// What would become of a process, by the configuration alone: no agent is asked, and none is needed.
fn of_process(global: &Global, loaded: &Loaded, pid: u32) -> Result<(), Failure> {
    let root = &loaded.config.host.proc;
    let inspection = Inspection::of(root, pid).map_err(anyhow::Error::from)?;
    let facts = ProcFiles::new(root)
        .facts(inspection.process)
        .unwrap_or_default();
    let rules = Rules::new(&loaded.pipeline);
    let verdict = |port, role| {
        let candidate = Candidate {
            facts: &facts,
            pid,
            port,
        };
        rules.verdict(&candidate, role)
    };
    let verdicts = inspection::verdicts(&inspection.listed_ports(), verdict);
    let document = json!({ "process": inspection.to_json(&verdicts) });
    match global.output {
        Format::Json => print_json(&document),
        Format::Text => print(&inspection::render(&document["process"])),
    }
}

fn answers(reports: &[BackendReport]) -> String {
    let answers: Vec<_> = reports
        .iter()
        .filter_map(|report| {
            let reason = report.result.as_ref().err()?;
            let reason = reason.lines().next().unwrap_or_default();
            Some(format!("{}: {reason}", report.backend.name()))
        })
        .collect();
    answers.join("; ")
}

fn document(reports: &[BackendReport], limits: &[String]) -> Value {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let chosen = reports.iter().find(|report| report.result.is_ok());
    let backends: Vec<_> = reports
        .iter()
        .map(|report| {
            json!({
                "name": report.backend.name(),
                "usable": report.result.is_ok(),
                "reason": report.result.as_ref().err(),
                "blind_spots": report.backend.blind_spots(),
            })
        })
        .collect();
    let probes: Vec<_> = PROBES
        .iter()
        .map(|probe| {
            json!({
                "name": probe.name,
                "usable": probe.is_built && chosen.is_some(),
                "reason": if probe.is_built { Value::Null } else { "not built".into() },
                "purpose": probe.purpose,
            })
        })
        .collect();
    json!({
        "kernel": release,
        "backend": chosen.map(|report| report.backend.name()),
        "backends": backends,
        "probes": probes,
        "limits": limits,
        "notes": [LATENCY_NOTE],
    })
}

fn render(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("kernel {}", text(&document["kernel"]))];
    for backend in document["backends"].as_array().into_iter().flatten() {
        let name = text(&backend["name"]);
        if backend["usable"] == true {
            let chosen = if backend["name"] == document["backend"] {
                ", would be used"
            } else {
                ""
            };
            lines.push(format!("back end {name}: usable{chosen}"));
        } else {
            lines.push(format!(
                "back end {name}: not usable: {}",
                text(&backend["reason"]).trim_end()
            ));
        }
        for blind in backend["blind_spots"].as_array().into_iter().flatten() {
            lines.push(format!("  cannot see: {}", text(blind)));
        }
    }
    for probe in document["probes"].as_array().into_iter().flatten() {
        let state = if probe["usable"] == true {
            "usable".into()
        } else {
            text(&probe["reason"])
        };
        lines.push(format!(
            "probe {:<12} {state:<10} {}",
            text(&probe["name"]),
            text(&probe["purpose"])
        ));
    }
    if document["live"].is_object() {
        lines.push(live::render(&document["live"]));
    }
    lines.extend(memory::render(&document["memory"]));
    for key in ["limits", "notes"] {
        lines.extend(document[key].as_array().into_iter().flatten().map(text));
    }
    lines.join("\n")
}
