//! Puts the layers of the configuration together and reads the result into its types.

use std::fmt;
use std::path::{Path, PathBuf};

use kerntally_export::endpoint::OtlpSettings;
use serde::Deserialize;
use serde_json::Value;

use super::node::{Node, Origin, Step, SyntaxError, dotted};
use super::schema::Config;
use super::stages::StageError;
use super::{attributes, check, stages, standard, variables};
use crate::state;

/// Where the file is looked for when none is named.
pub(crate) const DEFAULT_PATH: &str = "/etc/kerntally/config.yaml";

/// What becomes of keys that do not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UnknownKeys {
    /// Refuse the configuration.
    #[default]
    Error,
    /// Say so and go on, as after a roll-back to an older version.
    Warn,
}

/// One setting of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Dotted path.
    pub(crate) key: String,
    /// The value, in YAML.
    pub(crate) value: String,
    /// The option as typed, for messages.
    pub(crate) flag: String,
}

/// Everything a configuration is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The file named by the user; without one the default path is taken if it exists.
    pub(crate) file: Option<PathBuf>,
    pub(crate) unknown_keys: UnknownKeys,
    /// Environment variables.
    pub(crate) variables: Vec<(String, String)>,
    /// `--set` and its shorthands, in order.
    pub(crate) settings: Vec<Setting>,
    /// Switches that were kept in `state.dir` lie over the file.
    pub(crate) with_switches: bool,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The file it was read from, if there was one.
    pub(crate) file: Option<PathBuf>,
    /// What the user should know though nothing is wrong enough to stop.
    pub(crate) warnings: Vec<String>,
    /// `OTEL_SERVICE_NAME`: names the agent itself.
    pub(crate) own_service_name: Option<String>,
    /// What stages 4 to 6 are told.
    pub(crate) pipeline: kerntally_pipeline::Config,
    /// What the push is told; `None` without a push.
    pub(crate) otlp: Option<OtlpSettings>,
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// File and line, variable, or option.
    pub(crate) place: String,
    /// Dotted key, empty if the whole file is meant.
    pub(crate) key: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.place, self.message);
        }
        write!(f, "{}: {}: {}", self.place, self.key, self.message)
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error("{}", lines(problems))]
    Invalid { problems: Vec<Problem> },
    /// Every key is right by itself; some would give wrong data together.
    #[error("{}", lines(problems))]
    Clash {
        problems: Vec<Problem>,
        config: Box<Config>,
    },
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Reads, merges and checks.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let (mut tree, file) = read_file(sources.file.as_deref())?;
    let shown = file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    let mut layers = Layers {
        warnings: Vec::new(),
        problems: Vec::new(),
    };

    let standard = standard::apply(&mut tree, &sources.variables, &mut layers.warnings);
    layers.apply_variables(&mut tree, &sources.variables);
    layers.apply_settings(&mut tree, &sources.settings);
    let mut config = layers.read(&tree, &shown, sources.unknown_keys);
    if let Some(config) = config.as_mut().filter(|_| sources.with_switches) {
        layers.apply_switches(&mut tree, config);
    }

    let Layers {
        mut warnings,
        mut problems,
    } = layers;
    if let Some(config) = config {
        let findings = check::findings(&config);
        problems.extend(
            findings
                .errors
                .into_iter()
                .map(|f| f.into_problem(&tree, &shown)),
        );
        warnings.extend(
            findings
                .warnings
                .into_iter()
                .map(|f| f.into_problem(&tree, &shown).to_string()),
        );
        let clashes: Vec<_> = findings
            .clashes
            .into_iter()
            .map(|f| f.into_problem(&tree, &shown))
            .collect();
        if problems.is_empty() && !clashes.is_empty() {
            return Err(ConfigError::Clash {
                problems: clashes,
                config: Box::new(config),
            });
        }
        problems.extend(clashes);
        if problems.is_empty() {
            let in_force = Loaded {
                pipeline: stages::pipeline(&config).map_err(|e| e.into_error(&tree, &shown))?,
                otlp: stages::otlp(config.export.otlp.as_ref(), standard.endpoint_verbatim)
                    .map_err(|e| e.into_error(&tree, &shown))?,
                config,
                file,
                warnings,
                own_service_name: standard.own_service_name,
            };
            return Ok(in_force);
        }
    }
    Err(ConfigError::Invalid { problems })
}

/// The file's tree, empty when there is no file, and the path it was read from.
fn read_file(named: Option<&Path>) -> Result<(Node, Option<PathBuf>), ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_PATH));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Node::empty(), None));
        }
        Err(reason) => {
            return Err(ConfigError::Unreadable {
                path: path.to_owned(),
                reason,
            });
        }
    };
    let tree = Node::parse(&text).map_err(|error| ConfigError::Invalid {
        problems: vec![Problem {
            place: format!("{}:{}", path.display(), error.line.unwrap_or(1)),
            key: String::new(),
            message: error.message,
        }],
    })?;
    Ok((tree, Some(path.to_owned())))
}

