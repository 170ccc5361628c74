//! `cargo xtask check-style`: the dependency rule, wording, and sizes, which no compiler checks.
//!
//! A broken rule is a failure; a size past its guide is a warning.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;
use crate::linker::cargo;
use crate::workspace::Workspace;

/// What each crate may depend on, of the workspace's own: arrows go to the left neighbour's output type and
/// to the shared plain types; only the binary sees everything.
const EDGES: &[(&str, &[&str])] = &[
    ("kerntally-abi", &[]),
    ("kerntally-machine", &["kerntally-abi"]),
    ("kerntally-model", &[]),
    ("kerntally-wire", &["kerntally-model"]),
    (
        "kerntally-pipeline",
        &["kerntally-abi", "kerntally-model", "kerntally-wire"],
    ),
    ("kerntally-probes", &["kerntally-abi", "kerntally-machine"]),
    ("kerntally-export", &["kerntally-model"]),
    (
        "kerntally",
        &[
            "kerntally-abi",
            "kerntally-export",
            "kerntally-model",
            "kerntally-pipeline",
            "kerntally-probes",
            "kerntally-wire",
        ],
    ),
    ("kerntally-e2e", &["kerntally-abi"]),
    ("kerntally-guest", &[]),
    ("kerntally-overhead", &["kerntally-e2e"]),
    ("xtask", &[]),
];

/// Foreign crates that only one of ours may know, by prefix.
const HOMES: &[(&str, &str)] = &[
    ("aya", "kerntally-probes"),
    ("opentelemetry", "kerntally-export"),
];

/// What the stages that are replayed from files must never know, by prefix.
const UNKNOWN_TO_STAGES: &[&str] = &["aya", "tokio", "opentelemetry", "tonic"];
const STAGES: &[&str] = &["kerntally-model", "kerntally-wire", "kerntally-pipeline"];

/// Marks of unfinished work.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];
/// Function names that say nothing.
const VERBS: &[&str] = &["get_", "handle_", "process_", "do_"];
/// Module names that say nothing.
const MODULES: &[&str] = &[
    "utils.rs",
    "util.rs",
    "helpers.rs",
    "common.rs",
    "manager.rs",
    "misc.rs",
];

/// Lines of a file, without its tests, that are still readable at one sitting.
const FILE_LINES: usize = 500;
/// Lines of a function that are still readable at one glance.
const FUNCTION_LINES: usize = 60;

/// Sources whose names are promised to users, with the document that explains each of them.
const DOCUMENTED: &[(&str, &str)] = &[
    ("ebpf/abi/src/counter.rs", "docs/ledger.md"),
    ("agent/pipeline/src/ledger.rs", "docs/ledger.md"),
];

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Broken rules.
    pub(crate) broken: Vec<String>,
    /// Sizes past their guide.
    pub(crate) large: Vec<String>,
}

/// Prints the findings; fails if a rule is broken.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let findings = check(workspace)?;
    for large in &findings.large {
        println!("warning: {large}");
    }
    for broken in &findings.broken {
        println!("error: {broken}");
    }
    println!(
        "style: {} broken, {} large",
        findings.broken.len(),
        findings.large.len()
    );
    Ok(if findings.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Looks at the whole checkout.
pub(crate) fn check(workspace: &Workspace) -> Result<Findings> {
    let mut metadata = Command::new(cargo());
    metadata
        .current_dir(workspace.root())
        .args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata =
        serde_json::from_str(&command::capture(&mut metadata)?).context("cargo metadata")?;
    let mut findings = Findings {
        broken: edges(&metadata),
        large: Vec::new(),
    };
    for (file, document) in DOCUMENTED {
        let read = |name: &str| {
            std::fs::read_to_string(workspace.path(name)).with_context(|| format!("reading {name}"))
        };
        findings
            .broken
            .extend(undocumented(file, &read(file)?, document, &read(document)?));
    }
    for file in sources(workspace)? {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let name = file
            .strip_prefix(workspace.root())
            .unwrap_or(&file)
            .display()
            .to_string();
        wording(&name, &text, &mut findings.broken);
        sizes(&name, &text, &mut findings.large);
    }
    Ok(findings)
}

fn edges(metadata: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
            broken.push(format!("`{name}` is not in the dependency allow-list"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let to = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency["path"].is_string();
            if ours && !allowed.contains(&to) {
                broken.push(format!("`{name}` must not depend on `{to}`"));
            }
            broken.extend(foreign(name, to));
        }
    }
    broken
}

fn foreign(name: &str, to: &str) -> Option<String> {
    let homeless = HOMES
        .iter()
        .find(|(prefix, home)| to.starts_with(prefix) && *home != name);
    if let Some((_, home)) = homeless {
        return Some(format!(
            "`{name}` must not depend on `{to}`, which only `{home}` may know"
        ));
    }
    let impure = STAGES.contains(&name)
        && UNKNOWN_TO_STAGES
            .iter()
            .any(|prefix| to.starts_with(prefix));
    impure.then(|| format!("`{name}` is a stage without I/O and must not depend on `{to}`"))
}

/// Names of the form `Name = 3, "name";` that the document does not have in backquotes.
fn undocumented(file: &str, source: &str, document: &str, text: &str) -> Vec<String> {
    let entries = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\";")?.split_once(", \""));
    let entries = entries.filter(|(left, _)| left.contains(" = "));
    let names =
        entries.map(|(_, name)| name.trim_end_matches("_server").trim_end_matches("_client"));
    let missing = names.filter(|name| !text.contains(&format!("`{name}`")));
    missing
        .map(|name| format!("{document} does not explain `{name}` of {file}"))
        .collect()
}

