//! The command line as it is typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::tail::parse_status;
use crate::config::{Setting, Span, UnknownKeys};
use crate::cost::{Change, Price, Unit};
use crate::output::{Color, Format};

/// Kernel-side tallies of every HTTP exchange, for services nobody has to change.
#[derive(Debug, Parser)]
#[command(
    name = "kerntally",
    version,
    disable_version_flag = false,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads a command line, the program's name first.
    pub(crate) fn of_arguments<T: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.global.config_is_typed = is_typed(&matches, "config");
        Ok(cli)
    }
}

/// Whether an option stands on the command line, before or behind the command.
fn is_typed(matches: &clap::ArgMatches, option: &str) -> bool {
    matches.value_source(option) == Some(ValueSource::CommandLine)
        || matches
            .subcommand()
            .is_some_and(|(_, matches)| is_typed(matches, option))
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: /etc/kerntally/config.yaml if it exists]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "KERNTALLY_CONFIG"
    )]
    pub(crate) config: Option<PathBuf>,
    /// It was typed, not taken from the variable.
    #[arg(skip)]
    pub(crate) config_is_typed: bool,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Control socket of the agent [default: /run/kerntally/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Log more; twice for debugging
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Colours on standard output and standard error
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: Color,
    /// What to do about configuration keys that do not exist
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHAT",
        default_value_t,
        env = "KERNTALLY_UNKNOWN_KEYS"
    )]
    pub(crate) unknown_keys: UnknownKeys,
}

/// Name of the command that `check --live` runs beside itself.
pub(crate) const EXCHANGE: &str = "check-exchange";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent
    Run(Run),
    /// Show what this kernel and these privileges allow
    Check(Check),
    /// Show the running agent
    Status {
        /// Wait until it is ready, such as 30s
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        wait: Option<Span>,
    },
    /// List or switch the probes of the running agent
    Probes {
        #[command(subcommand)]
        command: ProbesCommand,
    },
    /// Show what passes now, by service and route
    Top(Top),
    /// Show one line an exchange, as they pass
    Tail(Tail),
    /// Show the services the running agent has discovered
    Services {
        /// Those that are left out too, with the reason
        #[arg(long)]
        all: bool,
    },
    /// Say why a process is watched or not, and under which name
    Explain(Explain),
    /// Show route templates with the traffic each absorbs
    #[command(args_conflicts_with_subcommands = true)]
    Routes {
        #[command(subcommand)]
        command: Option<RoutesCommand>,
    },
    /// Show the live series of each service against its limit
    Series,
    /// Account for every exchange the running agent has seen
    Ledger,
    /// Reckon up series, points per minute, bytes per push, and a price
    Cost(Cost),
    /// Hold the emission contract against the running agent, a file, or a configuration (--config)
    Lint(Lint),
    /// Write views for the configuration
    Views {
        #[command(subcommand)]
        command: ViewsCommand,
    },
    /// Check and show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
    /// Make one HTTP exchange on the loopback device
    #[command(name = EXCHANGE, hide = true)]
    Exchange,
}

/// Options of `run`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Run {
    /// Time between two pushes, such as 15s
    #[arg(long, value_name = "TIME")]
    pub(crate) interval: Option<String>,
    /// Where measurements go: otlp, console, file, prometheus, or none
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    pub(crate) export: Vec<Destination>,
    /// Also write what would be pushed, in the OTLP file format; - is standard output
    #[arg(long, value_name = "PATH")]
    pub(crate) export_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Options of `check`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Check {
    /// Say of one process whether it would be watched, under which name and why
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Make an HTTP exchange and look whether it is seen
    #[arg(long, conflicts_with = "pid")]
    pub(crate) live: bool,
}

/// Options of `top`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Top {
    /// Rows [default: as many as fit]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) rows: Option<usize>,
    /// Show what passed since the agent started, and end
    #[arg(long)]
    pub(crate) once: bool,
}

/// Options of `tail`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Tail {
    /// Of one service only
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// With one status, such as 503, or one class, such as 5xx
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    pub(crate) status: Option<String>,
    /// Only what took at least so long, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) slower: Option<Span>,
    /// End after so many lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<u64>,
    /// Show paths as they were sent, never with their query
    #[arg(long)]
    pub(crate) raw_path: bool,
}

