//! `kerntally lint`: the emission contract held against a running agent, a file, or a configuration.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use kerntally_export::otlpjson::{Document, read};
use serde_json::{Value, json};

use super::socket;
use crate::audit;
use crate::cli::{Global, Lint as Arguments};
use crate::control::{Request, client};
use crate::failure::Failure;
use crate::lint::input::{Piece, pieces};
use crate::lint::{Checked, Declared, Findings, Lint, Options, Severity};
use crate::output::{Format, print, print_json};

/// What is held against the contract.
struct Subject {
    source: String,
    findings: Findings,
    checked: Checked,
    /// What could not be read, the first of it.
    unreadable: Option<String>,
}

/// Runs the command.
pub(crate) fn lint(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let named = global.config.as_deref().filter(|_| global.config_is_typed);
    let audited = named.map(audit::read).transpose()?;
    let mut options = Options {
        max_distinct: arguments.max_distinct,
        require_exemplars: arguments.require_exemplars,
        declared: Declared::default(),
    };
    if let Some(audited) = &audited {
        options.declared = audited.declared();
    }
    let mut subject = match (&arguments.file, &audited) {
        (Some(path), _) => of_file(path, options)?,
        (None, Some(_)) => Subject::empty(named.unwrap_or(Path::new("-"))),
        (None, None) => of_agent(global, options)?,
    };
    if let Some(audited) = &audited {
        for finding in audited.findings(&subject.checked) {
            subject.findings.add(finding);
        }
    }
    subject.show(global)?;
    subject.verdict()
}

fn of_file(path: &Path, options: Options) -> Result<Subject, Failure> {
    let shown = path.display().to_string();
    let unusable = |error: &io::Error| Failure::usage(format!("cannot read {shown}: {error}"));
    let mut lint = Lint::new(options);
    let (mut requests, mut others, mut unreadable) = (0_u64, 0_u64, None);
    let sink = |piece| match piece {
        Piece::Request {
            line,
            request,
            problems,
        } => {
            requests += 1;
            lint.hold(&request, &problems, Some(line));
        }
        Piece::OtherSignal => others += 1,
        Piece::Truncated { line } => lint.truncated(line),
        Piece::Unreadable { line, reason } => {
            unreadable.get_or_insert_with(|| format!("{shown}:{line}: {reason}"));
        }
    };
    let read = if shown == "-" {
        pieces(io::stdin().lock(), sink)
    } else {
        let file = File::open(path).map_err(|error| unusable(&error))?;
        pieces(BufReader::new(file), sink)
    };
    read.map_err(|error| unusable(&error))?;
    if requests == 0 && unreadable.is_none() {
        let held = if others > 0 {
            "requests of other signals only"
        } else {
            "nothing"
        };
        unreadable = Some(format!(
            "{shown}: holds {held}, expected ExportMetricsServiceRequests in JSON"
        ));
    }
    let (findings, checked) = lint.finish();
    Ok(Subject {
        source: shown,
        findings,
        checked,
        unreadable,
    })
}

fn of_agent(global: &Global, mut options: Options) -> Result<Subject, Failure> {
    let socket: PathBuf = socket(global)?;
    let answer = client::ask(&socket, &Request::Snapshot {})?;
    let declared = answer["declared"].clone();
    options.declared = serde_json::from_value(declared).map_err(anyhow::Error::from)?;
    let mut lint = Lint::new(options);
    for request in requests_of(&answer)? {
        lint.hold(&request.0, &request.1, None);
    }
    let (findings, checked) = lint.finish();
    Ok(Subject {
        source: socket.display().to_string(),
        findings,
        checked,
        unreadable: None,
    })
}

type Read = (
    kerntally_export::ExportMetricsServiceRequest,
    Vec<kerntally_export::otlpjson::FieldProblem>,
);

/// The requests that an agent says it would push now.
pub(super) fn requests_of(answer: &Value) -> Result<Vec<Read>, Failure> {
    let requests = answer["requests"].as_array().into_iter().flatten();
    requests
        .map(|request| match read(request) {
            Document::Metrics(request, problems) => Ok((request, problems)),
            _ => Err(Failure::failed(
                "the agent's answer holds no requests; is it of another version?",
            )),
        })
        .collect()
}

/// Red and yellow where a finding begins.
fn colored(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(|line| {
            let paint = |word: &str, color: u8| {
                let rest = line.strip_prefix(word)?;
                Some(format!("\x1b[{color}m{word}\x1b[0m{rest}"))
            };
            paint("error ", 31)
                .or_else(|| paint("warning ", 33))
                .unwrap_or_else(|| line.to_owned())
        })
        .collect();
    lines.join("\n")
}

impl Subject {
    fn empty(path: &Path) -> Self {
        Self {
            source: path.display().to_string(),
            findings: Findings::default(),
            checked: Checked::default(),
            unreadable: None,
        }
    }

    fn show(&self, global: &Global) -> Result<(), Failure> {
        match global.output {
            Format::Json => print_json(&self.to_json()),
            Format::Text => {
                let text = self.to_text();
                let in_color = global.color.on(&io::stdout());
                print(&if in_color { colored(&text) } else { text })
            }
        }
    }

    fn to_json(&self) -> Value {
        let checked = &self.checked;
        json!({
            "source": self.source,
            "checked": {
                "requests": checked.requests,
                "resources": checked.resources,
                "metrics": checked.metrics,
                "points": checked.points,
                "exemplars": checked.exemplars,
            },
            "violations": self.findings.count(Severity::Error),
            "warnings": self.findings.count(Severity::Warning),
            "findings": self.findings.to_json(),
            "unreadable": self.unreadable,
        })
    }

    fn to_text(&self) -> String {
        let checked = &self.checked;
        let mut lines = self.findings.to_text();
        lines.push(format!(
            "{}: {} requests, {} metrics, {} points, {} exemplars: {} violations, {} warnings",
            self.source,
            checked.requests,
            checked.metrics,
            checked.points,
            checked.exemplars,
            self.findings.count(Severity::Error),
            self.findings.count(Severity::Warning),
        ));
        lines.join("\n")
    }

    fn verdict(self) -> Result<(), Failure> {
        if let Some(unreadable) = self.unreadable {
            return Err(Failure::usage(unreadable));
        }
        match self.findings.count(Severity::Error) {
            0 => Ok(()),
            _ => Err(Failure::Violations),
        }
    }
}
