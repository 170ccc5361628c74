//! The agent and its command line: configuration, wiring of the stages, control socket, own health.
#![forbid(unsafe_code)]

mod audit;
mod cli;
mod clock;
mod commands;
mod config;
mod control;
mod cost;
mod crash;
mod failure;
mod health;
mod inspection;
mod ledger;
mod lint;
mod lock;
mod logging;
mod output;
mod pods;
mod preflight;
mod probes;
mod procsource;
mod run;
mod shared;
mod state;
mod watch;

use std::process::ExitCode;

use clap::CommandFactory;

use cli::{Cli, Command};
use failure::Failure;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::of_arguments(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::ClosedPipe | Failure::Violations) {
                output::note(&format!("kerntally: {failure}"));
            }
            failure.code()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Run(arguments) => run::run(global, arguments),
        Command::Check(arguments) => commands::check::check(global, arguments),
        Command::Exchange => commands::live::exchange(),
        Command::Status { wait } => commands::running::status(global, *wait),
        Command::Probes { command } => commands::running::probes(global, command),
        Command::Top(arguments) => commands::top::top(global, arguments),
        Command::Tail(arguments) => commands::tail::tail(global, arguments),
        Command::Services { all } => commands::running::services(global, *all),
        Command::Explain(arguments) => commands::listings::explain(global, arguments),
        Command::Routes { command } => commands::listings::routes(global, command.as_ref()),
        Command::Series => commands::listings::series(global),
        Command::Cost(arguments) => commands::cost::cost(global, arguments),
        Command::Views { command } => commands::views::run(global, command),
        Command::Ledger => commands::running::ledger(global),
        Command::Lint(arguments) => commands::lint::lint(global, arguments),
        Command::Config { command } => commands::configuration::run(global, command),
        Command::Completions { shell } => completions(*shell),
        Command::Version => version(global),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kerntally", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

fn version(global: &cli::Global) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match global.output {
        output::Format::Text => output::print(&format!("kerntally {version}")),
        output::Format::Json => output::print_json(&serde_json::json!({ "version": version })),
    }
}

/// Help goes to standard output and is a success; the rest is bad usage.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody can be told that the message could not be written.
    drop(error.print());
    if error.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}
