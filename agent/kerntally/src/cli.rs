//! The command line as it is typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::{Setting, Span, UnknownKeys};
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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent
    Run(Run),
    /// Show what this kernel and these privileges allow
    Check,
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
    /// Show the services the running agent has discovered
    Services,
    /// Account for every exchange the running agent has seen
    Ledger,
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
    #[arg(long, value_name = "SERVICE")]
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
    /// Print the JSON schema of the configuration
    Schema,
}

fn parse_span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "expected a time with a unit such as 30s".to_owned())
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