impl StageError {
    fn into_error(self, tree: &Node, file: &Path) -> ConfigError {
        let problem = Problem {
            place: tree.locate(&self.path).place(file),
            key: dotted(&self.path),
            message: self.message,
        };
        ConfigError::Invalid {
            problems: vec![problem],
        }
    }
}

struct Layers {
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Layers {
    fn apply_variables(&mut self, tree: &mut Node, variables: &[(String, String)]) {
        for (name, text) in variables {
            let Some(known) = variables::key_of(name) else {
                if variables::is_stray(name) {
                    self.warnings
                        .push(format!("{name}: no such key, the variable is ignored"));
                }
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let origin = Origin::Variable(name.clone());
            let path: Vec<&str> = known.path.iter().map(String::as_str).collect();
            match known.parse(text, &origin) {
                Ok(node) => tree.set(&path, node),
                Err(error) => self.refuse(name, &known.path.join("."), &error),
            }
        }
    }

    fn apply_settings(&mut self, tree: &mut Node, settings: &[Setting]) {
        for setting in settings {
            let origin = Origin::Flag(setting.flag.clone());
            let path: Vec<&str> = setting.key.split('.').collect();
            match Node::parse_value(&setting.value, &origin) {
                Ok(node) => tree.set(&path, node),
                Err(error) => self.refuse(&setting.flag, &setting.key, &error),
            }
        }
    }

    /// Over the file, and under what variables and options say.
    fn apply_switches(&mut self, tree: &mut Node, config: &mut Config) {
        let Some(dir) = &config.state.dir else {
            return;
        };
        let file = state::switches_file(dir).display().to_string();
        let switches = match state::read_switches(dir) {
            Ok(switches) => switches,
            Err(error) => {
                let warning = format!("{file}: {error}; its switches are not in force");
                self.warnings.push(warning);
                return;
            }
        };
        for (name, on) in switches {
            let written = tree.at(&["probes", &name]).map(Node::origin);
            let is_over = matches!(written, Some(Origin::Variable(_) | Origin::Flag(_)));
            if is_over || !config.probes.switch(&name, on) {
                continue;
            }
            let origin = Origin::Variable(file.clone());
            if let Ok(node) = Node::parse_value(if on { "true" } else { "false" }, &origin) {
                tree.set(&["probes", &name], node);
            }
        }
    }

    fn refuse(&mut self, place: &str, key: &str, error: &SyntaxError) {
        self.problems.push(Problem {
            place: place.to_owned(),
            key: key.to_owned(),
            message: error.message.clone(),
        });
    }

    /// Reads the merged tree into its types, noting unknown keys and the first bad value.
    fn read(&mut self, tree: &Node, file: &Path, unknown: UnknownKeys) -> Option<Config> {
        let value = tree.to_json();
        let mut strangers = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
        let result: Result<Config, serde_json::Error> = if value.is_object() {
            let mut note = |path: serde_ignored::Path<'_>| strangers.push(steps_of_ignored(&path));
            Config::deserialize(serde_ignored::Deserializer::new(tracked, &mut note))
        } else {
            Err(serde::de::Error::custom("expected a map of keys"))
        };
        for path in strangers {
            self.note_unknown(&path, tree, file, unknown);
        }
        match result {
            Ok(mut config) => {
                config.complete_attributes();
                Some(config)
            }
            Err(error) => {
                let path = steps_of_error(&track.path());
                self.problems.push(Problem {
                    place: tree.locate(&path).place(file),
                    key: dotted(&path),
                    message: error.to_string(),
                });
                None
            }
        }
    }

    fn note_unknown(&mut self, path: &[Step], tree: &Node, file: &Path, unknown: UnknownKeys) {
        let problem = Problem {
            place: tree.locate(path).place(file),
            key: dotted(path),
            message: "unknown key".to_owned(),
        };
        match unknown {
            UnknownKeys::Error => self.problems.push(problem),
            UnknownKeys::Warn => self.warnings.push(format!("{problem}, ignored")),
        }
    }
}

impl Config {
    /// Instruments that the configuration does not name keep their default allow-list.
    fn complete_attributes(&mut self) {
        for (instrument, names) in attributes::defaults() {
            self.attributes.entry(instrument).or_insert(names);
        }
    }

    /// The configuration as a plain value, credentials blanked.
    pub(crate) fn to_public_json(&self) -> Result<Value, serde_json::Error> {
        let mut public = self.clone();
        if let Some(otlp) = &mut public.export.otlp {
            for value in otlp.headers.values_mut() {
                "***".clone_into(value);
            }
        }
        serde_json::to_value(public)
    }
}

fn steps_of_ignored(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path as P;
    match path {
        P::Root => Vec::new(),
        P::Seq { parent, index } => extended(steps_of_ignored(parent), Step::Index(*index)),
        P::Map { parent, key } => extended(steps_of_ignored(parent), Step::Key(key.clone())),
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => {
            steps_of_ignored(parent)
        }
    }
}

fn extended(mut steps: Vec<Step>, last: Step) -> Vec<Step> {
    steps.push(last);
    steps
}

fn steps_of_error(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}