/// Options of `explain`.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Explain {
    /// The process with this number
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// The processes that listen on this TCP port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The processes of this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
}

/// Commands about routes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// Print learnt templates as patterns for the configuration
    Suggest {
        /// Of one service only
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
    },
}

/// Commands about views.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ViewsCommand {
    /// Print the view that keeps dashboards of an earlier metric alive
    Suggest {
        /// Name of that metric, such as `http_request_duration_ms`
        #[arg(long, value_name = "LEGACY_METRIC")]
        from: String,
        /// For one service only
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
    },
}

/// Options of `cost`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Cost {
    /// Pushes in OTLP's JSON; - is standard input [default: what the running agent would push]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Nodes like this one
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) nodes: u32,
    /// What is paid for
    #[arg(long, value_enum, default_value_t)]
    pub(crate) unit: Unit,
    /// Price for a number of units, such as 8/1000
    #[arg(long, value_name = "AMOUNT/UNITS", value_parser = parse_price)]
    pub(crate) price: Option<Price>,
    /// Time between two pushes [default: the agent's, or as in the file]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) interval: Option<Span>,
    /// What would be: attr=KEY:VALUES adds an attribute, drop=KEY leaves one out, interval=TIME
    #[arg(long, value_name = "CHANGE", value_parser = Change::parse)]
    pub(crate) what_if: Vec<Change>,
}

/// Options of `lint`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Lint {
    /// Requests in OTLP's JSON, one a line or one document; - is standard input [default: the running agent]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Distinct values that one attribute may have within one service and instrument
    #[arg(long, value_name = "N", default_value_t = 150)]
    pub(crate) max_distinct: usize,
    /// Every duration of every service must have exemplars
    #[arg(long)]
    pub(crate) require_exemplars: bool,
}

/// Settings on top of the file.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// Set one key of the configuration, such as hooks.backend=fexit
    #[arg(long = "set", value_name = "KEY=YAML", value_parser = parse_setting)]
    pub(crate) set: Vec<Setting>,
}

/// Item of `--export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Destination {
    /// Push to `export.otlp`
    Otlp,
    /// A table, or what `export.console` says
    Console,
    /// The file `export.file` names
    File,
    /// To be pulled by Prometheus
    Prometheus,
    /// Nowhere
    None,
}

/// Commands about probes.
#[derive(Debug, Subcommand)]
pub(crate) enum ProbesCommand {
    /// Show each probe and its state
    List,
    /// Switch probes on
    Enable(ProbeSelection),
    /// Switch probes off
    Disable(ProbeSelection),
}

/// Which probes, and for whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProbeSelection {
    /// Names as `probes list` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) names: Vec<String>,
    /// All that this version has
    #[arg(long)]
    pub(crate) all: bool,
    /// For one service only
    #[arg(long, value_name = "SERVICE", conflicts_with = "pid")]
    pub(crate) service: Option<String>,
    /// For one process only
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Keep the switch over restarts
    #[arg(long)]
    pub(crate) persist: bool,
}

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration: the file over the defaults
    Print {
        /// With variables and options applied too
        #[arg(long)]
        effective: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Say whether a configuration can be used
    Validate {
        /// The file [default: as for `run`]
        file: Option<PathBuf>,
    },
    /// Have the running agent read its configuration again
    Reload,
    /// Print the JSON schema of the configuration
    Schema,
}

fn parse_span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "expected a time with a unit such as 30s".to_owned())
}

fn parse_price(text: &str) -> Result<Price, String> {
    Price::parse(text).ok_or_else(|| "expected a price such as 8/1000".to_owned())
}

fn parse_setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=YAML")?;
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err("expected a dotted key before =".to_owned());
    }
    let (key, value) = (key.to_owned(), value.to_owned());
    Ok(Setting {
        flag: format!("--set {key}"),
        key,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli = Cli::try_parse_from(["kerntally", "ledger", "-o", "json", "--socket", "/s"]);
        let global = cli.unwrap().global;
        assert_eq!(global.output, Format::Json);
        assert_eq!(global.socket, Some("/s".into()));
    }

    #[test]
    fn settings_need_a_key() {
        for bad in ["x", "=1", "a..b=1"] {
            assert!(
                Cli::try_parse_from(["kerntally", "run", "--set", bad]).is_err(),
                "{bad}"
            );
        }
    }
}