fn sources(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in ["ebpf", "agent", "xtask", "tests"] {
        collect(&workspace.path(directory), &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn wording(name: &str, text: &str, broken: &mut Vec<String>) {
    if MODULES
        .iter()
        .any(|module| name.ends_with(&format!("/{module}")))
    {
        broken.push(format!("{name}: a module is named for what it holds"));
    }
    let crate_root = ["/lib.rs", "/main.rs"]
        .iter()
        .any(|root| name.ends_with(root));
    if crate_root && !text.starts_with("//!") {
        broken.push(format!(
            "{name}: the first line says what the crate is for (`//!`)"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        for word in WORDS.iter().filter(|word| line.contains(**word)) {
            broken.push(format!(
                "{name}:{}: `{word}` marks unfinished work",
                number + 1
            ));
        }
        let function = function_name(line);
        if let Some(verb) = VERBS
            .iter()
            .find(|verb| function.is_some_and(|name| name.starts_with(**verb)))
        {
            broken.push(format!(
                "{name}:{}: `{verb}` says nothing about what the function does",
                number + 1
            ));
        }
    }
}

fn sizes(name: &str, text: &str, large: &mut Vec<String>) {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().count();
    if lines > FILE_LINES {
        large.push(format!(
            "{name}: {lines} lines without tests (guide: {FILE_LINES})"
        ));
    }
    let mut open: Option<(&str, usize, usize)> = None;
    for (number, line) in code.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if open.is_none()
            && let Some(function) = function_name(line)
        {
            open = Some((function, number, indent));
        }
        // The formatter puts the closing brace of an item under its first column.
        if let Some((function, first, column)) = open
            && indent == column
            && (line.trim_start().starts_with('}') || line.ends_with(';') || line.ends_with('}'))
        {
            if number - first > FUNCTION_LINES {
                large.push(format!(
                    "{name}:{}: `{function}` has {} lines (guide: {FUNCTION_LINES})",
                    first + 1,
                    number - first + 1
                ));
            }
            open = None;
        }
    }
}

fn function_name(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let (qualifiers, rest) = code.split_once("fn ")?;
    let known = |word: &str| {
        matches!(
            word,
            "pub" | "pub(crate)" | "pub(super)" | "const" | "async" | "unsafe" | "extern" | "\"C\""
        )
    };
    if !qualifiers.split_whitespace().all(known) {
        return None;
    }
    rest.split(|sign: char| !sign.is_alphanumeric() && sign != '_')
        .next()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependency: &Value) -> Value {
        serde_json::json!({"packages": [{"name": name, "dependencies": [dependency]}]})
    }

    #[test]
    fn an_arrow_to_the_right_is_broken() {
        let right = serde_json::json!({"name": "kerntally-export", "path": "/x", "kind": null});
        assert_eq!(edges(&package("kerntally-pipeline", &right)).len(), 1);
        let left = serde_json::json!({"name": "kerntally-wire", "path": "/x", "kind": null});
        assert!(edges(&package("kerntally-pipeline", &left)).is_empty());
    }

    #[test]
    fn foreign_crates_stay_in_their_home() {
        let aya = serde_json::json!({"name": "aya", "path": null, "kind": null});
        assert_eq!(edges(&package("kerntally", &aya)).len(), 1);
        assert!(edges(&package("kerntally-probes", &aya)).is_empty());
        assert!(foreign("kerntally-wire", "tokio").is_some());
    }

    #[test]
    fn unknown_crates_and_dev_dependencies() {
        let dev = serde_json::json!({"name": "kerntally-probes", "path": "/x", "kind": "dev"});
        assert!(edges(&package("kerntally-wire", &dev)).is_empty());
        assert_eq!(edges(&package("newcomer", &dev)).len(), 1);
    }

    #[test]
    fn empty_names_and_unfinished_work_are_found() {
        let mut broken = Vec::new();
        wording(
            "agent/x/src/a.rs",
            &format!("fn get_it() {{}}\n// {}: later\n", WORDS[0]),
            &mut broken,
        );
        wording("agent/x/src/utils.rs", "", &mut broken);
        wording("agent/x/src/lib.rs", "mod a;\n", &mut broken);
        assert_eq!(broken.len(), 4, "{broken:?}");
    }

    #[test]
    fn names_without_an_explanation_are_found() {
        let source = "    SeenServer = 0, \"seen_server\";\n    Lost = 1, \"lost\";\n    let x = (1, \"no\");\n";
        let missing = undocumented("a.rs", source, "a.md", "explains `seen` only");
        assert_eq!(missing, ["a.md does not explain `lost` of a.rs"]);
    }

    #[test]
    fn long_functions_are_measured_without_the_tests() {
        let body = "    step();\n".repeat(70);
        let text = format!(
            "fn long() {{\n{body}}}\nfn short() {{\n    step();\n}}\n#[cfg(test)]\nmod tests {{\n{body}}}\n"
        );
        let mut large = Vec::new();
        sizes("a.rs", &text, &mut large);
        assert_eq!(large.len(), 1, "{large:?}");
        assert!(large[0].contains("`long` has 72 lines"));
    }
}
